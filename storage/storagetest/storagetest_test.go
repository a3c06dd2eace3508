package storagetest_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/internal/filelock"
	"github.com/freshtoken/freshtoken/storage"
	"github.com/freshtoken/freshtoken/storage/storagetest"
)

// A broken store is a good one with one of its methods replaced.
type broken struct {
	storagetest.Store
	load func(ctx context.Context, key string) ([]byte, error)
	save func(ctx context.Context, key string, value []byte) error
	del  func(ctx context.Context, key string) error
	lock func(ctx context.Context, key string) (func() error, error)
}

func (b *broken) Load(ctx context.Context, key string) ([]byte, error) {
	if b.load != nil {
		return b.load(ctx, key)
	}
	return b.Store.Load(ctx, key)
}

func (b *broken) Save(ctx context.Context, key string, value []byte) error {
	if b.save != nil {
		return b.save(ctx, key, value)
	}
	return b.Store.Save(ctx, key, value)
}

func (b *broken) Delete(ctx context.Context, key string) error {
	if b.del != nil {
		return b.del(ctx, key)
	}
	return b.Store.Delete(ctx, key)
}

func (b *broken) Lock(ctx context.Context, key string) (func() error, error) {
	if b.lock != nil {
		return b.lock(ctx, key)
	}
	return b.Store.Lock(ctx, key)
}

func folded(m storagetest.Store, fold func(string) string) *broken {
	return &broken{
		Store: m,
		load:  func(ctx context.Context, key string) ([]byte, error) { return m.Load(ctx, fold(key)) },
		save:  func(ctx context.Context, key string, value []byte) error { return m.Save(ctx, fold(key), value) },
		del:   func(ctx context.Context, key string) error { return m.Delete(ctx, fold(key)) },
	}
}

// A flaw is what the suite has to find, with the subtest that finds it.
type flaw struct {
	finds string
	open  func(m storagetest.Store) storagetest.Store
}

func allFlaws() map[string]flaw {
	all := listFlaws()
	maps.Copy(all, flaws)
	return all
}

var flaws = map[string]flaw{
	"absent is nil":          {"absent", func(m storagetest.Store) storagetest.Store { return &broken{Store: m, load: swallow(m)} }},
	"absent is another kind": {"absent", func(m storagetest.Store) storagetest.Store { return &broken{Store: m, load: rename(m)} }},
	"case is ignored":        {"keys_that_differ", func(m storagetest.Store) storagetest.Store { return folded(m, strings.ToLower) }},
	"keys are paths":         {"keys_that_differ", func(m storagetest.Store) storagetest.Store { return folded(m, filepath.Clean) }},
	"keys end at NUL": {"keys_that_differ", func(m storagetest.Store) storagetest.Store {
		return folded(m, func(k string) string { k, _, _ = strings.Cut(k, "\x00"); return k })
	}},
	"keys are cut": {"keys_that_differ", func(m storagetest.Store) storagetest.Store {
		return folded(m, func(k string) string { return k[:min(255, len(k))] })
	}},
	"keys are made valid UTF-8": {"keys_that_differ", func(m storagetest.Store) storagetest.Store {
		return folded(m, func(k string) string { return strings.ToValidUTF8(k, "\ufffd") })
	}},
	"empty is absent": {"sizes", func(m storagetest.Store) storagetest.Store {
		return &broken{Store: m, save: func(ctx context.Context, key string, value []byte) error {
			if len(value) == 0 {
				return m.Delete(ctx, key)
			}
			return m.Save(ctx, key, value)
		}}
	}},
	"a size limit that loses": {"sizes", func(m storagetest.Store) storagetest.Store {
		return &broken{Store: m, save: func(ctx context.Context, key string, value []byte) error {
			return m.Save(ctx, key, value[:min(len(value), 4096)])
		}}
	}},
	"delete does nothing": {"deleted", func(m storagetest.Store) storagetest.Store {
		return &broken{Store: m, del: func(ctx context.Context, _ string) error { return ctx.Err() }}
	}},
	"delete of nothing fails": {"deleted", func(m storagetest.Store) storagetest.Store {
		return &broken{Store: m, del: func(ctx context.Context, key string) error {
			if _, err := m.Load(ctx, key); err != nil {
				return err
			}
			return m.Delete(ctx, key)
		}}
	}},
	"save keeps the caller's slice": {"bytes_are", func(m storagetest.Store) storagetest.Store { return aliasing(m) }},
	"writes in two steps": {"whole_values", func(m storagetest.Store) storagetest.Store {
		return &broken{Store: m, save: func(ctx context.Context, key string, value []byte) error {
			if err := m.Save(ctx, key, value[:len(value)/2]); err != nil {
				return err
			}
			for range 500 {
				runtime.Gosched()
			}
			return m.Save(ctx, key, value)
		}}
	}},
	"the lock excludes nobody": {"excludes_goroutines", func(m storagetest.Store) storagetest.Store {
		return &broken{Store: m, lock: func(ctx context.Context, _ string) (func() error, error) {
			return func() error { return nil }, ctx.Err()
		}}
	}},
	"one lock for all keys": {"locks_of_other_keys", func(m storagetest.Store) storagetest.Store {
		return &broken{Store: m, lock: func(ctx context.Context, _ string) (func() error, error) {
			ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
			defer cancel()
			return m.Lock(ctx, "")
		}}
	}},
	"a waiter takes the lock after it has given up": {"honours_its_context", func(m storagetest.Store) storagetest.Store {
		return &broken{Store: m, lock: lateLock(m)}
	}},
	"contexts are ignored": {"cancelled_context", func(m storagetest.Store) storagetest.Store {
		return &broken{Store: m, load: func(_ context.Context, key string) ([]byte, error) {
			return m.Load(context.Background(), key)
		}}
	}},
	"goroutines stay": {"no_goroutine", func(m storagetest.Store) storagetest.Store {
		return &broken{Store: m, load: func(ctx context.Context, key string) ([]byte, error) {
			go func() { select {} }()
			return m.Load(ctx, key)
		}}
	}},
}

func swallow(m storagetest.Store) func(context.Context, string) ([]byte, error) {
	return func(ctx context.Context, key string) ([]byte, error) {
		value, err := m.Load(ctx, key)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return value, err
	}
}

func rename(m storagetest.Store) func(context.Context, string) ([]byte, error) {
	return func(ctx context.Context, key string) ([]byte, error) {
		value, err := m.Load(ctx, key)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errors.New("no such entry")
		}
		return value, err
	}
}

func aliasing(m storagetest.Store) storagetest.Store {
	var mu sync.Mutex
	values := make(map[string][]byte)
	return &broken{Store: m,
		load: func(_ context.Context, key string) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			if v, ok := values[key]; ok {
				return bytes.Clone(v), nil
			}
			return nil, fs.ErrNotExist
		},
		save: func(_ context.Context, key string, value []byte) error {
			mu.Lock()
			defer mu.Unlock()
			values[key] = value
			return nil
		},
	}
}

func lateLock(m storagetest.Store) func(context.Context, string) (func() error, error) {
	return func(ctx context.Context, key string) (func() error, error) {
		ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond) // the flaw must not take a minute to show
		defer cancel()
		done := make(chan func() error, 1)
		go func() {
			unlock, err := m.Lock(context.Background(), key)
			if err == nil {
				done <- unlock
			}
		}()
		select {
		case unlock := <-done:
			return unlock, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

const envFlaw = "STORAGETEST_TEST_FLAW"

// TestFlawed is run in a child process alone, where it must fail.
func TestFlawed(t *testing.T) {
	flaw, ok := allFlaws()[os.Getenv(envFlaw)]
	if !ok {
		t.Skip("runs in a child process alone")
	}
	storagetest.Run(t, func(*testing.T) storagetest.Store { return flaw.open(storage.NewMemory()) })
}

// TestFindsFlaws runs the suite on stores that break the contract.
func TestFindsFlaws(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, flaw := range allFlaws() {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(exe, "-test.run=^TestFlawed$/"+flaw.finds, "-test.timeout=2m")
			cmd.Env = append(os.Environ(), envFlaw+"="+name)
			out, err := cmd.CombinedOutput()
			if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
				t.Skipf("cannot start a process here: %v", err)
			}
			if err == nil || !bytes.Contains(out, []byte("--- FAIL: TestFlawed/")) {
				t.Errorf("the suite found nothing: %v\n%s", err, out)
			}
		})
	}
}

// unlocked is a file store whose locks exclude the goroutines of one process
// alone.
type unlocked struct {
	storagetest.Store
	locks *storage.Memory
}

func (u unlocked) Lock(ctx context.Context, key string) (func() error, error) {
	return u.locks.Lock(ctx, key)
}

// TestUnlockedProcesses is run in a child process alone, where it must fail.
func TestUnlockedProcesses(t *testing.T) {
	if os.Getenv(envFlaw) != "processes" {
		t.Skip("runs in a child process alone")
	}
	storagetest.RunProcesses(t, "", func(t *testing.T, location string) storagetest.Store {
		return unlocked{openFile(t, location), storage.NewMemory()}
	})
}

func TestFindsUnlockedProcesses(t *testing.T) {
	if !filelock.Supported() {
		t.Skip("this system has no file locks")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestUnlockedProcesses$", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), envFlaw+"=processes")
	out, err := cmd.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("--- FAIL: TestUnlockedProcesses/a_killed_holder")) {
		t.Errorf("the suite found nothing: %v\n%s", err, out)
	}
}

type fixedKey struct{}

func (fixedKey) Get(context.Context, []byte) ([]byte, error) {
	return bytes.Repeat([]byte{7}, storage.KeySize), nil
}

func (fixedKey) New(context.Context) (key, params []byte, err error) {
	return nil, nil, errors.New("there is one key")
}

func openFile(t *testing.T, location string) storagetest.Store {
	f, err := storage.NewFile(filepath.Join(location, "store"), fixedKey{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func ExampleRun() {
	// func TestStore, in a file that ends in _test.go:
	TestStore := func(t *testing.T) {
		storagetest.Run(t, func(*testing.T) storagetest.Store {
			return storage.NewMemory() // your store, empty
		})
	}
	_ = TestStore
}

func ExampleRunProcesses() {
	TestStore := func(t *testing.T) {
		storagetest.RunProcesses(t, "", func(t *testing.T, dir string) storagetest.Store {
			// The same dir in every process; yours may take an address
			// from it, or a name.
			store, err := storage.NewFile(filepath.Join(dir, "store"), storage.KeyFile(filepath.Join(dir, "key")))
			if err != nil {
				t.Fatal(err)
			}
			return store
		})
	}
	_ = TestStore
}
