package wire

import (
	"os"
	"path/filepath"

	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/notify"
	"github.com/promote-dev/promote/pkg/release"
)

// notifier tells whom a configuration names of what is recorded. Its messages
// that could not be delivered lie in the user's state, not beside the ledger,
// which may be a branch that everybody reads.
func notifier(c *config.Config, offline bool) *notify.Notifier {
	repositories := map[string]string{"": c.Registry}
	for _, e := range c.Environments() {
		repositories[e.Name] = e.Registry
	}
	o := notify.Options{
		Project: c.Name, Getenv: os.Getenv, Offline: offline,
		Repository: func(environment string) string {
			registry, ok := repositories[environment]
			if !ok { // an environment that is configured no more
				registry = c.Registry
			}
			return registry + "/" + c.Name
		},
	}
	if dir, err := stateDir("notify"); err == nil { // else what cannot be delivered is lost, with a warning
		// Projects of the same name have different registries.
		o.Letters = filepath.Join(dir, c.Name+"-"+release.DigestOf([]byte(c.Registry)).Short()+".jsonl")
	}
	for _, n := range c.Notify {
		url, secret := n.Variables()
		o.Webhooks = append(o.Webhooks, notify.Webhook{Variable: url, Secret: secret, On: n.On, Format: n.Format, PlainHTTP: n.PlainHTTP})
	}
	return notify.New(o)
}
