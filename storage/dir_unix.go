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
	if perm := info.Mode().Perm(); perm&0o022 != 0 {
		cure := ""
		if perm&0o002 == 0 {
			cure = "; if Kubernetes sets this at each mount, use a subdirectory of the volume " +
				"and fsGroupChangePolicy: OnRootMismatch"
		}
		return fmt.Errorf("storage: %w: others may write to %s (mode %04o); run: chmod go-w %q%s",
			ErrUnsafe, path, perm, path, cure)
	}
	return nil
}

// checkKeyFile refuses a key that others can read or could have written.
func checkKeyFile(path string, info os.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("storage: %w: the owner of the key file %s is not known", ErrUnsafe, path)
	}
	return checkKeyMode(path, info.Mode().Perm(), st.Uid, os.Geteuid())
}

// checkKeyMode lets the group read a key only where root gave it to that group
// and this program is not root: it is by this that Kubernetes makes a secret
// readable to the user of a pod with an fsGroup, who could not change the mode
// of root's file. Where the file is this user's own, the group is in excess.
func checkKeyMode(path string, perm os.FileMode, owner uint32, euid int) error {
	excess := os.FileMode(0o077)
	switch {
	case int64(owner) == int64(euid):
	case owner == 0:
		excess = 0o037
	default:
		return fmt.Errorf("storage: %w: the key file %s belongs to user %d, but this program runs as %d",
			ErrUnsafe, path, owner, euid)
	}
	if perm&excess != 0 {
		return fmt.Errorf("storage: %w: others may use the key file %s (mode %04o); run: chmod %o %q",
			ErrUnsafe, path, perm, perm&^excess, path)
	}
	return nil
}

// writable asks for the real user. For a program that runs as another, too, only
// a file that it makes will tell.
func writable(path string) bool {
	const writeAndSearch = 2 | 1
	return os.Getuid() == os.Geteuid() && os.Getgid() == os.Getegid() && syscall.Access(path, writeAndSearch) == nil
}

// linked reports whether a file has further names.
func linked(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Nlink > 1
}

// pinDir opens the directory, both to sync it and because the number of a
// directory that is open is not given to another. The file is closed when the
// store is garbage.
func pinDir(sys system, path string) (file, error) { return sys.OpenDir(path) }

func syncDir(sys system, path string) error {
	f, err := sys.OpenDir(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return syncOpen(f)
}

// syncOpen syncs an open directory. Some file systems cannot: there is nothing
// more to be done, and the rename did happen.
func syncOpen(f file) error {
	err := f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// openShared is for systems where a file that is open elsewhere can't be opened.
func openShared(_ context.Context, sys system, path string) (file, error) { return sys.Open(path) }

// openFile opens a file for reading. It follows no link in its last element
// and does not wait for the other end of a pipe.
func openFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
}

// openKeyFile opens a file for reading. It follows links, as secrets that a
// platform mounts need it, and does not wait for the other end of a pipe.
func openKeyFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

func rename(from, to string) error { return os.Rename(from, to) }

// persist is for systems where others can be in the way for a moment.
func persist(_ context.Context, do func() error) error { return do() }

// isBusy tells a rename onto a mount point, such as a file that was bind-mounted
// into a container.
func isBusy(err error) bool { return errors.Is(err, syscall.EBUSY) }

// lockIO is for systems where an open file can't be replaced.
func (d *dir) lockIO(context.Context, string) (func(), error) { return func() {}, nil }
