// Package seal encrypts snapshots of volumes to the public keys that somebody
// keeps the other half of, in the age format (https://age-encryption.org/v1).
package seal

import (
	"bufio"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"

	"github.com/promote-dev/promote/pkg/release"
)

// mostText bounds a file of keys.
const mostText = 64 << 10

const wantRecipient = "age-keygen -o backup.key && age-keygen -y backup.key > keys/backup.pub; or an ssh-ed25519 or ssh-rsa public key"

// Sealer encrypts to recipients, and to one key of its own that is in this
// process's memory only: what it sealed it can open again as long as it lives,
// to bring back what was there before a failed promotion.
type Sealer struct {
	recipients []age.Recipient
	own        age.Identity
}

// New reads recipients, one a line: age's (age1…) or ssh public keys. Lines that
// begin with # are comments.
func New(recipients string) (*Sealer, error) {
	s := &Sealer{}
	hybrid := false
	lines := bufio.NewScanner(strings.NewReader(recipients))
	lines.Buffer(nil, mostText)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r, err := recipient(line)
		if err != nil {
			return nil, release.Faultf(release.KindConfig, wantRecipient, "reading the public key that snapshots are encrypted to: %w", err)
		}
		hybrid = hybrid || strings.HasPrefix(line, "age1pq1")
		s.recipients = append(s.recipients, r)
	}
	if err := lines.Err(); err != nil || len(s.recipients) == 0 {
		return nil, release.Faultf(release.KindConfig, wantRecipient, "the file that snapshots are encrypted to holds no public key")
	}
	return s, s.addOwn(hybrid)
}

// addOwn makes the key of this process, of the recipients' kind: post-quantum
// ones don't mix with others.
func (s *Sealer) addOwn(hybrid bool) error {
	if hybrid {
		own, err := age.GenerateHybridIdentity()
		if err != nil {
			return err
		}
		s.own, s.recipients = own, append(s.recipients, own.Recipient())
		return nil
	}
	own, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	s.own, s.recipients = own, append(s.recipients, own.Recipient())
	return nil
}

func recipient(line string) (age.Recipient, error) {
	switch {
	case strings.HasPrefix(line, "AGE-SECRET-KEY-") || strings.Contains(line, "PRIVATE KEY"):
		return nil, release.Faultf(release.KindConfig, "keep it where nobody finds it, and write the public key: age-keygen -y", "this is a private key")
	case strings.HasPrefix(line, "ssh-"):
		return agessh.ParseRecipient(line)
	}
	list, err := age.ParseRecipients(strings.NewReader(line))
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// Seal encrypts what is written to it; Close finishes it, and does not close w.
func (s *Sealer) Seal(w io.Writer) (io.WriteCloser, error) { return age.Encrypt(w, s.recipients...) }

// Open decrypts what Seal of this process wrote, or what the given private keys
// open. The stream is authenticated as it is read, its end too.
func (s *Sealer) Open(r io.Reader, identity string) (io.Reader, error) {
	var identities []age.Identity
	if s != nil {
		identities = append(identities, s.own)
	}
	if identity != "" {
		more, err := parseIdentity(identity)
		if err != nil {
			return nil, err
		}
		identities = append(identities, more...)
	}
	if len(identities) == 0 {
		return nil, release.Misuse("give the private key of environments.ENV.snapshots.encryptTo: --identity FILE, or env://VARIABLE", "no private key to open a snapshot with")
	}
	plain, err := age.Decrypt(r, identities...)
	if err != nil {
		return nil, release.Faultf(release.KindUsage, "give the private key of environments.ENV.snapshots.encryptTo: --identity FILE, or env://VARIABLE", "opening a snapshot: %w", err)
	}
	return plain, nil
}

func parseIdentity(text string) ([]age.Identity, error) {
	const hint = "give a file as age-keygen writes it, or an ssh private key without a passphrase"
	if len(text) > mostText {
		return nil, release.Misuse(hint, "the private key takes more than %d bytes", mostText)
	}
	if strings.Contains(text, "PRIVATE KEY-----") {
		one, err := agessh.ParseIdentity([]byte(text))
		if err != nil { // what it says may hold parts of the key
			return nil, release.Misuse(hint, "the private key cannot be read as an ssh key, or needs a passphrase")
		}
		return []age.Identity{one}, nil
	}
	list, err := age.ParseIdentities(strings.NewReader(text))
	if err != nil {
		return nil, release.Misuse(hint, "the private key cannot be read as one of age")
	}
	return list, nil
}
