package freshtoken

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
)

// A view is what callers see of the session at one time.
type view struct {
	facts

	// sure is the elapsed time, in nanoseconds since base, until which the
	// token is known to be fresh. Zero: nothing is known yet.
	sure atomic.Int64
}

// facts are what there is to see. They do not change.
type facts struct {
	// The session's token, with its header value; nil if there is none to be
	// used now, and err says why.
	token  *oauth2.Token
	header []string

	id     string    // of the session, if there is a token
	issued int64     // wall clock, nanoseconds
	base   time.Time // when elapsed time began to count, monotonic

	// freshUntil is the age from which Token does not take the short way. It is
	// due, the age at which a refresh is to be tried, or expire, the age at
	// which the token is dead, while somebody is trying. planned is what due was
	// before anything put it off.
	freshUntil, due, expire, planned time.Duration

	// warn is the age at which it is time to tell that the session is about to end.
	warn time.Duration

	// rejected: an API has rejected the token, which is about to be replaced.
	// Until overBudget, such rejections are not believed.
	rejected   bool
	overBudget time.Time

	// err is what callers get who need a token, until retry; then a flight is
	// worth while. Without a token that can be used, a Source that keeps its
	// session fresh in the background starts one by itself at wake; zero: never.
	err         error
	retry, wake time.Time

	// session and generation are those of the record that the view was made of;
	// zero if there was none.
	session    string
	generation uint64
}

// glimpse is how long a look at both clocks holds, in running time. That the
// machine slept, or that its clock was set, in a glimpse is seen when it is over.
// Any caller may be held up for as long between getting a token and sending it,
// so nothing comes of it that could not come of that.
const glimpse = time.Millisecond

// fresh reports whether Token can take the short way. Looking at clocks is most
// of what that costs, and so the monotonic one has to do until the glimpse of
// both is over.
func (v *view) fresh() bool {
	return time.Since(v.base) < time.Duration(v.sure.Load()) || v.look(time.Now())
}

// look is fresh with a look at both clocks.
func (v *view) look(now time.Time) bool {
	age := v.age(now)
	if age >= v.freshUntil {
		return false
	}
	v.sure.Store(int64(now.Sub(v.base) + min(v.freshUntil-age, glimpse)))
	return true
}

func (v *view) age(now time.Time) time.Duration {
	return age(v.issued, now.UnixNano(), now.Sub(v.base))
}

// usable reports whether the token can be sent.
func (v *view) usable(now time.Time) bool {
	return v != nil && v.token != nil && !v.rejected && v.age(now) < v.expire
}

// left is for how long the token can still be sent; zero if it cannot, or nobody
// knows.
func (v *view) left(now time.Time) time.Duration {
	if !v.usable(now) || v.expire == never {
		return 0
	}
	return v.expire - v.age(now)
}

// refuses reports whether err is the answer to a caller now.
func (v *view) refuses(now time.Time) bool {
	return v != nil && v.err != nil && (now.Before(v.retry) || v.err == ErrClosed)
}

// publish shows callers a new view in place of the old one, unless the Source
// has been closed. It reports false if a caller has changed the old one: an API
// may have rejected its token.
func (s *Source) publish(old, v *view) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return true
	}
	if !s.current.CompareAndSwap(old, v) {
		return false
	}
	s.schedule(v)
	return true
}

// stands reports whether err is still the answer to a caller, though the view is to
// be replaced by one of r: others who share the session have got on with theirs.
// What a server says of a target, it says of the whole session.
func (v *view) stands(r *record, now time.Time) bool {
	if !v.refuses(now) || v.session != r.ID {
		return false
	}
	e := new(RefreshError)
	return v.generation == r.Generation || errors.As(v.err, &e) && e.class == classTarget
}

// show publishes the session as it is now to all who share it, for s after
// adjust, if any, has had its say. The turn is held.
func (s *Source) show(adjust func(*view)) *view {
	shown := s.display(adjust)
	if s.inTurn.session == nil && !errors.Is(shown.err, ErrNoSession) {
		return shown // nobody knows yet whether there is a session: the others look for themselves
	}
	for _, other := range s.sharing() {
		if other == s {
			continue
		}
		old := other.current.Load()
		switch v := other.compose(old); {
		case old == nil || v.token == nil || v.token != old.token || old.err != nil:
			other.display(nil)
		case v.planned == old.planned && v.warn == old.warn:
			other.updateStatus(old) // its callers go on as they were
		default: // the end of the session has moved
			other.display(func(v *view) {
				if v.token != old.token || v.planned != old.planned {
					return
				}
				if v.due = old.due; !v.rejected {
					v.freshUntil = min(v.due, v.warn)
				}
			})
		}
	}
	return shown
}

// display is show for the callers of s.
func (s *Source) display(adjust func(*view)) *view {
	for {
		old := s.current.Load()
		v := s.compose(old)
		if adjust != nil {
			adjust(v)
		}
		s.updateStatus(v)
		if s.publish(old, v) {
			return v
		}
	}
}

// compose makes a view of the session as it is now, which is to follow old. The
// turn is held.
func (s *Source) compose(old *view) *view {
	r := s.inTurn.session
	v := &view{}
	v.warn = never
	if a := r.of(s.target); a != nil && !s.foreign(a) {
		v.id, v.issued, v.base = r.ID, a.Issued.UnixNano(), a.base
		v.expire, v.due, v.warn = never, s.dueAge(r, a), s.warnAge(r, a)
		if a.Lifetime > 0 {
			v.expire = a.Lifetime
			v.due = min(v.due, v.expire)
		}
		v.planned = v.due
		v.freshUntil = min(v.due, v.warn)
		if same := old != nil && old.token != nil && old.id == r.ID && old.token.AccessToken == a.AccessToken; same {
			v.overBudget = old.overBudget
			if old.rejected && old.issued == v.issued { // otherwise the server stands by it
				v.rejected, v.freshUntil = true, 0
			}
			if old.issued == v.issued && old.expire == v.expire {
				v.token, v.header = old.token, old.header
			}
		}
		if v.token == nil {
			v.token, v.header = a.token(), []string{"Bearer " + a.AccessToken}
		}
	}
	if r != nil {
		v.session, v.generation = r.ID, r.Generation
	}
	now := time.Now()
	switch err := s.sessionError(); {
	case err != nil:
		v.err, v.retry = err, now.Add(glance)
	case !v.usable(now) && old.stands(r, now):
		v.err, v.retry, v.wake = old.err, old.retry, old.wake
	case s.refreshable(r):
		v.wake = now
	}
	return v
}

// sessionError says why the session in memory has no tokens to go on with; nil
// if it has. The turn is held.
func (s *Source) sessionError() error {
	r := s.inTurn.session
	switch {
	case r == nil || r.Ended != nil && r.Ended.Never:
		if s.cfg.Store == nil {
			return fmt.Errorf("%w: log in, for instance with login.Ensure, or hand the token of a login to SetToken (without Config.Store, nothing is kept between runs)", ErrNoSession)
		}
		return fmt.Errorf("%w: log in, for instance with login.Ensure, or hand the token of a login to SetToken", ErrNoSession)
	case r.Ended == nil:
		return nil
	case r.Ended.LoggedOut:
		return fmt.Errorf("%w: the session was logged out at %s: log in again", ErrNoSession, r.Ended.At.Format(time.RFC3339))
	default:
		return &RefreshError{class: classEnded, ended: true, Status: r.Ended.Status, Code: r.Ended.Code,
			Description: r.Ended.Description, Interrupted: r.Ended.Interrupted, Lapsed: r.Ended.Lapsed}
	}
}

// updateStatus updates the status to what v shows.
func (s *Source) updateStatus(v *view) {
	t := &s.inTurn
	r := t.session
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Session: s.cfg.Session, Target: s.target, LastError: s.status.LastError, Persisted: s.cfg.Store != nil && !t.unsaved && r != nil}
	switch {
	case r == nil && !errors.Is(v.err, ErrNoSession):
		st.State = StateUnknown
	case r == nil || r.Ended.absent():
		st.State = StateAbsent
	case r.Ended != nil || isEnded(v.err):
		st.State = StateEnded
	default:
		st.State = StateAlive
	}
	if r != nil {
		st.Generation = r.Generation
		st.RefreshExpiry, _ = r.ends()
	}
	if v.token != nil {
		a := r.of(s.target)
		st.Issued, st.Expiry = a.Issued, v.token.Expiry
		if v.due != never {
			st.RefreshAt = a.Issued.Add(v.due)
		}
	}
	s.status = st
}

// isDead reports whether a stored record is of a session that is over, though
// the store could not be told, or somebody has put the record back after a
// Logout. A new login may have brought the same refresh token. The turn is held.
func (s *Source) isDead(stored *record) bool {
	t := &s.inTurn
	if stored == nil || stored.Ended != nil {
		return false
	}
	return t.logout(stored.ID) != nil || t.session != nil && stored.ID == t.session.ID && t.dead != "" && digest(stored.credential()) == t.dead
}

// adopt makes what is stored the session in memory; nil: nobody is logged in.
// The turn is held.
func (s *Source) adopt(stored *record) {
	t := &s.inTurn
	ours := t.session
	if s.isDead(stored) { // over, though the store does not say so
		if note := t.logout(stored.ID); note != nil && (ours == nil || ours.Ended == nil && !t.unsaved) {
			s.adopt(note) // and what it has taken the place of is gone
		}
		return
	}
	if stored != nil && stored.Mark != nil && stored.Mark.Nonce == t.unused {
		stored = stored.with(func(r *record) { r.Mark = nil })
	}
	if stored != nil {
		stored = stored.met(ours, time.Now())
	}
	if stored.sameTokens(ours) {
		t.session, t.unsaved = stored, false // it may tell of a newer pause
		return
	}
	t.session, t.unsaved, t.dead = stored, false, ""
	t.storeFailures, t.misfits = 0, 0
	s.outcome(OutcomeAdopted)
	var kind EventKind
	switch alive := ours != nil && ours.Ended == nil; {
	case s.root().current.Load() == nil:
		return // the first look
	case stored != nil && stored.Ended == nil:
		kind = EventAdopted
		s.note(nil)
	case !alive:
		return
	case stored == nil || stored.Ended.absent():
		kind = EventLoggedOut
	default:
		kind = EventSessionEnded
	}
	s.show(nil)
	s.emit(kind, s.sessionError())
}
