package storage_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken/internal/figures"
)

var busyWrites = flag.Int("storage.writes", 200, "how many writes TestBusyReader makes")

// busyEnv makes the test binary a reader: it says how it reads, and where.
const busyEnv = "FRESHTOKEN_STORAGE_TEST_READER"

// TestBusyReader writes while other processes read the same file without pause,
// by the store's own means and, as a virus scanner does, by opening it: Windows
// replaces no file that is open. Each write is read back, and none is lost.
func TestBusyReader(t *testing.T) {
	if role := os.Getenv(busyEnv); role != "" {
		busyReader(t, role)
		return
	}
	needFiles(t)
	if runtime.GOOS == "js" {
		t.Skip("this system has no processes")
	}
	dir := home(t)
	s := newFile(t, dir, fixedKey(1))
	mustSave(t, s, "alice", busyValue(0))
	stop := []func() int{startReader(t, "load "+dir), startReader(t, "open "+dir)}
	lost := 0
	for i := 1; i <= *busyWrites; i++ {
		want := busyValue(i)
		if err := s.Save(context.Background(), "alice", []byte(want)); err != nil {
			t.Fatalf("write %d: %v", i, err)
		}
		got, err := s.Load(context.Background(), "alice")
		if err != nil {
			t.Fatalf("read of write %d: %v", i, err)
		}
		if string(got) != want {
			lost++
		}
	}
	reads := 0
	for _, f := range stop {
		n := f()
		if n == 0 {
			t.Error("a reader has read nothing")
		}
		reads += n
	}
	wantValue(t, newFile(t, dir, fixedKey(1)), "alice", busyValue(*busyWrites))
	if lost > 0 {
		t.Errorf("%d of %d writes were lost", lost, *busyWrites)
	}
	figures.Record(t, "storage.busy."+runtime.GOOS+".writes", strconv.Itoa(*busyWrites))
	figures.Record(t, "storage.busy."+runtime.GOOS+".reads", strconv.Itoa(reads))
	figures.Record(t, "storage.busy."+runtime.GOOS+".lost", strconv.Itoa(lost))
}

// busyValue is one that tells whether it is whole.
func busyValue(i int) string { return strings.Repeat(fmt.Sprintf("%08d ", i), 300) }

// startReader starts a process that reads; stop ends it, and returns how often
// it has read.
func startReader(t *testing.T, role string) (stop func() (reads int)) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestBusyReader$", "-test.timeout=2h")
	cmd.Env = append(os.Environ(), busyEnv+"="+role)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Skipf("cannot start a process here: %v", err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || lines.Text() != "reading" {
		t.Fatalf("a reader says %q", lines.Text())
	}
	return func() int {
		stdin.Close()
		for lines.Scan() {
			if n, ok := strings.CutPrefix(lines.Text(), "reads: "); ok {
				reads, err := strconv.Atoi(n)
				if err != nil {
					t.Error(err)
				}
				return reads
			}
			t.Errorf("a reader says %q", lines.Text())
		}
		t.Errorf("a reader has ended by itself: %v, %v", lines.Err(), cmd.Wait())
		return 0
	}
}

// busyReader is the life of a reader: until its standard input ends.
func busyReader(t *testing.T, role string) {
	how, dir, _ := strings.Cut(role, " ")
	fmt.Println("reading")
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(io.Discard, os.Stdin)
	}()
	s := newFile(t, dir, fixedKey(1))
	reads := 0
	for {
		select {
		case <-done:
			fmt.Println("reads:", reads)
			return
		default:
		}
		if how == "open" { // fails at times, where somebody else has it open
			if _, err := os.ReadFile(path(dir, "alice", ".session")); err == nil {
				reads++
			}
			continue
		}
		got, err := s.Load(context.Background(), "alice")
		if err != nil {
			fmt.Println("Load:", err)
			return
		}
		if i, _ := strconv.Atoi(string(got[:8])); string(got) != busyValue(i) {
			fmt.Println("Load: half a value")
			return
		}
		reads++
	}
}
