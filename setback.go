package freshtoken

import (
	"errors"
	"time"
)

// What happens when an attempt brings no token: what it means for the session,
// what callers are told, and when it is worth trying again.

const (
	// A grant that is refused in no clear words is asked for this many times,
	// spaced, before the session counts as ended; and then this often, since
	// a firewall or a broken deployment can refuse like that for a while.
	maxRefusals    = 3
	uncertainPause = 5 * time.Minute

	// glance is how often a session that is absent or ended, or a store that
	// fails, is looked at on behalf of all callers.
	glance = time.Second
)

// failed deals with an attempt that brought no token: it says what that means
// for the session (RefreshError), and how long to leave the server alone.
// interrupted is when an earlier attempt may have spent the refresh token.
func (s *Source) failed(r *record, e *RefreshError, interrupted time.Time) error {
	t := &s.inTurn
	now := time.Now()
	p := &pause{From: now.UTC().Round(0), Failures: 1, Class: e.class, Status: e.Status, Code: e.Code, Description: e.Description}
	ofTarget := s.target != "" && (e.class == classTransient || e.class == classUnknown)
	last := r.Pause
	if ofTarget {
		last = r.TargetPauses[s.target]
	}
	if last != nil && last.Class == p.Class {
		p.Failures = last.Failures + 1
	}
	d := heed(s.untilExpiry(backoff(p.Failures, s.random()), now), e.RetryAfter)
	next := r.with(func(c *record) {
		c.Padding = ""
		if interrupted.IsZero() { // or an earlier attempt may have spent it, whatever has become of this one
			c.Mark = nil
		}
	})
	if e.salvaged != "" {
		next.Generation++
		next.RefreshToken, next.Mark, e.salvaged = e.salvaged, nil, ""
		next.RefreshLife, next.Overtaken = nil, time.Time{}
		if !interrupted.IsZero() && r.Mark != nil && interrupted.Equal(r.Mark.At) { // of the token that is spent now
			next.Overtaken = interrupted
		}
		if s.current.Load().rejected {
			next.set(s.target, nil)
		}
		t.unsaved = true
	}
	switch e.class {
	case classEnded:
		e.Interrupted, e.Lapsed = interrupted, r.lapsed(now)
		return s.ended(r, e)
	case classMistaken: // the server has taken the refresh token, which it may have spent
		next.Mark = r.Mark
		t.mistaken = e.Err
		d = max(d, uncertainPause)
	case classDenied, classRefused:
		e.Interrupted, e.Lapsed = interrupted, r.lapsed(now)
		if e.class == classDenied || p.Failures >= maxRefusals {
			d = max(d, uncertainPause)
		}
		if e.foreign {
			p = nil // another program may have the right certificate
		}
	case classConfiguration:
		t.misfits++
		d = backoff(t.misfits, s.random())
		p = nil // another program may be configured better
	case classUnknown:
		next.Mark = r.Mark
		e.promptly = p.Failures == 1 && e.RetryAfter == 0
	}
	if p != nil {
		p.Until = p.From.Add(d)
		p.explain(e)
	}
	if ofTarget {
		s.bind(next, p, e)
	} else {
		next.Pause = p
	}
	if err := s.put(next); err != nil && t.unsaved {
		s.emit(EventNotPersisted, err)
	}
	if e.class == classUnknown && p.Failures > 1 && s.current.Load().usable(now) {
		d = max(d, r.spared(r.of(s.target), p.From, now))
	}
	return s.fail(e, d)
}

// untilExpiry shortens a pause that is our own choice so that it does not outlast
// the access token, if that can still be used: before callers are told of a
// failure, the server is asked once more.
func (s *Source) untilExpiry(d time.Duration, now time.Time) time.Duration {
	if v := s.current.Load(); v.usable(now) {
		return min(d, max(v.expire-v.age(now), minBackoff/10))
	}
	return d
}

// explain says in e what a pause of this kind means.
func (p *pause) explain(e *RefreshError) {
	switch p.Class {
	case classDenied, classMistaken:
		e.ended, e.Uncertain, e.Temporary = true, true, false
	case classRefused:
		e.ended = p.Failures >= maxRefusals
		e.Uncertain, e.Temporary = e.ended, !e.ended
	}
}

// keepPause honours the pause that the last failure, of whatever process, has
// left in the record. done says that it forbids a refresh now.
func (s *Source) keepPause(p *pause, v *view, now time.Time) (done bool, err error) {
	left := remaining(p.From, p.Until, now)
	if r := s.inTurn.session; v.usable(now) && p.Class == classUnknown && p.Failures > 1 {
		left = max(left, r.spared(r.of(s.target), p.From, now))
	}
	if left == 0 {
		return false, nil
	}
	if v.usable(now) {
		s.postpone(left)
		return true, nil
	}
	e := p.failure(s.inTurn.session)
	if p.Class == classMistaken {
		e.Interrupted = time.Time{} // the server's answer has come
		if e.Err = s.inTurn.mistaken; e.Err == nil {
			e.Err = errors.New("so another process has found")
		}
	}
	return true, s.fail(e, left)
}

// resting returns r with the pause that the server asked for, if a stored record
// that r is to replace, which may be nil, tells of one: unless it was about
// another refresh token.
func (r *record) resting(stored *record) *record {
	if stored == nil || stored.ID != r.ID || stored.Pause == nil || r.Ended != nil {
		return r
	}
	p := *stored.Pause
	if remaining(p.From, p.Until, time.Now()) == 0 || r.Pause != nil && !p.Until.After(r.Pause.Until) {
		return r
	}
	if stored.credential() != r.credential() {
		if p.Class != classTransient && p.Class != classUnknown {
			return r // the server has refused another token
		}
		p.Failures = 1 // with this one, at most
	}
	return r.with(func(c *record) { c.Pause = &p })
}

// failure is the failure that p, in the record r, tells of.
func (p *pause) failure(r *record) *RefreshError {
	e := &RefreshError{class: p.Class, Status: p.Status, Code: p.Code, Description: p.Description,
		Temporary: true, OutcomeUnknown: p.Class == classUnknown, Interrupted: r.suspect()}
	if p.Class == classDenied || p.Class == classRefused {
		e.Lapsed = r.lapsed(time.Now())
	}
	p.explain(e)
	if p.Status == 0 {
		e.Err = errors.New("the last attempt, perhaps of another process, brought no answer: check the network connection")
	}
	return e
}

// ended deals with a refresh token that the server has refused for good.
func (s *Source) ended(r *record, e *RefreshError) error {
	t := &s.inTurn
	if done, err := s.overtaken(r); done {
		return err
	}
	tomb := r.tombstone(ending{At: time.Now().UTC().Truncate(time.Second), Status: e.Status, Code: e.Code,
		Description: e.Description, Interrupted: e.Interrupted, Lapsed: e.Lapsed})
	t.dead = digest(r.credential())
	if s.put(tomb) != nil && !t.unsaved {
		// Until it is saved, other processes ask the server, and are told the
		// same. (If the store has older tokens, which are spent, the lock is
		// kept.)
		t.unburied = true
	}
	return s.fail(e, glance)
}

// overtaken adopts what a process that knows no lock has stored while the server
// refused r's refresh token. done says that there is something.
func (s *Source) overtaken(r *record) (done bool, err error) {
	stored, err := s.load(loadTime)
	if err != nil || reconcile(r, !s.inTurn.unsaved, stored) == keep || stored.sameTokens(r) || s.isDead(stored) {
		return false, nil
	}
	s.adopt(stored)
	_, err = s.settled(reasonNeed)
	return true, err
}

// fail shows callers that a refresh has failed, and keeps the Source from
// trying again for a while. A token that is still good stays in use.
func (s *Source) fail(e *RefreshError, d time.Duration) error {
	if (!e.ended || e.Uncertain) && e.class != classTarget {
		if e.RetryAfter = d; d == never {
			e.RetryAfter = s.current.Load().left(time.Now())
		}
	}
	last := s.Status().LastError
	s.note(e)
	switch {
	case !e.ended || e.Uncertain:
		s.emit(EventRefreshFailed, e)
	case last == nil || last.Error() != e.Error(): // not each time that somebody asks
		s.emit(EventSessionEnded, e)
	}
	if s.current.Load().usable(time.Now()) {
		s.postpone(d)
		return e
	}
	if d == never { // the token has died while this was written down
		d = backoff(1, s.random())
	}
	s.show(func(v *view) {
		v.err, v.retry, v.wake = e, time.Now().Add(d), time.Time{}
		if e.Temporary || e.Uncertain {
			v.wake = v.retry
		}
	})
	return e
}

// storeFailed is fail for a store that cannot be used. Nothing has been spent.
func (s *Source) storeFailed(err error) error {
	t := &s.inTurn
	t.storeFailures++
	pause := backoff(t.storeFailures, s.random())
	if last := s.Status().LastError; last == nil || last.Error() != public(err).Error() {
		s.emit(EventRefreshFailed, err)
	}
	s.note(err)
	if s.current.Load().usable(time.Now()) {
		s.postpone(pause)
		return err
	}
	s.show(func(v *view) {
		// A caller may have just unlocked the keyring; nobody did so for the
		// background.
		v.err, v.retry, v.wake = err, time.Now().Add(glance), time.Now().Add(max(pause, glance))
	})
	return err
}

// postpone puts off the next look at a token that is due.
func (s *Source) postpone(d time.Duration) {
	s.show(func(v *view) {
		v.due = v.expire
		if age := v.age(time.Now()); d < v.expire-age {
			v.due = age + d
		}
		if !v.rejected { // or callers would go on with it
			v.freshUntil = min(v.due, v.warn)
		}
	})
}

// disbelieve ignores rejections of the token for a while, because the API has
// rejected too many.
func (s *Source) disbelieve(d time.Duration) error {
	e := overBudget(d)
	if err := s.superseded(s.current.Load()); err != nil {
		e.Err = err
	}
	s.emit(EventOverBudget, e)
	s.note(e)
	s.show(func(v *view) {
		v.rejected, v.freshUntil = false, min(v.due, v.warn)
		v.overBudget = time.Now().Add(d)
	})
	return e
}
