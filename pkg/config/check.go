package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/promote-dev/promote/internal/yamlpos"
	"github.com/promote-dev/promote/pkg/release"
)

// maxErrors bounds what is reported of one file.
const maxErrors = 100

// checker looks for what decoding cannot see, and collects everything.
type checker struct {
	c     *Config
	errs  release.Errors
	wrong map[yamlpos.Position]bool // where decoding found something
}

// path is a place in the file: keys, and indexes as decimal text.
type path []string

func at(keys ...string) path { return keys }

func (p path) key(keys ...string) path { return append(slices.Clone(p), keys...) }

func (p path) index(i int) path { return p.key(strconv.Itoa(i)) }

// String names the place in messages: environments.staging.files[0].
func (p path) String() string {
	s := ""
	for _, key := range p {
		switch _, err := strconv.Atoi(key); {
		case err == nil:
			s += "[" + key + "]"
		case s == "":
			s = key
		default:
			s += "." + key
		}
	}
	return s
}

func (k *checker) all() {
	k.nothing(k.c.root, nil)
	k.project()
	k.registries()
	k.build()
	k.dimensions()
	k.scan()
	k.sign()
	k.trust()
	k.smoke()
	k.environments()
	k.rest()
}

// decoded takes what decoding found, and remembers where.
func (k *checker) decoded(err error) {
	var list release.Errors
	switch {
	case err == nil:
	case errors.As(err, &list):
		k.errs = append(k.errs, list...)
	default:
		k.errs = append(k.errs, k.c.root.Faultf("", "%w", err))
	}
	k.wrong = map[yamlpos.Position]bool{}
	for _, f := range k.errs {
		k.wrong[yamlpos.Position{File: f.File, Line: f.Line, Column: f.Column}] = true
	}
}

// fail reports something at a place, or at what exists on the way to it. It is
// silent where decoding found something.
func (k *checker) fail(p path, hint, format string, args ...any) {
	n := k.c.root.Nearest(p...)
	if !k.spoilt(n) {
		k.errs = append(k.errs, n.Faultf(hint, "%s: %w", p, fmt.Errorf(format, args...)))
	}
}

// spoilt reports whether decoding found something at a node or one level below:
// what is missing because of a wrong type is not missing.
func (k *checker) spoilt(n *yamlpos.Node) bool {
	if k.wrong[n.Position] {
		return true
	}
	if n == k.c.root {
		return false
	}
	return slices.ContainsFunc(n.Pairs, func(p yamlpos.Pair) bool { return k.wrong[p.Value.Position] }) ||
		slices.ContainsFunc(n.Items, func(item *yamlpos.Node) bool { return k.wrong[item.Position] })
}

// given reports whether the file says anything at a place.
func (k *checker) given(p path) bool { return k.c.root.Get(p...) != nil }

// sequence and number report whether the file has a list or a whole number at a
// place. What has another type was reported while decoding.
func (k *checker) sequence(p path) bool {
	n := k.c.root.Get(p...)
	return n != nil && n.Kind == yamlpos.Sequence
}

func (k *checker) number(p path) bool {
	n := k.c.root.Get(p...)
	return n != nil && n.Kind == yamlpos.Scalar && n.Tag == "!!int"
}

// result gives the errors in the order of the file, the same one once.
func (k *checker) result() error {
	slices.SortStableFunc(k.errs, func(a, b *release.Fault) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	list := slices.CompactFunc(k.errs, func(a, b *release.Fault) bool { return a.Error() == b.Error() })
	return list[:min(len(list), maxErrors)].Or()
}

// nothing refuses keys without a value: `trust:` with its entries commented out
// would quietly mean the default.
func (k *checker) nothing(n *yamlpos.Node, p path) {
	for _, pair := range n.Pairs {
		k.empty(pair.Key, pair.Value, p.key(pair.Key.Value))
		k.nothing(pair.Value, p.key(pair.Key.Value))
	}
	for i, item := range n.Items {
		k.empty(item, item, p.index(i))
		k.nothing(item, p.index(i))
	}
}

func (k *checker) empty(at, value *yamlpos.Node, p path) {
	if value.IsNull() && !k.wrong[value.Position] {
		k.errs = append(k.errs, at.Faultf("give it a value, or remove it", "%s: no value", p))
		k.wrong[value.Position] = true
	}
}

// required reports an absent or empty text.
func (k *checker) required(p path, value, example string) bool {
	if value == "" && (!k.given(p) || k.c.root.Get(p...).Kind == yamlpos.Scalar && k.c.root.Get(p...).Value == "") {
		k.fail(p, "write "+p[len(p)-1]+": "+example, "expected a value, got nothing")
	}
	return value != ""
}

func (k *checker) matches(p path, value string, pattern *regexp.Regexp, want string) {
	if value != "" && !pattern.MatchString(value) {
		k.fail(p, "write "+want, "expected %s, got %.80q", want, value)
	}
}

func (k *checker) oneOf(p path, value string, known []string) {
	if value == "" || slices.Contains(known, value) {
		return
	}
	message := fmt.Sprintf("unknown value %.60q", value)
	if near := release.Nearest(value, known); near != "" {
		message += fmt.Sprintf(", did you mean %q?", near)
	}
	k.fail(p, "known values: "+strings.Join(known, ", "), "%s", message)
}

// positive refuses durations that are written and make no sense.
func (k *checker) positive(p path, d time.Duration) {
	if d < 0 || d == 0 && k.given(p) && k.c.root.Get(p...).Kind == yamlpos.Scalar && isDuration(k.c.root.Get(p...).Value) {
		k.fail(p, "", "expected a duration above zero, got %s", d)
	}
}

func isDuration(s string) bool {
	_, err := time.ParseDuration(s)
	return err == nil
}

// unique reports whether a name is new, and if not, says so.
func (k *checker) unique(p path, name string, seen map[string]bool) {
	if name != "" && seen[name] {
		k.fail(p, "give each one a name of its own", "%q is taken already", name)
	}
	seen[name] = true
}

// inside checks that a path lies within the project, where a release's revision
// holds it.
func (k *checker) inside(p path, name string) bool {
	if name == "" {
		k.fail(p, "", "expected a path, got nothing")
		return false
	}
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		k.fail(p, "move it into the project", "expected a path within the project, got %.120q", name)
		return false
	}
	return true
}

// file checks that a regular file of the project exists.
func (k *checker) file(p path, name string) {
	if k.inside(p, name) {
		k.exists(p, name, false)
	}
}

func (k *checker) files(p path, names []string) {
	seen := map[string]bool{}
	for i, name := range names {
		k.file(p.index(i), name)
		k.unique(p.index(i), name, seen)
	}
}

func (k *checker) exists(p path, name string, directory bool) {
	info, err := os.Stat(k.c.Abs(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k.fail(p, "create it, or correct the path; it is relative to "+FileName, "%s does not exist", name)
	case err != nil:
		k.fail(p, "", "%w", withoutPath(err))
	case info.IsDir() && !directory:
		k.fail(p, "name a file", "%s is a directory", name)
	case !info.IsDir() && !info.Mode().IsRegular():
		k.fail(p, "name a file", "%s is no regular file", name)
	}
}

// withoutPath drops the path that the message names already.
func withoutPath(err error) error {
	var inner *fs.PathError
	if errors.As(err, &inner) {
		return inner.Err
	}
	return err
}

// link checks a URL that people give: http or https, without credentials.
func (k *checker) link(p path, value string) {
	if value == "" {
		return
	}
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		k.fail(p, "write https://host/path", "expected a URL, got %.120q", value)
		return
	}
	if u.User != nil {
		k.fail(p, secretHint, "the URL holds credentials")
	}
}

const secretHint = "keep secrets out of " + FileName + "; it is committed and its contents are shown"
