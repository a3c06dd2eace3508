package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/freshtoken/freshtoken/storage"
)

type lister interface {
	List(ctx context.Context) ([]string, error)
}

// wantKeys checks what a store lists, and returns the error beside it.
func wantKeys(t *testing.T, s storage.Store, want ...string) error {
	t.Helper()
	got, err := s.(lister).List(context.Background())
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q (%v)", got, want, err)
	}
	if err != nil && strings.Count(err.Error(), "storage: ") != 1 {
		t.Errorf("the error does not name the package once: %v", err)
	}
	return err
}

func wantAllKeys(t *testing.T, s storage.Store, want ...string) {
	t.Helper()
	if err := wantKeys(t, s, want...); err != nil {
		t.Errorf("an error beside a whole list: %v", err)
	}
}

func TestListOfEmptyStoreNeedsNoKey(t *testing.T) {
	stores(t, func(t *testing.T, reopen func(storage.Key) storage.Store) {
		k := new(vaultKey)
		wantAllKeys(t, reopen(k))
		if k.gets != 0 || k.news != 0 {
			t.Error("the key was asked for where nothing is stored")
		}
	})
}

// TestListAsksOnce: many values under one key ask for it once, whatever the
// answer. A wrong passphrase would be derived for each, a locked keyring
// would prompt for each.
func TestListAsksOnce(t *testing.T) {
	locked := errors.New("the keyring is locked")
	stores(t, func(t *testing.T, reopen func(storage.Key) storage.Store) {
		k := new(vaultKey)
		names := []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy"}
		for _, name := range names {
			mustSave(t, reopen(k), name, "v")
		}
		for what, test := range map[string]struct {
			key  *vaultKey
			want error
		}{
			"right":   {&vaultKey{key: k.key}, nil},
			"wrong":   {&vaultKey{key: make([]byte, storage.KeySize)}, storage.ErrWrongKey},
			"missing": {new(vaultKey), storage.ErrKeyMissing},
			"locked":  {&vaultKey{err: locked}, locked},
		} {
			t.Run(what, func(t *testing.T) {
				s := reopen(test.key)
				if test.want == nil {
					wantAllKeys(t, s, names...)
				} else {
					err := wantKeys(t, s)
					wantError(t, "List", err, test.want)
					if errors.Is(err, storage.ErrCorrupt) || len(err.Error()) > 5000 {
						t.Errorf("a bad error: %v", err)
					}
				}
				if test.key.gets != 1 || test.key.news != 0 {
					t.Errorf("the key was asked for %d times and made %d times", test.key.gets, test.key.news)
				}
			})
		}
	})
}

func TestListUnderPassphrases(t *testing.T) {
	stores(t, func(t *testing.T, reopen func(storage.Key) storage.Store) {
		pass := func(p string) storage.Key {
			return storage.Passphrase(func() ([]byte, error) { return []byte(p), nil })
		}
		mustSave(t, reopen(pass("right")), "alice", "v")
		mustSave(t, reopen(pass("right")), "bob", "v")
		wantAllKeys(t, reopen(pass("right")), "alice", "bob")
		wantError(t, "List", wantKeys(t, reopen(pass("wrong"))), storage.ErrWrongKey)
	})
}

// put puts bytes where a File keeps the value of name.
func put(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path(dir, name, ".session"), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// sealedAs seals a value for a File or a Sealed.
func sealedAs(t *testing.T, key rawKey, name string) []byte {
	t.Helper()
	b, err := storage.SealWith(key, nil, name, []byte("v"), [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// unreadable are values of the name "bad" that a store under someKey cannot
// open, with the error that says so.
func unreadable(t *testing.T) map[string]struct {
	sealed []byte
	want   error
} {
	flipped := sealedAs(t, someKey, "bad")
	flipped[len(flipped)-1] ^= 1
	nameless, err := storage.SealPlain(someKey, []byte("\x00\x04bad"), [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]struct {
		sealed []byte
		want   error
	}{
		"altered":              {flipped, storage.ErrCorrupt},
		"cut short":            {flipped[:len(flipped)-1], storage.ErrCorrupt},
		"empty":                {nil, storage.ErrCorrupt},
		"plain":                {[]byte(`{"access_token":"plain"}`), storage.ErrCorrupt},
		"of another name":      {sealedAs(t, someKey, "good"), storage.ErrCorrupt},
		"of no name":           {nameless, storage.ErrCorrupt},
		"under another key":    {sealedAs(t, rawKey(bytes.Repeat([]byte{9}, storage.KeySize)), "bad"), storage.ErrWrongKey},
		"of a newer version":   {newer(nil), storage.ErrNewerVersion},
		"too big for a header": {append([]byte("\x8dftseal\n\x01\xff\xff"), make([]byte, 100)...), storage.ErrCorrupt},
	}
}

// TestListLeavesOut: what cannot be read is no obstacle to the rest, is not in
// the list, and is not passed over in silence.
func TestListLeavesOut(t *testing.T) {
	for what, test := range unreadable(t) {
		check := func(t *testing.T, s storage.Store, place string) {
			err := wantKeys(t, s, "good", "good too")
			wantError(t, "List", err, test.want)
			if err != nil && !strings.Contains(err.Error(), place) {
				t.Errorf("the error does not tell what is damaged: %v", err)
			}
			_, lerr := s.Load(context.Background(), "bad")
			wantError(t, "Load", lerr, test.want)
		}
		t.Run("File "+what, func(t *testing.T) {
			needFiles(t)
			dir := home(t)
			s := newFile(t, dir, someKey)
			mustSave(t, s, "good", "v")
			mustSave(t, s, "good too", "v")
			put(t, dir, "bad", test.sealed)
			check(t, s, path(dir, "bad", ".session"))
			check(t, newFile(t, dir, someKey), path(dir, "bad", ".session"))
		})
		t.Run("Seal "+what, func(t *testing.T) {
			m := storage.NewMemory()
			s := storage.Seal(m, someKey)
			mustSave(t, s, "good", "v")
			mustSave(t, s, "good too", "v")
			mustSave(t, m, "bad", string(test.sealed))
			check(t, s, `"bad"`)
			check(t, storage.Seal(m, someKey), `"bad"`)
		})
	}
}

func remove(t *testing.T, s storage.Store, key string) storage.Store {
	t.Helper()
	if err := s.Delete(context.Background(), key); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestListNamesEveryKind: the error matches each reason that there is, and
// stays short however many values share one.
func TestListNamesEveryKind(t *testing.T) {
	needFiles(t)
	dir := home(t)
	s := newFile(t, dir, someKey)
	mustSave(t, s, "good", "v")
	for i := range 50 {
		put(t, dir, fmt.Sprint("damaged", i), []byte("damaged"))
		put(t, dir, fmt.Sprint("other", i), sealedAs(t, rawKey(bytes.Repeat([]byte{9}, storage.KeySize)), fmt.Sprint("other", i)))
	}
	put(t, dir, "newer", newer(nil))
	if err := os.Mkdir(path(dir, "directory", ".session"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := wantKeys(t, s, "good")
	for _, want := range []error{storage.ErrCorrupt, storage.ErrWrongKey, storage.ErrNewerVersion, storage.ErrUnsafe} {
		wantError(t, "List", err, want)
	}
	wantCorruptToo(t, err)
	if err != nil && (len(err.Error()) > 5000 || !strings.Contains(err.Error(), "98 more")) {
		t.Errorf("the error does not sum up: %v", err)
	}
}

// wantCorruptToo recognises damage without this package, as a Source does.
func wantCorruptToo(t *testing.T, err error) {
	t.Helper()
	var c interface{ Corrupt() bool }
	if !errors.As(err, &c) || !c.Corrupt() {
		t.Errorf("the error does not say that something is damaged: %v", err)
	}
}

// TestListSeesSessionsAlone puts other files into the directory, ours and
// foreign ones.
func TestListSeesSessionsAlone(t *testing.T) {
	needFiles(t)
	ctx := context.Background()
	dir := home(t)
	s := newFile(t, dir, storage.KeyFile(filepath.Join(dir, "key")))
	mustSave(t, s, "alice", "v")
	sealed, err := os.ReadFile(path(dir, "alice", ".session"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"locked", "alice"} {
		unlock, err := s.Lock(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
	}
	put(t, dir, "aside", []byte("damaged"))
	if err := s.SetAside(ctx, "aside"); err != nil {
		t.Fatal(err)
	}
	hash := filepath.Base(path(dir, "bob", ""))
	for _, name := range []string{
		"notes.txt", "README", ".session", "bob.session", hash, hash + ".tmp-OLD", hash + ".corrupt-7", hash + ".session.bak",
		hash + ".session~", hash[1:] + ".session", strings.ToUpper(hash) + "x.session", hash + "x.session", "x" + hash + ".session", hash + ".io",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), sealed, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder.session"), 0o700); err != nil {
		t.Fatal(err)
	}
	wantAllKeys(t, s, "alice")
	mustSave(t, s, "aside", newValue)
	wantAllKeys(t, s, "alice", "aside")
}

// TestListOfOddKeys lists what another store saved, under keys that are no file
// names or look like the entries of Seal itself.
func TestListOfOddKeys(t *testing.T) {
	stores(t, func(t *testing.T, reopen func(storage.Key) storage.Store) {
		keys := []string{"", "\x00", "a/b", "ä", "a\u0308", "\xff", strings.Repeat("long", 1000),
			"freshtoken.seal/key", "freshtoken.seal/=freshtoken.seal/key", "freshtoken.seal/", "freshtoken.seal/aside-1/alice"}
		s := reopen(fixedKey(1))
		for _, k := range keys {
			mustSave(t, s, k, "")
		}
		wantAllKeys(t, reopen(fixedKey(1)), keys...)
		wantAllKeys(t, remove(t, s, keys[0]), keys[1:]...)
	})
}

// TestNamesLieNowhere searches all that a File writes.
func TestNamesLieNowhere(t *testing.T) {
	needFiles(t)
	ctx := context.Background()
	dir := home(t)
	s := newFile(t, dir, storage.KeyFile(filepath.Join(dir, "key")))
	const name, value = "alice@accounts.example", "refresh-token-of-hers"
	mustSave(t, s, name, value)
	mustSave(t, s, name+"2", value)
	unlock, err := s.Lock(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if err := s.SetAside(ctx, name+"2"); err != nil {
		t.Fatal(err)
	}
	wantAllKeys(t, s, name)
	files := 0
	err = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(p)
		for _, secret := range []string{name, value, "alice", "accounts"} {
			if bytes.Contains(b, []byte(secret)) || strings.Contains(filepath.Base(p), secret) {
				t.Errorf("%s shows %q", p, secret)
			}
		}
		return err
	})
	if err != nil || files < 4 {
		t.Errorf("%d files (%v)", files, err)
	}
}

// TestListWhileSaving lists while other Files of the directory save anew what
// has been locked before, save for the first time, and delete.
func TestListWhileSaving(t *testing.T) {
	needFiles(t)
	ctx := context.Background()
	dir := home(t)
	s := newFile(t, dir, fixedKey(1))
	keys := []string{"busy0", "busy1", "busy2"}
	for i := range 60 {
		keys = append(keys, fmt.Sprint("idle", i))
	}
	for _, k := range keys {
		mustSave(t, s, k, "v")
		unlock, err := s.Lock(ctx, k)
		if err != nil {
			t.Fatal(err)
		}
		unlock()
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 3 {
		other := newFile(t, dir, fixedKey(1))
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				come := fmt.Sprint("come", i)
				if err := errors.Join(other.Save(ctx, fmt.Sprint("busy", i), []byte("w")), other.Save(ctx, come, nil), other.Delete(ctx, come)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 30 {
		got, err := s.List(ctx)
		if err != nil {
			t.Errorf("List while others save: %v", err)
		}
		got = slices.DeleteFunc(got, func(k string) bool { return k == "come0" || k == "come1" || k == "come2" })
		slices.Sort(got)
		slices.Sort(keys)
		if !slices.Equal(got, keys) {
			t.Errorf("listed %q, want %q", got, keys)
			break
		}
	}
	close(stop)
	wg.Wait()
	wantAllKeys(t, s, keys...)
}
