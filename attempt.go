package freshtoken

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/oauth2"
)

// The one path that every refresh takes, whatever asked for it: lock the
// session, read what is stored, adopt it if that is enough; otherwise mark the
// record, ask the server once, save the answer, show it to the callers, unlock.
// No other code spends a refresh token.

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

// inTurn is what only the holder of Source.turn touches.
type inTurn struct {
	// session is the newest known; nil before the first look into the store
	// and when nobody is logged in. base is when its access token was asked
	// for, or read. unsaved says that its tokens have never been in the store.
	session *record
	base    time.Time
	unsaved bool

	// held unlocks a session lock that is kept across flights; nil: none is.
	// abandoned is closed when a call returns that was given up; nil: none was.
	// landing says that the latter may still take effect.
	held      func() error
	abandoned <-chan struct{}
	landing   bool

	// Failures in a row that no record tells of: of saves after a refresh, of
	// the store otherwise, and of the client's configuration.
	saveFailures, storeFailures, misfits int

	// unread is why the store could not be read under the lock that is held;
	// nil: it could. What cannot be read is not overwritten.
	unread error

	// dead is the digest of a refresh token that is not to be used again. If
	// unburied, the tombstone that says so is not in the store yet.
	dead     string
	unburied bool

	// unused is the nonce of a mark whose refresh token was not sent after all.
	unused string
}

// flight is one turn on the path. It returns what a caller in need is told; nil
// means: look again.
func (s *Source) flight(why reason) error {
	now := time.Now()
	v := s.current.Load()
	limit := lockTime
	switch why {
	case reasonDue:
		if !v.usable(now) || v.age(now) < v.due {
			return nil
		}
		limit = tryTime
	case reasonNeed:
		if v.usable(now) {
			return nil
		}
		if v.refuses(now) {
			return v.err
		}
		if done, err := s.lookUp(); done {
			return err
		}
	case reasonSave:
		if t := &s.inTurn; t.held == nil && !t.unsaved && !t.unburied {
			return nil
		}
	}
	unlock, err := s.acquire(limit)
	if err != nil {
		return s.notLocked(why, err)
	}
	defer func() {
		s.flights.Forget(string(why)) // whoever comes now has seen the outcome
		s.release(unlock)
	}()
	if done, err := s.catchUp(why); done {
		return err
	}
	return s.refresh()
}

// lookUp reads the store without the lock, if there is no session in memory
// that could be refreshed: the program has just started, or nobody is logged
// in, or the session has ended. done says that this settles the matter.
func (s *Source) lookUp() (done bool, err error) {
	if r := s.inTurn.session; r != nil && s.sessionError() == nil {
		return false, nil
	}
	stored, err := s.load()
	if err != nil {
		return true, s.storeFailed(err)
	}
	if s.isDead(stored) && !s.inTurn.unburied {
		s.inTurn.unburied = true // a save that was given up has landed late
		s.retrySave()
	}
	s.adopt(stored)
	return s.settled(reasonNeed)
}

// notLocked deals with a lock that could not be had.
func (s *Source) notLocked(why reason, err error) error {
	switch {
	case why == reasonSave:
		s.retrySave()
	case why == reasonDue && errors.Is(err, ErrLocked):
		// Another process is at it. Look again soon, but not all at once.
		s.postpone(glance/2 + time.Duration(s.random()*float64(glance)))
	case errors.Is(err, ErrStore):
		return s.storeFailed(err)
	case errors.Is(err, ErrLocked):
		s.note(err)
		s.show(func(v *view) { v.wake = time.Now().Add(glance) })
	}
	return err
}

// catchUp makes memory and store agree, under the lock. done says that no
// refresh is needed, or none is possible.
func (s *Source) catchUp(why reason) (done bool, err error) {
	t := &s.inTurn
	stored, err := s.load()
	t.unread = err
	if err != nil {
		// Of tokens that a refresh brought, the store knows nothing. Those of a
		// login may have been handed in before, and replaced since.
		if t.unsaved && (t.session.Generation > 1 || s.cfg.InsecureUnsaved) {
			s.note(err)
			return why == reasonSave, nil
		}
		return true, s.storeFailed(err)
	}
	t.unburied = s.isDead(stored)
	switch verdict := reconcile(t.session, !t.unsaved, stored); {
	case t.unburied:
		if err := s.put(t.session); err == nil {
			t.unburied = false
		} else {
			s.retrySave()
		}
	case verdict == gone:
		s.adopt(nil)
	case verdict == believe:
		s.adopt(stored)
	default:
		if stored != nil && stored.Ended == nil && stored.sameTokens(t.session) {
			s.persisted() // an abandoned save has landed
		} else if err := s.put(t.session); err != nil && !t.unsaved {
			return true, s.storeFailed(err)
		}
	}
	return s.settled(why)
}

// settled shows the session as it now is, and says whether that is all there is
// to do.
func (s *Source) settled(why reason) (done bool, err error) {
	now := time.Now()
	v := s.show(func(v *view) {
		if why == reasonDue && v.usable(now) && v.age(now) >= v.due {
			v.freshUntil = v.expire // the caller elected to refresh is still at it
		}
	})
	switch {
	case v.err != nil:
		return true, v.err
	case why == reasonSave:
		return true, nil
	case why == reasonDue:
		return v.age(now) < v.due, nil
	default:
		return v.usable(now), nil
	}
}

// refresh spends the refresh token, unless something forbids it for now. The
// lock is held, and the session is the stored one, or newer.
func (s *Source) refresh() error {
	t := &s.inTurn
	r := t.session
	v := s.current.Load()
	now := time.Now()
	if !s.refreshable(r) {
		return s.fail(&RefreshError{class: classEnded, ended: true,
			Err: errors.New("the access token is no longer valid and there is no refresh token")}, glance)
	}
	if r.Pause != nil {
		if done, err := s.keepPause(r.Pause, v, now); done {
			return err
		}
	}
	marked := r.marked(now)
	if v.rejected && v.age(now) < s.dueAge(r) { // only the API's rejection asks for it
		budget, wait := refill(r.Forced, now, r.Lifetime)
		if budget.Left <= 0 {
			return s.disbelieve(wait)
		}
		budget.Left--
		marked.Forced = &budget
	}
	if err := s.put(marked); err != nil {
		t.session, t.unused = r, marked.Mark.Nonce
		if !t.unsaved && !s.cfg.InsecureUnsaved {
			return s.storeFailed(err) // nothing has been spent
		}
	}
	t.storeFailures = 0
	start := time.Now()
	g, err := s.ask(marked, start)
	if err != nil {
		e := refreshErrorOf(err, r.RefreshToken != "")
		e.hide(r.RefreshToken, r.AccessToken, s.cfg.OAuth2.ClientSecret)
		return s.failed(marked, e, r.interrupted())
	}
	return s.succeeded(marked.next(g, start), start)
}

// ask has the Refresher get a new token.
func (s *Source) ask(r *record, start time.Time) (grant, error) {
	old := &oauth2.Token{AccessToken: r.AccessToken, TokenType: "Bearer", RefreshToken: r.RefreshToken}
	if r.Lifetime > 0 {
		old.Expiry = r.Issued.Add(r.Lifetime)
	}
	tok, err := call(s, grantTime, true, func(ctx context.Context) (*oauth2.Token, error) { return s.grant.Refresh(ctx, old) })
	switch {
	case errors.Is(err, errBusy):
		return grant{}, &RefreshError{class: classTransient, Temporary: true, Err: fmt.Errorf("the store: %w", err)}
	case errors.Is(err, errHangs), errors.Is(err, errExit):
		return grant{}, &RefreshError{class: classUnknown, Temporary: true, OutcomeUnknown: true, Err: fmt.Errorf("the Refresher: %w", err)}
	case err != nil:
		return grant{}, err
	}
	if tok == nil {
		tok = new(oauth2.Token)
	}
	g, err := takeApart(tok, start)
	if err == nil && tok.AccessToken == "" {
		err = wrap(ErrBadToken, "there is no access token")
	}
	if err != nil {
		return grant{}, unusable(tok.RefreshToken, err)
	}
	return g, nil
}

// succeeded saves the server's answer and then shows it to the callers. If it
// cannot be saved, it is used all the same: the old refresh token is spent.
func (s *Source) succeeded(next *record, start time.Time) error {
	t := &s.inTurn
	t.misfits = 0
	t.session, t.base, t.unsaved = next, start, true
	s.note(nil)
	err := s.put(next)
	v := s.show(nil)
	s.emit(EventRefreshed, nil)
	if err != nil {
		s.emit(EventNotPersisted, err)
	}
	if now := time.Now(); !v.usable(now) {
		return s.fail(&RefreshError{class: classTransient, Temporary: true,
			Err: errors.New("the new token had expired before it arrived")}, backoff(1, s.random()))
	}
	return nil
}

// put makes r the session in memory and saves it.
func (s *Source) put(r *record) error {
	t := &s.inTurn
	t.session = r
	err := t.unread
	if err == nil {
		err = s.save(r)
	}
	if err != nil {
		s.note(err)
		return err
	}
	s.persisted()
	return nil
}

// persisted notes that the session's tokens are in the store.
func (s *Source) persisted() {
	t := &s.inTurn
	if t.unsaved && t.saveFailures > 0 {
		s.emit(EventPersisted, nil)
		s.note(nil)
	}
	t.unsaved = false
}

// failed deals with an attempt that brought no token: it says what that means
// for the session (RefreshError), and how long to leave the server alone.
// interrupted is when an earlier attempt may have spent the refresh token.
func (s *Source) failed(r *record, e *RefreshError, interrupted time.Time) error {
	t := &s.inTurn
	now := time.Now()
	p := &pause{From: now.UTC().Round(0), Failures: 1, Class: e.class, Status: e.Status, Code: e.Code, Description: e.Description}
	if r.Pause != nil && r.Pause.Class == p.Class {
		p.Failures = r.Pause.Failures + 1
	}
	d := max(backoff(p.Failures, s.random()), e.RetryAfter)
	next := r.with(func(c *record) { c.Mark, c.Padding = nil, "" })
	if e.salvaged != "" {
		next.Generation++
		next.RefreshToken, e.salvaged = e.salvaged, ""
		if s.current.Load().rejected {
			next.AccessToken = ""
		}
		t.unsaved = true
	}
	switch e.class {
	case classEnded:
		e.Interrupted = interrupted
		return s.ended(r, e)
	case classDenied, classRefused:
		e.Interrupted = interrupted
		if e.class == classDenied || p.Failures >= maxRefusals {
			d = max(d, uncertainPause)
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
	next.Pause = p
	if err := s.put(next); err != nil && t.unsaved {
		s.emit(EventNotPersisted, err)
	}
	if e.class == classUnknown && p.Failures > 1 && s.current.Load().usable(now) {
		d = never // the refresh token may be spent: not again while the access token lives
	}
	return s.fail(e, d)
}

// explain says in e what a pause of this kind means.
func (p *pause) explain(e *RefreshError) {
	switch p.Class {
	case classDenied:
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
	if v.usable(now) && p.Class == classUnknown && p.Failures > 1 {
		left = never // the refresh token may be spent: not again while the access token lives
	}
	if left == 0 {
		return false, nil
	}
	e := &RefreshError{class: p.Class, Status: p.Status, Code: p.Code, Description: p.Description,
		Temporary: true, OutcomeUnknown: p.Class == classUnknown, Interrupted: s.inTurn.session.interrupted()}
	p.explain(e)
	if v.usable(now) {
		s.postpone(left)
		return true, nil
	}
	return true, s.fail(e, left)
}

// ended deals with a refresh token that the server has refused for good.
func (s *Source) ended(r *record, e *RefreshError) error {
	t := &s.inTurn
	if stored, err := s.load(); err == nil && reconcile(r, !t.unsaved, stored) != keep && !stored.sameTokens(r) {
		s.adopt(stored) // a process that knows no lock was faster
		_, err := s.settled(reasonNeed)
		return err
	}
	tomb := r.tombstone(ending{At: time.Now().UTC().Truncate(time.Second), Status: e.Status, Code: e.Code,
		Description: e.Description, Interrupted: e.Interrupted})
	t.dead, t.unsaved = digest(r.credential()), false
	if s.put(tomb) != nil { // until it is, other processes ask the server, and are told the same
		t.unburied = true
		s.retrySave()
	}
	s.emit(EventSessionEnded, e)
	return s.fail(e, glance)
}

// fail shows callers that a refresh has failed, and keeps the Source from
// trying again for a while. A token that is still good stays in use.
func (s *Source) fail(e *RefreshError, d time.Duration) error {
	if d != never && (!e.ended || e.Uncertain) {
		e.RetryAfter = d
	}
	s.note(e)
	s.emit(EventRefreshFailed, e)
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
			v.freshUntil = v.due
		}
	})
}

// disbelieve ignores rejections of the token for a while, because the API has
// rejected too many.
func (s *Source) disbelieve(d time.Duration) error {
	e := overBudget(d)
	s.emit(EventOverBudget, e)
	s.note(e)
	s.show(func(v *view) {
		v.rejected, v.freshUntil = false, v.due
		v.overBudget = time.Now().Add(d)
	})
	return e
}

// refreshable reports whether there is anything to refresh r with.
func (s *Source) refreshable(r *record) bool {
	return r.RefreshToken != "" || s.cfg.Refresher != nil
}

// dueAge is the age at which r's access token is due for a refresh.
func (s *Source) dueAge(r *record) time.Duration {
	if !s.refreshable(r) {
		return never
	}
	return refreshAge(r.Lifetime, s.cfg.Lead, r.RefreshIn, s.jitter)
}
