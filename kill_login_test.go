package freshtoken_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/internal/figures"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// A program that has somebody log in is killed, wherever it is with that. Those
// that wait for it can go on at once: one of them has the person log in again, if
// the session was not stored yet.
func TestKillLogin(t *testing.T) {
	longest := time.Duration(0)
	for _, before := range []struct {
		name string
		do   func(*procWorld)
	}{
		{"nobody was logged in", func(*procWorld) {}},
		{"the session had ended", endSession},
	} {
		for _, plan := range []struct {
			hold   holdPoint
			logins int // of all programs
		}{
			{holdLocked, 1}, {holdBeforeMark, 1}, {holdAfterMark, 1}, {holdUnlocked, 1}, {holdBrowser, 1},
			{holdAnswered, 2}, // the first one is known to nobody
			{holdSaved, 1},
		} {
			t.Run(before.name+", "+string(plan.hold), func(t *testing.T) {
				w := newProcWorld(t, oauthtest.Options{}, procPlace{})
				before.do(w)
				victim := w.start(procOrder{Hold: plan.hold})
				victim.order(procOrder{Do: procPerson})
				victim.await(procHeld)
				longest = max(longest, w.logInAfter(victim))
				if got := w.as.Stats().CodeLogins; got != plan.logins {
					t.Errorf("somebody has logged in %d times, want %d", got, plan.logins)
				}
			})
		}
	}

	t.Run("at any moment", func(t *testing.T) {
		for range max(*killN/4, 1) {
			w := newProcWorld(t, oauthtest.Options{}, procPlace{})
			victim := w.start(procOrder{})
			victim.order(procOrder{Do: procPerson})
			<-time.After(rand.N(30 * time.Millisecond)) // about as long as it takes
			longest = max(longest, w.logInAfter(victim))
			if got := w.as.Stats().CodeLogins; got > 2 {
				t.Errorf("somebody has logged in %d times", got)
			}
		}
	})
	figures.Record(t, "processes.login-recovery", longest.Round(time.Millisecond).String())
}

// endSession leaves a session that the server has ended.
func endSession(w *procWorld) {
	w.t.Helper()
	w.as.RevokeFamily(w.login().RefreshToken)
	w.shift(-2 * time.Hour)
	p := w.start(procOrder{})
	if r := p.do(procOrder{Do: procToken}); r.Ended != 1 {
		w.t.Fatalf("the session has not ended: %+v", r)
	}
	p.finish()
}

// logInAfter kills a program that may have somebody log in, while others wait.
// It returns how long it took until all had a token.
func (w *procWorld) logInAfter(victim *proc) time.Duration {
	w.t.Helper()
	others := w.startAll(3)
	for _, p := range others {
		p.order(procOrder{Do: procPerson})
	}
	start := time.Now()
	victim.kill()
	for _, r := range awaitAll(others, procPerson) {
		if r.Failed > 0 {
			w.t.Errorf("a login after the kill: %s", r.Error)
		}
	}
	took := time.Since(start)
	if r := w.record(); r.Ended != nil || !w.as.Alive(r.RefreshToken) {
		w.t.Errorf("generation %d is stored, and not alive at the server", r.Generation)
	}
	if s := w.as.Stats(); s.Reuses+s.CodeReuses > 0 {
		w.t.Errorf("the server saw %+v", s)
	}
	finishAll(others)
	return took
}
