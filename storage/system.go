package storage

import (
	"context"
	"io"
	"io/fs"
	"os"

	"github.com/freshtoken/freshtoken/internal/filelock"
)

// A system is what this package asks of the operating system to keep files.
// There is one, host; tests put another over it that fails a call or records
// all of them. What a call is for, and whether it is tried again, is decided
// above it.
type system interface {
	Stat(path string) (fs.FileInfo, error)
	Lstat(path string) (fs.FileInfo, error)
	ReadDir(path string) ([]fs.DirEntry, error)
	Mkdir(path string) error // mode 0700

	// Writable reports whether it is certain that this user may make files in a
	// directory, as far as that can be told without making one.
	Writable(path string) bool

	Create(path string) (file, error) // which must not exist, to write, mode 0600
	Open(path string) (file, error)   // to read; follows no link in the last element
	OpenKey(path string) (file, error)
	OpenDir(path string) (file, error) // to sync

	Rename(from, to string) error // replaces
	Place(from, to string) error  // does not; from may remain
	Remove(path string) error

	Lock(ctx context.Context, path string) (unlock func() error, err error)
}

// A file is an open file of a system.
type file interface {
	io.ReadWriteCloser
	Stat() (fs.FileInfo, error)
	Sync() error
}

// host is the operating system.
type host struct{}

func (host) Stat(path string) (fs.FileInfo, error)      { return os.Stat(path) }
func (host) Lstat(path string) (fs.FileInfo, error)     { return os.Lstat(path) }
func (host) ReadDir(path string) ([]fs.DirEntry, error) { return os.ReadDir(path) }
func (host) Mkdir(path string) error                    { return os.Mkdir(path, 0o700) }
func (host) Writable(path string) bool                  { return writable(path) }

func (host) Create(path string) (file, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func (host) Open(path string) (file, error)    { return openFile(path) }
func (host) OpenKey(path string) (file, error) { return openKeyFile(path) }
func (host) OpenDir(path string) (file, error) { return os.Open(path) }

func (host) Rename(from, to string) error { return rename(from, to) }
func (host) Place(from, to string) error  { return place(from, to) }
func (host) Remove(path string) error     { return os.Remove(path) }

func (host) Lock(ctx context.Context, path string) (func() error, error) {
	return filelock.Lock(ctx, path)
}
