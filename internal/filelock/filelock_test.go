package filelock_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken/internal/filelock"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("FILELOCK_TEST_HOLD"); path != "" {
		hold(path)
	}
	os.Exit(m.Run())
}

// hold takes the lock, says so, and waits to be killed, or for the parent's
// death.
func hold(path string) {
	if _, err := filelock.Lock(context.Background(), path); err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	runtime.GC() // must not free the lock, though nobody refers to it
	runtime.GC()
	os.Stdout.WriteString("held\n")
	io.Copy(io.Discard, os.Stdin)
	os.Exit(1)
}

// patience bounds what must happen sooner or later.
const patience = 60 * time.Second

func lock(t *testing.T, path string) (unlock func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	unlock, err := filelock.Lock(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	return unlock
}

func wantBusy(t *testing.T, path string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if unlock, err := filelock.Lock(ctx, path); err == nil {
		unlock()
		t.Error("the lock was given while another held it")
	} else if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a lock that is held: got %v, want the context's error", err)
	}
}

func needLocks(t *testing.T) {
	if !filelock.Supported() {
		t.Skip("this system has no file locks")
	}
}

func TestUnsupported(t *testing.T) {
	if filelock.Supported() {
		t.Skip("this system has file locks")
	}
	_, err := filelock.Lock(context.Background(), filepath.Join(t.TempDir(), "lock"))
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want errors.ErrUnsupported", err)
	}
}

func TestLockAndUnlock(t *testing.T) {
	needLocks(t)
	path := filepath.Join(t.TempDir(), "lock")
	unlock := lock(t, path)
	wantBusy(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the lock file has mode %o, want 600", info.Mode().Perm())
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
	if err := unlock(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second unlock: got %v, want os.ErrClosed", err)
	}
	again := lock(t, path)
	unlock() // must not free a lock that is not its own
	wantBusy(t, path)
	if err := again(); err != nil {
		t.Error(err)
	}
	if now, err := os.Stat(path); err != nil || !os.SameFile(info, now) {
		t.Errorf("the lock file was replaced or removed: %v", err)
	}
}

// TestGoroutines counts with a variable that only the lock guards; the race
// detector sees an overlap too.
func TestGoroutines(t *testing.T) {
	needLocks(t)
	path := filepath.Join(t.TempDir(), "lock")
	const workers, rounds = 8, 20
	count := 0
	var wg sync.WaitGroup
	var shared sync.Mutex // for the race detector, which knows nothing of file locks
	inside := 0
	for range workers {
		wg.Go(func() {
			for range rounds {
				unlock, err := filelock.Lock(context.Background(), path)
				if err != nil {
					t.Error(err)
					return
				}
				shared.Lock()
				if inside++; inside != 1 {
					t.Errorf("%d goroutines hold the lock", inside)
				}
				n := count
				shared.Unlock()
				runtime.Gosched()
				shared.Lock()
				count = n + 1
				inside--
				shared.Unlock()
				if err := unlock(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if count != workers*rounds {
		t.Errorf("counted to %d, want %d", count, workers*rounds)
	}
}

func TestContext(t *testing.T) {
	needLocks(t)
	t.Run("done before: nothing is attempted", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "lock")
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := filelock.Lock(ctx, path); err != context.Canceled {
			t.Errorf("got %v, want context.Canceled itself", err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the lock file was made: %v", err)
		}
	})
	t.Run("cancelled while waiting", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "lock")
		unlock := lock(t, path)
		defer unlock()
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(5*time.Millisecond, cancel)
		if _, err := filelock.Lock(ctx, path); err != context.Canceled {
			t.Errorf("got %v, want context.Canceled itself", err)
		}
	})
}

// TestBubble takes locks, contended too, where time is fake.
func TestBubble(t *testing.T) {
	needLocks(t)
	path := filepath.Join(t.TempDir(), "lock")
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		unlock, err := filelock.Lock(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(started); waited != 0 {
			t.Errorf("a free lock took %v", waited)
		}
		time.AfterFunc(time.Minute, func() { unlock() })
		again, err := filelock.Lock(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		// The longest wait between attempts, and half of it for jitter.
		if waited := time.Since(started); waited < time.Minute || waited > time.Minute+50*time.Millisecond {
			t.Errorf("the lock that was freed after a minute was had after %v", waited)
		}
		if err := again(); err != nil {
			t.Error(err)
		}
	})
}

func TestNotRegular(t *testing.T) {
	needLocks(t)
	dir := t.TempDir()
	if _, err := filelock.Lock(context.Background(), dir); !errors.Is(err, filelock.ErrNotRegular) {
		t.Errorf("a directory: got %v, want ErrNotRegular", err)
	}
	target := filepath.Join(dir, "target")
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, link := range map[string]string{"link": target, "dangling": filepath.Join(dir, "nothing")} {
		path := filepath.Join(dir, name)
		if err := os.Symlink(link, path); err != nil {
			t.Skipf("no symbolic links here: %v", err)
		}
		// Wine says that it has made one and has not.
		if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			t.Skip("no symbolic links here")
		}
		if _, err := filelock.Lock(context.Background(), path); !errors.Is(err, filelock.ErrNotRegular) {
			t.Errorf("%s: got %v, want ErrNotRegular", name, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "nothing")); err == nil {
		t.Error("a link was followed and its target made")
	}
}

func TestNoDirectory(t *testing.T) {
	needLocks(t)
	_, err := filelock.Lock(context.Background(), filepath.Join(t.TempDir(), "no", "lock"))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}

// TestReplaced removes the lock file under its holder, which nobody should:
// whoever comes next locks the new file, not the one without a name.
func TestReplaced(t *testing.T) {
	needLocks(t)
	if runtime.GOOS == "windows" {
		t.Skip("a lock file that is open cannot be removed on Windows")
	}
	path := filepath.Join(t.TempDir(), "lock")
	unlock := lock(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	again := lock(t, path)
	wantBusy(t, path)
	if err := unlock(); err != nil { // the old file's
		t.Error(err)
	}
	wantBusy(t, path)
	if err := again(); err != nil {
		t.Error(err)
	}
}

// TestKilled has the kernel free the lock of a process that is killed.
func TestKilled(t *testing.T) {
	needLocks(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "lock")
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "FILELOCK_TEST_HOLD="+path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("cannot start a process here: %v", err)
	}
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	if strings.TrimSpace(line) != "held" {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatalf("the child says %q", line)
	}
	wantBusy(t, path)
	cmd.Process.Kill()
	cmd.Wait()
	unlock := lock(t, path)
	if err := unlock(); err != nil {
		t.Error(err)
	}
}

// TestChildDoesNotInherit has a child that outlives the unlocking, and one
// that was started while the lock was held.
func TestChildDoesNotInherit(t *testing.T) {
	needLocks(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "lock")
	unlock := lock(t, path)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "FILELOCK_TEST_HOLD="+filepath.Join(dir, "other"))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("cannot start a process here: %v", err)
	}
	defer func() {
		stdin.Close()
		cmd.Process.Kill()
		cmd.Wait()
	}()
	if line, _ := bufio.NewReader(stdout).ReadString('\n'); strings.TrimSpace(line) != "held" {
		t.Fatalf("the child says %q", line)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
	if err := lock(t, path)(); err != nil {
		t.Error(err)
	}
}

func BenchmarkLock(b *testing.B) {
	if !filelock.Supported() {
		b.Skip("this system has no file locks")
	}
	path := filepath.Join(b.TempDir(), "lock"+strconv.Itoa(b.N))
	for b.Loop() {
		unlock, err := filelock.Lock(context.Background(), path)
		if err != nil {
			b.Fatal(err)
		}
		if err := unlock(); err != nil {
			b.Fatal(err)
		}
	}
}
