package keyring_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/storage"
)

var _ storage.Key = (*keyring.Key)(nil)

// openKey returns a key over f, as another process would.
func openKey(f *fake, lockDir string) *keyring.Key {
	return keyring.NewGate(f, nil).NewKey("keyring-test", keyring.Options{LockDir: lockDir})
}

func TestKeyIsMadeOnceAndReadOnce(t *testing.T) {
	f, dir := newFake(), t.TempDir()
	k := openKey(f, dir)
	if _, err := k.Get(t.Context(), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Get where there is no key: %v", err)
	}
	made, params, err := k.New(t.Context())
	if err != nil || len(made) != storage.KeySize || params != nil {
		t.Fatalf("New: %d bytes, parameters %v, %v", len(made), params, err)
	}
	clear(made) // the caller's
	f.setHook(nil)
	first, err := k.Get(t.Context(), nil)
	if err != nil || bytes.Equal(first, make([]byte, storage.KeySize)) {
		t.Fatalf("Get after New: %v", err)
	}
	again, _, err := k.New(t.Context())
	if err != nil || !bytes.Equal(again, first) {
		t.Fatalf("a second New made another key, or failed: %v", err)
	}
	if f.ops() != "" {
		t.Errorf("the keyring was asked again: %s", f.ops())
	}

	k = openKey(f, dir) // another process
	for range 3 {
		got, err := k.Get(t.Context(), []byte("not looked at"))
		if err != nil || !bytes.Equal(got, first) {
			t.Fatalf("Get in another process: %v", err)
		}
	}
	if f.ops() != "get" {
		t.Errorf("three reads made the calls %q, want one", f.ops())
	}
}

// Programs that start together agree on one key.
func TestKeyIsMadeByOneOfMany(t *testing.T) {
	f, dir := newFake(), t.TempDir()
	keys := make([][]byte, 12)
	var wg sync.WaitGroup
	for i := range keys {
		k := openKey(f, dir)
		wg.Go(func() {
			key, _, err := k.New(context.Background())
			if err != nil {
				t.Errorf("New: %v", err)
			}
			keys[i] = key
		})
	}
	wg.Wait()
	for _, k := range keys {
		if !bytes.Equal(k, keys[0]) {
			t.Fatal("two programs made two keys")
		}
	}
	if n := strings.Count(f.ops(), "set"); n != 1 {
		t.Errorf("the key was written %d times", n)
	}
}

// Only the keyring's own "not found" lets a key be made.
func TestNoKeyIsMadeInDoubt(t *testing.T) {
	answers := map[string]func(*fake){
		"down": func(f *fake) { f.setHook(down) },
		"foreign text": func(f *fake) {
			f.edit(func(_, _ string) string { return "hello" })
		},
		"a key cut short": func(f *fake) {
			f.edit(func(_, text string) string { return text[:len(text)-5] })
		},
		"newer": func(f *fake) {
			f.edit(func(_, text string) string { return "ft9" + text[3:] })
		},
		"no key at all": func(f *fake) {
			texts := keyring.HeadTexts(keyring.AccountOf("key", "keyring-test", ""), nil)
			f.edit(func(_, _ string) string { return texts[0] })
		},
		"removed halfway": func(f *fake) {
			texts := keyring.HeadTexts(keyring.AccountOf("key", "keyring-test", ""), nil)
			f.edit(func(_, _ string) string { return texts[len(texts)-1] })
		},
	}
	for name, spoil := range answers {
		t.Run(name, func(t *testing.T) {
			f, dir := newFake(), t.TempDir()
			if _, _, err := openKey(f, dir).New(t.Context()); err != nil {
				t.Fatal(err)
			}
			spoil(f)
			want := f.copy().items
			k := openKey(f, dir)
			if _, err := k.Get(t.Context(), nil); err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Get: %v", err)
			}
			if _, _, err := k.New(t.Context()); err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("New: %v", err)
			}
			for name, text := range want {
				if f.items[name] != text {
					t.Error("the item was touched")
				}
			}
		})
	}
}

func TestKeyThatCannotBeReadBackIsNotUsed(t *testing.T) {
	f, dir := newFake(), t.TempDir()
	f.setHook(func(c fakeCall, do func() (string, error)) (string, error) {
		if c.op == "set" {
			return "", nil // and nothing stored
		}
		return do()
	})
	k := openKey(f, dir)
	_, _, err := k.New(t.Context())
	wantsError(t, err, keyring.ErrLocked)
	if _, err := k.Get(t.Context(), nil); err == nil {
		t.Error("Get returned a key that the keyring does not hold")
	}
	f.setHook(nil)
	if len(f.accounts()) != 0 {
		t.Error("something was stored")
	}
}

// A key whose writing was given up counts once the write has landed, and no
// other program makes one in the meantime.
func TestKeyThatLandsLate(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f, released := newFake(), make(chan struct{})
		f.setHook(hang(released, writing))
		k, other := openKey(f, dir), openKey(f, dir)
		_, _, err := k.New(t.Context())
		wantsError(t, err, keyring.ErrTimeout)
		_, _, err = other.New(t.Context())
		wantsError(t, err, keyring.ErrTimeout)
		close(released)
		time.Sleep(10 * time.Second)
		one, err := k.Get(t.Context(), nil)
		if err != nil {
			t.Fatalf("Get once the write has landed: %v", err)
		}
		two, _, err := other.New(t.Context())
		if err != nil || !bytes.Equal(one, two) {
			t.Fatalf("the other program has another key, or none: %v", err)
		}
		if n := strings.Count(f.ops(), "set"); n != 1 {
			t.Errorf("the key was written %d times", n)
		}
	})
}

func TestKeyHonoursItsContext(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f, released := newFake(), make(chan struct{})
		f.setHook(hang(released, always))
		k := openKey(f, dir)
		var wg sync.WaitGroup
		start := time.Now()
		for range 10 { // one asks the keyring, the others wait for that
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				_, err := k.Get(ctx, nil)
				wantsError(t, err, context.DeadlineExceeded)
				took(t, start, time.Second)
			})
		}
		wg.Wait()
		close(released)
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := openKey(newFake(), dir).New(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("New with a context that is done: %v", err)
	}
}

// The key and the file store together: made on first use, kept, and reported
// as missing, not made anew, when it is gone.
func TestKeyOfAFileStore(t *testing.T) {
	f, files, locks := newFake(), canary.Dir(t), t.TempDir()
	open := func() *storage.File {
		s, err := storage.NewFile(files, openKey(f, locks))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if err := open().Save(t.Context(), "k", []byte("a session")); err != nil {
		t.Fatalf("Save: %v", err)
	}
	if got, err := open().Load(t.Context(), "k"); err != nil || string(got) != "a session" {
		t.Fatalf("Load: %q, %v", got, err)
	}

	f.setHook(down)
	if _, err := open().Load(t.Context(), "k"); err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, storage.ErrKeyMissing) {
		t.Errorf("Load while the keyring is down: %v", err)
	}
	f.setHook(nil)

	lost := newFake()
	s, err := storage.NewFile(files, openKey(lost, locks))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(t.Context(), "k"); !errors.Is(err, storage.ErrKeyMissing) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load once the key is gone: %v", err)
	}
	if err := s.Save(t.Context(), "other", []byte("x")); !errors.Is(err, storage.ErrKeyMissing) {
		t.Errorf("Save once the key is gone: %v", err)
	}
	if ops := lost.ops(); strings.Contains(ops, "set") {
		t.Errorf("a key was made beside sealed files: %s", ops)
	}
}

// However a type of this package is printed, and whatever goes wrong, neither
// the key nor a value shows.
func TestNothingShowsSecrets(t *testing.T) {
	f, dir := newFake(), t.TempDir()
	k := openKey(f, dir)
	secret, _, err := k.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(t, f, dir)
	value := []byte("refresh-token-0123456789")
	save(t, s, "alice", value)

	var shown strings.Builder
	for _, v := range []any{k, *k, s, keyring.Options{}, keyring.Key{}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&shown, verb+"\n", v)
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Errorf("%T as JSON: %v", v, err)
		}
		shown.Write(text)
		slog.New(slog.NewTextHandler(&shown, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&shown, nil)).Info("m", "v", v)
	}
	for _, spoil := range []func(string, string) string{
		func(_, text string) string { return text[:len(text)-4] },
		func(_, text string) string { return strings.Replace(text, ".v.", ".?.", 1) },
		func(_, text string) string { return "ft9" + text },
	} {
		f := f.copy()
		f.edit(spoil)
		_, kerr := openKey(f, dir).Get(t.Context(), nil)
		_, serr := openStore(t, f, dir).Load(t.Context(), "alice")
		fmt.Fprintf(&shown, "%+v %#v %+v %#v\n", kerr, kerr, serr, serr)
	}
	for _, b := range [][]byte{secret, value} {
		for _, form := range []string{
			string(b), hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)),
			base64.StdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b), strings.Trim(fmt.Sprint(b), "[]"),
		} {
			if strings.Contains(shown.String(), form[:12]) {
				t.Errorf("a secret shows as %q", form[:12])
			}
		}
	}
	if strings.Contains(shown.String(), "alice") {
		t.Error("the session's name shows")
	}
}
