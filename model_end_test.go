package freshtoken_test

import (
	"errors"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// How a run of the model ends: everything is healed, and everybody looks.

// finish heals everything, waits, and sees what is left.
func (w *modelWorld) finish() {
	for _, t := range w.timers {
		t.Stop()
	}
	w.faults.set(func() { w.faults.queue, w.faults.standing, w.faults.api = nil, classed{}, oauthtest.Fault{} })
	w.setDown(false)
	w.disk.mu.Lock()
	clear(w.disk.next)
	w.disk.mu.Unlock()
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	w.h.note("all is quiet")
	time.Sleep(w.plan.quiet)
	w.users.Wait()
	w.idle()
	for slot, p := range w.slots { // those that are there, and one that is new
		if p == nil {
			w.slots[slot] = w.boot(slot, false)
			break
		}
	}
	w.round("")
	time.Sleep(w.plan.server.AccessLifetime + time.Second)
	if w.plan.mode.Backups || w.plan.mode.Forks || w.plan.mode.Late {
		// Who knows more than the store says so now, and who knows less finds
		// out.
		for range modelRounds {
			w.round("token")
			time.Sleep(w.plan.server.AccessLifetime + time.Second)
			if !w.divided() {
				break
			}
		}
	}
	for account := range modelAccounts {
		rec := w.disk.record(account)
		w.h.End[account].Living = rec.alive() && w.as.Alive(rec.Refresh)
	}
	w.round("final")
	synctest.Wait() // for refreshes that nobody waits for
	for account := range modelAccounts {
		rec := w.disk.record(account)
		w.h.End[account].Record, w.h.End[account].Alive = rec, w.as.Alive(rec.Refresh) && w.as.AccessAlive(rec.Access)
	}
	for _, p := range w.slots {
		if p != nil {
			w.users.Go(func() { w.exit(p) })
		}
	}
	w.users.Wait()
	w.leftovers()
}

// modelRounds is how often everybody asks at most before the end: who knows that a
// session has ended believes no record of it that has seen fewer refreshes.
const modelRounds = 40

// divided reports whether a process takes a session for ended that is not.
func (w *modelWorld) divided() bool {
	for _, p := range w.slots {
		if p == nil {
			continue
		}
		for account, src := range p.sources {
			if rec := w.disk.record(account); src.Status().State == freshtoken.StateEnded && rec.alive() && w.as.Alive(rec.Refresh) {
				return true
			}
		}
	}
	return false
}

// idle looks at the Sources that should have kept themselves fresh.
func (w *modelWorld) idle() {
	for _, p := range w.slots {
		if p == nil || !p.background {
			continue
		}
		for account, src := range p.sources {
			st := src.Status()
			failed := new(freshtoken.RefreshError)
			kept := st.LastError == nil || !errors.As(st.LastError, &failed) || failed.Temporary
			w.h.Idle = append(w.h.Idle, modelIdle{p.id, account, st, time.Now(), kept})
		}
	}
}

// round has every process use every account: the API first, which finds tokens
// that are dead though nobody said so. With a last thing to do, they take turns.
func (w *modelWorld) round(last string) {
	for _, p := range w.slots {
		if p == nil {
			continue
		}
		for _, src := range append(p.sources[:], p.narrow[:]...) {
			if src == nil {
				continue
			}
			w.users.Go(func() {
				w.ask(src, modelStep{do: "get"})
				if last != "" {
					if w.plan.mode.Clocks { // one that is behind takes what it found in the store, for its replay, for fresh
						w.ask(src, modelStep{do: "get"})
					}
					w.ask(src, modelStep{do: last})
				}
			})
			if last != "" {
				w.users.Wait()
			}
		}
	}
	w.users.Wait()
}
