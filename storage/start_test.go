//go:build unix

package storage_test

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

// A program that starts and finds its session changes nothing on the disk: it
// makes, locks and syncs no file.
func TestStartWritesNothing(t *testing.T) {
	needFiles(t)
	if os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid() {
		t.Skip("this program runs as another user than its own, which only a file that is made tells what it may")
	}
	p := scratch(t)
	stored("value")(t, p)
	l := newLayer()
	s, err := p.openOn(l)
	if err != nil {
		t.Fatal(err)
	}
	wantValue(t, s, "alice", "value")
	for _, c := range l.calls() {
		if c.changes() {
			t.Errorf("%s %s", c.op, c.path)
		}
	}
}

// Where it is not certain that a directory will do, a file that is made tells,
// whether there are sessions or not.
func TestStartFindsOutWhereItMustNotWrite(t *testing.T) {
	needFiles(t)
	for name, stage := range map[string]func(testing.TB, place){"empty": stored(), "with a session": stored("value")} {
		t.Run(name, func(t *testing.T) {
			p := scratch(t)
			stage(t, p)
			l := newLayer()
			l.setFail(func(c call) *fault {
				if c.op == "access" || c.op == "lock" || c.op == "create" {
					return &fault{syscall.EROFS, before}
				}
				return nil
			})
			if _, err := p.openOn(l); !errors.Is(err, syscall.EROFS) {
				t.Errorf("got %v, want EROFS", err)
			}
		})
	}
}
