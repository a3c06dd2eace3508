package freshtoken

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// freshView is a view of a token that is due in an hour.
func freshView() *view {
	now := time.Now()
	return &view{facts: facts{issued: now.UnixNano(), base: now, freshUntil: time.Hour}}
}

// A token is taken the short way until it is due and not for a nanosecond more,
// however often somebody looks, and whichever clock tells.
func TestFresh(t *testing.T) {
	for _, every := range []time.Duration{glimpse / 3, glimpse - 1, glimpse, 7 * glimpse, time.Minute} {
		inBubble(t, "looked at every "+every.String(), func(t *testing.T) {
			v, due := freshView(), time.Now().Add(time.Hour)
			wantFresh(t, v, true)
			time.Sleep(time.Hour - time.Second)
			for left := time.Until(due); left > 0; left = time.Until(due) {
				wantFresh(t, v, true)
				time.Sleep(min(every, left))
			}
			wantFresh(t, v, false)
		})
	}
	inBubble(t, "the machine sleeps, and the monotonic clock stands still", func(t *testing.T) {
		v := freshView()
		wantFresh(t, v, true)
		v.issued -= int64(2 * time.Hour)
		time.Sleep(glimpse)
		wantFresh(t, v, false)
	})
	inBubble(t, "the clock is set back a day", func(t *testing.T) {
		v := freshView()
		wantFresh(t, v, true)
		v.issued += int64(day)
		time.Sleep(time.Hour - 1)
		wantFresh(t, v, true)
		time.Sleep(time.Nanosecond)
		wantFresh(t, v, false)
	})
	inBubble(t, "read from a store half-way", func(t *testing.T) {
		v := freshView()
		v.issued -= int64(time.Hour / 2)
		time.Sleep(time.Hour/2 - glimpse/2)
		wantFresh(t, v, true)
		time.Sleep(glimpse/2 - 1)
		wantFresh(t, v, true)
		time.Sleep(time.Nanosecond)
		wantFresh(t, v, false)
	})
	inBubble(t, "what is changed is looked at anew", func(t *testing.T) {
		v := freshView()
		wantFresh(t, v, true)
		dead := &view{facts: v.facts}
		dead.rejected, dead.freshUntil = true, 0
		wantFresh(t, dead, false)
	})
	inBubble(t, "there is no token", func(t *testing.T) {
		wantFresh(t, &view{facts: facts{err: ErrClosed}}, false)
		wantFresh(t, &view{}, false)
	})
}

func wantFresh(t *testing.T, v *view, want bool) {
	t.Helper()
	if v.fresh() != want {
		t.Errorf("fresh: %v, want %v", !want, want)
	}
}

func inBubble(t *testing.T, name string, f func(*testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// A program that lives for ever remembers the last Logouts, and no more.
func TestLogoutsAreRemembered(t *testing.T) {
	var turn inTurn
	note := func(n int) *record { return &record{ID: fmt.Sprint(n), Ended: &ending{LoggedOut: true}} }
	for n := range 3 * maxLogouts {
		turn.remember(note(n))
		turn.remember(note(0)) // which is seen again and again
	}
	if len(turn.logouts) != maxLogouts {
		t.Errorf("there are %d", len(turn.logouts))
	}
	for _, n := range []int{0, 3*maxLogouts - 1, 2*maxLogouts + 1} {
		if turn.logout(fmt.Sprint(n)) == nil {
			t.Errorf("number %d is forgotten", n)
		}
	}
}
