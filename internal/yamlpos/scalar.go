package yamlpos

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

func (d *decoder) scalar(n *Node, v reflect.Value, path string) {
	if expected := setScalar(n, v); expected != "" {
		d.mismatch(n, path, expected)
	}
}

// setScalar sets v, or says what it expected instead of n.
func setScalar(n *Node, v reflect.Value) (expected string) {
	if v.Type() == durationType {
		return setDuration(n, v)
	}
	switch v.Kind() {
	case reflect.String:
		return setString(n, v)
	case reflect.Bool:
		b, err := strconv.ParseBool(strings.ToLower(n.Value))
		if n.Kind != Scalar || n.Tag != boolTag || err != nil {
			return "true or false"
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, ok := n.integer()
		if !ok || v.OverflowInt(i) {
			return fmt.Sprintf("a whole number of %d bits", v.Type().Bits())
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		i, ok := n.integer()
		if !ok || i < 0 || v.OverflowUint(uint64(i)) {
			return fmt.Sprintf("a whole number of %d bits, not negative", v.Type().Bits())
		}
		v.SetUint(uint64(i))
	case reflect.Float32, reflect.Float64:
		f, ok := n.float()
		if !ok {
			return "a number"
		}
		v.SetFloat(f)
	default:
		panic(fmt.Sprintf("yamlpos: cannot decode into %s", v.Type()))
	}
	return ""
}

func setString(n *Node, v reflect.Value) string {
	if n.Kind != Scalar {
		return "text"
	}
	switch n.Tag {
	case intTag, floatTag, boolTag:
		// Unquoted 1.10 or yes reads as text to people and as something else
		// to other YAML tools.
		return fmt.Sprintf("text in quotes (%q)", n.Value)
	case nullTag:
		return "text"
	}
	v.SetString(n.Value)
	return ""
}

func setDuration(n *Node, v reflect.Value) string {
	const expected = "a duration such as 90s, 10m or 24h"
	if n.Kind != Scalar {
		return expected
	}
	dur, err := time.ParseDuration(n.Value)
	if err != nil {
		return expected
	}
	v.SetInt(int64(dur))
	return ""
}

func (n *Node) integer() (int64, bool) {
	if n.Kind != Scalar || n.Tag != intTag {
		return 0, false
	}
	text := strings.ReplaceAll(n.Value, "_", "")
	i, err := strconv.ParseInt(text, 0, 64)
	return i, err == nil
}

func (n *Node) float() (float64, bool) {
	if n.Kind != Scalar || n.Tag != floatTag && n.Tag != intTag {
		return 0, false
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(n.Value, "_", ""), 64)
	return f, err == nil && !math.IsInf(f, 0) && !math.IsNaN(f)
}

// Any gives the tree as plain Go values: map[string]any, []any, string, int64,
// float64, bool and nil. Scalars of other types are their text.
func (n *Node) Any() any {
	switch n.Kind {
	case Mapping:
		m := make(map[string]any, len(n.Pairs))
		for _, p := range n.Pairs {
			m[p.Key.Value] = p.Value.Any()
		}
		return m
	case Sequence:
		list := make([]any, len(n.Items))
		for i, item := range n.Items {
			list[i] = item.Any()
		}
		return list
	}
	switch n.Tag {
	case nullTag:
		return nil
	case boolTag:
		return strings.EqualFold(n.Value, "true")
	case intTag:
		if i, ok := n.integer(); ok {
			return i
		}
	case floatTag:
		if f, ok := n.float(); ok {
			return f
		}
	}
	return n.Value
}
