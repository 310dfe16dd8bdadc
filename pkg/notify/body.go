package notify

import (
	"encoding/json"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// The versions of what messages are written in.
const (
	cloudEventsVersion = "1.0"
	cdEventsVersion    = "0.5.1"
	standardVersion    = ".0.3.0" // of the CDEvents used here
	customVersion      = ".0.1.0" // of our own
)

// What a message tells in detail is bounded; the record tells the rest.
const (
	mostText    = 1000
	mostTargets = 100
	mostReasons = 20
)

// cloudEvent is a CloudEvent in structured content mode, with a CDEvent in it.
// https://github.com/cdevents/spec/blob/v0.5.1/cloudevents-binding.md
type cloudEvent struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Source          string    `json:"source"`
	Type            string    `json:"type"`
	Subject         string    `json:"subject"`
	Time            time.Time `json:"time"`
	DataContentType string    `json:"datacontenttype"`
	Data            cdEvent   `json:"data"`
}

type cdEvent struct {
	Context               cdContext `json:"context"`
	Subject               cdSubject `json:"subject"`
	CustomData            details   `json:"customData"`
	CustomDataContentType string    `json:"customDataContentType"`
}

type cdContext struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"`
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Timestamp   time.Time `json:"timestamp"`
}

type cdSubject struct {
	ID      string    `json:"id"`
	Source  string    `json:"source"`
	Content cdContent `json:"content"`
}

type cdContent struct {
	Environment *environment `json:"environment,omitempty"`
	ArtifactID  string       `json:"artifactId,omitempty"`
	User        string       `json:"user,omitempty"`
}

type environment struct {
	ID string `json:"id"`
}

// details is what a record says beyond CDEvents' vocabulary.
type details struct {
	Sequence    int64           `json:"sequence"`
	Digest      release.Digest  `json:"digest"`
	Phase       release.Phase   `json:"phase"`
	Kind        string          `json:"kind,omitempty"`
	Environment string          `json:"environment,omitempty"`
	Release     release.Digest  `json:"release,omitzero"`
	Version     string          `json:"version,omitempty"`
	Revision    string          `json:"revision,omitempty"`
	From        release.Digest  `json:"from,omitzero"`
	Intent      *int64          `json:"intent,omitempty"`
	Reason      string          `json:"reason,omitempty"`
	Signer      string          `json:"signer,omitempty"` // its name in the trust policy
	Actor       release.Actor   `json:"actor"`
	Targets     []target        `json:"targets,omitempty"`
	Denied      []deniedBecause `json:"denied,omitempty"`
}

type target struct {
	Name   string `json:"name"`
	Status string `json:"status"`
}

type deniedBecause struct {
	Gate    string `json:"gate"`
	Rule    string `json:"rule"`
	Message string `json:"message"`
}

// body gives a message in a format.
func (n *Notifier) body(format string, e release.Entry) []byte {
	var v any = n.cloudEvent(e)
	if format == FormatSlack {
		v = map[string]string{"text": n.text(e)}
	}
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // these types always encode
	}
	return raw
}

func (n *Notifier) cloudEvent(e release.Entry) cloudEvent {
	kind, subject := n.about(e)
	source := "promote/" + n.o.Project // the ledger's origin
	subject.Source = source
	id, at := e.Digest.String(), e.Record.Time.UTC()
	return cloudEvent{
		SpecVersion: cloudEventsVersion, ID: id, Source: source, Type: kind, Subject: subject.ID, Time: at, DataContentType: "application/json",
		Data: cdEvent{
			Context:               cdContext{SpecVersion: cdEventsVersion, ID: id, Source: source, Type: kind, Timestamp: at},
			Subject:               subject,
			CustomData:            detailsOf(e),
			CustomDataContentType: "application/json",
		},
	}
}

// about says what a record means in CDEvents' vocabulary. The service is the
// application, its artifact the release. Where there is no word for it, it is a
// custom event about a record.
// https://github.com/cdevents/spec/blob/v0.5.1/continuous-deployment.md
func (n *Notifier) about(e release.Entry) (string, cdSubject) {
	r := e.Record
	service := func(predicate string, runs release.Digest) (string, cdSubject) {
		return "dev.cdevents.service." + predicate + standardVersion, cdSubject{ID: n.o.Project,
			Content: cdContent{Environment: &environment{r.Environment}, ArtifactID: n.purl(r.Environment, runs)}}
	}
	switch {
	case r.Phase == release.Released:
		return "dev.cdevents.artifact.published" + standardVersion, cdSubject{ID: n.purl("", r.Release), Content: cdContent{User: r.Actor.User}}
	case r.Phase == release.Deployed && r.Kind == release.KindRollback:
		return service("rolledback", r.Release)
	case r.Phase == release.Deployed && !r.From.IsZero() && r.From != r.Release:
		return service("upgraded", r.Release)
	case r.Phase == release.Deployed:
		return service("deployed", r.Release)
	case r.Phase == release.RolledBack && !r.From.IsZero() && undone(r):
		return service("rolledback", r.From)
	}
	record := cdSubject{ID: e.Digest.String()}
	if r.Environment != "" {
		record.Content.Environment = &environment{r.Environment}
	}
	if !r.Release.IsZero() {
		record.Content.ArtifactID = n.purl(r.Environment, r.Release)
	}
	return "dev.cdeventsx.promote-record." + strings.ToLower(string(r.Phase)) + customVersion, record
}

// undone reports whether an attempt had changed a target before it was undone.
func undone(r release.Record) bool {
	for _, t := range r.Targets {
		if t.Status == string(release.RolledBack) {
			return true
		}
	}
	return false
}

// purl names a release as a package URL of type oci.
// https://github.com/package-url/purl-spec
func (n *Notifier) purl(environment string, d release.Digest) string {
	repository := n.o.Repository(environment)
	name := strings.ToLower(path.Base(repository))
	return "pkg:oci/" + url.PathEscape(name) + "@" + strings.ReplaceAll(d.String(), ":", "%3A") +
		"?repository_url=" + strings.ReplaceAll((&url.URL{Path: repository}).EscapedPath(), ":", "%3A")
}

func detailsOf(e release.Entry) details {
	r := e.Record
	d := details{Sequence: r.Sequence, Digest: e.Digest, Phase: r.Phase, Kind: r.Kind, Environment: r.Environment, Release: r.Release,
		Version: r.Version, Revision: r.Revision, From: r.From, Intent: r.Intent, Reason: clip(r.Reason), Signer: e.Signer.Name, Actor: r.Actor}
	for _, t := range r.Targets[:min(len(r.Targets), mostTargets)] {
		d.Targets = append(d.Targets, target{t.Name, t.Status})
	}
	if r.Phase == release.DeniedPhase && r.Decision != nil {
		d.Denied = deniedBy(*r.Decision)
	}
	return d
}

func deniedBy(d release.Decision) (list []deniedBecause) {
	for _, v := range d.Verdicts {
		if v.Result >= release.Warned {
			continue
		}
		for _, reason := range v.Reasons {
			if len(list) == mostReasons {
				return list
			}
			list = append(list, deniedBecause{v.Gate, reason.Rule, clip(reason.Message)})
		}
	}
	return list
}

// clip bounds a text, at a rune.
func clip(s string) string {
	if len(s) <= mostText {
		return s
	}
	return strings.ToValidUTF8(s[:mostText], "") + "…"
}
