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

// inTurn is what only the holder of Source.turn touches.
type inTurn struct {
	// session is the newest known; nil before the first look into the store
	// and when nobody is logged in. unsaved says that its tokens have never been
	// in the store.
	session *record
	unsaved bool

	// held unlocks a session lock that is kept across flights; nil: none is.
	// locking is closed when a call of Lock returns that was given up. abandoned is
	// closed when another call returns that was given up; nil: none was. landing
	// says that this one may still take effect.
	held      func() error
	locking   <-chan struct{}
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

	// logouts are the notes of the last Logouts that this program knows of.
	logouts []*record

	// spent is the empty budget for forced refreshes that was met last, and
	// spentSince when that was first.
	spent      forced
	spentSince time.Time

	// mistaken is why the last answer of classMistaken was refused.
	mistaken error

	// verifying is closed when a call of Config.IDTokens returns that was given
	// up; nil: none was.
	verifying <-chan struct{}

	// observed is the attempt under way; nil: none is, or nobody wants to know.
	observed *Attempt

	// warned is the ID of the session of whose end there was a warning last, and
	// warnedOf is when that was to be.
	warned   string
	warnedOf time.Time

	// unused is the nonce of a mark whose refresh token was not sent after all.
	unused string
}

// flight is one turn on the path. It returns what a caller in need is told; nil
// means: look again.
func (s *Source) flight(why reason) error {
	defer s.warn()
	now := time.Now()
	v := s.current.Load()
	limit := lockTime
	key := string(why)
	if why == reasonDue && s.cfg.Background && v != nil && !v.usable(now) {
		why = reasonNeed // it has expired while the flight waited for its turn: nobody else would see to it
	}
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
		s.flights.Forget(key) // whoever comes now has seen the outcome
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
	stored, err := s.load(personTime)
	if err != nil {
		return true, s.storeFailed(err)
	}
	if s.isDead(stored) && !s.inTurn.unburied {
		s.inTurn.unburied = true // somebody has put it back, or a save that was given up has landed late
		s.retrySave()
	}
	if reconcile(s.inTurn.session, !s.inTurn.unsaved, stored) != keep {
		s.adopt(stored)
	}
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
	stored, err := s.load(loadTime)
	t.unread = err
	if err != nil {
		// Of tokens that a refresh brought, the store knows nothing. Those of a
		// login may have been handed in before, and replaced since.
		if t.unsaved && t.session.Ended == nil && (t.session.Generation > 1 || s.cfg.InsecureUnsaved) {
			s.note(err)
			return s.settled(why) // a Source of the session may not have shown anything yet
		}
		return true, s.storeFailed(err)
	}
	t.unburied = s.isDead(stored)
	if t.unburied && t.unsaved && stored.isFrom(t.session) && stored.Generation >= t.session.Generation {
		// A login was handed in again after a Logout, and neither could be stored.
		t.session = stored.under(t.session).met(nil, time.Now())
	}
	switch verdict := reconcile(t.session, !t.unsaved, stored); {
	case t.unburied:
		s.adopt(stored)
		t.unburied = s.put(t.session) != nil
	case verdict == gone:
		s.adopt(nil)
	case verdict == believe:
		s.adopt(stored)
	default:
		if err := s.put(t.session.resting(stored)); err != nil && !t.unsaved {
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
	case why == reasonSave:
		return true, s.sessionError()
	case v.err != nil:
		return true, v.err
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
	if e := s.ungranted(r); e != nil {
		return s.fail(e, ungrantedPause)
	}
	if !s.refreshable(r) {
		return s.fail(&RefreshError{class: classEnded, ended: true,
			Err: errors.New("the access token is no longer valid, and the login brought no refresh token: ask for one at the next, often with the scope offline_access or with access_type=offline")}, glance)
	}
	if r.Pause != nil {
		if done, err := s.keepPause(r.Pause, v, now); done {
			return err
		}
	}
	if p := r.TargetPauses[s.target]; p != nil {
		if done, err := s.keepPause(p, v, now); done {
			return err
		}
	}
	if s.spares(r, v, now) {
		s.postpone(sparePause)
		return nil
	}
	if left, err := s.refusal.stands(r, now); err != nil {
		return s.stay(err, left)
	}
	if s.yields(r, now) {
		return s.rootFirst(r)
	}
	marked := r.marked(now, s.target)
	a := r.of(s.target)
	foreign := s.foreign(a)
	rejected := v.rejected && a != nil && v.age(now) < s.dueAge(r, a)
	if ofAnother := foreign && !a.dead(now); rejected || ofAnother { // nothing else asks for it
		budget, wait := s.spend(r.Forced, now, a.Lifetime)
		switch {
		case budget != nil:
			marked.Forced = budget
		case ofAnother:
			return s.fail(contested(wait), wait)
		default:
			return s.disbelieve(wait)
		}
	}
	if err := s.write(StepMark, marked); err != nil {
		t.session, t.unused = r, marked.Mark.Nonce
		if !t.unsaved && !s.cfg.InsecureUnsaved {
			return s.storeFailed(err) // nothing has been spent
		}
	}
	t.storeFailures = 0
	start := time.Now()
	with := s.thumbprint()
	end := s.step(StepRequest)
	g, err := s.ask(marked, start)
	end(err)
	if err != nil {
		e := refreshErrorOf(err, r.RefreshToken != "")
		e.hide(append(r.accessTokens(), r.RefreshToken, s.cfg.OAuth2.ClientSecret)...)
		if foreign || r.Thumbprint != "" && s.thumbprint() == "" { // or without any
			e.doubt()
		}
		if s.target != "" && e.aboutTarget() {
			return s.targetFailed(marked, e, r.suspect())
		}
		return s.failed(marked, e, r.suspect())
	}
	next := marked.next(g, start, s.target)
	next.Overtaken, next.of(s.target).Thumbprint = r.interrupted(), with
	s.keepFirst(r, next)
	return s.succeeded(next)
}

// spend returns what one more forced refresh leaves of the budget; nil: there is
// none left, and it takes wait for it to grow.
func (s *Source) spend(old *forced, now time.Time, lifetime time.Duration) (left *forced, wait time.Duration) {
	budget, wait := refill(old, now, lifetime)
	if budget.Left <= 0 && s.inTurn.waited(old, now, wait) {
		budget.Left = 1
	}
	if budget.Left <= 0 {
		return nil, wait
	}
	budget.Left--
	return &budget, wait
}

// waited reports whether as much time has passed here as it takes for an empty
// budget to grow, though the time that is written in it does not tell: the clock
// of the process that wrote it is ahead.
func (t *inTurn) waited(f *forced, now time.Time, wait time.Duration) bool {
	if f.Left != t.spent.Left || !f.At.Equal(t.spent.At) {
		t.spent, t.spentSince = *f, now
	}
	return now.Before(f.At) && now.Sub(t.spentSince) >= wait
}

// ask has the Refresher get a new token.
func (s *Source) ask(r *record, start time.Time) (grant, error) {
	old := &oauth2.Token{AccessToken: r.AccessToken, TokenType: "Bearer", RefreshToken: r.RefreshToken}
	if r.Lifetime > 0 {
		old.Expiry = r.Issued.Add(r.Lifetime)
	}
	if !s.verifiable() {
		return grant{}, &RefreshError{class: classTransient, Temporary: true, Err: fmt.Errorf("Config.IDTokens: %w", errBusy)}
	}
	tok, err := call(s, grantTime, true, func(ctx context.Context) (*oauth2.Token, error) {
		if s.target != "" {
			return s.server.refresh(ctx, old, s.params)
		}
		return s.refresher.Refresh(ctx, old)
	})
	switch {
	case errors.Is(err, errBusy):
		return grant{}, &RefreshError{class: classTransient, Temporary: true, Err: fmt.Errorf("the store: %w", err)}
	case errors.Is(err, errHangs), errors.Is(err, errExit):
		return grant{}, &RefreshError{class: classUnknown, Temporary: true, OutcomeUnknown: true, Err: fmt.Errorf("the Refresher: %w", err)}
	case err != nil:
		return grant{}, s.salvageable(r, err)
	}
	if tok == nil {
		tok = new(oauth2.Token)
	}
	g, err := takeApart(tok, start)
	if err == nil && tok.AccessToken == "" {
		err = wrap(ErrBadToken, "there is no access token")
	}
	access := tok.AccessToken
	if err != nil {
		access = ""
	}
	wrong, passes := s.checkIDToken(r, idTokenOf(tok), access, tok.RefreshToken)
	switch {
	case wrong != nil && !passes:
		return grant{}, wrong
	case err != nil:
		return grant{}, unusable(tok.RefreshToken, err)
	case wrong != nil:
		return grant{}, wrong
	}
	return g, nil
}

// salvageable sees to it that of an unusable answer no refresh token is kept
// that is somebody else's.
func (s *Source) salvageable(r *record, err error) error {
	e := new(RefreshError)
	if !errors.As(err, &e) || e.idToken == "" {
		return err
	}
	wrong, passes := s.checkIDToken(r, e.idToken, "", e.salvaged)
	e.idToken = ""
	if wrong == nil || passes {
		return err
	}
	wrong.Status = e.Status
	return wrong
}

// succeeded saves the server's answer and then shows it to the callers. If it
// cannot be saved, it is used all the same: the old refresh token is spent.
func (s *Source) succeeded(next *record) error {
	t := &s.inTurn
	t.misfits, s.refusal = 0, targetRefusal{}
	t.session, t.unsaved = next, true
	s.note(nil)
	err := s.put(next)
	v := s.show(func(v *view) { v.rejected, v.freshUntil = false, min(v.due, v.warn) }) // the server stands by it
	s.emit(EventRefreshed, nil)
	s.outcome(OutcomeRefreshed)
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
func (s *Source) put(r *record) error { return s.write(StepSave, r) }

// write is put, as a step of an attempt.
func (s *Source) write(kind StepKind, r *record) error {
	t := &s.inTurn
	t.session = r
	err := t.unread
	if err == nil {
		end := s.step(kind)
		err = s.save(r, saveTime)
		end(err)
	}
	if err != nil {
		s.note(err)
		return err
	}
	if t.unsaved && t.saveFailures > 0 {
		s.emit(EventPersisted, nil)
		if errors.Is(s.Status().LastError, ErrStore) {
			s.note(nil) // what a refresh has failed of since is still so
		}
	}
	t.unsaved = false
	return nil
}

// refreshable reports whether there is anything to refresh r with.
func (s *Source) refreshable(r *record) bool {
	return r.RefreshToken != "" || s.cfg.Refresher != nil
}

// dueAge is the age at which a, an access token of r, is due for a refresh.
func (s *Source) dueAge(r *record, a *access) time.Duration {
	if !s.refreshable(r) {
		return never
	}
	return min(refreshAge(a.Lifetime, s.cfg.Lead, a.RefreshIn, s.jitter), s.keepAge(r, a))
}
