package registry

import "time"

// Limits bounds what a registry may make us read, hold or wait for. A zero
// field means its default.
type Limits struct {
	// Manifest is the most bytes of one manifest or listing page. Default 4 MiB,
	// the size that registries must accept.
	Manifest int64
	// Config is the most bytes of an image's configuration. Default 4 MiB.
	Config int64
	// Depth is how deep indexes may nest. Default 4.
	Depth int
	// Children is the most manifests of one index. Default 1000.
	Children int
	// Layers is the most layers of one manifest. Default 512.
	Layers int
	// Manifests is the most manifests behind one reference. Default 1024.
	Manifests int
	// Referrers is the most referrers of one subject. Default 1000.
	Referrers int
	// Evidence is the most referrers and tags of cosign's of all that belongs to
	// one copy. Default 4096.
	Evidence int
	// EvidenceDepth is how deep evidence about evidence may nest: 1 is about
	// the image, 2 about that. Default 4.
	EvidenceDepth int
	// ManifestBytes is the most bytes of all manifests of one copy, its
	// evidence's too: they are held together. What parsing makes of them counts,
	// too. Default 64 MiB.
	ManifestBytes int64
	// Pages is the most pages of one listing. Default 64.
	Pages int
	// Tags is the most tags of one repository. Default 100,000.
	Tags int
	// Attachments is the most attestations read about one subject. Default 256.
	Attachments int
	// Attachment is the most bytes of one attestation. Default 32 MiB.
	Attachment int64
	// AttachmentBytes is the most bytes of all attestations about one subject.
	// Default 128 MiB.
	AttachmentBytes int64
	// Listing is the most time for listing and reading a subject's
	// attestations. Default 50 s.
	Listing time.Duration

	// Dial is the most time for a connection, and again for its TLS handshake.
	// Default 10 s.
	Dial time.Duration
	// Header is the most time until an answer begins. Default 20 s.
	Header time.Duration
	// Commit is the same for a write whose body has been sent. Default 50 s.
	Commit time.Duration
	// Small is the most time for a whole exchange about a manifest, a listing
	// or a token. Default 30 s.
	Small time.Duration
	// Window and Rate are the least progress of a blob: a stream that moved
	// less than Rate bytes a second while we waited for it for a Window is
	// given up. Defaults 20 s and 1 KiB/s.
	Window time.Duration
	Rate   int64

	// Attempts is how often a request is tried. Default 4.
	Attempts int
	// Pause is the wait before the second attempt; it triples. Default 100 ms.
	Pause time.Duration
	// Wait is the most time that one request spends waiting between its
	// attempts, Retry-After included. Default 40 s.
	Wait time.Duration
	// Settle is the least time after which a list of referrers that attaching
	// has changed is read again, where the registry keeps none itself: another
	// may be about to change it, too. It grows with the registry's slowness.
	// Default 30 ms.
	Settle time.Duration
	// Width is how many blobs or manifests are moved at once, at most: a copy
	// begins with half of it, and a registry that asks for patience gets less.
	// Default 32.
	Width int
	// Chunk is the bytes of one request of an upload that is sent in chunks,
	// because it broke off before and the registry kept nothing. Default 32 MiB.
	Chunk int64
}

const (
	kib = 1 << 10
	mib = 1 << 20
)

func (l Limits) withDefaults() Limits {
	def(&l.Manifest, 4*mib)
	def(&l.Config, 4*mib)
	def(&l.Depth, 4)
	def(&l.Children, 1000)
	def(&l.Layers, 512)
	def(&l.Manifests, 1024)
	def(&l.Referrers, 1000)
	def(&l.Evidence, 4096)
	def(&l.EvidenceDepth, 4)
	def(&l.ManifestBytes, 64*mib)
	def(&l.Pages, 64)
	def(&l.Tags, 100_000)
	def(&l.Attachments, 256)
	def(&l.Attachment, 32*mib)
	def(&l.AttachmentBytes, 128*mib)
	def(&l.Listing, 50*time.Second)
	def(&l.Dial, 10*time.Second)
	def(&l.Header, 20*time.Second)
	def(&l.Commit, 50*time.Second)
	def(&l.Small, 30*time.Second)
	def(&l.Window, 20*time.Second)
	def(&l.Rate, kib)
	def(&l.Attempts, 4)
	def(&l.Pause, 100*time.Millisecond)
	def(&l.Wait, 40*time.Second)
	def(&l.Settle, 30*time.Millisecond)
	def(&l.Width, 32)
	def(&l.Chunk, 32*mib)
	return l
}

func def[T int | int64 | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}
