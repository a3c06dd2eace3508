package freshtoken

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"sync"
)

// A Store keeps sessions: opaque bytes by key. The packages storage and
// keyring provide stores; anything else that keeps the contract below will do,
// and storage/storagetest checks that it does.
//
// All methods are safe for concurrent use. Each honours its context: it gives
// up and returns the context's error once the context is done. A call that
// returns the context's error may nevertheless take effect.
//
// Keys are arbitrary strings, of a few hundred bytes as a rule; keys that differ at all
// are different. Values are arbitrary bytes, a few kilobytes as a rule; the
// bytes are confidential, and a Store that does not encrypt them should be
// wrapped with storage.Seal.
type Store interface {
	// Load returns what was last saved under key. Where nothing is stored the
	// error matches fs.ErrNotExist. No other error may match it: a locked
	// keyring, a store that has been removed as a whole or a value that
	// cannot be decrypted is not an absent session. The caller may modify the
	// returned bytes.
	Load(ctx context.Context, key string) ([]byte, error)

	// Save stores value under key, whole or not at all: whatever happens, a
	// later Load returns the old value or the new one. The value is durable
	// when Save returns nil. Save does not retain value.
	Save(ctx context.Context, key string, value []byte) error

	// Delete removes what is stored under key. That nothing is stored is no
	// error.
	Delete(ctx context.Context, key string) error

	// Lock waits for the exclusive lock of key and takes it. It excludes
	// every other Lock of the same key by any goroutine, and by any process
	// that shares the store; it does not stop Load, Save or Delete. It is
	// freed by unlock, or by the death of the process that holds it. unlock
	// is called once.
	Lock(ctx context.Context, key string) (unlock func() error, err error)
}

// A Quarantiner is a Store that can move a value out of the way without
// destroying it. [Source.SetToken] asks for it when what is stored cannot be
// read because it is damaged (the error of Load has a method Corrupt() bool
// that returns true), so that a new login is possible. Nothing else moves a
// stored value.
type Quarantiner interface {
	SetAside(ctx context.Context, key string) error
}

// A Lister is a Store that knows what it keeps, so that a program with many
// sessions can find them. List returns the keys under which values are stored,
// exactly as they were given to Save, each once and in no particular order. Any
// value counts, what Logout leaves too; an empty store has no keys, and that is
// no error. A key that is saved or deleted meanwhile may or may not be there.
// The caller may modify the returned slice.
//
// What cannot be read, because it is damaged or needs another key, may not tell
// its key and is left out. The error then says so, and matches what Load would
// fail with; it is returned together with the keys of all that can be read. A
// Store that wraps another one which cannot list returns an error that is
// errors.ErrUnsupported.
type Lister interface {
	List(ctx context.Context) ([]string, error)
}

// ephemeral is the Store of a Source without one: it forgets with the program,
// and only one Source ever uses it.
type ephemeral struct {
	mu    sync.Mutex // guards value
	value []byte     // nil: absent
	turn  chan struct{}
}

var _ Store = (*ephemeral)(nil)

func newEphemeral() *ephemeral { return &ephemeral{turn: make(chan struct{}, 1)} }

func (e *ephemeral) Load(context.Context, string) ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.value == nil {
		return nil, fmt.Errorf("no session in memory: %w", fs.ErrNotExist)
	}
	return bytes.Clone(e.value), nil
}

func (e *ephemeral) Save(_ context.Context, _ string, value []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.value = append([]byte{}, value...)
	return nil
}

func (e *ephemeral) Delete(context.Context, string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.value = nil
	return nil
}

func (e *ephemeral) Lock(ctx context.Context, _ string) (func() error, error) {
	select {
	case e.turn <- struct{}{}:
		return func() error { <-e.turn; return nil }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
