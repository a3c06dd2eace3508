package keyring_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/internal/figures"
	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/storage"
	"github.com/freshtoken/freshtoken/storage/storagetest"
)

// realEnv allows tests to use the keyring of the environment, and says which
// one that is: "gnome-keyring" and the names of misbehaviour are set by the
// scripts in internal/keyringtest; "system" may be set on a machine that is
// thrown away, to test the keyring of macOS or Windows.
const realEnv = "FRESHTOKEN_KEYRING_TEST"

// realMode returns what keyring the test may use, and skips it if none.
func realMode(t *testing.T) string {
	t.Helper()
	mode := os.Getenv(realEnv)
	if mode == "" {
		t.Skipf("uses a real keyring: run it with internal/keyringtest/run, or set %s=system on a machine to be thrown away", realEnv)
	}
	return mode
}

// works reports whether the keyring of this mode does what it should.
func works(mode string) bool {
	switch mode {
	case "gnome-keyring", "keepassxc", "system", "ok", "slow":
		return true
	}
	return false
}

// serviceAt returns a service that belongs to a place, and to nobody else.
func serviceAt(place string) string {
	d := sha256.Sum256([]byte(place))
	return "freshtoken-test-" + hex.EncodeToString(d[:8])
}

// One test with parts, because the parts of a process share what the package
// remembers about the keyring.
func TestReal(t *testing.T) {
	mode := realMode(t)
	switch mode {
	case "changing":
		testChanging(t)
		return
	case "keepassxc-autosave":
		testCrash(t)
		return
	}
	if !works(mode) {
		testMisbehaviour(t, mode)
		return
	}
	t.Run("processes", func(t *testing.T) {
		if mode == "slow" {
			return // one process is enough to see that it is borne with
		}
		var place atomic.Value
		storagetest.RunProcesses(t, "", func(t *testing.T, location string) storagetest.Store {
			place.Store(location)
			s, err := keyring.NewStore(serviceAt(location), keyring.Options{LockDir: location})
			if err != nil {
				t.Fatal(err)
			}
			return s
		})
		removeAll(t, place.Load().(string), "count", "held", "saved")
	})
	t.Run("probe", func(t *testing.T) {
		if err := keyring.Probe(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("store", func(t *testing.T) {
		if mode == "slow" {
			testRoundTrip(t)
			return
		}
		storagetest.Run(t, func(t *testing.T) storagetest.Store { return realStore(t) })
	})
	t.Run("key", testRealKey)
	t.Run("callers", func(t *testing.T) { testCallers(t, mode) })
}

// testCallers has a hundred callers at a time. KeePassXC gives them each
// other's answers, and other services leave them waiting, if their calls meet.
func testCallers(t *testing.T, mode string) {
	const callers = 100
	if mode == "slow" {
		return // the line would be minutes long
	}
	stores := []*keyring.Store{realStore(t), realStore(t), realStore(t)}
	var wg sync.WaitGroup
	for i := range callers {
		s, key, want := stores[i%len(stores)], fmt.Sprint("caller ", i), bytesOf(i, 300)
		wg.Go(func() {
			if err := s.Save(context.Background(), key, want); err != nil {
				t.Errorf("Save: %v", err)
				return
			}
			if got, err := s.Load(context.Background(), key); err != nil || !bytes.Equal(got, want) {
				t.Errorf("Load: %d bytes that are right: %v, %v", len(got), bytes.Equal(got, want), err)
			}
			if err := s.Delete(context.Background(), key); err != nil {
				t.Errorf("Delete: %v", err)
			}
		})
	}
	wg.Wait()
	figures.Record(t, "keyrings.callers."+mode, fmt.Sprint(callers))
}

// testCrash writes until the keyring crashes, or has had its chance: each call
// ends, with an error that does not say that nothing is stored.
func testCrash(t *testing.T) {
	s, before := realStore(t), runtime.NumGoroutine()
	value, failed := bytesOf(1, 4*keyring.ItemLimit), 0
	for i := 0; i < 30 && failed < 1000; i++ {
		key := fmt.Sprint(i)
		err := s.Save(t.Context(), key, value)
		for ; err != nil && failed < 1000; failed++ {
			if !errors.Is(err, keyring.ErrUnavailable) && !errors.Is(err, keyring.ErrTimeout) {
				t.Fatalf("Save: %v", err)
			}
			if _, err = s.Load(t.Context(), key); err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("Load once it has crashed: %v", err)
			}
		}
	}
	t.Logf("it has crashed: %v", failed > 0)
	wantsNoGrowth(t, before)
}

// realStore returns a store that is empty.
func realStore(t *testing.T) *keyring.Store {
	dir := t.TempDir()
	s, err := keyring.NewStore(serviceAt(dir), keyring.Options{LockDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// removeAll deletes what a test has left in the keyring.
func removeAll(t *testing.T, place string, keys ...string) {
	t.Helper()
	s, err := keyring.NewStore(serviceAt(place), keyring.Options{LockDir: place})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if err := s.Delete(t.Context(), key); err != nil {
			t.Errorf("Delete(%q): %v", key, err)
		}
	}
}

func testRoundTrip(t *testing.T) {
	s := realStore(t)
	for _, n := range []int{100, keyring.ItemLimit * 2, 0} {
		save(t, s, "k", bytesOf(1, n))
		wants(t, s, "k", bytesOf(1, n))
	}
	if err := s.Delete(t.Context(), "k"); err != nil {
		t.Errorf("Delete: %v", err)
	}
	wants(t, s, "k", nil)
}

func testRealKey(t *testing.T) {
	locks, files := t.TempDir(), canary.Dir(t)
	open := func() *storage.File {
		s, err := storage.NewFile(files, keyring.NewKey(serviceAt(locks), keyring.Options{LockDir: locks}))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if err := open().Save(t.Context(), "k", []byte("a session")); err != nil {
		t.Fatalf("Save under a key in the keyring: %v", err)
	}
	if got, err := open().Load(t.Context(), "k"); err != nil || string(got) != "a session" {
		t.Errorf("Load under a key in the keyring: %q, %v", got, err)
	}
}

// A keyring that answers has a deadline that no busy machine overruns; one that
// does not answer everything has one that can be waited for.
const (
	amply   = 30 * time.Second
	shortly = 3 * time.Second
)

// misbehaviour says what a keyring that does not work must come to.
var misbehaviour = map[string]struct {
	probe, load, save, delete error // nil: none; errAny: of no kind
	prompted                  error // of a Load that may prompt, after all that
}{
	"none":                  {keyring.ErrUnavailable, keyring.ErrUnavailable, keyring.ErrUnavailable, keyring.ErrUnavailable, keyring.ErrUnavailable},
	"no-bus":                {keyring.ErrUnavailable, keyring.ErrUnavailable, keyring.ErrUnavailable, keyring.ErrUnavailable, keyring.ErrUnavailable},
	"no-login":              {keyring.ErrUnavailable, keyring.ErrUnavailable, keyring.ErrUnavailable, keyring.ErrUnavailable, keyring.ErrUnavailable},
	"locked":                {keyring.ErrLocked, keyring.ErrLocked, keyring.ErrLocked, keyring.ErrLocked, keyring.ErrLocked},
	"locked-unlocks":        {keyring.ErrLocked, keyring.ErrLocked, keyring.ErrLocked, keyring.ErrLocked, fs.ErrNotExist},
	"prompt-never":          {keyring.ErrLocked, keyring.ErrLocked, keyring.ErrLocked, keyring.ErrLocked, keyring.ErrTimeout},
	"item-prompt-dismiss":   {nil, fs.ErrNotExist, keyring.ErrLocked, keyring.ErrLocked, keyring.ErrLocked},
	"item-prompt-never":     {nil, fs.ErrNotExist, keyring.ErrTimeout, keyring.ErrTimeout, keyring.ErrTimeout},
	"is-locked":             {nil, fs.ErrNotExist, keyring.ErrLocked, keyring.ErrLocked, keyring.ErrLocked},
	"drop":                  {keyring.ErrTimeout, keyring.ErrTimeout, keyring.ErrTimeout, keyring.ErrTimeout, keyring.ErrTimeout},
	"drop-items":            {keyring.ErrTimeout, keyring.ErrTimeout, keyring.ErrTimeout, keyring.ErrTimeout, keyring.ErrTimeout},
	"quit":                  {nil, fs.ErrNotExist, keyring.ErrUnavailable, keyring.ErrUnavailable, keyring.ErrUnavailable},
	"bus-dies":              {nil, fs.ErrNotExist, keyring.ErrUnavailable, keyring.ErrUnavailable, keyring.ErrUnavailable},
	"delete-prompt-dismiss": {nil, fs.ErrNotExist, nil, keyring.ErrLocked, keyring.ErrLocked},
	"wrong-value":           {nil, fs.ErrNotExist, errAny, errAny, errAny},
	"two-collections":       {nil, fs.ErrNotExist, nil, nil, nil},
}

var errAny = errors.New("any error that is of no kind")

// wantsKind fails the test unless err is of the kind, and of no other.
func wantsKind(t *testing.T, what string, err, kind error) {
	t.Helper()
	canary.Shown(t, what, err)
	if (err == nil) != (kind == nil) {
		t.Errorf("%s: %v, want %v", what, err, kind)
	}
	for _, k := range kinds {
		if got := errors.Is(err, k); got != (k == kind) {
			t.Errorf("%s: %q matches %q: %v", what, err, k, got)
		}
	}
}

func testMisbehaviour(t *testing.T, mode string) {
	want, ok := misbehaviour[mode]
	if !ok {
		t.Fatalf("%s=%q is not known", realEnv, mode)
	}
	if _, err := os.Stat("/run/user/" + strconv.Itoa(os.Getuid()) + "/bus"); mode == "no-bus" && err == nil {
		t.Skip("the user of this test has a session bus at its well-known place: run it as a user without one")
	}
	dir := t.TempDir()
	options := keyring.Options{LockDir: dir, Timeout: amply}
	for _, err := range []error{want.probe, want.load, want.save, want.delete, want.prompted} {
		if err == keyring.ErrTimeout {
			options.Timeout = shortly
		}
	}
	s, err := keyring.NewStore(serviceAt(dir), options)
	if err != nil {
		t.Fatal(err)
	}
	wantsKind(t, "Probe", keyring.Probe(t.Context(), options), want.probe)
	_, err = s.Load(t.Context(), "k")
	wantsKind(t, "Load", err, want.load)
	wantsKind(t, "Save", s.Save(t.Context(), "k", []byte("a session")), want.save)
	wantsKind(t, "Delete", s.Delete(t.Context(), "k"), want.delete)

	before := runtime.NumGoroutine()
	for range 1000 {
		if s.Save(t.Context(), "k", []byte("another session")) == nil && want.save != nil {
			t.Fatal("Save succeeded")
		}
	}
	wantsNoGrowth(t, before)

	options.Prompt = true
	s, err = keyring.NewStore(serviceAt(dir), options)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Load(context.Background(), "k")
	wantsKind(t, "Load that may prompt", err, want.prompted)
}
