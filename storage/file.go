package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// File is a store that keeps each value in a sealed file of its own. Any
// number of goroutines and processes of one machine, and any number of Files,
// may share a directory. All methods are safe for concurrent use. Make one
// with [NewFile] or [NewAppFile].
//
// In the directory lie, named by the SHA-256 of the store's key in hex:
// <hash>.session, the sealed value; <hash>.lock, what Lock locks;
// <hash>.corrupt-<n>, what SetAside moved away; <hash>.tmp-<random> for the
// time of a Save; on Windows <hash>.io, a lock held for microseconds.
// minting.flock is locked while a key is made. Lock files are empty and stay
// for good: whoever removes one that is held splits the lock. A copy or backup
// needs the .session files and the key.
type File struct {
	label
	dir *dir
	s   *sealer
}

// NewFile returns a store in the directory dir, sealed under key. The
// directory and its parents are made, with mode 0700, where they are missing.
// The key is first asked for when a value is first loaded or saved.
//
// NewFile fails with [ErrUnsafe] where dir belongs to another user, root
// included, or has any of the mode bits 0022, by which its group or others may
// write; none of this is checked on Windows. It does not change the mode of a
// directory that exists: who could write there may have removed sessions or put
// back old ones, which somebody ought to know. NewFile fails with an error that
// is errors.ErrUnsupported where the system or the file system has no locks
// that the kernel frees when their holder dies, and fails where dir cannot be
// written. It finds out by a file that it makes, locks and removes; where dir
// has sessions, and the system says that this user may write there, it makes
// none. Network file systems often claim to lock and do not: use a local one.
//
// A File belongs to the directory that it found, be it at the end of symbolic
// links. If that is removed, replaced, or no longer where the links lead,
// methods fail with [ErrGone] until NewFile is called again. A link in the place
// of a file of the store is [ErrUnsafe].
func NewFile(dir string, key Key) (*File, error) {
	return newFile(host{}, dir, key)
}

func newFile(sys system, dir string, key Key) (*File, error) {
	if key == nil {
		return nil, errNoKey
	}
	d, err := openDir(sys, dir)
	if err != nil {
		return nil, err
	}
	return &File{label: label("storage.File(" + d.path + ")"), dir: d, s: &sealer{vault: d, key: key}}, nil
}

// NewAppFile is [NewFile] in the directory "sessions" of the place that the OS
// has for the app's data: on Windows %LocalAppData%\app, on macOS
// ~/Library/Application Support/app, elsewhere $XDG_STATE_HOME/app, which is
// ~/.local/state/app unless set. app is made of 1 to 64 letters, digits, dots,
// underscores and hyphens of ASCII.
func NewAppFile(app string, key Key) (*File, error) {
	if !validApp(app) {
		return nil, fmt.Errorf("storage: %q is no app name: use 1 to 64 of A-Z a-z 0-9 . _ - and not dots alone at its end", app)
	}
	base, err := dataDir()
	if err != nil {
		return nil, fmt.Errorf("storage: no place for the data of %s: %w; set it, or use NewFile with a directory", app, err)
	}
	return NewFile(filepath.Join(base, app, "sessions"), key)
}

// validApp excludes what some system takes for a path or drops: a name that
// ends in a dot is another name on Windows.
func validApp(app string) bool {
	if len(app) == 0 || len(app) > 64 || app[len(app)-1] == '.' {
		return false
	}
	for _, c := range []byte(app) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// dataDir returns where this system's programs keep what is neither
// configuration nor cache and does not follow the user to other machines.
func dataDir() (string, error) {
	switch runtime.GOOS {
	case "windows":
		if dir := os.Getenv("LocalAppData"); filepath.IsAbs(dir) {
			return dir, nil
		}
		return "", fmt.Errorf("%%LocalAppData%% is not set to an absolute path")
	case "darwin", "ios":
		home, err := homeDir()
		return filepath.Join(home, "Library", "Application Support"), err
	default:
		// The XDG base directory specification says to ignore relative paths.
		if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
			return dir, nil
		}
		home, err := homeDir()
		return filepath.Join(home, ".local", "state"), err
	}
}

func homeDir() (string, error) {
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		return home, nil
	}
	return "", fmt.Errorf("$HOME is not set to an absolute path")
}

// Load reads and opens the file of key. It takes no session lock. The error
// matches fs.ErrNotExist where there is no such file in the store's directory;
// other errors are [ErrWrongKey], [ErrKeyMissing], [ErrNewerVersion],
// [ErrCorrupt], [ErrUnsafe] for what is not a regular file, [ErrGone], what the
// Key fails with, and those of the file system.
func (f *File) Load(ctx context.Context, key string) ([]byte, error) {
	value, err := f.s.load(ctx, key)
	return value, f.named(key, err)
}

// named adds the path to an error whose cure may be to remove the file, or, if
// their key is lost, all of them.
func (f *File) named(key string, err error) error {
	switch {
	case errors.Is(err, ErrWrongKey), errors.Is(err, ErrKeyMissing):
		return fmt.Errorf("%w (the data are the files in %s)", err, f.dir.path)
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrNewerVersion):
		return fmt.Errorf("%w (the file is %s)", err, f.dir.file(key, sessionExt))
	}
	return err
}

// Save seals value into a new file and renames it to that of key, both synced
// to the disk before it returns; before the first value of a store, so are the
// key file and all directories above, unless they may not be opened. It fails as
// Load does, rather than replace a file that it cannot open; that there is none yet
// is fine. On Windows the rename is written through.
func (f *File) Save(ctx context.Context, key string, value []byte) error {
	return f.named(key, f.s.save(ctx, key, value))
}

// Delete removes the file of key, be it readable or not, and syncs the
// directory; Windows cannot do that, so that a loss of power there may undo the
// removal. A directory or a link of that name is left alone: [ErrUnsafe].
func (f *File) Delete(ctx context.Context, key string) error { return f.dir.Delete(ctx, key) }

// List returns the keys under which values are stored, in no particular order.
// It reads and opens every sealed file of the directory, asks the Key as Load
// does, and takes no session lock. A value that is saved anew meanwhile is not
// missed if its key has ever been locked; a Source locks before it saves.
//
// A file that cannot be opened does not tell its key and is left out. The
// error, which is returned together with the keys of the others, names such
// files, or the first of each kind, and matches the errors of Load. Temporary
// files, locks, and what SetAside moved away do not count.
func (f *File) List(ctx context.Context) ([]string, error) { return f.s.list(ctx) }

// Lock locks the lock file of key. The lock is the kernel's: it is freed when
// the process dies, however that happens, and excludes goroutines of this
// process too. A waiter looks again every few milliseconds, up to 50. The
// error of one whom ctx has sent away names the lock file, and wraps that of ctx.
func (f *File) Lock(ctx context.Context, key string) (unlock func() error, err error) {
	return f.dir.Lock(ctx, key)
}

// SetAside renames the file of key to <hash>.corrupt-<n>, with the first n
// that is free. Where there is no file it does nothing. Call it with the lock
// of key held.
func (f *File) SetAside(ctx context.Context, key string) error { return f.dir.SetAside(ctx, key) }
