//go:build (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd

package keyring_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/internal/figures"
	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/storage"
)

// change is what a Secret Service that changes to a mode must make of items
// that are there.
type change struct {
	mode               string
	load, save, delete error // nil: none; errAny: of no kind; errCorrupt: damage
	key                error // of the first use of a Key; errCorrupt counts as errAny
}

var errCorrupt = errors.New("an error with a method Corrupt")

var changes = []change{
	{"locked", keyring.ErrLocked, keyring.ErrLocked, keyring.ErrLocked, keyring.ErrLocked},
	{"locked-midway", keyring.ErrLocked, keyring.ErrLocked, keyring.ErrLocked, keyring.ErrLocked},
	{"locked-midway-never", keyring.ErrTimeout, keyring.ErrTimeout, keyring.ErrTimeout, keyring.ErrTimeout},
	{"read-is-locked", keyring.ErrLocked, keyring.ErrLocked, keyring.ErrLocked, keyring.ErrLocked},
	{"is-locked", nil, keyring.ErrLocked, nil, nil},
	{"item-prompt-dismiss", keyring.ErrLocked, keyring.ErrLocked, nil, keyring.ErrLocked},
	{"item-prompt-never", keyring.ErrTimeout, keyring.ErrTimeout, nil, keyring.ErrTimeout},
	{"prompt-nonsense", errAny, errAny, nil, errAny},
	{"delete-prompt-dismiss", nil, nil, keyring.ErrLocked, nil},
	{"delete-prompt-never", nil, nil, keyring.ErrTimeout, nil},
	{"write-lost", nil, errAny, nil, nil}, // the old value is still there
	{"write-fails", nil, errAny, nil, nil},
	{"fails", errAny, errAny, errAny, errAny},
	{"late", keyring.ErrTimeout, keyring.ErrTimeout, keyring.ErrTimeout, keyring.ErrTimeout},
	{"drop", keyring.ErrTimeout, keyring.ErrTimeout, keyring.ErrTimeout, keyring.ErrTimeout},
	{"drop-items", keyring.ErrTimeout, keyring.ErrTimeout, keyring.ErrTimeout, keyring.ErrTimeout},
	{"vanish", keyring.ErrUnavailable, keyring.ErrUnavailable, keyring.ErrUnavailable, keyring.ErrUnavailable},
	{"no-login", keyring.ErrUnavailable, keyring.ErrUnavailable, keyring.ErrUnavailable, keyring.ErrUnavailable},
	{"nonsense", errAny, errAny, errAny, errAny},
	{"wrong-value", errCorrupt, errAny, nil, errAny},
	{"empty-value", errCorrupt, errAny, nil, errAny},
	{"cut-value", errCorrupt, errAny, nil, errAny},
	{"other-value", errCorrupt, errAny, nil, errAny},
	{"wrong-item", errAny, errAny, errAny, errAny},
	{"forgets-collection", errAny, errAny, errAny, errAny},
	{"forgets", fs.ErrNotExist, keyring.ErrLocked, nil, fs.ErrNotExist},
}

// What is stored before the change, and what is saved after it.
const oldSession, newSession = "the old session", "the new session"

// soonUp is the deadline of calls to a service that is to exceed it.
const soonUp = 500 * time.Millisecond

// changing is a Secret Service that changes its mode.
type changing struct {
	t       *testing.T
	control *secretService

	mu    sync.Mutex // guards gates
	gates []*keyring.Gate
}

func (c *changing) mode(mode string) {
	c.t.Helper()
	call := c.control.conn.Object("test.FakeSecrets", "/test/FakeSecrets").Call("test.FakeSecrets.Mode", 0, mode)
	if call.Err != nil {
		c.t.Fatal(call.Err)
	}
}

// gate returns one as a new process has it.
func (c *changing) gate() *keyring.Gate {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := keyring.NewSystemGate()
	c.gates = append(c.gates, g)
	return g
}

// passPauses lets the pauses of all gates pass.
func (c *changing) passPauses() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range c.gates {
		g.PassPause()
	}
}

// testChanging has a Secret Service change, and change back, in the life of a
// process.
func testChanging(t *testing.T) {
	conn, err := dbus.ConnectSessionBus()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	failures := 0
	for _, ch := range changes {
		c := &changing{t: t, control: &secretService{t: t, conn: conn}}
		t.Run(ch.mode, func(t *testing.T) {
			c.t = t
			t.Run("errors", func(t *testing.T) { failures += c.testErrors(t, ch) })
			for _, kind := range []string{"Store", "File"} {
				t.Run("session in a "+kind, func(t *testing.T) { c.testSession(t, ch, kind) })
			}
		})
	}
	figures.Record(t, "keyrings.modes", fmt.Sprint(len(changes)))
	figures.Record(t, "keyrings.failing", fmt.Sprint(failures))
	figures.Record(t, "keyrings.goroutines", "0") // or it has failed
	figures.Record(t, "keyrings.sessions", fmt.Sprint(2*len(changes)))
	figures.Record(t, "keyrings.longest", longest.Round(10*time.Millisecond).String())
}

// longest is how long a call has taken that was not answered, its waits for the
// locks included.
var longest time.Duration

// wantsAnswer fails the test unless err is what it must be, and came in time.
func wantsAnswer(t *testing.T, what string, err, want error, began time.Time) {
	t.Helper()
	if took := time.Since(began); took > amply {
		t.Errorf("%s took %v", what, took)
	} else if errors.Is(err, keyring.ErrTimeout) {
		longest = max(longest, took)
	}
	if want != errCorrupt {
		wantsKind(t, what, err, want)
		return
	}
	wantsKind(t, what, err, errAny)
	var c corrupt
	if !errors.As(err, &c) || !c.Corrupt() {
		t.Errorf("%s: %v, want damage", what, err)
	}
}

// testErrors makes every call fail, a thousand times over, and has the service
// recover. It returns how often a call has failed.
func (c *changing) testErrors(t *testing.T, ch change) (failures int) {
	dir := t.TempDir()
	service, options := serviceAt(dir), keyring.Options{LockDir: dir, Timeout: amply}
	for _, err := range []error{ch.load, ch.save, ch.delete} {
		if err == keyring.ErrTimeout {
			options.Timeout = soonUp
		}
	}
	open := func() *keyring.Store {
		s, err := c.gate().NewStore(keyring.ItemLimit, service, options)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	c.mode("ok")
	for _, k := range []string{"k", "deleted", "thousand", "deleted a thousand times"} {
		save(t, open(), k, []byte(oldSession))
	}
	save(t, open(), "another", []byte("another session"))
	key, _, err := c.gate().NewKey(service, options).New(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	c.mode(ch.mode)
	c.testEach(t, ch, open, func() *keyring.Key { return c.gate().NewKey(service, options) }, key)
	failures = c.testThousand(t, ch, service, options)
	c.mode("ok")
	c.passPauses()
	wantsOneOf(t, open(), "k", oldSession, newSession)
	wants(t, open(), "another", []byte("another session"))
	if got, err := c.gate().NewKey(service, options).Get(t.Context(), nil); err != nil || !bytes.Equal(got, key) {
		t.Errorf("the key has changed, or is lost: %v", err)
	}
	for _, k := range []string{"k", "another", "deleted", "thousand", "deleted a thousand times"} {
		if err := open().Delete(t.Context(), k); err != nil {
			t.Errorf("Delete(%q) once it works again: %v", k, err)
		}
	}
	return failures
}

// testEach makes each call once, as a process of its own: of the old session and
// of key, which are there.
func (c *changing) testEach(t *testing.T, ch change, open func() *keyring.Store, openKey func() *keyring.Key, key []byte) {
	ctx := t.Context()
	began := time.Now()
	got, err := open().Load(ctx, "k")
	wantsAnswer(t, "Load", err, ch.load, began)
	if err == nil && string(got) != oldSession {
		t.Errorf("Load took %q for the session", got)
	}
	began = time.Now()
	got, err = openKey().Get(ctx, nil)
	wantsAnswer(t, "Get of the key", err, ch.key, began)
	if err == nil && !bytes.Equal(got, key) {
		t.Error("Get took something else for the key")
	}
	began = time.Now()
	wantsAnswer(t, "Save", open().Save(ctx, "k", []byte(newSession)), ch.save, began)
	if ch.delete != nil {
		began = time.Now()
		wantsAnswer(t, "Delete", open().Delete(ctx, "deleted"), ch.delete, began)
	}
	if ch.mode == "forgets" {
		return // it says twice that there is no key
	}
	began = time.Now()
	made, _, err := openKey().New(ctx)
	wantsAnswer(t, "New of the key", err, ch.key, began)
	if err == nil && !bytes.Equal(made, key) {
		t.Error("New made another key over that which is there")
	}
}

// wantsOneOf fails the test unless one of the values is stored, whole.
func wantsOneOf(t *testing.T, s *keyring.Store, key string, values ...string) {
	t.Helper()
	got, err := s.Load(t.Context(), key)
	for _, want := range values {
		if err == nil && string(got) == want {
			return
		}
	}
	t.Errorf("Load(%q): %q, %v", key, got, err)
}

// testThousand makes calls until a thousand have failed, in one process: no
// goroutine is left by that. The items are not those that calls which hang have
// locked.
func (c *changing) testThousand(t *testing.T, ch change, service string, options keyring.Options) (failures int) {
	g := c.gate()
	k := g.NewKey(service, options)
	s, err := g.NewStore(keyring.ItemLimit, service, options)
	if err != nil {
		t.Fatal(err)
	}
	calls := []func() error{
		func() error { _, err := s.Load(t.Context(), "thousand"); return err },
		func() error { return s.Save(t.Context(), "thousand", fmt.Appendf(nil, "session %d", failures)) },
		func() error { return s.Delete(t.Context(), "deleted a thousand times") },
		func() error { _, err := k.Get(t.Context(), nil); return err },
	}
	for i, want := range []error{ch.load, ch.save, ch.delete, ch.key} {
		if want == nil || want == fs.ErrNotExist {
			calls[i] = nil
		}
	}
	before := runtime.NumGoroutine()
	for i := 0; failures < 1000; i++ {
		call := calls[i%len(calls)]
		if call == nil {
			continue
		}
		if err := call(); err == nil {
			t.Fatalf("call %d of kind %d succeeded", i, i%len(calls))
		}
		if failures++; failures == 1 { // a call that hangs has its goroutines, once
			before = max(before, runtime.NumGoroutine())
		}
	}
	wantsNoGrowth(t, before)
	return failures
}

// testSession has a session survive the change, and the change back.
func (c *changing) testSession(t *testing.T, ch change, kind string) {
	locks, files := t.TempDir(), canary.Dir(t)
	service, options := serviceAt(locks), keyring.Options{LockDir: locks, Timeout: soonUp}
	open := func() freshtoken.Store {
		if kind == "Store" {
			s, err := c.gate().NewStore(keyring.ItemLimit, service, options)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		s, err := storage.NewFile(files, c.gate().NewKey(service, options))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	c.mode("ok")
	if err := open().Save(t.Context(), "another", []byte("another session")); err != nil {
		t.Fatal(err)
	}
	(&ordeal{t: t, open: open, trouble: trouble{
		begin: func() { c.mode(ch.mode) },
		end:   func() { c.mode("ok"); c.passPauses() },
		deaf:  ch.mode == "forgets",
	}, elapse: func() {
		c.passPauses()
		timer := time.NewTimer(200 * time.Millisecond) // a retry is due sooner or later
		defer timer.Stop()
		<-timer.C
	}}).run()
}
