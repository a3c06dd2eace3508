package storage

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/freshtoken/freshtoken/internal/filelock"
)

const (
	sessionExt = ".session"
	lockExt    = ".lock"
	asideExt   = ".corrupt-"
	tempExt    = ".tmp-"
	keyLock    = "minting.flock" // neither a hash nor what KeyFile locks, should its file lie here
)

// A dir is the vault of a File: bytes by key in a directory, whatever they are.
type dir struct {
	sys   system
	path  string // absolute
	info  os.FileInfo
	alive file // keeps the number of the directory from being reused; nil where that is in the way
}

// stem returns what the names of the files of key begin with.
func stem(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// file returns the path of the file of key with this extension.
func (d *dir) file(key, ext string) string { return d.at(stem(key), ext) }

func (d *dir) at(stem, ext string) string { return filepath.Join(d.path, stem+ext) }

// here returns ErrGone unless the directory is the one that openDir found.
// What happened in another one says nothing about this store: a lock there
// excludes nobody here, and an absent file there may well exist here.
func (d *dir) here() error {
	info, err := d.sys.Stat(d.path)
	switch {
	case isMissing(err):
		return fmt.Errorf("storage: %w: %s was removed; restore it, or restart this program and log in again", ErrGone, d.path)
	case err != nil:
		return fmt.Errorf("storage: %w", err)
	case !os.SameFile(info, d.info):
		return fmt.Errorf("storage: %w: %s was replaced by another; restart this program to use that one", ErrGone, d.path)
	}
	return nil
}

// isMissing reports whether a path leads nowhere.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// failed wraps an error of the file system. That a file is missing in the
// midst of things is no absent session, so it is not wrapped as such.
func failed(doing string, err error) error {
	if isMissing(err) {
		return fmt.Errorf("storage: %s: %w: %v", doing, ErrGone, err)
	}
	return &fileError{doing, err}
}

// begin is the start of every method.
func (d *dir) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return d.here()
}

func (d *dir) rename(ctx context.Context, from, to string) error {
	return persist(ctx, func() error { return d.sys.Rename(from, to) })
}

func (d *dir) remove(ctx context.Context, path string) error {
	return persist(ctx, func() error { return d.sys.Remove(path) })
}

// find is the start of the methods that change the file of a key, which its stem
// tells: it locks the file's input and output, and sees that the file is there
// and regular. Only that it is absent, in a directory that is there, matches
// fs.ErrNotExist.
func (d *dir) find(ctx context.Context, stem string) (path string, done func(), err error) {
	if err := d.begin(ctx); err != nil {
		return "", nil, err
	}
	if done, err = d.lockIO(ctx, stem); err != nil {
		return "", nil, err
	}
	path = d.at(stem, sessionExt)
	info, err := d.sys.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = d.absent(err)
	case err != nil:
		err = failed("look for a session", err)
	case !info.Mode().IsRegular():
		err = notRegular(path, info)
	}
	if err != nil {
		done()
		return "", nil, err
	}
	return path, done, nil
}

// absent is what a file that is missing says of its session: nothing, should
// the directory have gone since.
func (d *dir) absent(err error) error {
	if err := d.here(); err != nil {
		return err
	}
	return fmt.Errorf("storage: no session in %s: %w", d.path, err)
}

func (d *dir) Load(ctx context.Context, key string) ([]byte, error) { return d.read(ctx, stem(key)) }

// read does without find: that the file is there and regular shows when it is
// opened.
func (d *dir) read(ctx context.Context, stem string) ([]byte, error) {
	if err := d.begin(ctx); err != nil {
		return nil, err
	}
	done, err := d.lockIO(ctx, stem)
	if err != nil {
		return nil, err
	}
	defer done()
	value, err := readFile(ctx, d.sys, d.at(stem, sessionExt))
	if errors.Is(err, fs.ErrNotExist) {
		err = d.absent(err)
	}
	return value, err
}

// readFile reads a regular file of bounded size. Its error matches
// fs.ErrNotExist only if the file is absent.
func readFile(ctx context.Context, sys system, path string) ([]byte, error) {
	f, err := openShared(ctx, sys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		if info, lerr := sys.Lstat(path); lerr == nil && !info.Mode().IsRegular() {
			return nil, notRegular(path, info)
		}
		return nil, failed("read", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, failed("read", err)
	}
	if !info.Mode().IsRegular() {
		return nil, notRegular(path, info)
	}
	size := info.Size()
	if size > maxValue+int64(overheadSize) {
		return nil, fmt.Errorf("%w (%s)", damaged(fmt.Sprintf("its %d bytes are too many", size)), path)
	}
	value := make([]byte, size)
	n, err := io.ReadFull(f, value)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, failed("read", err)
	}
	return value[:n], nil // cut short by somebody: the seal will tell
}

func notRegular(path string, info os.FileInfo) error {
	return fmt.Errorf("storage: %w: %s is not a regular file (%s); remove it or restore the file", ErrUnsafe, path, info.Mode().Type())
}

func (d *dir) Save(ctx context.Context, key string, value []byte) (err error) {
	if err := d.begin(ctx); err != nil {
		return err
	}
	stem := stem(key)
	target := d.at(stem, sessionExt)
	switch info, err := d.sys.Lstat(target); {
	case err == nil && !info.Mode().IsRegular():
		return notRegular(target, info) // rename would replace a link
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return failed("save", err)
	}
	temp := d.at(stem, tempExt+rand.Text())
	if err := writeNew(d.sys, temp, value); err != nil {
		return failed("save", err)
	}
	defer func() {
		if err != nil {
			d.sys.Remove(temp)
		}
	}()
	done, err := d.lockIO(ctx, stem)
	if err != nil {
		return err
	}
	defer done()
	if err := d.rename(ctx, temp, target); err != nil {
		if isBusy(err) {
			return fmt.Errorf("storage: save: %s cannot be replaced, it is a mount of its own; mount its directory instead: %w", target, err)
		}
		return failed("save", err)
	}
	return d.sync()
}

// writeNew writes value to a file that did not exist before, down to the disk;
// on failure there is none.
func writeNew(sys system, path string, value []byte) (err error) {
	f, err := sys.Create(path)
	if err != nil {
		sys.Remove(path) // a disk can fail and have done it; nobody else knows the name
		return err
	}
	_, err = f.Write(value)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		sys.Remove(path)
	}
	return err
}

// sync makes renames and removals in the directory durable. Had the directory
// been replaced in the meantime, they would have happened in the other one.
func (d *dir) sync() error {
	if d.alive != nil { // Windows cannot: there rename itself waits for the disk
		if err := syncOpen(d.alive); err != nil {
			return failed("sync the directory", err)
		}
	}
	return d.here()
}

func (d *dir) Delete(ctx context.Context, key string) error {
	path, done, err := d.find(ctx, stem(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer done()
	if err := d.remove(ctx, path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("delete", err)
	}
	return d.sync()
}

func (d *dir) Lock(ctx context.Context, key string) (func() error, error) {
	return d.lock(ctx, d.file(key, lockExt))
}

func (d *dir) lockKey(ctx context.Context) (func() error, error) {
	return d.lock(ctx, filepath.Join(d.path, keyLock))
}

func (d *dir) lock(ctx context.Context, path string) (func() error, error) {
	if err := d.begin(ctx); err != nil {
		return nil, err
	}
	unlock, err := d.sys.Lock(ctx, path)
	switch {
	case err == nil:
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return nil, &heldError{path, err}
	case errors.Is(err, filelock.ErrNotRegular):
		return nil, fmt.Errorf("storage: %w: %w; remove it", ErrUnsafe, err)
	default:
		return nil, failed("lock", err)
	}
	// A wait may have been long.
	if err := d.here(); err != nil {
		unlock()
		return nil, err
	}
	return func() error {
		if err := unlock(); err != nil {
			return failed("unlock", err)
		}
		return nil
	}, nil
}

// SetAside takes the new name with an empty file before it renames over that:
// unlike a rename to a name that seems free, this never destroys what somebody
// put there in between, and unlike a hard link it works on every file system.
func (d *dir) SetAside(ctx context.Context, key string) error {
	path, done, err := d.find(ctx, stem(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer done()
	for n := 1; ; n++ {
		aside := d.file(key, fmt.Sprint(asideExt, n))
		f, err := d.sys.Create(aside)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return failed("set aside", err)
		}
		f.Close()
		if err := d.rename(ctx, path, aside); err != nil {
			d.sys.Remove(aside)
			return failed("set aside", err)
		}
		return d.sync()
	}
}

// samples yields the sealed files: all of them can be listed.
func (d *dir) samples(ctx context.Context) iter.Seq2[sample, error] { return d.values(ctx) }

// values yields the sealed files. It looks for one beside every file of ours:
// while a file is replaced, some file systems show a reader of the directory
// neither the old one nor the new one, but the lock file stays where it is.
func (d *dir) values(ctx context.Context) iter.Seq2[sample, error] {
	return func(yield func(sample, error) bool) {
		entries, err := d.sys.ReadDir(d.path)
		if err != nil {
			err = failed("look for sessions", err)
		}
		if gone := d.here(); gone != nil {
			err = gone
		}
		if err != nil {
			yield(sample{}, err)
			return
		}
		last := ""
		for _, e := range entries { // sorted, so that those of one stem are neighbours
			s, _, ok := strings.Cut(e.Name(), ".")
			if !ok || s == last || !isHash(s) {
				continue
			}
			last = s
			sealed, err := d.read(ctx, s)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				continue // deleted meanwhile, or never saved
			case errors.Is(err, ErrGone):
				yield(sample{}, err)
				return
			}
			if !yield(sample{
				from:   "the file " + d.at(s, sessionExt),
				sealed: sealed,
				err:    err,
				holds:  func(name string) bool { return stem(name) == s },
			}, nil) {
				return
			}
		}
	}
}

// settle needs no marker, because the files can be listed. It makes durable that
// there is a directory.
func (d *dir) settle(context.Context, func() ([]byte, error)) error {
	if err := syncUp(d.sys, filepath.Dir(d.path)); err != nil {
		return failed("sync the directories above", err)
	}
	return nil
}
