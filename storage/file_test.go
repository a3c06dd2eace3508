package storage_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/internal/mark"
	"github.com/freshtoken/freshtoken/storage"
	"github.com/freshtoken/freshtoken/storage/storagetest"
)

// fixedKey is a key that exists from the start.
type fixedKey byte

func (k fixedKey) Get(context.Context, []byte) ([]byte, error) {
	return []byte(mark.Weave(mark.Key, strings.Repeat(string(rune('A'+k)), storage.KeySize)))[:storage.KeySize], nil
}

func (k fixedKey) New(context.Context) (key, params []byte, err error) {
	return nil, nil, fs.ErrInvalid
}

func newFile(t *testing.T, dir string, key storage.Key) *storage.File {
	t.Helper()
	f, err := storage.NewFile(dir, key)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFile(t *testing.T) {
	needFiles(t)
	storagetest.Run(t, func(t *testing.T) storagetest.Store {
		return newFile(t, filepath.Join(canary.Dir(t), "store"), fixedKey(1))
	})
}

func TestSeal(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storagetest.Store { return storage.Seal(storage.NewMemory(), fixedKey(1)) })
}

func TestFileProcesses(t *testing.T) {
	needFiles(t)
	storagetest.RunProcesses(t, "", func(t *testing.T, dir string) storagetest.Store {
		return newFile(t, filepath.Join(dir, "store"), fixedKey(1))
	})
}

// TestKeyFileProcesses has the processes' first saves meet, so that one of them
// makes the key.
func TestKeyFileProcesses(t *testing.T) {
	needFiles(t)
	storagetest.RunProcesses(t, "", func(t *testing.T, dir string) storagetest.Store {
		return newFile(t, filepath.Join(dir, "store"), storage.KeyFile(filepath.Join(dir, "key")))
	})
}

func TestNewAppFile(t *testing.T) {
	needFiles(t)
	base := t.TempDir()
	for _, env := range []string{"HOME", "XDG_STATE_HOME", "LocalAppData"} {
		t.Setenv(env, filepath.Join(base, env))
	}
	want := map[string]string{
		"windows": filepath.Join(base, "LocalAppData", "my-app", "sessions"),
		"darwin":  filepath.Join(base, "HOME", "Library", "Application Support", "my-app", "sessions"),
	}[runtime.GOOS]
	if want == "" {
		want = filepath.Join(base, "XDG_STATE_HOME", "my-app", "sessions")
	}
	s, err := storage.NewAppFile("my-app", fixedKey(1))
	if err != nil {
		t.Fatal(err)
	}
	mustSave(t, s, "alice", "v")
	if _, err := os.Stat(path(want, "alice", ".session")); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"", ".", "..", "a/b", `a\b`, "a b", "ä", "a.", "a\x00", strings.Repeat("a", 65)} {
		if _, err := storage.NewAppFile(name, fixedKey(1)); err == nil {
			t.Errorf("the app name %q was taken", name)
		}
	}
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		return
	}
	for _, unset := range []string{"", "relative"} {
		t.Setenv("XDG_STATE_HOME", unset)
		s, err := storage.NewAppFile("my-app", fixedKey(1))
		if err != nil {
			t.Fatal(err)
		}
		mustSave(t, s, "bob", "v")
		if _, err := os.Stat(path(filepath.Join(base, "HOME", ".local", "state", "my-app", "sessions"), "bob", ".session")); err != nil {
			t.Error(err)
		}
	}
	t.Setenv("HOME", "")
	if _, err := storage.NewAppFile("my-app", fixedKey(1)); err == nil || !strings.Contains(err.Error(), "HOME") {
		t.Errorf("without a home: got %v, want an error that names HOME", err)
	}
}
