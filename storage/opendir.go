package storage

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/freshtoken/freshtoken/internal/filelock"
)

// openDir makes the directory if it is missing, and checks that it will do.
func openDir(sys system, path string) (_ *dir, err error) {
	if path == "" {
		return nil, errors.New("storage: no directory given: name one, or use NewAppFile")
	}
	if !filelock.Supported() {
		return nil, fmt.Errorf("storage: this system has no file locks, so that processes could not share a store; "+
			"use NewMemory, or a Store of your own under Seal: %w", errors.ErrUnsupported)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, failed("find the directory", err)
	}
	if err := makeDirs(sys, path); errors.Is(err, syscall.ENOTDIR) {
		return nil, &fileError{makingDir, err} // there never was one
	} else if err != nil {
		return nil, failed(makingDir, err)
	}
	info, err := sys.Stat(path)
	if err != nil {
		return nil, failed("open the directory", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("storage: %w: %s is not a directory; remove it or choose another", ErrUnsafe, path)
	}
	if err := checkDir(path, info); err != nil {
		return nil, err
	}
	d := &dir{sys: sys, path: path, info: info}
	if d.alive, err = pinDir(sys, path); err != nil {
		return nil, failed("open the directory", err)
	}
	if d.alive != nil {
		if d.info, err = d.alive.Stat(); err != nil {
			return nil, failed("open the directory", err)
		}
	}
	// Windows looks up what SameFile compares when it is first called.
	if !os.SameFile(d.info, info) {
		return nil, fmt.Errorf("storage: %w: %s was replaced while it was being opened; try again", ErrGone, path)
	}
	// A program that starts and finds a session need not write anything. The
	// first session of a directory was saved under a lock, so that there are some.
	if !d.sweep() || !sys.Writable(path) {
		if err := d.probe(); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// makeDirs is os.MkdirAll with mode 0700.
func makeDirs(sys system, path string) error {
	if _, err := sys.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if parent := filepath.Dir(path); parent != path {
		if err := makeDirs(sys, parent); err != nil {
			return err
		}
	}
	if err := sys.Mkdir(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// syncUp makes a directory and all above it durable: what is saved in one that a
// loss of power removes is not saved. That they exist does not tell that they
// are: who made them may have been killed right after, or be about to sync
// them. What this user may not open, or is read-only, this user has not made.
func syncUp(sys system, path string) error {
	for {
		err := syncDir(sys, path)
		if err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) {
			return err
		}
		parent := filepath.Dir(path)
		if parent == path {
			return nil
		}
		path = parent
	}
}

// probeTime bounds the wait for the lock of a file that nobody else knows. A
// file system whose files change their numbers would never grant it.
const probeTime = 5 * time.Second

// probe makes, locks and removes a file, so that a directory that will not do
// shows before anything depends on it.
func (d *dir) probe() error {
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	name := filepath.Join(d.path, "probe"+tempExt+rand.Text())
	unlock, err := d.sys.Lock(ctx, name)
	if err != nil {
		d.sys.Remove(name)
		return failed("make and lock files", err)
	}
	err = unlock()
	if rerr := d.sys.Remove(name); err == nil {
		err = rerr
	}
	if err != nil {
		return failed("remove files", err)
	}
	return nil
}

// staleAfter is the age at which a temporary file must be one that a killed
// process left. A Save takes milliseconds. If one was stopped for longer, by a
// laptop's sleep in the middle, it loses its file to the sweep and fails, and
// what was stored before is still there.
const staleAfter = time.Hour

// sweep removes what killed processes left behind: files of our own naming
// pattern alone. It is housekeeping: its failure harms nobody. It reports whether
// it has seen a session.
func (d *dir) sweep() (used bool) {
	entries, _ := d.sys.ReadDir(d.path)
	for _, e := range entries {
		if s, ok := strings.CutSuffix(e.Name(), sessionExt); ok && isHash(s) {
			used = true
			continue
		}
		stem, random, ok := strings.Cut(e.Name(), tempExt)
		if !ok || random == "" || stem != "probe" && !isHash(stem) || !e.Type().IsRegular() {
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > staleAfter {
			d.sys.Remove(filepath.Join(d.path, e.Name()))
		}
	}
	return used
}

func isHash(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && s == strings.ToLower(s)
}
