package registry

import (
	"encoding/base64"
	"strings"
)

// shortest is the length from which on a secret is looked for in texts: shorter
// ones would turn up in words.
const shortest = 4

// secrets lists what this registry and its token server were told, or told us,
// that nobody else may read.
func (s *session) secrets() []string {
	var list []string
	add := func(secret string) {
		if len(secret) >= shortest {
			list = append(list, secret)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.credentials {
		if c.Password != "" {
			add(base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password)))
		}
		add(c.Password)
		add(c.IdentityToken)
		add(c.RegistryToken)
	}
	for _, t := range s.tokens {
		if t.mu.TryLock() { // one that is being exchanged is not known to anybody yet
			add(t.value)
			t.mu.Unlock()
		}
	}
	return list
}

// hide takes secrets out of what a registry said: one that repeats what it was
// told must not get it into a log.
func (s *session) hide(text string) string {
	for _, secret := range s.secrets() {
		text = strings.ReplaceAll(text, secret, "[hidden]")
	}
	return text
}

// conceal is hide for an error, whose kind stays.
func (s *session) conceal(err error) error {
	text := err.Error()
	if hidden := s.hide(text); hidden != text {
		return &concealed{error: err, text: hidden}
	}
	return err
}

// concealed is an error whose text is not shown as it is.
type concealed struct {
	error
	text string
}

func (e *concealed) Error() string { return e.text }
func (e *concealed) Unwrap() error { return e.error }
