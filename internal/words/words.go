// Package words has the words in which errors speak to people.
package words

import (
	"fmt"
	"strings"
	"time"
)

// packages are those of this module whose errors begin with their name.
var packages = []string{"freshtoken", "storage", "keyring", "login", "discovery", "clientauth", "openid", "grant"}

// Text is the text of an error that stands inside another of this module: one
// name of a package is enough.
func Text(err error) string {
	text := err.Error()
	for _, name := range packages {
		if rest, ok := strings.CutPrefix(text, name+": "); ok {
			return rest
		}
	}
	return text
}

// Duration is a time as people say it, not shorter than d: "5 minutes".
func Duration(d time.Duration) string {
	n, unit := max(ceil(d, time.Second), 1), "second"
	if d > 10*time.Minute || d >= time.Minute && d%time.Minute == 0 {
		n, unit = ceil(d, time.Minute), "minute"
	}
	if n != 1 {
		unit += "s"
	}
	return fmt.Sprintf("%d %s", n, unit)
}

func ceil(d, unit time.Duration) int64 {
	n := int64(d / unit)
	if d%unit > 0 {
		n++
	}
	return n
}

// Say returns an error that says text and wraps errs: what they say is in the
// text already, in better words.
func Say(text string, errs ...error) error { return &said{text, errs} }

type said struct {
	text string
	errs []error
}

func (s *said) Error() string   { return s.text }
func (s *said) Unwrap() []error { return s.errs }
