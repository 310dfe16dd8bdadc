package release

import "time"

// Labels of snapshots.
const (
	// LabelSnapshot is on the empty volume that says of a snapshot that it is
	// whole; it holds the Snapshot, as JSON.
	LabelSnapshot = "dev.promote.snapshot"
	// LabelSnapshotData is on the volume that holds a snapshot's parts; its value
	// is the attempt that made it. Without its LabelSnapshot it is half-written.
	LabelSnapshotData = "dev.promote.snapshot.data"
	// LabelRestoring is on the empty volumes that say how far an attempt got with
	// filling a volume from a snapshot; its value is the attempt.
	LabelRestoring = "dev.promote.restoring"
	// LabelArchive is on the containers through which volumes are read and
	// filled; its value is the project.
	LabelArchive = "dev.promote.archive"
)

// Snapshots says which volumes of an environment are kept before the services
// that mount them are replaced.
type Snapshots struct {
	Volumes   []string `json:"volumes"`   // by their keys in the model
	Recipient string   `json:"recipient"` // the public keys that they are encrypted to
	Keep      int      `json:"keep"`      // how many of each volume
}

// Snapshot is what a volume held before an attempt changed it, encrypted, on the
// target that has the volume.
type Snapshot struct {
	Name     string `json:"name"`     // the volume that holds it
	Sequence int64  `json:"sequence"` // of the promotion's first intended record
	Attempt  string `json:"attempt"`  // the sequence, with a part of the record's digest
	Key      string `json:"key"`      // the volume's in the model
	Volume   string `json:"volume"`   // the volume's identity
	// Release is what ran before the promotion; zero if nothing was recorded.
	Release Digest `json:"release,omitzero"`
	// Schemas are the state's, by the services that mounted the volume.
	Schemas map[string]int64 `json:"schemas"`
	Digest  Digest           `json:"digest"` // of the tar stream
	Sealed  Digest           `json:"sealed"` // of what is stored: the parts, one behind the other
	// Content is of the entries, without their times and the form of the tar.
	Content Digest    `json:"content"`
	Size    int64     `json:"size"`    // of the tar stream, in bytes
	Entries int64     `json:"entries"` // files, directories and whatever else
	Taken   time.Time `json:"taken"`
}
