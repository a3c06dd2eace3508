package keyring_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken/keyring"
)

// A screen that is locked for a night declines every prompt. Who comes back and
// unlocks the keyring need not wait for the pause, and starts with a clean slate.
func TestUnlockEndsThePauseOfTheCheck(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		locked, asked := false, 0
		gate := keyring.NewGate(newFake(), func(_ context.Context, prompt bool) error {
			if !locked {
				return nil
			}
			if prompt {
				asked++
			}
			return keyring.NewFailure(keyring.ErrLocked, nil)
		})
		s, err := gate.NewStore(limit, "app", keyring.Options{Prompt: true, LockDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		save(t, s, "k", bytesOf(1, 10))
		for range 2 {
			locked, asked = true, 0
			for range 8 * 60 { // a night
				_, err := s.Load(t.Context(), "k")
				wantsError(t, err, keyring.ErrLocked)
				time.Sleep(time.Minute)
			}
			if asked < 10 || asked > 20 {
				t.Errorf("in a night the prompt came %d times", asked)
			}
			locked = false
			wants(t, s, "k", bytesOf(1, 10)) // at once
			// A read makes the next refusal a first one.
			locked = true
			_, err := s.Load(t.Context(), "k")
			wantsError(t, err, keyring.ErrLocked)
			asked = 0
			time.Sleep(10 * time.Second)
			_, err = s.Load(t.Context(), "k")
			wantsError(t, err, keyring.ErrLocked)
			if asked != 1 {
				t.Errorf("ten seconds after the first refusal the prompt came %d times, want once", asked)
			}
			locked = false
			wants(t, s, "k", bytesOf(1, 10))
		}
	})
}

// Neither a check that passes nor an unlock forgives a refusal that came after
// a check that had passed.
func TestPassingChecksForgiveNoOtherRefusal(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		gate := keyring.NewGate(f, nil)
		s, err := gate.NewStore(limit, "app", keyring.Options{Prompt: true, LockDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		deaf := func(c fakeCall, do func() (string, error)) (string, error) {
			if c.op == "set" {
				return "", nil
			}
			return do()
		}
		f.setHook(deaf)
		for _, pause := range []time.Duration{10 * time.Second, 20 * time.Second} {
			wantsError(t, s.Save(t.Context(), "k", bytesOf(1, 10)), keyring.ErrLocked)
			f.setHook(deaf)
			time.Sleep(pause - time.Second)
			_, err := s.Load(t.Context(), "k")
			wantsError(t, err, keyring.ErrLocked)
			if f.ops() != "" {
				t.Errorf("during the pause of %v: %s", pause, f.ops())
			}
			time.Sleep(time.Second)
			wants(t, s, "k", nil)
		}
	})
}
