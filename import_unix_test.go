//go:build unix

package freshtoken_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/freshtoken/freshtoken"
)

func TestImportWaitsForNoPipe(t *testing.T) {
	w, f, src, tok := importing(t)
	pipe := filepath.Join(t.TempDir(), "token.json")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skipf("this system or user cannot make pipes: %v", err)
	}
	wantErr(t, src.Import(t.Context(), pipe), freshtoken.ErrBadToken)
	// One that takes the place of the file at the last moment.
	p := tokenFile(t, tok)
	f.set(func(f *faulty) { f.lock = func() error { return os.Rename(pipe, p.path) } })
	wantErr(t, src.Import(t.Context(), p.path), freshtoken.ErrBadToken)
	f.set(func(f *faulty) { f.lock = nil })
	if info, err := os.Lstat(p.path); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("the pipe is gone: %v", err)
	}
	_, err := src.Token(t.Context())
	wantErr(t, err, freshtoken.ErrNoSession)
	w.wantPosts(0)
}
