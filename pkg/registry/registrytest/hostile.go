package registrytest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
)

// Hostile runs everything that a registry may do wrong against everything that
// promote does with a registry: each numbered case of the threat table with its
// scenarios, and with its cells of the matrix of faults, things served and
// operations, of which every nth is run. The backend must be a Keeper.
func Hostile(t *testing.T, b Backend, nth int) {
	b.nth = nth
	all := cells(b)
	for _, c := range Cases() {
		t.Run(c.Name(), func(t *testing.T) {
			t.Parallel()
			for name, run := range c.runs {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					run(t, b)
				})
			}
			for i, cell := range all {
				if !c.has(cell) || i%nth != 0 {
					continue
				}
				t.Run(cell.name(), func(t *testing.T) {
					t.Parallel()
					cell.run(t, b)
				})
			}
		})
	}
}

// cells is every fault of the source times every thing it serves times every
// operation that reads it.
func cells(b Backend) []cell {
	var list []cell
	for _, x := range contents(b).targets() {
		for _, op := range operations() {
			if !slices.Contains(op.touches, x.name) {
				continue
			}
			for _, f := range sourceFaults() {
				if kind, ok := f.kinds[x.kind]; ok {
					list = append(list, cell{f, x.name, op, kind})
				}
			}
		}
	}
	return list
}

type cell struct {
	fault
	target string
	op     operation
	kind   release.Kind
}

func (c cell) name() string { return fmt.Sprintf("%s/%s/%s", c.fault.name, c.target, c.op.name) }

func (c cell) run(t *testing.T, b Backend) {
	limits := FastLimits()
	if c.fault.limits != nil {
		limits = c.fault.limits()
	}
	w := newWorld(t, b, limits)
	targets := w.targets()
	x := targets[slices.IndexFunc(targets, func(x target) bool { return x.name == c.target })]
	state, do := c.op.run(t, w)
	w.src.On("GET", x.pattern, c.fault.do(w, x))
	before := state()
	err := do()
	after := state()

	if c.tolerated(x) && (err == nil || errors.Is(err, errNothing)) {
		return
	}
	words := []string{}
	if c.fault.served != nil && (x.kind == aManifest || x.kind == aBlob) {
		words = []string{x.blob.Digest.String(), release.DigestOf(c.fault.served(w, x)).String()}
	}
	kind := c.kind
	if c.op.name == "blob" && c.fault.bytes { // nobody said how long it is
		kind = denied
	}
	refused(t, err, kind, words...)
	if errors.Is(err, registry.ErrNotFound) && !c.plainAbsence(x) {
		t.Errorf("this looks like a plain absence: %v", err)
	}
	switch {
	case x.kind == aBlob:
		UnchangedButParts(t, before, after, w.parts(x))
	case c.op.name == "attach" && x.evidence:
		// What is attached is there before it is listed.
	default:
		Unchanged(t, before, after)
	}
}

// parts are what may be at the destination when a blob turns out to be bad:
// everything that is neither that blob nor a manifest that needs it.
func (w *world) parts(bad target) []release.Digest {
	var list []release.Digest
	var add func(img Image) bool
	add = func(img Image) bool {
		whole := true
		for _, c := range img.Children {
			whole = add(c) && whole
		}
		for _, b := range img.Blobs {
			if b.Digest == bad.blob.Digest {
				whole = false
			} else {
				list = append(list, b.Digest)
			}
		}
		if whole {
			list = append(list, img.Manifest.Digest)
		}
		return whole
	}
	add(w.index)
	add(w.evidence)
	return list
}

// tolerated reports whether the operation may go well: the lie concerns what
// counts for nothing if it isn't right, or it was never heard.
func (c cell) tolerated(x target) bool {
	return c.fault.once || c.fault.drops && x.evidence || c.fault.hides && x.kind == aListing
}

// plainAbsence reports whether a 404 is an answer to what was asked, not a hole
// in what was found.
func (c cell) plainAbsence(x target) bool {
	if !c.fault.absent {
		return false
	}
	switch x.name {
	case "child", "nested index", "grandchild", "config", "release layer":
		return false
	case "layer":
		return c.op.name == "blob"
	}
	return true
}
