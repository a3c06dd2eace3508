package freshtoken

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken/internal/endpoint"
)

// Further access tokens of a session. Each is had by the session's refresh token,
// by the path that every refresh takes, and has a life of its own. What an answer
// for one of them brings is its own access token, the next refresh token of all,
// and nothing else. A refusal of one of them says nothing of the session.

// A Target is what an access token is for, if not for all that the login was
// granted: see Source.For. The zero value is for all of that.
type Target struct {
	// Scopes are no more than the login was granted (RFC 6749 section 6). Nil:
	// all of those. Some servers take openid and offline_access for scopes that
	// have to be among them, and some give all that was granted whatever is
	// asked for: Extra("scope") of the token tells, where the server does.
	Scopes []string

	// Resources are the APIs that the token is to be good for, by their
	// absolute URIs, which have no fragment (RFC 8707 section 2). Nil: what
	// Config.RefreshParams says, or else what the server chooses. Some servers
	// want to be told at the login, too: in Config.LoginParams, as resource.
	Resources []string

	// BeyondLogin leaves it to the server whether the session has the Scopes,
	// though no login has asked for them: for servers whose refresh tokens are
	// good for other APIs, too, as Microsoft's are. Two Targets that differ in
	// this alone have one Source: once one says so, it is so for both.
	BeyondLogin bool
}

// String returns t in the form of a query, sorted: two that ask for the same
// have the same. That of the zero Target is empty.
func (t Target) String() string { return t.params().Encode() }

// params are those of a token request.
func (t Target) params() url.Values {
	all := make(url.Values)
	sorted := func(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }
	if len(t.Scopes) > 0 {
		all["scope"] = []string{strings.Join(sorted(t.Scopes), " ")}
	}
	if len(t.Resources) > 0 {
		all["resource"] = sorted(t.Resources)
	}
	return all
}

// check says what a server would not understand.
func (t Target) check() error {
	for _, scope := range t.Scopes {
		if scope == "" || !headerSafe(scope) || strings.ContainsAny(scope, `"\`) {
			return wrap(ErrTarget, "%q is no scope: one word each (RFC 6749 section 3.3)", endpoint.Sanitize(scope, 100))
		}
	}
	for _, raw := range t.Resources {
		if !endpoint.IsResource(raw) {
			return wrap(ErrTarget, "%q is no absolute URI without a fragment, as a resource has to be (RFC 8707 section 2)", endpoint.Sanitize(raw, 100))
		}
	}
	return nil
}

// For returns a Source of the same session whose access tokens are for a Target:
// narrower scopes, or other resources. They have their own life, and share the
// session's refresh token, its generation, its lock and its place in the store. A
// second call with the same Target returns the same Source; there should be few
// different ones. The zero Target returns the Source that New made.
//
// The first of them is asked for when somebody needs it. Config.Background keeps
// none of them fresh: there is no telling whether anybody will need it; whoever
// asks for a token that is due goes on with it meanwhile, as ever. SetToken,
// Logout, StepUp and Close are about the session, whichever Source they are
// called on, and so is Status, but for what it says of the access token.
//
// ErrTarget tells that the Target makes no sense, or that the session cannot have
// others, because Config.Refresher decides what its tokens are for. That the
// session was not granted what the Target asks for is ErrNotGranted, from Token
// and from whatever uses it: then the session, and every other Target, go on.
//
// Some servers let only the newest access token of a session live. If an API
// rejects one since another has been issued, EventRejected says so by its Err,
// and the budget for rejections (see Refresh) keeps two Targets from taking
// turns for ever: use one for both.
func (s *Source) For(t Target) (*Source, error) {
	if err := t.check(); err != nil {
		return nil, public(err)
	}
	name := t.String()
	if name != "" && s.cfg.Refresher != nil {
		return nil, public(wrap(ErrTarget, "Config.Refresher decides what the session's tokens are for: make a Source for each by New, with a Session of its own"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, known := range s.sources {
		if known.target == name {
			if t.BeyondLogin && !known.beyond {
				known.beyond = true
				known.reconsider()
			}
			return known, nil
		}
	}
	d := &Source{shared: s.shared, target: name, params: t.params(), beyond: t.BeyondLogin,
		status: Status{State: StateUnknown, Session: s.cfg.Session, Target: name}}
	if s.closed {
		d.current.Store(closedView())
	}
	s.sources = append(slices.Clip(s.sources), d)
	return d, nil
}

// reconsider has s ask the server for what it was not granted as far as was known
// here.
func (s *Source) reconsider() {
	for {
		v := s.current.Load()
		if v == nil || !errors.Is(v.err, ErrNotGranted) {
			return
		}
		again := &view{facts: v.facts}
		again.err = nil
		if s.current.CompareAndSwap(v, again) {
			return
		}
	}
}

// root is the Source that New made.
func (s *Source) root() *Source { return s.sharing()[0] }

// sharing are all Sources of the session.
func (s *Source) sharing() []*Source {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sources
}

// closedView is what callers see of a Source that has been closed.
func closedView() *view { return &view{facts: facts{err: ErrClosed}} }

// ungrantedPause is how long a Target is left alone that asks for scopes which, by
// what is known here, the session does not have: another process may have had
// somebody log in.
const ungrantedPause = time.Minute

// ungranted says which scopes of the target were never granted to r's session; nil
// if nothing is known that speaks against them. Servers name scopes in more ways
// than one: those that the program asks for at a login count, too.
func (s *Source) ungranted(r *record) *RefreshError {
	if s.target == "" {
		return nil
	}
	if r.RefreshToken == "" {
		return &RefreshError{class: classTarget, Err: tell(ErrNotGranted,
			"it takes a refresh token, and the login brought none: ask for one at the next, often with the scope offline_access or with access_type=offline")}
	}
	granted := append(scopesOf(r.Extra), s.cfg.OAuth2.Scopes...)
	s.mu.Lock()
	beyond := s.beyond
	s.mu.Unlock()
	if len(granted) == 0 || beyond {
		return nil
	}
	if wanted, lacking := lacks(granted, strings.Fields(s.params.Get("scope"))); lacking {
		return &RefreshError{class: classTarget, Err: tell(ErrNotGranted,
			"the scope %q was not asked for when the session began: add it to Config.OAuth2.Scopes, and log in again, or set BeyondLogin of the Target if the server gives it all the same", wanted)}
	}
	return nil
}

// targetCodes are those by which servers refuse a scope or a resource: of RFC 6749,
// of RFC 8707, and one of before.
var targetCodes = []string{"invalid_scope", "invalid_target", "invalid_resource"}

// aboutTarget reports whether a refusal may be of what a request asked for,
// rather than of the session.
func (e *RefreshError) aboutTarget() bool {
	switch e.class {
	case classEnded, classDenied, classRefused:
		return true
	}
	return false
}

// A targetRefusal keeps a target from being asked for again too soon. Unlike a pause, it
// is no matter of the session, and not stored.
type targetRefusal struct {
	err     error
	session string // its ID: another one may have more
	until   time.Time
	count   int // in a row
}

// stands returns the refusal's error if a target is not to be asked for by r now,
// and for how much longer.
func (f *targetRefusal) stands(r *record, now time.Time) (left time.Duration, err error) {
	if f.err == nil || f.session != r.ID || !now.Before(f.until) {
		return 0, nil
	}
	return f.until.Sub(now), f.err
}

// bind makes p, the pause after an attempt for a target that brought no answer to go
// by, one of that target in next: the server may have trouble with what that is for,
// and with nothing else. The whole session pauses no longer than the server has asked
// for, or than after a first failure.
func (s *Source) bind(next *record, p *pause, e *RefreshError) {
	s.yielded = false
	before := next.Pause
	next.pauseTarget(s.target, p)
	short := *p
	if short.Failures = 1; before != nil && before.Class == p.Class {
		short.Failures = before.Failures
	}
	if until := p.From.Add(heed(backoff(1, s.random()), e.RetryAfter)); until.Before(p.Until) {
		short.Until = until
	}
	next.Pause = &short
}

// doubts counts whose last answers were lost since any came: the session's own, and
// those for targets.
func (r *record) doubts() (n int) {
	since := r.Issued
	for _, a := range r.Derived {
		if a.Issued.After(since) {
			since = a.Issued
		}
	}
	own := r.Pause
	for _, p := range r.TargetPauses {
		if p.Class == classUnknown && p.From.After(since) {
			n++
		}
		if own != nil && own.From.Equal(p.From) { // it is the target's
			own = nil
		}
	}
	if own != nil && own.Class == classUnknown && own.From.After(since) {
		n++
	}
	return n
}

// maxDoubts is how many may lose an answer before the refresh token is sent for no
// further target whose access token is still good: it may be spent. The second may
// well find that it is not.
const maxDoubts = 2

// sparePause is when such a target looks again whether an answer has come.
const sparePause = 10 * time.Second

// spares reports whether s, which is for a target, goes on with the token that it has
// because the refresh token may be spent.
func (s *Source) spares(r *record, v *view, now time.Time) bool {
	return s.target != "" && v.usable(now) && r.Pause != nil && !r.interrupted().IsZero() && r.doubts() >= maxDoubts &&
		r.spared(r.of(s.target), r.Pause.From, now) > 0
}

// yields reports whether the session's own refresh goes before that of s, which is
// for a target and has failed: a target that is asked for often would otherwise keep
// the session from its turn for as long as the server has trouble with that. It does
// so once for each failure.
func (s *Source) yields(r *record, now time.Time) bool {
	if s.target == "" || r.TargetPauses[s.target] == nil || s.yielded || s.isClosed() {
		return false
	}
	v := s.root().current.Load()
	return r.AccessToken != "" && v != nil && v.token != nil && (!v.usable(now) || v.age(now) >= v.due)
}

// rootFirst is the session's own refresh on behalf of s. What becomes of that, s is
// told; nil: it is its turn again.
func (s *Source) rootFirst(r *record) error {
	s.yielded = true
	err := s.root().refresh()
	if err == nil {
		if s.current.Load().usable(time.Now()) {
			s.postpone(0) // the caller who was elected for this goes on
		}
		return nil
	}
	d := glance // not every failure leaves a pause in the record
	if e := new(RefreshError); errors.As(err, &e) && e.RetryAfter > 0 {
		d = e.RetryAfter
	}
	s.refusal.err, s.refusal.session, s.refusal.until = err, r.ID, time.Now().Add(d)
	return s.stay(err, d)
}

// targetFailed deals with an attempt for a target that the server has refused. r
// is the marked record. The server may mean the target alone, even where it says
// invalid_grant: some say so of a scope that nobody has consented to. Only a
// refresh of the session's own says that it is over, and is asked for where the
// refusal may mean that; some servers say so in no clear words.
func (s *Source) targetFailed(r *record, e *RefreshError, interrupted time.Time) error {
	if e.class == classEnded {
		if done, err := s.overtaken(r); done {
			return err
		}
	}
	s.refusal.count++
	named := e.class != classRefused || slices.Contains(targetCodes, e.Code)
	doubtful := e.class != classRefused || !named && s.refusal.count >= maxRefusals
	s.put(r.with(func(c *record) {
		c.Padding = ""
		if interrupted.IsZero() {
			c.Mark = nil
		}
		if doubtful {
			c.Pause = r.Pause.over() // the server is there, and is asked once more
		}
	})) // if that fails, there is a mark too many
	if doubtful && s.isClosed() {
		return ErrClosed // which waits for one refresh: whoever comes next finds out what the server means
	}
	if doubtful {
		if err := s.rootFirst(r); err != nil {
			return err
		}
		s.refusal.count = -maxRefusals // it is the target: for a while, nobody asks so soon
	}
	e.class, e.ended, e.Uncertain, e.foreign, e.Temporary = classTarget, false, false, false, false
	d := uncertainPause
	switch {
	case named:
		e.Err = tell(ErrNotGranted, "have the server know what the Target is for (%s), and the login ask for it: by Config.OAuth2.Scopes, or, for a resource, by Config.LoginParams", s.wants())
	case s.refusal.count > 0:
		d = backoff(s.refusal.count, s.random())
	}
	s.refusal.err, s.refusal.session, s.refusal.until = e, r.ID, time.Now().Add(d)
	return s.fail(e, d)
}

// wants says what the access tokens of s are for.
func (s *Source) wants() string {
	var all []string
	for scope := range strings.FieldsSeq(s.params.Get("scope")) {
		all = append(all, "the scope "+strconv.Quote(scope))
	}
	for _, resource := range s.params["resource"] {
		all = append(all, "the resource "+strconv.Quote(endpoint.Sanitize(resource, 200)))
	}
	return strings.Join(all, ", ")
}

// over returns p, which may be nil, as one that has passed. What has failed is still
// counted; but that an answer was lost is no reason any more to spare the server.
func (p *pause) over() *pause {
	if p == nil || p.Class == classUnknown {
		return nil
	}
	passed := *p
	passed.Until = p.From
	return &passed
}

// stay tells callers of s for a while why there is no newer token. One that is good
// stays in use.
func (s *Source) stay(err error, d time.Duration) error {
	now := time.Now()
	if s.current.Load().usable(now) {
		s.postpone(d)
		return err
	}
	s.display(func(v *view) {
		if v.err == nil {
			v.err, v.retry = err, now.Add(d)
		}
	})
	return err
}

// superseded says that an access token was rejected after one for something else
// was issued to the session; nil if that is not so.
func (s *Source) superseded(rejected *view) error {
	for _, other := range s.sharing() {
		if v := other.current.Load(); other != s && v != nil && v.token != nil && v.id == rejected.id && v.issued > rejected.issued {
			what := "for all that the login was granted"
			if other.target != "" {
				what = fmt.Sprintf("for %q", other.target)
			}
			return fmt.Errorf("the session has got a newer access token since, %s: "+
				"if this goes on, the server lets only the newest one live, and one Target has to do for both", what)
		}
	}
	return nil
}
