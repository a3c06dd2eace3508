package storage

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
)

// Memory is a store that forgets with the program: for tests, and for programs
// that log in anew each time. Several Sources of one process may share it; no
// other process sees it. Values lie in memory unencrypted.
//
// All methods are safe for concurrent use. Make one with [NewMemory].
type Memory struct {
	label
	mu     sync.Mutex // guards values and locks; never held while waiting
	values map[string][]byte
	locks  map[string]*memoryLock
}

// A memoryLock exists for as long as somebody holds or awaits it, so that a
// store with many keys over time does not grow.
type memoryLock struct {
	turn  chan struct{} // holds one element while the lock is held
	users int           // holders and waiters; guarded by Memory.mu
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{label: "storage.Memory", values: make(map[string][]byte), locks: make(map[string]*memoryLock)}
}

// Load returns a copy of what was last saved under key, or an error that is
// fs.ErrNotExist.
func (m *Memory) Load(ctx context.Context, key string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	value, ok := m.values[key]
	if !ok {
		return nil, fmt.Errorf("storage: nothing is stored in memory under this key: %w", fs.ErrNotExist)
	}
	return append([]byte{}, value...), nil
}

// Save stores a copy of value under key.
func (m *Memory) Save(ctx context.Context, key string, value []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values[key] = bytes.Clone(value)
	return nil
}

// Delete removes what is stored under key, if anything.
func (m *Memory) Delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, key)
	return nil
}

// List returns the keys under which values are stored, in no particular order.
func (m *Memory) List(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.values)), nil
}

// Lock waits for the exclusive lock of key within this process, at most until
// ctx is done. A second call of unlock does nothing.
func (m *Memory) Lock(ctx context.Context, key string) (unlock func() error, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	l := m.locks[key]
	if l == nil {
		l = &memoryLock{turn: make(chan struct{}, 1)}
		m.locks[key] = l
	}
	l.users++
	m.mu.Unlock()

	select {
	case l.turn <- struct{}{}:
		return sync.OnceValue(func() error {
			<-l.turn
			m.leave(key, l)
			return nil
		}), nil
	case <-ctx.Done():
		m.leave(key, l)
		return nil, ctx.Err()
	}
}

// leave counts one user of l out and forgets l with its last.
func (m *Memory) leave(key string, l *memoryLock) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(m.locks, key)
	}
}
