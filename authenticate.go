package freshtoken

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken/internal/words"
	"golang.org/x/oauth2"
)

// One login at a time, over all goroutines and processes.
//
// A caller who finds nobody logged in joins the login that is under way, or
// starts it. Like a flight it runs in a goroutine of its own; unlike a flight,
// nothing is lost if it is given up, so it ends when nobody waits for it any
// more. It holds a lock of its own, not the session's, which others need while a
// person looks for a password.

// An Authenticator has a person log in. Package login has several.
type Authenticator interface {
	// Authenticate has a person log in with the client and the server of cfg,
	// which it does not modify, and returns the token of that login. It
	// returns soon after ctx is done. Without a way to reach a person it fails
	// at once. It must not ask the Source for a token, or it waits for itself.
	// If cfg.IDTokens is set, it has it check the ID token of the login.
	//
	// An Authenticator that also has a method Elsewhere(context.Context) is
	// told by it when the Source has waited for a second for another process
	// that is having somebody log in.
	Authenticate(ctx context.Context, cfg Config) (*oauth2.Token, error)
}

// AuthenticatorFunc is a function that is an Authenticator.
type AuthenticatorFunc func(ctx context.Context, cfg Config) (*oauth2.Token, error)

// Authenticate calls f.
func (f AuthenticatorFunc) Authenticate(ctx context.Context, cfg Config) (*oauth2.Token, error) {
	return f(ctx, cfg)
}

const (
	// loginLockTime bounds the wait for a login of another process: longer
	// than a person has in a browser.
	loginLockTime = 10 * time.Minute

	// elsewhereTime passes before anybody is told of one.
	elsewhereTime = time.Second

	// declined is how long Config.Reauthenticate is left alone after a login
	// that failed: whoever closes a window does not want to see another at
	// once.
	declined = time.Minute

	// leaveTime is how long Close waits for a login that it has ended. One that
	// goes on, at a terminal that it reads from, say, has nothing to lose.
	leaveTime = 3 * time.Second

	// loginRoom is what a session may take in the store, for the check that it
	// can be stored. Most are smaller.
	loginRoom = 4 << 10
)

// login is a login under way.
type login struct {
	cancel context.CancelFunc
	done   chan struct{} // closed at its end
	err    error         // set before done is closed
	pause  time.Duration // after a failure, if not declined; the login's goroutine alone uses it
	stepUp *stepUp       // what an API's demand makes of it; nil: there is none

	// Guarded by Source.mu: how many callers wait; it ends with the last one,
	// unless it is lasting.
	waiters int
	lasting bool
}

// Authenticate is Token, but has a log a person in where nobody is logged in, or
// the session has ended. There is one login at a time: callers who come while
// one is under way, whatever they came with, wait for that one, and other
// processes wait for theirs to end. When ctx is done for all who wait, the login
// is given up.
//
// Before anyone is asked for anything, Authenticate sees that the session can be
// stored; if not, the error is ErrStore. If the login fails, the error matches
// ErrNoSession or ErrSessionEnded, and what a returned. If another process has
// been logging in for ten minutes, it is ErrLocked.
//
// Where Config.Refresher begins the session as well (ConfigRefresher), a is not
// asked: no person has a part in that.
func (s *Source) Authenticate(ctx context.Context, a Authenticator) (*oauth2.Token, error) {
	if a == nil { // it would be called in a goroutine that nobody can recover
		return nil, public(errors.New("Authenticate needs an Authenticator, such as login.Auto{}"))
	}
	v, err := s.wait(ctx)
	switch {
	case err == nil:
	case s.begins:
		v, err = s.reauthenticate(ctx, err)
	default:
		v, err = s.logIn(ctx, a, false, err)
	}
	if err != nil {
		return nil, public(err)
	}
	return v.token, nil
}

// needsLogin reports whether an error of wait asks for a login.
func needsLogin(err error) bool {
	if e := new(RefreshError); errors.As(err, &e) {
		return e.ended
	}
	return errors.Is(err, ErrNoSession) || errors.Is(err, ErrSessionEnded)
}

// reauthenticate has Config.Reauthenticate deal with err, an error of wait.
func (s *Source) reauthenticate(ctx context.Context, err error) (*view, error) {
	if s.cfg.Reauthenticate == nil || !needsLogin(err) {
		return nil, err
	}
	return s.logIn(ctx, s.cfg.Reauthenticate, true, err)
}

// logIn has a person log in if that is what err, an error of wait, asks for.
func (s *Source) logIn(ctx context.Context, a Authenticator, lasting bool, err error) (*view, error) {
	for range 2 { // the first may have found a session that another process had ended by now
		if !needsLogin(err) {
			break
		}
		if err := s.joinLogin(ctx, a, lasting); err != nil {
			return nil, err
		}
		var v *view
		if v, err = s.wait(ctx); err == nil {
			return v, nil
		}
	}
	return nil, err
}

// joinLogin waits for the login under way, or for the one that it starts. One by
// Config.Reauthenticate, which is lasting, is not started again right after one
// that failed, which others may have waited for in this moment.
func (s *Source) joinLogin(ctx context.Context, a Authenticator, lasting bool) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	l := s.login
	if l == nil {
		if lasting && time.Now().Before(s.loginPause) {
			defer s.mu.Unlock()
			return s.loginErr
		}
		l = s.startLogin(ctx, nil, func(ctx context.Context, l *login) error { return s.askToLogIn(ctx, l, a) })
	}
	l.waiters++
	l.lasting = l.lasting || lasting
	s.mu.Unlock()
	select {
	case <-l.done:
		return l.err
	case <-ctx.Done():
		s.leaveLogin(l)
		return fmt.Errorf("the login is not finished: %w", contextError(ctx))
	}
}

// startLogin begins the login under way; step is nil unless an API's demand is the
// cause. s.mu is held.
func (s *Source) startLogin(ctx context.Context, step *stepUp, ask func(context.Context, *login) error) *login {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &login{cancel: cancel, done: make(chan struct{}), stepUp: step}
	s.login = l
	s.logins.Add(1)
	go s.runLogin(ctx, l, ask)
	return l
}

// leaveLogin ends a login that nobody waits for. Whoever comes now starts
// another, which begins when this one has ended.
func (s *Source) leaveLogin(l *login) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.waiters--; l.waiters > 0 || l.lasting {
		return
	}
	l.cancel()
	if s.login == l {
		s.login = nil
	}
}

func (s *Source) runLogin(ctx context.Context, l *login, ask func(context.Context, *login) error) {
	defer s.logins.Done()
	defer l.cancel()
	l.err = errExit
	defer func() { // also if the Authenticator ends the goroutine
		s.mu.Lock()
		if s.login == l {
			s.login = nil
		}
		if last := l.stepUp; last != nil && last.asked && !errors.Is(l.err, context.Canceled) {
			last.ended, last.err = time.Now(), l.err
			s.stepUps = append(s.stepUps, *last)
		}
		switch {
		case l.err == nil:
			s.loginErr, s.loginPause, s.loginFailures = nil, time.Time{}, 0
		case l.lasting: // a failure of another login shortens no pause
			s.loginErr, s.loginPause = l.err, time.Now().Add(cmp.Or(l.pause, declined))
		}
		s.mu.Unlock()
		close(l.done)
	}()
	select {
	case s.loginTurn <- struct{}{}:
		defer func() { <-s.loginTurn }()
	case <-ctx.Done():
		l.err = contextError(ctx)
		return
	}
	l.err = ask(ctx, l)
}

// leaveAlone returns how long Config.Reauthenticate is left alone after err, and err
// with that as its RetryAfter. One that asks a server, and no person, is asked as
// soon as a Refresher would be.
func (s *Source) leaveAlone(err error) (time.Duration, error) {
	e := new(RefreshError)
	if !errors.As(err, &e) || !e.Temporary && !s.begins {
		return declined, err
	}
	s.mu.Lock()
	s.loginFailures++
	d := heed(backoff(s.loginFailures, s.jitter), min(e.RetryAfter, maxRetryAfter))
	s.mu.Unlock()
	if e == err { // otherwise it may be another Source's, and part of something else
		told := *e
		told.RetryAfter = d
		return d, &told
	}
	return d, err
}

// askToLogIn has a person log in, unless somebody has done so in the meantime.
func (s *Source) askToLogIn(ctx context.Context, l *login, a Authenticator) error {
	if s.cfg.Store != nil && !s.cfg.InsecureUnsaved {
		unlock, err := s.lockLogins(ctx, a)
		if err != nil {
			return err
		}
		defer s.unlock(unlock)
	}
	why := errNothingToDo
	err := s.detached(ctx, func() (err error) {
		why, err = s.prepareLogin()
		return err
	})
	if err != nil || why == errNothingToDo {
		return err
	}
	l.err = fmt.Errorf("%w: the Authenticator: %w", why, errExit) // if it ends the goroutine
	if s.begins {
		return s.beginBy(ctx, l, a)
	}
	tok, err := a.Authenticate(ctx, s.cfg)
	if err == nil && tok == nil {
		err = errors.New("the Authenticator returned no token")
	}
	if err != nil {
		l.pause, err = s.leaveAlone(err)
	}
	if err == nil {
		// Whoever gives up now does so too late: there is a session.
		err = s.SetToken(context.WithoutCancel(ctx), tok)
	}
	switch {
	case err == nil, errors.Is(err, ErrNotPersisted): // Status, events and Close tell
		return nil
	case errors.Is(err, ErrClosed):
		return err
	default:
		return words.Say("the login failed: "+words.Text(err), why, err)
	}
}

// errNothingToDo says that there is a session by now.
var errNothingToDo = errors.New("there is a session")

// lockLogins takes the lock under which one process has a person log in.
func (s *Source) lockLogins(ctx context.Context, a Authenticator) (unlock func() error, err error) {
	lctx, cancel := context.WithTimeout(ctx, loginLockTime)
	defer cancel()
	told := time.AfterFunc(elsewhereTime, func() {
		s.emit(EventLoginElsewhere, nil)
		if e, ok := a.(interface{ Elsewhere(context.Context) }); ok {
			e.Elsewhere(lctx)
		}
	})
	defer told.Stop()
	unlock, _, err = s.lock(lctx, s.key+"/login")
	switch {
	case err == nil:
		return unlock, nil
	case ctx.Err() != nil:
		return nil, contextError(ctx)
	case lctx.Err() != nil:
		return nil, tell(ErrLocked, "another process has been waiting for somebody to log in for %s: finish that login, or end that process%s",
			words.Duration(loginLockTime), holder(err))
	default:
		return nil, &storeError{"lock the login", err}
	}
}

// prepareLogin says why a login is needed, by the sentinel that callers branch
// on, or that none is; and it sees that the store takes a session: who comes
// back from the browser should not learn only then that it does not. It runs in
// its turn.
func (s *Source) prepareLogin() (why error, err error) {
	t := &s.inTurn
	unlock, err := s.acquire(lockTime)
	if err != nil {
		return nil, err
	}
	defer s.release(unlock)
	stored, err := s.load(personTime)
	switch {
	case isDamaged(err):
		return ErrSessionEnded, nil // SetToken sets it aside, and nothing else does
	case err != nil:
		return nil, err
	case reconcile(t.session, !t.unsaved, stored) != keep:
		s.adopt(stored)
	}
	why = s.sessionError()
	if why == nil {
		v := s.current.Load()
		if v == nil || v.usable(time.Now()) || !needsLogin(v.err) {
			return errNothingToDo, nil
		}
		why = v.err // its refresh token is of no use
	}
	err = s.hasRoom()
	if errors.Is(why, ErrNoSession) {
		return ErrNoSession, err
	}
	return ErrSessionEnded, err
}

// hasRoom says why the store would not take the session of a login; nil: it would.
// The session lock is held.
func (s *Source) hasRoom() error {
	if s.cfg.Store == nil || s.cfg.InsecureUnsaved {
		return nil
	}
	r := s.inTurn.session
	err := s.save(r.placeholder(s.cfg.binding()), personTime)
	if failed := new(storeError); errors.As(err, &failed) && (r == nil || r.Ended != nil) {
		return &storeError{"keep a session", failed.err} // there is none yet
	}
	return err
}

// placeholder returns what a session that r leaves behind is stored as while
// someone logs in: the same, which may be nothing, but no smaller than a session.
func (r *record) placeholder(b binding) *record {
	if r == nil {
		r = &record{Version: recordVersion, Binding: b, ID: rand.Text(), Generation: 1,
			Ended: &ending{At: time.Now().UTC().Truncate(time.Second), Never: true}}
	}
	data, _ := r.encode()
	return r.with(func(c *record) { c.Padding = strings.Repeat(".", max(loginRoom-len(data), 0)) })
}
