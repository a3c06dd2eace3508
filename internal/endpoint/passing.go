package endpoint

import "errors"

// Passing marks an error as one that passes: what it stands in the way of is
// worth another attempt.
func Passing(err error) error { return passing{err} }

// Passes reports whether an error says so.
func Passes(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

type passing struct{ error }

func (p passing) Unwrap() error { return p.error }

func (p passing) Temporary() bool { return true }
