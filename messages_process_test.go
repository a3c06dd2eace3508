package freshtoken_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// The stages of messages_test.go that take a disk or a process of their own, and
// what these processes do.

func diskFull(t *testing.T) string      { return smallDisk(t, "full") }
func diskFullLogin(t *testing.T) string { return smallDisk(t, "full-login") }

// smallDisk has a program fill a disk of its own. Where none can be had, a store
// says that it is full, whose message is another one.
func smallDisk(t *testing.T, task string) string {
	wrapper, err := mounts(t)
	if err == nil {
		return messageProcess(t, task+" "+t.TempDir(), wrapper...)
	}
	w := newWorld(t, oauthtest.Options{})
	w.faults().set(func(f *faulty) { f.save = failing(&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}) })
	text := failed(t, w.source().SetToken(t.Context(), stale()))
	wantMessage(t, text)
	if !strings.Contains(text, syscall.ENOSPC.Error()) {
		t.Error(text)
	}
	t.Skipf("cannot mount a small disk here: %v", err)
	return ""
}

func readOnly(t *testing.T) string {
	wrapper, err := mounts(t)
	if err != nil {
		t.Skipf("cannot mount a disk here: %v", err)
	}
	return messageProcess(t, "read-only "+t.TempDir(), wrapper...)
}

// notWritable takes from root what it may do without permission.
func notWritable(t *testing.T) string {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has access lists in place of mode bits")
	}
	var wrapper []string
	if os.Geteuid() == 0 {
		wrapper = []string{"setpriv", "--bounding-set=-all", "--inh-caps=-all"}
		if err := exec.Command(wrapper[0], append(wrapper[1:], "true")...).Run(); err != nil {
			t.Skipf("root may write anywhere: %v", err)
		}
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir, 0o700) })
	return messageProcess(t, "open "+dir, wrapper...)
}

// mounts returns a command that runs another one where it may mount.
func mounts(t *testing.T) ([]string, error) {
	wrapper := []string{"unshare", "--user", "--map-root-user", "--mount"}
	return wrapper, exec.Command(wrapper[0], append(wrapper[1:], "mount", "-t", "tmpfs", "none", t.TempDir())...).Run()
}

// ---- Processes ----

func processHangs(t *testing.T) string {
	return whileHeld(t, "", func(w *world) error {
		_, err := w.source().Token(w.t.Context())
		return err
	})
}

func processLogsIn(t *testing.T) string {
	return whileHeld(t, "/login", func(w *world) error {
		_, err := login.Ensure(w.t.Context(), w.source(func(c *freshtoken.Config) { c.Session = "nobody" }), login.Device{})
		return err
	})
}

// whileHeld calls f while another process holds a lock.
func whileHeld(t *testing.T, suffix string, f func(*world) error) (text string) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no lsof, and the message another end")
	}
	dir := canary.Dir(t, "key")
	store := fileStore(t, dir)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
		w.store = store
		w.loggedIn()
		time.Sleep(time.Hour)
		cfg := w.config()
		if suffix != "" {
			cfg.Session = "nobody"
		}
		stop := holdLock(t, dir, freshtoken.StoreKey(cfg)+suffix)
		defer stop()
		text = failed(t, f(w))
	})
	return text
}

// holdLock starts a process that holds a lock of the store until it is stopped.
func holdLock(t *testing.T, dir, key string) (stop func()) {
	t.Helper()
	cmd := messageCommand("hold "+dir, nil)
	cmd.Env = append(cmd.Env, messageEnv+"_KEY="+key)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != messageMark+"held\n" {
		t.Errorf("the other process said %q, %v", line, err)
	}
	return func() {
		in.Close()
		cmd.Wait()
	}
}

// ---- The programs of these processes ----

const (
	messageEnv  = "FRESHTOKEN_TEST_MESSAGE" // what a process is to do
	messageMark = "message: "               // begins the line that matters of its output
)

// messageCommand is this test as another program, inside a wrapper.
func messageCommand(task string, wrapper []string) *exec.Cmd {
	args := append(append([]string{}, wrapper...), os.Args[0], "-test.run=^TestMessages$", "-test.timeout=90s")
	cmd := exec.Command(args[0], args[1:]...)
	for _, v := range os.Environ() { // no bus of the user who runs the tests
		if !strings.HasPrefix(v, "DBUS_SESSION_BUS_ADDRESS=") && !strings.HasPrefix(v, "XDG_RUNTIME_DIR=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, messageEnv+"="+task)
	return cmd
}

// messageProcess runs a program to its end and returns the message.
func messageProcess(t *testing.T, task string, wrapper ...string) string {
	t.Helper()
	cmd := messageCommand(task, wrapper)
	canary.Command(t, cmd)
	out, err := cmd.CombinedOutput()
	canary.Clean(t, "the output of a program", out)
	for line := range strings.Lines(string(out)) {
		if text, ok := strings.CutPrefix(line, messageMark); ok {
			return strings.TrimSuffix(text, "\n")
		}
	}
	t.Fatalf("the program failed to fail: %v\n%s", err, out)
	return ""
}

// messageProgram is what such a program does.
func messageProgram(task string) {
	task, dir, _ := strings.Cut(task, " ")
	var err error
	switch task {
	case "first":
		err = programLogin(filepath.Join(dir, "sessions"), keyring.NewKey("freshtoken-messages"))
	case "keyring":
		err = programToken(filepath.Join(dir, "sessions"), keyring.NewKey("freshtoken-messages"), nil)
	case "full", "full-login":
		err = programFull(dir, task == "full-login")
	case "read-only":
		if err = programMount(dir, "ro,mode=700"); err == nil {
			_, err = storage.NewFile(dir, keyringLike{})
		}
	case "open":
		_, err = storage.NewFile(dir, keyringLike{})
	case "hold":
		err = programHold(dir)
	}
	fmt.Print(messageMark, err, "\n")
}

// programLogin is a program's first run.
func programLogin(dir string, key storage.Key) error {
	store, err := storage.NewFile(dir, key)
	if err != nil {
		return err
	}
	cfg := messageConfig()
	cfg.Store = store
	src, err := freshtoken.New(cfg)
	if err != nil {
		return err
	}
	defer src.Close()
	_, err = login.Ensure(context.Background(), src, login.Device{Prompt: login.Prompt{
		Show: func(context.Context, login.Code) error { return errors.New("nobody should be asked") },
	}})
	return err
}

func programToken(dir string, key storage.Key, tok *oauth2.Token) error {
	cfg := messageConfig()
	store, err := storage.NewFile(dir, key)
	if err != nil {
		return err
	}
	cfg.Store = store
	src, err := freshtoken.New(cfg)
	if err != nil {
		return err
	}
	if tok != nil {
		return src.SetToken(context.Background(), tok)
	}
	_, err = src.Token(context.Background())
	return err
}

func programMount(dir, options string) error {
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "none", dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mount: %w: %s", err, out)
	}
	return nil
}

// programFull has a session on a disk that then fills up.
func programFull(dir string, again bool) error {
	if err := programMount(dir, "size=64k,mode=700"); err != nil {
		return err
	}
	if err := programToken(dir, keyringLike{}, stale()); err != nil {
		return err
	}
	hog, err := os.Create(filepath.Join(dir, "hog"))
	if err != nil {
		return err
	}
	defer hog.Close()
	for err == nil {
		_, err = hog.Write(make([]byte, 4096))
	}
	if again {
		return programToken(dir, keyringLike{}, &oauth2.Token{AccessToken: "another", RefreshToken: "another"})
	}
	return programToken(dir, keyringLike{}, nil)
}

// programHold locks, and says so, until its input ends.
func programHold(dir string) error {
	store, err := storage.NewFile(filepath.Join(dir, "sessions"), storage.KeyFile(filepath.Join(dir, "key")))
	if err != nil {
		return err
	}
	unlock, err := store.Lock(context.Background(), os.Getenv(messageEnv+"_KEY"))
	if err != nil {
		return err
	}
	defer unlock()
	fmt.Print(messageMark, "held\n")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
