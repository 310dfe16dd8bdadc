package compose

import (
	"strconv"
	"strings"

	"github.com/promote-dev/promote/internal/yamlpos"
	"github.com/promote-dev/promote/pkg/release"
)

// place is a spot in the merged model: the keys that lead to it (indexes of
// lists in decimal), and for entries of lists a text that the author wrote
// there, because a merged list has other indexes than any file's.
type place struct {
	at   []string
	text string
}

func (p place) String() string { return strings.Join(p.at, ".") }

func (p place) in(steps ...string) place {
	return place{append(append([]string(nil), p.at...), steps...), p.text}
}

func (p place) item(i int, text string) place {
	q := p.in(strconv.Itoa(i))
	q.text = text
	return q
}

// problem is something in the model that must be written differently.
type problem struct {
	place
	message, hint string
}

// finding is something in the model that a host should not be asked for.
type finding struct {
	place
	rule, message, fix string
}

// locate gives where a spot of the merged model is written: in the last file
// that writes it, or in what that file includes or extends, or else the nearest
// thing around it.
func (f *Files) locate(p place) yamlpos.Position {
	if at, ok := f.written(p); ok {
		return at
	}
	if len(p.at) > 1 && p.at[0] == "services" {
		service := p.at[1]
		for range maxExtends {
			if service = f.extended(service); service == "" {
				break
			}
			q := place{append([]string{"services", service}, p.at[2:]...), p.text}
			if at, ok := f.written(q); ok {
				return at
			}
		}
	}
	if len(p.at) > 1 {
		return f.locate(place{p.at[:len(p.at)-1], p.text})
	}
	return f.top[0].node.Position
}

// maxExtends is how far a chain of extends is followed for a position.
const maxExtends = 16

func (f *Files) written(p place) (yamlpos.Position, bool) {
	for i := len(f.read) - 1; i >= 0; i-- {
		if at, ok := find(f.read[i].node, p); ok {
			return at, true
		}
	}
	return yamlpos.Position{}, false
}

// find walks a file's tree. A position is that of the key, or of a list's entry.
func find(n *yamlpos.Node, p place) (yamlpos.Position, bool) {
	at := n.Position
	for _, step := range p.at {
		if n.Kind == yamlpos.Sequence {
			item := mentions(n, p.text, step)
			if item == nil {
				return at, false
			}
			n, at = item, item.Position
			continue
		}
		pair, ok := n.Entry(step)
		if !ok {
			// The list form of a mapping: environment: [KEY=value].
			return at, false
		}
		n, at = pair.Value, pair.Key.Position
		if n.Kind == yamlpos.Sequence && p.text == "" {
			continue
		}
	}
	return at, true
}

// mentions finds a list's entry by its text, or by a name it starts with.
func mentions(list *yamlpos.Node, text, step string) *yamlpos.Node {
	for _, item := range list.Items {
		switch {
		case text == "" && item.Kind == yamlpos.Scalar && (item.Value == step || strings.HasPrefix(item.Value, step+"=")):
			return item
		case text == "":
		case item.Kind == yamlpos.Scalar && strings.Contains(item.Value, text):
			return item
		case item.Kind == yamlpos.Mapping:
			for _, p := range item.Pairs {
				if p.Value.Kind == yamlpos.Scalar && p.Value.Value == text {
					return item
				}
			}
		}
	}
	return nil
}

// extended gives the service that a service extends, in whatever file.
func (f *Files) extended(service string) string {
	for i := len(f.read) - 1; i >= 0; i-- {
		n := f.read[i].node.Get("services", service, "extends")
		switch {
		case n == nil:
		case n.Kind == yamlpos.Mapping:
			if s := n.Get("service"); s != nil && s.Value != service {
				return s.Value
			}
		case n.Value != service:
			return n.Value
		}
	}
	return ""
}

func (f *Files) faults(problems []problem) release.Errors {
	var list release.Errors
	for _, p := range problems {
		list = append(list, f.locate(p.place).Faultf(p.hint, "%s", p.message))
	}
	return list
}
