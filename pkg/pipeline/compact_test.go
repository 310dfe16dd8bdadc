package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// attic is a Compactor over a world.
type attic struct {
	w        *world
	there    *pipeline.Archive
	archives int
	strips   int
	onStrip  func() error
	onMake   func()
}

func (a *attic) Archive(context.Context) (pipeline.Archive, error) {
	a.archives++
	if a.there != nil {
		return pipeline.Archive{}, release.Misuse("name another", "it is there")
	}
	a.there = &pipeline.Archive{Place: "attic", Records: int64(len(a.w.records)), Bytes: 1, Digest: release.DigestOf(fmt.Append(nil, len(a.w.records)))}
	if a.onMake != nil {
		a.onMake()
	}
	return *a.there, nil
}

func (a *attic) Archived(context.Context) (pipeline.Archive, bool, error) {
	if a.there == nil {
		return pipeline.Archive{}, false, nil
	}
	return *a.there, true, nil
}

func (a *attic) Weight(_ context.Context, list release.Ranges) (int64, error) {
	return 100 * list.Count(), nil
}

func (a *attic) Strip(context.Context) (records, bytes int64, err error) {
	a.strips++
	if a.onStrip != nil {
		if err := a.onStrip(); err != nil {
			return 0, 0, err
		}
	}
	for _, c := range a.w.records.Compactions() {
		for i, e := range a.w.records {
			if c.Record.Compaction.Ranges.Has(int64(i)) && !e.Stub() {
				a.w.records[i] = release.Entry{Record: release.Record{Sequence: int64(i)}, Digest: e.Digest}
				records++
			}
		}
	}
	return records, 100 * records, nil
}

// life is a project in use: releases, promotions that work and fail, approvals,
// freezes, rollbacks, over months.
type life struct {
	*world
	t       *testing.T
	p       *pipeline.Pipeline
	random  *rand.Rand
	version int
	facts   []release.Facts
}

func newLife(t *testing.T, seed uint64) *life {
	trust := teamTrust(1, "alice")
	for _, name := range []string{"alice", "bob", "carol"} {
		trust.Roles[release.Approver] = append(trust.Roles[release.Approver], party(name))
	}
	w := newWorld()
	w.t = t
	l := &life{world: w, t: t, p: w.pipeline(), random: rand.New(rand.NewPCG(seed, 0))}
	l.p.Project.Trust, l.p.Project.Configuration = trust, release.DigestOf([]byte("rules"))
	l.p.Project.Environments[1].Approvals = release.Approvals{Required: 1, NotBy: []release.Role{release.Promoter}}
	l.p.Project.Environments[1].Soak = time.Hour
	l.p.Project.MaxAge = 10000 * time.Hour
	w.verdicts = func(f release.Facts) []release.Verdict {
		l.facts = append(l.facts, f)
		return gated(f)
	}
	return l
}

// act does something, whether it works or not.
func (l *life) act() {
	ctx, p := l.t.Context(), l.p
	environment := []string{"staging", "production"}[l.random.IntN(2)]
	l.now = l.now.Add(time.Duration(l.random.IntN(72)) * time.Hour)
	switch l.random.IntN(11) {
	case 0, 1:
		l.version++
		l.head.Version, l.head.Revision = fmt.Sprintf("v%d", l.version), fmt.Sprintf("%040d", l.version)
		_, _ = p.To(ctx, pipeline.PromoteOptions{Environment: "staging"})
	case 2, 3:
		last, ok := l.records.Deployed("staging")
		if !ok {
			return
		}
		who := []string{"alice", "bob", "carol"}[l.random.IntN(3)]
		_, _ = l.approve(p, who, pipeline.ApproveOptions{Environment: "production", Release: last.Record.Release.String(), Expires: 48 * time.Hour})
	case 4, 5:
		_, _ = p.To(ctx, pipeline.PromoteOptions{Environment: environment})
	case 6:
		_, _ = p.Rollback(ctx, pipeline.PromoteOptions{Environment: environment, Reason: "worse"})
	case 7:
		h := l.hosts[map[string]string{"staging": "stage", "production": "prod-2"}[environment]]
		h.applyErr = errBoom
		_, _ = p.To(ctx, pipeline.PromoteOptions{Environment: environment})
		h.applyErr = nil
		_, _ = p.Resume(ctx, pipeline.ResumeOptions{Environment: environment})
	case 8:
		_, _ = p.Freeze(ctx, pipeline.FreezeOptions{Environment: environment, Until: l.now.Add(24 * time.Hour), Reason: "holidays"})
	case 9:
		l.as("alice", func() { _, _ = p.Unfreeze(ctx, pipeline.UnfreezeOptions{Environment: environment, Reason: "back"}) })
	case 10:
		_, _ = p.To(ctx, pipeline.PromoteOptions{Environment: environment, Redeploy: true, Reason: "again"})
	}
}

// answers is all that somebody can learn without changing anything: status,
// what every promotion, rollback and resume would come to, and by which facts,
// what an approval would show, what differs.
func (l *life) answers(about []release.Digest) map[string]string {
	ctx, p := l.t.Context(), l.p
	out := map[string]string{}
	say := func(what string, got any, err error) {
		text, wrong := json.Marshal(got)
		if wrong != nil {
			l.t.Fatal(wrong)
		}
		facts, _ := json.Marshal(l.facts)
		out[what] = fmt.Sprintf("%s\n%v\n%s", text, err, facts)
		l.facts = nil
	}
	l.facts = nil
	status, err := p.Status(ctx, "")
	say("status", status, err)
	drift, err := p.Drift(ctx, pipeline.DriftOptions{})
	for _, h := range l.hosts {
		for i := range h.asked {
			h.asked[i].Key = "" // another one each time
		}
		text, _ := json.Marshal(h.asked)
		out["drift of "+h.name] = string(text)
		h.asked = nil
	}
	say("drift", drift, err)
	for _, env := range []string{"staging", "production"} {
		for what, o := range map[string]pipeline.PromoteOptions{"": {}, " again": {Redeploy: true}} {
			o.Environment, o.DryRun, o.Reason = env, true, "x"
			got, err := p.To(ctx, o)
			say("to "+env+what, got, err)
		}
		got, err := p.Rollback(ctx, pipeline.PromoteOptions{Environment: env, DryRun: true, Reason: "x"})
		say("rollback "+env, got, err)
		resumed, err := p.Resume(ctx, pipeline.ResumeOptions{Environment: env, DryRun: true})
		say("resume "+env, resumed, err)
		for _, d := range about {
			o := pipeline.PromoteOptions{Environment: env, Release: d.String(), DryRun: true, Reason: "x"}
			got, err := p.To(ctx, o)
			say("to "+env+" "+d.Short(), got, err)
			got, err = p.Rollback(ctx, o)
			say("rollback "+env+" "+d.Short(), got, err)
			approval, err := l.approve(p, "bob", pipeline.ApproveOptions{Environment: env, Release: d.String(), DryRun: true})
			say("approve "+env+" "+d.Short(), approval, err)
		}
	}
	l.beats = map[int64]int64{}
	return out
}

// TestNothingThatDecidesGoes: whatever happened, a ledger of which old lines were
// taken out gives the same status, decisions, facts, ways back and differences as
// the whole one, at once and after more has happened.
func TestNothingThatDecidesGoes(t *testing.T) {
	var gone, kept int64
	for seed := range uint64(9) {
		l := newLife(t, seed)
		for range 60 {
			l.act()
		}
		_, _ = l.p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "staging"})
		_, _ = l.p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "production"})
		o := pipeline.CompactOptions{Keep: 2 + int(seed%3), OlderThan: time.Duration(l.random.IntN(20*24)+1) * time.Hour}
		whole := slices.Clone(l.records)
		undo := func() {}
		if seed%4 == 3 {
			undo = pipeline.NameAtMost(2)
		}
		done, err := l.p.Compact(t.Context(), &attic{w: l.world}, o)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if undo(); seed%4 == 3 && len(done.Ranges) > 2 {
			t.Errorf("it names %v", done.Ranges)
		}
		gone, kept = gone+done.Compacted, kept+done.Records-done.Compacted
		if done.Compacted == 0 {
			continue
		}
		stripped := slices.Clone(l.records)
		whole = append(whole, stripped[len(whole):]...) // what says that they may go
		about := releasesIn(stripped)
		compare(t, fmt.Sprintf("seed %d", seed), l, whole, stripped, about)
		// What happens next is added to both.
		l.records = slices.Clone(stripped)
		for range 10 {
			l.act()
		}
		_, _ = l.p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "staging"})
		_, _ = l.p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "production"})
		more := l.records[len(stripped):]
		compare(t, fmt.Sprintf("seed %d, later", seed), l, append(whole[:len(whole):len(whole)], more...), slices.Clone(l.records), about)
		// A second compaction goes on from there, and the same holds.
		before := slices.Clone(l.records)
		l.now = l.now.Add(300 * time.Hour)
		if _, err := l.p.Compact(t.Context(), &attic{w: l.world}, o); err != nil {
			t.Fatalf("seed %d, again: %v", seed, err)
		}
		again := slices.Clone(l.records)
		compare(t, fmt.Sprintf("seed %d, again", seed), l, append(before[:len(before):len(before)], again[len(before):]...), again, releasesIn(again))
	}
	if gone < 100 || kept < 100 {
		t.Errorf("only %d records went and %d stayed: it proves little", gone, kept)
	}
	t.Logf("%d records went, %d stayed", gone, kept)
}

func releasesIn(h release.History) []release.Digest {
	var list []release.Digest
	for _, e := range h {
		if d := e.Record.Release; !d.IsZero() && !slices.Contains(list, d) {
			list = append(list, d)
		}
	}
	return list
}

func compare(t *testing.T, what string, l *life, whole, stripped release.History, about []release.Digest) {
	t.Helper()
	for _, e := range stripped {
		for _, of := range []*int64{e.Record.Intent, e.Record.Resumes} {
			if of != nil && stripped[*of].Stub() {
				t.Errorf("%s: record %d stays, and %d of the same attempt does not", what, e.Record.Sequence, *of)
			}
		}
	}
	l.records = slices.Clone(whole)
	want := l.answers(about)
	l.records = slices.Clone(stripped)
	got := l.answers(about)
	for question, answer := range want {
		if got[question] != answer {
			t.Fatalf("%s: %s: with all lines\n%s\nwithout those that went\n%s", what, question, answer, got[question])
		}
	}
}

// settledLife has something old to compact and nothing open.
func settledLife(t *testing.T) *life {
	l := newLife(t, 7)
	for range 60 {
		l.act()
	}
	for _, env := range []string{"staging", "production"} {
		if _, err := l.p.Resume(t.Context(), pipeline.ResumeOptions{Environment: env}); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

var compacting = pipeline.CompactOptions{Keep: 2, OlderThan: 48 * time.Hour}

// TestCompactInOrder: archive, record, lines; a dry run none of it; again,
// nothing.
func TestCompactInOrder(t *testing.T) {
	l := settledLife(t)
	a := &attic{w: l.world}
	before := len(l.records)
	dry := compacting
	dry.DryRun = true
	would, err := l.p.Compact(t.Context(), a, dry)
	if err != nil || would.Compacted == 0 || would.Bytes != 100*would.Compacted || a.archives+a.strips > 0 || len(l.records) != before || would.Archive != nil || len(would.Kept) == 0 {
		t.Fatalf("a dry run: %+v, %v", would, err)
	}
	var stayed int64
	for _, k := range would.Kept {
		stayed += k.Records
	}
	if stayed+would.Compacted != would.Records {
		t.Errorf("%d records, %d go, %d stay for a reason", would.Records, would.Compacted, stayed)
	}
	a.onMake = func() {
		if len(l.records) != before || l.records.Stubs() > 0 {
			t.Error("something was done before the archive was there")
		}
	}
	a.onStrip = func() error {
		last := l.records[len(l.records)-1].Record
		if last.Phase != release.Compacted || last.Compaction.Archive != a.there.Digest || !slices.Equal(last.Compaction.Ranges, would.Ranges) || l.records.Stubs() > 0 {
			t.Errorf("lines would go, and the last record is %+v", last)
		}
		for _, r := range last.Compaction.Ranges {
			for n := r.From; n <= r.To; n++ {
				if !l.records[n].Record.Time.Before(l.now.Add(-compacting.OlderThan)) {
					t.Errorf("record %d is of %s, and that is too young", n, l.records[n].Record.Time)
				}
				if !l.records[n].Record.Time.Before(last.Compaction.Before) {
					t.Errorf("record %d is of %s, and all shall be before %s", n, l.records[n].Record.Time, last.Compaction.Before)
				}
			}
		}
		return nil
	}
	done, err := l.p.Compact(t.Context(), a, compacting)
	if err != nil || done.Compacted != would.Compacted || done.Record == nil || l.records.Stubs() != done.Compacted {
		t.Fatalf("%+v, %v", done, err)
	}
	if again, err := l.p.Compact(t.Context(), a, compacting); err != nil || again.Compacted != 0 || again.Earlier != done.Compacted || a.archives != 1 || a.strips != 1 {
		t.Errorf("again: %+v, %v", again, err)
	}
	found, err := l.p.Log(t.Context(), pipeline.LogFilter{Environment: "staging"})
	if err != nil || len(found.Compacted) != 1 || found.Compacted[0].Records != done.Compacted || found.Compacted[0].Archive != done.Archive.Digest {
		t.Errorf("the log says %+v, %v", found.Compacted, err)
	}
	for _, e := range found.Records {
		if e.Stub() {
			t.Error("the log shows a record that nothing is known of")
		}
	}
}

// TestCompactGoesOn: killed between record and lines, the same command ends it
// with the archive that is there; with another archive a new record names all.
func TestCompactGoesOn(t *testing.T) {
	for name, other := range map[string]bool{"the same archive": false, "another": true} {
		l := settledLife(t)
		a := &attic{w: l.world}
		a.onStrip = func() error { return release.Unavailable("", "the disk is full") }
		_, err := l.p.Compact(t.Context(), a, compacting)
		wantKind(t, err, release.KindUnavailable)
		size := len(l.records)
		if a.onStrip = nil; other {
			a.there = nil
		}
		done, err := l.p.Compact(t.Context(), a, compacting)
		if err != nil || done.Compacted == 0 || l.records.Stubs() != done.Compacted || done.Finished == other || (len(l.records) == size) == other || (a.archives == 2) != other {
			t.Errorf("%s: %+v, %v; %d records", name, done, err, len(l.records)-size)
		}
	}
}

// TestCompactKeepsOutOfTheWay of promotions, of whoever writes at the same time,
// and of who may not.
func TestCompactKeepsOutOfTheWay(t *testing.T) {
	intend := func(l *life) {
		l.records = append(l.records, release.Entry{Record: release.Record{Phase: release.Intended, Environment: "production", Sequence: int64(len(l.records)), LeaseSeconds: 1}})
	}
	l := settledLife(t)
	a := &attic{w: l.world}
	intend(l)
	_, err := l.p.Compact(t.Context(), a, compacting)
	wantKind(t, err, release.KindHeld)
	if a.archives > 0 {
		t.Error("it archived all the same")
	}

	l = settledLife(t)
	a = &attic{w: l.world}
	moved := 0
	a.onStrip = func() error {
		if moved++; moved == 1 {
			l.records = append(l.records, release.Entry{Record: release.Record{Phase: release.Watched, Sequence: int64(len(l.records)), Rules: l.records[0].Record.Rules}})
			return release.ErrMoved
		}
		return nil
	}
	if done, err := l.p.Compact(t.Context(), a, compacting); err != nil || moved != 2 || done.Compacted == 0 {
		t.Errorf("somebody wrote meanwhile: %+v, %v", done, err)
	}

	l = settledLife(t)
	a = &attic{w: l.world, onStrip: func() error { intend(l); return release.ErrMoved }}
	_, err = l.p.Compact(t.Context(), a, compacting)
	wantKind(t, err, release.KindHeld)
	if a.strips != 1 || errors.Is(err, release.ErrMoved) {
		t.Errorf("a promotion began meanwhile: tried %d times, %v", a.strips, err)
	}

	l = settledLife(t)
	l.as("bob", func() { _, err = l.p.Compact(t.Context(), &attic{w: l.world}, compacting) })
	wantKind(t, err, release.KindDenied)
	for _, o := range []pipeline.CompactOptions{{Keep: 1}, {Keep: 2, OlderThan: -1}} {
		_, err = l.p.Compact(t.Context(), &attic{w: l.world}, o)
		wantKind(t, err, release.KindUsage)
	}
}

// TestAClockBehindTheCompaction: this machine's last record may be among those
// that went.
func TestAClockBehindTheCompaction(t *testing.T) {
	l := settledLife(t)
	if _, err := l.p.Compact(t.Context(), &attic{w: l.world}, compacting); err != nil {
		t.Fatal(err)
	}
	c := l.records.Compactions()[0].Record.Compaction
	for i := range l.records {
		l.records[i].Record.Actor.Host = "elsewhere"
	}
	l.p.Project.Actor.Host = "here"
	for at, want := range map[time.Time]bool{c.Before.Add(-time.Hour): true, c.Before.Add(time.Hour): false} {
		l.now = at
		_, err := l.p.To(t.Context(), pipeline.PromoteOptions{Environment: "production", DryRun: true})
		if got := release.KindOf(err) == release.KindUnavailable; got != want {
			t.Errorf("at %s, records of up to %s: %v", at, c.Before, err)
		}
	}
}
