package freshtoken_test

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// What callers and the server notice of it all: time, requests, errors.

// The longest that a call without a deadline may take: two turns of others, its
// own, and a prompt retry, where no call to the store hangs; and where some do.
const (
	modelPatience     = 4 * time.Minute
	modelDiskPatience = 10 * time.Minute
	modelClosing      = 94 * time.Second // a refresh and its save, a login, events
	modelPersons      = 40 * time.Minute // where a person is asked, after another one
)

// checkDeadlines: every call returns in time.
func (h *modelHistory) checkDeadlines(bad report) {
	for _, c := range h.Calls {
		limit := modelPatience
		if h.Mode.disk() {
			limit = modelDiskPatience
		}
		if h.Mode.Logins {
			limit = modelPersons
		}
		if c.Kind == "close" {
			limit = modelClosing
		}
		switch d := c.To.At.Sub(c.From.At); {
		case c.Lost, c.Brought: // who brought a login does not wait until it is saved: a Logout may come first
		case !c.Deadline.IsZero() && c.To.At.After(c.Deadline):
			bad("p%d %s at %v returned %v after its deadline", c.Proc, c.Kind, h.at(c.From), c.To.At.Sub(c.Deadline))
		case d > limit:
			bad("p%d %s at %v took %v", c.Proc, c.Kind, h.at(c.From), d)
		}
	}
}

// checkBudget: the token endpoint is asked by one at a time, and not too often.
func (h *modelHistory) checkBudget(bad report) {
	families := map[int][]*modelSend{}
	for i := range h.Sends {
		s := &h.Sends[i]
		if s.Proc == 0 {
			continue
		}
		families[s.family()] = append(families[s.family()], s)
	}
	for _, family := range slices.Sorted(maps.Keys(families)) {
		sends := families[family]
		for i, b := range sends[1:] {
			a := sends[i]
			if a.To.Seq > b.From.Seq && (a.To.At.After(b.From.At) || !h.died(a.Proc, b.From)) {
				bad("p%d sent %s at %v, while p%d was still at it since %v", b.Proc, short(b.Refresh), h.at(b.From), a.Proc, h.at(a.From))
			}
			h.checkPause(a, b, bad)
		}
		h.checkForced(sends, bad)
	}
}

// checkPause: a failure is followed by a pause.
func (h *modelHistory) checkPause(a, b *modelSend, bad report) {
	var pause time.Duration
	switch a.Class {
	case "definite", "unknown", "lost", "refused":
		pause = max(100*time.Millisecond, a.RetryAfter)
	}
	if a.aside() && (b.Scope == "" || b.Proc != a.Proc) {
		return // nobody else is kept from asking for something else
	}
	if h.troubled(a.Proc, a.From.At, b.From.At) || h.died(a.Proc, b.From) || h.again(a.family(), a.From, b.From) {
		return // it could not be written down, or was overwritten
	}
	if a.Class != "definite" && a.Refresh != b.Refresh && h.meddled(a.Account, moment{}, b.From) {
		return // that was about an old token, which somebody had put back
	}
	if h.meddled(a.Account, a.From, b.From) || h.skew(a.Proc) != h.skew(b.Proc) {
		return // or it is not believed: its clock was wrong
	}
	if gap := b.From.At.Sub(a.To.At); gap < pause {
		bad("p%d sent %s at %v, %v after p%d had met %s and should have left the server alone for %v", b.Proc, short(b.Refresh), h.at(b.From), gap, a.Proc, a.Fault, pause)
	}
}

// checkForced: an API that rejects good tokens costs little.
func (h *modelHistory) checkForced(sends []*modelSend, bad report) {
	if h.Mode.Odd || h.Mode.Lost || h.Mode.Admin {
		return // short lifetimes and new sessions have their own counts
	}
	life := h.Server.AccessLifetime
	every := max(min(time.Minute, life/2), time.Second)
	extra := h.surprises(sends[0].Account)
	at := map[string][]moment{} // by target
	for _, s := range sends {
		if s.received() {
			at[s.Scope] = append(at[s.Scope], s.From)
		}
		if s.aside() {
			extra++ // and the session's own token is asked for
		}
	}
	for _, scope := range slices.Sorted(maps.Keys(at)) {
		h.checkForcedFor(at[scope], life, every, extra, bad)
	}
}

func (h *modelHistory) checkForcedFor(at []moment, life, every time.Duration, extra int, bad report) {
	for _, span := range []time.Duration{10 * time.Second, time.Minute, 10 * time.Minute} {
		most := 5 + int(span/every) + 1 + int(span/(life/2)) + 1 + extra
		for i := range at {
			if j := i + most; j < len(at) && at[j].At.Sub(at[i].At) < span {
				bad("%d refreshes from %v to %v, want at most %d in %v", most+1, h.at(at[i]), h.at(at[j]), most, span)
				break
			}
		}
	}
}

// checkProtocol: no request is malformed, and no body is damaged.
func (h *modelHistory) checkProtocol(bad report) {
	for _, e := range h.Entries {
		switch e.Outcome {
		case oauthtest.DamagedBody, oauthtest.BadRequest, oauthtest.BadClient, oauthtest.NoToken, oauthtest.BadGrantType, oauthtest.BadScope:
			bad("%s %s at %v: %s %s", e.Method, e.Path, e.Arrived.Sub(h.Start), e.Outcome, e.Detail)
		}
	}
}

// checkCalm: where nothing fails, nobody notices anything.
func (h *modelHistory) checkCalm(bad report) {
	if !h.Mode.calm() {
		return
	}
	for _, e := range h.Entries {
		switch {
		case e.Outcome == oauthtest.Reuse:
			bad("a refresh token was used twice at %v", e.Arrived.Sub(h.Start))
		case e.Endpoint == oauthtest.TokenEndpoint && e.Outcome != oauthtest.Granted && e.Outcome != oauthtest.FamilyDead:
			bad("the token endpoint answered %s at %v", e.Outcome, e.Arrived.Sub(h.Start))
		}
	}
	for i := range h.Calls {
		c := &h.Calls[i]
		if c.Lost || !h.alive(c) || c.Kind == "logout" || c.Kind == "login" {
			continue
		}
		switch {
		case c.Status == 401 && !c.OneShot && c.Tries == 1 && (c.Deadline.IsZero() || c.To.At.Before(c.Deadline)) && !h.disbelieved(c.Proc, c.Account, c.From.At.Add(-time.Minute), c.To.At) &&
			!h.underAnother(c) && !h.closedMeanwhile(c):
			bad("p%d %s at %v got a 401 that one replay would have spared it", c.Proc, c.Kind, h.at(c.From))
		case c.Err == nil, errors.Is(c.Err, freshtoken.ErrClosed):
		case !c.Deadline.IsZero() && !c.To.At.Before(c.Deadline): // it had no more time
		case c.Kind == "refresh" && h.disbelieved(c.Proc, c.Account, c.From.At.Add(-time.Minute), c.To.At):
		default:
			bad("p%d %s at %v failed: %v", c.Proc, c.Kind, h.at(c.From), c.Err)
		}
	}
}

// underAnother reports whether the request of a call was perhaps signed under
// another session than the one that was there then: it is not sent again.
func (h *modelHistory) underAnother(c *modelCall) bool {
	family := h.stored(c.Account, c.From).family()
	return h.changing(c.Account, family, c.From, c.To) || slices.ContainsFunc(h.Signs, func(s modelSign) bool {
		return s.Proc == c.Proc && s.Account == c.Account && s.From.Seq > c.From.Seq && s.To.Seq < c.To.Seq && familyOf(s.Access) != family
	})
}

// closedMeanwhile reports whether the program began to close the Source of a call
// before that returned: there is no token to replay a request with any more.
func (h *modelHistory) closedMeanwhile(c *modelCall) bool {
	return slices.ContainsFunc(h.Calls, func(end modelCall) bool {
		return end.Kind == "close" && end.Proc == c.Proc && end.Account == c.Account && end.From.Seq > c.From.Seq && end.From.Seq < c.To.Seq
	})
}

// alive reports whether a session was there all through a call, and a second
// before.
func (h *modelHistory) alive(c *modelCall) bool {
	return slices.ContainsFunc(h.Calls, func(in modelCall) bool {
		return in.Kind == "login" && in.Account == c.Account && in.Err == nil && !in.To.At.Add(time.Second).After(c.From.At) &&
			!slices.ContainsFunc(h.Calls, func(out modelCall) bool {
				return out.Kind == "logout" && out.Account == c.Account && out.To.Seq > in.From.Seq && out.From.Seq < c.To.Seq
			})
	})
}
