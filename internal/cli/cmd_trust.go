package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/internal/ui"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

func (r *run) trustCommand() *cli.Command {
	text := func(name, usage string) cli.Flag { return &cli.StringFlag{Name: name, Usage: usage} }
	return &cli.Command{Name: "trust", Usage: "who may say what: list, change and accept", HideHelpCommand: true, Subcommands: []*cli.Command{
		r.command(command{name: "list", usage: "who holds which role, and whether the ledger pins it", offline: true, action: r.trustList, formats: []string{"dsse"}}),
		r.command(command{name: "add", usage: "name one more holder of a role in promote.yaml", arguments: "ROLE", least: 1, most: 1, flags: []cli.Flag{
			text("name", "the party's `NAME`; quorums count names"), text("key", "`FILE` with its public key"),
			text("identity", "or the `NAME` in its certificates, exactly"), text("identity-match", "or an `EXPRESSION` (RE2) that all of it matches"),
			text("issuer", "`URL` that vouches for the identity"), text("issuer-match", "or an `EXPRESSION` that all of it matches"),
			&cli.StringSliceFlag{Name: "claim", Usage: "`NAME=VALUE` that the certificate must say: repository, ref, revision, owner, workflow, trigger, runner; repeatable"},
			text("not-before", "first `DAY` on which it counts"), text("not-after", "last `DAY` on which it counts"), dryRunFlag(),
		}, offline: true, action: r.trustAdd}),
		r.command(command{name: "rotate", usage: "give a party a new key; the former ones end after the overlap", flags: []cli.Flag{
			text("name", "the party's `NAME`"), text("key", "`FILE` with the new public key"),
			&cli.DurationFlag{Name: "overlap", Value: 720 * time.Hour, Usage: "how `LONG` the former keys still count"}, dryRunFlag(),
		}, offline: true, action: r.trustRotate}),
		r.command(command{name: "revoke", usage: "take a key or an identity out of use", flags: []cli.Flag{
			text("key", "`FILE` with the public key, or its fingerprint"), text("identity", "or the `NAME` in certificates"),
			text("issuer", "of the identity; default: every `URL`"), text("reason", "`WHY`"), dryRunFlag(),
		}, offline: true, action: r.trustRevoke}),
		r.command(command{name: "accept", usage: "sign trust, environments and policies as they are now; owners of the pinned version", flags: []cli.Flag{
			text("reason", "`WHY`, for the record"), keyFlag(), dryRunFlag(),
		}, action: r.trustAccept}),
	}}
}

// trustResult is what `trust list` gives.
type trustResult struct {
	Mode       string               `json:"mode"`
	InForce    bool                 `json:"inForce"` // the ledger pins just this, or nothing yet
	Trust      release.Digest       `json:"trust"`
	Pinned     release.Digest       `json:"pinned,omitzero"` // of trust; absent where the ledger pins none
	Parties    []partyResult        `json:"parties"`
	Thresholds map[release.Role]int `json:"thresholds"`
	Revoked    []release.Revocation `json:"revoked"`
	Proposed   []proposalResult     `json:"proposed"`
	File       *pipeline.TrustFile  `json:"file,omitempty"`

	policy release.Trust
}

type partyResult struct {
	Role release.Role `json:"role"`
	release.Party
	Fingerprint string `json:"fingerprint,omitempty"`
	State       string `json:"state"`
}

type proposalResult struct {
	Agreed []string `json:"agreed"`
	Needed int      `json:"needed"`
}

func (r *run) trustList(ctx context.Context, _ *cli.Context) error {
	return r.withTrust(ctx, "", func(p *pipeline.Pipeline) error {
		pin, inForce, err := p.Pinned(ctx)
		if err != nil {
			return err
		}
		result := listTrust(p.Project.Trust, pin, inForce, p.Now())
		result.File, result.policy = p.Project.TrustFile, p.Project.Trust
		if pin.Trust != nil && pin.Trust.Version > result.policy.Version {
			result.policy.Version = pin.Trust.Version // what is written must be newer than both
		}
		return r.emit(result, func(w io.Writer) error { return printTrust(w, result) })
	})
}

// writeAs writes the trust as a file for its owners to sign.
func (t trustResult) writeAs(_ string, w io.Writer) error { return writeTrustFile(w, t.policy) }

func listTrust(t release.Trust, pin release.Pin, inForce bool, now time.Time) trustResult {
	out := trustResult{Mode: t.Mode(), InForce: inForce, Trust: t.Digest(), Parties: []partyResult{}, Thresholds: map[release.Role]int{},
		Revoked: append([]release.Revocation{}, t.Revoked...), Proposed: []proposalResult{}}
	if pin.Trust != nil {
		out.Pinned = pin.Trust.Digest()
	}
	for _, role := range release.Roles {
		if len(t.Roles[role]) > 0 {
			out.Thresholds[role] = t.Threshold(role)
		}
		for _, party := range t.Roles[role] {
			out.Parties = append(out.Parties, partyResult{Role: role, Party: party, Fingerprint: party.Fingerprint(), State: t.State(party, now)})
		}
	}
	for _, agreed := range pin.Proposed {
		out.Proposed = append(out.Proposed, proposalResult{append([]string{}, agreed.Owners...), pin.Needed(nil)})
	}
	return out
}

func printTrust(w io.Writer, t trustResult) error {
	var rows [][]string
	for _, p := range t.Parties {
		role := string(p.Role)
		if n := t.Thresholds[p.Role]; n > 1 {
			role = fmt.Sprintf("%s (%d of them)", p.Role, n)
		}
		rows = append(rows, []string{role, p.Name, p.Means(), day(p.NotBefore), day(p.NotAfter), p.State})
	}
	if err := ui.Table(w, []string{"ROLE", "NAME", "KEY OR IDENTITY", "FROM", "UNTIL", "STATE"}, rows); err != nil {
		return err
	}
	for _, revoked := range t.Revoked {
		fmt.Fprintf(w, "revoked: %s\n", revoked)
	}
	if t.File != nil {
		fmt.Fprintf(w, "file: %s, version %d, signed by %s (%d needed)\n", t.File.Path, t.File.Version, orNobody(t.File.Signers), t.File.Needed)
	}
	for _, p := range t.Proposed {
		fmt.Fprintf(w, "a change waits: %d of %d owners agreed: %s\n", len(p.Agreed), p.Needed, strings.Join(p.Agreed, ", "))
	}
	word := "the ledger pins it"
	switch {
	case !t.InForce:
		word = "the ledger pins other rules: promote trust accept"
	case t.Pinned.IsZero():
		word = "the ledger pins no trust yet"
	}
	_, err := fmt.Fprintf(w, "trust: %s; %s\n", t.Mode, word)
	return err
}

func orNobody(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}

func day(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.UTC().Format(time.RFC3339)
}

// editResult is what `trust add`, `rotate` and `revoke` give.
type editResult struct {
	File    string   `json:"file"`
	Changes []string `json:"changes"` // lines of the file, with - or + before them
	DryRun  bool     `json:"dryRun,omitempty"`
}

func (r *run) trustAdd(_ context.Context, c *cli.Context) error {
	party := config.Party{
		Name: c.String("name"), Identity: c.String("identity"), IdentityMatch: c.String("identity-match"),
		Issuer: c.String("issuer"), IssuerMatch: c.String("issuer-match"),
	}
	for flag, into := range map[string]interface{ UnmarshalText([]byte) error }{"not-before": &party.NotBefore, "not-after": &party.NotAfter} {
		if text := c.String(flag); text != "" {
			if err := into.UnmarshalText([]byte(text)); err != nil {
				return release.Misuse("--"+flag+" 2027-01-31", "--%s: %w", flag, err)
			}
		}
	}
	var err error
	if party.Claims, err = claims(c.StringSlice("claim")); err != nil {
		return err
	}
	return r.editTrust(c, func(project *config.Config) (config.Edit, error) {
		if party.Key, err = r.inProject(project, c.String("key")); err != nil {
			return config.Edit{}, err
		}
		return project.AddParty(release.Role(c.Args().First()), party)
	})
}

func claims(pairs []string) (*config.Claims, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	out := &config.Claims{}
	places := map[string]*string{"repository": &out.Repository, "ref": &out.Ref, "revision": &out.Revision, "owner": &out.Owner,
		"workflow": &out.Workflow, "trigger": &out.Trigger, "runner": &out.Runner}
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		place, known := places[name]
		if !known || value == "" {
			return nil, release.Misuse("--claim repository=https://github.com/acme/openclaw", "--claim %q", pair)
		}
		*place = value
	}
	return out, nil
}

func (r *run) trustRotate(_ context.Context, c *cli.Context) error {
	if c.String("name") == "" || c.String("key") == "" || c.Duration("overlap") < 0 {
		return release.Misuse("promote trust rotate --name ops --key keys/new.pub --overlap 720h", "promote trust rotate needs --name and --key, and an overlap that is not negative")
	}
	return r.editTrust(c, func(project *config.Config) (config.Edit, error) {
		key, err := r.inProject(project, c.String("key"))
		if err != nil {
			return config.Edit{}, err
		}
		return project.Rotate(c.String("name"), key, time.Now().Add(c.Duration("overlap")).Truncate(time.Second))
	})
}

func (r *run) trustRevoke(_ context.Context, c *cli.Context) error {
	if c.String("reason") == "" || (c.String("key") == "") == (c.String("identity") == "") {
		return release.Misuse("promote trust revoke --key keys/lost.pub --reason 'laptop stolen'", "promote trust revoke needs --reason, and --key or --identity")
	}
	return r.editTrust(c, func(project *config.Config) (config.Edit, error) {
		key := c.String("key")
		if !strings.HasPrefix(key, "sha256:") {
			var err error
			if key, err = r.inProject(project, key); err != nil {
				return config.Edit{}, err
			}
		}
		return project.Revoke(config.Revocation{Key: key, Identity: c.String("identity"), Issuer: c.String("issuer"), Reason: c.String("reason")})
	})
}

// inProject gives a file's path as promote.yaml names it.
func (r *run) inProject(c *config.Config, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.dir, path)
	}
	relative, err := filepath.Rel(c.Dir(), path)
	if err != nil {
		return "", release.Misuse("", "naming %s: %w", name, err)
	}
	return filepath.ToSlash(relative), nil
}

// editTrust changes promote.yaml, or says what it would change. What was
// changed counts once the owners accept it.
func (r *run) editTrust(c *cli.Context, change func(*config.Config) (config.Edit, error)) error {
	project, err := r.load()
	if err != nil {
		return err
	}
	edit, err := change(project)
	if err != nil {
		return err
	}
	if !c.Bool("dry-run") {
		if err := edit.Write(); err != nil {
			return err
		}
	}
	var diff strings.Builder
	before, after := edit.Texts()
	if err := ui.Diff(&diff, before, after); err != nil {
		return err
	}
	result := editResult{File: edit.Path, Changes: []string{}, DryRun: c.Bool("dry-run")}
	for _, line := range strings.Split(diff.String(), "\n") {
		if strings.HasPrefix(line, "- ") || strings.HasPrefix(line, "+ ") {
			result.Changes = append(result.Changes, line)
		}
	}
	return r.emit(result, func(w io.Writer) error {
		word, next := "changed", "it counts once the owners accept it: promote trust accept"
		if edit.Unsigned {
			next = "nobody has signed it yet, and until its owners have, nothing is verified by it: promote trust accept --key KEY"
		}
		if result.DryRun {
			word, next = "would change", "nothing was written"
		}
		_, err := fmt.Fprintf(w, "%s %s:\n%s%s\n", word, result.File, diff.String(), next)
		return err
	})
}
