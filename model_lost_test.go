package freshtoken_test

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// What a session may be lost by. Whatever has no name here must not happen.
const (
	lostAnswer    = "lost answer"   // the server has issued tokens that did not arrive
	lostCrash     = "crash"         // they arrived, and their process died, or closed the Source, before they were stored
	lostLogout    = "failed logout" // a Logout could not be written down
	lostOldLogin  = "old login"     // a program logged in with a token that was spent before
	lostBackup    = "backup"        // somebody put a record with a spent token back
	lostFork      = "fork"          // a program without a lock has spent the token
	lostGhost     = "late write"    // the write of a dead process put a spent token back, or came too late
	lostWithdrawn = "withdrawn"     // a server with grace has withdrawn what it issued before
)

// checkLost: a session comes to its end only where something explains it.
func (h *modelHistory) checkLost(bad report) {
	for i := range h.Sends {
		b := &h.Sends[i]
		if b.Outcome == oauthtest.Reuse && h.whyLost(i) == "" {
			bad("p%d killed the session with %s at %v", b.Proc, short(b.Refresh), h.at(b.From))
		}
	}
	for account, end := range h.End {
		if !end.Living {
			h.checkEnd(account, end.Record, bad)
		}
		if end.Living {
			h.checkWinner(account, end.Record.family(), bad)
		}
	}
}

// whyLost says why the request with the number i+1 could kill a session; empty:
// nothing excuses it.
func (h *modelHistory) whyLost(i int) string {
	b := &h.Sends[i]
	if b.Proc == 0 {
		return lostFork
	}
	if h.putBack(b, "backup", moment{}) {
		return lostBackup
	}
	for j := range h.Sends { // a request that outlives its client may take effect after a later one
		a := &h.Sends[j]
		switch {
		case a.Refresh != b.Refresh || j >= i && a.Proc != 0:
		case a.Proc == 0 && a.Outcome == oauthtest.Granted:
			return lostFork
		case a.Proc == 0:
		case a.Outcome == oauthtest.Granted && !a.received():
			return lostAnswer
		case a.Outcome == oauthtest.Granted && h.lostWith(a, b) != "":
			return h.lostWith(a, b)
		case h.botched(a.Proc, a.Account, b.From):
			return lostLogout
		case h.again(b.family(), a.From, b.From):
			return lostOldLogin
		}
	}
	switch {
	case h.putBack(b, "fork", moment{}):
		return lostFork
	case h.putBack(b, "ghost", moment{}):
		return lostGhost
	}
	if b.Failed {
		return lostAnswer
	}
	if h.Server.GraceMode == oauthtest.GraceReplace && h.Server.Grace > 0 && h.withdrawn(b) {
		return lostWithdrawn
	}
	return ""
}

// lostWith says why nobody could know, when b was sent, what a had brought: it
// was lost with its process, or with the Source that was closed there. Empty:
// the process lived, or the store had it.
func (h *modelHistory) lostWith(a, b *modelSend) string {
	if !h.died(a.Proc, b.From) && !h.closedWithout(a, b.From) {
		return ""
	}
	why := lostCrash
	for _, v := range h.Saves {
		if v.Proc != a.Proc || v.When.Seq < a.From.Seq || v.When.Seq > b.From.Seq || v.Is.family() != a.family() || generationOf(v.Is.Refresh) < a.Gen {
			continue
		}
		if v.By != "ghost" || !h.missed(v, b) {
			return ""
		}
		why = lostGhost
	}
	return why
}

// modelLeaving is how long Close may take when it has given the lock back: for a
// login that it has ended, and for events.
const modelLeaving = 4 * time.Second

// closedWithout reports whether a Close has failed, before m, to save what a had
// brought, and has said so. The process may go on.
func (h *modelHistory) closedWithout(a *modelSend, m moment) bool {
	return slices.ContainsFunc(h.Calls, func(c modelCall) bool {
		return c.Kind == "close" && c.Proc == a.Proc && c.Account == a.Account && errors.Is(c.Err, freshtoken.ErrNotPersisted) &&
			c.From.Seq < m.Seq && !c.To.At.After(m.At.Add(modelLeaving))
	})
}

// missed reports whether the write v of a dead process came too late for whoever
// wrote next, or for b: he had looked into the store when that process was dead,
// and not since v.
func (h *modelHistory) missed(v modelSave, b *modelSend) bool {
	next := modelSave{Proc: b.Proc, When: b.From}
	for _, w := range h.Saves {
		if w.Account == v.Account && w.When.Seq > v.When.Seq && w.When.Seq < b.From.Seq {
			next = w
			break
		}
	}
	looked := func(from, to moment) bool {
		return slices.ContainsFunc(h.Loads, func(l modelLoad) bool {
			return l.Proc == next.Proc && l.Account == v.Account && l.Read.Seq > from.Seq && l.Read.Seq < to.Seq && l.When.Seq < next.When.Seq
		})
	}
	return (next.By == "" || next.By == "ghost") && !looked(v.When, next.When) && slices.ContainsFunc(h.Deaths, func(d modelDeath) bool {
		return d.Proc == v.Proc && looked(d.When, v.When)
	})
}

// withdrawn reports whether the server may have withdrawn the refresh token of
// b, because an older one was shown to it again within its grace period by
// somebody who could not know better.
func (h *modelHistory) withdrawn(b *modelSend) bool {
	return slices.ContainsFunc(h.Sends, func(a modelSend) bool {
		return a.family() == b.family() && a.Refresh != b.Refresh && a.Outcome == oauthtest.Granted && a.From.Seq < b.From.Seq &&
			(a.Proc == 0 || !a.received() && h.died(a.Proc, b.From) || h.putBack(&a, "", moment{}))
	})
}

// checkEnd: a session that is over was ended by somebody.
func (h *modelHistory) checkEnd(account int, r modelRecord, bad report) {
	var ended, refused, login, forgotten bool
	for _, c := range h.Calls {
		ended = ended || c.Account == account && c.Kind == "logout"
		login = login || c.Account == account && c.Kind == "login" && c.Err == nil
		forgotten = forgotten || c.Account == account && c.Forget
	}
	for i := range h.Sends {
		refused = refused || h.Sends[i].Account == account && (h.Sends[i].refused() || h.Sends[i].dead())
	}
	switch {
	case r.LoggedOut && !ended:
		bad("account %d was logged out by nobody", account)
	case r.Ended && !r.LoggedOut && !refused:
		bad("account %d has come to an end though the server refused nothing", account)
	case !r.Exists && login && !forgotten:
		bad("account %d has vanished", account)
	}
}

// checkWinner: of several logins and logouts one after the other, the last one
// counts.
func (h *modelHistory) checkWinner(account, family int, bad report) {
	why := fmt.Sprintf("nobody logged in with family %d", family)
	for _, in := range h.Calls {
		if in.Kind != "login" || in.Account != account || familyOf(in.Given) != family {
			continue
		}
		i := slices.IndexFunc(h.Calls, func(c modelCall) bool {
			return c.Account == account && c.From.Seq > in.To.Seq && in.Err == nil &&
				(c.loggedOut() || c.Kind == "login" && c.Err == nil && !c.Lost && familyOf(c.Given) != family)
		})
		if i < 0 {
			return
		}
		why = fmt.Sprintf("family %d logged in until %v, but p%d's %s began at %v", family, h.at(in.To), h.Calls[i].Proc, h.Calls[i].Kind, h.at(h.Calls[i].From))
	}
	if slices.ContainsFunc(h.Saves, func(v modelSave) bool { return v.By != "" && v.Account == account && v.Is.family() == family }) {
		return // that is what somebody has put back
	}
	if h.Mode.Clocks && h.Mode.disk() {
		return // of two logins, one of which could not be saved, the clocks tell which is later
	}
	bad("account %d: %s", account, why)
}
