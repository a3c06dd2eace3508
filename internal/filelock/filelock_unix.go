//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package filelock

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const supported = true

// tryLock opens and locks the file at path without waiting; errBusy where
// somebody else holds it. The descriptor is a bare number, not an *os.File: a
// finalizer must not free a lock whose unlock function has gone out of scope.
func tryLock(path string) (unlock func() error, err error) {
	fd, err := open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	var opened unix.Stat_t
	if err := unix.Fstat(fd, &opened); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if opened.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%s: %w", path, ErrNotRegular)
	}
	switch err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK), errors.Is(err, unix.EINTR):
		return nil, errBusy
	case err != nil:
		return nil, &os.PathError{Op: "flock", Path: path, Err: err}
	}
	// Whoever comes next opens the path. If the path names another file by
	// now, or none, that one would not wait for this lock.
	var named unix.Stat_t
	if err := unix.Lstat(path, &named); err != nil || named.Dev != opened.Dev || named.Ino != opened.Ino {
		return nil, errBusy
	}
	var done atomic.Bool
	return func() error {
		if done.Swap(true) {
			return fmt.Errorf("unlock %s: %w", path, os.ErrClosed)
		}
		// A child process between fork and exec holds a copy of the
		// descriptor: closing ours alone would not free the lock yet.
		err := unix.Flock(fd, unix.LOCK_UN)
		if cerr := unix.Close(fd); err == nil {
			err = cerr
		}
		if err != nil {
			return &os.PathError{Op: "unlock", Path: path, Err: err}
		}
		return nil
	}, nil
}

// open opens the lock file, made if missing. It follows no link and does not
// wait for the other end of a pipe.
func open(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err == nil:
			return fd, nil
		}
		// What O_NOFOLLOW fails with differs from system to system.
		if info, lerr := os.Lstat(path); lerr == nil && !info.Mode().IsRegular() {
			return -1, fmt.Errorf("%s: %w", path, ErrNotRegular)
		}
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
}
