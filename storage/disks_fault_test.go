//go:build unix

package storage_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/freshtoken/freshtoken/internal/figures"
	"github.com/freshtoken/freshtoken/storage"
)

var disksAll = flag.Bool("disks.all", false, "try every error with every call")

// What a system call can fail with, apart from the absence of its file.
var errnos = []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EACCES, syscall.EMFILE}

// faultsOf are the faults that a call may have: without the flag, those of the
// first error and of another.
func faultsOf(c call) (all []fault) {
	for i, errno := range errnos {
		if !*disksAll && i != 0 && i != 1+c.n%(len(errnos)-1) {
			continue
		}
		all = append(all, fault{errno, before})
		if c.changes() {
			all = append(all, fault{errno, after})
		}
		if c.op == "write" {
			all = append(all, fault{errno, midway})
		}
	}
	return all
}

// passable are the calls whose failure need not be anybody's concern: they
// tidy up, or look whether there is something to tidy up, or come after all
// that matters is done.
var passable = []string{"remove", "readdir", "close", "unlock", "lstat", "place", "access"}

// Every system call of everything that a store does fails, once and in turn,
// with every error. What was stored or what was to be is whole, the error tells
// what the system said and is taken for nothing else, nothing stays open, and
// the next program finds a store to go on with.
func TestDiskFaults(t *testing.T) {
	needFiles(t)
	calls, kinds, passed, runs := 0, make(map[string]int), make(map[string]int), 0
	for _, sc := range scenes {
		t.Run(sc.name, func(t *testing.T) {
			whole := play(t, sc, newLayer())
			if whole.err != nil {
				t.Fatalf("without a fault: %v", whole.err)
			}
			log := whole.l.calls()
			for _, c := range log {
				calls++
				kinds[c.op]++
				for _, f := range faultsOf(c) {
					runs++
					r := play(t, sc, failing(c.n, f))
					r.check(t, fmt.Sprintf("call %d of %d, %s of %s, fails with %v (%d)",
						c.n, len(log), c.op, shortened(c.path), f.errno, f.when), f.errno)
					if r.err == nil {
						passed[c.op]++
					}
				}
			}
		})
	}
	figures.Record(t, "disks.calls", fmt.Sprint(calls))
	figures.Record(t, "disks.calls.kinds", counts(kinds))
	figures.Record(t, "disks.faults", fmt.Sprint(runs))
	figures.Record(t, "disks.faults.passed", counts(passed))
}

// A disk fails at some call and stays so until the program has ended.
func TestDiskDies(t *testing.T) {
	needFiles(t)
	runs := 0
	for _, sc := range scenes {
		t.Run(sc.name, func(t *testing.T) {
			n := play(t, sc, newLayer()).l.n
			for k := 1; k <= n; k++ {
				for i, errno := range []syscall.Errno{syscall.EIO, syscall.EROFS} {
					if i != k%2 && !*disksAll {
						continue
					}
					runs++
					r := play(t, sc, dying(k, errno))
					r.dead = true
					r.check(t, fmt.Sprintf("dead from call %d of %d on, with %v", k, n, errno), errno)
				}
			}
		})
	}
	figures.Record(t, "disks.deaths", fmt.Sprint(runs))
}

// check judges what a fault has left behind.
func (r *run) check(t *testing.T, what string, errno syscall.Errno) {
	t.Helper()
	want := []string{r.old, r.new}
	if r.err == nil {
		want = want[1:]
	}
	bad := t.Failed()
	r.wantError(t, errno)
	if r.l.stillOpen() > 1 { // that of the directory is closed when the store is garbage
		t.Errorf("%d files stay open", r.l.stillOpen())
	}
	left := temporary(t, r.place)
	if faults := r.l.hit; len(left) > 0 && !r.dead && len(faults["remove"]) == 0 && r.name != "start with litter" {
		t.Errorf("files are left behind: %v", left)
	}
	age(t, r.place)
	recovers(t, r.place, hasty{storage.Host}, want...)
	if r.bob {
		if got, err := state(r.mustOpen(t), "bob"); err != nil || got != bobsValue {
			t.Errorf("the other session: %s (%v)", got, err)
		}
	}
	if left := temporary(t, r.place); len(left) > 0 {
		t.Errorf("files are left for good: %v", left)
	}
	if t.Failed() && !bad {
		t.Fatalf("%s, which returned: %v", what, r.err)
	}
}

// wantError checks how the error reads.
func (r *run) wantError(t *testing.T, errno syscall.Errno) {
	t.Helper()
	if r.err == nil {
		for op := range r.l.hit {
			if !slices.Contains(append(passable, r.passable...), op) && !r.dead {
				t.Errorf("the failure of a call of %s went unnoticed", op)
			}
		}
		return
	}
	if !errors.Is(r.err, errno) {
		t.Errorf("the error is not %v", errno)
	}
	for name, other := range map[string]error{"an absent session": fs.ErrNotExist, "damage": storage.ErrCorrupt, "a lost key": storage.ErrKeyMissing,
		"a wrong key": storage.ErrWrongKey, "another directory": storage.ErrGone, "a deadline": context.DeadlineExceeded} {
		if errors.Is(r.err, other) {
			t.Errorf("the error reads as %s", name)
		}
	}
	if text := r.err.Error(); !strings.HasPrefix(text, "storage: ") || strings.Count(text, "storage: ") > 1 && r.name != "list" {
		t.Errorf("the error does not begin with the package's name, once")
	}
}

// shortened leaves out what the test has made up of a path.
func shortened(path string) string {
	if i := strings.LastIndex(path, "/"); i > 0 {
		path = path[i+1:]
	}
	return path
}

// counts shows numbers by their names.
func counts(m map[string]int) string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, m[name])
	}
	return strings.Join(names, ", ")
}
