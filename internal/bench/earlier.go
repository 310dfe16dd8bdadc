package bench

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// KeepOthers takes over, from the report in a directory, what this one has not
// measured again, so that a run of some benchmarks brings the others along. No
// report there is an empty one.
func (r *Report) KeepOthers(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, r.part+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var earlier Report
	if err := json.Unmarshal(raw, &earlier); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(dir, r.part+".json"), err)
	}
	measured := map[string]bool{}
	for _, result := range r.Results {
		measured[result.what()] = true
	}
	for _, result := range earlier.Results {
		if !measured[result.what()] {
			r.Results = append(r.Results, result)
		}
	}
	slices.SortStableFunc(r.Results, func(a, b Result) int {
		return cmp.Or(cmp.Compare(len(a.Case), len(b.Case)), strings.Compare(a.Case, b.Case), strings.Compare(a.Work, b.Work),
			cmp.Compare(a.Spec.Bytes, b.Spec.Bytes), cmp.Compare(a.Spec.Layers, b.Spec.Layers), cmp.Compare(a.Delay, b.Delay))
	})
	tools := map[string]*Tool{} // a row of a table is one tool
	for i, result := range r.Results {
		key := fmt.Sprint(result.Tool.Name, result.Tool.Tuning, result.Tool.Library, result.Tool.Evidence)
		if tools[key] == nil {
			tools[key] = result.Tool
		}
		r.Results[i].Tool = tools[key]
		if !slices.Contains(r.Delays, result.Delay) {
			r.Delays = append(r.Delays, result.Delay)
		}
		r.Runs = max(r.Runs, result.Milliseconds.Runs)
	}
	slices.Sort(r.Delays)
	return nil
}

// what names the copy that a result is about; all tools do it side by side.
func (r Result) what() string {
	return fmt.Sprint(r.Case, " ", r.Work, " ", r.Spec, " ", r.Delay)
}
