//go:build !windows

package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
)

// place gives the file at from the name to, which must be free. The caller
// removes the old name, which may remain.
func place(_ context.Context, from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	// No hard links on this file system. The caller's lock keeps our own kind
	// away from the moment between the look and the rename.
	if _, lerr := os.Lstat(to); !errors.Is(lerr, fs.ErrNotExist) {
		return err
	}
	return os.Rename(from, to)
}
