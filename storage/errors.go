package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// The errors of this package to branch on, with errors.Is. None of them
// matches fs.ErrNotExist, and none has moved or overwritten what is stored.
var (
	// ErrWrongKey says that a value is whole but was sealed with another key:
	// another passphrase, another key file. The right one opens it.
	ErrWrongKey = errors.New("wrong passphrase or key")

	// ErrKeyMissing says that sealed values exist but their key does not: it
	// was removed, or the values were copied without it. Restore the key from
	// a backup; or remove the sealed values and log in again.
	ErrKeyMissing = errors.New("the key of the stored data is missing")

	// ErrNewerVersion says that a newer release wrote the value.
	ErrNewerVersion = errors.New("the stored data was written by a newer version of this program")

	// ErrCorrupt says that a value is damaged, is not a sealed value at all,
	// or was sealed under another key of the store. The error has a method
	// Corrupt() bool that returns true. SetAside moves such a value away.
	ErrCorrupt error = corruptError{}

	// ErrUnsafe says that a file or a directory is not as it must be: not a
	// regular file, owned by or open to other users.
	ErrUnsafe = errors.New("unsafe file or directory")

	// ErrGone says that the store as a whole is no longer there: its
	// directory was removed, replaced, or unmounted.
	ErrGone = errors.New("the store is gone")
)

type corruptError struct{}

func (corruptError) Error() string { return "the stored data is damaged" }
func (corruptError) Corrupt() bool { return true }

// isCorrupt recognises damage as callers do: an underlying store or a Key has
// an error of its own for it.
func isCorrupt(err error) bool {
	var c interface{ Corrupt() bool }
	return errors.As(err, &c) && c.Corrupt()
}

// aloof returns err, which is not about the session at hand, such that nobody
// takes it for that: if it matches fs.ErrNotExist or damage, its text alone.
func aloof(err error) error {
	if errors.Is(err, fs.ErrNotExist) || isCorrupt(err) {
		return errors.New(err.Error())
	}
	return err
}

// makingDir is what a fileError is doing that comes of a missing directory.
const makingDir = "make the directory"

// fileError is a failure of the file system.
type fileError struct {
	doing string
	err   error
}

// Error says what to do about it, where that is known. Who has to act knows the
// directory, and not the names of the files in it.
func (e *fileError) Error() string {
	path, reason := e.at()
	if strings.Contains(filepath.Base(path), tempExt) {
		path = filepath.Dir(path)
	}
	switch {
	case path == "":
	case isFull(e.err):
		return fmt.Sprintf("storage: the disk of %s is full: free some space there", path)
	case errors.Is(e.err, syscall.EROFS):
		return fmt.Sprintf("storage: %s is on a read-only disk: mount it for writing, or choose another directory", path)
	case isOpenElsewhere(e.err):
		return fmt.Sprintf("storage: another program has %s open: close that, or keep virus scanners and backups off its directory, and try again", path)
	case errors.Is(e.err, fs.ErrPermission) && e.doing == makingDir: // which is not there, and it is the one above that says no
		parent := filepath.Dir(path)
		return fmt.Sprintf("storage: this user has no permission in %s to make the directory %s: change the mode or owner of %[1]s, or choose another directory", parent, filepath.Base(path))
	case errors.Is(e.err, fs.ErrPermission):
		return fmt.Sprintf("storage: this user has no permission in %s to %s: change its mode or owner, or choose another directory", path, e.doing)
	default:
		return fmt.Sprintf("storage: cannot %s: %s: %s", e.doing, path, reason)
	}
	return fmt.Sprintf("storage: cannot %s: %s", e.doing, reason)
}

// at returns the path that the error is about, if any, and what is wrong there.
func (e *fileError) at() (path, reason string) {
	if p := new(fs.PathError); errors.As(e.err, &p) {
		return p.Path, p.Err.Error()
	}
	if l := new(os.LinkError); errors.As(e.err, &l) {
		return l.New, l.Err.Error()
	}
	return "", e.err.Error()
}

func (e *fileError) Unwrap() error { return e.err }

// isFull reports whether an error is for lack of space. On Windows these are
// ERROR_HANDLE_DISK_FULL and ERROR_DISK_FULL.
func isFull(err error) bool {
	if runtime.GOOS == "windows" {
		return errors.Is(err, syscall.Errno(39)) || errors.Is(err, syscall.Errno(112))
	}
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// isOpenElsewhere reports whether an error is for another program that has a
// file open, which is what nearly always keeps Windows from replacing one: that
// the directory can be written, the new file has shown. 32 is
// ERROR_SHARING_VIOLATION.
func isOpenElsewhere(err error) bool {
	if runtime.GOOS != "windows" {
		return false
	}
	return errors.Is(err, syscall.Errno(32)) || errors.Is(err, fs.ErrPermission) && errors.As(err, new(*os.LinkError))
}

// heldError is that of a context which ended before a lock could be had.
type heldError struct {
	path string
	err  error
}

func (e *heldError) Error() string {
	return fmt.Sprintf("storage: gave up waiting for whoever holds the lock of %s: %v", e.path, e.err)
}

func (e *heldError) Unwrap() error { return e.err }

// LockFile returns the path of the file that is locked, by which to find the
// process that has locked it.
func (e *heldError) LockFile() string { return e.path }
