//go:build unix

package keyring_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/keyring"
)

const stoppedEnv = "FRESHTOKEN_TEST_STOPPED"

// A program that was stopped in the middle of a call, for longer than the call
// may take, reads the answer that is waiting for it when it goes on. The keyring
// is not to blame, and is not left alone.
func TestStoppedInACall(t *testing.T) {
	if os.Getenv(stoppedEnv) != "" {
		stopInACall(t)
		return
	}
	t.Parallel() // it waits more than it works
	cmd := exec.Command(os.Args[0], "-test.run=^TestStoppedInACall$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), stoppedEnv+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // should this test end, the system ends what is stopped
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	goesOn := make(chan struct{})
	go func() { // the first signal may come before the stop
		defer close(goesOn)
		for {
			select {
			case <-time.After(time.Second):
				cmd.Process.Signal(syscall.SIGCONT)
			case <-ended:
				return
			}
		}
	}()
	var text strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Fprintln(&text, lines.Text())
	}
	err = cmd.Wait()
	close(ended)
	<-goesOn
	if err != nil {
		t.Errorf("%v: %s", err, &text)
	}
}

// stopInACall is the program: it stops itself in every call of a Save.
func stopInACall(t *testing.T) {
	f := newFake()
	s, err := keyring.NewGate(f, nil).NewStore(limit, "app", keyring.Options{Timeout: 200 * time.Millisecond, LockDir: os.Getenv(stoppedEnv)})
	if err != nil {
		t.Fatal(err)
	}
	f.setHook(func(c fakeCall, do func() (string, error)) (string, error) {
		text, err := do()
		syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		<-time.After(20 * time.Millisecond) // it takes a moment to read it
		return text, err
	})
	if err := s.Save(context.Background(), "k", bytesOf(1, 10)); err != nil {
		t.Error("Save:", err)
	}
}
