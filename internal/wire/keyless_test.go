//go:build engine

package wire

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/promote-dev/promote/internal/cli"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign"
)

// severed is a network that nobody may use.
type severed struct{ asked int }

func (s *severed) RoundTrip(*http.Request) (*http.Response, error) {
	s.asked++
	return nil, errors.New("no network here")
}

// Whoever trusts keys only asks for no trusted root: neither the network nor
// the cache is touched. Whoever trusts an identity does not go on without one.
func TestOnlyIdentitiesAskForATrustedRoot(t *testing.T) {
	network := &severed{}
	before := http.DefaultTransport
	http.DefaultTransport = network
	t.Cleanup(func() { http.DefaultTransport = before })
	_, public, err := sign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key := release.Party{Name: "ops", PublicKey: string(public)}
	identity := release.Party{Name: "ci", Identity: "ci@example.com", Issuer: "https://accounts.example.com"}
	for name, c := range map[string]struct {
		parties []release.Party
		offline bool
		asks    bool
	}{
		"keys":                {[]release.Party{key}, false, false},
		"an identity":         {[]release.Party{key, identity}, false, true},
		"an identity offline": {[]release.Party{key, identity}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PROMOTE_KEY", "")
			k := &keyring{config: project1(t, ""), options: cli.PipelineOptions{Offline: c.offline}}
			k.trust = release.Trust{Roles: map[release.Role][]release.Party{release.Builder: c.parties}}
			network.asked = 0
			root, err := k.root(t.Context())
			trusted := len(c.parties) == 1
			if (err == nil) != trusted || root != nil || !trusted && release.KindOf(err) != release.KindUnavailable {
				t.Errorf("root %v, %s: %v", root, release.KindOf(err), err)
			}
			if (network.asked > 0) != c.asks {
				t.Errorf("the network was asked %d times", network.asked)
			}
			_, err = os.Stat(filepath.Join(os.Getenv("XDG_CACHE_HOME"), "promote", "sigstore"))
			if trusted && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the cache of roots was touched: %v", err)
			}
		})
	}
}
