package envelope

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/promote-dev/promote/pkg/release"
)

// strict refuses JSON that two parsers could read differently.
func strict(raw []byte) error {
	_, err := release.CanonicalJSON(raw)
	return err
}

// object splits an object into its members, which must all be among the known
// ones, spelled exactly: encoding/json would take "Digest" for "digest".
func object(raw []byte, known ...string) (map[string]json.RawMessage, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(orNull(raw), &members); err != nil || members == nil {
		return nil, errors.New("want an object")
	}
	for name := range members {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("unknown member %q", Tidy(name))
		}
	}
	return members, nil
}

// text reads a string that is not empty.
func text(raw json.RawMessage, most int, to *string) error {
	if err := json.Unmarshal(orNull(raw), to); err != nil || *to == "" {
		return errors.New("want a string that is not empty")
	}
	if len(*to) > most {
		return fmt.Errorf("longer than %d bytes", most)
	}
	return nil
}

func decode64(raw json.RawMessage, most int) ([]byte, error) {
	var s string
	if err := text(raw, base64.StdEncoding.EncodedLen(most), &s); err != nil {
		return nil, err
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	// The decoder skips line breaks, so the same bytes would have many texts.
	if err != nil || strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("want standard base64")
	}
	return b, nil
}

// orNull stands for a member that is not there.
func orNull(raw []byte) []byte {
	if len(raw) == 0 {
		return []byte("null")
	}
	return raw
}

// Tidy makes outside text fit to be shown: one short line without control
// characters.
func Tidy(s string) string {
	const most = 200
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}
