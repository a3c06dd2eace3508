package freshtoken

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/oauth2"
)

// How a session begins and ends, and how a Source does. All of it takes its
// turn with refreshes, and the session lock.

// longDead is when tokens are taken to have been issued that expired before there
// was such a time in the store.
var longDead = time.Unix(0, 0).AddDate(0, 0, 2).UTC()

// takeLogin checks the token of a login and takes it apart. issued is when it
// was asked for, as far as it tells.
func (s *Source) takeLogin(tok *oauth2.Token) (g grant, issued time.Time, err error) {
	now := time.Now()
	dead := !tok.Expiry.IsZero() && !tok.Expiry.After(now)
	if tok.RefreshToken == "" && dead && s.cfg.Refresher == nil {
		return g, now, wrap(ErrBadToken, "it has expired, and there is no refresh token: log in, and ask for one, often with the scope offline_access or with access_type=offline")
	}
	if g, err = takeApart(tok, now); err != nil {
		return g, now, err
	}
	g.begun = now
	if tok.ExpiresIn > 0 && !tok.Expiry.IsZero() {
		if begun := tok.Expiry.Add(-seconds(float64(tok.ExpiresIn))); begun.Before(now) {
			g.begun = begun
		}
	}
	if dead { // keep what is dead from looking alive
		if issued = tok.Expiry.Add(-g.lifetime); issued.Before(longDead) { // as who wants a refresh writes it
			g.lifetime, issued = staleLifetime, longDead
		}
		return g, issued, nil
	}
	return g, now, nil
}

// newSession is the record that a login begins with.
func (s *Source) newSession(g grant, issued time.Time) *record {
	fresh := &record{Version: recordVersion, Binding: s.cfg.binding(), ID: rand.Text(), Generation: 1,
		access: access{AccessToken: g.access, Brought: 1, Thumbprint: s.thumbprint(),
			Issued: issued.UTC().Round(0), Lifetime: g.lifetime, RefreshIn: g.hint, Extra: g.extra},
		RefreshToken: g.refresh, Started: time.Now().UTC().Round(0)}
	fresh.live(g, g.begun, true)
	fresh.Origin = digest(fresh.credential())
	if g.access != "" {
		fresh.OriginAccess = digest(g.access)
	}
	return fresh
}

// started puts a new session in use. err says why it is not in the store; nil:
// it is.
func (s *Source) started(fresh *record, err error) {
	t := &s.inTurn
	if r := t.session; err != nil && r != nil && !fresh.Started.After(r.Started) {
		fresh.Started = r.Started.Add(1) // it follows what is known, though the clock of who began that may be ahead
	}
	t.session, t.unsaved, t.dead, t.unburied = fresh.met(nil, time.Now()), err != nil, "", false
	t.storeFailures, t.misfits = 0, 0
	s.note(err)
	s.show(nil)
	s.emit(EventLoggedIn, nil)
}

// setToken is SetToken, in its turn.
func (s *Source) setToken(g grant, issued time.Time) error {
	t := &s.inTurn
	fresh := s.newSession(g, issued)
	unlock, err := s.acquire(lockTime)
	if err == nil {
		defer s.release(unlock)
		var known bool
		if known, err = s.replace(fresh); known {
			s.show(nil)
			if err != nil {
				return notPersisted(untilLater, err)
			}
			return nil
		}
	}
	if r := t.session; err != nil && r != nil && r.isFrom(fresh) {
		return err // what is in use has come from this login, and is newer
	}
	s.started(fresh, err)
	if err != nil {
		s.emit(EventNotPersisted, err)
		if unlock == nil {
			s.retrySave() // otherwise release does so
		}
		return notPersisted(untilLater, err)
	}
	return nil
}

// untilLater is what it means that a login could not be saved.
const untilLater = "and are lost when this program ends, unless a later attempt succeeds"

// replace stores a new session in place of what is there. known says that it is
// no new one: what is there, or in memory, has come from the same login.
func (s *Source) replace(fresh *record) (known bool, err error) {
	t := &s.inTurn
	stored, err := s.load(personTime)
	damaged := isDamaged(err)
	if damaged {
		err = s.setAside()
	}
	if err != nil {
		return false, err
	}
	switch {
	case damaged:
	case reconcile(t.session, !t.unsaved, stored) != keep:
		s.adopt(stored)
	case stored != nil && stored.ID != t.session.ID && stored.isFrom(fresh):
		s.adopt(stored) // handed in again, after a login that could not be saved
	}
	if r := t.session; r != nil && r.isFrom(fresh) {
		if t.unsaved = t.unsaved || damaged; t.unsaved {
			err = s.put(r)
		}
		return true, err
	}
	if t.session.loggedOut() && s.isDead(stored) && stored.isFrom(fresh) {
		// A Logout that the store was not told of, or that somebody undid there,
		// and now this login undoes it. What is stored is newer all the same: the
		// token of the login may be spent.
		*fresh = *stored.under(fresh)
	}
	return false, s.save(fresh, personTime)
}

// logOut is Logout, with forget that of Sources.Forget. around, if not nil, runs
// in the turn and calls what ends the session.
func (s *Source) logOut(ctx context.Context, forget bool, around func(end func() error) error) error {
	idToken := make(chan string, 1) // that of the session, if one has ended
	end := func() error { return s.endSession(forget, idToken) }
	err := s.detached(ctx, func() error {
		if around != nil {
			return around(end)
		}
		return end()
	})
	select {
	case hint := <-idToken:
		err = s.endAtServer(ctx, hint, err)
	default:
	}
	return err
}

// endAtServer has Config.EndSession do its part. err is how the rest went.
func (s *Source) endAtServer(ctx context.Context, idToken string, err error) error {
	if s.cfg.EndSession == nil {
		return err
	}
	failed := s.cfg.EndSession(ctx, s.cfg, idToken)
	switch {
	case failed == nil:
		return err
	case err == nil:
		return wrap(ErrNotRevoked, "in the browser: %w", failed)
	default:
		return fmt.Errorf("%w; and in the browser: %w", err, failed)
	}
}

// endSession ends the session, and with forget removes even the note of its end
// from the store. If the store cannot be locked or read, what is in memory ends
// all the same, and a later flight sees to the rest. idToken is sent the ID token
// of the session that has ended, if one has.
func (s *Source) endSession(forget bool, idToken chan<- string) error {
	t := &s.inTurn
	unlock, err := s.acquire(lockTime)
	switch {
	case err == nil:
		defer s.release(unlock)
	case errors.Is(err, ErrStore):
		defer func() {
			if t.unsaved || t.unburied {
				s.retrySave()
			}
		}()
	default:
		return err
	}
	var stored *record
	if err == nil {
		stored, err = s.load(personTime)
		t.unread = err
	}
	known := err == nil
	if known && reconcile(t.session, !t.unsaved, stored) != keep {
		s.adopt(stored)
	}
	r := t.session
	if stored != nil && stored.Ended == nil && r != nil && r.Ended != nil {
		r = stored // an earlier Logout could not write the tombstone, or somebody has put the record back
	}
	over := r == nil || r.Ended.absent()
	if !over && stored != nil && stored.Ended == nil && stored.ID != r.ID {
		t.remember(stored.loggedOutAt(time.Now())) // of a login before, which ours could not replace in the store
	}
	var unrevoked error
	switch {
	case !over:
		hint := r.idToken()
		unrevoked, err = s.bury(r, err)
		idToken <- hint
	case known:
		t.unsaved, t.unburied = false, false // nothing is stored that would have to end
		s.show(nil)
	}
	if forget && known && (!over || stored != nil) {
		if err = s.remove(); err == nil {
			t.unsaved, t.unburied = false, false
		}
	}
	if err != nil {
		return err
	}
	return unrevoked
}

// bury ends r, which is in memory, stored, or both. err says why the store
// cannot be told; nil: it can.
func (s *Source) bury(r *record, err error) (unrevoked, failed error) {
	t := &s.inTurn
	t.session = r.loggedOutAt(time.Now())
	t.remember(t.session)
	if r.Ended == nil {
		t.dead = digest(r.credential()) // should the tombstone not be saved
		s.show(nil)                     // nobody uses the token while the server is asked
		unrevoked = s.revoke(r)
	}
	if err == nil { // what cannot be read is not overwritten
		err = s.save(t.session, personTime)
	}
	if err == nil {
		t.unsaved = false
	}
	// What never was in the store stays so, with the lock: what is there is older.
	t.unburied = err != nil && !t.unsaved
	s.note(err)
	s.show(nil)
	s.emit(EventLoggedOut, err)
	return unrevoked, err
}

// maxLogouts is how many Logouts a program remembers.
const maxLogouts = 100

// remember keeps the note of a Logout, whatever becomes of it in the store, and
// whatever session comes next.
func (t *inTurn) remember(note *record) {
	t.logouts = append(slices.DeleteFunc(t.logouts, func(r *record) bool { return r.ID == note.ID }), note)
	if len(t.logouts) > maxLogouts {
		t.logouts = slices.Delete(t.logouts, 0, 1)
	}
}

// logout returns the note of the Logout of a session; nil: none is known.
func (t *inTurn) logout(id string) *record {
	for _, note := range t.logouts {
		if note.ID == id {
			return note
		}
	}
	return nil
}

// retrySave has a later flight save what could not be saved.
func (s *Source) retrySave() {
	t := &s.inTurn
	if s.cfg.InsecureUnsaved && !t.landing {
		return
	}
	t.saveFailures++
	d := backoff(t.saveFailures, s.random())
	s.mu.Lock()
	defer s.mu.Unlock()
	stop(&s.saveTimer)
	if !s.closed {
		s.saveTimer = time.AfterFunc(d, func() { s.fly(reasonSave) })
	}
}

// closeTime is how long Close waits for a flight: a request and its save, and
// some more. The wait for a lock has been ended.
const closeTime = 75 * time.Second

// eventTime is how long Close waits for events to be delivered.
const eventTime = time.Second

// finish ends what Close has not ended already.
func (s *Source) finish() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	idle := make(chan struct{})
	go func() {
		s.running.Wait()
		close(idle)
	}()
	select {
	case <-idle:
	case <-ctx.Done():
		return wrap(ErrNotPersisted, "a refresh or a call to the store has not returned within %v", closeTime)
	}
	// Nobody has the turn any more, and nobody will have it again.
	t := &s.inTurn
	var err error
	for range 2 { // the first save may hang, and land later or not
		if t.landing {
			select {
			case <-t.abandoned:
				t.landing = false
			case <-ctx.Done(): // the lock stays, for as long as the program does
				return wrap(ErrNotPersisted, "a call to the store has not returned within %v", closeTime)
			}
		}
		if !t.unsaved && !t.unburied {
			break
		}
		if t.held == nil && !s.cfg.InsecureUnsaved {
			if t.held, _, err = s.lock(ctx, s.key); err != nil {
				break
			}
		}
		if _, err = s.catchUp(reasonSave); !t.landing {
			break
		}
	}
	if t.landing {
		return wrap(ErrNotPersisted, "a call to the store has not returned")
	}
	unlock := t.held
	t.held = nil
	s.unlock(unlock)
	if t.unsaved && t.session.loggedOut() {
		return nil // Logout has told that the store could not be
	}
	if t.unsaved {
		if err == nil {
			err = s.Status().LastError
		}
		return notPersisted("and are lost: log in again", unnamed(err))
	}
	return nil
}
