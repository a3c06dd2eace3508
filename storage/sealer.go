package storage

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"sync"
)

// A vault keeps sealed values for a sealer.
type vault interface {
	Store
	SetAside(ctx context.Context, key string) error

	// samples yields sealed values from which to learn the vault's key: none
	// only if it is certain that the vault has none. An error ends it.
	samples(ctx context.Context) iter.Seq2[sample, error]

	// values yields all of the values, but for those set aside. An error ends
	// it.
	values(ctx context.Context) iter.Seq2[sample, error]

	// lockKey takes the lock under which a key is made. It is held while the
	// first value is saved, and is taken after a session's lock, never before.
	lockKey(ctx context.Context) (unlock func() error, err error)

	// settle is called with lockKey held, before the first value is saved. A
	// vault that cannot be listed keeps a marker, and yields it as a sample.
	settle(ctx context.Context, mark func() ([]byte, error)) error
}

// A sample is any sealed value of a vault.
type sample struct {
	from   string // which it is, for people
	sealed []byte
	err    error // why this one cannot be read, though others may be

	// holds reports whether the value of the key name belongs in this place;
	// nil for what is no value.
	holds func(name string) bool
}

// A sealer encrypts what a vault keeps. It decides which key seals a value and
// when a key may be made.
type sealer struct {
	vault vault
	key   Key

	mu    sync.Mutex // guards known; never held while calling the Key
	known []*material
}

var errNoKey = errors.New("storage: no Key given: use KeyFile, Passphrase, or that of package keyring")

// maxKnown bounds the keys that a sealer remembers. More than one is in use
// only where passphrases with different salts have met in one store.
const maxKnown = 8

func (s *sealer) load(ctx context.Context, name string) ([]byte, error) {
	_, value, err := s.open(ctx, name)
	return value, err
}

// open returns the value stored under name and the key that opened it.
func (s *sealer) open(ctx context.Context, name string) (*material, []byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	sealed, err := s.vault.Load(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	h, err := parse(sealed)
	if err != nil {
		return nil, nil, err
	}
	m, err := s.unlock(ctx, h)
	if err != nil {
		return nil, nil, err
	}
	within, value, err := m.open(h)
	if err == nil && string(within) != name {
		err = moved()
	}
	if err != nil {
		return nil, nil, err
	}
	return m, value, nil
}

// save seals value under the key of the value that it replaces, or else under
// that of the vault. It reads before it writes, so that it never overwrites
// what this program can't read: a value under another key may be somebody's
// only copy of a session.
func (s *sealer) save(ctx context.Context, name string, value []byte) error {
	if len(value) > maxValue {
		return fmt.Errorf("storage: a value of %d bytes is too big, the limit is %d", len(value), maxValue)
	}
	if len(name) > maxName {
		return fmt.Errorf("storage: a key of %d bytes is too long, the limit is %d", len(name), maxName)
	}
	m, _, err := s.open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		m, err = s.learn(ctx)
		if err == nil && m == nil {
			return s.saveFirst(ctx, name, value)
		}
	}
	if err != nil {
		return err
	}
	return s.put(ctx, m, name, value)
}

// saveFirst saves under a vault's first key, which it makes if there is none.
// The lock is held until the value is saved: whoever comes next finds a sample.
func (s *sealer) saveFirst(ctx context.Context, name string, value []byte) (err error) {
	unlock, err := s.vault.lockKey(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if uerr := unlock(); err == nil && uerr != nil {
			err = uerr
		}
	}()
	m, err := s.learn(ctx)
	if err != nil {
		return err
	}
	if m == nil {
		if m, err = s.mint(ctx); err != nil {
			return err
		}
		err = s.vault.settle(ctx, func() ([]byte, error) { return m.mark(newSalt()) })
		if err != nil {
			return err
		}
	}
	return s.put(ctx, m, name, value)
}

func (s *sealer) put(ctx context.Context, m *material, name string, value []byte) error {
	sealed, err := m.seal(name, value, newSalt())
	if err != nil {
		return err
	}
	return s.vault.Save(ctx, name, sealed)
}

func newSalt() *[saltSize]byte {
	var salt [saltSize]byte
	rand.Read(salt[:]) // never fails: it ends the program first
	return &salt
}

// learn returns the key of the values that the vault has, or nil if it has
// none. One that cannot be read is passed over for the sake of another. If that
// is true of all of them there is no telling which key they had: then the key
// that the Key has already will do, but none is made. Errors are about other
// sessions than the one at hand, and say nothing of that.
func (s *sealer) learn(ctx context.Context) (*material, error) {
	unreadable := ""
	for sample, err := range s.vault.samples(ctx) {
		if err != nil {
			return nil, aloof(err)
		}
		m, err := s.fromSample(ctx, sample)
		if err == nil {
			return m, nil
		}
		if cerr := ctx.Err(); cerr != nil {
			return nil, cerr
		}
		if sample.err == nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerVersion) {
			return nil, aloof(err) // its key is not to be had
		}
		if unreadable == "" {
			unreadable = fmt.Sprintf("%s: %v", sample.from, err)
		}
	}
	if unreadable == "" {
		return nil, nil
	}
	m, err := s.existing(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("storage: the key of this store cannot be told, since none of its other sessions can be read; "+
			"restore or remove what is damaged first (%s)", unreadable)
	}
	return m, aloof(err)
}

func (s *sealer) fromSample(ctx context.Context, sample sample) (*material, error) {
	if sample.err != nil {
		return nil, sample.err
	}
	h, err := parse(sample.sealed)
	if err != nil {
		return nil, err
	}
	return s.unlock(ctx, h)
}

// existing returns the key that is there without any value. The error matches
// fs.ErrNotExist if there is none.
func (s *sealer) existing(ctx context.Context) (*material, error) {
	if s.key == nil {
		return nil, errNoKey
	}
	key, err := s.key.Get(ctx, nil)
	if err != nil {
		return nil, err
	}
	return s.adopt(key, nil)
}

// unlock returns the key that h was made with.
func (s *sealer) unlock(ctx context.Context, h header) (*material, error) {
	return s.unlockWith(ctx, h, s.ask)
}

// unlockWith is unlock with another way to ask.
func (s *sealer) unlockWith(ctx context.Context, h header, ask func(context.Context, []byte) (*material, error)) (*material, error) {
	if m := s.recall(h); m != nil {
		return m, nil
	}
	m, err := ask(ctx, h.params)
	if err != nil {
		return nil, err
	}
	if !m.fits(h) {
		return nil, fmt.Errorf("storage: %w: give the one that the data was encrypted with; if that is lost, remove the data and log in again", ErrWrongKey)
	}
	s.remember(m)
	return m, nil
}

// ask asks the Key for the key that was made with these parameters.
func (s *sealer) ask(ctx context.Context, params []byte) (*material, error) {
	if s.key == nil {
		return nil, errNoKey
	}
	key, err := s.key.Get(ctx, params)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Not wrapped: a session whose key is lost is not absent.
		return nil, fmt.Errorf("storage: %w: %v; restore the key from a backup, "+
			"or remove the sealed data and log in again", ErrKeyMissing, err)
	case err != nil:
		return nil, err
	}
	return newMaterial(key, params)
}

// mint returns a key for a vault without values.
func (s *sealer) mint(ctx context.Context) (*material, error) {
	m, err := s.existing(ctx)
	if !errors.Is(err, fs.ErrNotExist) {
		return m, aloof(err)
	}
	key, params, err := s.key.New(ctx)
	if err != nil {
		return nil, aloof(err)
	}
	return s.adopt(key, params)
}

// adopt remembers what the Key returned.
func (s *sealer) adopt(key, params []byte) (*material, error) {
	m, err := newMaterial(key, params)
	if err != nil {
		return nil, err
	}
	s.remember(m)
	return m, nil
}

func (s *sealer) recall(h header) *material {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.known {
		if m.fits(h) {
			return m
		}
	}
	return nil
}

func (s *sealer) remember(m *material) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.known {
		if k.check == m.check && bytes.Equal(k.params, m.params) {
			return
		}
	}
	if len(s.known) == maxKnown {
		s.known = append(s.known[:0], s.known[1:]...)
	}
	s.known = append(s.known, m)
}
