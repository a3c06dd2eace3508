package storage_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/freshtoken/freshtoken/storage"
)

// Full disks, read-only file systems and bind mounts need mounts, and a limit
// on file sizes cannot be had for one test alone: these run in a child process,
// in a mount namespace of its own where that is needed.
const envAlone = "STORAGE_TEST_ALONE"

// alone runs the calling test in a child process. It returns true in the child.
func alone(t *testing.T, namespace bool) bool {
	t.Helper()
	if os.Getenv(envAlone) != "" {
		return true
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), envAlone+"=1")
	if namespace {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
	}
	out, err := cmd.CombinedOutput()
	switch exit := (*exec.ExitError)(nil); {
	case err != nil && !errors.As(err, &exit):
		t.Skipf("cannot start a child process (with namespaces: %v) here: %v", namespace, err)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("the child skipped it:\n%s", out)
	case !strings.Contains(string(out), "--- PASS: "+t.Name()):
		t.Errorf("the child did not run the test:\n%s", out)
	}
	return false
}

// mount mounts, or skips the test.
func mount(t *testing.T, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	if err := syscall.Mount(source, target, kind, flags, data); err != nil {
		t.Skipf("cannot mount here: %v", err)
	}
}

// unmounted registers the end of a mount before the removal of the directory.
func unmounted(t *testing.T, target string) {
	t.Cleanup(func() { syscall.Unmount(target, syscall.MNT_DETACH) })
}

func wantNoTemp(t *testing.T, dir string) {
	t.Helper()
	if left, err := filepath.Glob(filepath.Join(dir, "*.tmp-*")); err != nil || len(left) != 0 {
		t.Errorf("temporary files were left behind: %v %v", left, err)
	}
}

func TestFileSizeLimit(t *testing.T) {
	if !alone(t, false) {
		return
	}
	ctx := context.Background()
	dir := home(t)
	s := newFile(t, dir, fixedKey(1))
	mustSave(t, s, "alice", oldValue)
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	for _, limit := range []uint64{0, 1, 50, 100} {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: was.Max}); err != nil {
			t.Fatal(err)
		}
		save := s.Save(ctx, "alice", make([]byte, 4096))
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
			t.Fatal(err)
		}
		wantError(t, fmt.Sprintf("Save with room for %d bytes", limit), save, syscall.EFBIG)
		wantValue(t, s, "alice", oldValue)
		wantNoTemp(t, dir)
	}
	mustSave(t, s, "alice", newValue)
	wantValue(t, s, "alice", newValue)
}

func TestFullDisk(t *testing.T) {
	if !alone(t, true) {
		return
	}
	ctx := context.Background()
	dir := t.TempDir()
	mount(t, "none", dir, "tmpfs", 0, "size=64k,mode=700")
	unmounted(t, dir)
	s := newFile(t, dir, fixedKey(1))
	mustSave(t, s, "alice", oldValue)
	hog, err := os.Create(filepath.Join(dir, "hog"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = hog.Write(make([]byte, 4096))
	}
	hog.Close()
	wantError(t, "Save on a full disk", s.Save(ctx, "alice", []byte(newValue)), syscall.ENOSPC)
	wantValue(t, s, "alice", oldValue)
	wantNoTemp(t, dir)
	if err := os.Remove(hog.Name()); err != nil {
		t.Fatal(err)
	}
	mustSave(t, s, "alice", newValue)
	wantValue(t, s, "alice", newValue)
}

func TestReadOnlyFileSystem(t *testing.T) {
	if !alone(t, true) {
		return
	}
	ctx := context.Background()
	dir := t.TempDir()
	mount(t, "none", dir, "tmpfs", 0, "mode=700")
	unmounted(t, dir)
	s := newFile(t, dir, fixedKey(1))
	mustSave(t, s, "alice", oldValue)
	mount(t, "none", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "mode=700")
	wantError(t, "Save", s.Save(ctx, "alice", []byte(newValue)), syscall.EROFS)
	wantError(t, "Delete", s.Delete(ctx, "alice"), syscall.EROFS)
	wantError(t, "SetAside", s.SetAside(ctx, "alice"), syscall.EROFS)
	wantValue(t, s, "alice", oldValue)
	_, err := storage.NewFile(dir, fixedKey(1))
	wantError(t, "NewFile", err, syscall.EROFS)
}

func TestUnmounted(t *testing.T) {
	if !alone(t, true) {
		return
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	mount(t, "none", dir, "tmpfs", 0, "mode=700")
	unmounted(t, dir)
	s := newFile(t, dir, fixedKey(1))
	mustSave(t, s, "alice", "v")
	if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	for method, err := range all(s, "alice") {
		wantError(t, method, err, storage.ErrGone)
	}
}

func TestBindMountedFile(t *testing.T) {
	if !alone(t, true) {
		return
	}
	ctx := context.Background()
	dir := home(t)
	s := newFile(t, dir, fixedKey(1))
	mustSave(t, s, "alice", oldValue)
	p := path(dir, "alice", ".session")
	mount(t, p, p, "", syscall.MS_BIND, "")
	unmounted(t, p)
	err := s.Save(ctx, "alice", []byte(newValue))
	wantError(t, "Save", err, syscall.EBUSY)
	if err != nil && !strings.Contains(err.Error(), "mount its directory instead") {
		t.Errorf("the error does not say what to do: %v", err)
	}
	wantValue(t, s, "alice", oldValue)
	wantNoTemp(t, dir)
}
