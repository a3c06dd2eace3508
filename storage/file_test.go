package storage_test

import (
	"bytes"
	"context"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/freshtoken/freshtoken/storage"
	"github.com/freshtoken/freshtoken/storage/storagetest"
)

// fixedKey is a key that exists from the start.
type fixedKey byte

func (k fixedKey) Get(context.Context, []byte) ([]byte, error) {
	return bytes.Repeat([]byte{byte(k)}, storage.KeySize), nil
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
		return newFile(t, filepath.Join(t.TempDir(), "store"), fixedKey(1))
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
