package config

import "github.com/promote-dev/promote/pkg/release"

// CheckLedger reports why the ledger's place does not fit how promote is used:
// a directory of one machine is no ledger for several. ci says that this is a
// CI run, whose machine is gone afterwards.
func (c *Config) CheckLedger(ci bool) error {
	if c.Ledger.Git != nil || c.Ledger.File.Shared {
		return nil
	}
	why := ""
	if ci {
		why = "this is a CI run"
	}
	for _, e := range c.Environments() {
		for _, t := range e.Targets {
			if !t.Local() && why == "" {
				why = "target " + t.Name + " of " + e.Name + " is another machine"
			}
		}
	}
	if why == "" {
		return nil
	}
	return c.root.Nearest("ledger", "file").Faultf(
		"write ledger: {git: {remote: origin, branch: promote-ledger}}, or file: {path: …, shared: true} if every machine sees that directory",
		"the ledger in %s is for one machine, and %s", c.Ledger.File.Path, why)
}

// inactive are keys that this version reads and checks, and does not act on.
var inactive = []path{
	{"build", "tags"}, {"scan", "vex"},
	{"hooks", "pre-build"},
}

// Inactive gives an error for each key that is written and that this version
// does not act on. A gate that somebody configured and nobody keeps is worse
// than none: promote nothing with it.
func (c *Config) Inactive() error {
	var list release.Errors
	report := func(p path) {
		if c.root.Get(p...) != nil {
			list = append(list, c.root.Get(p...).Faultf("remove it", "%s: this version of promote does not act on it", p))
		}
	}
	for _, p := range inactive {
		report(p)
	}
	return list.Or()
}
