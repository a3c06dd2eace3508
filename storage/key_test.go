package storage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/freshtoken/freshtoken/internal/filelock"
	"github.com/freshtoken/freshtoken/storage"
)

// A vaultKey stands for a key in a keyring: absent, then made, then maybe lost.
type vaultKey struct {
	mu   sync.Mutex // guards the fields below
	key  []byte
	err  error // what Get fails with
	gets int
	news int
}

func (k *vaultKey) Get(ctx context.Context, _ []byte) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gets++
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case k.err != nil:
		return nil, k.err
	case k.key == nil:
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(k.key), nil
}

func (k *vaultKey) New(context.Context) (key, params []byte, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.news++
	if k.key == nil {
		k.key = bytes.Repeat([]byte{byte(k.news)}, storage.KeySize)
	}
	return bytes.Clone(k.key), nil, nil
}

func (k *vaultKey) made() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.news
}

// stores are two kinds of sealed store; reopen opens what the last one kept,
// as the next run of a program does.
func stores(t *testing.T, run func(t *testing.T, reopen func(storage.Key) storage.Store)) {
	t.Run("File", func(t *testing.T) {
		needFiles(t)
		dir := home(t)
		run(t, func(k storage.Key) storage.Store { return newFile(t, dir, k) })
	})
	t.Run("Seal", func(t *testing.T) {
		m := storage.NewMemory()
		run(t, func(k storage.Key) storage.Store { return storage.Seal(m, k) })
	})
}

func TestKeyIsMadeOnce(t *testing.T) {
	stores(t, func(t *testing.T, reopen func(storage.Key) storage.Store) {
		ctx := context.Background()
		k := new(vaultKey)
		s := reopen(k)
		if _, err := s.Load(ctx, "alice"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Load of nothing: %v", err)
		}
		if k.gets != 0 || k.news != 0 {
			t.Error("the key was asked for where nothing is stored")
		}
		mustSave(t, s, "alice", "one")
		mustSave(t, s, "bob", "two")
		mustSave(t, reopen(k), "carol", "three")
		for name, want := range map[string]string{"alice": "one", "bob": "two", "carol": "three"} {
			wantValue(t, reopen(k), name, want)
		}
		if k.news != 1 {
			t.Errorf("the key was made %d times", k.news)
		}
		gets := k.gets
		for range 5 {
			mustSave(t, s, "alice", "one")
			wantValue(t, s, "alice", "one")
		}
		if k.gets != gets {
			t.Errorf("a store that has its key asked for it %d times more", k.gets-gets)
		}
	})
}

func TestKeyMissing(t *testing.T) {
	stores(t, func(t *testing.T, reopen func(storage.Key) storage.Store) {
		ctx := context.Background()
		k := new(vaultKey)
		mustSave(t, reopen(k), "alice", "one")
		lost := k.key
		k.key = nil
		s := reopen(k)
		_, err := s.Load(ctx, "alice")
		wantError(t, "Load", err, storage.ErrKeyMissing)
		wantError(t, "Save", s.Save(ctx, "alice", []byte(newValue)), storage.ErrKeyMissing)
		wantError(t, "Save of another session", s.Save(ctx, "bob", []byte(newValue)), storage.ErrKeyMissing)
		if k.news != 1 {
			t.Error("another key was made for a store that has sealed values")
		}
		k.key = lost // restored
		wantValue(t, s, "alice", "one")
		if _, err := s.Load(ctx, "bob"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a Save that failed has stored something: %v", err)
		}
	})
}

// TestKeyUnavailable: a locked keyring is neither a missing key nor an absent
// session, and no reason to make a key.
func TestKeyUnavailable(t *testing.T) {
	stores(t, func(t *testing.T, reopen func(storage.Key) storage.Store) {
		ctx := context.Background()
		locked := errors.New("the keyring is locked")
		k := &vaultKey{err: locked}
		wantError(t, "first Save", reopen(k).Save(ctx, "alice", nil), locked)
		k.err = nil
		mustSave(t, reopen(k), "alice", "one")
		k.err = locked
		s := reopen(k)
		_, err := s.Load(ctx, "alice")
		wantError(t, "Load", err, locked)
		wantError(t, "Save", s.Save(ctx, "alice", nil), locked)
		wantError(t, "Save of another session", s.Save(ctx, "bob", nil), locked)
		if k.news != 1 {
			t.Errorf("the key was made %d times", k.news)
		}
		k.err = nil
		wantValue(t, s, "alice", "one")
	})
}

func TestAnotherKeyOverwritesNothing(t *testing.T) {
	stores(t, func(t *testing.T, reopen func(storage.Key) storage.Store) {
		ctx := context.Background()
		mustSave(t, reopen(fixedKey(1)), "alice", "one")
		s := reopen(fixedKey(2))
		_, err := s.Load(ctx, "alice")
		wantError(t, "Load", err, storage.ErrWrongKey)
		wantError(t, "Save", s.Save(ctx, "alice", nil), storage.ErrWrongKey)
		wantError(t, "Save of another session", s.Save(ctx, "bob", nil), storage.ErrWrongKey)
		wantValue(t, reopen(fixedKey(1)), "alice", "one")
	})
}

// TestFirstSavesMeet has many stores save their first session at once.
func TestFirstSavesMeet(t *testing.T) {
	stores(t, func(t *testing.T, reopen func(storage.Key) storage.Store) {
		ctx := context.Background()
		// Keys that do not know of each other, as in two processes whose
		// keyring does not exclude: only the store's lock does.
		var keys []*vaultKey
		var wg sync.WaitGroup
		for i := range 8 {
			k := &vaultKey{news: i * 10}
			keys = append(keys, k)
			s := reopen(k)
			wg.Go(func() {
				// The others' saves fail: they do not have the first one's key.
				if err := s.Save(ctx, fmt.Sprint(i), []byte("v")); err != nil && !errors.Is(err, storage.ErrKeyMissing) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		made := 0
		for i, k := range keys {
			made += k.made() - i*10
		}
		if made != 1 {
			t.Errorf("%d keys were made for one store", made)
		}
	})
}

func TestBadKeys(t *testing.T) {
	ctx := context.Background()
	if _, err := storage.NewFile(home(t), nil); err == nil {
		t.Error("a File without a key")
	}
	if err := storage.Seal(storage.NewMemory(), nil).Save(ctx, "alice", nil); err == nil {
		t.Error("a Save without a key")
	}
	for _, n := range []int{0, 16, 31, 33} {
		if err := storage.Seal(storage.NewMemory(), rawKey(make([]byte, n))).Save(ctx, "alice", nil); err == nil {
			t.Errorf("a key of %d bytes was taken", n)
		}
	}
}

// TestDamagedNeighbour: one damaged file is no obstacle to other sessions, if
// another file tells the key.
func TestDamagedNeighbour(t *testing.T) {
	needFiles(t)
	dir := home(t)
	s := newFile(t, dir, fixedKey(1))
	for _, name := range []string{"a", "b", "c"} {
		mustSave(t, s, name, "v")
	}
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(path(dir, name, ".session"), []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustSave(t, newFile(t, dir, fixedKey(1)), "d", "v")
	if err := os.WriteFile(path(dir, "c", ".session"), newer(nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(context.Background(), "d"); err != nil {
		t.Fatal(err)
	}
	k := new(vaultKey)
	err := newFile(t, dir, k).Save(context.Background(), "d", nil)
	if err == nil || errors.Is(err, fs.ErrNotExist) || k.news != 0 {
		t.Errorf("a key was made beside values that nobody can read (%v)", err)
	}
}

// TestUnreadableNeighbours: where no other session can be read, the key that
// exists will do for a new one, and a key that does not exist is not made.
func TestUnreadableNeighbours(t *testing.T) {
	needFiles(t)
	ctx := context.Background()
	for name, spoil := range map[string]func(t *testing.T, p string){
		"empty": func(t *testing.T, p string) {
			if err := os.Truncate(p, 0); err != nil {
				t.Fatal(err)
			}
		},
		"too big": func(t *testing.T, p string) {
			if err := os.Truncate(p, 17<<20); err != nil {
				t.Fatal(err)
			}
		},
		"a directory": func(t *testing.T, p string) {
			if err := errors.Join(os.Remove(p), os.Mkdir(p, 0o700)); err != nil {
				t.Fatal(err)
			}
		},
		"newer": func(t *testing.T, p string) {
			if err := os.WriteFile(p, newer(nil), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"parameters out of bounds": func(t *testing.T, p string) {
			sealed, err := storage.SealWith(make([]byte, storage.KeySize), append([]byte{1, 0xff}, make([]byte, 24)...), "alice", nil, [32]byte{1})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, sealed, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := home(t)
			pass := storage.Passphrase(func() ([]byte, error) { return []byte("pw"), nil })
			var k storage.Key = new(vaultKey)
			if name == "parameters out of bounds" {
				k = pass
			}
			for _, session := range []string{"alice", "bob"} {
				mustSave(t, newFile(t, dir, k), session, "v")
			}
			spoil(t, path(dir, "alice", ".session"))
			mustSave(t, newFile(t, dir, k), "carol", "v") // bob's file tells the key
			if err := os.Remove(path(dir, "carol", ".session")); err != nil {
				t.Fatal(err)
			}
			spoil(t, path(dir, "bob", ".session"))

			for what, key := range map[string]storage.Key{"lost": new(vaultKey), "derived": pass} {
				if k == pass && key != pass {
					continue // parameters say nothing to other keys
				}
				err := newFile(t, dir, key).Save(ctx, "carol", nil)
				var c interface{ Corrupt() bool }
				switch {
				case err == nil, errors.Is(err, fs.ErrNotExist), errors.As(err, &c) && c.Corrupt():
					t.Errorf("Save of an absent session, the key %s: got %v", what, err)
				case !strings.Contains(err.Error(), filepath.Base(path(dir, "alice", ".session"))) &&
					!strings.Contains(err.Error(), filepath.Base(path(dir, "bob", ".session"))):
					t.Errorf("the error does not name a damaged file: %v", err)
				}
				if k, ok := key.(*vaultKey); ok && k.made() != 0 {
					t.Error("a key was made beside values that nobody can read")
				}
			}
			if k, ok := k.(*vaultKey); ok {
				mustSave(t, newFile(t, dir, k), "carol", "v")
				wantValue(t, newFile(t, dir, k), "carol", "v")
				if k.made() != 1 {
					t.Errorf("the key was made %d times", k.made())
				}
			}
		})
	}
	t.Run("the entry of Seal", func(t *testing.T) {
		m, k := storage.NewMemory(), new(vaultKey)
		mustSave(t, storage.Seal(m, k), "alice", "v")
		mustSave(t, m, "freshtoken.seal/key", "damaged")
		mustSave(t, storage.Seal(m, k), "bob", "v")
		wantValue(t, storage.Seal(m, k), "bob", "v")
		err := storage.Seal(m, new(vaultKey)).Save(ctx, "carol", nil)
		var c interface{ Corrupt() bool }
		if err == nil || errors.Is(err, fs.ErrNotExist) || errors.As(err, &c) && c.Corrupt() {
			t.Errorf("Save of an absent session without a key: got %v", err)
		}
	})
}

// A failingKey has no key and cannot make one.
type failingKey struct{ err error }

func (k failingKey) Get(context.Context, []byte) ([]byte, error) { return nil, fs.ErrNotExist }
func (k failingKey) New(context.Context) (key, params []byte, err error) {
	return nil, nil, k.err
}

// TestKeyNotMade: whatever New fails with, the session is neither absent nor
// damaged.
func TestKeyNotMade(t *testing.T) {
	stores(t, func(t *testing.T, reopen func(storage.Key) storage.Store) {
		ctx := context.Background()
		denied := fmt.Errorf("make: %w", fs.ErrPermission)
		wantError(t, "Save", reopen(failingKey{denied}).Save(ctx, "alice", nil), fs.ErrPermission)
		for _, cause := range []error{fs.ErrNotExist, storage.ErrCorrupt} {
			err := reopen(failingKey{fmt.Errorf("make: %w", cause)}).Save(ctx, "alice", nil)
			if err == nil || errors.Is(err, cause) || !strings.Contains(err.Error(), "make: ") {
				t.Errorf("Save: got %v, want an error that tells what happened and is not %q", err, cause)
			}
		}
	})
}

// TestNothingShows prints what holds secrets in every way.
func TestNothingShows(t *testing.T) {
	secret := bytes.Repeat([]byte("S3"), 16)
	m := storage.NewMemory()
	mustSave(t, m, "alice", string(secret))
	pass := storage.Passphrase(func() ([]byte, error) { return bytes.Clone(secret), nil })
	sealed := storage.Seal(storage.NewMemory(), rawKey(secret))
	mustSave(t, sealed, "alice", string(secret))
	mustSave(t, storage.Seal(storage.NewMemory(), pass), "alice", "v")
	things := []any{m, sealed, *sealed, pass}
	if filelock.Supported() {
		f := newFile(t, home(t), rawKey(secret))
		mustSave(t, f, "alice", string(secret))
		p := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(p, secret, 0o600); err != nil {
			t.Fatal(err)
		}
		k := storage.KeyFile(p)
		mustSave(t, storage.Seal(storage.NewMemory(), k), "alice", "v")
		things = append(things, f, *f, k)
	}
	for _, thing := range things {
		var out bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", thing)
		}
		b, err := json.Marshal(map[string]any{"thing": thing})
		if err != nil {
			t.Error(err)
		}
		out.Write(b)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("log", "thing", thing)
		slog.New(slog.NewTextHandler(&out, nil)).Info("log", "thing", thing)
		for _, form := range []string{"S3S3", fmt.Sprintf("%x", secret[:4]), "83 51 83", "0x53, 0x33", "UzNTM1Mz"} {
			if strings.Contains(out.String(), form) {
				t.Errorf("%T shows a secret: %s", thing, out.String())
			}
		}
		if !strings.Contains(out.String(), "storage.") {
			t.Errorf("%T does not say what it is: %s", thing, out.String())
		}
	}
}
