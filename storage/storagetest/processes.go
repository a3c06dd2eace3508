package storagetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The environment of a child process: what it is to do, where the store is,
// and which call of RunProcesses it is for.
const (
	envRole     = "FRESHTOKEN_STORAGETEST_ROLE"
	envLocation = "FRESHTOKEN_STORAGETEST_LOCATION"
	envTest     = "FRESHTOKEN_STORAGETEST_TEST"
)

// What a child does.
const (
	roleCount = "count" // increments the count under the lock, then ends
	roleHold  = "hold"  // takes the lock, says so, and waits to be killed
	roleSave  = "save"  // saves until it is killed
)

// childRounds is how often a counting child counts.
const childRounds = 25

// RunProcesses checks what a store promises to several processes: that a Lock
// excludes them, that it is freed when its holder is killed, and that a
// process killed while it saves leaves a whole value behind.
//
// Each call of open opens the store at location, in this process or in a child,
// and all that are given the same location must share what they keep. The
// location is a directory, empty at first, that is removed with the test; or
// location is what the store makes of it, if it is not "". The tests use the
// keys "count", "held" and "saved", which must be absent at first.
//
// A child is the test binary itself, started so that it runs the calling test
// alone. So RunProcesses is called once in a test, and preferably first: what
// comes before it runs in the children too, what comes after it does not.
// Children are killed and waited for before RunProcesses returns.
func RunProcesses(t *testing.T, location string, open func(t *testing.T, location string) Store) {
	if role := os.Getenv(envRole); role != "" {
		if os.Getenv(envTest) != t.Name() {
			t.SkipNow() // a parent test of the one that is meant comes by here
		}
		play(t, role, open(t, os.Getenv(envLocation)))
		t.SkipNow() // not an exit: the caller's cleanups are due
	}
	if location == "" {
		location = t.TempDir()
	}
	s := open(t, location)
	t.Run("a lock excludes processes", func(t *testing.T) { testProcessExclusion(t, s, location) })
	t.Run("a killed holder frees its lock", func(t *testing.T) { testKilledHolder(t, s, location) })
	t.Run("a killed writer leaves a whole value", func(t *testing.T) { testKilledWriter(t, s, location) })
}

// play is the life of a child.
func play(t *testing.T, role string, s Store) {
	switch role {
	case roleCount:
		say("ready")
		await(os.Stdin)
		var inside atomic.Int32
		for range childRounds {
			if err := increment(s, &inside); err != nil {
				t.Fatal(err)
			}
		}
	case roleHold:
		lock(t, s, "held")
		say("ready")
		await(os.Stdin)
		t.Fatal("the parent is gone")
	case roleSave:
		// A parent that died must not leave a writer behind.
		ctx, cancel := context.WithCancel(context.Background())
		go func() { await(os.Stdin); cancel() }()
		for i := 0; ; i++ {
			if err := s.Save(ctx, "saved", framed(i)); err != nil {
				t.Fatalf("Save: %v", err)
			}
			if i == 0 {
				say("ready")
			}
		}
	}
}

// say tells the parent something, apart from what package testing prints.
func say(what string) { fmt.Printf("\nstoragetest: %s\n", what) }

// await returns when the parent closes the pipe, or has died.
func await(r io.Reader) { io.Copy(io.Discard, r) }

// A child is a process that plays a role.
type child struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	said   chan string     // what it said; closed at its end
	output strings.Builder // what else it printed; complete when said is closed
	ended  bool
}

// start starts a child and waits until it says that it is ready.
func start(t *testing.T, role, location string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// RunProcesses runs its checks in subtests; a child runs their parent.
	parent := t.Name()[:strings.LastIndex(t.Name(), "/")]
	parts := strings.Split(parent, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	c := &child{said: make(chan string, 16)}
	c.cmd = exec.Command(exe, "-test.run="+strings.Join(parts, "/"), "-test.count=1", "-test.timeout=5m")
	c.cmd.Env = append(os.Environ(), envRole+"="+role, envLocation+"="+location, envTest+"="+parent)
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.stdin = stdin
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.cmd.Stderr = c.cmd.Stdout
	if err := c.cmd.Start(); err != nil {
		t.Fatalf("start a child: %v", err)
	}
	t.Cleanup(c.kill)
	go func() {
		defer close(c.said)
		for sc := bufio.NewScanner(stdout); sc.Scan(); {
			if what, ok := strings.CutPrefix(sc.Text(), "storagetest: "); ok {
				c.said <- what
			} else {
				c.output.WriteString(sc.Text() + "\n")
			}
		}
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case _, ok := <-c.said:
		if !ok {
			c.kill()
			t.Fatalf("a child that was to %s ended early: %s", role, &c.output)
		}
	case <-timer.C:
		t.Fatalf("a child that was to %s said nothing for %v", role, patience)
	}
	return c
}

// kill ends the child as kill -9 does, TerminateProcess on Windows, and waits
// for its end. To call it again does no harm.
func (c *child) kill() {
	if c.ended {
		return
	}
	c.ended = true
	c.cmd.Process.Kill()
	for range c.said {
	}
	c.cmd.Wait()
	c.stdin.Close()
}

// finish waits until the child ends of itself, and fails the test if it failed.
func (c *child) finish(t *testing.T) {
	t.Helper()
	timer := time.AfterFunc(patience, func() { c.cmd.Process.Kill() })
	defer timer.Stop()
	for range c.said {
	}
	c.ended = true
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("a child failed: %v: %s", err, &c.output)
	}
}

func testProcessExclusion(t *testing.T, s Store, location string) {
	const processes = 3
	children := make([]*child, processes)
	for i := range children {
		children[i] = start(t, roleCount, location)
	}
	for _, c := range children {
		c.stdin.Close() // go
	}
	var inside atomic.Int32
	for range childRounds {
		if err := increment(s, &inside); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range children {
		c.finish(t)
	}
	if t.Failed() {
		return
	}
	count, err := loadCount(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	if want := (processes + 1) * childRounds; count != want {
		t.Errorf("%d increments under the lock by %d processes counted to %d: the lock does not exclude, or a Load was stale", want, processes+1, count)
	}
}

func testKilledHolder(t *testing.T, s Store, location string) {
	for range 2 {
		c := start(t, roleHold, location)
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		unlock, err := s.Lock(ctx, "held")
		cancel()
		if err == nil {
			unlock()
			t.Fatal("Lock was given while another process held it")
		}
		if ctx.Err() == nil {
			t.Fatalf("Lock did not wait for the process that holds the lock: %v", err)
		}
		c.kill()
		lock(t, s, "held")()
	}
}

func testKilledWriter(t *testing.T, s Store, location string) {
	for range 5 {
		c := start(t, roleSave, location)
		for range 40 {
			loadWhole(t, s)
		}
		c.kill()
		loadWhole(t, s)
		if strings.Contains(c.output.String(), "Save: ") {
			t.Fatalf("the writer failed before it was killed: %s", &c.output)
		}
		// The next writer must not be hindered by what the killed one left.
		if err := s.Save(context.Background(), "saved", framed(0)); err != nil {
			t.Fatalf("Save after a writer was killed: %v", err)
		}
	}
}

func loadWhole(t *testing.T, s Store) {
	t.Helper()
	got, err := s.Load(context.Background(), "saved")
	if err != nil {
		t.Fatalf("Load while another process saves: %v", err)
	}
	if err := checkFrame(got); err != nil {
		t.Fatalf("Load while another process saves: %v", err)
	}
}
