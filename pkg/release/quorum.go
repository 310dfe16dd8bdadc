package release

import (
	"fmt"
	"strings"
)

// Quorum says who of those that hold a role have signed something, and how
// many distinct parties must have.
type Quorum struct {
	Role     Role     `json:"role"`
	Required int      `json:"required"`
	Signers  []string `json:"signers"` // distinct names, sorted
}

// Met reports whether enough distinct parties signed.
func (q Quorum) Met() bool { return len(q.Signers) >= q.Required }

// QuorumOf counts who made the evidence of a type that counts. A type without a
// role has no quorum and is never met.
func QuorumOf(t Trust, evidence []Evidence, predicateType string) Quorum {
	role, ok := RoleOf(predicateType)
	if !ok {
		return Quorum{Required: 1, Signers: []string{}}
	}
	var signers []Signer
	for _, e := range evidence {
		if e.Counts(predicateType) {
			signers = append(signers, e.Signer)
		}
	}
	return Quorum{Role: role, Required: t.Threshold(role), Signers: append([]string{}, Distinct(signers, role)...)}
}

// TooFew is the reason why evidence by too few distinct parties does not count.
func TooFew(signers []Signer, role Role, need int) string {
	names := Distinct(signers, role)
	return fmt.Sprintf("signed by %d of %d distinct parties that must (%s): %s", len(names), need, role, strings.Join(names, ", "))
}
