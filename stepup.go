package freshtoken

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken/internal/endpoint"
	"github.com/freshtoken/freshtoken/internal/words"
	"golang.org/x/oauth2"
)

// Step-up (RFC 9470, and RFC 6750's insufficient_scope): a login though there is
// a session, because an API demands more than that can give. An API may do so for
// ever, so there is a limit to how often a person is asked.

const (
	// satisfied is how long the same demand is not met by another login after
	// one has succeeded; at most the demand's own max_age, but minSatisfied.
	satisfied    = 10 * time.Minute
	minSatisfied = time.Minute

	// maxStepUps is how many logins demands of all kinds may cause in the time
	// of satisfied: an API could change a word each time.
	maxStepUps = 5
)

// A stepUp is a login that an API's demand caused.
type stepUp struct {
	key    string        // of the demand
	within time.Duration // how long after it the demand is taken for met
	before string        // ID of the session in use when it began; empty: none was

	// Set by the login's goroutine alone, before its end: whether anybody was
	// asked, when it ended, and why it failed.
	asked bool
	ended time.Time
	err   error
}

// StepUp has a person log in by a, to meet what an API demands, though there is a
// session; that goes on until the login has succeeded, and is then replaced. a is
// given a Config whose OAuth2.Scopes are the program's, those granted so far and
// those demanded, and whose LoginParams have acr_values and max_age. The token is
// that of the new session: send the request again with it. It is for the program
// to decide that now is the time to ask somebody; a Transport never does.
//
// There is one login at a time: callers with the same demand share it, and one
// whose demand is older than the last login for the same one, or for whom another
// process has had somebody log in, gets the token that there is. When ctx is done
// for all who wait, the login is given up. The former session is not revoked at the
// server, where some servers would end the new one with it; it expires there.
//
// ErrStepUpLimit tells that nobody was asked. The same demand is not met again for
// ten minutes after a login for it, or its own max_age, and for a minute after one
// that failed; of all demands, five are met in ten minutes. ErrOtherAccount tells
// that somebody else has logged in than before, as far as ID tokens say, which takes
// the scope openid; ErrNotGranted, that the person, or the server, has allowed less
// than before, and not what was demanded: the session is as it was. ErrTarget tells
// that s is for a Target without a scope that is demanded: no login brings that.
// Other errors are those of Authenticate and of a, and match neither ErrNoSession
// nor ErrSessionEnded as long as there is a session. All wrap c.
func (s *Source) StepUp(ctx context.Context, c *Challenge, a Authenticator) (*oauth2.Token, error) {
	if c == nil || a == nil {
		return nil, public(errors.New("StepUp needs a Challenge, from ChallengeFrom, and an Authenticator, such as login.Auto{}"))
	}
	if v := s.current.Load(); v != nil && v.token != nil && endpoint.Repeats(c.demand(), v.token.AccessToken) {
		return nil, public(wrap(ErrStepUpLimit, "the API's demand repeats a token, which is to stand in no address: ask the API's operator"))
	}
	if err := s.offTarget(c); err != nil {
		return nil, public(&stepUpError{err, c})
	}
	if s.begins {
		return nil, public(&stepUpError{fmt.Errorf("%s, and no login brings that: Config.Refresher has the session's tokens, and is to ask for it", c.demand()), c})
	}
	err := s.joinStepUp(ctx, c, a)
	if err == nil {
		var v *view
		if v, err = s.wait(ctx); err == nil {
			return v.token, nil
		}
	}
	return nil, public(&stepUpError{err, c})
}

// offTarget says which scope c demands that the access tokens of s are not for; nil:
// none.
func (s *Source) offTarget(c *Challenge) error {
	own := strings.Fields(s.params.Get("scope"))
	if scope, lacking := lacks(own, c.Scopes); lacking && len(own) > 0 {
		return tell(ErrTarget, "the API demands the scope %q, and the Target has %q: call For with that scope, too, and StepUp of what it returns", scope, strings.Join(own, " "))
	}
	return nil
}

// A stepUpError is why a demand was not met.
type stepUpError struct {
	err error
	c   *Challenge
}

func (e *stepUpError) Error() string   { return words.Text(e.err) }
func (e *stepUpError) Unwrap() []error { return []error{e.err, e.c} }

// key tells demands apart.
func (c *Challenge) key() string {
	age := "-"
	if c.HasMaxAge {
		age = c.MaxAge.String()
	}
	return strings.Join([]string{c.Code, strings.Join(c.Scopes, " "), strings.Join(c.ACRValues, " "), age}, "\n")
}

// joinStepUp waits for the login that meets c, or starts it.
func (s *Source) joinStepUp(ctx context.Context, c *Challenge, a Authenticator) error {
	key := c.key()
	for range rounds {
		if ctx.Err() != nil {
			return contextError(ctx)
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return ErrClosed
		}
		l := s.login
		mine := l == nil
		if mine {
			met, err := s.limit(c, key, time.Now())
			if met || err != nil {
				s.mu.Unlock()
				return err
			}
			step := &stepUp{key: key, within: c.within()}
			if v := s.current.Load(); v != nil {
				step.before = v.session
			}
			l = s.startLogin(ctx, step, func(ctx context.Context, l *login) error { return s.askToStepUp(ctx, l, c, a) })
		}
		l.waiters++
		mine = mine || l.stepUp != nil && l.stepUp.key == key
		s.mu.Unlock()
		select {
		case <-l.done:
		case <-ctx.Done():
			s.leaveLogin(l)
			return fmt.Errorf("the login is not finished: %w", contextError(ctx))
		}
		if mine {
			return l.err
		}
	}
	return tell(ErrLocked, "other logins keep coming first: try again")
}

// within is how long one login meets c.
func (c *Challenge) within() time.Duration {
	if c.HasMaxAge {
		return min(max(c.MaxAge, minSatisfied), satisfied)
	}
	return satisfied
}

// limit says why nobody is asked to meet c now; met says that this is because
// somebody has logged in since the API demanded it. s.mu is held.
func (s *Source) limit(c *Challenge, key string, now time.Time) (met bool, err error) {
	recent := 0
	var first time.Time // of the recent ones, which are in order
	kept := s.stepUps[:0]
	for _, last := range s.stepUps {
		if now.Sub(last.ended) >= satisfied {
			continue
		}
		kept = append(kept, last)
		if recent++; recent == 1 {
			first = last.ended
		}
		if last.key != key {
			continue
		}
		switch passed := now.Sub(last.ended); {
		case last.err == nil && !c.seen.IsZero() && c.seen.Before(last.ended):
			met = true
		case last.err == nil && passed < last.within:
			err = tell(ErrStepUpLimit, "%s, though somebody has just logged in for that: nobody is asked again for %s; %s",
				c.demand(), words.Duration(last.within-passed), s.whatItTakes(c))
		case last.err != nil && passed < declined:
			err = words.Say(fmt.Sprintf("%s, and the last login for that failed: nobody is asked again for %s: %s",
				c.demand(), words.Duration(declined-passed), words.Text(last.err)), ErrStepUpLimit, last.err)
		}
	}
	s.stepUps = kept
	switch {
	case met:
		return true, nil
	case err == nil && recent >= maxStepUps:
		err = tell(ErrStepUpLimit, "%s, and APIs have demanded so %d times within %s: nobody is asked again for %s",
			c.demand(), recent, words.Duration(satisfied), words.Duration(first.Add(satisfied).Sub(now)))
	}
	return false, err
}

// whatItTakes is what to do about a demand that a login has not met.
func (s *Source) whatItTakes(c *Challenge) string {
	if v := s.current.Load(); v != nil && v.token != nil {
		granted, _ := v.token.Extra("scope").(string)
		if scope, lacking := lacks(strings.Fields(granted), c.Scopes); lacking && granted != "" {
			return fmt.Sprintf("it was granted %q: agree to %q when logging in, or have the server allow it", endpoint.Sanitize(granted, 200), scope)
		}
	}
	return "ask the API's operator what it takes"
}

// askToStepUp has a person log in to meet c, unless somebody has done so in
// another process in the meantime.
func (s *Source) askToStepUp(ctx context.Context, l *login, c *Challenge, a Authenticator) error {
	if s.cfg.Store != nil && !s.cfg.InsecureUnsaved {
		unlock, err := s.lockLogins(ctx, a)
		if err != nil {
			return err
		}
		defer s.unlock(unlock)
	}
	var cfg Config
	known := false
	err := s.detached(ctx, func() (err error) {
		cfg, known, err = s.prepareStepUp(c, l.stepUp.before)
		return err
	})
	if err != nil || known {
		return err
	}
	l.stepUp.asked = true
	l.err = fmt.Errorf("the Authenticator: %w", errExit) // if it ends the goroutine
	tok, err := a.Authenticate(ctx, cfg)
	if err == nil && tok == nil {
		err = errors.New("the Authenticator returned no token")
	}
	if err == nil {
		err = s.replaceBy(context.WithoutCancel(ctx), tok, c, cfg.OAuth2.Scopes)
	}
	switch {
	case err == nil, errors.Is(err, ErrNotPersisted): // Status, events and Close tell
		return nil
	case errors.Is(err, ErrClosed), errors.Is(err, ErrOtherAccount), errors.Is(err, ErrNotGranted):
		return err
	}
	return words.Say("the login failed: "+words.Text(err), err)
}

// prepareStepUp returns what the Authenticator is given. known says that the store
// has another session than the one whose view was of the ID before: somebody has
// logged in elsewhere. It runs in its turn.
func (s *Source) prepareStepUp(c *Challenge, before string) (cfg Config, known bool, err error) {
	t := &s.inTurn
	unlock, err := s.acquire(lockTime)
	if err != nil {
		return cfg, false, err
	}
	defer s.release(unlock)
	stored, err := s.load(personTime)
	switch {
	case isDamaged(err): // a login sets it aside
	case err != nil:
		return cfg, false, err
	case reconcile(t.session, !t.unsaved, stored) != keep:
		s.adopt(stored)
	}
	r := t.session
	if r != nil && r.Ended == nil && before != "" && r.ID != before {
		return cfg, true, nil
	}
	if !isDamaged(err) {
		if err := s.hasRoom(); err != nil {
			return cfg, false, err
		}
	}
	var granted []string
	if r != nil {
		granted = scopesOf(r.Extra)
	}
	cfg = s.cfg
	o := *s.cfg.OAuth2
	cfg.OAuth2 = &o
	o.Scopes = slices.Clone(s.cfg.OAuth2.Scopes)
	for _, scope := range append(granted, c.Scopes...) {
		if !slices.Contains(o.Scopes, scope) {
			o.Scopes = append(o.Scopes, scope)
		}
	}
	cfg.LoginParams = maps.Clone(s.cfg.LoginParams)
	if cfg.LoginParams == nil {
		cfg.LoginParams = make(map[string][]string)
	}
	if len(c.ACRValues) > 0 {
		cfg.LoginParams.Set("acr_values", strings.Join(c.ACRValues, " "))
	}
	if c.HasMaxAge {
		cfg.LoginParams.Set("max_age", strconv.FormatInt(int64(c.MaxAge/time.Second), 10))
	}
	return cfg, false, nil
}

// scopesOf are those that an answer names.
func scopesOf(extra map[string]json.RawMessage) []string {
	scope, _ := endpoint.Text(extra["scope"])
	return strings.Fields(scope)
}

// lacks returns the first of some scopes that is not among those granted.
func lacks(granted, wanted []string) (scope string, lacking bool) {
	for _, scope := range wanted {
		if !slices.Contains(granted, scope) {
			return scope, true
		}
	}
	return "", false
}

// replaceBy starts a session with the token of a login in place of the one there
// is, unless that is another person's, or can do more. scopes are those that were
// asked for: an answer without any means that all were granted (RFC 6749 section
// 5.1).
func (s *Source) replaceBy(ctx context.Context, tok *oauth2.Token, c *Challenge, scopes []string) error {
	if tok.AccessToken == "" && tok.RefreshToken == "" {
		return wrap(ErrBadToken, "the login brought none")
	}
	g, issued, err := s.takeLogin(tok)
	if err != nil {
		return err
	}
	if g.extra["scope"] == nil && len(scopes) > 0 {
		raw, _ := json.Marshal(strings.Join(scopes, " "))
		g.setExtra("scope", raw)
	}
	return s.detached(ctx, func() error {
		s.lookAgain()
		if r := s.inTurn.session; r != nil && r.Ended == nil {
			was, is := subject(r.Extra["id_token"]), subject(g.extra["id_token"])
			if was != "" && is != "" && was != is {
				fresh := s.newSession(g, issued)
				s.revoke(fresh) // nobody will use it; that it fails changes nothing
				return tell(ErrOtherAccount, "somebody else has logged in than the one whose session this is, which goes on as it was: log in as the same person, or log out first")
			}
			// Both go by the server's names for scopes, which an API may have others
			// for: what is demanded counts only if it is not all the same.
			granted := scopesOf(g.extra)
			lost, less := lacks(granted, scopesOf(r.Extra))
			if demanded, unmet := lacks(granted, c.Scopes); less && unmet {
				return tell(ErrNotGranted, "the login was granted %q, without %q and without %q, which the session has and goes on with: agree to all when logging in, or have the server allow it",
					endpoint.Sanitize(strings.Join(granted, " "), 200), demanded, endpoint.Sanitize(lost, 100))
			}
		}
		return s.root().setToken(g, issued)
	})
}

// lookAgain adopts what has been stored while a person logged in, if it can be read.
func (s *Source) lookAgain() {
	unlock, err := s.acquire(lockTime)
	if err != nil {
		return // and so will setToken say
	}
	defer s.release(unlock)
	stored, err := s.load(personTime)
	if t := &s.inTurn; err == nil && reconcile(t.session, !t.unsaved, stored) != keep {
		s.adopt(stored)
	}
}

// subject returns whom an ID token is about: its issuer and subject, unverified,
// which is enough to tell that two of the same client differ; "" if it cannot be
// read.
func subject(raw json.RawMessage) string {
	text, _ := endpoint.Text(raw)
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	all := make(map[string]json.RawMessage)
	if repeated, err := endpoint.Object(payload, all); err != nil || len(repeated) > 0 {
		return ""
	}
	issuer, _ := endpoint.Text(all["iss"])
	issuer = strings.TrimPrefix(issuer, "https://") // Google's has come in two forms
	who, ok := endpoint.Text(all["sub"])
	if !ok || who == "" {
		return ""
	}
	return issuer + " " + who
}
