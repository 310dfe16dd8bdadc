package build

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

var (
	secretWords = regexp.MustCompile(`(?i)(^|_)(pass|passwd|password|passphrase|secret|secrets|token|apikey|api_key|access_key|private_key|secret_key|signing_key|encryption_key|credential|credentials|auth)(_|$)`)
	// A path or a name of a secret is not the secret.
	secretPlace = regexp.MustCompile(`(?i)_(file|path|dir|name|id|url|uri|host|endpoint)$`)
	// Forms that issuers give their tokens so that they can be recognised.
	secretForms = regexp.MustCompile(`(AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{50}|glpat-[A-Za-z0-9_-]{20}|sk-[A-Za-z0-9_-]{20}|xox[abprs]-[A-Za-z0-9-]{10}|AIza[0-9A-Za-z_-]{35}|-----BEGIN [A-Z ]*PRIVATE KEY-----|eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.`)
	// Credentials within a URL.
	secretURL = regexp.MustCompile(`[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@$]+@`)
)

// secretName reports whether a variable's name says that it holds a secret.
func secretName(name string) bool {
	return secretWords.MatchString(name) && !secretPlace.MatchString(name)
}

// secretValue reports whether a value has the form of a known kind of secret.
func secretValue(value string) bool {
	return secretForms.MatchString(value) || secretURL.MatchString(value)
}

// redacted stands where a secret was.
const redacted = "[redacted]"

// redactor hides secrets in texts that leave the build: provenance, logs,
// errors. It knows the values of build arguments that look secret, and the
// forms of known tokens.
type redactor struct{ values []string }

func newRedactor(args map[string]string) redactor {
	var r redactor
	for name, value := range args {
		// A value of one or two characters would blot out everything.
		if len(value) > 2 && (secretName(name) || secretValue(value)) {
			r.values = append(r.values, value)
		}
	}
	// The longest first: one may hold another.
	slices.SortFunc(r.values, func(a, b string) int {
		if c := cmp.Compare(len(b), len(a)); c != 0 {
			return c
		}
		return cmp.Compare(a, b)
	})
	return r
}

// text hides secrets in a text.
func (r redactor) text(s string) string {
	for _, v := range r.values {
		s = strings.ReplaceAll(s, v, redacted)
	}
	if secretForms.MatchString(s) {
		s = secretForms.ReplaceAllString(s, redacted)
	}
	if strings.Contains(s, "://") {
		s = secretURL.ReplaceAllStringFunc(s, func(m string) string {
			scheme, _, _ := strings.Cut(m, "://")
			return scheme + "://" + redacted + "@"
		})
	}
	return s
}
