package release

import "time"

// Head is the commit that a checkout is at.
type Head struct {
	Revision string    `json:"revision"` // 40 or 64 hex digits
	Version  string    `json:"version"`  // a tag's name where HEAD has one, else from git describe
	Time     time.Time `json:"time"`     // the commit's time: SOURCE_DATE_EPOCH of every build
	Dirty    bool      `json:"dirty"`    // tracked files differ from HEAD, or untracked ones are there
	Changed  []string  `json:"changed,omitempty"`
	Remote   string    `json:"remote,omitempty"` // URL of origin without credentials
}

// DirtySuffix marks the version of a release made of a tree with uncommitted
// changes; only the first environment takes such a release.
const DirtySuffix = "-dirty"
