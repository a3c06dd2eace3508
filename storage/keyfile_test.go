package storage_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/freshtoken/freshtoken/storage"
)

func TestKeyFile(t *testing.T) {
	needFiles(t)
	ctx := context.Background()
	p := filepath.Join(home(t), "keys", "key")
	k := storage.KeyFile(p)
	s := newFile(t, home(t), k)
	if _, err := os.Stat(filepath.Dir(p)); err == nil {
		t.Error("something was made before it was needed")
	}
	mustSave(t, s, "alice", "v")
	info, err := os.Stat(p)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != storage.KeySize || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the key file has %d bytes and mode %o", info.Size(), info.Mode().Perm())
	}
	if left, _ := filepath.Glob(p + ".tmp-*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	// Another store shares the key; New does not replace it.
	mustSave(t, newFile(t, home(t), storage.KeyFile(p)), "bob", "v")
	was, err := k.Get(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if again, _, err := k.New(ctx); err != nil || !bytes.Equal(again, was) {
		t.Errorf("New replaced the key (%v)", err)
	}
	wantValue(t, s, "alice", "v")
}

func TestKeyFilesMeet(t *testing.T) {
	needFiles(t)
	p := filepath.Join(home(t), "key")
	keys := make([][]byte, 8)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], _, err = storage.KeyFile(p).New(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		if len(k) != storage.KeySize || !bytes.Equal(k, keys[0]) {
			t.Fatal("two keys were made at once in one file")
		}
	}
}

func TestKeyFileRefused(t *testing.T) {
	needFiles(t)
	ctx := context.Background()
	for name, test := range map[string]struct {
		put  func(t *testing.T, p string) error
		want error // nil: any
	}{
		"too short": {func(_ *testing.T, p string) error { return os.WriteFile(p, make([]byte, 31), 0o600) }, nil},
		"too long":  {func(_ *testing.T, p string) error { return os.WriteFile(p, make([]byte, 33), 0o600) }, nil},
		"empty":     {func(_ *testing.T, p string) error { return os.WriteFile(p, nil, 0o600) }, nil},
		"directory": {func(_ *testing.T, p string) error { return os.Mkdir(p, 0o700) }, storage.ErrUnsafe},
		"others may read it": {func(t *testing.T, p string) error {
			if runtime.GOOS == "windows" {
				t.Skip("mode bits mean nothing on Windows")
			}
			if err := os.WriteFile(p, make([]byte, 32), 0o600); err != nil {
				return err
			}
			return os.Chmod(p, 0o640)
		}, storage.ErrUnsafe},
		"a link to nothing": {func(t *testing.T, p string) error {
			symlink(t, p+"2", p)
			return nil
		}, storage.ErrUnsafe},
	} {
		t.Run(name, func(t *testing.T) {
			p := filepath.Join(t.TempDir(), "key")
			if err := test.put(t, p); err != nil {
				t.Fatal(err)
			}
			s := newFile(t, home(t), storage.KeyFile(p))
			err := s.Save(ctx, "alice", []byte("v"))
			if err == nil || errors.Is(err, fs.ErrNotExist) || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if _, err := os.Stat(p + "2"); err == nil {
				t.Error("a key was made where the link leads")
			}
		})
	}
	t.Run("a link to a key", func(t *testing.T) {
		p := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(p, make([]byte, 32), 0o600); err != nil {
			t.Fatal(err)
		}
		symlink(t, p, p+"-link")
		mustSave(t, newFile(t, home(t), storage.KeyFile(p+"-link")), "alice", "v")
	})
	t.Run("lost", func(t *testing.T) {
		p, dir := filepath.Join(t.TempDir(), "key"), home(t)
		mustSave(t, newFile(t, dir, storage.KeyFile(p)), "alice", "v")
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
		wantError(t, "Save", newFile(t, dir, storage.KeyFile(p)).Save(ctx, "bob", nil), storage.ErrKeyMissing)
		if _, err := os.Stat(p); err == nil {
			t.Error("the key was made again")
		}
	})
	t.Run("no path", func(t *testing.T) {
		if err := newFile(t, home(t), storage.KeyFile("")).Save(ctx, "alice", nil); err == nil {
			t.Error("a key without a file")
		}
	})
}

// A key file in the store's own directory guards little, but it is what people
// try first. Whatever its name, it must not wait for a lock of the store's.
func TestKeyFileBesideTheSessions(t *testing.T) {
	needFiles(t)
	for _, name := range []string{"key", "minting", "store"} {
		dir := home(t)
		s := newFile(t, dir, storage.KeyFile(filepath.Join(dir, name)))
		mustSave(t, s, "alice", "v")
		wantValue(t, newFile(t, dir, storage.KeyFile(filepath.Join(dir, name))), "alice", "v")
	}
}

// TestKeyFileUnmounted has the link to the key's directory lead nowhere. The key
// cannot be made there, and no error reads as an absent session.
func TestKeyFileUnmounted(t *testing.T) {
	needFiles(t)
	dir, store := t.TempDir(), home(t)
	symlink(t, filepath.Join(dir, "unmounted"), filepath.Join(dir, "link"))
	k := storage.KeyFile(filepath.Join(dir, "link", "key"))
	for what, err := range map[string]error{
		"Save": newFile(t, store, k).Save(context.Background(), "alice", nil),
		"New":  func() error { _, _, err := k.New(context.Background()); return err }(),
	} {
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	_, err := storage.NewFile(filepath.Join(dir, "link"), k)
	wantError(t, "NewFile", err, storage.ErrGone)
}

func TestKeyFileRelative(t *testing.T) {
	needFiles(t)
	base, other, dir := t.TempDir(), t.TempDir(), home(t)
	t.Chdir(base)
	k := storage.KeyFile("key")
	t.Chdir(other)
	mustSave(t, newFile(t, dir, k), "alice", "v")
	t.Chdir(base)
	wantValue(t, newFile(t, dir, k), "alice", "v")
	if _, err := os.Stat(filepath.Join(base, "key")); err != nil {
		t.Errorf("the key was not made where KeyFile was called: %v", err)
	}
}

// TestKeyFileSweep: whoever makes the key removes what those left who were
// killed while they did, and nothing else.
func TestKeyFileSweep(t *testing.T) {
	needFiles(t)
	dir := t.TempDir()
	random := rand.Text()
	for name, stays := range map[string]bool{
		"key.tmp-" + random:                  false,
		"key.tmp-old":                        true,
		"key.tmp-" + strings.ToLower(random): true,
		"key.tmp-" + random + "A":            true,
		"other.tmp-" + random:                true,
	} {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, make([]byte, storage.KeySize), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := storage.KeyFile(filepath.Join(dir, "key")).New(context.Background()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(p); (err == nil) != stays {
			t.Errorf("%s: stays is %v, want %v", name, err == nil, stays)
		}
		os.Remove(p)
	}
}
