//go:build !windows

package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
)

// place gives a file a second name, which must be free.
func place(from, to string) error { return os.Link(from, to) }

// placeNew gives the file at from the name to, which must be free. The caller
// removes the old name, which may remain.
func placeNew(_ context.Context, sys system, from, to string) error {
	err := sys.Place(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	// No hard links on this file system. The caller's lock keeps our own kind
	// away from the moment between the look and the rename.
	if _, lerr := sys.Lstat(to); !errors.Is(lerr, fs.ErrNotExist) {
		return err
	}
	return sys.Rename(from, to)
}
