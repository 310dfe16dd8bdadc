package bench

import (
	"fmt"
	"time"
)

// Target is what peer's time ÷ ours should be at least, against peers as they
// come and as well as they can be tuned. 0 is no target.
type Target struct {
	Default float64 `json:"default"`
	Tuned   float64 `json:"tuned"`
}

// Case is one kind of copy.
type Case struct {
	ID     string // as in the list of benchmarks: "B1"
	Work   string
	Spec   Spec
	Target Target
	// Delays are those that it is worth its time for; nil is all.
	Delays []int
	// Most bounds the number of runs; 0 is no bound.
	Most int
	// Kind of tools that take part.
	Tools toolSet
	// Faulty cases expect some to fail, and read everything back.
	Faulty bool
	// Note explains what a reader would ask.
	Note string

	// setup is done once, with the image at the source as team/app:v1.
	setup func(w *World, i *Image) error
	// prepare is done before each copy. n is never the same.
	prepare func(w *World, i *Image, n int) (job, error)
}

type toolSet int

const (
	images    toolSet = iota // copy the image alone
	evidence                 // copy what refers to it, too
	tags                     // copy what cosign's tags hold, too
	resilient                // with what they have against bad networks
)

// job is one copy to do.
type job struct {
	src, dst                      string
	sourceFault, destinationFault Fault
	check                         func(t *Tool) error
}

const (
	sourceRepository = "team/app"
	tag              = "v1"
)

// few are the delays for cases that take long.
var few = []int{0, 20}

// Cases lists what is measured, in order.
func Cases() []Case {
	var list []Case
	for _, s := range []Spec{{4, 4 * kib}, {10, 4 * kib}, {60, 4 * kib}, {4, 10 * mib}, {10, 10 * mib}, {60, 10 * mib}, {4, 200 * mib}, {10, 200 * mib}} {
		list = append(list, cold(s))
	}
	list = append(list, nothing(false), nothing(true))
	for _, s := range []Spec{{10, 10 * mib}, {60, 4 * kib}} {
		list = append(list, newTag(s), newManifest(s))
	}
	return append(list, otherRepository(), otherRepositoryTags(), brokenDownload(), brokenUpload(), storm())
}

// Skipped says which combinations are not measured, and why.
const Skipped = "B1 with 60 × 200 MB is left out: source and destination would be 24 GB, and the machine keeps both in memory."

func cold(s Spec) Case {
	c := Case{ID: "B1", Work: "cold copy", Spec: s, prepare: func(w *World, i *Image, _ int) (job, error) {
		return to(w, i, "prod/app"), w.Destination.Empty()
	}}
	switch {
	case s.Bytes >= mib:
		c.Target, c.Delays = Target{0.95, 0.95}, few
		if s.total() >= 500*mib {
			c.Most = 3
		}
	case s.Layers == 60:
		c.Target = Target{7, 1.7}
	}
	return c
}

// to copies between the registries.
func to(w *World, i *Image, repository string) job {
	return job{
		src: w.Source.Ref(sourceRepository, tag), dst: w.Destination.Ref(repository, tag),
		check: func(*Tool) error { return w.Destination.Holds(repository, tag, i, false) },
	}
}

func nothing(byDigest bool) Case {
	const repository = "prod/app"
	c := Case{ID: "B2", Work: "nothing to do, source by tag", Spec: Spec{10, 4 * kib}, Target: Target{2.4, 2.4},
		setup: func(w *World, i *Image) error {
			if err := w.Destination.Empty(); err != nil {
				return err
			}
			return w.Destination.Put(repository, tag, i)
		},
		prepare: func(w *World, i *Image, _ int) (job, error) {
			j := to(w, i, repository)
			if byDigest {
				j.src = w.Source.Ref(sourceRepository, i.Digest)
			}
			return j, nil
		}}
	if byDigest {
		c.Work = "nothing to do, source by digest"
	}
	return c
}

// seed puts an image's blobs where repositories can take them from.
func seed(w *World, i *Image) error {
	if err := w.Destination.Empty(); err != nil {
		return err
	}
	return w.Destination.Put("seed/app", "seed", i)
}

func newTag(s Spec) Case {
	return Case{ID: "B3", Work: "new tag, image present", Spec: s, Target: Target{9, 3}, setup: seed,
		prepare: func(w *World, i *Image, n int) (job, error) { return present(w, i, i, n) }}
}

func newManifest(s Spec) Case {
	return Case{ID: "B3", Work: "new manifest, blobs present", Spec: s, Target: Target{9, 3}, setup: seed,
		prepare: func(w *World, i *Image, n int) (job, error) {
			other, err := i.Variant()
			if err != nil {
				return job{}, err
			}
			return present(w, i, other, n)
		}}
}

// present makes a repository that has another tag with the image's blobs.
func present(w *World, i, there *Image, n int) (job, error) {
	repository := fmt.Sprintf("prod/app-%05d", n)
	if err := w.Destination.Mount(repository, "seed/app", i); err != nil {
		return job{}, err
	}
	if err := w.Destination.PutManifest(repository, "v0", there); err != nil {
		return job{}, err
	}
	return to(w, i, repository), w.Destination.Lacks(repository, tag)
}

// otherRepository copies evidence that is attached as referrers.
func otherRepository() Case {
	const from = "team/attested"
	var attached []*Image
	return within("with signature and SBOM as referrers", from, evidence,
		func(r *Registry, i *Image) (err error) {
			if attached, err = referrers(i); err != nil {
				return err
			}
			return r.Attach(from, i, attached)
		},
		func(r *Registry, repository string, i *Image) error { return r.Lists(repository, i, attached) })
}

// otherRepositoryTags copies evidence that cosign keeps under tags of its own.
func otherRepositoryTags() Case {
	const from = "team/tagged"
	var tagged []*Image
	return within("with signature and SBOM under cosign's tags", from, tags,
		func(r *Registry, i *Image) (err error) {
			if tagged, err = cosignTags(); err != nil {
				return err
			}
			for n, suffix := range cosignSuffixes {
				if err := r.Put(from, fallback(i.Digest)+suffix, tagged[n]); err != nil {
					return err
				}
			}
			return nil
		},
		func(r *Registry, repository string, i *Image) error {
			for n, suffix := range cosignSuffixes {
				if err := r.Holds(repository, fallback(i.Digest)+suffix, tagged[n], false); err != nil {
					return err
				}
			}
			return nil
		})
}

// within copies between repositories of the source registry: from one that has
// evidence of one form, to a new one.
func within(work, from string, tools toolSet, attach func(*Registry, *Image) error, attached func(*Registry, string, *Image) error) Case {
	return Case{ID: "B4", Work: "other repository of the same registry, " + work, Spec: Spec{10, 10 * mib}, Target: Target{3, 1.6}, Tools: tools,
		setup: func(w *World, i *Image) error {
			if err := w.Source.Mount(from, sourceRepository, i); err != nil {
				return err
			}
			if err := w.Source.PutManifest(from, tag, i); err != nil {
				return err
			}
			return attach(w.Source, i)
		},
		prepare: func(w *World, i *Image, n int) (job, error) {
			repository := fmt.Sprintf("prod/app-%05d", n)
			j := job{src: w.Source.Ref(from, tag), dst: w.Source.Ref(repository, tag)}
			j.check = func(t *Tool) error {
				if err := w.Source.Holds(repository, tag, i, false); err != nil || !t.Evidence {
					return err
				}
				return attached(w.Source, repository, i)
			}
			return j, w.Source.Lacks(repository, tag)
		}}
}

// cosignSuffixes are what legacy evidence is tagged with, after the digest.
var cosignSuffixes = []string{".sig", ".att"}

// referrers are a signature and an SBOM about an image, in the form that cosign
// 2.6 and 3 attach bundles. They are not real: nobody who copies verifies them.
func referrers(about *Image) ([]*Image, error) {
	subject := about.descriptor()
	var list []*Image
	for _, predicate := range []struct {
		name string
		size int
	}{{"https://sigstore.dev/cosign/sign/v1", 4 * kib}, {"https://cyclonedx.org/bom", 256 * kib}} {
		i, err := artifact(manifest{ArtifactType: typeBundle, Subject: &subject,
			Annotations: map[string]string{"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": predicate.name}},
			typeBundle, noise(predicate.name, predicate.size), nil)
		if err != nil {
			return nil, err
		}
		list = append(list, i)
	}
	return list, nil
}

// cosignTags are the same as cosign keeps them under tags of its own.
func cosignTags() ([]*Image, error) {
	signature, err := artifact(manifest{}, typeSimple, noise("sig", 300), map[string]string{"dev.cosignproject.cosign/signature": "MEQ="})
	if err != nil {
		return nil, err
	}
	attestation, err := artifact(manifest{}, "application/vnd.dsse.envelope.v1+json", noise("att", 256*kib), map[string]string{"predicateType": "https://cyclonedx.org/bom"})
	return []*Image{signature, attestation}, err
}

// limits of the third kind: what is lost on the way.
const (
	large      = gib
	stormAfter = 20
	stormLasts = 3 * time.Second
	stormAsks  = time.Second
)

func brokenDownload() Case {
	return broken("connection from the source lost at half of a layer", func(j *job) { j.sourceFault = CutDownload(large / 2) })
}

func brokenUpload() Case {
	c := broken("connection to the destination lost at half of a layer", func(j *job) { j.destinationFault = CutUpload(large / 2) })
	c.Note = "regctl goes on where the registry stopped, but once it has resumed inside a chunk, it sends only as much at a time as was left of that one: here less than 200 bytes. Other sizes of layers fare better."
	return c
}

func broken(work string, breaks func(*job)) Case {
	return Case{ID: "B16", Work: work, Spec: Spec{1, large}, Delays: []int{0}, Most: 3, Tools: resilient, Faulty: true,
		prepare: func(w *World, i *Image, _ int) (job, error) {
			j := whole(w, i)
			breaks(&j)
			return j, w.Destination.Empty()
		}}
}

// whole is a copy whose result is read back.
func whole(w *World, i *Image) job {
	j := to(w, i, "prod/app")
	j.check = func(*Tool) error { return w.Destination.Holds("prod/app", tag, i, true) }
	return j
}

func storm() Case {
	return Case{ID: "B16", Work: fmt.Sprintf("429 to everything for %s, with Retry-After: %d", stormLasts, int(stormAsks.Seconds())),
		Spec: Spec{60, 4 * kib}, Delays: []int{20}, Most: 5, Tools: resilient, Faulty: true,
		prepare: func(w *World, i *Image, _ int) (job, error) {
			j := whole(w, i)
			j.sourceFault, j.destinationFault = Storm(stormAfter, stormLasts, stormAsks), Storm(stormAfter, stormLasts, stormAsks)
			return j, w.Destination.Empty()
		}}
}
