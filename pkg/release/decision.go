package release

import "fmt"

// Result is how a gate judged. The zero value is failed: what nobody set is
// never a pass.
type Result int

// The results, worst first.
const (
	Failed Result = iota
	Unknown
	Warned
	Passed
)

var resultNames = [...]string{"failed", "unknown", "warned", "passed"}

// String gives the result's word.
func (r Result) String() string {
	if r < 0 || int(r) >= len(resultNames) {
		return resultNames[Failed]
	}
	return resultNames[r]
}

// MarshalText writes the word.
func (r Result) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads the word; anything unknown is an error.
func (r *Result) UnmarshalText(b []byte) error {
	for i, name := range resultNames {
		if string(b) == name {
			*r = Result(i)
			return nil
		}
	}
	return fmt.Errorf("result %q: want failed, unknown, warned or passed", clip(string(b)))
}

// Reason says why a gate judged as it did, and what to do.
type Reason struct {
	Rule    string `json:"rule"`
	Message string `json:"message"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Fix     string `json:"fix,omitempty"`
}

// Verdict is one gate's judgement.
type Verdict struct {
	Gate    string   `json:"gate"`
	Result  Result   `json:"result"`
	Reasons []Reason `json:"reasons"`
}

// Decision is all verdicts for one release and one environment.
type Decision struct {
	Release     Digest `json:"release"`
	Environment string `json:"environment"`
	// Trust is "single-key" or "roles".
	Trust         string   `json:"trust"`
	Policy        Digest   `json:"policy"`
	Configuration Digest   `json:"configuration"`
	Exceptions    Digest   `json:"exceptions"`
	Evidence      []Digest `json:"evidence"`
	// TreeSize is the size of the ledger that was read.
	TreeSize int64     `json:"treeSize"`
	Verdicts []Verdict `json:"verdicts"`
}

// Result gives the worst verdict; without verdicts it is Failed.
func (d Decision) Result() Result {
	if len(d.Verdicts) == 0 {
		return Failed
	}
	worst := Passed
	for _, v := range d.Verdicts {
		worst = min(worst, v.Result)
	}
	return worst
}

// Allowed reports whether the decision lets the release through.
func (d Decision) Allowed() bool { return d.Result() >= Warned }

// Word is "allow" or "deny".
func (d Decision) Word() string {
	if d.Allowed() {
		return "allow"
	}
	return "deny"
}
