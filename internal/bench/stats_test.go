package bench

import "testing"

func TestSummarize(t *testing.T) {
	for _, test := range []struct {
		runs []float64
		want Times
	}{
		{nil, Times{}},
		{[]float64{7}, Times{1, 7, 7, 7}},
		{[]float64{9, 1, 5}, Times{3, 5, 9, 1}},
		{[]float64{10, 4, 6, 2}, Times{4, 5, 10, 2}},
		{[]float64{20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, Times{20, 10.5, 19, 1}},
	} {
		if got := Summarize(test.runs); got != test.want {
			t.Errorf("%v: got %+v, want %+v", test.runs, got, test.want)
		}
	}
}
