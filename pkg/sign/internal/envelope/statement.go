package envelope

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// EncodeStatement gives the payload that is signed for a statement. The same
// statement gives the same bytes. A predicate that is not there is written as
// an empty object, as cosign v3 does for signatures. What ParseStatement would
// refuse is an error here, so nothing is signed that would not verify.
func EncodeStatement(st release.Statement) ([]byte, error) {
	if st.Type != release.StatementType {
		return nil, fmt.Errorf("statement is not of type %s", release.StatementType)
	}
	if len(st.Predicate) == 0 {
		st.Predicate = json.RawMessage("{}")
	}
	payload, err := json.Marshal(st)
	if err != nil {
		return nil, fmt.Errorf("encoding statement: %w", err)
	}
	if _, err := ParseStatement(payload); err != nil {
		return nil, err
	}
	return payload, nil
}

// statementV01 is what stock cosign's attest still writes; it differs from v1 in
// nothing that is read here.
const statementV01 = "https://in-toto.io/Statement/v0.1"

// ParseStatement reads an in-toto Statement v1 or v0.1 about exactly one
// subject. Duplicate keys, members that the specification doesn't name or names in
// another case, and a predicate that is not an object are errors.
// https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
func ParseStatement(payload []byte) (release.Statement, error) {
	var st release.Statement
	if err := strict(payload); err != nil {
		return st, fmt.Errorf("reading statement: %w", err)
	}
	members, err := object(payload, "_type", "subject", "predicateType", "predicate")
	if err != nil {
		return st, fmt.Errorf("reading statement: %w", err)
	}
	if err := text(members["_type"], maxPredicateURI, &st.Type); err != nil || st.Type != release.StatementType && st.Type != statementV01 {
		return st, fmt.Errorf("statement is not of type %s", release.StatementType)
	}
	if err := text(members["predicateType"], maxPredicateURI, &st.PredicateType); err != nil {
		return st, fmt.Errorf("reading predicateType: %w", err)
	}
	if !PlainURI(st.PredicateType) {
		return st, errors.New("predicateType is not a URI")
	}
	if st.Subject, err = subjects(members["subject"]); err != nil {
		return st, err
	}
	st.Predicate, err = predicate(members["predicate"], st.PredicateType)
	return st, err
}

func subjects(raw json.RawMessage) ([]release.StatementSubject, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(orNull(raw), &list); err != nil {
		return nil, errors.New("reading subject: want a list")
	}
	if len(list) != 1 {
		return nil, fmt.Errorf("%d subjects, want exactly one", len(list))
	}
	members, err := object(list[0], "name", "digest", "uri", "content", "downloadLocation", "mediaType", "annotations")
	if err != nil {
		return nil, fmt.Errorf("reading subject: %w", err)
	}
	var s release.StatementSubject
	if name, ok := members["name"]; ok {
		if err := json.Unmarshal(name, &s.Name); err != nil {
			return nil, errors.New("reading subject's name: want a string")
		}
	}
	if err := json.Unmarshal(orNull(members["digest"]), &s.Digest); err != nil || len(s.Digest) == 0 {
		return nil, errors.New("subject without a digest")
	}
	if _, err := release.ParseDigest("sha256:" + s.Digest["sha256"]); err != nil {
		return nil, errors.New("subject without a sha256 digest")
	}
	return []release.StatementSubject{s}, nil
}

// predicate demands an object, except of a signature, which says all it has to
// say with its type and which cosign v2 writes without one.
func predicate(raw json.RawMessage, predicateType string) (json.RawMessage, error) {
	if len(raw) == 0 && predicateType == release.PredicateSignature {
		return nil, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(orNull(raw), &members); err != nil || members == nil {
		return nil, errors.New("statement without a predicate")
	}
	if len(members) == 0 && predicateType != release.PredicateSignature {
		return nil, errors.New("statement with an empty predicate")
	}
	return raw, nil
}

// PlainURI reports whether s is a short absolute URI of printable ASCII.
func PlainURI(s string) bool {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || scheme == "" || rest == "" || len(s) > maxPredicateURI {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '"' || s[i] == '<' || s[i] == '>' {
			return false
		}
	}
	return true
}
