package report

import (
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// Metrics writes a look in the text format that the node exporter's textfile
// collector reads.
// https://github.com/prometheus/docs/blob/main/docs/instrumenting/exposition_formats.md
func Metrics(out io.Writer, w release.Watch) error {
	m := &metrics{environment: w.Environment}
	m.whole(w)
	for _, t := range w.Targets {
		m.target(t)
	}
	for _, s := range w.Scans {
		for _, service := range s.Services {
			m.scan(service, s)
		}
	}
	_, err := io.WriteString(out, m.text())
	return err
}

// WriteMetrics replaces a file by a look's metrics at once: who reads it finds
// the old ones or the new ones. The file is for everybody to read.
func WriteMetrics(path string, w release.Watch) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp") // no name that the collector reads
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if err = Metrics(f, w); err == nil {
		err = f.Chmod(0o644)
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// family is all samples of one name: they must stand together.
type family struct {
	name, help string
	samples    []string
}

// metrics collects samples in the order in which their names come up first.
type metrics struct {
	environment string
	families    []*family
}

// add adds a sample with labels, which come in pairs.
func (m *metrics) add(name, help string, value float64, labels ...string) {
	i := slices.IndexFunc(m.families, func(f *family) bool { return f.name == name })
	if i < 0 {
		i = len(m.families)
		m.families = append(m.families, &family{name: name, help: help})
	}
	pairs := []string{`environment="` + escape(m.environment) + `"`}
	for j := 0; j+1 < len(labels); j += 2 {
		pairs = append(pairs, labels[j]+`="`+escape(labels[j+1])+`"`)
	}
	m.families[i].samples = append(m.families[i].samples, name+"{"+strings.Join(pairs, ",")+"} "+number(value))
}

// escape writes a label's value.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(strings.ToValidUTF8(s, "?"))
}

func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

func (m *metrics) text() string {
	var b strings.Builder
	for _, f := range m.families {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s gauge\n", f.name, f.help, f.name)
		for _, s := range f.samples {
			b.WriteString(s + "\n")
		}
	}
	return b.String()
}

func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (m *metrics) whole(w release.Watch) {
	m.add("promote_watch_success", "Whether the last look found everything as it should be.", yes(w.Result == release.WatchFine))
	for _, result := range []string{release.WatchFine, release.WatchDrifted, release.WatchFailing, release.WatchUnknown} {
		m.add("promote_watch_result", "1 for how the last look came out.", yes(w.Result == result), "result", result)
	}
	m.add("promote_watch_findings", "How many things the last look found wrong.", float64(len(w.Findings)))
	m.add("promote_watch_timestamp_seconds", "When it was looked last.", float64(w.Time.Unix()))
	m.add("promote_watch_duration_seconds", "How long the last look took.", w.Seconds)
	if w.Release.IsZero() {
		return // it did not come to that
	}
	m.add("promote_release_info", "The release that was recorded last, by digest.", 1, "release", w.Release.String(), "version", w.Version)
	for _, name := range slices.Sorted(maps.Keys(w.Dimensions)) {
		m.add("promote_dimension_info", "The digest of a part of the release: prompts, code, model.", 1, "dimension", name, "digest", w.Dimensions[name].String())
	}
}

func (m *metrics) target(t release.WatchedTarget) {
	m.add("promote_target_success", "Whether the whole target could be looked at.", yes(t.Error == ""), "target", t.Name)
	m.add("promote_drift_differences", "In how many things a target differs from its record.", float64(len(t.Differences)), "target", t.Name)
	for _, s := range t.Services {
		at := []string{"target", t.Name, "service", s.Name}
		m.add("promote_service_info", "What a service runs: the digest of the release's image (empty for another one), and the engine's id.", 1, slices.Concat(at, []string{"digest", s.Digest.String(), "image", s.Image})...)
		m.add("promote_service_healthy", "Whether a service runs and is not unhealthy, or has completed as it should.", yes(s.Healthy), at...)
		m.add("promote_service_restarts", "How often the engine restarted the service's container.", float64(s.Restarts), at...)
		if s.Memory != nil {
			m.add("promote_service_memory_bytes", "Memory of a service without what the kernel gives back on demand.", float64(*s.Memory), at...)
		}
		if s.Limit > 0 {
			m.add("promote_service_memory_limit_bytes", "The memory limit of a service; absent where there is none.", float64(s.Limit), at...)
		}
	}
	for _, c := range t.Checks {
		if c.Result == release.Passed.String() || c.Result == release.Failed.String() {
			m.add("promote_check_success", "Whether a check passed; absent where it could not be asked.", yes(c.Result == release.Passed.String()), "target", t.Name, "service", c.Service, "check", c.Name)
		}
	}
}

func (m *metrics) scan(service string, s release.WatchedScan) {
	if s.ScannedAt != nil && s.AgeSeconds != nil {
		m.add("promote_scan_timestamp_seconds", "When the newest verified scan of the service's image was made.", float64(s.ScannedAt.Unix()), "service", service)
		m.add("promote_scan_age_seconds", "How old that scan was at the last look.", float64(*s.AgeSeconds), "service", service)
	}
	m.add("promote_match_success", "Whether the image was matched against today's vulnerability database.", yes(s.Matched), "service", service)
	if s.Matched {
		m.add("promote_match_findings", "Vulnerabilities and secrets that the threshold counts, by today's database.", float64(len(s.Failing)), "service", service)
	}
}
