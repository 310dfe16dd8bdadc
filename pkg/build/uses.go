package build

import (
	"regexp"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/promote-dev/promote/internal/yamlpos"
)

// use is one place in a file that names an image of somewhere else.
type use struct {
	line int
	what string // "FROM", "COPY --from", …: for messages
	// text is the reference as written, value with its variables filled in
	// with their defaults ("" if one has none).
	text  string
	value string
	// span is where text stands; unset, with the reason in cannot, when the
	// reference cannot be changed in place.
	span   yamlpos.Span
	cannot string
}

// digest gives the digest that a use is pinned to, "" for none. A variable may
// bring it.
func (u use) digest() string {
	if d := splitWritten(u.text).digest; d != "" {
		return d
	}
	return splitWritten(u.value).digest
}

// uses lists the images that a Dockerfile names, in order. Stages of the file
// and scratch are none.
func (d *dockerfile) uses() []use {
	var list []use
	if u, ok := d.syntaxUse(); ok {
		list = append(list, u)
	}
	env := d.environment(nil)
	for i, stage := range d.stages {
		if u, ok := d.fromUse(i, env); ok {
			list = append(list, u)
		}
		for _, command := range stage.Commands {
			list = append(list, d.commandUses(i, command, env)...)
		}
	}
	return list
}

// syntaxUse is the image of a "# syntax=" directive: it runs with the
// builder's rights, so it is pinned like any base.
func (d *dockerfile) syntaxUse() (use, bool) {
	ref, _, location, ok := parser.DetectSyntax(d.src)
	if !ok {
		return use{}, false
	}
	u := use{line: firstLine(location), what: "# syntax", text: ref, value: ref}
	from, to := d.text(location)
	at := strings.Index(string(d.src[from:to]), ref)
	if at < 0 {
		u.cannot = "the directive is not in the usual form"
		return u, true
	}
	u.span = yamlpos.Span{Start: from + at, End: from + at + len(ref)}
	return u, true
}

func (d *dockerfile) fromUse(i int, env shell.EnvGetter) (use, bool) {
	stage := d.stages[i]
	value, known := d.expand(stage.BaseName, env)
	if known && value == "scratch" {
		return use{}, false
	}
	if _, ours := instructions.HasStage(d.stages[:i], value); known && ours {
		return use{}, false
	}
	if name, ok := onlyVariable(stage.BaseName); ok {
		return d.argUse(name, firstLine(stage.Location), env), true
	}
	return d.place(use{what: "FROM", text: stage.BaseName, value: value}, stage.Location, ""), true
}

var variable = regexp.MustCompile(`^\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})$`)

// onlyVariable reports whether a word is one variable and nothing else.
func onlyVariable(s string) (string, bool) {
	m := variable.FindStringSubmatch(s)
	if m == nil {
		return "", false
	}
	return m[1] + m[2], true
}

// argUse is the default of an ARG that a FROM is made of: that is where the
// reference is written.
func (d *dockerfile) argUse(name string, fromLine int, env shell.EnvGetter) use {
	for i := len(d.args) - 1; i >= 0; i-- {
		for _, arg := range d.args[i].Args {
			if arg.Key != name || arg.Value == nil || *arg.Value == "" {
				continue
			}
			value, _ := d.expand(*arg.Value, env)
			text, quote := unquote(*arg.Value)
			return d.place(use{what: "ARG " + name, text: text, value: value}, d.args[i].Location(), name+"="+quote)
		}
	}
	return use{line: fromLine, what: "FROM", text: "$" + name, cannot: "ARG " + name + " has no default"}
}

// unquote takes the quotes off a word that is quoted as a whole.
func unquote(s string) (text, quote string) {
	for _, q := range []string{`"`, "'"} {
		if len(s) > 2 && strings.HasPrefix(s, q) && strings.HasSuffix(s, q) {
			return s[1 : len(s)-1], q
		}
	}
	return s, ""
}

func (d *dockerfile) commandUses(stage int, command instructions.Command, env shell.EnvGetter) []use {
	var list []use
	add := func(what, ref, prefix string) {
		if _, ours := d.stage(ref, stage); ref == "" || ours {
			return
		}
		value, _ := d.expand(ref, env)
		list = append(list, d.place(use{what: what, text: ref, value: value}, command.Location(), prefix))
	}
	switch c := command.(type) {
	case *instructions.CopyCommand:
		add("COPY --from", c.From, "--from=")
	case *instructions.RunCommand:
		for _, m := range instructions.GetMounts(c) {
			add("RUN --mount", m.From, "from=")
		}
	}
	return list
}

// place finds where a use's text stands in the lines of its instruction.
func (d *dockerfile) place(u use, location []parser.Range, prefix string) use {
	from, to := d.text(location)
	u.line = firstLine(location)
	at, ok := d.find(from, to, prefix, u.text)
	if !ok {
		u.cannot = "it is not written in one piece"
		return u
	}
	u.line = d.lineOf(at)
	u.span = yamlpos.Span{Start: at, End: at + len(u.text)}
	return u
}
