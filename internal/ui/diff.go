package ui

import (
	"fmt"
	"io"
	"strings"
)

// maxDiff bounds the lines that are compared one with each other.
const maxDiff = 2000

// Diff writes the lines in which two texts differ, each with "-" or "+" before
// it, and two lines of what stands around them.
func Diff(w io.Writer, before, after string) error {
	a, b := strings.Split(before, "\n"), strings.Split(after, "\n")
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	lines := []string{}
	for _, line := range a[max(0, head-2):head] {
		lines = append(lines, "  "+line)
	}
	lines = append(lines, changed(a[head:len(a)-tail], b[head:len(b)-tail])...)
	for _, line := range a[len(a)-tail : min(len(a), len(a)-tail+2)] {
		lines = append(lines, "  "+line)
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	return nil
}

// changed gives the lines of both texts, those in common once.
func changed(a, b []string) []string {
	if len(a) > maxDiff || len(b) > maxDiff {
		return []string{fmt.Sprintf("- %d lines", len(a)), fmt.Sprintf("+ %d lines", len(b))}
	}
	common := make([][]int, len(a)+1) // length of the longest common subsequence of the rests
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out []string
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, "  "+a[i])
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			out = append(out, "- "+a[i])
			i++
		default:
			out = append(out, "+ "+b[j])
			j++
		}
	}
	return out
}
