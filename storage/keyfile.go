package storage

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// KeyFile returns a [Key] that is kept as 32 random bytes in the file at path,
// with mode 0600. It guards against what reads the sealed files but not this
// one: a backup, a synchronised folder, a disk image. It does not guard against
// another program of the same user. Keep it away from the store, on a
// Kubernetes or Docker secret for example. A relative path is taken from the
// directory in which KeyFile is called.
//
// The file is made, along with its directory, when a store seals its first
// value, under a lock on path + ".lock". That store does not make it again while
// it has sealed values: see [ErrKeyMissing]. Another store with the same file
// would, so use one key file for each directory. The file may be a symbolic
// link to a file that exists.
//
// On systems with mode bits the file must belong to this user or to root, and
// have no bits but those of 0700. One that belongs to root, while this program
// runs as another user, may in addition be read by its group, up to 0740: so
// does Kubernetes mount a secret in a pod with an fsGroup, as root's with mode
// 0440. Anything else is [ErrUnsafe].
func KeyFile(path string) Key { return newKeyFile(host{}, path) }

func newKeyFile(sys system, path string) Key {
	k := &keyFile{sys: sys, path: path}
	if path == "" {
		k.err = errors.New("storage: no path of a key file given")
	} else if abs, err := filepath.Abs(path); err != nil {
		k.err = fmt.Errorf("storage: key file: %w", aloof(err))
	} else {
		k.path = abs
	}
	k.label = label("storage.KeyFile(" + k.path + ")")
	return k
}

type keyFile struct {
	label
	sys  system
	path string // absolute
	err  error  // why there is no path
}

// Get implements [Key]. There is one key, whatever the parameters.
func (k *keyFile) Get(ctx context.Context, params []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if k.err != nil {
		return nil, k.err
	}
	f, err := k.sys.OpenKey(k.path)
	if err != nil {
		_, lerr := k.sys.Lstat(k.path)
		if errors.Is(err, fs.ErrNotExist) && lerr == nil {
			return nil, fmt.Errorf("storage: %w: the key file %s is a link to nothing; restore what it points to, or remove it", ErrUnsafe, k.path)
		}
		return nil, fmt.Errorf("storage: key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("storage: key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("storage: %w: the key file %s is not a regular file", ErrUnsafe, k.path)
	}
	if err := checkKeyFile(k.path, info); err != nil {
		return nil, err
	}
	key := make([]byte, KeySize+1)
	n, err := io.ReadFull(f, key)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("storage: key file: %w", err)
	}
	if n != KeySize || info.Size() != KeySize {
		return nil, fmt.Errorf("storage: the key file %s has %d bytes instead of %d: it is damaged, or is no key file; "+
			"restore it from a backup, or, if nothing is sealed yet, make it with: head -c %d /dev/urandom > %s", k.path, info.Size(), KeySize, KeySize, k.path)
	}
	if linked(info) { // perhaps by a process that was killed in publish
		sweepKey(k.sys, k.path, func(e fs.DirEntry) bool {
			same, err := e.Info()
			return err == nil && os.SameFile(info, same)
		})
	}
	if params == nil { // values are about to depend on it
		if err := syncUp(k.sys, filepath.Dir(k.path)); err != nil {
			return nil, fmt.Errorf("storage: key file: %w", aloof(err))
		}
	}
	return key[:KeySize], nil
}

// notMade is the error of a key file that could not be made.
func (k *keyFile) notMade(err error) error {
	return fmt.Errorf("storage: cannot make the key file: %w; choose a path where this user may write, or make it beforehand: head -c %d /dev/urandom > %s",
		aloof(err), KeySize, k.path)
}

// New implements [Key].
func (k *keyFile) New(ctx context.Context) (key, params []byte, err error) {
	if k.err != nil {
		return nil, nil, k.err
	}
	if err := makeDirs(k.sys, filepath.Dir(k.path)); err != nil {
		return nil, nil, k.notMade(err)
	}
	unlock, err := k.sys.Lock(ctx, k.path+lockExt)
	if err != nil {
		return nil, nil, k.notMade(err)
	}
	defer unlock() // its failure does not make the key any worse
	sweepKey(k.sys, k.path, func(fs.DirEntry) bool { return true })

	key, err = k.Get(ctx, nil)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, nil, err // another store was faster
	}
	key = make([]byte, KeySize)
	rand.Read(key)
	if err := publish(ctx, k.sys, k.path, key); err != nil {
		return nil, nil, k.notMade(err)
	}
	kept, err := k.Get(ctx, nil)
	if err != nil {
		return nil, nil, aloof(err)
	}
	if !bytes.Equal(kept, key) {
		return nil, nil, fmt.Errorf("storage: the key file %s does not hold what was written to it; "+
			"look for another program that writes there", k.path)
	}
	return key, nil, nil
}

// publish makes the file at path with this content, durably and whole: a file
// made in place could be left empty by a crash, and a key file of no bytes is
// an error for good. It does not replace what exists.
func publish(ctx context.Context, sys system, path string, content []byte) error {
	temp := path + tempExt + rand.Text()
	if err := writeNew(sys, temp, content); err != nil {
		return err
	}
	err := placeNew(ctx, sys, temp, path)
	sys.Remove(temp) // before the sync, which is to keep it from coming back
	if err != nil {
		return err
	}
	return syncDir(sys, filepath.Dir(path))
}

// sweepKey removes what processes that were killed in publish left: a whole key
// each, that nobody would ever look at again. Under the lock, none of them is
// of a process that still needs it; without, that is true of other names of the
// key itself. That a name has the form of ours to the letter keeps it from what
// a user called, say, key.tmp-old.
func sweepKey(sys system, path string, stale func(fs.DirEntry) bool) {
	dir, base := filepath.Split(path)
	entries, _ := sys.ReadDir(dir)
	for _, e := range entries {
		random, ok := strings.CutPrefix(e.Name(), base+tempExt)
		if ok && len(random) == len(rand.Text()) && strings.Trim(random, base32) == "" && e.Type().IsRegular() && stale(e) {
			sys.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// base32 is the alphabet of rand.Text.
const base32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
