package filelock

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/windows"
)

const supported = true

// tryLock opens and locks the file at path without waiting; errBusy where
// somebody else holds it. The file is opened without FILE_SHARE_DELETE, so
// that nobody can remove or rename it between the opening and the unlocking.
func tryLock(path string) (unlock func() error, err error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	h, err := windows.CreateFile(name,
		windows.GENERIC_READ|windows.GENERIC_WRITE,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE,
		nil, windows.OPEN_ALWAYS,
		windows.FILE_ATTRIBUTE_NORMAL|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	switch {
	case errors.Is(err, windows.ERROR_SHARING_VIOLATION):
		return nil, errBusy // a virus scanner or a backup has a look at it
	case err != nil:
		if info, lerr := os.Lstat(path); lerr == nil && !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s: %w", path, ErrNotRegular)
		}
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() {
		if err != nil {
			windows.CloseHandle(h)
		}
	}()
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(h, &info); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if info.FileAttributes&(windows.FILE_ATTRIBUTE_DIRECTORY|windows.FILE_ATTRIBUTE_REPARSE_POINT) != 0 {
		return nil, fmt.Errorf("%s: %w", path, ErrNotRegular)
	}
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	switch err := windows.LockFileEx(h, flags, 0, 1, 0, new(windows.Overlapped)); {
	case errors.Is(err, windows.ERROR_LOCK_VIOLATION), errors.Is(err, windows.ERROR_IO_PENDING):
		return nil, errBusy
	case err != nil:
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	var done atomic.Bool
	return func() error {
		if done.Swap(true) {
			return fmt.Errorf("unlock %s: %w", path, os.ErrClosed)
		}
		// Closing frees the lock too, but "when" is left open by its docs.
		err := windows.UnlockFileEx(h, 0, 1, 0, new(windows.Overlapped))
		if cerr := windows.CloseHandle(h); err == nil {
			err = cerr
		}
		if err != nil {
			return &os.PathError{Op: "unlock", Path: path, Err: err}
		}
		return nil
	}, nil
}
