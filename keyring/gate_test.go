package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	gokeyring "github.com/zalando/go-keyring"

	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/keyring"
)

// hang makes calls for which on says so wait until released is closed.
func hang(released <-chan struct{}, on func(fakeCall) bool) func(fakeCall, func() (string, error)) (string, error) {
	return func(c fakeCall, do func() (string, error)) (string, error) {
		if on(c) {
			<-released
		}
		return do()
	}
}

func always(fakeCall) bool     { return true }
func writing(c fakeCall) bool  { return c.op == "set" }
func deleting(c fakeCall) bool { return c.op == "delete" }

// took fails the test unless exactly d of the bubble's time has passed since.
func took(t *testing.T, since time.Time, d time.Duration) {
	t.Helper()
	if got := time.Since(since); got != d {
		t.Errorf("that took %v, want %v", got, d)
	}
}

func TestMain(m *testing.M) {
	canary.MarkRandom()
	os.Exit(m.Run())
}

func wantsError(t *testing.T, err, target error) {
	t.Helper()
	canary.Shown(t, "an error", err)
	if !errors.Is(err, target) {
		t.Errorf("the error is %v, want one that matches %v", err, target)
	}
	if target != fs.ErrNotExist && errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v reads as absent", err)
	}
}

func TestHungCallTimesOutAndHoldsTheGate(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f, released := newFake(), make(chan struct{})
		s := openStore(t, f, dir)
		save(t, s, "k", bytesOf(1, 10))
		f.setHook(hang(released, always))

		start := time.Now()
		_, err := s.Load(t.Context(), "k")
		wantsError(t, err, keyring.ErrTimeout)
		took(t, start, 3*time.Second)
		if errors.Is(err, context.DeadlineExceeded) {
			t.Error("the keyring's deadline reads as the caller's")
		}
		for range 1000 {
			_, err = s.Load(t.Context(), "k")
			wantsError(t, err, keyring.ErrTimeout)
		}
		took(t, start, 3*time.Second)
		time.Sleep(time.Hour) // the pause is long over, the call is not
		_, err = s.Load(t.Context(), "k")
		wantsError(t, err, keyring.ErrTimeout)
		if !strings.Contains(err.Error(), "restart this program") {
			t.Errorf("of a call that never returns this is said: %v", err)
		}
		if f.ops() != "get" {
			t.Errorf("while a call hung these were made: %s", f.ops())
		}

		close(released)
		synctest.Wait()
		wants(t, s, "k", bytesOf(1, 10)) // it answers, so it is asked at once
	})
}

// A person who unlocks the keyring a second too late need not wait any longer.
func TestLateAnswerOpensTheGate(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := openStore(t, f, dir)
		f.setHook(func(_ fakeCall, do func() (string, error)) (string, error) {
			time.Sleep(4 * time.Second)
			return do()
		})
		_, err := s.Load(t.Context(), "k")
		wantsError(t, err, keyring.ErrTimeout)
		f.setHook(nil)
		time.Sleep(time.Second)
		synctest.Wait()
		save(t, s, "k", bytesOf(1, 10))
	})
}

func TestPauseAfterATimeoutThatEndsInAnError(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := openStore(t, f, dir)
		save(t, s, "k", bytesOf(1, 10))
		f.setHook(func(fakeCall, func() (string, error)) (string, error) {
			time.Sleep(4 * time.Second)
			return "", errDown
		})
		_, err := s.Load(t.Context(), "k")
		wantsError(t, err, keyring.ErrTimeout)
		f.setHook(nil)
		time.Sleep(5 * time.Second)
		_, err = s.Load(t.Context(), "k")
		wantsError(t, err, keyring.ErrTimeout)
		time.Sleep(5 * time.Second) // ten since the timeout
		wants(t, s, "k", bytesOf(1, 10))
	})
}

func TestTimeoutIsSetByOptions(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s, err := keyring.NewGate(f, nil).NewStore(limit, "app", keyring.Options{Timeout: time.Minute, LockDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		f.setHook(func(_ fakeCall, do func() (string, error)) (string, error) {
			time.Sleep(59 * time.Second)
			return do()
		})
		start := time.Now()
		save(t, s, "k", bytesOf(1, 10))
		took(t, start, 3*59*time.Second) // each call has its own deadline
	})
}

// However many wait, the call that hangs is the only one that waits in vain.
func TestWaitersAreSentAwayWhenACallHangs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f, released := newFake(), make(chan struct{})
		s := openStore(t, f, dir)
		f.setHook(hang(released, always))
		start := time.Now()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				_, err := s.Load(context.Background(), "k")
				wantsError(t, err, keyring.ErrTimeout)
				took(t, start, 3*time.Second)
			})
		}
		wg.Wait()
		if f.ops() != "get" {
			t.Errorf("the calls were %q, want one", f.ops())
		}
		close(released)
	})
}

// Writers of one session wait for each other, and are sent away like others.
func TestWritersAreSentAwayWhenACallHangs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f, released := newFake(), make(chan struct{})
		s := openStore(t, f, dir)
		f.setHook(hang(released, writing))
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				wantsError(t, s.Save(context.Background(), "k", bytesOf(i, 10)), keyring.ErrTimeout)
				if d := time.Since(start); d > 7*time.Second {
					t.Errorf("a writer was sent away after %v", d)
				}
			})
		}
		wg.Wait()
		if got := f.ops(); got != "get set" {
			t.Errorf("the calls were %q", got)
		}
		close(released)
	})
}

// A long line before a keyring that is slow but answers times nobody out.
func TestLineBeforeASlowKeyring(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := openStore(t, f, dir)
		f.setHook(func(_ fakeCall, do func() (string, error)) (string, error) {
			time.Sleep(2 * time.Second)
			return do()
		})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				_, err := s.Load(context.Background(), "k")
				wantsError(t, err, fs.ErrNotExist)
			})
		}
		wg.Wait()
	})
}

func TestContextEndsACallAtOnce(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f, released := newFake(), make(chan struct{})
		s := openStore(t, f, dir)
		f.setHook(hang(released, always))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		for name, call := range map[string]func(context.Context) error{
			"Load":   func(ctx context.Context) error { _, err := s.Load(ctx, "k"); return err },
			"Save":   func(ctx context.Context) error { return s.Save(ctx, "k", nil) },
			"Delete": func(ctx context.Context) error { return s.Delete(ctx, "k") },
			"Lock":   func(ctx context.Context) error { <-ctx.Done(); _, err := s.Lock(ctx, "k"); return err },
		} {
			if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, keyring.ErrTimeout) {
				t.Errorf("%s: %v, want the context's own error", name, err)
			}
		}
		took(t, start, time.Second)
		close(released)
	})
}

// A write that was given up keeps both locks until it has returned; what it
// wrote is then there.
func TestAbandonedWriteKeepsTheLocks(t *testing.T) {
	for name, do := range map[string]struct {
		hung func(fakeCall) bool
		call func(context.Context, *keyring.Store) error
		want []byte
	}{
		"Save":   {writing, func(ctx context.Context, s *keyring.Store) error { return s.Save(ctx, "k", bytesOf(2, 10)) }, bytesOf(2, 10)},
		"Delete": {deleting, func(ctx context.Context, s *keyring.Store) error { return s.Delete(ctx, "k") }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				f, released := newFake(), make(chan struct{})
				s := openStore(t, f, dir)
				save(t, s, "k", bytesOf(1, 10))
				unlock, err := s.Lock(t.Context(), "k")
				if err != nil {
					t.Fatal(err)
				}
				f.setHook(hang(released, do.hung))
				wantsError(t, do.call(t.Context(), s), keyring.ErrTimeout)
				wantsError(t, unlock(), keyring.ErrTimeout)
				start := time.Now()
				for range 1000 { // at once, though the lock is not free
					wantsError(t, s.Save(t.Context(), "k", nil), keyring.ErrTimeout)
				}
				took(t, start, 0)

				other := openStore(t, f, dir) // another process
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if _, err := other.Lock(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("another process took the lock while the write was under way: %v", err)
				}
				err = other.Save(t.Context(), "k", bytesOf(3, 10))
				wantsError(t, err, keyring.ErrTimeout)
				if unlock, err := other.Lock(t.Context(), "other key"); err != nil {
					t.Errorf("the lock of another key: %v", err)
				} else if err := unlock(); err != nil {
					t.Errorf("unlock of another key: %v", err)
				}

				close(released)
				synctest.Wait()
				unlock, err = other.Lock(t.Context(), "k")
				if err != nil {
					t.Fatalf("Lock once the write has returned: %v", err)
				}
				if err := unlock(); err != nil {
					t.Errorf("unlock: %v", err)
				}
				wants(t, other, "k", do.want)
				wants(t, s, "k", do.want)
			})
		})
	}
}

// An abandoned read changes nothing, and so keeps no lock.
func TestAbandonedReadKeepsNoLock(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f, released := newFake(), make(chan struct{})
		s := openStore(t, f, dir)
		unlock, err := s.Lock(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		f.setHook(hang(released, always))
		_, err = s.Load(t.Context(), "k")
		wantsError(t, err, keyring.ErrTimeout)
		if err := unlock(); err != nil {
			t.Errorf("unlock: %v", err)
		}
		close(released)
	})
}

// Success without an effect is what a dismissed prompt looks like.
func TestSuccessWithoutAnEffectIsARefusal(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := openStore(t, f, dir)
		save(t, s, "k", bytesOf(1, 10))
		deaf := func(c fakeCall, do func() (string, error)) (string, error) {
			if c.op == "get" {
				return do()
			}
			return "", nil
		}
		f.setHook(deaf)
		wantsError(t, s.Save(t.Context(), "new", bytesOf(2, 10)), keyring.ErrLocked)
		if got, want := f.ops(), "get set get"; got != want {
			t.Errorf("the calls were %q, want %q", got, want)
		}
		// Each refusal doubles the pause: nobody is asked without end.
		pause := 10 * time.Second
		for range 12 {
			f.setHook(deaf)
			for range 1000 {
				wantsError(t, s.Delete(t.Context(), "k"), keyring.ErrLocked)
			}
			time.Sleep(pause - time.Second)
			wantsError(t, s.Delete(t.Context(), "k"), keyring.ErrLocked)
			if ops := f.ops(); ops != "" {
				t.Fatalf("during the pause of %v these calls were made: %s", pause, ops)
			}
			time.Sleep(time.Second)
			wantsError(t, s.Delete(t.Context(), "k"), keyring.ErrLocked)
			if got, want := f.ops(), "get delete get"; got != want {
				t.Fatalf("after the pause of %v the calls were %q, want %q", pause, got, want)
			}
			pause = min(2*pause, keyring.PauseLast)
		}
		time.Sleep(keyring.PauseLast)
		f.setHook(nil)
		if err := s.Delete(t.Context(), "k"); err != nil {
			t.Fatalf("Delete once it is allowed: %v", err)
		}
		save(t, s, "k", bytesOf(3, 10))
		// What was allowed once makes the next refusal a first one.
		f.setHook(deaf)
		wantsError(t, s.Delete(t.Context(), "k"), keyring.ErrLocked)
		f.setHook(nil)
		time.Sleep(10 * time.Second)
		wants(t, s, "k", bytesOf(3, 10))
	})
}

func TestWhatIsReadBackDiffers(t *testing.T) {
	f := newFake()
	s := openStore(t, f, t.TempDir())
	written := false
	f.setHook(func(c fakeCall, do func() (string, error)) (string, error) {
		if c.op == "set" {
			written = true
		}
		if c.op == "get" && written {
			return "garbage", nil
		}
		return do()
	})
	err := s.Save(t.Context(), "k", bytesOf(1, 10))
	if err == nil {
		t.Fatal("Save reported success for a value that cannot be read back")
	}
	for _, kind := range kinds {
		if errors.Is(err, kind) {
			t.Errorf("%v matches %v", err, kind)
		}
	}
}

var kinds = []error{
	fs.ErrNotExist, keyring.ErrLocked, keyring.ErrUnavailable, keyring.ErrTooBig, keyring.ErrTimeout,
	context.Canceled, context.DeadlineExceeded,
}

// errorOfKind is an error of a keyring, and what it is to match; nil: nothing.
type errorOfKind struct{ err, kind error }

// Each error has its kind, and what looks like "no such file" is not absence.
func TestErrorsHaveOneKind(t *testing.T) {
	missing := &os.PathError{Op: "fork/exec", Path: "/usr/bin/security", Err: syscall.ENOENT}
	tests := []errorOfKind{
		{gokeyring.ErrNotFound, fs.ErrNotExist},
		{fmt.Errorf("wrapped: %w", gokeyring.ErrNotFound), fs.ErrNotExist},
		{gokeyring.ErrSetDataTooBig, keyring.ErrTooBig},
		{gokeyring.ErrUnsupportedPlatform, keyring.ErrUnavailable},
		{errors.New("something else"), nil},
		{context.DeadlineExceeded, nil}, // not the caller's
		{fmt.Errorf("odd: %w", fs.ErrNotExist), nil},
		{missing, nil},
	}
	if runtime.GOOS == "darwin" {
		tests[len(tests)-1].kind = keyring.ErrUnavailable
	}
	for _, tt := range append(tests, systemErrors...) {
		t.Run(tt.err.Error(), func(t *testing.T) {
			f := newFake()
			s := openStore(t, f, t.TempDir())
			f.setHook(func(fakeCall, func() (string, error)) (string, error) { return "", tt.err })
			_, err := s.Load(t.Context(), "k")
			if err == nil {
				t.Fatal("Load returned no error")
			}
			for _, kind := range kinds {
				if got := errors.Is(err, kind); got != (kind == tt.kind) {
					t.Errorf("%q matches %q: %v", err, kind, got)
				}
			}
		})
	}
}

// Before a keyring that the check rules out, nothing is called, nothing is
// leaked, and every answer is fresh.
func TestNothingIsCalledWhenTheCheckFails(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.ENOENT)}
	for _, kind := range []error{keyring.ErrLocked, keyring.ErrUnavailable, nil} {
		f, dir := newFake(), t.TempDir()
		verdict := keyring.NewFailure(kind, refused)
		gate := keyring.NewGate(f, func(context.Context, bool) error { return verdict })
		s, err := gate.NewStore(limit, "app", keyring.Options{LockDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		before := runtime.NumGoroutine()
		for range 1000 {
			_, err := s.Load(t.Context(), "k")
			if err == nil || errors.Is(err, fs.ErrNotExist) || (kind != nil && !errors.Is(err, kind)) {
				t.Fatalf("Load: %v, want %v", err, kind)
			}
		}
		if err := gate.Probe(t.Context(), keyring.Options{}); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Probe: %v", err)
		}
		wantsNoGrowth(t, before)
		if ops := f.ops(); ops != "" {
			t.Errorf("the keyring was called: %s", ops)
		}
		verdict = nil
		save(t, s, "k", bytesOf(1, 10)) // at once: nothing was in vain
	}
}

// wantsNoGrowth fails the test if more goroutines stay than there were.
func wantsNoGrowth(t *testing.T, before int) {
	t.Helper()
	// Those that have answered may still be on their way out.
	for patience := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(patience); {
		runtime.Gosched()
	}
	if after := runtime.NumGoroutine(); after > before {
		buf := make([]byte, 1<<16)
		t.Errorf("%d goroutines, there were %d:\n%s", after, before, buf[:runtime.Stack(buf, true)])
	}
}

func TestCheckIsToldWhetherItMayPrompt(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var asked int
		gate := keyring.NewGate(newFake(), func(_ context.Context, prompt bool) error {
			if prompt {
				asked++
			}
			return keyring.NewFailure(keyring.ErrLocked, nil)
		})
		if err := gate.Probe(t.Context(), keyring.Options{Prompt: true}); !errors.Is(err, keyring.ErrLocked) || asked != 0 {
			t.Errorf("Probe: %v, and asked the user %d times", err, asked)
		}
		s, err := gate.NewStore(limit, "app", keyring.Options{Prompt: true, LockDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			_, err := s.Load(t.Context(), "k")
			wantsError(t, err, keyring.ErrLocked)
		}
		if asked != 1 {
			t.Errorf("a user who declines was asked %d times within a moment", asked)
		}
		time.Sleep(10 * time.Second)
		_, err = s.Load(t.Context(), "k")
		wantsError(t, err, keyring.ErrLocked)
		if asked != 2 {
			t.Errorf("after the pause the user was asked %d times, want 2", asked)
		}
	})
}

// A check that hangs is bounded like a call, and no call follows it.
func TestHungCheck(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		gate := keyring.NewGate(f, func(ctx context.Context, _ bool) error {
			<-ctx.Done()
			return keyring.NewFailure(keyring.ErrTimeout, ctx.Err())
		})
		s, err := gate.NewStore(limit, "app", keyring.Options{LockDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for range 1000 {
			_, err := s.Load(t.Context(), "k")
			wantsError(t, err, keyring.ErrTimeout)
		}
		took(t, start, 3*time.Second)
		wantsError(t, gate.Probe(t.Context(), keyring.Options{}), keyring.ErrTimeout)
		if f.ops() != "" {
			t.Errorf("the keyring was called: %s", f.ops())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		time.Sleep(10 * time.Second)
		if _, err := s.Load(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Load whose context ends during the check: %v", err)
		}
	})
}

// An error says which of the calls of an operation it comes from.
func TestErrorsNameTheCall(t *testing.T) {
	for _, tt := range []struct {
		op, want string
		call     func(context.Context, *keyring.Store) error
	}{
		{"get", "keyring: reading: ", func(ctx context.Context, s *keyring.Store) error { return s.Save(ctx, "k", bytesOf(2, 10)) }},
		{"set", "keyring: writing: ", func(ctx context.Context, s *keyring.Store) error { return s.Save(ctx, "k", bytesOf(2, 10)) }},
		{"delete", "keyring: deleting: ", func(ctx context.Context, s *keyring.Store) error { return s.Delete(ctx, "k") }},
	} {
		for _, answer := range []error{errDown, gokeyring.ErrSetDataTooBig, nil} {
			if answer == nil && tt.op == "get" {
				continue // an empty text is no failure of the keyring
			}
			f := newFake()
			s := openStore(t, f, t.TempDir())
			save(t, s, "k", bytesOf(1, 10))
			f.setHook(func(c fakeCall, do func() (string, error)) (string, error) {
				if c.op == tt.op {
					return "", answer
				}
				return do()
			})
			err := tt.call(t.Context(), s)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("%s that returns %v: %v, want it to begin with %q", tt.op, answer, err, tt.want)
			}
		}
	}
}

func TestPanicOfTheClientIsAnError(t *testing.T) {
	f := newFake()
	s := openStore(t, f, t.TempDir())
	f.setHook(func(fakeCall, func() (string, error)) (string, error) { panic("secret") })
	_, err := s.Load(t.Context(), "k")
	if err == nil || errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "secret") {
		t.Errorf("Load with a client that panics: %v", err)
	}
	f.setHook(nil)
	save(t, s, "k", bytesOf(1, 10))
}

func TestProbe(t *testing.T) {
	f := newFake()
	gate := keyring.NewGate(f, nil)
	if err := gate.Probe(t.Context(), keyring.Options{}); err != nil {
		t.Errorf("Probe of a keyring that works: %v", err)
	}
	if f.ops() != "get" || len(f.accounts()) != 0 {
		t.Errorf("Probe made the calls %q and left %d items", f.ops(), len(f.accounts()))
	}
	f.setHook(down)
	if err := gate.Probe(t.Context(), keyring.Options{}); err == nil {
		t.Error("Probe of a keyring that fails returned nil")
	}
}

// Whoever else in the program waits for the keyring, and for how long, Probe does not.
func TestProbeReturnsInTime(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		gate := keyring.NewGate(f, nil)
		patient, err := gate.NewStore(limit, "app", keyring.Options{Timeout: time.Minute, LockDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		answered := make(chan struct{})
		f.setHook(func(_ fakeCall, do func() (string, error)) (string, error) {
			<-answered
			return do()
		})
		var asking sync.WaitGroup
		asking.Go(func() { patient.Load(context.Background(), "alice") })
		synctest.Wait()
		start := time.Now()
		err = gate.Probe(t.Context(), keyring.Options{LockDir: dir})
		if took := time.Since(start); took > 3*time.Second || !errors.Is(err, keyring.ErrTimeout) {
			t.Errorf("after %v: %v", took, err)
		}
		close(answered)
		asking.Wait()
	})
}

func TestServiceAndOptionsAreChecked(t *testing.T) {
	for _, service := range []string{"", "a b", "a:b", "a\nb", "ä", "a/b", "a\"b", strings.Repeat("a", 65)} {
		if _, err := keyring.NewStore(service); err == nil {
			t.Errorf("NewStore took the service %q", service)
		}
		if _, err := keyring.NewKey(service).Get(t.Context(), nil); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the key of service %q: %v", service, err)
		}
	}
	for name, options := range map[string][]keyring.Options{
		"two":                {{}, {}},
		"a negative timeout": {{Timeout: -1}},
	} {
		if _, err := keyring.NewStore("app", options...); err == nil {
			t.Errorf("NewStore took %s", name)
		}
		if _, _, err := keyring.NewKey("app", options...).New(t.Context()); err == nil {
			t.Errorf("NewKey took %s", name)
		}
		if err := keyring.Probe(t.Context(), options...); err == nil {
			t.Errorf("Probe took %s", name)
		}
	}
	if !keyring.Supported {
		if _, err := keyring.NewStore("app"); !errors.Is(err, keyring.ErrUnavailable) {
			t.Errorf("NewStore where there is no keyring: %v", err)
		}
	}
}

// A lock that cannot be had is an error that says what to do, and no absence.
func TestLockDirectoryThatCannotBeMade(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, newFake(), file+"/locks")
	_, err := s.Lock(t.Context(), "k")
	for name, err := range map[string]error{"Lock": err, "Save": s.Save(t.Context(), "k", nil), "Delete": s.Delete(t.Context(), "k")} {
		if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "Options.LockDir") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
