package keyring

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
)

// keySize is the length of a key in bytes, as package storage wants it.
const keySize = 32

// Key is a 32-byte key that the OS keyring holds, for a store of sealed files.
// It satisfies storage.Key; make one with [NewKey]. The keyring is read once:
// afterwards the key is kept in memory for as long as the Key lives. All
// methods are safe for concurrent use, from any number of processes.
type Key struct {
	// Behind a pointer, so that no way of printing a Key shows the key.
	state *keyState
}

type keyState struct {
	items
	invalid error         // why the Key cannot be used, or nil
	turn    chan struct{} // holds a token while key is used
	key     []byte        // as read from the keyring, or nil; guarded by turn
}

// NewKey returns the key that service has in the OS keyring. The service is
// named as for [NewStore]; stores that name the same one share the key. At most
// one Options may be given.
//
// NewKey does not touch the keyring. A service or Options that are not valid,
// and a system that has no keyring, are reported by the key's first use.
func NewKey(service string, options ...Options) *Key {
	k := newKey(system, service, options)
	if !supported {
		k.state.invalid = fail(ErrUnavailable, nil)
	}
	return k
}

func newKey(g *gate, service string, options []Options) *Key {
	o, err := withDefaults(options)
	if err == nil {
		err = checkService(service)
	}
	return &Key{&keyState{
		items:   items{gate: g, service: service, opts: o},
		invalid: err,
		turn:    make(chan struct{}, 1),
	}}
}

// String names the service, and shows nothing of the key.
func (k Key) String() string {
	if k.state == nil {
		return "keyring.Key()"
	}
	return fmt.Sprintf("keyring.Key(%s)", k.state.service)
}

// GoString is String.
func (k Key) GoString() string { return k.String() }

// LogValue is String.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

func (s *keyState) account() string { return accountOf("key", s.service, "") }

// Get returns the key. Its error matches fs.ErrNotExist only if the keyring
// says that there is none. The parameters, which other kinds of keys need, are
// not looked at.
func (k *Key) Get(ctx context.Context, _ []byte) ([]byte, error) {
	s := k.state
	if err := s.take(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	err := s.read(ctx)
	if err == errAbsent {
		return nil, fmt.Errorf("keyring: %s has no key in the keyring: %w", s.service, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	return bytes.Clone(s.key), nil
}

// New makes the key and returns it, without parameters. It does so under a
// lock that excludes the other processes of this user, only after the keyring
// has said that there is no key, and it returns what the keyring gives back.
// If there is a key, New returns that one and makes none.
func (k *Key) New(ctx context.Context) (key, params []byte, err error) {
	s := k.state
	if err := s.take(ctx); err != nil {
		return nil, nil, err
	}
	defer s.leave()
	if s.key == nil {
		if err := s.make(ctx); err != nil {
			return nil, nil, err
		}
	}
	return bytes.Clone(s.key), nil, nil
}

// take waits for the right to use s.key.
func (s *keyState) take(ctx context.Context) error {
	if s == nil {
		return errors.New("keyring: a Key must be made by NewKey")
	}
	if s.invalid != nil {
		return s.invalid
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *keyState) leave() { <-s.turn }

// read makes sure that s.key is what the keyring holds. It returns errAbsent if
// that is nothing.
func (s *keyState) read(ctx context.Context) error {
	if s.key != nil {
		return nil
	}
	text, err := s.get(ctx, s.account())
	if err != nil {
		return err
	}
	h, err := parseHead(s.account(), text)
	if err != nil {
		return keyDamaged(err)
	}
	if h.kind != typeValue || len(h.value) != keySize {
		return keyDamaged(&damaged{"it holds no key"})
	}
	s.key = h.value
	return nil
}

// keyDamaged says what to do about a key that cannot be used: unlike that of a
// session, its loss takes everything sealed with it along, so nothing replaces
// it by itself.
func keyDamaged(err error) error {
	var bad *damaged
	if !errors.As(err, &bad) {
		return err
	}
	return &failure{text: fmt.Sprintf("the key is damaged (%s): restore the keyring from a backup, "+
		"or delete the item and the sealed files and log in again", bad.what)}
}

// make makes the key if there still is none once the lock is had.
func (s *keyState) make(ctx context.Context) (err error) {
	account := s.account()
	unlock, err := s.lockBriefly(ctx, account)
	if err != nil {
		return err
	}
	defer func() {
		// A key that the keyring holds is no worse for a lock that is not
		// freed, and losing it here would not free it.
		if uerr := unlock(); err == nil && s.key == nil {
			err = uerr
		}
	}()
	if err := s.read(ctx); err != errAbsent {
		return err
	}
	key := make([]byte, keySize)
	rand.Read(key) // never fails
	if err := s.put(ctx, account, account, (&head{kind: typeValue, value: key}).text(account)); err != nil {
		return err
	}
	s.key = key
	return nil
}
