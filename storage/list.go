package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// list returns the names of the values that can be opened. The error tells of
// the others, or of why there is no list.
func (s *sealer) list(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var names []string
	l := listing{sealer: s, asked: make(map[string]answer)}
	for v, err := range s.vault.values(ctx) {
		if err != nil {
			return nil, err
		}
		name, err := l.name(ctx, v)
		if err == nil {
			names = append(names, name)
			continue
		}
		if cerr := ctx.Err(); cerr != nil {
			return nil, cerr
		}
		l.leaveOut(v.from, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return names, l.left()
}

// A listing is what a call of list remembers.
type listing struct {
	*sealer
	asked map[string]answer // by the parameters of the key
	out   []error           // why values were left out, of each kind the first
	more  int               // how many were left out for a reason given already
}

// An answer is what the Key said to some parameters. It is kept so that many
// values under a wrong passphrase take one derivation, and a keyring that stays
// locked is asked once.
type answer struct {
	m   *material
	err error
}

// name opens v and returns its name.
func (l *listing) name(ctx context.Context, v sample) (string, error) {
	if v.err != nil {
		return "", v.err
	}
	h, err := parse(v.sealed)
	if err != nil {
		return "", err
	}
	m, err := l.unlockWith(ctx, h, l.askOnce)
	if err != nil {
		return "", err
	}
	within, _, err := m.open(h)
	if err != nil {
		return "", err
	}
	if name := string(within); v.holds(name) {
		return name, nil
	}
	return "", moved()
}

// askOnce is ask, which it calls once for the same parameters.
func (l *listing) askOnce(ctx context.Context, params []byte) (*material, error) {
	a, ok := l.asked[string(params)]
	if !ok {
		a.m, a.err = l.ask(ctx, params)
		l.asked[string(params)] = a
	}
	return a.m, a.err
}

// maxLeftOut bounds the reasons that an error gives.
const maxLeftOut = 8

// leaveOut notes why a value is left out. One reason of a kind will do: a wrong
// passphrase is wrong for all values.
func (l *listing) leaveOut(from string, err error) {
	kind := kindOf(err)
	for _, e := range l.out {
		if kind != nil && errors.Is(e, kind) {
			l.more++
			return
		}
	}
	if kind == nil && len(l.out) >= maxLeftOut {
		l.more++
		return
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New(err.Error()) // of something else than a session
	}
	l.out = append(l.out, fmt.Errorf("%s: %w", from, err))
}

// kindOf returns the error of this package that err matches, or nil.
func kindOf(err error) error {
	for _, kind := range []error{ErrCorrupt, ErrWrongKey, ErrKeyMissing, ErrNewerVersion, ErrUnsafe} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return nil
}

// left returns the error that tells what was left out, or nil.
func (l *listing) left() error {
	if len(l.out) == 0 {
		return nil
	}
	return &leftOut{errs: l.out, more: l.more}
}

// leftOut matches every kind of error for which a value was left out.
type leftOut struct {
	errs []error
	more int
}

func (e *leftOut) Error() string {
	var b strings.Builder
	b.WriteString("storage: the list is incomplete: ")
	for i, err := range e.errs {
		if i > 0 {
			b.WriteString(" | ")
		}
		b.WriteString(strings.Replace(err.Error(), ": storage: ", ": ", 1))
	}
	if e.more > 0 {
		fmt.Fprintf(&b, " | and %d more", e.more)
	}
	return b.String()
}

func (e *leftOut) Unwrap() []error { return e.errs }
