package release

import (
	"slices"
	"strings"
)

// Nearest gives the known key that most likely was meant: the smallest
// edit distance (insertions, deletions, substitutions, transpositions), at
// most a third of the key's length or two. Case does not count. "" if none.
func Nearest(key string, known []string) string {
	best, bestAt := "", max(2, len(key)/3)+1
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := distance(strings.ToLower(key), strings.ToLower(k), bestAt); d < bestAt {
			best, bestAt = k, d
		}
	}
	if best != "" && bestAt >= max(len(key), len(best)) {
		return "" // nothing in common
	}
	return best
}

// distance is the optimal string alignment distance of two keys; limit or more
// when it is not below limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
