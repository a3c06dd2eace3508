//go:build unix

package storage_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/storage"
)

// A place is where a store lies and where its key does, both below directories
// that the first save has to make.
type place string

// scratch makes one for a test, in memory where that is easy to have: thousands
// are made.
func scratch(t testing.TB) place {
	t.Helper()
	memory := "/dev/shm"
	if runtime.GOOS != "linux" {
		memory = t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "storage")
	if err != nil {
		return place(t.TempDir())
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Cleanup(func() { canary.Search(t, dir, "key") })
	return place(dir)
}

func (p place) sessions() string { return filepath.Join(string(p), "state", "app", "sessions") }
func (p place) keyFile() string  { return filepath.Join(string(p), "config", "app", "key") }

// openOn is what a program does when it starts.
func (p place) openOn(sys storage.System) (*storage.File, error) {
	return storage.NewFileOn(sys, p.sessions(), storage.KeyFileOn(sys, p.keyFile()))
}

func (p place) mustOpen(t testing.TB) *storage.File {
	t.Helper()
	s, err := p.openOn(hasty{storage.Host})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// absent and corrupt are what there may be in place of a value.
const (
	absent  = "(absent)"
	corrupt = "(corrupt)"
)

// A scene is something that a program does with a store.
type scene struct {
	name     string
	stage    func(t testing.TB, p place) // what was there before
	act      func(p place, sys storage.System) error
	old, new string   // what is stored for alice before and after
	bob      bool     // that there is another session
	passable []string // calls whose failure here may go unnoticed, because there is another way
}

// started is a scene of a program that has opened the store.
func started(do func(ctx context.Context, s *storage.File) error) func(place, storage.System) error {
	return func(p place, sys storage.System) error {
		s, err := p.openOn(sys)
		if err != nil {
			return err
		}
		return do(context.Background(), s)
	}
}

func save(key, value string) func(context.Context, *storage.File) error {
	return func(ctx context.Context, s *storage.File) error { return s.Save(ctx, key, []byte(value)) }
}

// locked does something under the session lock, as a Source does.
func locked(do func(context.Context, *storage.File) error) func(context.Context, *storage.File) error {
	return func(ctx context.Context, s *storage.File) error {
		unlock, err := s.Lock(ctx, "alice")
		if err != nil {
			return err
		}
		err = do(ctx, s)
		if uerr := unlock(); err == nil {
			err = uerr
		}
		return err
	}
}

func stored(values ...string) func(testing.TB, place) {
	return func(t testing.TB, p place) {
		t.Helper()
		s := p.mustOpen(t)
		for i, v := range values {
			mustSave(t, s, []string{"alice", "bob"}[i], v)
		}
	}
}

// damagedSession leaves half of a sealed value.
func damagedSession(t testing.TB, p place) {
	t.Helper()
	stored(oldValue, bobsValue)(t, p)
	if err := os.Truncate(path(p.sessions(), "alice", ".session"), 60); err != nil {
		t.Fatal(err)
	}
}

// litter leaves what killed programs leave.
func litter(t testing.TB, p place) {
	t.Helper()
	stored(oldValue, bobsValue)(t, p)
	for _, f := range []string{path(p.sessions(), "alice", ".tmp-OLD"), filepath.Join(p.sessions(), "probe.tmp-OLD")} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	age(t, p)
}

// age makes all temporary files old enough for the sweep.
func age(t testing.TB, p place) {
	t.Helper()
	old := time.Now().Add(-2 * time.Hour)
	for _, f := range temporary(t, p) {
		if err := os.Chtimes(f, old, old); err != nil {
			t.Fatal(err)
		}
	}
}

// temporary returns the temporary files of the store and of its key.
func temporary(t testing.TB, p place) (all []string) {
	t.Helper()
	for _, d := range []string{p.sessions(), filepath.Dir(p.keyFile())} {
		found, err := filepath.Glob(filepath.Join(d, "*.tmp-*"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

var scenes = []scene{
	{name: "first save", stage: func(testing.TB, place) {},
		act: started(save("alice", newValue)), old: absent, new: newValue,
		passable: []string{"opendir", "fsync"}}, // of a directory that is somebody else's, as it seems
	{name: "first save with the key there",
		stage: func(t testing.TB, p place) {
			mustSave(t, p.mustOpen(t), "alice", oldValue)
			if err := os.Remove(path(p.sessions(), "alice", ".session")); err != nil {
				t.Fatal(err)
			}
		},
		act: started(save("alice", newValue)), old: absent, new: newValue,
		passable: []string{"opendir", "fsync"}},
	{name: "replacing save", stage: stored(oldValue, bobsValue), bob: true,
		act: started(locked(save("alice", newValue))), old: oldValue, new: newValue},
	{name: "save beside another session", stage: func(t testing.TB, p place) { mustSave(t, p.mustOpen(t), "bob", bobsValue) }, bob: true,
		act: started(locked(save("alice", newValue))), old: absent, new: newValue,
		passable: []string{"stat", "lstat", "open", "fstat", "read"}}, // of bob's file, which tells the key
	{name: "load", stage: stored(oldValue, bobsValue), bob: true, old: oldValue, new: oldValue,
		act: started(func(ctx context.Context, s *storage.File) error {
			value, err := s.Load(ctx, "alice")
			if err == nil && string(value) != oldValue {
				return errors.New("storage: the test has loaded something else")
			}
			return err
		})},
	{name: "list", stage: stored(oldValue, bobsValue), bob: true, old: oldValue, new: oldValue,
		act: started(func(ctx context.Context, s *storage.File) error {
			names, err := s.List(ctx)
			if err == nil && len(names) != 2 {
				return errors.New("storage: the test has listed something else")
			}
			return err
		})},
	{name: "delete", stage: stored(oldValue, bobsValue), bob: true, old: oldValue, new: absent,
		act: started(locked(func(ctx context.Context, s *storage.File) error { return s.Delete(ctx, "alice") }))},
	{name: "set aside", stage: damagedSession, bob: true, old: corrupt, new: absent,
		act: started(locked(func(ctx context.Context, s *storage.File) error { return s.SetAside(ctx, "alice") }))},
	{name: "start with litter", stage: litter, bob: true, old: oldValue, new: oldValue,
		act: started(func(context.Context, *storage.File) error { return nil })},
}

// A run is a scene that was played over a layer.
type run struct {
	scene
	place
	l    *layer
	err  error
	dead bool // so that nothing could be tidied up
}

func play(t *testing.T, sc scene, l *layer) *run {
	t.Helper()
	p := scratch(t)
	sc.stage(t, p)
	r := &run{scene: sc, place: p, l: l}
	r.err = sc.act(p, l)
	l.fail = nil
	return r
}

// state tells what is stored for a key.
func state(s storage.Store, key string) (string, error) {
	value, err := s.Load(context.Background(), key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return absent, nil
	case errors.Is(err, storage.ErrCorrupt):
		return corrupt, nil
	}
	return string(value), err
}

// recovers checks that the next program finds one of these values, and goes on
// with the store as if nothing had happened.
func recovers(t testing.TB, p place, sys storage.System, want ...string) (found string, ok bool) {
	t.Helper()
	ctx := context.Background()
	s, err := p.openOn(sys)
	if err != nil {
		t.Errorf("the next start: %v", err)
		return "", false
	}
	found, err = state(s, "alice")
	if err != nil {
		t.Errorf("the next load: %v", err)
		return "", false
	}
	if !strings.Contains(" "+strings.Join(want, " ")+" ", " "+found+" ") {
		t.Errorf("found %s, want one of %v", found, want)
		return found, false
	}
	unlock, err := s.Lock(ctx, "alice")
	if err != nil {
		t.Errorf("the next lock: %v", err)
		return found, false
	}
	defer unlock()
	if found == corrupt {
		if err := s.SetAside(ctx, "alice"); err != nil {
			t.Errorf("setting aside: %v", err)
			return found, false
		}
	}
	if err := s.Save(ctx, "alice", []byte("next")); err != nil {
		t.Errorf("the next save: %v", err)
		return found, false
	}
	next, err := p.openOn(sys)
	if err != nil {
		t.Errorf("the start after that: %v", err)
		return found, false
	}
	if now, err := state(next, "alice"); err != nil || now != "next" {
		t.Errorf("after the next save: found %s (%v)", now, err)
		return found, false
	}
	return found, true
}
