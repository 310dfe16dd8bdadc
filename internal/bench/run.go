package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Options say what to run.
type Options struct {
	Only   []string // ids of cases; empty is all
	Delays []int    // milliseconds before each request is served
	Runs   int      // of each copy, at most
	// Largest leaves out images with more bytes; 0 is no bound.
	Largest int64
	Log     io.Writer
}

// Result is what runs of one tool in one case came to.
type Result struct {
	Case         string   `json:"case"`
	Work         string   `json:"work"`
	Spec         Spec     `json:"spec"`
	Delay        int      `json:"delayMilliseconds"`
	Tool         *Tool    `json:"tool"`
	Milliseconds Times    `json:"milliseconds"` // of the runs that succeeded
	CPU          float64  `json:"cpuMilliseconds,omitempty"`
	Source       Count    `json:"source"` // of the run with the median number of requests
	Destination  Count    `json:"destination"`
	Requests     [2]int64 `json:"requestsLeastMost"`
	Failed       int      `json:"failed,omitempty"`
	Errors       []string `json:"errors,omitempty"`
	Again        *Again   `json:"sentAgain,omitempty"` // of faulty cases
	Target       float64  `json:"target,omitempty"`
	Ratio        float64  `json:"ratio,omitempty"` // its time ÷ ours of the same kind
	Reached      *bool    `json:"reached,omitempty"`
	Note         string   `json:"note,omitempty"`

	faulty bool
}

// Again is what was sent more than once, in bytes: the most of all runs.
type Again struct {
	Read    int64 `json:"read"`
	Written int64 `json:"written"`
}

// sample is one run.
type sample struct {
	cost                Cost
	source, destination Count
	err                 error
}

// Suite runs cases.
type Suite struct {
	World *World
	Tools func(c Case) ([]*Tool, error)
	// Found is told all results so far, after each case and delay: a run that is
	// stopped has not been for nothing. Nil is nobody.
	Found func([]Result) error
	Options
	copies int
}

// Run runs what the options choose.
func (s *Suite) Run(ctx context.Context) ([]Result, error) {
	var results []Result
	var last *Image
	for _, c := range Cases() {
		delays := slices.DeleteFunc(slices.Clone(s.Delays), func(d int) bool { return c.Delays != nil && !slices.Contains(c.Delays, d) })
		if !s.Wants(c.ID) || len(delays) == 0 || s.Largest > 0 && c.Spec.total() > s.Largest {
			continue
		}
		image, err := s.place(c, last)
		if err != nil {
			return nil, fmt.Errorf("preparing %s: %w", c.ID, err)
		}
		last = image
		tools, err := s.Tools(c)
		if err != nil {
			return nil, err
		}
		for _, delay := range delays {
			found, err := s.measure(ctx, c, image, tools, delay)
			if err != nil {
				return nil, fmt.Errorf("%s, %s, %s, %d ms: %w", c.ID, c.Work, c.Spec, delay, err)
			}
			results = append(results, found...)
			if s.Found == nil {
				continue
			}
			if err := s.Found(results); err != nil {
				return nil, err
			}
		}
	}
	return results, nil
}

// place puts a case's image at the source, unless it is there.
func (s *Suite) place(c Case, last *Image) (*Image, error) {
	image := last
	if last == nil || last.Spec != c.Spec {
		s.say("making an image of %s", c.Spec)
		if err := s.World.Source.Empty(); err != nil {
			return nil, err
		}
		if err := s.World.Destination.Empty(); err != nil {
			return nil, err
		}
		var err error
		if image, err = NewImage(c.Spec, uint64(c.Spec.total())); err != nil {
			return nil, err
		}
		if err := s.World.Source.Put(sourceRepository, tag, image); err != nil {
			return nil, err
		}
	}
	if c.setup == nil {
		return image, nil
	}
	return image, c.setup(s.World, image)
}

// libraryDelays are those at which libraries take part: a process's start
// matters most without a delay.
var libraryDelays = few

// measure lets a case's tools take turns.
func (s *Suite) measure(ctx context.Context, c Case, image *Image, tools []*Tool, delay int) ([]Result, error) {
	tools = slices.DeleteFunc(slices.Clone(tools), func(t *Tool) bool { return t.Library && !slices.Contains(libraryDelays, delay) })
	runs := s.Runs
	if c.Most > 0 {
		runs = min(runs, c.Most)
	}
	// What a first copy reads from the disk and learns about a registry doesn't
	// count. Short runs leave that out for peers, who learn nothing.
	first := 0
	if !c.Faulty {
		first = -1
	}
	samples := make([][]sample, len(tools))
	begun := time.Now()
	for round := first; round < runs; round++ {
		for turn := range tools {
			n := (turn + max(round, 0)) % len(tools)
			if round < 0 && runs < 5 && !tools[n].Ours {
				continue
			}
			taken, err := s.copy(ctx, c, image, tools[n], delay)
			if err == nil && taken.err != nil && !c.Faulty {
				err = taken.err
			}
			if err != nil {
				return nil, err
			}
			if round >= 0 {
				samples[n] = append(samples[n], taken)
			}
		}
		if time.Since(begun) > 10*time.Second {
			begun = time.Now()
			s.say("%s %s, %s, %d ms: round %d of %d", c.ID, c.Work, c.Spec, delay, round+1, runs)
		}
	}
	var results []Result
	for n, t := range tools {
		results = append(results, sum(c, image, t, delay, samples[n]))
	}
	compare(results, c.Target)
	for _, r := range results {
		s.say("%s", r)
	}
	return results, nil
}

// copy does one copy. What went wrong with the copy itself is in the sample.
func (s *Suite) copy(ctx context.Context, c Case, image *Image, t *Tool, delay int) (sample, error) {
	if err := ctx.Err(); err != nil {
		return sample{}, err
	}
	s.copies++
	j, err := c.prepare(s.World, image, s.copies)
	if err != nil {
		return sample{}, fmt.Errorf("preparing: %w", err)
	}
	pause := time.Duration(delay) * time.Millisecond
	s.World.Source.Begin(pause, j.sourceFault)
	s.World.Destination.Begin(pause, j.destinationFault)
	most := toolTime
	if c.Faulty {
		most = faultyTime
	}
	limited, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("has not ended within %s", most))
	defer cancel()
	var taken sample
	taken.cost, taken.err = t.copy(limited, j.src, j.dst)
	var ends [2]error
	taken.source, ends[0] = s.World.Source.End()
	taken.destination, ends[1] = s.World.Destination.End()
	if err := errors.Join(ends[:]...); err != nil {
		return sample{}, fmt.Errorf("%s: %w", t.Label(), err)
	}
	if taken.err == nil {
		if err := j.check(t); err != nil {
			taken.err = fmt.Errorf("%s says that it copied, but %w", t.Label(), err)
		}
	}
	return taken, nil
}

func (s *Suite) say(format string, args ...any) {
	if s.Log != nil {
		fmt.Fprintf(s.Log, "bench: "+format+"\n", args...)
	}
}

// Wants reports whether the options choose a case.
func (o Options) Wants(id string) bool { return len(o.Only) == 0 || slices.Contains(o.Only, id) }
