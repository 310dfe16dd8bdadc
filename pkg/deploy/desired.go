package deploy

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// desired is what a container is meant to be, field by field. Texts that came
// from values are fingerprints: HMAC-SHA256 with a key that lies beside the
// container and nowhere else, so that what the ledger and results say about a
// password cannot be tried out.
type desired struct {
	Key    string            `json:"key"`    // hexadecimal
	Fields map[string]string `json:"fields"` // by name, with the part behind a space
	Hidden []string          `json:"hidden"` // names of the fields whose texts are fingerprints
}

const fingerprintMark = "hmac-sha256:"

// newKey makes a key for one deployment.
func newKey() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return hex.EncodeToString(key)
}

// fingerprint stands for a text, within one field and under one key.
func fingerprint(key, field, text string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(field + "\x00" + text))
	return fingerprintMark + hex.EncodeToString(mac.Sum(nil)[:16])
}

// desiredOf describes a service, as asked gives it.
func desiredOf(s release.ServiceSpec, key string) desired {
	d := desired{Key: key, Fields: map[string]string{"configuration": s.ConfigHash, "name": s.ContainerName}, Hidden: []string{}}
	for _, f := range fields {
		hidden := f.secret || slices.ContainsFunc(strings.Fields(f.keys), func(k string) bool { return slices.Contains(s.Filled, k) })
		if hidden {
			d.Hidden = append(d.Hidden, f.name)
		}
		for name, text := range f.texts(s) {
			d.Fields[name] = shown(key, name, text, hidden)
		}
	}
	return d
}

// shown is how a text that is there stands in a description or a result.
func shown(key, name, text string, hidden bool) string {
	switch {
	case hidden:
		return fingerprint(key, name, text)
	case text == "":
		return `""`
	}
	return text
}

// texts are a field's, by name.
func (f field) texts(s release.ServiceSpec) map[string]string {
	out := map[string]string{}
	for part, text := range f.read(s) {
		name := f.name
		if part != "" {
			name += " " + part
		}
		out[name] = text
	}
	return out
}

// encode writes it for LabelDesired.
func (d desired) encode() string {
	raw, err := json.Marshal(d)
	if err != nil {
		panic(err) // texts always encode
	}
	return string(raw)
}

// mostDesired bounds what is read of a label that somebody else may have set.
const mostDesired = 1 << 20

// readDesired reads what a container says it was made to be.
func readDesired(c release.Container) (desired, bool) {
	var d desired
	text := c.Labels[release.LabelDesired]
	if text == "" || len(text) > mostDesired || json.Unmarshal([]byte(text), &d) != nil || d.Key == "" || d.Fields == nil {
		return desired{}, false
	}
	return d, true
}

func desiredDigest(c release.Container) release.Digest {
	if text := c.Labels[release.LabelDesired]; text != "" {
		return release.DigestOf([]byte(text))
	}
	return release.Digest{}
}

// compare lists in what a container differs. defaults are fingerprints of what
// its engine had filled in.
func (d desired) compare(c release.Container, now release.ServiceSpec, defaults map[string]string, which func(field) bool) []Difference {
	var list []Difference
	add := func(name, want string, texts map[string]string, hidden bool) {
		text, there := texts[name]
		have := ""
		if there {
			have = shown(d.Key, name, text, hidden)
		}
		if want == have || defaults[name] == fingerprint(d.Key, name, text) || c.Made != nil && slices.Contains(c.Made.Untold, name) {
			return
		}
		list = append(list, Difference{Service: c.Service, Field: name, Recorded: want, Running: have})
	}
	for _, f := range fields {
		if !which(f) {
			continue
		}
		texts := f.texts(now)
		hidden := slices.Contains(d.Hidden, f.name)
		for _, name := range d.names(f, texts) {
			add(name, d.Fields[name], texts, hidden)
		}
	}
	if c.Made != nil && which(field{}) {
		for _, name := range slices.Sorted(maps.Keys(c.Made.Further)) {
			add(name, "", c.Made.Further, false)
		}
	}
	return list
}

// names are those of a field on either side, in order.
func (d desired) names(f field, texts map[string]string) []string {
	all := map[string]bool{}
	for name := range texts {
		all[name] = true
	}
	for name := range d.Fields {
		if name == f.name || strings.HasPrefix(name, f.name+" ") {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}
