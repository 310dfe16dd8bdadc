package compose

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// order sorts services so that each comes after what it depends on, and by
// name where that leaves a choice. A circle is an error that names it.
func order(dependsOn map[string][]string) ([]string, error) {
	var sorted, open []string
	done := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		if i := slices.Index(open, name); i >= 0 {
			return fmt.Errorf("services wait for each other: %s", strings.Join(append(open[i:], name), " → "))
		}
		if done[name] {
			return nil
		}
		open = append(open, name)
		for _, other := range slices.Sorted(slices.Values(dependsOn[name])) {
			if _, ok := dependsOn[other]; !ok {
				continue
			}
			if err := add(other); err != nil {
				return err
			}
		}
		open = open[:len(open)-1]
		done[name] = true
		sorted = append(sorted, name)
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(dependsOn)) {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return sorted, nil
}
