//go:build unix

package keyring_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/keyring"
)

const stoppedEnv = "FRESHTOKEN_TEST_STOPPED"

// stopTime is how long the program is stopped: much longer than its calls may
// take.
const stopTime = 4 * time.Second

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
	out, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Release()
	stops := 0
	var status syscall.WaitStatus
	for { // until it has stopped, or ended
		_, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if !status.Stopped() {
			break
		}
		stops++
		<-time.After(stopTime)
		cmd.Process.Signal(syscall.SIGCONT)
	}
	if text, err := os.ReadFile(out.Name()); err != nil || status.ExitStatus() != 0 || stops == 0 {
		t.Errorf("stopped %d times, status %d, %v: %s", stops, status.ExitStatus(), err, text)
	}
}

// stopInACall is the program: it stops itself in every call of a Save.
func stopInACall(t *testing.T) {
	f := newFake()
	s, err := keyring.NewGate(f, nil).NewStore(limit, "app", keyring.Options{Timeout: 2 * time.Second, LockDir: os.Getenv(stoppedEnv)})
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
