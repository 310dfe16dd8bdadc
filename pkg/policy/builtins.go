package policy

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// allowed are the builtins that gates may call: pure functions of their
// arguments. What reads the network, the clock, the environment or chance is
// not among them, because a stored decision must come out the same when it is
// judged again. Nor are those that make much out of little (numbers.range), and
// print and trace, whose output nobody would read.
var allowed = []string{
	// operators and comparisons
	"abs", "and", "assign", "ceil", "div", "eq", "equal", "floor", "gt", "gte", "lt", "lte", "minus", "mul", "neq", "or", "plus", "rem", "round",
	// collections and types
	"array.concat", "array.flatten", "array.reverse", "array.slice", "count", "graph.reachable", "graph.reachable_paths", "internal.member_2", "internal.member_3", "intersection", "is_array", "is_boolean", "is_null", "is_number",
	"is_object", "is_set", "is_string", "max", "min", "object.filter", "object.get", "object.keys", "object.remove", "object.subset", "object.union", "object.union_n", "product", "sort", "sum", "type_name", "union", "walk", "set_diff",
	"bits.and", "bits.lsh", "bits.negate", "bits.or", "bits.rsh", "bits.xor",
	// text
	"concat", "contains", "endswith", "format_int", "indexof", "indexof_n", "lower", "replace", "split", "sprintf", "startswith",
	"strings.any_prefix_match", "strings.any_suffix_match", "strings.count", "strings.replace_n", "strings.reverse",
	"substring", "to_number", "trim", "trim_left", "trim_prefix", "trim_right", "trim_space", "trim_suffix", "upper",
	"glob.match", "glob.quote_meta", "regex.find_all_string_submatch_n", "regex.find_n", "regex.is_valid", "regex.match", "regex.replace", "regex.split",
	"internal.template_string",
	// encodings, versions, times that are given
	"base64.decode", "base64.encode", "base64.is_valid", "base64url.decode", "base64url.encode", "hex.decode", "hex.encode", "urlquery.decode", "urlquery.encode", "crypto.sha256", "semver.compare", "semver.is_valid",
	"time.add_date", "time.date", "time.clock", "time.diff", "time.format", "time.parse_duration_ns", "time.parse_ns", "time.parse_rfc3339_ns", "time.weekday",
	"units.parse", "units.parse_bytes",
	"json.filter", "json.is_valid", "json.marshal", "json.patch", "json.remove", "json.unmarshal",
	"internal.test_case",
}

// capabilities are OPA's with the builtins that are allowed.
func capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.Builtins = slices.DeleteFunc(c.Builtins, func(b *ast.Builtin) bool { return !isAllowed(b) })
	c.AllowNet = []string{} // no schema is fetched either
	return c
}

func isAllowed(b *ast.Builtin) bool { return !b.Nondeterministic && slices.Contains(allowed, b.Name) }
