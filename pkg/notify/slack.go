package notify

import (
	"fmt"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// text is a record in a sentence, in what Slack calls mrkdwn.
// https://docs.slack.dev/messaging/formatting-message-text
func (n *Notifier) text(e release.Entry) string {
	r := e.Record
	var b strings.Builder
	fmt.Fprintf(&b, "*%s*: %s", escape(n.o.Project), escape(sentence(r)))
	if r.Reason != "" {
		b.WriteString("\n> " + escape(strings.Join(strings.Fields(clip(r.Reason)), " ")))
	}
	if r.Phase == release.DeniedPhase && r.Decision != nil {
		for _, d := range deniedBy(*r.Decision)[:min(5, len(deniedBy(*r.Decision)))] {
			fmt.Fprintf(&b, "\n• %s: %s", escape(d.Rule), escape(strings.Join(strings.Fields(d.Message), " ")))
		}
	}
	for _, t := range r.Targets[:min(len(r.Targets), mostTargets)] {
		fmt.Fprintf(&b, "\n• %s: %s", escape(t.Name), escape(t.Status))
	}
	fmt.Fprintf(&b, "\nrecord %d by %s at %s", r.Sequence, escape(by(e)), r.Time.UTC().Format("2006-01-02 15:04:05 MST"))
	return b.String()
}

// sentence says what happened.
func sentence(r release.Record) string {
	what := strings.TrimSpace(r.Version + " " + bracketed(r.Release.Short()))
	where := r.Environment
	switch r.Phase {
	case release.Released:
		return what + " was released"
	case release.Intended:
		return what + " is being deployed to " + where
	case release.Deployed:
		if r.Kind == release.KindRollback {
			return where + " was rolled back to " + what
		}
		return what + " was deployed to " + where
	case release.RolledBack:
		return "deploying " + what + " to " + where + " did not work out and was undone"
	case release.FailedPhase:
		return "deploying " + what + " to " + where + " FAILED and was not undone: somebody has to look"
	case release.DeniedPhase:
		return what + " was not let into " + where
	case release.Approved:
		return what + " was approved for " + where
	case release.Frozen:
		return where + " was frozen"
	case release.Unfrozen:
		return where + " was unfrozen"
	case release.TrustChanged:
		return "who may say what was changed"
	case release.Compacted:
		return "old records were let out of the ledger, into an archive"
	}
	return strings.Join(strings.Fields(string(r.Phase)+" "+where+" "+what), " ")
}

func bracketed(s string) string {
	if s == "" {
		return ""
	}
	return "(" + s + ")"
}

// by names who signed, and else who acted.
func by(e release.Entry) string {
	switch {
	case e.Signer.Name != "" && e.Record.Actor.User != "" && e.Signer.Name != e.Record.Actor.User:
		return e.Signer.Name + " (" + e.Record.Actor.User + ")"
	case e.Signer.Name != "":
		return e.Signer.Name
	case e.Record.Actor.User != "":
		return e.Record.Actor.User
	}
	return "somebody"
}

// escape keeps text from meaning anything: a mention of everybody, a link.
func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}
