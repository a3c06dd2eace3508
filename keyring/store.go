package keyring

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
)

const (
	maxValue = 1 << 20
	maxParts = 1 << 10
)

// Store keeps sessions in the OS keyring. It satisfies freshtoken.Store and
// freshtoken.Quarantiner; make one with [NewStore]. All methods are safe for
// concurrent use, from any number of processes.
//
// A call returns [ErrTimeout], or the error of its context, while the keyring
// may still be at work on it; what it was to do may yet be done. Until that
// call has returned no other reaches the keyring, and the locks under which it
// ran stay locked.
type Store struct {
	items
	limit int // how long the text of an item may be
}

// NewStore returns the store of the sessions that service has in the OS
// keyring. The service is named after the program, of 1 to 64 characters out
// of A-Z a-z 0-9 . _ - ; it and a hash of each session's key are visible to
// whoever may list the keyring. At most one Options may be given.
//
// NewStore does not touch the keyring: [Probe] tells whether there is one.
// Where this system can't have one the error is [ErrUnavailable].
func NewStore(service string, options ...Options) (*Store, error) {
	if !supported {
		return nil, fail(ErrUnavailable, nil)
	}
	return newStore(system, itemLimit, service, options)
}

func newStore(g *gate, limit int, service string, options []Options) (*Store, error) {
	o, err := withDefaults(options)
	if err == nil {
		err = checkService(service)
	}
	if err != nil {
		return nil, err
	}
	return &Store{items: items{gate: g, service: service, opts: o}, limit: limit}, nil
}

// String names the service.
func (s *Store) String() string { return fmt.Sprintf("keyring.Store(%s)", s.service) }

// GoString is String.
func (s *Store) GoString() string { return s.String() }

// LogValue is String.
func (s *Store) LogValue() slog.Value { return slog.StringValue(s.String()) }

func (s *Store) account(key string) string { return accountOf("store", s.service, key) }

// Load returns the value stored under key. Where there is none, and nowhere
// else, the error matches fs.ErrNotExist. A value that is damaged yields an
// error with a method Corrupt() bool that returns true.
func (s *Store) Load(ctx context.Context, key string) ([]byte, error) {
	value, h, err := s.load(ctx, s.account(key))
	if err == nil && !h.holdsValue() {
		return nil, fmt.Errorf("keyring: %s has no such session in the keyring: log in: %w", s.service, fs.ErrNotExist)
	}
	return value, err
}

// load returns what is stored, if anything is, and the head that says so.
func (s *Store) load(ctx context.Context, account string) ([]byte, *head, error) {
	for range 4 {
		value, h, err := s.loadOnce(ctx, account)
		if err != errTorn {
			return value, h, err
		}
	}
	// Somebody writes without pause: ask for one.
	unlock, err := s.lockBriefly(ctx, account)
	if err != nil {
		return nil, nil, err
	}
	value, h, err := s.loadOnce(ctx, account)
	if err == errTorn {
		err = &damaged{"its parts change though nobody may write"}
	}
	return value, h, errors.Join(err, unlock())
}

// errTorn says that the value was replaced while it was being read.
var errTorn = errors.New("replaced while it was read")

func (s *Store) loadOnce(ctx context.Context, account string) ([]byte, *head, error) {
	text, h, err := s.head(ctx, account)
	if err != nil || !h.holdsValue() {
		return nil, h, err
	}
	if h.kind != typeParts {
		return h.value, h, nil
	}
	value, err := s.assemble(ctx, account, h)
	if err == nil || ctx.Err() != nil || kindOf(err) != nil {
		return value, h, err
	}
	// Not whole, or something odd was said about a part. Either that is so, or
	// these parts have just made way for others: then the head is no longer
	// the same, by its generation.
	switch again, unread := s.get(ctx, account); {
	case unread == errAbsent, unread == nil && again != text:
		return nil, nil, errTorn
	case unread != nil:
		return nil, nil, unread
	}
	return nil, h, err
}

// head reads the head of account.
func (s *Store) head(ctx context.Context, account string) (string, *head, error) {
	text, err := s.get(ctx, account)
	if err == errAbsent {
		return "", &head{}, nil
	}
	if err != nil {
		return "", nil, err
	}
	h, err := parseHead(account, text)
	return text, h, err
}

// assemble reads the parts of h. It returns a *damaged if they are not whole.
func (s *Store) assemble(ctx context.Context, account string, h *head) ([]byte, error) {
	value := make([]byte, 0, h.length)
	for i := range h.count {
		text, err := s.get(ctx, partAccount(account, h.slot, i))
		if err != nil && err != errAbsent {
			return nil, err
		}
		data, ok := parsePart(text, h.gen)
		if !ok {
			return nil, &damaged{fmt.Sprintf("part %d of %d is missing or foreign", i+1, h.count)}
		}
		value = append(value, data...)
	}
	if len(value) != h.length || digest(account, value) != h.digest {
		return nil, &damaged{"its digest is wrong, or it belongs to another account"}
	}
	return value, nil
}

// Save stores value under key. A value too long for one item of the keyring is
// split; up to 1 MiB are taken, more is [ErrTooBig]. Whatever happens, a later
// Load returns the old value or the new one. A value that is stored already is
// not written again, as writing may prompt.
func (s *Store) Save(ctx context.Context, key string, value []byte) error {
	if len(value) > maxValue {
		return fail(ErrTooBig, fmt.Errorf("%d bytes", len(value)))
	}
	return s.underLock(ctx, key, func(account string) error { return s.save(ctx, account, value) })
}

// underLock calls f with the account of key while nobody else writes it.
func (s *Store) underLock(ctx context.Context, key string, f func(account string) error) error {
	account := s.account(key)
	unlock, err := s.lockBriefly(ctx, account)
	if err != nil {
		return err
	}
	err = f(account)
	if uerr := unlock(); err == nil {
		err = uerr
	}
	return err
}

func (s *Store) save(ctx context.Context, account string, value []byte) error {
	old, h, err := s.loadOnce(ctx, account)
	var bad *damaged
	switch {
	case errors.As(err, &bad) && h != nil:
		// The head is sound, its parts are not: replaced like any other.
	case errors.As(err, &bad):
		h = &head{kind: typeGone} // nothing to keep, but there may be parts
	case err == errTorn:
		return fail(nil, errors.New("somebody writes the same session under another lock directory"))
	case err != nil:
		return err
	case h.holdsValue() && bytes.Equal(old, value):
		return nil
	}
	if len(value) <= rawLimit(s.limit) {
		return s.saveWhole(ctx, account, h, value)
	}
	return s.saveParts(ctx, account, h, value)
}

// saveWhole writes value into the head. Parts that it replaces are removed
// after it, those that a dead writer may have left before it; where that fails
// the head goes on saying that there may be some.
func (s *Store) saveWhole(ctx context.Context, account string, h *head, value []byte) error {
	kind := typeValue
	if h.kind == typeParts {
		kind = typeUnsure
	} else if h.mayHaveParts() && s.sweepAll(ctx, account) != nil {
		kind = typeUnsure
	}
	next := &head{kind: kind, value: value}
	if err := s.put(ctx, account, account, next.text(account)); err != nil {
		return err
	}
	if h.kind == typeParts {
		// The value is safe. What stays behind is removed by the next write.
		_ = s.sweepAll(ctx, account)
	}
	return nil
}

// saveParts writes value into the slot that is not in use, and then the head
// that points to it.
func (s *Store) saveParts(ctx context.Context, account string, h *head, value []byte) error {
	if !h.mayHaveParts() { // say that there may be some before there are
		unsure := &head{kind: typeGone}
		if h.holdsValue() {
			unsure = &head{kind: typeUnsure, value: h.value}
		}
		if err := s.put(ctx, account, account, unsure.text(account)); err != nil {
			return err
		}
	}
	next := &head{kind: typeParts, slot: 'a', length: len(value), digest: digest(account, value), gen: generation()}
	if h.kind == typeParts && h.slot == 'a' {
		next.slot = 'b'
	}
	size := rawLimit(s.limit)
	for rest := value; len(rest) > 0; next.count++ {
		n := min(size, len(rest))
		if err := s.put(ctx, account, partAccount(account, next.slot, next.count), partText(next.gen, rest[:n])); err != nil {
			return err
		}
		rest = rest[n:]
	}
	// What a longer value left behind in this slot ends where this one ends.
	if err := s.sweep(ctx, account, next.slot, next.count); err != nil {
		return err
	}
	if err := s.put(ctx, account, account, next.text(account)); err != nil {
		return err
	}
	_ = s.sweep(ctx, account, 'a'+'b'-next.slot, 0) // or by the next write
	return nil
}

// generation returns a new random name.
func generation() string {
	b := make([]byte, sumLen/2)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// sweep removes the parts of a slot from the given one on. Parts are written
// in ascending order and removed in descending order, so that they have no
// gaps and the first one missing is the end.
func (s *Store) sweep(ctx context.Context, account string, slot byte, from int) error {
	end := from
	for ; end < maxParts; end++ {
		_, err := s.get(ctx, partAccount(account, slot, end))
		if err == errAbsent {
			break
		}
		if err != nil {
			return err
		}
	}
	for i := end - 1; i >= from; i-- {
		if err := s.remove(ctx, account, partAccount(account, slot, i)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) sweepAll(ctx context.Context, account string) error {
	if err := s.sweep(ctx, account, 'a', 0); err != nil {
		return err
	}
	return s.sweep(ctx, account, 'b', 0)
}

// Delete removes what is stored under key and sees that it is gone. That
// nothing is stored is no error.
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.underLock(ctx, key, func(account string) error { return s.delete(ctx, account) })
}

func (s *Store) delete(ctx context.Context, account string) error {
	_, h, err := s.head(ctx, account)
	var bad *damaged
	switch {
	case errors.As(err, &bad), errors.Is(err, errNewer):
		h = &head{kind: typeUnsure} // whatever it is, it goes, and its parts
	case err != nil:
		return err
	case h.kind == "":
		return nil
	}
	if h.mayHaveParts() {
		if h.kind != typeGone {
			gone := &head{kind: typeGone}
			if err := s.put(ctx, account, account, gone.text(account)); err != nil {
				return err
			}
		}
		if err := s.sweepAll(ctx, account); err != nil {
			return err
		}
	}
	return s.remove(ctx, account, account)
}

// SetAside moves what is stored under key to another item of the same service,
// damaged or not, where nothing looks for it. It is there for a person to find,
// and may be deleted by hand. There is one such item for a key: what an earlier
// SetAside of the key has kept is replaced, and lost.
func (s *Store) SetAside(ctx context.Context, key string) error {
	return s.underLock(ctx, key, func(account string) error {
		text, err := s.get(ctx, account)
		if err == errAbsent {
			return nil
		}
		if err != nil {
			return err
		}
		aside := accountOf("aside", s.service, key)
		if err := s.sweepAll(ctx, aside); err != nil {
			return err
		}
		if err := s.copyParts(ctx, account, aside, text); err != nil {
			return err
		}
		if err := s.put(ctx, account, aside, text); err != nil {
			return err
		}
		return s.delete(ctx, account)
	})
}

// copyParts copies what there is of the parts of a value from one account to another.
// head is its head. One that cannot be read may have had parts in either slot.
func (s *Store) copyParts(ctx context.Context, from, to, head string) error {
	h, err := parseHead(from, head)
	switch {
	case err != nil:
		for _, slot := range []byte{'a', 'b'} {
			if err := s.copySlot(ctx, from, to, slot, maxParts, true); err != nil {
				return err
			}
		}
		return nil
	case h.kind == typeParts:
		return s.copySlot(ctx, from, to, h.slot, h.count, false)
	}
	return nil
}

// copySlot copies what there is of the first count parts of a slot; untilAbsent: as
// far as none is missing.
func (s *Store) copySlot(ctx context.Context, from, to string, slot byte, count int, untilAbsent bool) error {
	for i := range count {
		text, err := s.get(ctx, partAccount(from, slot, i))
		switch {
		case err == errAbsent && untilAbsent:
			return nil
		case err == errAbsent:
			continue
		case err == nil:
			err = s.put(ctx, from, partAccount(to, slot, i), text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Lock waits for the lock of key and takes it: the kernel's lock of a file in
// Options.LockDir, which is never removed. Where a write to key was given up
// and has not returned, unlock returns [ErrTimeout] and the lock is freed when
// that write returns, or with the end of the process.
func (s *Store) Lock(ctx context.Context, key string) (unlock func() error, err error) {
	return s.lock(ctx, s.account(key), ".lock")
}
