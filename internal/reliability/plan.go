package reliability

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Plan says what Run tries.
type Plan struct {
	World      Options
	Rows       string // a file that keeps finished trials
	Table      string // the document
	RacesFile  string // what the races of goroutines came to
	Races      int    // of processes
	Randoms    int
	Most       int // points of each kind; 0 is all
	Lanes      int
	Only       string // what is tried, as Point.Of names it; empty: everything
	OnlyReport bool
	Clean      bool
}

// Run holds every trial that is not in the file of rows yet, and writes the
// document. A finding is an error at the end.
func Run(ctx context.Context, p Plan) error {
	rows, err := readRows(p.Rows)
	if err != nil {
		return err
	}
	if !p.OnlyReport {
		if rows, err = p.try(ctx, rows); err != nil {
			return err
		}
	}
	if p.Table != "" {
		if err := writeTable(p.Table, p.RacesFile, rows, p.whole()); err != nil {
			return err
		}
	}
	for _, r := range rows {
		if r.Fault != "" {
			err = errors.Join(err, fmt.Errorf("%s: %s", r.Key(), r.Fault))
		}
	}
	return err
}

// readRows reads what earlier runs found, if anything.
func readRows(path string) ([]Row, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) || path == "" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var rows []Row
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r Row
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			continue // the last line of a run that was killed
		}
		rows = append(rows, r)
	}
	return rows, lines.Err()
}

// try surveys, and shares the points that are left among the lanes.
func (p Plan) try(ctx context.Context, rows []Row) ([]Row, error) {
	version, err := exec.CommandContext(ctx, p.World.Binary, "version").Output()
	if err != nil {
		return rows, err
	}
	program, _, _ := strings.Cut(string(version), "\n")
	done := map[string]bool{}
	for _, r := range rows {
		done[r.Key()] = true
	}
	var mu sync.Mutex
	keep := func(r Row) error {
		r.Program = program
		mu.Lock()
		defer mu.Unlock()
		rows = append(rows, r)
		fmt.Fprintf(p.World.Log, "%-50s %-32s %-8s %-4s %4.1fs %s\n", r.Key(), r.What, r.Ledger, r.Outcome, r.Seconds, r.Fault)
		return appendRow(p.Rows, r)
	}
	points := make(chan Point)
	errs := make(chan error, p.Lanes+1)
	surveyed := make(chan []Point, 1)
	var lanes sync.WaitGroup
	for i := range p.Lanes {
		lanes.Go(func() { errs <- p.lane(ctx, i, surveyed, points, keep) })
	}
	go func() {
		defer close(points)
		var all []Point
		select {
		case all = <-surveyed:
		case <-ctx.Done():
		}
		for _, point := range all {
			if done[point.Key()] || !p.wants(point.Of) {
				continue
			}
			select {
			case points <- point:
			case <-ctx.Done():
				return
			}
		}
	}()
	lanes.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	return rows, err
}

// lane is one workspace; the first one makes the survey for all.
func (p Plan) lane(ctx context.Context, i int, surveyed chan<- []Point, points <-chan Point, keep func(Row) error) error {
	o := p.World
	o.Dir = filepath.Join(o.Dir, fmt.Sprintf("lane-%d", i+1))
	if i == 0 {
		defer close(surveyed)
	}
	w, err := Open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	if i == 0 {
		all, err := p.survey(ctx, w)
		if err != nil {
			return err
		}
		surveyed <- all
	}
	for point := range points {
		try := w.Try
		switch point.Of {
		case OfDisk:
			try = w.TryDisk
		case OfRace:
			try = w.TryRace
		}
		row, err := try(ctx, point)
		if err != nil {
			return fmt.Errorf("%s: %w", point.Key(), err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := keep(row); err != nil {
			return err
		}
	}
	if p.Clean {
		return w.Remove(context.WithoutCancel(ctx))
	}
	return nil
}

func (p Plan) survey(ctx context.Context, w *World) ([]Point, error) {
	var all []Point
	counted := map[string]map[string][]string{}
	for _, of := range []string{OfUpdate, OfRestore, OfResume, OfFirst} {
		if !p.wants(of) && !(of == OfUpdate && p.wants(OfUndo)) && !(of == OfUpdate && p.wants(OfDisk)) && !(of == OfRestore && p.wants(OfUndoneRestore)) {
			continue
		}
		seen, took, err := p.surveyed(ctx, w, of)
		if err != nil {
			return nil, fmt.Errorf("surveying %s: %w", of, err)
		}
		fmt.Fprintf(p.World.Log, "%s: %d engine requests, %d registry requests, %d calls, %s\n", of, len(seen[AtEngine]), len(seen[AtRegistry]), len(seen[AtCall]), took)
		counted[of] = seen
		switch of {
		case OfUpdate:
			all = append(all, Points(of, seen, took, p.Randoms, p.Most)...)
			all = append(all, Points(OfUndo, effects(seen), took, p.Randoms/10, p.Most)...)
		case OfRestore:
			// It asks the registry what every rollback does.
			here := map[string][]string{AtEngine: seen[AtEngine], AtCall: seen[AtCall]}
			all = append(all, Points(of, here, took, p.Randoms/2, p.Most)...)
			all = append(all, Points(OfUndoneRestore, effects(seen), took, p.Randoms/10, p.Most)...)
		default: // all points are those of an update; of the others a part
			most := 12
			if p.Most > 0 {
				most = min(most, p.Most)
			}
			all = append(all, Points(of, seen, took, 0, most)...)
		}
	}
	all = slices.Concat(all, DiskPoints(len(counted[OfUpdate][AtCall]), p.Most), RacePoints(p.Races))
	random, when := rand.New(rand.NewPCG(6, 6)), map[string]float64{}
	for _, point := range all {
		when[point.Key()] = urgency(point, counted[point.Of][point.Where], random)
	}
	slices.SortStableFunc(all, func(a, b Point) int { return cmp.Compare(when[a.Key()], when[b.Key()]) })
	return all, nil
}

// wants reports whether a kind of trial is to be held.
func (p Plan) wants(of string) bool {
	return p.Only == "" || slices.Contains(strings.Split(p.Only, ","), of)
}

// effects are the engine requests of a survey that may change something.
func effects(seen map[string][]string) map[string][]string {
	return map[string][]string{AtEngine: slices.DeleteFunc(slices.Clone(seen[AtEngine]), reads)}
}

// surveyed gives what an earlier run counted, so that both mean the same by the
// n-th request, or counts.
func (p Plan) surveyed(ctx context.Context, w *World, of string) (map[string][]string, time.Duration, error) {
	var kept struct {
		Seen map[string][]string
		Took time.Duration
	}
	file := filepath.Join(p.World.Dir, "survey-"+of+".json")
	if raw, err := os.ReadFile(file); err == nil {
		err = json.Unmarshal(raw, &kept)
		return kept.Seen, kept.Took, err
	}
	if of == OfUpdate { // once before, so that there is a snapshot too many
		if _, _, err := w.Survey(ctx, of); err != nil {
			return nil, 0, err
		}
	}
	var err error
	if kept.Seen, kept.Took, err = w.Survey(ctx, of); err != nil {
		return nil, 0, err
	}
	raw, err := json.Marshal(kept)
	if err != nil {
		return nil, 0, err
	}
	return kept.Seen, kept.Took, os.WriteFile(file, raw, 0o644)
}

// whole gives how many points a promotion and a restore have in all, as they were
// surveyed; 0 if they were not.
func (p Plan) whole() int {
	n := 0
	for of, where := range map[string][]string{OfUpdate: {AtEngine, AtRegistry, AtCall}, OfRestore: {AtEngine, AtCall}} {
		raw, err := os.ReadFile(filepath.Join(p.World.Dir, "survey-"+of+".json"))
		var kept struct{ Seen map[string][]string }
		if err != nil || json.Unmarshal(raw, &kept) != nil {
			continue
		}
		randoms := p.Randoms
		if of == OfRestore {
			randoms /= 2
		}
		n += randoms
		for _, at := range where {
			n += 2 * len(kept.Seen[at])
		}
	}
	return n
}

func appendRow(path string, r Row) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = f.Write(append(raw, '\n'))
	return errors.Join(err, f.Close())
}
