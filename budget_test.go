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
