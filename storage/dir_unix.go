//go:build unix

package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// checkDir refuses a directory in which others could replace files and links.
// That they can list it does no harm: the files are 0600 and sealed.
func checkDir(path string, info os.FileInfo) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int64(st.Uid) != int64(os.Geteuid()) {
		return fmt.Errorf("storage: %w: %s belongs to user %d, but this program runs as %d; "+
			"run it as the owner, change the owner, or choose another directory", ErrUnsafe, path, st.Uid, os.Geteuid())
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("storage: %w: others may write to %s (mode %04o); run: chmod go-w %q",
			ErrUnsafe, path, info.Mode().Perm(), path)
	}
	return nil
}

// checkKeyFile refuses a key that others can read or could have written.
func checkKeyFile(path string, info os.FileInfo) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int64(st.Uid) != int64(os.Geteuid()) {
		return fmt.Errorf("storage: %w: the key file %s belongs to user %d, but this program runs as %d",
			ErrUnsafe, path, st.Uid, os.Geteuid())
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("storage: %w: others may use the key file %s (mode %04o); run: chmod 600 %q",
			ErrUnsafe, path, info.Mode().Perm(), path)
	}
	return nil
}

// pinDir opens the directory, both to sync it and because the number of a
// directory that is open is not given to another. The file is closed when the
// store is garbage.
func pinDir(path string) (*os.File, error) { return os.Open(path) }

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return syncOpen(f)
}

// syncOpen syncs an open directory. Some file systems cannot: there is nothing
// more to be done, and the rename did happen.
func syncOpen(f *os.File) error {
	err := f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// openFile opens a file for reading. It follows no link in its last element
// and does not wait for the other end of a pipe.
func openFile(_ context.Context, path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
}

func rename(_ context.Context, from, to string) error { return os.Rename(from, to) }

func remove(_ context.Context, path string) error { return os.Remove(path) }

// isBusy tells a rename onto a mount point, such as a file that was bind-mounted
// into a container.
func isBusy(err error) bool { return errors.Is(err, syscall.EBUSY) }

// lockIO is for systems where an open file can't be replaced.
func (d *dir) lockIO(context.Context, string) (func(), error) { return func() {}, nil }
