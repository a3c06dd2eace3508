package storage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/internal/filelock"
	"github.com/freshtoken/freshtoken/storage"
)

func needFiles(t testing.TB) {
	t.Helper()
	if !filelock.Supported() {
		t.Skip("this system has no file locks, so no File")
	}
}

// path returns where a File in dir keeps key, with this extension.
func path(dir, key, ext string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(dir, hex.EncodeToString(sum[:])+ext)
}

// symlink makes a symbolic link, or skips the test where there are none. Wine
// says that it has made one and has not.
func symlink(t *testing.T, target, p string) {
	t.Helper()
	if err := os.Symlink(target, p); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	if info, err := os.Lstat(p); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Skip("no symbolic links here")
	}
}

func mustSave(t testing.TB, s storage.Store, key, value string) {
	t.Helper()
	if err := s.Save(context.Background(), key, []byte(value)); err != nil {
		t.Fatal(err)
	}
}

func wantValue(t testing.TB, s storage.Store, key, value string) {
	t.Helper()
	got, err := s.Load(context.Background(), key)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != value {
		t.Fatalf("loaded %q, want %q", got, value)
	}
}

// wantError checks that err is want, and no absent session.
func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
	if errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: the error reads as an absent session: %v", what, err)
	}
}

// all calls every method of a File, and returns the errors.
func all(s *storage.File, key string) map[string]error {
	ctx := context.Background()
	_, load := s.Load(ctx, key)
	unlock, lock := s.Lock(ctx, key)
	if lock == nil {
		unlock()
	}
	return map[string]error{
		"Load": load, "Lock": lock,
		"Save": s.Save(ctx, key, []byte("v")), "Delete": s.Delete(ctx, key), "SetAside": s.SetAside(ctx, key),
	}
}

func TestUnsupportedFile(t *testing.T) {
	if filelock.Supported() {
		t.Skip("this system has file locks")
	}
	if _, err := storage.NewFile(home(t), fixedKey(1)); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want errors.ErrUnsupported", err)
	}
}

func TestFilesAndModes(t *testing.T) {
	needFiles(t)
	dir := filepath.Join(home(t), "a", "b")
	s := newFile(t, dir, fixedKey(1))
	mustSave(t, s, "alice", "v")
	unlock, err := s.Lock(context.Background(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	for p, mode := range map[string]fs.FileMode{
		filepath.Dir(dir): 0o700, dir: 0o700, path(dir, "alice", ".session"): 0o600, path(dir, "alice", ".lock"): 0o600,
	} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && info.Mode().Perm() != mode {
			t.Errorf("%s has mode %o, want %o", filepath.Base(p), info.Mode().Perm(), mode)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), "tmp-") {
			t.Errorf("a temporary file was left behind: %s", e.Name())
		}
	}
	b, err := os.ReadFile(path(dir, "alice", ".session"))
	if err != nil || bytes.Contains(b, []byte("alice")) {
		t.Errorf("the file names its key (%v)", err)
	}
}

func TestDirectoryIsShared(t *testing.T) {
	needFiles(t)
	dir := home(t)
	a, b := newFile(t, dir, fixedKey(1)), newFile(t, dir, fixedKey(1))
	mustSave(t, a, "alice", "one")
	wantValue(t, b, "alice", "one")
	mustSave(t, b, "alice", "two")
	wantValue(t, a, "alice", "two")
}

func TestRelativeDirectory(t *testing.T) {
	needFiles(t)
	base := t.TempDir()
	t.Chdir(base)
	s := newFile(t, "store", fixedKey(1))
	mustSave(t, s, "alice", "v")
	t.Chdir(t.TempDir())
	wantValue(t, s, "alice", "v")
	if _, err := os.Stat(path(filepath.Join(base, "store"), "alice", ".session")); err != nil {
		t.Error(err)
	}
}

func TestDirectoryRefused(t *testing.T) {
	needFiles(t)
	t.Run("no name", func(t *testing.T) {
		if _, err := storage.NewFile("", fixedKey(1)); err == nil {
			t.Error("a store without a directory")
		}
	})
	t.Run("a file", func(t *testing.T) {
		p := home(t)
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := storage.NewFile(p, fixedKey(1))
		wantError(t, "NewFile", err, storage.ErrUnsafe)
	})
	t.Run("below a file", func(t *testing.T) {
		p := home(t)
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := storage.NewFile(filepath.Join(p, "store"), fixedKey(1)); err == nil {
			t.Error("a store below a file")
		}
	})
	for _, mode := range []fs.FileMode{0o777, 0o720, 0o702, fs.ModeSticky | 0o777} {
		t.Run(mode.String(), func(t *testing.T) {
			if runtime.GOOS == "windows" {
				t.Skip("mode bits mean nothing on Windows")
			}
			p := home(t)
			if err := os.Mkdir(p, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(p, mode); err != nil {
				t.Fatal(err)
			}
			_, err := storage.NewFile(p, fixedKey(1))
			wantError(t, "NewFile", err, storage.ErrUnsafe)
			if err != nil && !strings.Contains(err.Error(), "chmod go-w") {
				t.Errorf("the error does not say how to fix it: %v", err)
			}
		})
	}
}

// TestGone removes or replaces the store as a whole: that is no absent session.
func TestGone(t *testing.T) {
	needFiles(t)
	for name, change := range map[string]func(t *testing.T, dir string){
		"removed": func(t *testing.T, dir string) {},
		"replaced by an empty one": func(t *testing.T, dir string) {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		},
		"replaced by a file": func(t *testing.T, dir string) {
			if err := os.WriteFile(dir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"replaced by a link to nothing": func(t *testing.T, dir string) {
			symlink(t, dir+"2", dir)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := home(t)
			s := newFile(t, dir, fixedKey(1))
			mustSave(t, s, "alice", "v")
			before, err := os.Stat(dir)
			if err != nil || !os.SameFile(before, before) { // Windows looks up the number only now
				t.Fatal(err)
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			change(t, dir)
			if after, err := os.Stat(dir); err == nil && runtime.GOOS == "windows" && os.SameFile(before, after) {
				t.Skip("this file system, unlike NTFS, gives a number to the next file at once")
			}
			for method, err := range all(s, "alice") {
				wantError(t, method, err, storage.ErrGone)
			}
			for method, err := range all(s, "nobody") {
				wantError(t, method, err, storage.ErrGone)
			}
		})
	}
	t.Run("moved away and back", func(t *testing.T) {
		dir := home(t)
		s := newFile(t, dir, fixedKey(1))
		mustSave(t, s, "alice", "v")
		if err := os.Rename(dir, dir+"2"); err != nil {
			t.Fatal(err)
		}
		_, err := s.Load(context.Background(), "alice")
		wantError(t, "Load", err, storage.ErrGone)
		if err := os.Rename(dir+"2", dir); err != nil {
			t.Fatal(err)
		}
		wantValue(t, s, "alice", "v")
	})
}

func TestUnreadableDirectory(t *testing.T) {
	needFiles(t)
	if runtime.GOOS == "windows" || os.Geteuid() == 0 {
		t.Skip("permission bits bind neither Windows nor root")
	}
	dir := home(t)
	s := newFile(t, dir, fixedKey(1))
	for _, mode := range []fs.FileMode{0o000, 0o600} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		for method, err := range all(s, "nobody") {
			wantError(t, method, err, fs.ErrPermission)
		}
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	wantError(t, "Save", s.Save(context.Background(), "alice", nil), fs.ErrPermission)
	if _, err := storage.NewFile(dir, fixedKey(1)); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("NewFile in a read-only directory: got %v, want fs.ErrPermission", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
}

// TestNotRegular puts something else where a session or a lock belongs.
func TestNotRegular(t *testing.T) {
	needFiles(t)
	ctx := context.Background()
	link := func(target string) func(t *testing.T, p string) {
		return func(t *testing.T, p string) { symlink(t, target, p) }
	}
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func(t *testing.T, p string){
		"directory": func(t *testing.T, p string) {
			if err := os.Mkdir(p, 0o700); err != nil {
				t.Fatal(err)
			}
		},
		"link":            link(victim),
		"link to nothing": link(victim + "2"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := home(t)
			s := newFile(t, dir, fixedKey(1))
			p := path(dir, "alice", ".session")
			put(t, p)
			before, err := os.Lstat(p)
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Load(ctx, "alice")
			wantError(t, "Load", err, storage.ErrUnsafe)
			wantError(t, "Save", s.Save(ctx, "alice", []byte("v")), storage.ErrUnsafe)
			wantError(t, "Delete", s.Delete(ctx, "alice"), storage.ErrUnsafe)
			wantError(t, "SetAside", s.SetAside(ctx, "alice"), storage.ErrUnsafe)
			if after, err := os.Lstat(p); err != nil || !os.SameFile(before, after) {
				t.Errorf("it was replaced or removed (%v)", err)
			}
			put(t, path(dir, "bob", ".lock"))
			_, err = s.Lock(ctx, "bob")
			wantError(t, "Lock", err, storage.ErrUnsafe)
		})
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "untouched" {
		t.Errorf("what a link led to was changed (%v)", err)
	}
	if _, err := os.Lstat(victim + "2"); err == nil {
		t.Error("what a link led to was made")
	}
}

func TestSymlinkedDirectory(t *testing.T) {
	needFiles(t)
	real := home(t)
	if err := os.Mkdir(real, 0o700); err != nil {
		t.Fatal(err)
	}
	link := real + "-link"
	symlink(t, real, link)
	s := newFile(t, link, fixedKey(1))
	mustSave(t, s, "alice", "v")
	wantValue(t, newFile(t, real, fixedKey(1)), "alice", "v")
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	_, err := s.Load(context.Background(), "alice")
	wantError(t, "Load", err, storage.ErrGone)
}

func TestSetAside(t *testing.T) {
	ctx := context.Background()
	t.Run("File", func(t *testing.T) {
		needFiles(t)
		dir := home(t)
		s := newFile(t, dir, fixedKey(1))
		if err := s.SetAside(ctx, "alice"); err != nil {
			t.Errorf("SetAside of nothing: %v", err)
		}
		for _, n := range []string{"1", "2"} {
			if err := os.WriteFile(path(dir, "alice", ".session"), []byte("damaged "+n), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := s.Load(ctx, "alice")
			wantError(t, "Load", err, storage.ErrCorrupt)
			if err := s.SetAside(ctx, "alice"); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(path(dir, "alice", ".corrupt-"+n)); err != nil || string(b) != "damaged "+n {
				t.Errorf("set aside: %q, %v", b, err)
			}
			if _, err := s.Load(ctx, "alice"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Load after SetAside: %v", err)
			}
		}
		mustSave(t, s, "alice", "new")
		wantValue(t, s, "alice", "new")
	})
	t.Run("Seal", func(t *testing.T) {
		m := storage.NewMemory()
		s := storage.Seal(m, fixedKey(1))
		if err := s.SetAside(ctx, "alice"); err != nil {
			t.Errorf("SetAside of nothing: %v", err)
		}
		for _, n := range []string{"1", "2"} {
			mustSave(t, m, "alice", "damaged "+n)
			if err := s.SetAside(ctx, "alice"); err != nil {
				t.Fatal(err)
			}
			wantValue(t, m, "freshtoken.seal/aside-"+n+"/alice", "damaged "+n)
			if _, err := s.Load(ctx, "alice"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Load after SetAside: %v", err)
			}
		}
		mustSave(t, s, "alice", "new")
		wantValue(t, s, "alice", "new")
	})
}

// TestReservedKeys uses keys that look like the entries of Seal itself.
func TestReservedKeys(t *testing.T) {
	s := storage.Seal(storage.NewMemory(), fixedKey(1))
	keys := []string{"freshtoken.seal/key", "freshtoken.seal/=freshtoken.seal/key", "freshtoken.seal/", "freshtoken.seal/aside-1/alice"}
	for _, k := range keys {
		if _, err := s.Load(context.Background(), k); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v, want fs.ErrNotExist", k, err)
		}
		mustSave(t, s, k, "of "+k)
	}
	for _, k := range keys {
		wantValue(t, s, k, "of "+k)
	}
	// A Save under the lock of such a key makes the key of the store, too.
	s = storage.Seal(storage.NewMemory(), fixedKey(1))
	unlock, err := s.Lock(context.Background(), "freshtoken.seal/key")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	mustSave(t, s, "freshtoken.seal/key", "v")
}

// TestSweep: what killed processes left is removed when it is old, and nothing
// else is.
func TestSweep(t *testing.T) {
	needFiles(t)
	dir := home(t)
	newFile(t, dir, fixedKey(1))
	old := time.Now().Add(-2 * time.Hour)
	hash := filepath.Base(path(dir, "alice", ""))
	for name, stays := range map[string]bool{
		hash + ".tmp-OLD":                  false,
		"probe.tmp-OLD":                    false,
		hash + ".session":                  true,
		hash + ".lock":                     true,
		hash + ".corrupt-1":                true,
		hash + ".tmp-":                     true,
		hash[1:] + ".tmp-OLD":              true,
		strings.ToUpper(hash) + ".tmp-OLD": true,
		"notes.tmp-OLD":                    true,
	} {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, old, old); err != nil {
			t.Fatal(err)
		}
		newFile(t, dir, fixedKey(1))
		if _, err := os.Lstat(p); (err == nil) != stays {
			t.Errorf("%s: stays is %v, want %v", name, err == nil, stays)
		}
		os.Remove(p)
	}
	young := filepath.Join(dir, hash+".tmp-YOUNG")
	if err := os.WriteFile(young, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	newFile(t, dir, fixedKey(1))
	if _, err := os.Lstat(young); err != nil {
		t.Errorf("a Save under way lost its file: %v", err)
	}
}

func TestTooBig(t *testing.T) {
	needFiles(t)
	dir := home(t)
	s := newFile(t, dir, fixedKey(1))
	if err := s.Save(context.Background(), "alice", make([]byte, 16<<20+1)); err == nil {
		t.Error("a value past the limit was saved")
	}
	f, err := os.Create(path(dir, "alice", ".session"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 40); err != nil {
		t.Skipf("no sparse files here: %v", err)
	}
	_, err = s.Load(context.Background(), "alice")
	wantError(t, "Load", err, storage.ErrCorrupt)
}

func TestNewAppFile(t *testing.T) {
	needFiles(t)
	base := t.TempDir()
	for _, env := range []string{"HOME", "XDG_STATE_HOME", "LocalAppData"} {
		t.Setenv(env, filepath.Join(base, env))
	}
	want := map[string]string{
		"windows": filepath.Join(base, "LocalAppData", "my-app", "sessions"),
		"darwin":  filepath.Join(base, "HOME", "Library", "Application Support", "my-app", "sessions"),
	}[runtime.GOOS]
	if want == "" {
		want = filepath.Join(base, "XDG_STATE_HOME", "my-app", "sessions")
	}
	s, err := storage.NewAppFile("my-app", fixedKey(1))
	if err != nil {
		t.Fatal(err)
	}
	mustSave(t, s, "alice", "v")
	if _, err := os.Stat(path(want, "alice", ".session")); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"", ".", "..", "a/b", `a\b`, "a b", "ä", "a.", "a\x00", strings.Repeat("a", 65)} {
		if _, err := storage.NewAppFile(name, fixedKey(1)); err == nil {
			t.Errorf("the app name %q was taken", name)
		}
	}
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		return
	}
	for _, unset := range []string{"", "relative"} {
		t.Setenv("XDG_STATE_HOME", unset)
		s, err := storage.NewAppFile("my-app", fixedKey(1))
		if err != nil {
			t.Fatal(err)
		}
		mustSave(t, s, "bob", "v")
		if _, err := os.Stat(path(filepath.Join(base, "HOME", ".local", "state", "my-app", "sessions"), "bob", ".session")); err != nil {
			t.Error(err)
		}
	}
	t.Setenv("HOME", "")
	if _, err := storage.NewAppFile("my-app", fixedKey(1)); err == nil || !strings.Contains(err.Error(), "HOME") {
		t.Errorf("without a home: got %v, want an error that names HOME", err)
	}
}
