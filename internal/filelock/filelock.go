// Package filelock takes exclusive locks on files that the kernel frees when
// their holder dies. It excludes goroutines of one process as it excludes
// processes: every Lock opens the file anew, and the lock belongs to that
// opening.
//
// The lock file is empty, is made on demand and is never removed: whoever
// removes a lock file that is held splits the lock in two.
package filelock

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// ErrNotRegular says that the path of a lock file names something else: a
// symbolic link, a directory, a device. Nothing has been followed or changed.
var ErrNotRegular = errors.New("the lock file is not a regular file")

// errBusy says that somebody else holds the lock, or that the file was
// replaced while it was being locked. Both mean: try again.
var errBusy = errors.New("lock is busy")

// The wait between two attempts doubles from firstWait to lastWait. A blocking
// flock would be more prompt, but nothing can interrupt it: a caller whose
// context is done would leave a goroutine behind that may yet take the lock.
const (
	firstWait = time.Millisecond
	lastWait  = 32 * time.Millisecond
)

// Supported reports whether this system has locks that the kernel frees.
// Where it is false, Lock fails with an error that is errors.ErrUnsupported.
func Supported() bool { return supported }

// Lock waits for the exclusive lock of the file at path and takes it. The file
// is made, with mode 0600, where it is missing; its directory is not. The lock
// is freed by unlock, to be called once, or by the death of the process. It
// does not pass to child processes.
//
// Lock gives up with ctx.Err() once ctx is done; with a context that is done
// already it attempts nothing. Waiters are served in no particular order.
//
// The error matches ErrNotRegular where path is not a regular file,
// fs.ErrNotExist where the directory is missing, and errors.ErrUnsupported
// where the system or the file system has no such locks.
func Lock(ctx context.Context, path string) (unlock func() error, err error) {
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		unlock, err := tryLock(path)
		if !errors.Is(err, errBusy) {
			return unlock, err
		}
		// Jitter keeps waiters that started together from staying together.
		timer := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
	}
}
