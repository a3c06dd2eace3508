package freshtoken_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// check returns what should not have happened. Each line begins with the name of
// the invariant.
func (h *modelHistory) check() []string {
	var all []string
	for _, inv := range modelInvariants {
		seen := 0
		inv.check(h, func(format string, args ...any) {
			if seen++; seen <= 3 { // the first ones tell
				all = append(all, inv.name+": "+fmt.Sprintf(format, args...))
			}
		})
	}
	return all
}

type report func(format string, args ...any)

var modelInvariants = []struct {
	name  string
	check func(*modelHistory, report)
}{
	{"spent once", (*modelHistory).checkSpentOnce},
	{"quiet", (*modelHistory).checkQuiet},
	{"known dead", (*modelHistory).checkKnownDead},
	{"logged out", (*modelHistory).checkLoggedOut},
	{"accounts", (*modelHistory).checkAccounts},
	{"deadlines", (*modelHistory).checkDeadlines},
	{"budget", (*modelHistory).checkBudget},
	{"lost", (*modelHistory).checkLost},
	{"written ahead", (*modelHistory).checkAhead},
	{"never back", (*modelHistory).checkBack},
	{"in time", (*modelHistory).checkInTime},
	{"logins", (*modelHistory).checkLogins},
	{"imports", (*modelHistory).checkImports},
	{"protocol", (*modelHistory).checkProtocol},
	{"calm", (*modelHistory).checkCalm},
	{"leaks", (*modelHistory).checkLeaks},
}

// rotates reports whether a refresh token is spent by its use.
func (h *modelHistory) rotates() bool {
	return h.Server.Rotation == oauthtest.Rotate || h.Server.Rotation == oauthtest.RotateLenient
}

func (h *modelHistory) at(m moment) time.Duration { return m.At.Sub(h.Start) }

// received reports whether a client got new tokens by s.
func (s *modelSend) received() bool {
	return s.Class == "" && !s.Failed && s.Outcome == oauthtest.Granted
}

// refused reports whether a client was told that its refresh token is dead.
func (s *modelSend) refused() bool {
	return !s.Failed && (s.Class == "ended" || (s.Class == "" || s.Class == "bad") && s.dead())
}

// dead reports whether the server refused a refresh token.
func (s *modelSend) dead() bool {
	switch s.Outcome {
	case oauthtest.Reuse, oauthtest.FamilyDead, oauthtest.Expired, oauthtest.UnknownToken:
		return true
	}
	return false
}

func (s *modelSend) family() int { return familyOf(s.Refresh) }

// aside reports whether s was for another target, and refused: which says nothing
// of the session, until one for its own token is, too. That one follows, unless the
// store cannot be written.
func (s *modelSend) aside() bool {
	return s.Scope != "" && (s.Class == "refused" || s.Class == "ended" || s.dead())
}

// died reports whether a process came to an end in which it may have lost
// something before m.
func (h *modelHistory) died(proc int, before moment) bool {
	return slices.ContainsFunc(h.Deaths, func(d modelDeath) bool {
		return d.Proc == proc && (d.Crash || d.Loose) && d.When.Seq < before.Seq
	})
}

// troubled reports whether a process had trouble with the store in a time.
func (h *modelHistory) troubled(proc int, from, to time.Time) bool {
	return slices.ContainsFunc(h.Faults, func(f modelFaultAt) bool {
		return f.Proc == proc && !f.At.Before(from) && !f.At.After(to)
	})
}

// stored is what the store held for an account at a moment.
func (h *modelHistory) stored(account int, at moment) modelRecord {
	var r modelRecord
	for _, v := range h.Saves {
		if v.Account == account && v.When.Seq < at.Seq {
			r = v.Is
		}
	}
	return r
}

// changing reports whether, from one moment to another, the store ever held
// something else for an account than tokens of a family.
func (h *modelHistory) changing(account, family int, from, to moment) bool {
	if r := h.stored(account, from); !r.alive() || r.family() != family {
		return true
	}
	return slices.ContainsFunc(h.Saves, func(v modelSave) bool {
		return v.Account == account && v.When.Seq > from.Seq && v.When.Seq < to.Seq && (!v.Is.alive() || v.Is.family() != family)
	})
}

// again reports whether a program handed in the token of a login after since
// and before until, when it was no longer the session's: which asks for what it
// gets.
func (h *modelHistory) again(family int, since, until moment) bool {
	return slices.ContainsFunc(h.Calls, func(c modelCall) bool {
		return c.Kind == "login" && familyOf(c.Given) == family && c.From.Seq < until.Seq &&
			(c.To.Seq > since.Seq || c.Err != nil) && (h.changing(c.Account, family, c.From, until) || h.meddled(c.Account, moment{}, until) || h.replacedInMemory(c, since))
	})
}

// replacedInMemory reports whether the process of c, a login, had had another
// login since, or had learned that the session was over, at the latest while c
// waited for its turn, neither of which it may have been able to save.
func (h *modelHistory) replacedInMemory(c modelCall, since moment) bool {
	over := func(e modelEvent) bool {
		return e.Proc == c.Proc && e.Account == c.Account && e.Kind == freshtoken.EventSessionEnded && !e.At.Before(since.At) && !e.At.After(c.To.At)
	}
	return h.Mode.disk() && (slices.ContainsFunc(h.Events, over) || slices.ContainsFunc(h.Calls, func(in modelCall) bool {
		return in.Kind == "login" && in.Proc == c.Proc && in.Account == c.Account && familyOf(in.Given) != familyOf(c.Given) &&
			in.To.Seq > since.Seq && in.From.Seq < c.To.Seq
	}))
}

// putBack reports whether somebody who is no living process of the library (by;
// empty: anybody) has put the refresh token of b, or an older one, back into the
// store after since. That a process does not fall for it that knows better is for
// checkBack to see.
func (h *modelHistory) putBack(b *modelSend, by string, since moment) bool {
	return slices.ContainsFunc(h.Saves, func(v modelSave) bool {
		return v.By != "" && (by == "" || v.By == by) && v.When.Seq > since.Seq && v.When.Seq < b.From.Seq && v.Is.alive() && v.Is.family() == b.family() &&
			generationOf(v.Is.Refresh) <= generationOf(b.Refresh)
	})
}

// forkedBehind reports whether a program without the lock has written, after
// since, a record of fewer refreshes than the one that b was sent from. Its token
// may be newer: that is not to be seen, and the process of b, which had met more
// refreshes before, has to take that record for a backup.
func (h *modelHistory) forkedBehind(b *modelSend, since moment) bool {
	return slices.ContainsFunc(h.Saves, func(v modelSave) bool {
		return v.By == "fork" && v.Account == b.Account && v.When.Seq > since.Seq && v.When.Seq < b.From.Seq && v.Is.alive() && v.Is.family() == b.family() &&
			slices.ContainsFunc(h.looks(b.Proc, b.Account), func(l modelLook) bool {
				return l.is.ID == v.Is.ID && l.is.Refresh == b.Refresh && l.is.Generation > v.Is.Generation &&
					(l.when.Seq < v.When.Seq || !l.saved && l.when.Seq < b.From.Seq)
			})
	})
}

// meddled reports whether in a time somebody else has written to the store.
func (h *modelHistory) meddled(account int, from, to moment) bool {
	return slices.ContainsFunc(h.Saves, func(v modelSave) bool {
		return v.By != "" && v.Account == account && v.When.Seq > from.Seq && v.When.Seq < to.Seq
	})
}

// handedIn reports whether a program logged in with a refresh token in a time.
func (h *modelHistory) handedIn(refresh string, from, to moment) bool {
	return slices.ContainsFunc(h.Calls, func(c modelCall) bool {
		return c.Kind == "login" && c.Given == refresh && c.To.Seq > from.Seq && c.From.Seq < to.Seq
	})
}

// botched reports whether a process tried to log out and could not tell the
// store: the session is over for it, and what it alone knew is lost.
func (h *modelHistory) botched(proc, account int, before moment) bool {
	return slices.ContainsFunc(h.Calls, func(c modelCall) bool {
		return c.Proc == proc && c.Account == account && c.Kind == "logout" && c.Err != nil && !c.loggedOut() && c.From.Seq < before.Seq
	})
}

// closing reports whether a Source was being closed by then, which begins no refresh
// any more, be it to find out what a refusal for a target meant.
func (h *modelHistory) closing(proc, account int, by moment) bool {
	return slices.ContainsFunc(h.Calls, func(c modelCall) bool {
		return c.Proc == proc && c.Account == account && c.Kind == "close" && c.From.Seq < by.Seq
	})
}

// checkSpentOnce: no refresh token is sent twice, unless the first time had no
// effect that is known, or he who knows has died.
func (h *modelHistory) checkSpentOnce(bad report) {
	last := map[string]*modelSend{}
	for i := range h.Sends {
		b := &h.Sends[i]
		if b.Proc == 0 {
			continue // not the library's
		}
		a := last[b.Refresh]
		last[b.Refresh] = b
		if a == nil || h.putBack(b, "", a.From) || h.forkedBehind(b, a.From) || !h.rotates() || h.botched(a.Proc, a.Account, b.From) || h.again(b.family(), a.From, b.From) {
			continue
		}
		switch {
		case a.received() && h.lostWith(a, b) == "":
			bad("%s was sent by p%d at %v and brought new tokens; p%d sent it again at %v", short(b.Refresh), a.Proc, h.at(a.From), b.Proc, h.at(b.From))
		case a.refused() && !(a.aside() && (b.Scope == "" || h.closing(a.Proc, a.Account, a.To) || h.troubled(a.Proc, a.To.At, b.From.At))) && !h.handedIn(b.Refresh, a.To, b.From) && (a.Proc == b.Proc || !h.died(a.Proc, b.From) && !h.troubled(a.Proc, a.From.At, b.From.At)):
			bad("%s was sent by p%d at %v and refused for good; p%d sent it again at %v", short(b.Refresh), a.Proc, h.at(a.From), b.Proc, h.at(b.From))
		}
	}
}

// checkQuiet: after a quiet period the store has the newest tokens, and all
// processes serve them.
func (h *modelHistory) checkQuiet(bad report) {
	for account, end := range h.End {
		r := end.Record
		if end.Living && (!r.alive() || !end.Alive) {
			bad("account %d had a living session, and now the store has %v, which the server does not accept", account, r)
		}
		if !end.Living && r.alive() && !h.idleBackup(account) {
			bad("account %d has %v in the store, though its session was dead before everybody asked", account, r)
		}
		newest := 0
		for _, e := range h.Entries {
			if e.Endpoint == oauthtest.TokenEndpoint && e.Family == r.family() {
				newest = max(newest, e.NewGeneration)
			}
		}
		if h.Server.Rotation == oauthtest.Rotate && end.Living && !h.Mode.Forks && newest > generationOf(r.Refresh) {
			bad("account %d has generation %d of %v in the store, the server has issued %d", account, generationOf(r.Refresh), r, newest)
		}
		for _, c := range h.Calls {
			switch {
			case !c.Final || c.Account != account || h.botched(c.Proc, account, c.From):
			case h.Mode.Clocks && h.disbelieved(c.Proc, account, c.From.At.Add(-time.Minute), c.To.At):
			case end.Living && (c.Err != nil || !c.Alive || familyOf(c.Access) != r.family()):
				bad("p%d got %s, %v though %v was there", c.Proc, short(c.Access), c.Err, r)
			case !end.Living && !errors.Is(c.Err, freshtoken.ErrNoSession) && !errors.Is(c.Err, freshtoken.ErrSessionEnded):
				bad("p%d got %s, %v for a dead session", c.Proc, short(c.Access), c.Err)
			}
		}
	}
	for _, i := range h.Idle {
		if st := i.Status; st.State == freshtoken.StateAlive && i.Kept && !st.Expiry.IsZero() && st.Expiry.Before(i.At) {
			bad("p%d/%d keeps its session fresh in the background, and it expired at %v", i.Proc, i.Account, st.Expiry.Sub(h.Start))
		}
	}
}

// idleBackup reports whether the store holds what somebody has put back, and no
// process has cared: all of them know better.
func (h *modelHistory) idleBackup(account int) bool {
	for _, v := range slices.Backward(h.Saves) {
		if v.Account == account {
			return v.By == "backup"
		}
	}
	return false
}

type modelRejection struct {
	proc, account int
	access        string
}

// checkKnownDead: no caller gets a token that its process knows to be rejected
// or expired.
func (h *modelHistory) checkKnownDead(bad report) {
	known := map[modelRejection]moment{}
	learn := func(proc, account int, access string, at moment) {
		key := modelRejection{proc, account, access}
		if old, ok := known[key]; access != "" && (!ok || at.Seq < old.Seq) {
			known[key] = at
		}
	}
	for _, c := range h.Calls {
		if c.Kind == "refresh" && (c.Err == nil || !strings.Contains(c.Err.Error(), "rejects every new token")) {
			learn(c.Proc, c.Account, c.Given, c.From)
		}
	}
	for _, s := range h.Signs {
		if s.Status == 401 && !s.Replay {
			learn(s.Proc, s.Account, s.Access, s.To)
		}
	}
	dead := func(proc, account int, access string, at moment) bool {
		since, ok := known[modelRejection{proc, account, access}]
		return ok && at.At.After(since.At) && !h.disbelieved(proc, account, since.At.Add(-time.Minute), at.At) &&
			!h.again(familyOf(access), since, at) && !h.back(proc, account, access, since, at)
	}
	for _, c := range h.Calls {
		switch {
		case c.Lost || c.Access == "":
		case !c.Expiry.IsZero() && !c.Expiry.After(c.To.At):
			bad("p%d handed out %s at %v, which expired at %v", c.Proc, short(c.Access), h.at(c.To), c.Expiry.Sub(h.Start))
		case dead(c.Proc, c.Account, c.Access, c.To):
			bad("p%d handed out %s at %v, which it knew to be rejected", c.Proc, short(c.Access), h.at(c.To))
		}
	}
	expiry := h.expiries()
	for _, s := range h.Signs {
		if dead(s.Proc, s.Account, s.Access, s.From) {
			bad("p%d signed with %s at %v, which it knew to be rejected", s.Proc, short(s.Access), h.at(s.From))
		}
		if e, ok := expiry[short(s.Access)]; ok && !e.After(s.From.At) {
			bad("p%d signed with %s at %v, which expired at %v", s.Proc, short(s.Access), h.at(s.From), e.Sub(h.Start))
		}
	}
}

// disbelieved reports whether a process ignored rejections in some of a time.
func (h *modelHistory) disbelieved(proc, account int, from, to time.Time) bool {
	return slices.ContainsFunc(h.Events, func(e modelEvent) bool {
		return e.Proc == proc && e.Account == account && e.Kind == freshtoken.EventOverBudget && !e.At.Before(from) && !e.At.After(to)
	})
}

// expiries are those of the access tokens that the server issued, unless it
// told a client something else, or clocks disagree: then the API tells.
func (h *modelHistory) expiries() map[string]time.Time {
	all := map[string]time.Time{}
	for _, s := range h.Sends {
		if s.Outcome == oauthtest.Granted && s.Gen > 0 && h.Server.Rotation == oauthtest.Rotate && !h.Mode.Odd && !h.Mode.Lost && !h.Mode.Clocks {
			all[fmt.Sprintf("at-%d-%d", s.family(), s.Gen)] = s.Decided.Add(h.Server.AccessLifetime)
		}
	}
	return all
}

// checkLoggedOut: nothing comes back after a Logout.
func (h *modelHistory) checkLoggedOut(bad report) {
	for _, v := range h.Saves {
		if v.By == "" && v.Is.LoggedOut && v.Was.alive() {
			h.checkGone(v, bad)
		}
	}
	for _, c := range h.Calls {
		if !c.loggedOut() {
			continue
		}
		over := !h.stored(c.Account, c.From).alive()
		for _, v := range h.Saves {
			over = over || v.Account == c.Account && !v.Is.alive() && v.When.Seq > c.From.Seq && v.When.Seq < c.To.Seq
		}
		if !over {
			bad("p%d logged account %d out at %v, and the store has %v", c.Proc, c.Account, h.at(c.To), h.stored(c.Account, c.To))
		}
	}
}

// loggedOut reports whether c was a Logout that said it succeeded.
func (c *modelCall) loggedOut() bool {
	return c.Kind == "logout" && !c.Lost && (c.Err == nil || errors.Is(c.Err, freshtoken.ErrNotRevoked))
}

// checkGone looks for what is left of a login after the save that ended it.
func (h *modelHistory) checkGone(over modelSave, bad report) {
	family := over.Was.family()
	back := func(at moment) bool { return at.Seq > over.When.Seq && !h.again(family, over.When, at) }
	resurrected := func(at moment) bool { return h.meddled(over.Account, over.When, at) }
	for _, v := range h.Saves {
		if v.By == "" && !resurrected(v.When) && v.Account == over.Account && v.Is.alive() && v.Is.family() == family && back(v.When) {
			bad("p%d saved %v at %v, logged out at %v", v.Proc, v.Is, h.at(v.When), h.at(over.When))
		}
	}
	for _, s := range h.Sends {
		if s.Proc != 0 && !resurrected(s.From) && s.family() == family && s.Outcome == oauthtest.Granted && back(s.From) {
			bad("p%d refreshed %s at %v, logged out at %v", s.Proc, short(s.Refresh), h.at(s.From), h.at(over.When))
		}
	}
	// Another login with the same token is another session, which may be put back
	// for who does not know of its Logout.
	other := func(at moment) bool {
		return slices.ContainsFunc(h.Saves, func(v modelSave) bool {
			return v.By != "" && v.Account == over.Account && v.When.Seq > over.When.Seq && v.When.Seq < at.Seq &&
				v.Is.alive() && v.Is.family() == family && v.Is.ID != over.Was.ID
		})
	}
	for _, out := range h.Calls {
		if !out.loggedOut() || out.Proc != over.Proc || out.Account != over.Account || out.To.Seq < over.When.Seq {
			continue
		}
		for _, c := range h.Calls {
			if !c.Lost && c.Proc == out.Proc && c.Account == out.Account && c.Access != "" && familyOf(c.Access) == family && c.To.At.After(out.To.At) && back(c.To) && !other(c.To) {
				bad("p%d handed out %s at %v, logged out at %v", c.Proc, short(c.Access), h.at(c.To), h.at(out.To))
			}
		}
	}
}

// checkAccounts: no account has to do with another's tokens.
func (h *modelHistory) checkAccounts(bad report) {
	is := func(what string, proc, account int, token string) {
		if owner, ok := h.Origins[familyOf(token)]; token != "" && (!ok || owner != account) {
			bad("p%d %s %s for account %d", proc, what, short(token), account)
		}
	}
	for _, c := range h.Calls {
		is("handed out", c.Proc, c.Account, c.Access)
	}
	for _, s := range h.Signs {
		is("signed with", s.Proc, s.Account, s.Access)
	}
	for _, s := range h.Sends {
		is("sent", s.Proc, s.Account, s.Refresh)
	}
	for _, v := range h.Saves {
		is("saved", v.Proc, v.Account, v.Is.Access)
		is("saved", v.Proc, v.Account, v.Is.Narrow)
		is("saved", v.Proc, v.Account, v.Is.Refresh)
	}
}
