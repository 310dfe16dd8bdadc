package compose

import (
	"maps"
	"slices"
	"strings"
)

// A placeholder is ${NAME} as the Compose Specification's chapter on
// interpolation has it: $NAME, ${NAME}, and ${NAME<op>rest} with the operators
// :- - (default), :? ? (required, rest is the message), :+ + (rest if set).
// $$ is a dollar. compose-go substitutes; this reads, so that everything that
// is missing can be named at once.
type placeholder struct {
	name string
	op   string
	rest []placeholder // the placeholders within rest
}

// placeholders reads the ones of a text; ok is false for a dollar that begins
// none.
func placeholders(s string) (found []placeholder, ok bool) {
	if strings.ContainsRune(s, '$') && strings.ContainsAny(s, "\u017f\u212a") {
		return nil, false // the library folds case by Unicode: to it these are letters s and k
	}
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 {
			return found, true
		}
		s = s[i+1:]
		switch {
		case strings.HasPrefix(s, "$"):
			s = s[1:]
		case strings.HasPrefix(s, "{"):
			end := closing(s)
			if end < 0 {
				return found, false
			}
			p, ok := braced(s[1:end])
			if !ok {
				return found, false
			}
			found = append(found, p)
			s = s[end+1:]
		default:
			n := nameLength(s)
			if n == 0 {
				return found, false
			}
			found = append(found, placeholder{name: s[:n]})
			s = s[n:]
		}
	}
}

// closing finds the brace that closes the one s starts with, as the library
// does: it passes over what follows an opening brace.
func closing(s string) int {
	open := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '{':
			open++
			i++
		case '}':
			if open--; open == 0 {
				return i
			}
		}
	}
	return -1
}

func braced(s string) (placeholder, bool) {
	n := nameLength(s)
	if n == 0 {
		return placeholder{}, false
	}
	p := placeholder{name: s[:n]}
	s = s[n:]
	if s == "" {
		return p, true
	}
	for _, op := range []string{":-", ":?", ":+", "-", "?", "+"} {
		rest, found := strings.CutPrefix(s, op)
		if !found {
			continue
		}
		p.op = op
		if strings.HasSuffix(op, "?") {
			return p, true // a message for people
		}
		var ok bool
		p.rest, ok = placeholders(rest)
		return p, ok
	}
	return p, false
}

func nameLength(s string) int {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(s)
}

// missing adds the names that have no value and no default to names.
func (p placeholder) missing(values map[string]string, names map[string]bool) {
	value, set := values[p.name]
	full := set && value != ""
	switch p.op {
	case "", "?":
		if !set {
			names[p.name] = true
		}
	case ":?":
		if !full {
			names[p.name] = true
		}
	case "-", ":-":
		if p.op == "-" && set || full {
			return
		}
		for _, q := range p.rest {
			q.missing(values, names)
		}
	case "+", ":+":
		if p.op == "+" && !set || p.op == ":+" && !full {
			return
		}
		for _, q := range p.rest {
			q.missing(values, names)
		}
	}
}

// needs adds the placeholder and those within it: true for a name that must
// have a value whatever else is set.
func (p placeholder) needs(names map[string]bool) {
	names[p.name] = names[p.name] || p.op == "" || strings.HasSuffix(p.op, "?")
	for _, q := range p.rest {
		inner := map[string]bool{}
		q.needs(inner)
		for name := range inner {
			if _, known := names[name]; !known {
				names[name] = false // asked for only when p has no value
			}
		}
	}
}

// projectVariable is the placeholder that Compose fills in by itself.
const projectVariable = "COMPOSE_PROJECT_NAME"

// missing gives the names that the model needs and values lacks, in order.
func missing(model map[string]any, values map[string]string) []string {
	found := map[string]bool{}
	eachText(model, func(_ []string, s string) {
		list, _ := placeholders(s)
		for _, p := range list {
			p.missing(values, found)
		}
	})
	return slices.Sorted(maps.Keys(found))
}

// eachText calls do for every text of the model.
func eachText(model map[string]any, do func(at []string, s string)) {
	walk(model, "", place{}, func(_ string, at place, value any) bool {
		if s, ok := value.(string); ok {
			do(at.at, s)
		}
		return true
	})
}

// open is where a placeholder may stand: where its value cannot change what
// the rules judged. A * stands for one step, ** for any.
var open = func() [][]string {
	var paths [][]string
	for path := range strings.FieldsSeq(`
		services.*.environment.** services.*.labels.** services.*.command.** services.*.entrypoint.**
		services.*.healthcheck.test.** services.*.hostname services.*.ports.** services.*.expose.**
		services.*.mem_limit services.*.mem_reservation services.*.memswap_limit services.*.cpus
		services.*.pids_limit services.*.shm_size services.*.oom_score_adj services.*.ulimits.**
		services.*.deploy.resources.limits.* services.*.deploy.resources.reservations.memory
		services.*.extra_hosts.** services.*.dns.** services.*.logging.options.* services.*.restart
		services.*.networks.*.ipv4_address services.*.pre_stop.*.command.** services.*.pre_stop.*.environment.** secrets.*.file`) {
		paths = append(paths, strings.Split(path, "."))
	}
	return paths
}()

func mayStand(at []string) bool {
	return slices.ContainsFunc(open, func(pattern []string) bool {
		for i, step := range pattern {
			if step == "**" {
				return true
			}
			if i >= len(at) || step != "*" && step != at[i] {
				return false
			}
		}
		return len(at) == len(pattern)
	})
}

// stray reports placeholders where none may stand, and dollars that begin none.
func stray(model map[string]any) []problem {
	var list []problem
	walk(model, "", place{}, func(_ string, at place, value any) bool {
		s, isText := value.(string)
		if !isText || elsewhere(at.at) {
			return true
		}
		found, ok := placeholders(s)
		if _, err := substitute(s, func(string) (string, bool) { return "x", true }); err != nil {
			ok = false // a default over several lines, for example
		}
		switch {
		case !ok:
			list = append(list, problem{at, at.String() + ": a dollar that begins no placeholder", "write $$ for a dollar, and a placeholder on one line"})
		case len(found) > 0 && !mayStand(at.at):
			list = append(list, problem{at, at.String() + ": a placeholder may not stand here, its value could change what was judged",
				"write the value here, or in the compose file of each environment"})
		}
		return true
	})
	return list
}

// elsewhere is what sources.go judges: it is no part of the model.
func elsewhere(at []string) bool {
	return len(at) > 2 && at[0] == "services" && (at[2] == "build" || at[2] == "image")
}
