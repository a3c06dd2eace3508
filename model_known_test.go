package freshtoken_test

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// What a process knows, it does not forget, whatever the store says.

// modelLook is a process's look into the store, or its save.
type modelLook struct {
	when  moment
	is    modelRecord
	saved bool
}

// looks are those of one process at one account, in order.
func (h *modelHistory) looks(proc, account int) []modelLook {
	var all []modelLook
	for _, l := range h.Loads {
		if l.Proc == proc && l.Account == account && !l.Late {
			all = append(all, modelLook{l.When, l.Is, false})
		}
	}
	for _, v := range h.Saves {
		if v.Proc == proc && v.Account == account && v.By == "" {
			all = append(all, modelLook{v.When, v.Is, true})
		}
	}
	slices.SortFunc(all, func(a, b modelLook) int { return cmp.Compare(a.when.Seq, b.when.Seq) })
	return all
}

// back reports whether somebody put an access token back into the store, and a
// process that met it there before to may have left its session, after since or
// by then, for another one, or for none. That a token was rejected is known for
// as long as there is the session, and that the server has refused it is no
// knowledge for ever: a record of the same generation that somebody puts back is
// tried once more.
func (h *modelHistory) back(proc, account int, access string, since, to moment) bool {
	ids := map[string]bool{} // of the sessions that had the token
	for _, v := range h.Saves {
		ids[v.Is.ID] = ids[v.Is.ID] || v.Account == account && v.Is.alive() && (v.Is.Access == access || v.Is.Narrow == access)
	}
	var last *modelLook // before since
	for _, l := range h.looks(proc, account) {
		switch {
		case l.when.Seq >= to.Seq:
		case l.when.Seq < since.Seq:
			last = &l
		case l.left(ids) && h.wrote(account, access, since, to):
			return true
		}
	}
	return last != nil && last.left(ids) && h.wrote(account, access, last.when, to)
}

// left reports whether who sees l has no session any more of those with some IDs.
// Another login with the same token is another session.
func (l *modelLook) left(ids map[string]bool) bool {
	return !l.is.Exists || l.is.Ended && !l.is.LoggedOut || l.is.alive() && !ids[l.is.ID]
}

// wrote reports whether in a time somebody else has written an access token to
// the store; or an older one of its session, and then another process, which knew
// better, this one.
func (h *modelHistory) wrote(account int, access string, from, to moment) bool {
	is := func(v modelSave) bool { return v.Is.Access == access || v.Is.Narrow == access }
	restored := false
	for _, v := range h.Saves {
		if v.Account != account || v.When.Seq <= from.Seq || v.When.Seq >= to.Seq {
			continue
		}
		if is(v) && (v.By != "" || restored) {
			return true
		}
		restored = restored || v.By != "" && v.Is.alive() && v.Is.family() == familyOf(access)
	}
	return false
}

// checkBack: no process goes back to an older record than the newest that it has
// seen of a session, and none brings a session back that it knows to be over.
func (h *modelHistory) checkBack(bad report) {
	for _, b := range h.Boots {
		for account := range modelAccounts {
			var known modelRecord
			var learned moment
			over := map[string]bool{} // by ID: a Logout of the session is known
			for _, l := range h.looks(b.Proc, account) {
				same := l.is.ID == known.ID
				over[l.is.ID] = over[l.is.ID] || l.is.LoggedOut
				switch {
				case !l.saved && l.is.alive() && (over[l.is.ID] || same && l.is.Generation < known.Generation):
					continue // it knows better
				case !l.saved || !l.is.alive() || !same && !over[l.is.ID]:
				case !over[l.is.ID] && (known.Ended || h.replaced(b.Proc, account, l.is.family(), learned, l.when)) && h.resumed(b.Proc, account, l.is, learned, l.when):
				case !over[l.is.ID] && h.Mode.Clocks && h.replaced(b.Proc, account, l.is.family(), learned, l.when):
				case over[l.is.ID], known.Ended && l.is.Generation < known.Generation:
					bad("p%d saved %v at %v, and knew that the session was over", b.Proc, l.is, h.at(l.when))
				case l.is.Generation < known.Generation:
					bad("p%d saved %v at %v, and knew %v", b.Proc, l.is, h.at(l.when), known)
				}
				known, learned = l.is, l.when
			}
		}
	}
}

// replaced reports whether a process was handed in, in a time, a login with a
// token of another family, and could not save it. If it then goes back to the
// session before, because clocks that disagree say that this is the later one, it
// has forgotten what that was like.
func (h *modelHistory) replaced(proc, account, family int, from, to moment) bool {
	return slices.ContainsFunc(h.Calls, func(c modelCall) bool {
		return c.Kind == "login" && c.Proc == proc && c.Account == account && familyOf(c.Given) != family && c.Err != nil && c.To.Seq > from.Seq && c.From.Seq < to.Seq
	})
}

// asked reports whether a program handed in a refresh token to a process in a
// time. It gets what it asks for. If that login could not be saved, it is by the
// record of the session that began with the same one, where somebody has put
// that back: the two have the same tokens.
func (h *modelHistory) asked(proc, account int, refresh string, from, to moment) bool {
	return slices.ContainsFunc(h.Calls, func(c modelCall) bool {
		return c.Kind == "login" && c.Proc == proc && c.Account == account && c.Given == refresh && c.To.Seq > from.Seq && c.From.Seq < to.Seq
	})
}

// resumed is asked for a record of the session that began with what was handed in,
// however often that has been refreshed.
func (h *modelHistory) resumed(proc, account int, r modelRecord, from, to moment) bool {
	return slices.ContainsFunc(h.Calls, func(c modelCall) bool {
		return c.Kind == "login" && c.Proc == proc && c.Account == account && familyOf(c.Given) == r.family() &&
			generationOf(c.Given) <= generationOf(r.Refresh) && c.To.Seq > from.Seq && c.From.Seq < to.Seq
	})
}

// checkAhead: no refresh token is sent that is not marked in the store as the
// one that is about to be, but where the store is in trouble.
func (h *modelHistory) checkAhead(bad report) {
	for i := range h.Sends {
		s := &h.Sends[i]
		if s.Proc == 0 || h.Mode.disk() {
			continue
		}
		var last modelRecord
		for _, v := range h.Saves {
			if v.Proc == s.Proc && v.Account == s.Account && v.When.Seq < s.From.Seq {
				last = v.Is
			}
		}
		if last.Refresh != s.Refresh {
			bad("p%d sent %s at %v, and the last that it has saved is %v", s.Proc, short(s.Refresh), h.at(s.From), last)
		}
	}
}

// modelPrompt is how soon an answer that was lost is asked for again by a caller
// who waits.
const modelPrompt = 2 * time.Second

// checkInTime: where the server has a grace period, a session does not die of a
// lost answer while somebody waits for a token.
func (h *modelHistory) checkInTime(bad report) {
	if h.Server.Rotation != oauthtest.Rotate || h.Mode.disk() || h.Mode.Forks || h.Mode.Backups {
		return
	}
	for i := range h.Sends {
		b := &h.Sends[i]
		if b.Outcome != oauthtest.Reuse {
			continue
		}
		a := slices.IndexFunc(h.Sends[:i], func(a modelSend) bool { return a.Refresh == b.Refresh && a.Outcome == oauthtest.Granted })
		if a < 0 || h.Sends[a].received() {
			continue
		}
		first := &h.Sends[a]
		if slices.ContainsFunc(h.Sends[a+1:i], func(c modelSend) bool { return c.Refresh == b.Refresh }) {
			continue // it was asked for again, and that answer was lost, too
		}
		late := first.To.At.Add(modelPrompt)
		if h.Server.Grace == 0 || late.After(first.Decided.Add(h.Server.Grace)) || h.gone(first.Proc, late) || h.again(b.family(), first.From, b.From) {
			continue
		}
		waiting := slices.ContainsFunc(h.Calls, func(c modelCall) bool {
			return c.Proc == first.Proc && c.Account == first.Account && c.Kind == "token" && !c.Lost && c.Deadline.IsZero() &&
				c.From.Seq < first.From.Seq && c.To.At.After(late)
		})
		if waiting {
			bad("p%d killed the session with %s at %v, which was lost at %v within a grace period of %v, and somebody waited", b.Proc, short(b.Refresh), h.at(b.From), h.at(first.To), h.Server.Grace)
		}
	}
}

// gone reports whether a process had come to an end by a time.
func (h *modelHistory) gone(proc int, by time.Time) bool {
	return slices.ContainsFunc(h.Deaths, func(d modelDeath) bool { return d.Proc == proc && !d.When.At.After(by) })
}

// skew is by how much a process's clock is ahead.
func (h *modelHistory) skew(proc int) time.Duration {
	for _, b := range h.Boots {
		if b.Proc == proc {
			return b.Skew
		}
	}
	return 0
}

// surprises counts what may cost an account a refresh each, beyond the budget: a
// record that somebody has put back, a process whose clock disagrees.
func (h *modelHistory) surprises(account int) (n int) {
	for _, v := range h.Saves {
		if v.By != "" && v.Account == account {
			n++
		}
	}
	for _, b := range h.Boots {
		if h.Mode.Clocks && b.When.Seq > 0 {
			n++
		}
	}
	return n
}

// checkLogins: one person is asked at a time, nobody for a session that cannot be
// stored or is there, and nobody again at once who has declined.
func (h *modelHistory) checkLogins(bad report) {
	for i, b := range h.Asks {
		var ready *modelSave
		for j := range h.Saves {
			if v := &h.Saves[j]; v.Proc == b.Proc && v.Account == b.Account && v.When.Seq < b.From.Seq && !h.justHandedIn(v, b.From) {
				ready = v
			}
		}
		switch {
		case ready == nil || b.From.At.Sub(ready.When.At) > time.Second:
			bad("p%d asked somebody to log in at %v, and had not seen that the store takes a session", b.Proc, h.at(b.From))
		case ready.Is.alive() && !h.refusedBefore(ready.Is.family(), b.From):
			bad("p%d asked somebody to log in at %v, though there was %v", b.Proc, h.at(b.From), ready.Is)
		}
		for _, a := range h.Asks[:i] {
			if a.Account == b.Account && a.To.Seq > b.From.Seq && !h.gone(a.Proc, b.From.At) {
				bad("p%d asked somebody to log in at %v, while p%d was at it", b.Proc, h.at(b.From), a.Proc)
			}
		}
		h.checkDeclined(h.Asks[:i], b, bad)
	}
}

// justHandedIn reports whether v is the save of a login that was handed in to the
// process itself, at the very time m: between its look and the question to a
// person, in which the Source is free for others.
func (h *modelHistory) justHandedIn(v *modelSave, m moment) bool {
	return v.When.At.Equal(m.At) && v.Is.alive() && h.asked(v.Proc, v.Account, v.Is.Refresh, v.When, v.When)
}

// refusedBefore reports whether a refresh with a token of a family was refused.
func (h *modelHistory) refusedBefore(family int, m moment) bool {
	return slices.ContainsFunc(h.Sends, func(s modelSend) bool {
		return s.family() == family && s.To.Seq < m.Seq && (s.Class == "refused" || s.Class == "bad" || s.refused())
	})
}

func (h *modelHistory) checkDeclined(before []*modelAsk, b *modelAsk, bad report) {
	for _, a := range slices.Backward(before) {
		if a.Proc != b.Proc || a.Account != b.Account {
			continue
		}
		if a.Result == "succeeded" {
			return
		}
		if a.Ordered && b.Ordered && a.Result == "failed" && b.From.At.Before(a.To.At.Add(time.Minute)) {
			bad("p%d asked somebody to log in at %v, who had declined at %v", b.Proc, h.at(b.From), h.at(a.To))
		}
	}
}

// checkImports: a plaintext file is removed once its session has been saved, and
// only then.
func (h *modelHistory) checkImports(bad report) {
	for _, m := range h.Imports {
		saved := slices.ContainsFunc(h.Saves, func(v modelSave) bool { return v.Proc == m.Proc && v.Is.family() == familyOf(m.Given) })
		switch {
		case m.Gone && !saved:
			bad("p%d removed the file of %s, which nobody has saved", m.Proc, short(m.Given))
		case m.Gone && errors.Is(m.Err, freshtoken.ErrSessionExists):
			bad("p%d removed the file of %s beside another session", m.Proc, short(m.Given))
		case !m.Gone && m.Err == nil && !m.Lost:
			bad("p%d left the file of %s, which it had imported", m.Proc, short(m.Given))
		}
	}
}
