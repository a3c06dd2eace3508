package freshtoken_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// A session in a sealed file, from end to end.

// fileStore opens a store of sealed files; where there are no kernel locks, the
// test is skipped.
func fileStore(t *testing.T, dir string) *storage.File {
	t.Helper()
	store, err := storage.NewFile(filepath.Join(dir, "sessions"), storage.KeyFile(filepath.Join(dir, "key")))
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("a file store needs kernel locks, which this system lacks: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func TestAtRest(t *testing.T) {
	setUp := func(t *testing.T) (w *world, dir string, tok *oauth2.Token) {
		t.Helper()
		dir = canary.Dir(t, "key")
		w = newWorld(t, oauthtest.Options{})
		w.store = fileStore(t, dir)
		src := w.source()
		tok = w.login(src)
		if _, err := src.Refresh(t.Context(), nil); err != nil { // writes a marked record and the next one
			t.Fatal(err)
		}
		return w, dir, tok
	}
	files := func(t *testing.T, dir string) map[string][]byte {
		t.Helper()
		all := make(map[string][]byte)
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				all[path], err = os.ReadFile(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	session := func(t *testing.T, dir string) string {
		t.Helper()
		found, _ := filepath.Glob(filepath.Join(dir, "sessions", "*.session"))
		if len(found) != 1 {
			t.Fatalf("%d session files, want 1", len(found))
		}
		return found[0]
	}
	t.Run("R6749-10.3 no token lies on the disk in the clear", func(t *testing.T) {
		w, dir, tok := setUp(t)
		now := w.token(w.source())
		for path, data := range files(t, dir) {
			for _, secret := range []string{tok.AccessToken, tok.RefreshToken, now.AccessToken, "access_token", "refresh_token"} {
				if bytes.Contains(data, []byte(secret)) || strings.Contains(path, secret) {
					t.Errorf("%s has %q in it", filepath.Base(path), secret)
				}
			}
		}
	})
	t.Run("R6749-10.3 a lost key is an error, not a new one", func(t *testing.T) {
		w, dir, _ := setUp(t)
		before := files(t, filepath.Join(dir, "sessions"))
		if err := os.Remove(filepath.Join(dir, "key")); err != nil {
			t.Fatal(err)
		}
		w.store = fileStore(t, dir)
		src := w.source()
		_, err := src.Token(t.Context())
		wantErr(t, err, freshtoken.ErrStore)
		wantErr(t, err, storage.ErrKeyMissing)
		if !strings.Contains(err.Error(), filepath.Join(dir, "sessions")) {
			t.Errorf("the error does not name the directory: %v", err)
		}
		err = src.SetToken(t.Context(), w.as.Login("alice"))
		wantErr(t, err, freshtoken.ErrNotPersisted)
		if _, err := os.Stat(filepath.Join(dir, "key")); err == nil {
			t.Error("a new key was made")
		}
		for path, data := range before {
			if now, _ := os.ReadFile(path); !bytes.Equal(now, data) {
				t.Errorf("%s was changed", filepath.Base(path))
			}
		}
	})
	t.Run("ST-atomic only the owner may read it", func(t *testing.T) {
		if runtime.GOOS == "windows" {
			t.Skip("Windows has access lists in place of mode bits")
		}
		_, dir, _ := setUp(t)
		for path := range files(t, dir) {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s has the mode %v", filepath.Base(path), info.Mode())
			}
		}
		if info, _ := os.Stat(filepath.Join(dir, "sessions")); info.Mode().Perm() != 0o700 {
			t.Errorf("the directory has the mode %v", info.Mode())
		}
	})
	t.Run("ST-atomic a link in its place is not followed", func(t *testing.T) {
		w, dir, _ := setUp(t)
		path, victim := session(t, dir), filepath.Join(dir, "victim")
		if err := errors.Join(os.WriteFile(victim, []byte("precious"), 0o600), os.Remove(path)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(victim, path); err != nil {
			t.Skipf("this system or user cannot make links: %v", err)
		}
		src := w.source()
		_, err := src.Token(t.Context())
		wantErr(t, err, storage.ErrUnsafe)
		src.SetToken(t.Context(), w.as.Login("alice"))
		if data, _ := os.ReadFile(victim); string(data) != "precious" {
			t.Error("what the link points to was overwritten")
		}
	})
	t.Run("ST-atomic readers never see half a record", func(t *testing.T) {
		w, dir, _ := setUp(t)
		src := w.source()
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 4 {
			store := fileStore(t, dir)
			wg.Go(func() {
				for ctx.Err() == nil {
					if _, err := store.Load(t.Context(), freshtoken.StoreKey(w.config())); err != nil {
						t.Errorf("a reader got %v", err)
						return
					}
				}
			})
		}
		for range 4 { // within the budget for forced refreshes
			if _, err := src.Refresh(t.Context(), nil); err != nil {
				t.Error(err)
			}
		}
		stop()
		wg.Wait()
	})
	t.Run("ST-tamper one bit, and two sessions exchanged", func(t *testing.T) {
		w, dir, _ := setUp(t)
		path := session(t, dir)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(good)
		bad[len(bad)/2] ^= 1
		bob := w.source(func(c *freshtoken.Config) { c.Session = "bob" })
		if err := bob.SetToken(t.Context(), w.as.Login("bob")); err != nil {
			t.Fatal(err)
		}
		var other []byte
		for p, data := range files(t, filepath.Join(dir, "sessions")) {
			if p != path && strings.HasSuffix(p, ".session") {
				other = data
			}
		}
		for name, data := range map[string][]byte{"one bit": bad, "another account's": other, "cut": good[:len(good)-1], "empty": {}} {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := w.source().Token(t.Context())
			wantErr(t, err, freshtoken.ErrStore)
			wantErr(t, err, storage.ErrCorrupt)
			if !strings.Contains(err.Error(), path) {
				t.Errorf("the error does not name the file: %v", err)
			}
			if now, _ := os.ReadFile(path); !bytes.Equal(now, data) {
				t.Errorf("%s: it was overwritten unasked", name)
			}
		}
		if s := w.as.Stats(); s.TokenRequests != 1 {
			t.Errorf("%d requests: something was spent", s.TokenRequests)
		}
		w.usable(bob)
		w.loggedIn() // a login sets it aside
		w.usable(w.source())
		if aside, _ := filepath.Glob(path[:len(path)-len(".session")] + ".corrupt-*"); len(aside) != 1 {
			t.Errorf("%d files were set aside, want 1", len(aside))
		}
	})
}

// treeOf are the paths below dir.
func treeOf(t *testing.T, dir string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// damage cuts all session files below dir.
func damage(t *testing.T, dir string) {
	t.Helper()
	for _, path := range treeOf(t, dir) {
		if strings.HasSuffix(path, ".session") {
			if err := os.Truncate(path, 40); err != nil {
				t.Fatal(err)
			}
		}
	}
}
