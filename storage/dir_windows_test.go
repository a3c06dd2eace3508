package storage_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// TestSaveWhileOpen has another program hold the file of a session open, and
// let go only once the Save was given up.
func TestSaveWhileOpen(t *testing.T) {
	dir := home(t)
	s := newFile(t, dir, fixedKey(1))
	mustSave(t, s, "alice", oldValue)
	name, err := windows.UTF16PtrFromString(path(dir, "alice", ".session"))
	if err != nil {
		t.Fatal(err)
	}
	h, err := windows.CreateFile(name, windows.GENERIC_READ, windows.FILE_SHARE_READ, nil, windows.OPEN_EXISTING, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Save(context.Background(), "alice", []byte(newValue))
	var link *os.LinkError
	if !errors.As(err, &link) || !errors.Is(err, windows.ERROR_ACCESS_DENIED) && !errors.Is(err, windows.ERROR_SHARING_VIOLATION) {
		t.Errorf("Save: got %v, want that another program has the file open", err)
	}
	if err == nil || !strings.Contains(err.Error(), "another program has "+path(dir, "alice", ".session")+" open") {
		t.Errorf("Save: %v, want that it says what is wrong", err)
	}
	if err := windows.CloseHandle(h); err != nil {
		t.Fatal(err)
	}
	wantValue(t, s, "alice", oldValue)
	mustSave(t, s, "alice", newValue)
	wantValue(t, s, "alice", newValue)
}
