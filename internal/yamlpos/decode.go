package yamlpos

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Unmarshaler is implemented by types that read themselves from a node, such
// as a value that may be a string or a mapping. An error without a position
// gets the node's; release.Errors are kept as they are.
type Unmarshaler interface {
	UnmarshalNode(n *Node) error
}

// Decode fills the value that into points to. Struct fields are named by their
// yaml tags (`yaml:"name"`, `yaml:",inline"`, `yaml:"-"`), without a tag by
// their lower-case name. Nothing is guessed: an unknown or repeated key and a
// value of another type are errors, all of them together as release.Errors,
// each with file, line, column and what was expected. A key that is absent,
// and a mapping or list that is empty, leave what into already holds.
//
// Besides Go's basic kinds, pointers, slices, maps with string keys and any:
// time.Duration reads "90s" or "24h"; *Node and Node keep the tree; types with
// UnmarshalNode or UnmarshalText read themselves.
func Decode(n *Node, into any) error {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return fmt.Errorf("decoding YAML: want a pointer, got %T", into)
	}
	d := decoder{}
	d.value(n, v.Elem(), n.path)
	slices.SortStableFunc(d.errs, func(a, b *release.Fault) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return d.errs.Or()
}

type decoder struct{ errs release.Errors }

var (
	nodeType     = reflect.TypeFor[Node]()
	durationType = reflect.TypeFor[time.Duration]()
)

// value decodes n into v; path names it in messages.
func (d *decoder) value(n *Node, v reflect.Value, path string) {
	if v.Type() == nodeType {
		d.duplicates(n, path)
		v.Set(reflect.ValueOf(*n))
		return
	}
	if v.Type() == reflect.PointerTo(nodeType) {
		d.duplicates(n, path)
		v.Set(reflect.ValueOf(n))
		return
	}
	if v.Kind() == reflect.Pointer {
		if n.IsNull() {
			return
		}
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.value(n, v.Elem(), path)
		return
	}
	if d.custom(n, v, path) {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	case reflect.Interface:
		d.duplicates(n, path)
		if any := n.Any(); any != nil {
			v.Set(reflect.ValueOf(any))
		}
	default:
		d.scalar(n, v, path)
	}
}

// custom lets a type read itself; false when it has no way of its own.
func (d *decoder) custom(n *Node, v reflect.Value, path string) bool {
	if !v.CanAddr() {
		return false
	}
	switch u := v.Addr().Interface().(type) {
	case Unmarshaler:
		d.duplicates(n, path)
		named := *n
		named.path = path
		d.add(n, path, u.UnmarshalNode(&named))
		return true
	case encoding.TextUnmarshaler:
		if n.Kind != Scalar || n.IsNull() {
			d.mismatch(n, path, "text")
			return true
		}
		d.add(n, path, u.UnmarshalText([]byte(n.Value)))
		return true
	}
	return false
}

// add takes an error of a type's own reading.
func (d *decoder) add(n *Node, path string, err error) {
	var list release.Errors
	var fault *release.Fault
	switch {
	case err == nil:
	case errors.As(err, &list):
		d.errs = append(d.errs, list...)
	case errors.As(err, &fault):
		if fault.File == "" {
			fault.File, fault.Line, fault.Column = n.File, n.Line, n.Column
		}
		d.errs = append(d.errs, fault)
	default:
		d.errs = append(d.errs, n.Faultf("", "%s: %w", named(path), err))
	}
}

func (d *decoder) mismatch(n *Node, path, expected string) {
	d.errs = append(d.errs, n.Faultf("write "+expected+" here", "%s: expected %s, got %s", named(path), expected, n.describe()))
}

func named(path string) string {
	if path == "" {
		return "the document"
	}
	return path
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// shape reports whether n has the kind that is wanted. Nothing at all is
// taken as an empty mapping or list.
func (d *decoder) shape(n *Node, want Kind, path, expected string) bool {
	if n.IsNull() {
		return false
	}
	if n.Kind != want {
		d.mismatch(n, path, expected)
		return false
	}
	return true
}

// duplicates reports repeated keys of a subtree that is kept as a tree.
func (d *decoder) duplicates(n *Node, path string) {
	d.repeated(n, path)
	for _, p := range n.Pairs {
		d.duplicates(p.Value, join(path, p.Key.Value))
	}
	for i, item := range n.Items {
		d.duplicates(item, fmt.Sprintf("%s[%d]", path, i))
	}
}

func (d *decoder) repeated(n *Node, path string) {
	for _, key := range n.duplicates {
		first, _ := n.Entry(key.Value)
		d.errs = append(d.errs, key.Faultf("keep one of them",
			"%s: key is repeated, first on line %d", join(path, clip(key.Value)), first.Key.Line))
	}
}

func (d *decoder) structure(n *Node, v reflect.Value, path string) {
	if !d.shape(n, Mapping, path, "a mapping") {
		return
	}
	d.repeated(n, path)
	fields := fieldsOf(v)
	for _, p := range n.Pairs {
		field, ok := fields.byName[p.Key.Value]
		if !ok {
			d.unknown(p.Key, path, fields.names)
			continue
		}
		d.value(p.Value, field, join(path, p.Key.Value))
	}
}

func (d *decoder) unknown(key *Node, path string, known []string) {
	hint := "known keys: " + strings.Join(known, ", ")
	message := fmt.Sprintf("unknown key %q", clip(key.Value))
	if path != "" {
		message += " in " + path
	}
	if near := release.Nearest(key.Value, known); near != "" {
		message += fmt.Sprintf(", did you mean %q?", near)
	}
	d.errs = append(d.errs, key.Faultf(hint, "%s", message))
}

func (d *decoder) mapping(n *Node, v reflect.Value, path string) {
	if v.Type().Key().Kind() != reflect.String {
		panic(fmt.Sprintf("yamlpos: %s: map keys must be strings", v.Type()))
	}
	if !d.shape(n, Mapping, path, "a mapping") {
		return
	}
	d.repeated(n, path)
	if v.IsNil() {
		v.Set(reflect.MakeMapWithSize(v.Type(), len(n.Pairs)))
	}
	for _, p := range n.Pairs {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(p.Value, item, join(path, p.Key.Value))
		v.SetMapIndex(reflect.ValueOf(p.Key.Value).Convert(v.Type().Key()), item)
	}
}

func (d *decoder) list(n *Node, v reflect.Value, path string) {
	if !d.shape(n, Sequence, path, "a list") {
		return
	}
	items := reflect.MakeSlice(v.Type(), len(n.Items), len(n.Items))
	for i, item := range n.Items {
		d.value(item, items.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(items)
}

type fields struct {
	byName map[string]reflect.Value
	names  []string
}

func fieldsOf(v reflect.Value) fields {
	f := fields{byName: map[string]reflect.Value{}}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if name == "-" || !field.IsExported() {
			continue
		}
		if slices.Contains(strings.Split(options, ","), "inline") {
			inner := fieldsOf(v.Field(i))
			for _, name := range inner.names {
				f.add(name, inner.byName[name])
			}
			continue
		}
		if name == "" {
			name = strings.ToLower(field.Name)
		}
		f.add(name, v.Field(i))
	}
	return f
}

func (f *fields) add(name string, v reflect.Value) {
	f.byName[name] = v
	f.names = append(f.names, name)
}
