package storage_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/freshtoken/freshtoken/storage"
)

// BenchmarkSave compares with BenchmarkBareSave: the least that a durable
// replacement of a file takes. A Save should stay within 1.3 times that.
func BenchmarkSave(b *testing.B) {
	needFiles(b)
	s, err := storage.NewFile(home(b), fixedKey(1))
	if err != nil {
		b.Fatal(err)
	}
	value := make([]byte, 4096)
	for b.Loop() {
		if err := s.Save(context.Background(), "alice", value); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBareSave(b *testing.B) {
	dir := b.TempDir()
	value := make([]byte, 4096+92)
	n := 0
	for b.Loop() {
		n++
		temp := filepath.Join(dir, "temp"+strconv.Itoa(n))
		f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.Write(value); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		f.Close()
		if err := os.Rename(temp, filepath.Join(dir, "file")); err != nil {
			b.Fatal(err)
		}
		if runtime.GOOS == "windows" {
			continue
		}
		d, err := os.Open(dir)
		if err != nil {
			b.Fatal(err)
		}
		if err := d.Sync(); err != nil {
			b.Fatal(err)
		}
		d.Close()
	}
}

func BenchmarkLoad(b *testing.B) {
	needFiles(b)
	s, err := storage.NewFile(home(b), fixedKey(1))
	if err != nil {
		b.Fatal(err)
	}
	mustSave(b, s, "alice", string(make([]byte, 4096)))
	for b.Loop() {
		if _, err := s.Load(context.Background(), "alice"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLock(b *testing.B) {
	needFiles(b)
	s, err := storage.NewFile(home(b), fixedKey(1))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		unlock, err := s.Lock(context.Background(), "alice")
		if err != nil {
			b.Fatal(err)
		}
		if err := unlock(); err != nil {
			b.Fatal(err)
		}
	}
}
