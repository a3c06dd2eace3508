package storage_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/freshtoken/freshtoken/storage"
)

// What belongs to another user is neither used nor taken for absent: not a
// directory, be it shared with a group, and not a file in a directory of one's
// own. The user is a child process, since only root can set this up.
func TestAnotherUser(t *testing.T) {
	const env, user, another, group = "STORAGE_TEST_USERS", 1000, 1001, 2000
	if dir := os.Getenv(env); dir != "" {
		beUser(t, dir)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can make files that belong to others")
	}
	dir, err := os.MkdirTemp("", "storage") // that of the test is closed to the child
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []struct {
		name  string
		owner int
		mode  fs.FileMode
	}{
		{".", 0, 0o755}, {"theirs", another, 0o755}, {"closed", another, 0o700}, {"roots", 0, 0o755},
		{"shared", user, fs.ModeSetgid | 0o770}, {"shared-theirs", another, fs.ModeSetgid | 0o770},
		{"own", 0, 0o700},
	} {
		if err := os.Mkdir(at(d.name), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
		if err := errors.Join(os.Chown(at(d.name), d.owner, group), os.Chmod(at(d.name), d.mode)); err != nil {
			t.Fatal(err)
		}
	}
	mustSave(t, newFile(t, at("own"), fixedKey(1)), "alice", "theirs")
	session, lock, key := path(at("own"), "alice", ".session"), path(at("own"), "alice", ".lock"), at("key")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		os.WriteFile(lock, nil, 0o600), os.WriteFile(key, make([]byte, storage.KeySize), 0o600),
		os.Chown(session, another, group), os.Chown(lock, another, group), os.Chown(key, another, group),
		os.Chmod(key, 0o644), os.Chown(at("own"), user, group),
		os.WriteFile(at("child"), program, 0o700), os.Chmod(at("child"), 0o755),
	); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(session)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(at("child"), "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=1m")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user, Groups: []uint32{group}}}
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Skipf("cannot start a child as another user here: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
	if after, err := os.ReadFile(session); err != nil || string(after) != string(before) {
		t.Errorf("what belongs to another user was changed (%v)", err)
	}
}

// beUser looks at all of this as a user.
func beUser(t *testing.T, dir string) {
	for _, name := range []string{"theirs", "closed", "roots", "shared", "shared-theirs"} {
		_, err := storage.NewFile(filepath.Join(dir, name), fixedKey(1))
		wantError(t, "NewFile of "+name, err, storage.ErrUnsafe)
	}
	mine := newFile(t, filepath.Join(dir, "shared", "mine"), fixedKey(1)) // which it makes
	mustSave(t, mine, "alice", "v")
	wantValue(t, mine, "alice", "v")

	s, ctx := newFile(t, filepath.Join(dir, "own"), fixedKey(1)), t.Context()
	_, err := s.Load(ctx, "alice")
	wantError(t, "Load", err, fs.ErrPermission)
	wantError(t, "Save", s.Save(ctx, "alice", []byte("mine")), fs.ErrPermission)
	_, err = s.Lock(ctx, "alice")
	wantError(t, "Lock", err, fs.ErrPermission)
	_, err = s.List(ctx)
	wantError(t, "List", err, fs.ErrPermission)
	_, err = storage.KeyFile(filepath.Join(dir, "key")).Get(ctx, nil)
	wantError(t, "Get", err, storage.ErrUnsafe)
}
