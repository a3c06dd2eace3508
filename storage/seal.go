package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"
)

// A Store is what [Seal] wraps: freshtoken.Store, stated again, so that this
// package needs no import of that one.
type Store interface {
	Load(ctx context.Context, key string) ([]byte, error)
	Save(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error
	Lock(ctx context.Context, key string) (unlock func() error, err error)
}

// Values are a few kilobytes as a rule. The limit keeps a file that is none of
// ours from filling the memory.
const maxValue = 16 << 20

// Sealed is a store that encrypts what another one keeps. All methods are safe
// for concurrent use. Make one with [Seal].
type Sealed struct {
	label
	s *sealer
}

// Seal returns a store that keeps its values in store, sealed under key:
// encrypted, and bound to the key under which they are stored.
//
// Beside the values it keeps one entry under "freshtoken.seal/key", written
// before the first of them, from which it knows that sealed values exist. If
// all of them and their key are gone for good, delete that entry to start
// afresh. Keys that begin with "freshtoken.seal/" are stored under an escaped
// name, all others under their own.
//
// Save loads the old value first, so that it never overwrites what key does
// not open.
func Seal(store Store, key Key) *Sealed {
	return &Sealed{label: "storage.Sealed", s: &sealer{vault: wrapped{store}, key: key}}
}

// Load returns the opened value. What a Load of the underlying store fails
// with is passed on; the other errors are [ErrWrongKey], [ErrKeyMissing],
// [ErrNewerVersion], [ErrCorrupt] and what the Key fails with.
func (s *Sealed) Load(ctx context.Context, key string) ([]byte, error) { return s.s.load(ctx, key) }

// Save seals value and stores it. It fails as Load does, rather than overwrite
// a value that cannot be opened.
func (s *Sealed) Save(ctx context.Context, key string, value []byte) error {
	return s.s.save(ctx, key, value)
}

// Delete removes what is stored under key, be it readable or not.
func (s *Sealed) Delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.s.vault.Delete(ctx, key)
}

// Lock takes the underlying store's lock of key.
func (s *Sealed) Lock(ctx context.Context, key string) (unlock func() error, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.s.vault.Lock(ctx, key)
}

// SetAside moves a value that cannot be read to an entry of its own in the
// underlying store, "freshtoken.seal/aside-" with a number, a slash and the
// key. One that the underlying store itself reports as damaged, by an error of
// Load with a method Corrupt() bool that returns true, is for that store to set
// aside, if it has a SetAside method as freshtoken.Quarantiner has it; if it has
// not, nobody can read the value any more, and it is deleted. Where nothing is
// stored it does nothing. Call it with the lock of key held.
func (s *Sealed) SetAside(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.s.vault.SetAside(ctx, key)
}

// List returns the keys under which values are stored, in no particular order,
// if the underlying store has a List method as freshtoken.Lister has it; if it
// has not, an error that is errors.ErrUnsupported. It loads and opens every
// value. What cannot be opened is left out, as is what the underlying store
// leaves out: the error, which is returned together with the keys, says so, and
// matches those of Load.
func (s *Sealed) List(ctx context.Context) ([]string, error) { return s.s.list(ctx) }

// reserved begins the underlying keys that are not a user's.
const reserved = "freshtoken.seal/"

// wrapped makes a vault of any store.
type wrapped struct{ store Store }

// underlying maps the user's keys to the store's: to themselves, but where
// they would meet one of ours.
func underlying(key string) string {
	if strings.HasPrefix(key, reserved) {
		return reserved + "=" + key
	}
	return key
}

func (w wrapped) Load(ctx context.Context, key string) ([]byte, error) {
	return w.store.Load(ctx, underlying(key))
}

func (w wrapped) Save(ctx context.Context, key string, value []byte) error {
	return w.store.Save(ctx, underlying(key), value)
}

func (w wrapped) Delete(ctx context.Context, key string) error {
	return w.store.Delete(ctx, underlying(key))
}

func (w wrapped) Lock(ctx context.Context, key string) (func() error, error) {
	return w.store.Lock(ctx, underlying(key))
}

func (w wrapped) SetAside(ctx context.Context, key string) error {
	sealed, err := w.Load(ctx, key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case isCorrupt(err):
		return w.setDamageAside(ctx, key)
	case err != nil:
		return err
	}
	for n := 1; ; n++ {
		aside := fmt.Sprintf("%saside-%d/%s", reserved, n, key)
		_, err := w.store.Load(ctx, aside)
		if err == nil || isCorrupt(err) {
			continue // taken
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := w.store.Save(ctx, aside, sealed); err != nil {
			return err
		}
		return w.Delete(ctx, key)
	}
}

// A quarantiner is freshtoken.Quarantiner, stated again.
type quarantiner interface {
	SetAside(ctx context.Context, key string) error
}

// setDamageAside makes room where the store has a value that it cannot read
// itself. Only the store may still have something to keep.
func (w wrapped) setDamageAside(ctx context.Context, key string) error {
	if q, ok := w.store.(quarantiner); ok {
		return q.SetAside(ctx, underlying(key))
	}
	return w.Delete(ctx, key)
}

func (w wrapped) samples(ctx context.Context) iter.Seq2[sample, error] {
	return func(yield func(sample, error) bool) {
		sealed, err := w.store.Load(ctx, reserved+"key")
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err == nil, isCorrupt(err):
			yield(sample{from: "the entry " + reserved + "key", sealed: sealed, err: err}, nil)
		default:
			yield(sample{}, err)
		}
	}
}

// A lister is freshtoken.Lister, stated again.
type lister interface {
	List(ctx context.Context) ([]string, error)
}

func (w wrapped) values(ctx context.Context) iter.Seq2[sample, error] {
	return func(yield func(sample, error) bool) {
		l, ok := w.store.(lister)
		if !ok {
			yield(sample{}, fmt.Errorf("storage: the store under Seal, a %T, has no method List(context.Context) ([]string, error); "+
				"give it one, or keep a list of the keys yourself: %w", w.store, errors.ErrUnsupported))
			return
		}
		keys, err := l.List(ctx)
		if err != nil && !yield(sample{from: "the store under Seal", err: err}, nil) {
			return
		}
		for _, key := range keys {
			if strings.HasPrefix(key, reserved) && !strings.HasPrefix(key, reserved+"=") {
				continue // the marker, or set aside
			}
			sealed, err := w.store.Load(ctx, key)
			if errors.Is(err, fs.ErrNotExist) {
				continue // deleted meanwhile
			}
			if !yield(sample{
				from:   fmt.Sprintf("the entry %q", key),
				sealed: sealed,
				err:    err,
				holds:  func(name string) bool { return underlying(name) == key },
			}, nil) {
				return
			}
		}
	}
}

func (w wrapped) lockKey(ctx context.Context) (func() error, error) {
	return w.store.Lock(ctx, reserved+"key")
}

func (w wrapped) settle(ctx context.Context, mark func() ([]byte, error)) error {
	marker, err := mark()
	if err != nil {
		return err
	}
	return w.store.Save(ctx, reserved+"key", marker)
}
