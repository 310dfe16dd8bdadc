package release

import (
	"fmt"
	"regexp"
)

// maxPattern bounds a regular expression's text, in bytes.
const maxPattern = 512

// anybody are identities that nobody means: an expression that matches one of
// them matches everybody.
var anybody = []string{"", "x", "https://example.invalid/somebody", "somebody@example.invalid"}

// CompilePattern compiles an expression (RE2) that has to match an identity
// from its first byte to its last: without that, .../acme/x would let
// .../acme/x-evil in. One that matches anybody is an error.
func CompilePattern(expression string) (*regexp.Regexp, error) {
	if len(expression) > maxPattern {
		return nil, fmt.Errorf("an expression of %d bytes, at most %d", len(expression), maxPattern)
	}
	// By itself first: "a)|(b" would close the group around it.
	if _, err := regexp.Compile(expression); err != nil {
		return nil, fmt.Errorf("%.200q: %w", expression, err)
	}
	re, err := regexp.Compile(`\A(?:` + expression + `)\z`)
	if err != nil {
		return nil, fmt.Errorf("%.200q: %w", expression, err)
	}
	for _, name := range anybody {
		if re.MatchString(name) {
			return nil, fmt.Errorf("the expression %.200q matches anybody", expression)
		}
	}
	return re, nil
}

// CheckPattern reports why an expression is none to match identities by.
func CheckPattern(expression string) error {
	_, err := CompilePattern(expression)
	return err
}
