package storage_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"testing"

	"github.com/freshtoken/freshtoken/storage"
)

// TestGone removes or replaces the store as a whole: that is no absent session.
func TestGone(t *testing.T) {
	needFiles(t)
	for name, change := range map[string]func(t *testing.T, dir string){
		"removed": func(t *testing.T, dir string) {},
		"replaced by an empty one": func(t *testing.T, dir string) {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		},
		"replaced by a file": func(t *testing.T, dir string) {
			if err := os.WriteFile(dir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"replaced by a link to nothing": func(t *testing.T, dir string) {
			symlink(t, dir+"2", dir)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := home(t)
			s := newFile(t, dir, fixedKey(1))
			mustSave(t, s, "alice", "v")
			before, err := os.Stat(dir)
			if err != nil || !os.SameFile(before, before) { // Windows looks up the number only now
				t.Fatal(err)
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			change(t, dir)
			if after, err := os.Stat(dir); err == nil && runtime.GOOS == "windows" && os.SameFile(before, after) {
				t.Skip("this file system, unlike NTFS, gives a number to the next file at once")
			}
			for method, err := range all(s, "alice") {
				wantError(t, method, err, storage.ErrGone)
			}
			for method, err := range all(s, "nobody") {
				wantError(t, method, err, storage.ErrGone)
			}
		})
	}
	t.Run("moved away and back", func(t *testing.T) {
		dir := home(t)
		s := newFile(t, dir, fixedKey(1))
		mustSave(t, s, "alice", "v")
		if err := os.Rename(dir, dir+"2"); err != nil {
			t.Fatal(err)
		}
		_, err := s.Load(context.Background(), "alice")
		wantError(t, "Load", err, storage.ErrGone)
		if err := os.Rename(dir+"2", dir); err != nil {
			t.Fatal(err)
		}
		wantValue(t, s, "alice", "v")
	})
}

func TestUnreadableDirectory(t *testing.T) {
	needFiles(t)
	if runtime.GOOS == "windows" || os.Geteuid() == 0 {
		t.Skip("permission bits bind neither Windows nor root")
	}
	dir := home(t)
	s := newFile(t, dir, fixedKey(1))
	mustSave(t, s, "carol", "v")
	for _, mode := range []fs.FileMode{0o000, 0o600} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		for method, err := range all(s, "nobody") {
			wantError(t, method, err, fs.ErrPermission)
		}
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	wantError(t, "Save", s.Save(context.Background(), "alice", nil), fs.ErrPermission)
	if _, err := storage.NewFile(dir, fixedKey(1)); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("NewFile in a read-only directory: got %v, want fs.ErrPermission", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
}
