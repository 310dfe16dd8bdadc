package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/pkg/release"
)

// normalize rewrites what people type into what the flag parser takes: global
// flags first, then the command, its flags, its arguments. The parser itself
// stops at the first argument and ignores every flag behind it, which once
// turned a --dry-run into a deploy; here such a flag works or is refused.
// `--to ENV` without a command is short for `to ENV`.
func normalize(args []string, app *cli.App) ([]string, error) {
	n := normalizer{app: app}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			n.arguments = append(n.arguments, args[i+1:]...)
			return n.line()
		case len(arg) > 1 && arg[0] == '-':
			used, err := n.flag(arg, args[i+1:])
			if err != nil {
				return nil, err
			}
			i += used
		default:
			if err := n.word(arg); err != nil {
				return nil, err
			}
		}
	}
	return n.line()
}

type normalizer struct {
	app       *cli.App
	path      []string     // the command's words
	command   *cli.Command // nil until one is named
	globals   []string
	flags     []string // of the command, or of `to` while none is named
	arguments []string
	to        *string // --to ENV
}

// flag places one flag and says how many of the following words are its value.
func (n *normalizer) flag(arg string, rest []string) (used int, err error) {
	name, _, inline := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	var place *[]string
	var flag cli.Flag
	if n.command != nil {
		flag, place = find(n.command.Flags, name), &n.flags
	} else {
		flag, place = find(n.app.Command("to").Flags, name), &n.flags
	}
	if global := find(n.app.Flags, name); global != nil {
		flag, place = global, &n.globals
	}
	switch {
	case name == "help" || name == "h":
		n.flags = append(n.flags, "--help")
		return 0, nil
	case name == "version" && n.command == nil:
		return 0, n.word("version")
	case name == "to" && flag == nil:
		return n.short(arg, rest, inline)
	case flag == nil:
		return 0, n.unknown(arg, name)
	}
	if maybe := optionalOf(flag); maybe != nil && !inline && len(rest) > 0 && maybe.takes(rest[0]) {
		*place = append(*place, arg+"="+rest[0])
		return 1, nil
	}
	*place = append(*place, arg)
	if inline || !takesValue(flag) {
		return 0, nil
	}
	if len(rest) == 0 {
		return 0, release.Misuse("", "flag %s needs a value", arg)
	}
	*place = append(*place, rest[0])
	return 1, nil
}

// short takes --to ENV, the short form of the command.
func (n *normalizer) short(arg string, rest []string, inline bool) (used int, err error) {
	if n.command != nil {
		return 0, release.Misuse("use one or the other: promote to ENV", "--to together with the command %q", n.command.Name)
	}
	if n.to != nil {
		return 0, release.Misuse("one promotion at a time", "--to is given twice")
	}
	value := ""
	if inline {
		_, value, _ = strings.Cut(arg, "=")
	} else if len(rest) > 0 {
		value, used = rest[0], 1
	}
	if value == "" || value[0] == '-' {
		return 0, release.Misuse("promote --to staging", "--to needs an environment")
	}
	n.to = &value
	return used, nil
}

func (n *normalizer) unknown(arg, name string) error {
	var known []string
	flags := n.app.Flags
	if n.command != nil {
		flags = slices.Concat(flags, n.command.Flags)
	}
	for _, f := range flags {
		known = append(known, f.Names()...)
	}
	return release.Misuse(suggestion("--", release.Nearest(name, known)), "unknown flag %s", arg)
}

// word places a word that is no flag: a command, a subcommand or an argument.
func (n *normalizer) word(word string) error {
	list := n.app.Commands
	if n.command != nil {
		list = n.command.Subcommands
	}
	if n.command != nil && len(list) == 0 {
		n.arguments = append(n.arguments, word)
		return nil
	}
	for _, c := range list {
		if c.HasName(word) {
			if n.to != nil {
				return release.Misuse("use one or the other", "--to together with the command %q", word)
			}
			if n.command == nil && len(n.flags) > 0 && !n.known(c) {
				return release.Misuse("write the command's flags behind it", "flag %s before the command %q", n.flags[0], word)
			}
			n.command, n.path = c, append(n.path, c.Name)
			return nil
		}
	}
	if n.to != nil {
		return release.Misuse("promote --to ENV takes no further argument", "unexpected argument %q", word)
	}
	var names []string
	for _, c := range list {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	return release.Misuse(suggestion("promote ", release.Nearest(word, names)), "unknown command %q", strings.Join(append(n.path, word), " "))
}

// known reports whether a command has every flag given before it.
func (n *normalizer) known(c *cli.Command) bool {
	for _, f := range n.flags {
		name, _, _ := strings.Cut(strings.TrimLeft(f, "-"), "=")
		if f[0] == '-' && f != "--help" && find(c.Flags, name) == nil {
			return false
		}
	}
	return true
}

func (n *normalizer) line() ([]string, error) {
	if n.to != nil {
		n.path, n.arguments = []string{"to"}, append([]string{*n.to}, n.arguments...)
	} else if n.command == nil && len(n.flags) > 0 && n.flags[0] != "--help" {
		return nil, release.Misuse("promote --help", "flag %s without a command", n.flags[0])
	}
	line := slices.Concat(n.globals, n.path, n.flags)
	if len(n.arguments) > 0 {
		line = append(append(line, "--"), n.arguments...)
	}
	return line, nil
}

func find(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

// optional is the value of a flag that may also stand alone.
type optional interface {
	cli.Generic
	IsBoolFlag() bool // for package flag: it may stand alone
	takes(word string) bool
}

func optionalOf(f cli.Flag) optional {
	if generic, ok := f.(*cli.GenericFlag); ok {
		if value, ok := generic.Value.(optional); ok {
			return value
		}
	}
	return nil
}

func takesValue(f cli.Flag) bool {
	if optionalOf(f) != nil {
		return false
	}
	doc, ok := f.(cli.DocGenerationFlag)
	return !ok || doc.TakesValue()
}

func suggestion(prefix, nearest string) string {
	if nearest == "" {
		return "promote --help"
	}
	return fmt.Sprintf("did you mean %s%s?", prefix, nearest)
}
