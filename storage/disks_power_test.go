//go:build unix

package storage_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/freshtoken/freshtoken/internal/figures"
	"github.com/freshtoken/freshtoken/storage"
)

// A deed is something that a program does with the session of alice, and what
// is stored once it is done.
type deed struct {
	name string
	do   func(context.Context, *storage.File) error
	then string
}

var life = []deed{
	{"first save", save("alice", "v1"), "v1"},
	{"save", locked(save("alice", "v2")), "v2"},
	{"another session", save("bob", bobsValue), "v2"},
	{"set aside", locked(func(ctx context.Context, s *storage.File) error { return s.SetAside(ctx, "alice") }), absent},
	{"save after that", locked(save("alice", "v3")), "v3"},
	{"delete", locked(func(ctx context.Context, s *storage.File) error { return s.Delete(ctx, "alice") }), absent},
	{"save after that, too", locked(save("alice", "v4")), "v4"},
}

// The power fails after any system call of a store's life, and the disk has
// done what it likes of all that was not synced. The next program finds the
// value of the last call that had returned, or that of the one under way, and
// goes on.
func TestPowerLoss(t *testing.T) {
	needFiles(t)
	p, l := scratch(t), newLayer()
	s, err := p.openOn(l)
	if err != nil {
		t.Fatal(err)
	}
	judge := newJudge(t)
	was := absent
	judge.prefixes(p, l.calls(), 0, was)
	for _, d := range life {
		from := len(l.calls())
		if err := d.do(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", d.name, err)
		}
		log := l.calls()
		judge.prefixes(p, log[:len(log)-1], from, was, d.then)
		judge.prefixes(p, log, len(log)-1, d.then) // it has returned
		was = d.then
	}
	judge.record("disks.power")
}

// A program is killed at any system call of a save, and the next one saves.
// Then the power fails. What the second one had been told is stored, although
// the first did not live to sync what it had done.
func TestPowerLossAfterKill(t *testing.T) {
	needFiles(t)
	judge := newJudge(t)
	for i, first := range life {
		whole := -1
		for k := 1; whole < 0 || k <= whole; k++ {
			p, l := scratch(t), newLayer()
			s, err := p.openOn(l)
			for _, d := range life[:i] {
				err = errors.Join(err, d.do(t.Context(), s))
			}
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 { // opening is part of it
				p, l = scratch(t), newLayer()
			}
			if whole < 0 {
				whole = countCalls(t, i)
			}
			from := len(l.calls())
			l.fail = func(c call) *fault {
				if c.n < from+k {
					return nil
				}
				return &fault{syscall.EIO, before}
			}
			if i == 0 {
				s, err = p.openOn(l)
			}
			if err == nil {
				first.do(t.Context(), s)
			}
			l.fail = nil
			s, err = p.openOn(l)
			if err == nil {
				err = s.Save(t.Context(), "alice", []byte("saved"))
			}
			if err != nil {
				t.Fatalf("killed at call %d of %s: %v", k, first.name, err)
			}
			judge.prefixes(p, l.calls(), len(l.calls())-1, "saved")
			if t.Failed() {
				t.Fatalf("killed at call %d of %d of: %s", k, whole, first.name)
			}
			judge.kills++
		}
	}
	judge.record("disks.power.kill")
}

// countCalls returns how many calls the i-th deed takes.
func countCalls(t *testing.T, i int) int {
	t.Helper()
	p, l := scratch(t), newLayer()
	s, err := p.openOn(l)
	n := 0
	for _, d := range life[:i+1] {
		if i > 0 {
			n = len(l.calls())
		}
		if err == nil {
			err = d.do(t.Context(), s)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(l.calls()) - n
}

// A judge looks at what a loss of power may have left, once at each.
type judge struct {
	t     *testing.T
	base  string
	seen  map[string]bool
	cuts  int // prefixes
	left  int // what a loss of power there may leave
	kills int
	found map[string]int
}

func newJudge(t *testing.T) *judge {
	return &judge{t: t, base: string(scratch(t)), seen: make(map[string]bool), found: make(map[string]int)}
}

// prefixes has the power fail after each of the calls from the given one on.
func (j *judge) prefixes(p place, log []call, from int, want ...string) {
	j.t.Helper()
	for n := from; n <= len(log); n++ {
		if n > 0 && n < len(log) && !log[n-1].changes() {
			continue
		}
		j.cuts++
		replay(string(p), log[:n]).afterwards(func(left tree) {
			j.left++
			key := strings.Join(want, ",") + "\n" + left.String()
			if j.seen[key] || j.t.Failed() {
				return
			}
			j.seen[key] = true
			if !j.look(left, want) {
				j.t.Fatalf("the power failed after call %d of %d (%s of %s), which may leave:\n%s",
					n, len(log), last(log[:n]).op, shortened(last(log[:n]).path), left)
			}
		})
	}
}

func last(log []call) call {
	if len(log) == 0 {
		return call{}
	}
	return log[len(log)-1]
}

// look starts the next program on what is left.
func (j *judge) look(left tree, want []string) bool {
	j.t.Helper()
	at := filepath.Join(j.base, fmt.Sprint(len(j.seen)))
	if err := os.Mkdir(at, 0o700); err != nil {
		j.t.Fatal(err)
	}
	defer os.RemoveAll(at)
	if err := left.write(at); err != nil {
		j.t.Fatal(err)
	}
	p := place(at)
	age(j.t, p)
	found, ok := recovers(j.t, p, hasty{storage.Host}, want...)
	if files := temporary(j.t, p); len(files) > 0 {
		j.t.Errorf("files are left for good: %v", files)
		ok = false
	}
	j.found[found]++
	return ok
}

func (j *judge) record(name string) {
	if j.kills > 0 {
		figures.Record(j.t, name+".kills", fmt.Sprint(j.kills))
	}
	figures.Record(j.t, name+".prefixes", fmt.Sprint(j.cuts))
	figures.Record(j.t, name+".states", fmt.Sprint(j.left))
	figures.Record(j.t, name+".checked", fmt.Sprint(len(j.seen)))
	figures.Record(j.t, name+".found", counts(j.found))
}
