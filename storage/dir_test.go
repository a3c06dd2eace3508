package storage_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken/internal/filelock"
	"github.com/freshtoken/freshtoken/storage"
)

func TestUnsupportedFile(t *testing.T) {
	if filelock.Supported() {
		t.Skip("this system has file locks")
	}
	if _, err := storage.NewFile(home(t), fixedKey(1)); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want errors.ErrUnsupported", err)
	}
}

func TestFilesAndModes(t *testing.T) {
	needFiles(t)
	dir := filepath.Join(home(t), "a", "b")
	s := newFile(t, dir, fixedKey(1))
	mustSave(t, s, "alice", "v")
	unlock, err := s.Lock(context.Background(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	for p, mode := range map[string]fs.FileMode{
		filepath.Dir(dir): 0o700, dir: 0o700, path(dir, "alice", ".session"): 0o600, path(dir, "alice", ".lock"): 0o600,
	} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && info.Mode().Perm() != mode {
			t.Errorf("%s has mode %o, want %o", filepath.Base(p), info.Mode().Perm(), mode)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), "tmp-") {
			t.Errorf("a temporary file was left behind: %s", e.Name())
		}
	}
	b, err := os.ReadFile(path(dir, "alice", ".session"))
	if err != nil || bytes.Contains(b, []byte("alice")) {
		t.Errorf("the file names its key (%v)", err)
	}
}

func TestDirectoryIsShared(t *testing.T) {
	needFiles(t)
	dir := home(t)
	a, b := newFile(t, dir, fixedKey(1)), newFile(t, dir, fixedKey(1))
	mustSave(t, a, "alice", "one")
	wantValue(t, b, "alice", "one")
	mustSave(t, b, "alice", "two")
	wantValue(t, a, "alice", "two")
}

func TestRelativeDirectory(t *testing.T) {
	needFiles(t)
	base := t.TempDir()
	t.Chdir(base)
	s := newFile(t, "store", fixedKey(1))
	mustSave(t, s, "alice", "v")
	t.Chdir(t.TempDir())
	wantValue(t, s, "alice", "v")
	if _, err := os.Stat(path(filepath.Join(base, "store"), "alice", ".session")); err != nil {
		t.Error(err)
	}
}

func TestDirectoryRefused(t *testing.T) {
	needFiles(t)
	t.Run("no name", func(t *testing.T) {
		if _, err := storage.NewFile("", fixedKey(1)); err == nil {
			t.Error("a store without a directory")
		}
	})
	t.Run("a file", func(t *testing.T) {
		p := home(t)
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := storage.NewFile(p, fixedKey(1))
		wantError(t, "NewFile", err, storage.ErrUnsafe)
	})
	t.Run("below a file", func(t *testing.T) {
		p := home(t)
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := storage.NewFile(filepath.Join(p, "store"), fixedKey(1)); err == nil {
			t.Error("a store below a file")
		}
	})
	for _, mode := range []fs.FileMode{0o777, 0o720, 0o702, fs.ModeSticky | 0o777} {
		t.Run(mode.String(), func(t *testing.T) {
			if runtime.GOOS == "windows" {
				t.Skip("mode bits mean nothing on Windows")
			}
			p := home(t)
			if err := os.Mkdir(p, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(p, mode); err != nil {
				t.Fatal(err)
			}
			_, err := storage.NewFile(p, fixedKey(1))
			wantError(t, "NewFile", err, storage.ErrUnsafe)
			if err != nil && !strings.Contains(err.Error(), "chmod go-w") {
				t.Errorf("the error does not say how to fix it: %v", err)
			}
		})
	}
}

// TestNotRegular puts something else where a session or a lock belongs.
func TestNotRegular(t *testing.T) {
	needFiles(t)
	ctx := context.Background()
	link := func(target string) func(t *testing.T, p string) {
		return func(t *testing.T, p string) { symlink(t, target, p) }
	}
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func(t *testing.T, p string){
		"directory": func(t *testing.T, p string) {
			if err := os.Mkdir(p, 0o700); err != nil {
				t.Fatal(err)
			}
		},
		"link":            link(victim),
		"link to nothing": link(victim + "2"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := home(t)
			s := newFile(t, dir, fixedKey(1))
			p := path(dir, "alice", ".session")
			put(t, p)
			before, err := os.Lstat(p)
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Load(ctx, "alice")
			wantError(t, "Load", err, storage.ErrUnsafe)
			wantError(t, "Save", s.Save(ctx, "alice", []byte("v")), storage.ErrUnsafe)
			wantError(t, "Delete", s.Delete(ctx, "alice"), storage.ErrUnsafe)
			wantError(t, "SetAside", s.SetAside(ctx, "alice"), storage.ErrUnsafe)
			if after, err := os.Lstat(p); err != nil || !os.SameFile(before, after) {
				t.Errorf("it was replaced or removed (%v)", err)
			}
			put(t, path(dir, "bob", ".lock"))
			_, err = s.Lock(ctx, "bob")
			wantError(t, "Lock", err, storage.ErrUnsafe)
		})
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "untouched" {
		t.Errorf("what a link led to was changed (%v)", err)
	}
	if _, err := os.Lstat(victim + "2"); err == nil {
		t.Error("what a link led to was made")
	}
}

func TestSymlinkedDirectory(t *testing.T) {
	needFiles(t)
	real := home(t)
	if err := os.Mkdir(real, 0o700); err != nil {
		t.Fatal(err)
	}
	link := real + "-link"
	symlink(t, real, link)
	s := newFile(t, link, fixedKey(1))
	mustSave(t, s, "alice", "v")
	wantValue(t, newFile(t, real, fixedKey(1)), "alice", "v")
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	_, err := s.Load(context.Background(), "alice")
	wantError(t, "Load", err, storage.ErrGone)
}
