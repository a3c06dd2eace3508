//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package storage_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/freshtoken/freshtoken/storage"
)

func TestKeyFileMode(t *testing.T) {
	const root, user, another = 0, 1000, 1001
	for _, test := range []struct {
		perm  fs.FileMode
		owner uint32
		euid  int
		safe  bool
	}{
		{0o600, user, user, true},
		{0o400, user, user, true},
		{0o440, user, user, false},
		{0o640, user, user, false},
		{0o604, user, user, false},
		{0o600, another, user, false},
		{0o600, user, root, false},
		{0o400, root, root, true},
		{0o440, root, root, false},
		{0o440, root, user, true}, // a secret in a pod with an fsGroup
		{0o640, root, user, true},
		{0o460, root, user, false},
		{0o450, root, user, false},
		{0o444, root, user, false},
		{0o442, root, user, false},
		{0o441, root, user, false},
	} {
		t.Run(fmt.Sprintf("%04o of %d for %d", test.perm, test.owner, test.euid), func(t *testing.T) {
			err := storage.CheckKeyMode("key", test.perm, test.owner, test.euid)
			if test.safe && err != nil || !test.safe && !errors.Is(err, storage.ErrUnsafe) {
				t.Errorf("got %v, safe is %v", err, test.safe)
			}
		})
	}
}

// TestKeyFileOfRoot reads, in a child process that is not root, a key that root
// lent to its group.
func TestKeyFileOfRoot(t *testing.T) {
	const env, user, group = "STORAGE_TEST_KEY", 1000, 2000
	if p := os.Getenv(env); p != "" {
		if _, err := storage.KeyFile(p).Get(context.Background(), nil); err != nil {
			t.Error(err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can make a file that belongs to root")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "storage") // that of the test is closed to the child
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	key, copied := filepath.Join(dir, "key"), filepath.Join(dir, "child")
	if err := errors.Join(
		os.Chmod(dir, 0o755),
		os.WriteFile(key, make([]byte, storage.KeySize), 0o600), os.Chown(key, 0, group), os.Chmod(key, 0o440),
		os.WriteFile(copied, program, 0o700), os.Chmod(copied, 0o755),
	); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(copied, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=1m")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env+"="+key)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user, Groups: []uint32{group}}}
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Skipf("cannot start a child as another user here: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestKeyFileIsAPipe would hang if opening the key waited for a writer.
func TestKeyFileIsAPipe(t *testing.T) {
	p := filepath.Join(t.TempDir(), "key")
	if err := syscall.Mkfifo(p, 0o600); err != nil {
		t.Skipf("no pipes here: %v", err)
	}
	_, err := storage.KeyFile(p).Get(context.Background(), nil)
	wantError(t, "Get", err, storage.ErrUnsafe)
	symlink(t, p, p+"-link")
	_, err = storage.KeyFile(p+"-link").Get(context.Background(), nil)
	wantError(t, "Get through a link", err, storage.ErrUnsafe)
}

// TestDirectoryOfAPod: what Kubernetes makes of a directory at each mount is
// refused, and the error says how to have it otherwise.
func TestDirectoryOfAPod(t *testing.T) {
	needFiles(t)
	dir := home(t)
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, fs.ModeSetgid|0o770)); err != nil {
		t.Fatal(err)
	}
	_, err := storage.NewFile(dir, fixedKey(1))
	wantError(t, "NewFile", err, storage.ErrUnsafe)
	if err == nil || !strings.Contains(err.Error(), "fsGroupChangePolicy: OnRootMismatch") {
		t.Errorf("the error does not name the cure: %v", err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o770 {
		t.Errorf("the mode was changed (%v)", err)
	}
	newFile(t, filepath.Join(dir, "sessions"), fixedKey(1))
}

// TestKeyFileSecondName: a process that was killed while it made the key may
// have left another name of it. Whoever asks for the key removes that, and no
// file that is something else.
func TestKeyFileSecondName(t *testing.T) {
	p := filepath.Join(t.TempDir(), "key")
	const random = ".tmp-ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	key := make([]byte, storage.KeySize)
	if err := errors.Join(os.WriteFile(p, key, 0o600), os.WriteFile(p+random, key, 0o600)); err != nil {
		t.Fatal(err)
	}
	get := func() {
		t.Helper()
		if _, err := storage.KeyFile(p).Get(t.Context(), []byte{}); err != nil {
			t.Fatal(err)
		}
	}
	get()
	if _, err := os.Lstat(p + random); err != nil {
		t.Errorf("the key of another process, which may be making one, was removed: %v", err)
	}
	if err := errors.Join(os.Remove(p+random), os.Link(p, p+random), os.Link(p, p+".tmp-mine")); err != nil {
		t.Skipf("no hard links here: %v", err)
	}
	get()
	if _, err := os.Lstat(p + random); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the other name is still there (%v)", err)
	}
	if _, err := os.Lstat(p + ".tmp-mine"); err != nil {
		t.Errorf("a name that somebody else has given it is gone: %v", err)
	}
}
