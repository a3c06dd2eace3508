//go:build unix

package storage_test

import (
	"context"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"github.com/freshtoken/freshtoken/storage"
)

// A call is one system call that a store has made, or is about to.
type call struct {
	n    int // from 1
	op   string
	path string
	to   string // of a rename
	data []byte // of a write
	made bool   // of a lock: its file was made
	dir  bool   // of an fsync: it was a directory
	done bool   // it had its effect
}

// changes reports whether the call changes anything when it succeeds.
func (c call) changes() bool {
	switch c.op {
	case "mkdir", "create", "write", "fsync", "rename", "place", "remove", "lock":
		return true
	}
	return false
}

// When an injected error comes.
type when int

const (
	before when = iota // nothing has happened
	after              // it has happened all the same
	midway             // half of the bytes are written
)

// A fault is an error of a system call.
type fault struct {
	errno syscall.Errno
	when  when
}

// A layer lies under a store and over the operating system. It counts and
// records the calls, and fails those that a test wants to fail.
type layer struct {
	beneath storage.System

	mu     sync.Mutex         // guards what follows
	n      int                // calls so far
	log    []call             // in order
	open   int                // files that are open
	fail   func(call) *fault  // nil: none fails
	action func(call)         // nil; called before every call
	hit    map[string][]fault // faults that were injected, by call
}

func newLayer() *layer { return &layer{beneath: hasty{storage.Host}} }

// hasty is a system that does not wait for the disk. Nothing here pulls a plug
// for real, and what has been synced is known from the record.
type hasty struct{ storage.System }

func (h hasty) Create(path string) (storage.SystemFile, error) { return h.file(h.System.Create(path)) }

func (h hasty) OpenDir(path string) (storage.SystemFile, error) {
	return h.file(h.System.OpenDir(path))
}

func (hasty) file(f storage.SystemFile, err error) (storage.SystemFile, error) {
	if err != nil {
		return nil, err
	}
	return hastyFile{f}, nil
}

type hastyFile struct{ storage.SystemFile }

func (hastyFile) Sync() error { return nil }

// failing returns a layer whose k-th call fails.
func failing(k int, f fault) *layer {
	l := newLayer()
	l.fail = func(c call) *fault {
		if c.n != k {
			return nil
		}
		return &f
	}
	return l
}

// dying returns a layer that does nothing any more from its k-th call on. To
// the disk that is a process that has been killed.
func dying(k int, errno syscall.Errno) *layer {
	l := newLayer()
	l.fail = func(c call) *fault {
		if c.n < k {
			return nil
		}
		return &fault{errno, before}
	}
	return l
}

// do makes a call, or what a fault leaves of it.
func (l *layer) do(c call, really func(*call) error) error {
	l.mu.Lock()
	l.n++
	c.n = l.n
	fail, action := l.fail, l.action
	l.mu.Unlock()
	if action != nil {
		action(c)
	}
	var f *fault
	if fail != nil {
		f = fail(c)
	}
	var err error
	if f == nil || f.when != before || c.op == "close" || c.op == "unlock" { // a close that fails has closed
		err = really(&c)
		c.done = err == nil && (f == nil || f.when != before)
	}
	if err == nil && f != nil {
		err = f.error(c)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = append(l.log, c)
	if f != nil {
		if l.hit == nil {
			l.hit = make(map[string][]fault)
		}
		l.hit[c.op] = append(l.hit[c.op], *f)
	}
	return err
}

// error is how the os package reports a fault.
func (f *fault) error(c call) error {
	if c.op == "rename" || c.op == "place" {
		return &os.LinkError{Op: c.op, Old: c.path, New: c.to, Err: f.errno}
	}
	return &fs.PathError{Op: c.op, Path: c.path, Err: f.errno}
}

// setFail says from now on which calls fail; nil: none.
func (l *layer) setFail(fail func(call) *fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = fail
}

func (l *layer) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

func (l *layer) calls() []call {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]call(nil), l.log...)
}

func (l *layer) opened(by int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open += by
}

func (l *layer) stillOpen() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

func (l *layer) Stat(path string) (info fs.FileInfo, err error) {
	err = l.do(call{op: "stat", path: path}, func(*call) (err error) {
		info, err = l.beneath.Stat(path)
		return err
	})
	return info, err
}

func (l *layer) Lstat(path string) (info fs.FileInfo, err error) {
	err = l.do(call{op: "lstat", path: path}, func(*call) (err error) {
		info, err = l.beneath.Lstat(path)
		return err
	})
	return info, err
}

func (l *layer) ReadDir(path string) (entries []fs.DirEntry, err error) {
	err = l.do(call{op: "readdir", path: path}, func(*call) (err error) {
		entries, err = l.beneath.ReadDir(path)
		return err
	})
	return entries, err
}

func (l *layer) Mkdir(path string) error {
	return l.do(call{op: "mkdir", path: path}, func(*call) error { return l.beneath.Mkdir(path) })
}

// Writable fails by not being certain.
func (l *layer) Writable(path string) bool {
	ok := false
	err := l.do(call{op: "access", path: path}, func(*call) error {
		ok = l.beneath.Writable(path)
		return nil
	})
	return ok && err == nil
}

func (l *layer) Rename(from, to string) error {
	return l.do(call{op: "rename", path: from, to: to}, func(*call) error { return l.beneath.Rename(from, to) })
}

func (l *layer) Place(from, to string) error {
	return l.do(call{op: "place", path: from, to: to}, func(*call) error { return l.beneath.Place(from, to) })
}

func (l *layer) Remove(path string) error {
	return l.do(call{op: "remove", path: path}, func(*call) error { return l.beneath.Remove(path) })
}

func (l *layer) Lock(ctx context.Context, path string) (func() error, error) {
	var unlock func() error
	err := l.do(call{op: "lock", path: path}, func(c *call) (err error) {
		_, absent := os.Lstat(path)
		unlock, err = l.beneath.Lock(ctx, path)
		c.made = err == nil && absent != nil
		return err
	})
	if err != nil {
		if unlock != nil {
			unlock()
		}
		return nil, err
	}
	return func() error {
		return l.do(call{op: "unlock", path: path}, func(*call) error { return unlock() })
	}, nil
}

func (l *layer) Create(path string) (storage.SystemFile, error) {
	return l.file("create", path, false, l.beneath.Create)
}

func (l *layer) Open(path string) (storage.SystemFile, error) {
	return l.file("open", path, false, l.beneath.Open)
}

func (l *layer) OpenKey(path string) (storage.SystemFile, error) {
	return l.file("openkey", path, false, l.beneath.OpenKey)
}

func (l *layer) OpenDir(path string) (storage.SystemFile, error) {
	return l.file("opendir", path, true, l.beneath.OpenDir)
}

func (l *layer) file(op, path string, dir bool, open func(string) (storage.SystemFile, error)) (storage.SystemFile, error) {
	var f storage.SystemFile
	opened := false
	err := l.do(call{op: op, path: path}, func(*call) (err error) {
		f, err = open(path)
		opened = err == nil
		return err
	})
	if err != nil {
		if opened {
			f.Close()
		}
		return nil, err
	}
	l.opened(1)
	return &layerFile{f, l, path, dir}, nil
}

type layerFile struct {
	file storage.SystemFile
	l    *layer
	path string
	dir  bool
}

func (f *layerFile) Read(b []byte) (n int, err error) {
	err = f.l.do(call{op: "read", path: f.path}, func(*call) (err error) {
		n, err = f.file.Read(b)
		return err
	})
	return n, err
}

func (f *layerFile) Write(b []byte) (n int, err error) {
	err = f.l.do(call{op: "write", path: f.path, data: append([]byte(nil), b...)}, func(c *call) (err error) {
		if f.l.midway(*c) {
			b = b[:len(b)/2]
			c.data = c.data[:len(b)]
		}
		n, err = f.file.Write(b)
		return err
	})
	return n, err
}

// midway reports whether half of a write is to fail.
func (l *layer) midway(c call) bool {
	l.mu.Lock()
	fail := l.fail
	l.mu.Unlock()
	if fail == nil {
		return false
	}
	f := fail(c)
	return f != nil && f.when == midway
}

func (f *layerFile) Stat() (info fs.FileInfo, err error) {
	err = f.l.do(call{op: "fstat", path: f.path}, func(*call) (err error) {
		info, err = f.file.Stat()
		return err
	})
	return info, err
}

func (f *layerFile) Sync() error {
	return f.l.do(call{op: "fsync", path: f.path, dir: f.dir}, func(*call) error { return f.file.Sync() })
}

func (f *layerFile) Close() error {
	f.l.opened(-1)
	return f.l.do(call{op: "close", path: f.path}, func(*call) error { return f.file.Close() })
}
