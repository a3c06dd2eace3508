package storage

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// Access is governed by lists that the profile directory passes on; mode bits
// say nothing.
func checkDir(string, os.FileInfo) error     { return nil }
func checkKeyFile(string, os.FileInfo) error { return nil }

// writable does not know: nothing but a file that is made tells what the lists
// of a directory come to.
func writable(string) bool { return false }

// linked is for systems where a new key file has two names for a moment.
func linked(os.FileInfo) bool { return false }

// pinDir opens nothing: an open directory could not be removed or renamed, and
// file numbers are not reused at once as they are elsewhere.
func pinDir(system, string) (file, error) { return nil, nil }

// syncDir does nothing: Windows cannot sync a directory. What has to last is
// put in its place by move instead, which waits for the disk. NTFS logs the
// changes of its directories in order, so that this takes along what was made
// or removed on the same volume before. A removal that nothing follows can be
// undone by a loss of power.
func syncDir(system, string) error { return nil }

func syncOpen(file) error { return nil }

// patience bounds the wait for programs that open a file without our lock,
// such as virus scanners and backups. They let go within milliseconds, and may
// take it again as soon: hence many attempts, at no steady pace.
const (
	patience = 5 * time.Second
	lastWait = 4 * time.Millisecond
)

// persist repeats what fails because another program has the file open.
func persist(ctx context.Context, do func() error) error {
	deadline := time.Now().Add(patience)
	for wait := lastWait / 8; ; wait = min(2*wait, lastWait) {
		err := do()
		if !errors.Is(err, windows.ERROR_ACCESS_DENIED) && !errors.Is(err, windows.ERROR_SHARING_VIOLATION) ||
			time.Now().After(deadline) {
			return err
		}
		timer := time.NewTimer(rand.N(wait))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func openShared(ctx context.Context, sys system, path string) (f file, err error) {
	// A link or a directory stays what it is however long one waits.
	if info, err := sys.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return nil, notRegular(path, info)
	}
	err = persist(ctx, func() (err error) {
		f, err = sys.Open(path)
		return err
	})
	return f, err
}

func openFile(path string) (*os.File, error) { return os.Open(path) }

func openKeyFile(path string) (*os.File, error) { return os.Open(path) }

func rename(from, to string) error { return move(from, to, windows.MOVEFILE_REPLACE_EXISTING) }

// place gives a file a new name, which must be free.
func place(from, to string) error { return move(from, to, 0) }

// placeNew gives the file at from the name to, which must be free.
func placeNew(ctx context.Context, sys system, from, to string) error {
	return persist(ctx, func() error { return sys.Place(from, to) })
}

// move renames a file and waits until the disk has the new name: os.Rename
// leaves that to the cache, and no later call could make up for it.
func move(from, to string, flags uint32) error {
	fail := func(err error) error { return &os.LinkError{Op: "rename", Old: from, New: to, Err: err} }
	source, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return fail(err)
	}
	target, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return fail(err)
	}
	if err := windows.MoveFileEx(source, target, flags|windows.MOVEFILE_WRITE_THROUGH); err != nil {
		return fail(err)
	}
	return nil
}

func isBusy(error) bool { return false }

// lockIO keeps readers and writers of one file apart: a file that is open
// can't be replaced. It is taken after the session's lock, for microseconds.
func (d *dir) lockIO(ctx context.Context, stem string) (func(), error) {
	unlock, err := d.sys.Lock(ctx, d.at(stem, ".io"))
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, failed("lock", err)
	}
	return func() { unlock() }, nil
}
