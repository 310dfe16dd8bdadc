package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	validate "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/promote-dev/promote/pkg/release"
)

// valid fails unless JSON is what the strict schema says.
func valid(t *testing.T, name string, text []byte) {
	t.Helper()
	doc, err := validate.UnmarshalJSON(bytes.NewReader(resultSchema(t, name, true)))
	if err != nil {
		t.Fatal(err)
	}
	c := validate.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	value, err := validate.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, text)
	}
	if err := s.Validate(value); err != nil {
		t.Errorf("%s: %v\n%s", name, err, text)
	}
}

// filled gives a value of a type in which every field, element and entry is
// something.
func filled(of reflect.Type, depth int) reflect.Value {
	v := reflect.New(of).Elem()
	switch of {
	case reflect.TypeFor[release.Digest]():
		return reflect.ValueOf(release.DigestOf([]byte("x")))
	case reflect.TypeFor[release.Result]():
		return reflect.ValueOf(release.Passed)
	case reflect.TypeFor[time.Time]():
		return reflect.ValueOf(time.Unix(1, 0).UTC())
	case reflect.TypeFor[json.RawMessage]():
		return reflect.ValueOf(json.RawMessage(`{"a":1}`))
	}
	switch of.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Float64:
		v.SetFloat(0.5)
	case reflect.Pointer:
		v.Set(reflect.New(of.Elem()))
		v.Elem().Set(filled(of.Elem(), depth))
	case reflect.Struct:
		for n := range of.NumField() {
			if v.Field(n).CanSet() {
				v.Field(n).Set(filled(of.Field(n).Type, depth))
			}
		}
	case reflect.Slice:
		if depth > 0 {
			v.Set(reflect.Append(v, filled(of.Elem(), depth-1)))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(of))
		v.SetMapIndex(filled(of.Key(), depth), filled(of.Elem(), depth))
	}
	return v
}

// Whatever a result holds, and when it holds nothing, what is written is what
// its schema says; a list that is empty is written as one.
func TestResultsAreWhatTheirSchemasSay(t *testing.T) {
	for name, zero := range results {
		for _, value := range []any{zero, filled(reflect.TypeOf(zero), 4).Interface()} {
			var out bytes.Buffer
			if err := encode(&out, value); err != nil {
				t.Fatal(err)
			}
			if _, is := zero.(errorResult); is { // errors go a way of their own
				out.Reset()
				printError(&out, &release.Fault{Kind: release.KindDenied, Hint: "h", File: "f", Line: 1, Err: errors.New("no")}, true, false)
			}
			valid(t, name, out.Bytes())
		}
	}
}
