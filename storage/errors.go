package storage

import (
	"errors"
	"io/fs"
)

// The errors of this package to branch on, with errors.Is. None of them
// matches fs.ErrNotExist, and none has moved or overwritten what is stored.
var (
	// ErrWrongKey says that a value is whole but was sealed with another key:
	// another passphrase, another key file. The right one opens it.
	ErrWrongKey = errors.New("the stored data was sealed with another key or passphrase")

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
