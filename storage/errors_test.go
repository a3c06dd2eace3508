package storage_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/storage"
)

// What the file system says, in the words of this package.
func TestFileErrors(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the errors of Windows have other numbers and texts")
	}
	dir := filepath.Join("srv", "sessions")
	file, temp := filepath.Join(dir, "f.session"), filepath.Join(dir, "f.tmp-X")
	made := storage.FileError("make the directory", &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.EACCES})
	if text := made.Error(); text != "storage: this user has no permission in srv to make the directory sessions: change the mode or owner of srv, or choose another directory" {
		t.Errorf("a directory that cannot be made: %s", text)
	}
	for _, c := range []struct {
		cause error
		want  string
	}{
		{&fs.PathError{Op: "write", Path: temp, Err: syscall.ENOSPC}, "the disk of " + dir + " is full: free some space there"},
		{&fs.PathError{Op: "open", Path: temp, Err: syscall.EROFS}, dir + " is on a read-only disk: mount"},
		{&os.LinkError{Op: "rename", Old: temp, New: file, Err: syscall.EACCES}, "this user has no permission in " + file + " to save: change"},
		{&fs.PathError{Op: "open", Path: file, Err: syscall.EIO}, "cannot save: " + file + ": input/output error"},
		{syscall.EIO, "cannot save: input/output error"},
	} {
		err := storage.FileError("save", c.cause)
		if !errors.Is(err, c.cause) || !strings.HasPrefix(err.Error(), "storage: "+c.want) {
			t.Errorf("%v becomes %v", c.cause, err)
		}
	}
}

func TestLockErrorNamesTheFile(t *testing.T) {
	dir := home(t)
	s := newFile(t, dir, fixedKey(1))
	unlock, err := s.Lock(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = s.Lock(ctx, "alice")
	wantError(t, "Lock of what is locked", err, context.DeadlineExceeded)
	var held interface{ LockFile() string }
	if !errors.As(err, &held) && err != ctx.Err() || held != nil && held.LockFile() != path(dir, "alice", ".lock") {
		t.Errorf("the file is not named: %v", err)
	}
}

// What a lock fails with when it is released carries the package's name, too.
func TestUnlockError(t *testing.T) {
	s := newFile(t, home(t), fixedKey(1))
	unlock, err := s.Lock(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	err = unlock()
	wantError(t, "the second unlock", err, os.ErrClosed)
	if err != nil && !strings.HasPrefix(err.Error(), "storage: ") {
		t.Errorf("the error does not say whose it is: %v", err)
	}
}
