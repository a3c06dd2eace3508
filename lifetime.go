package freshtoken

import (
	"time"

	"github.com/freshtoken/freshtoken/internal/endpoint"
)

// How long the session itself lasts, as far as the server has said: the refresh
// token's own life (refresh_token_expires_in, refresh_expires_in,
// refresh_token_timeout), and that of the whole grant (authorization_expires_in).
// It is good for a warning, and to refresh in time what a server ends for being
// idle. It never says that a session is over: only the server does.

const (
	// A warning comes this long before the end: a tenth of the life, within
	// these bounds, and half of it at most.
	minWarning   = 5 * time.Minute
	maxWarning   = 24 * time.Hour
	warningShare = 10

	// A refresh token that lives for less is not kept alive: it would be
	// refreshed all the time.
	minKept = time.Minute

	// Within so short a time, rounded seconds do not tell whether a refresh has
	// put off the end.
	minJudged = 10 * time.Second
)

// A span is how long something serves, counted from when the request began whose
// answer says so.
type span struct {
	From  time.Time     `json:"from"`
	Lasts time.Duration `json:"lasts_ns"`
	Fixed bool          `json:"fixed,omitempty"` // a refresh has not put off its end

	// Whole is the life of the first that had a Fixed end; the later ones have
	// what is left of it.
	Whole time.Duration `json:"whole_ns,omitempty"`
}

// end is when it is over; zero if s is nil, or holds what nobody would write.
func (s *span) end() time.Time {
	if s == nil || s.Lasts <= 0 || s.Lasts > maxLifetime || s.From.Year() < 1970 || s.From.Year() > 2200 {
		return time.Time{}
	}
	return s.From.Add(s.Lasts)
}

// putOff reports whether next, told by a later answer, ends as much later as
// servers have it that count from the last refresh.
func (s *span) putOff(next *span) bool {
	before, after := s.end(), next.end()
	if before.IsZero() || after.IsZero() {
		return true
	}
	passed := next.From.Sub(s.From)
	if passed < minJudged {
		return !s.Fixed
	}
	return after.Sub(before) >= passed/2
}

// follow sets what of s depends on old, which an earlier answer told.
func (s *span) follow(old *span) {
	if s.Fixed = !old.putOff(s); s.Fixed {
		s.Whole = max(old.Whole, old.Lasts)
	}
}

// span reads the shortest of some lifetimes in an answer. told says that there is
// one; it is nil where that says nothing: zero, as Keycloak has it for a token
// that does not expire, less, or no number.
func (g *grant) span(start time.Time, names ...string) (s *span, told bool) {
	for _, name := range names {
		raw, ok := g.extra[name]
		told = told || ok
		n, ok := endpoint.Number(raw)
		if !ok || n <= 0 {
			continue
		}
		if d := seconds(n); s == nil || d < s.Lasts {
			s = &span{From: start.UTC().Round(0), Lasts: d}
		}
	}
	return s, told
}

// live notes what g, the answer to a request that began at start, says of how
// long the session lasts. renewed says that it brought another refresh token,
// of which nothing is known but what the answer says.
func (r *record) live(g grant, start time.Time, renewed bool) {
	old := r.RefreshLife
	next, told := g.span(start, refreshLifetimes...)
	switch {
	case told || renewed:
		r.RefreshLife = next
		if next != nil {
			next.follow(old)
		}
	case old != nil && !old.Fixed:
		fixed := *old
		fixed.Fixed = true
		r.RefreshLife = &fixed
	}
	if next, told := g.span(start, "authorization_expires_in"); told {
		if next != nil {
			next.follow(r.GrantLife)
		}
		r.GrantLife = next
	}
}

// ends returns when r's session ends if nobody does anything, by what the server
// has said, and how long before that it is time for a warning; zero if the server
// has not said.
func (r *record) ends() (at time.Time, warning time.Duration) {
	if r == nil || r.Ended != nil {
		return time.Time{}, 0
	}
	for _, s := range []*span{r.RefreshLife, r.GrantLife} {
		end := s.end()
		if end.IsZero() || s == r.RefreshLife && r.RefreshToken == "" || !at.IsZero() && !end.Before(at) {
			continue
		}
		at, warning = end, warningFor(min(max(s.Lasts, s.Whole), maxLifetime))
	}
	return at, warning
}

// lapsed returns when r's session was to end, if that is past; zero otherwise.
func (r *record) lapsed(now time.Time) time.Time {
	if at, _ := r.ends(); now.After(at) {
		return at
	}
	return time.Time{}
}

// warningFor returns how long before the end of a life of this length it is time
// for a warning.
func warningFor(life time.Duration) time.Duration {
	return min(min(max(life/warningShare, minWarning), maxWarning), life/2)
}

// slides returns when r's refresh token ends, by what the server has said, if a
// refresh before then puts that off, as far as is known; zero otherwise.
func (r *record) slides() time.Time {
	end, life := r.RefreshLife.end(), r.RefreshLife
	if r.RefreshToken == "" || end.IsZero() || life.Fixed || life.Lasts < minKept {
		return time.Time{}
	}
	if grant := r.GrantLife.end(); !grant.IsZero() && !grant.After(end) {
		return time.Time{}
	}
	return end
}

// keepAge is record.keepAge where Config.KeepAlive asks for it, and never for a
// target where the background sees to that.
func (s *Source) keepAge(r *record, a *access) time.Duration {
	if !s.cfg.KeepAlive || s.target != "" && s.cfg.Background {
		return never
	}
	return r.keepAge(a, s.jitter)
}

// keepAge is the age of a, an access token of r, at which the refresh token is due
// for a refresh, for the sake of its own life: before there is a warning. It is
// never where a refresh has not put off the end before. jitter is that of
// refreshAge.
func (r *record) keepAge(a *access, jitter float64) time.Duration {
	end := r.slides()
	if end.IsZero() {
		return never
	}
	life := r.RefreshLife.Lasts
	lead := min(2*warningFor(life), life*2/3)
	lead -= time.Duration(jitter * float64(lead) / 10)
	return end.Add(-lead).Sub(a.Issued)
}

// spared is how much longer r's refresh token, which may be spent, is not sent
// again, because its access token a is still good; never: as long as that is so.
// The last answer was lost at a time. A server that takes a second use for theft
// revokes the access token, too. But where the refresh token is to expire before
// it, there is more to lose by waiting: it is sent when it is time for the warning,
// and whenever half of what is left then has passed.
func (r *record) spared(a *access, lost, now time.Time) time.Duration {
	end := r.slides()
	if end.IsZero() || a == nil {
		return never
	}
	warning := warningFor(r.RefreshLife.Lasts)
	if a.Lifetime > 0 && a.Issued.Add(a.Lifetime).Before(end.Add(-warning/2)) {
		return never // it is sent in time anyway
	}
	switch left := end.Sub(lost); {
	case left > warning:
		return max(end.Add(-warning).Sub(now), 0)
	case left > minBackoff:
		return max(lost.Add(left/2).Sub(now), 0)
	}
	return never
}

// warnAge is the age of a, an access token of r, at which it is time to warn of the
// end; never if nothing is known of it, or there has been a warning. The turn is
// held.
func (s *Source) warnAge(r *record, a *access) time.Duration {
	at, warning := r.ends()
	if at.IsZero() || r.ID == s.inTurn.warned && at.Before(s.inTurn.warnedOf.Add(warning/2)) {
		return never
	}
	return at.Add(-warning).Sub(a.Issued)
}

// warn tells of the end of the session when it is time. It follows what a flight
// has done: a refresh may have put off the end. The turn is held.
func (s *Source) warn() {
	t := &s.inTurn
	now := time.Now()
	a := t.session.of(s.target)
	if a == nil {
		return
	}
	if from := s.warnAge(t.session, a); from == never || age(a.Issued.UnixNano(), now.UnixNano(), now.Sub(a.base)) < from {
		return
	}
	t.warned = t.session.ID
	t.warnedOf, _ = t.session.ends()
	s.emit(EventExpiring, nil)
	for _, each := range s.sharing() {
		each.warned()
	}
}

// warned has the view ask for no warning any more.
func (s *Source) warned() {
	for {
		old := s.current.Load()
		if old == nil {
			return
		}
		v := &view{facts: old.facts}
		v.warn = never
		if v.token != nil && !v.rejected {
			v.freshUntil = v.due
		}
		if s.publish(old, v) {
			return
		}
	}
}
