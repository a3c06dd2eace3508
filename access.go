package freshtoken

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// An access is an access token, and what is known of that one: of a session's
// own, or of one for a Target. It is immutable once it is shared.
type access struct {
	AccessToken string `json:"access_token,omitempty"`

	// Brought is the session's generation that the token came with.
	Brought uint64 `json:"access_generation,omitempty"`

	// Thumbprint is that of the client certificate that the token was had with,
	// to which it may be bound (RFC 8705 section 3); empty: none is known.
	Thumbprint string `json:"thumbprint,omitempty"`

	// Issued is when the request for the token began. Lifetime counts from
	// there; zero is unknown. RefreshIn is the server's hint for when to
	// refresh.
	Issued    time.Time     `json:"issued,omitzero"`
	Lifetime  time.Duration `json:"lifetime_ns,omitempty"`
	RefreshIn time.Duration `json:"refresh_in_ns,omitempty"`

	// Extra holds the other members of the server's answers. That of the
	// session's own token also has those that are about the session.
	Extra map[string]json.RawMessage `json:"extra,omitempty"`

	// base is when elapsed time began to count in this program: when the token
	// was asked for, or first read. It is not stored.
	base time.Time
}

// sessionMembers are the members of an answer that are about the session, whatever
// access token it brings.
var sessionMembers = append([]string{"id_token", "authorization_expires_in"}, refreshLifetimes...)

// maxDerived is how many access tokens for Targets a session keeps in the store.
const maxDerived = 32

// take replaces a by what g, the answer to a request that began at start, brings
// with a generation of the session. Members that it leaves out stay.
func (a *access) take(g grant, start time.Time, generation uint64) {
	a.Brought = generation
	a.AccessToken, a.Issued, a.Lifetime, a.RefreshIn = g.access, start.UTC().Round(0), g.lifetime, g.hint
	a.Extra, a.base = merged(a.Extra, g.extra), start
}

// clean makes what was stored fit for use. It reports false if it is not.
func (a *access) clean() bool {
	if !headerSafe(a.AccessToken) {
		return false
	}
	a.Lifetime = min(max(a.Lifetime, 0), maxLifetime)
	if y := a.Issued.Year(); a.Lifetime > 0 && (y < 1970 || y > 2200) { // beyond what nanoseconds can count
		a.Issued, a.Lifetime = longDead, staleLifetime
	}
	return true
}

// same reports whether two of a session, either of which may be nil, are the same
// access token, and it was not issued again in between.
func (a *access) same(o *access) bool {
	return a != nil && o != nil && a.AccessToken == o.AccessToken && a.Issued.Equal(o.Issued)
}

// token returns what callers get: without the refresh token.
func (a *access) token() *oauth2.Token {
	tok := &oauth2.Token{AccessToken: a.AccessToken, TokenType: "Bearer"}
	if a.Lifetime > 0 {
		tok.Expiry = a.Issued.Add(a.Lifetime)
		tok.ExpiresIn = int64(a.Lifetime / time.Second)
	}
	extra := make(map[string]any, len(a.Extra))
	for name, raw := range a.Extra {
		var value any
		if json.Unmarshal(raw, &value) == nil {
			extra[name] = value
		}
	}
	return tok.WithExtra(extra)
}

// dead reports whether the token has expired, by the wall clock.
func (a *access) dead(now time.Time) bool {
	return a.Lifetime > 0 && !now.Before(a.Issued.Add(a.Lifetime))
}

// of returns the access token for a target, or nil; the empty one is the
// session's own. r may be nil.
func (r *record) of(target string) *access {
	switch {
	case r == nil || r.Ended != nil:
		return nil
	case target != "":
		return r.Derived[target]
	case r.AccessToken == "":
		return nil
	}
	return &r.access
}

// set has the access token for a target be a, which may be nil. r is about to be
// shared, and its Derived may be already.
func (r *record) set(target string, a *access) {
	if target == "" {
		r.access = access{Extra: r.Extra}
		if a != nil {
			r.access = *a
		}
		return
	}
	r.Derived = maps.Clone(r.Derived)
	if a == nil {
		delete(r.Derived, target)
		return
	}
	if r.Derived == nil {
		r.Derived = make(map[string]*access)
	}
	r.Derived[target] = a
	maps.DeleteFunc(r.Derived, func(other string, o *access) bool { return other != target && o.dead(a.Issued) })
}

// pauseTarget has p, which may be nil, be the pause of a target. r is about to be
// shared, and its TargetPauses may be already.
func (r *record) pauseTarget(target string, p *pause) {
	if p == nil && r.TargetPauses[target] == nil {
		return
	}
	r.TargetPauses = maps.Clone(r.TargetPauses)
	if p == nil {
		delete(r.TargetPauses, target)
		return
	}
	if r.TargetPauses == nil {
		r.TargetPauses = make(map[string]*pause)
	}
	r.TargetPauses[target] = p
	if len(r.TargetPauses) > maxDerived {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(r.TargetPauses)), func(a, b string) int {
			return cmp.Or(r.TargetPauses[a].From.Compare(r.TargetPauses[b].From), strings.Compare(a, b))
		})
		delete(r.TargetPauses, oldest)
	}
}

// kept returns r as it is stored: without the oldest of too many access tokens for
// targets. The program goes on with those that it has: it would ask for each of
// them again whenever it needs it.
func (r *record) kept() *record {
	if len(r.Derived) <= maxDerived {
		return r
	}
	targets := slices.SortedFunc(maps.Keys(r.Derived), func(a, b string) int {
		return cmp.Or(r.Derived[a].Issued.Compare(r.Derived[b].Issued), strings.Compare(a, b))
	})
	return r.with(func(c *record) {
		c.Derived = maps.Clone(r.Derived)
		for _, target := range targets[:len(targets)-maxDerived] {
			delete(c.Derived, target)
		}
	})
}

// met returns r, which was read from the store, as this program goes on with it:
// with the time from which to count the age of each access token, and with those
// that known, of the same session, has from a later refresh. Somebody who has met
// an older record, put back from a backup, may have refreshed that for another
// target. known may be nil.
func (r *record) met(known *record, now time.Time) *record {
	if known != nil && known.ID != r.ID || r.Ended != nil {
		known = nil
	}
	choose := func(a, k *access) access {
		switch {
		case k != nil && a.AccessToken != "" && k.Brought > a.Brought:
			return *k
		case a.same(k):
			c := *a
			c.base = k.base
			return c
		}
		c := *a
		c.base = now
		return c
	}
	return r.with(func(c *record) {
		c.access = choose(&r.access, known.of(""))
		c.access.Extra = r.Extra // which is also about the session
		c.Derived = maps.Clone(r.Derived)
		for target, a := range r.Derived {
			chosen := choose(a, known.of(target))
			c.Derived[target] = &chosen
		}
		if known == nil || len(r.Derived) < maxDerived {
			return // what is missing was rejected, or is older than any record that has it
		}
		for target, k := range known.Derived {
			if r.Derived[target] == nil && !k.dead(now) {
				c.set(target, k)
			}
		}
	})
}

// accessTokens are all that r has.
func (r *record) accessTokens() (all []string) {
	if r.AccessToken != "" {
		all = append(all, r.AccessToken)
	}
	for _, a := range r.Derived {
		all = append(all, a.AccessToken)
	}
	return all
}
