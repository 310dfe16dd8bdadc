package policy

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/promote-dev/promote/pkg/release"
)

// Facts reach policies as plain data in which every field is present: in Rego,
// what is left out is undefined, and a rule about it would say nothing.

// input gives facts as Rego's input document.
func input(f release.Facts) (ast.Value, error) {
	v, err := plain(reflect.ValueOf(f))
	if err != nil {
		return nil, err
	}
	return ast.InterfaceToValue(v)
}

func plain(v reflect.Value) (any, error) {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		return string(text), err
	}
	switch v.Kind() {
	case reflect.Pointer: // what is not known is null
		if v.IsNil() {
			return nil, nil
		}
		return plain(v.Elem())
	case reflect.Struct:
		object := map[string]any{}
		return object, eachField(v.Type(), func(name string, index []int) (err error) {
			object[name], err = plain(v.FieldByIndex(index))
			return err
		})
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			item, err := plain(v.Index(i))
			if err != nil {
				return nil, err
			}
			list[i] = item
		}
		return list, nil
	case reflect.Map:
		object := map[string]any{}
		for _, key := range v.MapKeys() {
			item, err := plain(v.MapIndex(key))
			if err != nil {
				return nil, err
			}
			object[key.String()] = item
		}
		return object, nil
	case reflect.String:
		return v.String(), nil
	case reflect.Bool:
		return v.Bool(), nil
	case reflect.Int, reflect.Int64:
		return v.Int(), nil
	case reflect.Float64:
		return v.Float(), nil
	}
	return nil, fmt.Errorf("facts hold a %s, which policies cannot read", v.Type())
}

// eachField calls f for every field of a struct by its JSON name; those of
// embedded structs are the struct's own.
func eachField(t reflect.Type, f func(name string, index []int) error) error {
	for i := range t.NumField() {
		field := t.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if field.Anonymous && name == "" {
			err := eachField(field.Type, func(name string, index []int) error { return f(name, append([]int{i}, index...)) })
			if err != nil {
				return err
			}
			continue
		}
		if name == "" || name == "-" {
			return fmt.Errorf("field %s of %s has no JSON name", field.Name, t)
		}
		if err := f(name, []int{i}); err != nil {
			return err
		}
	}
	return nil
}

// schema describes the input document in JSON Schema, for the type checker:
// a field that facts do not have is then an error of the policy.
func schema() (*ast.SchemaSet, error) {
	s, err := describe(reflect.TypeFor[release.Facts]())
	if err != nil {
		return nil, err
	}
	set := ast.NewSchemaSet()
	set.Put(ast.SchemaRootRef, s)
	return set, nil
}

var textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()

func describe(t reflect.Type) (any, error) {
	if t.Implements(textMarshaler) {
		return map[string]any{"type": "string"}, nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		value, err := describe(t.Elem())
		return map[string]any{"anyOf": []any{value, map[string]any{"type": "null"}}}, err
	case reflect.Struct:
		properties := map[string]any{}
		err := eachField(t, func(name string, index []int) (err error) {
			properties[name], err = describe(t.FieldByIndex(index).Type)
			return err
		})
		return map[string]any{"type": "object", "properties": properties, "additionalProperties": false}, err
	case reflect.Slice:
		items, err := describe(t.Elem())
		return map[string]any{"type": "array", "items": items}, err
	case reflect.Map:
		values, err := describe(t.Elem())
		return map[string]any{"type": "object", "additionalProperties": values}, err
	case reflect.String:
		return map[string]any{"type": "string"}, nil
	case reflect.Bool:
		return map[string]any{"type": "boolean"}, nil
	case reflect.Int, reflect.Int64, reflect.Float64:
		return map[string]any{"type": "number"}, nil
	}
	return nil, fmt.Errorf("facts hold a %s, which policies cannot read", t)
}
