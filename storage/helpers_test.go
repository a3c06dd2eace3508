package storage_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/internal/filelock"
	"github.com/freshtoken/freshtoken/internal/mark"
	"github.com/freshtoken/freshtoken/storage"
)

// Values that a search for leaks finds.
var oldValue, newValue, bobsValue = mark.Weave(mark.Value, "old"), mark.Weave(mark.Value, "new"), mark.Weave(mark.Value, "bob's")

func needFiles(t testing.TB) {
	t.Helper()
	if !filelock.Supported() {
		t.Skip("this system has no file locks, so no File")
	}
}

// path returns where a File in dir keeps key, with this extension.
func path(dir, key, ext string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(dir, hex.EncodeToString(sum[:])+ext)
}

// symlink makes a symbolic link, or skips the test where there are none. Wine
// says that it has made one and has not.
func symlink(t *testing.T, target, p string) {
	t.Helper()
	if err := os.Symlink(target, p); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	if info, err := os.Lstat(p); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Skip("no symbolic links here")
	}
}

func mustSave(t testing.TB, s storage.Store, key, value string) {
	t.Helper()
	if err := s.Save(context.Background(), key, []byte(value)); err != nil {
		t.Fatal(err)
	}
}

func wantValue(t testing.TB, s storage.Store, key, value string) {
	t.Helper()
	got, err := s.Load(context.Background(), key)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != value {
		t.Fatalf("loaded %q, want %q", got, value)
	}
}

// wantError checks that err is want, and no absent session.
func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	canary.Shown(t, what, err)
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
	if errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: the error reads as an absent session: %v", what, err)
	}
}

// all calls every method of a File, and returns the errors.
func all(s *storage.File, key string) map[string]error {
	ctx := context.Background()
	_, load := s.Load(ctx, key)
	unlock, lock := s.Lock(ctx, key)
	if lock == nil {
		unlock()
	}
	_, list := s.List(ctx)
	return map[string]error{
		"Load": load, "Lock": lock, "List": list,
		"Save": s.Save(ctx, key, []byte("v")), "Delete": s.Delete(ctx, key), "SetAside": s.SetAside(ctx, key),
	}
}
