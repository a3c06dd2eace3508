package storage_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/freshtoken/freshtoken/internal/mark"
	"github.com/freshtoken/freshtoken/storage"
)

func TestPassphrase(t *testing.T) {
	stores(t, func(t *testing.T, reopen func(storage.Key) storage.Store) {
		ctx := context.Background()
		asked := 0
		var given []byte
		k := storage.Passphrase(func() ([]byte, error) {
			asked++
			given = []byte(mark.Weave(mark.Passphrase, "correct horse"))
			return given, nil
		})
		s := reopen(k)
		mustSave(t, s, "alice", "one")
		mustSave(t, s, "bob", "two")
		wantValue(t, s, "alice", "one")
		wantValue(t, reopen(k), "bob", "two")
		mustSave(t, storage.Seal(storage.NewMemory(), k), "carol", "another store, another salt")
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		if !bytes.Equal(given, make([]byte, len(given))) {
			t.Errorf("the passphrase was left in memory that is the caller's: %q", given)
		}
		wrong := reopen(storage.Passphrase(func() ([]byte, error) { return []byte(mark.Weave(mark.Passphrase, "incorrect horse")), nil }))
		_, err := wrong.Load(ctx, "alice")
		wantError(t, "Load", err, storage.ErrWrongKey)
		wantError(t, "Save", wrong.Save(ctx, "alice", nil), storage.ErrWrongKey)
		wantError(t, "Save of another session", wrong.Save(ctx, "carol", nil), storage.ErrWrongKey)
		_, err = reopen(fixedKey(1)).Load(ctx, "alice")
		wantError(t, "Load with a key that is no passphrase", err, storage.ErrWrongKey)
		wantValue(t, s, "alice", "one")
	})
}

func TestPassphraseOnOtherKeys(t *testing.T) {
	m := storage.NewMemory()
	mustSave(t, storage.Seal(m, fixedKey(1)), "alice", "v")
	asked := false
	s := storage.Seal(m, storage.Passphrase(func() ([]byte, error) { asked = true; return []byte("p"), nil }))
	_, err := s.Load(context.Background(), "alice")
	wantError(t, "Load", err, storage.ErrWrongKey)
	if asked {
		t.Error("a human was asked for what cannot help")
	}
}

// TestPassphraseBounds: what a file asks for is refused before it is done.
func TestPassphraseBounds(t *testing.T) {
	good := append([]byte{1, 0, 0, 0, 3, 0, 1, 0, 0, 4}, make([]byte, 16)...)
	edit := func(at int, v uint32) []byte {
		b := bytes.Clone(good)
		binary.BigEndian.PutUint32(b[at:], v)
		return b
	}
	lanes := func(n byte) []byte { b := bytes.Clone(good); b[9] = n; return b }
	k := storage.Passphrase(func() ([]byte, error) {
		t.Error("the passphrase was asked for")
		return []byte("p"), nil
	})
	for name, params := range map[string][]byte{
		"no passes": edit(1, 0), "many passes": edit(1, 17), "passes for ever": edit(1, 1<<32-1),
		"no memory": edit(5, 0), "little memory": edit(5, 8191), "much memory": edit(5, 512<<10+1), "all memory": edit(5, 1<<32-1),
		"no lanes": lanes(0), "many lanes": lanes(17), "more lanes": lanes(255),
		"short": good[:25], "long": append(bytes.Clone(good), 0), "kind alone": {1},
	} {
		_, err := k.Get(context.Background(), params)
		wantCorrupt(t, name, err)
	}
	_, err := k.Get(context.Background(), append([]byte{2}, good[1:]...))
	wantError(t, "another kind", err, storage.ErrWrongKey)
	if _, err := k.Get(context.Background(), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no parameters: got %v, want fs.ErrNotExist", err)
	}
}

func TestPassphraseFails(t *testing.T) {
	ctx := context.Background()
	fails := true
	k := storage.Passphrase(func() ([]byte, error) {
		if fails {
			return nil, &fs.PathError{Op: "open", Path: "passphrase.txt", Err: fs.ErrNotExist}
		}
		return []byte("p"), nil
	})
	s := storage.Seal(storage.NewMemory(), k)
	err := s.Save(ctx, "alice", nil)
	if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "passphrase.txt") {
		t.Errorf("got %v, want an error that names the file and is no absent session", err)
	}
	fails = false
	mustSave(t, s, "alice", "v") // asked again
	for name, ask := range map[string]func() ([]byte, error){
		"empty": func() ([]byte, error) { return []byte{}, nil },
		"none":  nil,
		"gone":  func() ([]byte, error) { runtime.Goexit(); return nil, nil },
	} {
		if err := storage.Seal(storage.NewMemory(), storage.Passphrase(ask)).Save(ctx, "alice", nil); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
}

// TestPassphraseWaits: a human who takes his time does not hold up a caller
// whose context is done, and is asked once however many wait.
func TestPassphraseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan []byte)
		asked := 0
		k := storage.Passphrase(func() ([]byte, error) { asked++; return <-answer, nil })
		s := storage.Seal(storage.NewMemory(), k)
		ctx, cancel := context.WithCancel(t.Context())
		results := make(chan error, 3)
		for i := range 2 {
			go func() { results <- s.Save(ctx, fmt.Sprint(i), nil) }()
		}
		synctest.Wait()
		cancel()
		for range 2 {
			if err := <-results; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want context.Canceled", err)
			}
		}
		go func() { results <- s.Save(t.Context(), "patient", nil) }()
		synctest.Wait()
		answer <- []byte("p")
		if err := <-results; err != nil {
			t.Error(err)
		}
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
	})
}
