package compose

import (
	"strings"
)

// tidy gives the merged model without what is of no concern to a release:
// extensions (x-…), what has been worked in (include, extends), and develop.
// Names with values become mappings of texts in whatever form they were
// written, so that the same meaning gives the same bytes.
func tidy(model map[string]any, name string) map[string]any {
	strip(model, "")
	delete(model, "version")
	delete(model, "include")
	model["name"] = name
	for _, s := range services(model) {
		delete(s.spec, "develop")
		delete(s.spec, "extends")
		delete(s.spec, "attach")
		toTexts(s.spec, "environment", passThrough)
		toTexts(s.spec, "labels", nothing)
		toTexts(s.spec, "sysctls", nothing)
		for _, hook := range items(s.spec["pre_stop"]) {
			toTexts(object(hook), "environment", passThrough)
		}
		if deploy := object(s.spec["deploy"]); deploy != nil {
			toTexts(deploy, "labels", nothing)
		}
	}
	switchOver(model)
	for _, kind := range []string{"networks", "volumes", "secrets", "configs"} {
		for _, v := range object(model[kind]) {
			toTexts(object(v), "labels", nothing)
			toTexts(object(v), "driver_opts", nothing)
		}
	}
	return model
}

// strip removes the author's own keys.
func strip(v any, path string) {
	switch v := v.(type) {
	case map[string]any:
		own := len(keys.known(path)) > 0
		for name, item := range v {
			if own && strings.HasPrefix(name, "x-") {
				delete(v, name)
				continue
			}
			strip(item, keys.step(path, name))
		}
	case []any:
		for _, item := range v {
			strip(item, keys.items(path))
		}
	}
}

// toTexts makes the value of a key a mapping of texts; absent gives the text
// for a name without a value.
func toTexts(in map[string]any, name string, absent func(string) string) {
	value, ok := in[name]
	if !ok {
		return
	}
	out := map[string]any{}
	for key, v := range pairs(value) {
		if v == nil {
			out[key] = absent(key)
			continue
		}
		out[key] = text(v)
	}
	if len(out) == 0 {
		delete(in, name)
		return
	}
	in[name] = out
}

// passThrough is a variable without a value: Compose hands on the caller's, so
// it is a placeholder that must be filled in.
func passThrough(name string) string { return "${" + name + "}" }

func nothing(string) string { return "" }

// leaveOut removes services with profiles and what depends on them if it can
// do without, and gives their names.
func leaveOut(model map[string]any) []string {
	all := object(model["services"])
	var left []string
	for _, s := range services(model) {
		if len(items(s.spec["profiles"])) > 0 {
			left = append(left, s.name)
			delete(all, s.name)
		}
	}
	for _, s := range services(model) {
		dependencies := object(s.spec["depends_on"])
		for _, name := range left {
			if d, ok := dependencies[name]; ok && !truthy(object(d)["required"]) {
				delete(dependencies, name)
			}
		}
	}
	return left
}

// switches are the paths of the model's booleans.
var switches = func() map[string]bool {
	m := map[string]bool{}
	for path := range strings.FieldsSeq(`services.*.init services.*.privileged services.*.read_only services.*.stdin_open
		services.*.tty services.*.use_api_socket services.*.depends_on.*.required services.*.healthcheck.disable
		services.*.volumes[].read_only services.*.volumes[].volume.nocopy networks.*.external networks.*.internal
		volumes.*.external`) {
		m[path] = true
	}
	return m
}()

// switchOver reads booleans that are written as words: yes means true to
// Compose, and is text to YAML 1.2.
func switchOver(model map[string]any) {
	var change func(v any, path string) any
	change = func(v any, path string) any {
		switch v := v.(type) {
		case map[string]any:
			for name, item := range v {
				v[name] = change(item, keys.step(path, name))
			}
		case []any:
			for i, item := range v {
				v[i] = change(item, keys.items(path))
			}
		case string:
			if !switches[path] {
				return v
			}
			switch strings.ToLower(v) {
			case "true", "yes", "y", "on":
				return true
			case "false", "no", "n", "off":
				return false
			}
		}
		return v
	}
	change(model, "")
}
