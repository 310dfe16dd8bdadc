package build

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/promote-dev/promote/pkg/release"
)

// maxDockerfile bounds what is read of a Dockerfile; BuildKit's own bound is
// the same.
const maxDockerfile = 2 << 20

// dockerfile is a parsed Dockerfile with its text.
type dockerfile struct {
	file   string
	src    []byte
	lines  []int // byte offset of each line
	escape rune
	args   []instructions.ArgCommand // before the first FROM
	stages []instructions.Stage
}

// readDockerfile reads and parses a Dockerfile.
func readDockerfile(path string) (*dockerfile, error) {
	src, err := readBounded(path, maxDockerfile)
	if err != nil {
		return nil, &release.Fault{Kind: release.KindConfig, Op: "reading Dockerfile", File: path, Err: err,
			Hint: "check build.context and build.dockerfile in the compose file"}
	}
	return parseDockerfile(path, src)
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(src)) > limit {
		err = fmt.Errorf("larger than %d bytes", limit)
	}
	return src, err
}

// parseDockerfile parses; what is wrong is a configuration fault with its line.
func parseDockerfile(file string, src []byte) (*dockerfile, error) {
	result, err := parser.Parse(bytes.NewReader(src))
	if err != nil {
		return nil, dockerfileFault(file, err)
	}
	stages, args, err := instructions.Parse(result.AST, nil)
	if err != nil {
		return nil, dockerfileFault(file, err)
	}
	if len(stages) == 0 {
		return nil, dockerfileFault(file, errors.New("no FROM instruction"))
	}
	d := &dockerfile{file: file, src: src, escape: result.EscapeToken, args: args, stages: stages, lines: []int{0}}
	for i, c := range src {
		if c == '\n' {
			d.lines = append(d.lines, i+1)
		}
	}
	return d, nil
}

func dockerfileFault(file string, err error) *release.Fault {
	f := &release.Fault{Kind: release.KindConfig, Op: "parsing Dockerfile", File: file, Err: err,
		Hint: "correct this instruction; https://docs.docker.com/reference/dockerfile/"}
	var at *parser.LocationError
	if errors.As(err, &at) && len(at.Locations) > 0 && len(at.Locations[0]) > 0 {
		f.Line = at.Locations[0][0].Start.Line
	}
	return f
}

// stage finds an earlier stage by name, or by number, as COPY --from does.
func (d *dockerfile) stage(name string, before int) (int, bool) {
	if i, err := strconv.Atoi(name); err == nil {
		return i, i >= 0 && i < before
	}
	return instructions.HasStage(d.stages[:before], name)
}

// target gives the index of the stage to build; the last for "".
func (d *dockerfile) target(name string) (int, bool) {
	if name == "" {
		return len(d.stages) - 1, true
	}
	return d.stage(name, len(d.stages))
}

// environment holds the arguments that FROM instructions may use: the
// defaults in the file, overridden by build arguments. open names those
// without a value.
func (d *dockerfile) environment(buildArgs map[string]string) shell.EnvGetter {
	var env []string
	lex := shell.NewLex(d.escape)
	for _, command := range d.args {
		for _, arg := range command.Args {
			value := arg.Value
			if given, ok := buildArgs[arg.Key]; ok {
				value = &given
			} else if value != nil {
				result, err := lex.ProcessWordWithMatches(*value, shell.EnvsFromSlice(env))
				if err != nil || len(result.Unmatched) > 0 {
					continue
				}
				value = &result.Result
			}
			if value != nil {
				env = append(env, arg.Key+"="+*value)
			}
		}
	}
	return shell.EnvsFromSlice(env)
}

// expand fills in a reference's variables; false when one has no value.
func (d *dockerfile) expand(s string, env shell.EnvGetter) (string, bool) {
	if !strings.ContainsAny(s, "$\"'") {
		return s, true
	}
	result, err := shell.NewLex(d.escape).ProcessWordWithMatches(s, env)
	if err != nil || result.Result == "" {
		return "", false
	}
	for name := range result.Unmatched {
		if !strings.Contains(s, "${"+name+":-") && !strings.Contains(s, "${"+name+"-") {
			return "", false
		}
	}
	return result.Result, true
}

// base gives the image that a stage finally comes from: the expanded
// reference, and the line of its FROM. "" when it is scratch or unknown.
func (d *dockerfile) base(stage int, buildArgs map[string]string) (ref string, line int) {
	env := d.environment(buildArgs)
	for {
		s := d.stages[stage]
		name, ok := d.expand(s.BaseName, env)
		if !ok || name == "scratch" {
			return "", firstLine(s.Location)
		}
		parent, ok := instructions.HasStage(d.stages[:stage], name)
		if !ok {
			return name, firstLine(s.Location)
		}
		stage = parent
	}
}

func firstLine(r []parser.Range) int {
	if len(r) == 0 {
		return 0
	}
	return r[0].Start.Line
}

// text gives the byte range of the lines that a location covers.
func (d *dockerfile) text(r []parser.Range) (start, end int) {
	if len(r) == 0 {
		return 0, 0
	}
	first, last := r[0].Start.Line, r[len(r)-1].End.Line
	if first < 1 || first > len(d.lines) {
		return 0, 0
	}
	end = len(d.src)
	if last < len(d.lines) {
		end = d.lines[last]
	}
	return d.lines[first-1], end
}

// lineOf gives the line of a byte offset.
func (d *dockerfile) lineOf(offset int) int {
	line := 1
	for line < len(d.lines) && d.lines[line] <= offset {
		line++
	}
	return line
}

// declares reports whether the file declares an argument anywhere.
func (d *dockerfile) declares(name string) bool {
	has := func(c *instructions.ArgCommand) bool {
		for _, arg := range c.Args {
			if arg.Key == name {
				return true
			}
		}
		return false
	}
	for i := range d.args {
		if has(&d.args[i]) {
			return true
		}
	}
	for _, stage := range d.stages {
		for _, command := range stage.Commands {
			if c, ok := command.(*instructions.ArgCommand); ok && has(c) {
				return true
			}
		}
	}
	return false
}

// find gives the offset of what within [from, to) of the text, where it
// directly follows prefix and ends as a word. Comment lines are passed over.
func (d *dockerfile) find(from, to int, prefix, what string) (int, bool) {
	for at := from; at < to; {
		i := bytes.Index(d.src[at:to], []byte(prefix+what))
		if i < 0 {
			return 0, false
		}
		start := at + i
		at = start + 1
		if d.startsWord(start, prefix) && d.endsWord(start+len(prefix)+len(what)) && !d.inComment(start) {
			return start + len(prefix), true
		}
	}
	return 0, false
}

func (d *dockerfile) startsWord(at int, prefix string) bool {
	if at == 0 {
		return true
	}
	if strings.HasPrefix(prefix, "from=") { // within a --mount
		return bytes.IndexByte([]byte(",="), d.src[at-1]) >= 0
	}
	return bytes.IndexByte([]byte(" \t\n"), d.src[at-1]) >= 0
}

func (d *dockerfile) endsWord(at int) bool {
	return at >= len(d.src) || bytes.IndexByte([]byte(" \t\r\n,\"'"), d.src[at]) >= 0
}

func (d *dockerfile) inComment(at int) bool {
	line := d.src[d.lines[d.lineOf(at)-1]:at]
	return bytes.HasPrefix(bytes.TrimLeft(line, " \t"), []byte("#"))
}
