//go:build goexperiment.jsonv2

package scan

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/scan/findings"
	"github.com/promote-dev/promote/pkg/scan/sbom"
)

// Image pulls an image by digest from its registry and looks for known
// vulnerabilities and for secrets in every layer; the packages it finds become
// the SBOM. Findings are a result, not an error; the errors are *release.Fault:
// KindDenied for bytes that contradict a digest or a limit and for a database
// that is too old or from the future, KindConfig for an ignore file or waiver
// that explains nothing, KindUnavailable for everything that did not answer.
func Image(ctx context.Context, o Options) (_ release.Scan, err error) {
	if o, err = o.complete(); err != nil {
		return release.Scan{}, err
	}
	ignore, err := findings.LoadIgnore(o.IgnoreFile)
	if err != nil {
		return release.Scan{}, err
	}
	done, err := prepare()
	if err != nil {
		return release.Scan{}, err
	}
	defer done()
	started := o.Now().UTC()
	db, err := ensure(ctx, o)
	if err != nil {
		return release.Scan{}, err
	}
	if err := findings.CheckAge(db.info, o.Database.MaxAge, started); err != nil {
		return release.Scan{}, err
	}
	step := event.Start(ctx, "[scan] %s", o.Subject)
	defer func() { step.Done(err) }()
	var found report
	err = withDatabase(ctx, o, db, func(d database) error {
		db = d
		found, err = persistently(ctx, func() (report, error) { return analyse(ctx, o, d, step) })
		return err
	})
	if err != nil {
		return release.Scan{}, err
	}
	return conclude(ctx, o, found, db.info, ignore, started)
}

// conclude applies exceptions, judges, and writes the evidence.
func conclude(ctx context.Context, o Options, found report, db release.Database, ignore findings.Ignore, started time.Time) (release.Scan, error) {
	for _, notice := range ignore.Apply(found.findings, found.purl, started) {
		event.Warnf(ctx, "%s", notice)
	}
	if err := findings.Waive(found.findings, o.Waive, started); err != nil {
		return release.Scan{}, err
	}
	release.SortFindings(found.findings)
	s := release.Scan{
		Subject: o.Subject, Database: db, Distribution: found.distribution,
		Findings: found.findings, Summary: release.Summarize(found.findings),
		Result: release.JudgeFindings(found.findings, o.FailOn),
	}
	var err error
	if s.SBOM, err = sbom.Deterministic(o.Subject, found.documents); err != nil {
		return release.Scan{}, err
	}
	s.Predicate, err = release.ScanPredicate(s, release.ScanRun{
		Scanner: "pkg:golang/github.com/aquasecurity/trivy@" + scannerVersion(), Version: scannerVersion(),
		DatabaseURI: o.Database.Repository, FailOn: o.FailOn, Platforms: found.platforms,
		Exceptions: exceptions(ignore, o.Waive), Started: started, Finished: o.Now(),
		Parameters: []string{"vulnerabilities", "secrets", "failOn=" + o.FailOn, "platforms=" + strings.Join(found.platforms, ",")},
	})
	return s, err
}

// exceptions is the digest of everything that can suppress a finding.
func exceptions(ignore findings.Ignore, waivers []Waiver) release.Digest {
	if ignore.Digest.IsZero() && len(waivers) == 0 {
		return release.Digest{}
	}
	raw, err := release.Canonical(map[string]any{"ignoreFile": ignore.Digest, "waivers": waivers})
	if err != nil {
		return release.DigestOf([]byte(fmt.Sprint(ignore.Digest, waivers)))
	}
	return release.DigestOf(raw)
}

// persistently repeats what the network interrupted. Layers that are analysed
// already are not fetched again.
func persistently(ctx context.Context, f func() (report, error)) (report, error) {
	const tries = 3
	for try := 1; ; try++ {
		r, err := f()
		if err == nil || try == tries || release.KindOf(err) != release.KindUnavailable {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-time.After(time.Duration(try) * 500 * time.Millisecond):
		}
	}
}

// scannerVersion is that of the Trivy module that this binary holds.
func scannerVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/aquasecurity/trivy" {
			return strings.TrimPrefix(m.Version, "v")
		}
	}
	return "unknown"
}
