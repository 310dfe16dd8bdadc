package config

import (
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// phases are what notifications may be about.
var phases = []string{
	string(release.Released), string(release.Intended), string(release.Deployed), string(release.RolledBack),
	string(release.FailedPhase), string(release.DeniedPhase), string(release.Approved), string(release.Frozen),
	string(release.Unfrozen), string(release.Exception), string(release.BreakGlassed), string(release.TrustChanged),
	string(release.Watched), string(release.Compacted),
}

// notifyFormats are what may be sent.
var notifyFormats = []string{"cloudevents", "slack"}

func (k *checker) notify() {
	seen := map[string]bool{}
	for i, n := range k.c.Notify {
		p := at("notify").index(i)
		if k.required(p.key("webhook"), n.Webhook, "env://PROMOTE_WEBHOOK") {
			k.variable(p.key("webhook"), n.Webhook, "the URL", "env://PROMOTE_WEBHOOK")
		}
		if variableOf(n.Webhook) != "" { // else it is a secret, which no message shows
			k.unique(p.key("webhook"), n.Webhook, seen)
		}
		if k.given(p.key("secret")) && k.required(p.key("secret"), n.Secret, "env://PROMOTE_WEBHOOK_SECRET") {
			k.variable(p.key("secret"), n.Secret, "the secret", "env://PROMOTE_WEBHOOK_SECRET")
		}
		k.oneOf(p.key("format"), n.Format, notifyFormats)
		if k.sequence(p.key("on")) && len(n.On) == 0 {
			k.fail(p.key("on"), "name some, or remove it to be told of all", "expected phases of records, got none")
		}
		told := map[string]bool{}
		for j, phase := range n.On {
			if k.required(p.key("on").index(j), phase, "deployed") {
				k.oneOf(p.key("on").index(j), phase, phases)
			}
			k.unique(p.key("on").index(j), phase, told)
		}
	}
}

// variable checks that a secret is named, and not written.
func (k *checker) variable(p path, value, what, example string) {
	if variableOf(value) == "" {
		k.fail(p, secretHint+". Write "+example, "expected the variable that holds %s, as env://NAME", what)
	}
}

// variableOf gives NAME of env://NAME.
func variableOf(value string) string {
	name, ok := strings.CutPrefix(value, "env://")
	if !ok || !keyPattern.MatchString(name) {
		return ""
	}
	return name
}

// Variables gives the environment variables that hold a notification's URL and
// what signs it; the second is empty if nothing does.
func (n Notification) Variables() (url, secret string) {
	return variableOf(n.Webhook), variableOf(n.Secret)
}
