package sign

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	sigstore "github.com/sigstore/sigstore-go/pkg/sign"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

// Keyless names the services that stand in for a key, by their URLs.
type Keyless struct {
	// Fulcio certifies identities.
	Fulcio string
	// Rekor is the transparency log; "" writes to none.
	Rekor string
	// RekorVersion is 1 or 2. Logs of version 2 give no time, so they need
	// Timestamp.
	RekorVersion int
	// Timestamp is the full URL of a timestamp authority; "" asks none.
	Timestamp string
	// Root verifies each signature before anybody sees it.
	Root *Root
	// Token gives an identity token whenever a certificate is needed.
	Token func(context.Context) (Token, error)
	// Transport is for tests; nil is http.DefaultTransport.
	Transport http.RoundTripper
}

// margin is how long before its end a certificate is not used any more: the
// log's and the authority's time must still lie inside.
const margin = time.Minute

// Identity signs in the name of an identity token, with keys that live as long
// as their certificates: about ten minutes. It may be used from several
// goroutines.
type Identity struct {
	services Keyless

	mu     sync.Mutex
	key    *Key
	leaf   *x509.Certificate
	proof  Proof
	closed bool
}

// OpenIdentity gets a token and a certificate, so that whoever may not sign
// learns it before work is done. What is missing or contradictory in k is a
// KindConfig fault, a service that refuses KindDenied, one that does not answer
// KindUnavailable.
func OpenIdentity(ctx context.Context, k Keyless) (*Identity, error) {
	if err := k.check(); err != nil {
		return nil, err
	}
	i := &Identity{services: k}
	if _, _, err := i.certified(ctx); err != nil {
		return nil, fmt.Errorf("opening identity: %w", err)
	}
	return i, nil
}

func (k Keyless) check() error {
	switch {
	case k.Fulcio == "" || k.Token == nil:
		return release.Faultf(release.KindConfig, "set sign.keyless.fulcio", "opening identity: no certificate authority is named")
	case k.Root == nil:
		return release.Faultf(release.KindConfig, "set sign.trustedRoot", "opening identity: no trusted root to verify what is signed")
	case k.Root.lacks != "":
		return release.Faultf(release.KindConfig, "set sign.trustedRoot to the root of these services", "opening identity: %s", k.Root.lacks)
	case k.RekorVersion != 1 && k.RekorVersion != 2:
		return release.Faultf(release.KindConfig, "write sign.keyless.rekorVersion: 1, or 2", "opening identity: Rekor of version %d is unknown", k.RekorVersion)
	case k.Timestamp == "" && (k.Rekor == "" || k.RekorVersion == 2):
		return release.Faultf(release.KindConfig, "set sign.keyless.timestamp", "opening identity: nothing would prove when it was signed, and a certificate lives for minutes")
	}
	return nil
}

// certified gives the key and its certificate, new ones if they end soon.
func (i *Identity) certified(ctx context.Context) (*Key, *x509.Certificate, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.closed:
		return nil, nil, errClosed
	case i.key != nil && time.Now().Add(margin).Before(i.leaf.NotAfter):
		return i.key, i.leaf, nil
	}
	token, err := i.services.Token(ctx)
	if err != nil {
		return nil, nil, err
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generating key: %w", err)
	}
	key, err := newKey(private)
	if err != nil {
		return nil, nil, err
	}
	authority := fulcio{service{name: "the certificate authority " + i.services.Fulcio, base: i.services.Fulcio, client: i.transport(ctx)}}
	der, err := authority.certificate(ctx, key, token)
	if err != nil {
		return nil, nil, err
	}
	leaf, proof, err := readLeaf(der, private)
	if err != nil {
		return nil, nil, release.Unavailable("check sign.keyless.fulcio", "%s: %w", authority.name, err)
	}
	i.forget()
	i.key, i.leaf, i.proof = key, leaf, proof
	return key, leaf, nil
}

func (i *Identity) transport(ctx context.Context) transport {
	return newTransport(ctx, i.services.Transport)
}

// readLeaf reads a certificate that has to be of this key.
func readLeaf(der []byte, private *ecdsa.PrivateKey) (leaf *x509.Certificate, proof Proof, err error) {
	err = guarded(func() error {
		if leaf, err = x509.ParseCertificate(der); err != nil {
			return tidied(err)
		}
		if !private.PublicKey.Equal(leaf.PublicKey) {
			return errors.New("the certificate is of another key")
		}
		proof, err = certified(leaf)
		return err
	})
	return leaf, proof, err
}

// Proof says what its signatures prove: the certificate's identity.
func (i *Identity) Proof() Proof {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.proof
}

// Close forgets the key.
func (i *Identity) Close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.forget()
	i.closed = true
}

func (i *Identity) forget() {
	if i.key != nil {
		i.key.Close()
	}
	i.key, i.leaf = nil, nil
}

// Sign wraps a statement as Key.Sign does, with a certificate instead of a
// key's hint, and with what the services say: the log's entry, the authority's
// timestamp. The statement is signed once; the services are asked again where
// they fail. It is verified with the trusted root before anybody sees it.
// Signing again gives another bundle.
func (i *Identity) Sign(ctx context.Context, st release.Statement) (release.Attachment, error) {
	payload, err := envelope.EncodeStatement(st)
	if err != nil {
		return release.Attachment{}, signing(st.PredicateType, err)
	}
	key, leaf, err := i.certified(ctx)
	if err != nil {
		return release.Attachment{}, signing(st.PredicateType, err)
	}
	var a release.Attachment
	err = guarded(func() error {
		artifact, err := about(release.MustDigest("sha256:" + st.Subject[0].Digest["sha256"]))
		if err != nil {
			return err
		}
		made, _, err := i.sign(ctx, envelope.PayloadType, payload, key, leaf, artifact)
		if err == nil {
			made.PredicateType, a = st.PredicateType, made
		}
		return err
	})
	if err != nil {
		return release.Attachment{}, signing(st.PredicateType, err)
	}
	return a, nil
}

// sign makes a bundle over a payload, and gives what it proves.
func (i *Identity) sign(ctx context.Context, payloadType string, payload []byte, key *Key, leaf *x509.Certificate, artifact artifact) (release.Attachment, Proof, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, tries*serviceLimit, errors.New("the signing services take too long"))
	defer cancel()
	content := &sigstore.DSSEData{Data: payload, PayloadType: payloadType}
	made, err := sigstore.Bundle(content, keypair{key}, i.options(ctx, leaf))
	if err != nil {
		return release.Attachment{}, Proof{}, err
	}
	a, err := attachment("", made)
	if err != nil {
		return release.Attachment{}, Proof{}, err
	}
	b := &bundle.Bundle{}
	if err := b.UnmarshalJSON(a.Bundle); err != nil {
		return release.Attachment{}, Proof{}, err
	}
	proof, err := i.services.Root.prove(enveloped{b}, artifact)
	if err != nil {
		return release.Attachment{}, Proof{}, release.Faultf(release.KindConfig,
			"check that sign.trustedRoot is the root of the services under sign.keyless", "what was signed does not verify: %w", err)
	}
	return a, proof, nil
}

// options gives the services as sigstore-go wants them.
func (i *Identity) options(ctx context.Context, leaf *x509.Certificate) sigstore.BundleOptions {
	client := i.transport(ctx)
	o := sigstore.BundleOptions{Context: ctx, CertificateProvider: issued{leaf.Raw}}
	if at := i.services.Timestamp; at != "" {
		o.TimestampAuthorities = []*sigstore.TimestampAuthority{
			sigstore.NewTimestampAuthority(&sigstore.TimestampAuthorityOptions{URL: at, Timeout: -1, Transport: client})}
	}
	if at := i.services.Rekor; at != "" {
		log := service{name: "the transparency log " + at, base: at, client: client}
		o.TransparencyLogs = []sigstore.Transparency{sigstore.NewRekor(&sigstore.RekorOptions{BaseURL: at, Timeout: -1,
			Version: uint32(i.services.RekorVersion), Client: rekor1{log}, ClientV2: rekor2{log, i.services.Root.logs, pause}})}
	}
	return o
}

// issued gives a certificate that is there already.
type issued struct{ der []byte }

func (c issued) GetCertificate(context.Context, sigstore.Keypair, *sigstore.CertificateProviderOptions) ([]byte, error) {
	return c.der, nil
}
