//go:build unix

package storage_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/freshtoken/freshtoken/internal/figures"
	"github.com/freshtoken/freshtoken/storage"
)

// away is where what was there before goes.
func (p place) away() string { return filepath.Join(string(p), "away") }

// Things that somebody does to the directory of a store while it is in use.
var upheavals = map[string]func(p place) error{
	"removed": func(p place) error { return os.RemoveAll(p.sessions()) },
	"moved":   func(p place) error { return os.Rename(p.sessions(), p.away()) },
	"replaced by an empty one": func(p place) error {
		return errors.Join(os.Rename(p.sessions(), p.away()), os.Mkdir(p.sessions(), 0o700))
	},
	"replaced by its copy": func(p place) error {
		return errors.Join(os.Rename(p.sessions(), p.away()), os.Mkdir(p.sessions(), 0o700), copyFiles(p.away(), p.sessions()))
	},
	"replaced by a link to it": func(p place) error {
		return errors.Join(os.Rename(p.sessions(), p.away()), os.Symlink(p.away(), p.sessions()))
	},
	"below a file": func(p place) error {
		parent := filepath.Dir(p.sessions())
		return errors.Join(os.Rename(parent, p.away()), os.WriteFile(parent, nil, 0o600))
	},
}

// copyFiles copies what the documentation says that a backup needs.
func copyFiles(from, to string) error {
	files, err := filepath.Glob(filepath.Join(from, "*.session"))
	for _, f := range files {
		b, rerr := os.ReadFile(f)
		err = errors.Join(err, rerr, os.WriteFile(filepath.Join(to, filepath.Base(f)), b, 0o600))
	}
	return err
}

// The directory of an open store changes right before each system call of everything
// that a store does. The store tells that, unless all was done by then; an
// absent session it calls none of it. What is in the old directory and in the
// new one is whole.
func TestDirectoryChangesMidway(t *testing.T) {
	needFiles(t)
	runs, noticed := 0, 0
	for _, sc := range scenes {
		n := play(t, sc, newLayer()).l.n
		opening := sc
		opening.act = started(func(context.Context, *storage.File) error { return nil })
		opened := play(t, opening, newLayer()).l.n
		for name, change := range upheavals {
			t.Run(sc.name+", "+name, func(t *testing.T) {
				for k := opened + 1; k <= n && !t.Failed(); k++ {
					r := upset(t, sc, k, change)
					runs++
					if r.err != nil {
						noticed++
					}
					r.checkUpset(t, k, fmt.Sprintf("before call %d of %d", k, n))
				}
			})
		}
	}
	figures.Record(t, "disks.midway", fmt.Sprint(runs))
	figures.Record(t, "disks.midway.noticed", fmt.Sprint(noticed))
}

func upset(t *testing.T, sc scene, k int, change func(place) error) *run {
	t.Helper()
	p, l := scratch(t), newLayer()
	sc.stage(t, p)
	l.action = func(c call) {
		if c.n != k {
			return
		}
		if err := change(p); err != nil {
			t.Fatal(err)
		}
	}
	return &run{scene: sc, place: p, l: l, err: sc.act(p, l)}
}

// lastSync is when a store has done all that it was to do.
func lastSync(log []call) int {
	for _, c := range slices.Backward(log) {
		if c.op == "fsync" {
			return c.n
		}
	}
	return 0
}

func (r *run) checkUpset(t *testing.T, k int, what string) {
	t.Helper()
	if r.err != nil && !errors.Is(r.err, storage.ErrGone) || errors.Is(r.err, fs.ErrNotExist) || errors.Is(r.err, storage.ErrCorrupt) {
		t.Errorf("%s: the error is not that the store is gone: %v", what, r.err)
	}
	want := []string{r.old, r.new}
	if info, err := os.Lstat(r.away()); err == nil && info.IsDir() {
		old := r.away()
		if _, err := os.Lstat(filepath.Join(old, "sessions")); err == nil {
			old = filepath.Join(old, "sessions")
		}
		s, err := storage.NewFileOn(hasty{storage.Host}, old, storage.KeyFile(r.keyFile()))
		if err != nil {
			t.Fatalf("%s: the old directory: %v", what, err)
		}
		got, err := state(s, "alice")
		if err != nil || !slices.Contains(want, got) {
			t.Errorf("%s: in the old directory: %s (%v), want one of %v", what, got, err, want)
		}
	}
	parent := filepath.Dir(r.sessions())
	if info, err := os.Lstat(parent); err == nil && !info.IsDir() {
		os.Remove(parent)
	}
	got, ok := recovers(t, r.place, hasty{storage.Host}, append(want, absent)...)
	if !ok {
		t.Errorf("%s: the next program fails", what)
	}
	if r.err == nil && got != r.new && r.old != r.new && k <= lastSync(r.l.calls()) {
		t.Errorf("%s: all went well, it says, but where the store was there is %s and not %s", what, got, r.new)
	}
}
