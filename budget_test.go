package freshtoken_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// The budget for refreshes that only a rejection asks for, where others are at
// it.

// exhaust uses it up: the next rejection is not believed.
func exhaust(t *testing.T, src *freshtoken.Source) {
	t.Helper()
	for range 5 {
		if _, err := src.Refresh(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
}

// Who wants any token while a rejection is looked into gets the one that there
// is, if the rejection is not believed: it was another one who complained.
func TestDisbeliefIsNoOthersError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		f := w.faults()
		src := w.loggedIn()
		exhaust(t, src)
		f.set(func(f *faulty) { f.load = func() error { time.Sleep(time.Second); return nil } })
		complaint := make(chan error, 1)
		go func() {
			_, err := src.Refresh(context.Background(), nil)
			complaint <- err
		}()
		time.Sleep(time.Second / 2)
		w.usable(src)
		if e := refreshError(t, <-complaint); e.RetryAfter == 0 {
			t.Errorf("the complaint got %v", e)
		}
	})
}

// A budget that a process has used up whose clock is far ahead grows for others,
// too: a token that has died is not in use for ever.
func TestBudgetOfAFastClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: 10 * time.Minute})
		src := w.loggedIn()
		exhaust(t, src)
		w.restore(string(shiftTimes([]byte(w.stored()), 30*24*time.Hour)))
		time.Sleep(9 * time.Minute)
		other := w.source()
		tok := w.token(other)
		time.Sleep(2 * time.Minute)
		wasted, tries := w.posts(), 0
		for tries = 1; tries < 10; tries++ {
			if _, err := other.Refresh(t.Context(), tok); err == nil {
				break
			}
			time.Sleep(30 * time.Second)
		}
		if tries > 4 {
			t.Errorf("a refresh took %d tries", tries)
		}
		w.usable(other)
		w.wantPosts(wasted + 1)
	})
}
