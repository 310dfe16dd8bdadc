package smoke

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"time"
)

// answer is what a passed check found.
type answer struct {
	detail string
	output []byte
}

// tokenMark stands for the random word of the run.
const tokenMark = "{{token}}"

// with puts the run's word into all that a check does and wants.
func (c Check) with(token string) Check {
	fill := func(s string) string { return strings.ReplaceAll(s, tokenMark, token) }
	all := func(list []string) []string {
		var out []string
		for _, s := range list {
			out = append(out, fill(s))
		}
		return out
	}
	request := func(h *HTTP) *HTTP {
		if h == nil {
			return nil
		}
		filled := *h
		filled.Path, filled.Body, filled.JSON = fill(h.Path), fill(h.Body), maps.Clone(h.JSON)
		for path, value := range filled.JSON {
			filled.JSON[path] = fill(value)
		}
		return &filled
	}
	c.HTTP, c.Exec, c.Script, c.Contains, c.Log = request(c.HTTP), all(c.Exec), all(c.Script), fill(c.Contains), fill(c.Log)
	if c.Write != nil {
		c.Write = &Ask{HTTP: request(c.Write.HTTP), Exec: all(c.Write.Exec), Script: all(c.Write.Script)}
	}
	return c
}

// ask asks until the answer is as wanted or the check's time is over.
func (r *run) ask(ctx context.Context, c Check) (answer, error) {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = checkTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	pause := 50 * time.Millisecond
	var last error
	for {
		a, err := r.once(ctx, c)
		if err == nil {
			return a, nil
		}
		if ctx.Err() == nil || last == nil {
			last = err // the reason, rather than that time was over
		}
		select {
		case <-ctx.Done():
			return answer{}, fmt.Errorf("%w (for %s)", last, timeout)
		case <-time.After(pause):
			pause = min(2*pause, time.Second)
		}
	}
}

func (r *run) once(ctx context.Context, c Check) (answer, error) {
	switch {
	case c.TCP > 0:
		return answer{detail: fmt.Sprintf("port %d takes connections", c.TCP)}, r.dial(ctx, c.Service, c.TCP)
	case c.Log != "":
		return r.logged(ctx, c)
	}
	return r.do(ctx, c.Name, c.Service, Ask{c.HTTP, c.Exec, c.Script}, c.Contains)
}

// do makes a request or runs a command or script once.
func (r *run) do(ctx context.Context, check, service string, a Ask, contains string) (answer, error) {
	switch {
	case a.HTTP != nil:
		path := a.HTTP.Path
		if path == "" {
			path = "/"
		}
		took, err := r.http(ctx, service, *a.HTTP)
		detail := "answered " + path
		if a.HTTP.Within > 0 {
			detail += fmt.Sprintf(" after %s", round(took))
		}
		return answer{detail: detail}, err
	case len(a.Script) > 0:
		output, err := r.script(ctx, a.Script, r.scriptEnviron(ctx, check, service))
		return said(a.Script, output, contains, err)
	}
	exit, output, err := r.Engine.Exec(ctx, r.monitor.id(service), a.Exec)
	if err == nil && exit != 0 {
		err = fmt.Errorf("%s gave exit code %d: %s", strings.Join(a.Exec, " "), exit, oneLine(string(output)))
	}
	return said(a.Exec, output, contains, err)
}

func said(argv []string, output []byte, contains string, err error) (answer, error) {
	a := answer{detail: fmt.Sprintf("%s: %s", strings.Join(argv, " "), oneLine(string(output))), output: output}
	if err == nil && !bytes.Contains(output, []byte(contains)) {
		err = fmt.Errorf("%s does not say %q: %s", strings.Join(argv, " "), contains, oneLine(string(output)))
	}
	return a, err
}

// logLines is how much of a log is searched.
const logLines = 10_000

func (r *run) logged(ctx context.Context, c Check) (answer, error) {
	line, found, err := r.search(ctx, r.monitor.id(c.Service), c.Log)
	switch {
	case err != nil:
		return answer{}, err
	case !found:
		return answer{}, fmt.Errorf("no line of the log matches %s", c.Log)
	}
	return answer{detail: "logged " + line}, nil
}

// search finds the first line of a container's log that matches.
func (r *run) search(ctx context.Context, id, expression string) (line string, found bool, err error) {
	want, err := regexp.Compile(expression)
	if err != nil {
		return "", false, err
	}
	raw, err := r.Engine.Logs(ctx, id, logLines)
	if err != nil {
		return "", false, err
	}
	for line := range bytes.Lines(raw) {
		if want.Match(bytes.TrimRight(line, "\r\n")) {
			return oneLine(string(line)), true, nil
		}
	}
	return "", false, nil
}
