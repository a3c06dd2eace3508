package openid_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/openid"
	"golang.org/x/oauth2"
)

const lifetime = time.Minute

// A session is alice's, of a program that checks ID tokens.
type session struct {
	t     *testing.T
	srv   *oauthtest.Server
	cfg   freshtoken.Config
	store *saves
	src   *freshtoken.Source
	first *oauth2.Token
}

func newSession(t *testing.T, o oauthtest.Options, edits ...func(*freshtoken.Config)) *session {
	t.Helper()
	o.AccessLifetime = lifetime
	s := &session{t: t, srv: newServer(o)}
	s.cfg = config(s.srv)
	s.store = &saves{Store: s.cfg.Store}
	s.cfg.Store = s.store
	for _, edit := range edits {
		edit(&s.cfg)
	}
	s.src = s.program()
	s.first = s.srv.Login("alice", "openid", "email")
	if err := s.src.SetToken(t.Context(), s.first); err != nil {
		t.Fatal(err)
	}
	return s
}

// program is another one that shares the session.
func (s *session) program() *freshtoken.Source {
	s.t.Helper()
	src, err := freshtoken.New(s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { src.Close() })
	return src
}

// token asks for one that must be had.
func (s *session) token() *oauth2.Token {
	s.t.Helper()
	tok, err := s.src.Token(s.t.Context())
	if err != nil || !s.srv.AccessAlive(tok.AccessToken) {
		s.t.Fatalf("got error %v", err)
	}
	return tok
}

// who is who the program believes to be logged in.
func (s *session) who() string {
	s.t.Helper()
	c, err := openid.ClaimsOf(s.token())
	if err != nil {
		s.t.Fatal(err)
	}
	return c.Subject
}

// foreign is the answer to a refresh with somebody else's tokens. They are left
// in *got.
func (s *session) foreign(got *map[string]string, edits ...oauthtest.Fault) oauthtest.Fault {
	other := s.srv.Login("bob", "openid", "email")
	*got = map[string]string{"access_token": other.AccessToken, "refresh_token": other.RefreshToken, "id_token": other.Extra("id_token").(string)}
	return oauthtest.Edit("foreign", func(a *oauthtest.Answer) {
		for name, value := range *got {
			a.Members.Set(name, value)
		}
		for _, f := range edits {
			f.Edit(a)
		}
	})
}

// refused wants the refusal of a refresh because of its ID token, with nothing of
// the answer in it, in the store, or in use.
func (s *session) refused(err, want error, answer map[string]string) {
	s.t.Helper()
	e := new(freshtoken.RefreshError)
	if !errors.As(err, &e) || !errors.Is(err, freshtoken.ErrSessionEnded) || !errors.Is(err, want) || !e.Uncertain || e.Temporary {
		s.t.Fatalf("got error %v", err)
	}
	for name, value := range answer {
		if s.store.has(value) {
			s.t.Errorf("the answer's %s was stored", name)
		}
		if text := fmt.Sprintf("%v %+v %#v", err, e, s.src); strings.Contains(text, value) {
			s.t.Errorf("the answer's %s is in the error", name)
		}
	}
	if last := s.store.last(); !strings.Contains(last, s.first.RefreshToken) || !strings.Contains(last, s.first.Extra("id_token").(string)) {
		s.t.Errorf("the store has %s", last)
	}
}

func TestAnotherPerson(t *testing.T) {
	inBubble(t, "OIDC-12.2: nothing of the answer is used or stored, and the session keeps what it had", func(t *testing.T) {
		s := newSession(t, oauthtest.Options{})
		var answer map[string]string
		s.srv.Token.Next(s.foreign(&answer))
		time.Sleep(lifetime)
		_, err := s.src.Token(t.Context())
		s.refused(err, openid.ErrSubject, answer)
		const says = "freshtoken: the answer to a refresh is not for this session, and nothing of it was used: log in again: the ID token is another person's"
		if !strings.HasPrefix(err.Error(), says) || strings.Contains(err.Error(), "openid:") {
			t.Errorf("it says %q", err)
		}
		n := s.srv.Stats().TokenRequests
		for range 4 {
			time.Sleep(time.Minute)
			_, err = s.src.Token(t.Context())
			s.refused(err, openid.ErrSubject, answer)
		}
		if got := s.srv.Stats().TokenRequests; got != n {
			t.Errorf("the server was asked %d times more", got-n)
		}
		if st := s.src.Status(); st.State != freshtoken.StateEnded || st.Generation != 1 {
			t.Errorf("status %+v", st)
		}
	})
	inBubble(t, "OIDC-12.2: a server that has not spent the refresh token heals it", func(t *testing.T) {
		s := newSession(t, oauthtest.Options{Rotation: oauthtest.NoRotation})
		s.srv.Token.Next(oauthtest.SetClaim("sub", `"bob"`))
		time.Sleep(lifetime)
		_, err := s.src.Token(t.Context())
		s.refused(err, openid.ErrSubject, nil)
		time.Sleep(5 * time.Minute)
		if who := s.who(); who != "alice" {
			t.Errorf("it is %s", who)
		}
	})
	inBubble(t, "OIDC-12.2: one that has ends it for good, and the error says why", func(t *testing.T) {
		s := newSession(t, oauthtest.Options{})
		s.srv.Token.Next(oauthtest.SetClaim("sub", `"bob"`))
		time.Sleep(lifetime)
		s.src.Token(t.Context())
		time.Sleep(5 * time.Minute)
		_, err := s.src.Token(t.Context())
		e := new(freshtoken.RefreshError)
		if !errors.As(err, &e) || e.Uncertain || e.Code != "invalid_grant" || e.Interrupted.IsZero() || !errors.Is(err, freshtoken.ErrSessionEnded) {
			t.Errorf("got error %v", err)
		}
	})
	inBubble(t, "OIDC-12.2: the old access token serves as long as it lives", func(t *testing.T) {
		s := newSession(t, oauthtest.Options{})
		var answer map[string]string
		s.srv.Token.Next(s.foreign(&answer))
		time.Sleep(lifetime - 5*time.Second)
		for range 4 {
			if tok := s.token(); tok.AccessToken != s.first.AccessToken || s.who() != "alice" {
				t.Error("another access token is in use")
			}
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Second)
		_, err := s.src.Token(t.Context())
		s.refused(err, openid.ErrSubject, answer)
		if n := s.srv.Stats().TokenRequests; n != 1 {
			t.Errorf("the server was asked %d times", n)
		}
	})
	inBubble(t, "OIDC-12.2: other programs leave the server alone, too", func(t *testing.T) {
		s := newSession(t, oauthtest.Options{})
		s.srv.Token.Next(oauthtest.SetClaim("sub", `"bob"`))
		time.Sleep(lifetime)
		s.src.Token(t.Context())
		_, err := s.program().Token(t.Context())
		e := new(freshtoken.RefreshError)
		if !errors.As(err, &e) || !e.Uncertain || !errors.Is(err, freshtoken.ErrSessionEnded) || !strings.Contains(err.Error(), "not for this session") {
			t.Errorf("got error %v", err)
		}
		if n := s.srv.Stats().TokenRequests; n != 1 {
			t.Errorf("the server was asked %d times", n)
		}
	})
	for name, edit := range map[string]oauthtest.Fault{
		"no token_type":          oauthtest.OmitMember("token_type"),
		"no access token":        oauthtest.OmitMember("access_token"),
		"an error beside it":     oauthtest.SetMember("error", `"x"`),
		"an unknown token type":  oauthtest.SetMember("token_type", `"DPoP"`),
		"an access token to fit": oauthtest.SetMember("access_token", `"a b"`),
	} {
		inBubble(t, "OIDC-12.2: no refresh token is salvaged that is another person's: "+name, func(t *testing.T) {
			s := newSession(t, oauthtest.Options{})
			var answer map[string]string
			s.srv.Token.Next(s.foreign(&answer, edit))
			time.Sleep(lifetime)
			_, err := s.src.Token(t.Context())
			s.refused(err, openid.ErrSubject, answer)
		})
		inBubble(t, "one's own is salvaged: "+name, func(t *testing.T) {
			s := newSession(t, oauthtest.Options{})
			s.srv.Token.Next(edit)
			time.Sleep(lifetime)
			if _, err := s.src.Token(t.Context()); err == nil || errors.Is(err, freshtoken.ErrSessionEnded) {
				t.Errorf("got error %v", err)
			}
			time.Sleep(time.Minute)
			s.who()
		})
	}
	inBubble(t, "OIDC-12.2: whoever refreshes", func(t *testing.T) {
		var answer *oauth2.Token
		s := newSession(t, oauthtest.Options{}, func(c *freshtoken.Config) {
			c.Refresher = freshtoken.RefresherFunc(func(context.Context, *oauth2.Token) (*oauth2.Token, error) { return answer, nil })
		})
		answer = s.srv.Login("bob", "openid")
		time.Sleep(lifetime)
		_, err := s.src.Token(t.Context())
		s.refused(err, openid.ErrSubject, map[string]string{"refresh_token": answer.RefreshToken})
	})
	inBubble(t, "OIDC-12.2: after a rejection by the API, too", func(t *testing.T) {
		s := newSession(t, oauthtest.Options{})
		var answer map[string]string
		s.srv.Token.Next(s.foreign(&answer))
		_, err := s.src.Refresh(t.Context(), s.token())
		s.refused(err, openid.ErrSubject, answer)
	})
}

func TestRefreshes(t *testing.T) {
	inBubble(t, "OIDC-12.2: good ones take effect", func(t *testing.T) {
		s := newSession(t, oauthtest.Options{})
		was := s.token().Extra("id_token")
		for range 5 {
			time.Sleep(lifetime)
			if s.who() != "alice" || s.token().Extra("id_token") == was {
				t.Error("the ID token is an old one")
			}
			was = s.token().Extra("id_token")
		}
	})
	inBubble(t, "OIDC-12.2: none is normal, and the old one is kept", func(t *testing.T) {
		s := newSession(t, oauthtest.Options{})
		s.srv.Token.Always(oauthtest.OmitMember("id_token"))
		time.Sleep(lifetime)
		if s.who() != "alice" || s.token().Extra("id_token") != s.first.Extra("id_token") {
			t.Error("it is lost")
		}
	})
	inBubble(t, "OIDC-12.2: that of the login again is no new one, however old", func(t *testing.T) {
		s := newSession(t, oauthtest.Options{})
		time.Sleep(lifetime)
		s.who()
		s.srv.Token.Always(oauthtest.SetMember("id_token", `"`+s.first.Extra("id_token").(string)+`"`))
		for range 3 {
			time.Sleep(time.Hour)
			s.who()
		}
	})
	inBubble(t, "OIDC-12.2: each is compared with that of the login, by every program", func(t *testing.T) {
		s := newSession(t, oauthtest.Options{Rotation: oauthtest.NoRotation})
		auth := fmt.Sprint(time.Now().Unix())
		for _, f := range []oauthtest.Fault{oauthtest.OmitClaim("auth_time"), oauthtest.SetClaim("auth_time", auth), oauthtest.OmitClaim("auth_time")} {
			s.srv.Token.Next(f)
			time.Sleep(lifetime)
			s.src = s.program()
			s.who()
		}
		s.srv.Token.Next(oauthtest.SetClaim("auth_time", "946684799"))
		time.Sleep(lifetime)
		s.src = s.program()
		_, err := s.src.Token(t.Context())
		s.refused(err, openid.ErrAuthTime, nil)
	})
	for name, f := range map[string]oauthtest.Fault{
		"is no string":       oauthtest.SetMember("id_token", `{"sub":"alice"}`),
		"is no JWT":          oauthtest.SetMember("id_token", `"gibberish"`),
		"lacks a subject":    oauthtest.OmitClaim("sub"),
		"is another token's": oauthtest.SetClaim("at_hash", `"AAAA"`),
	} {
		inBubble(t, "OIDC-12.2: one that "+name+" is refused", func(t *testing.T) {
			s := newSession(t, oauthtest.Options{})
			s.srv.Token.Next(f)
			time.Sleep(lifetime)
			want := openid.ErrMalformed
			if name == "is another token's" {
				want = openid.ErrAccessToken
			}
			_, err := s.src.Token(t.Context())
			s.refused(err, want, nil)
		})
	}
	inBubble(t, "a clock that is wrong costs no session", func(t *testing.T) {
		s := newSession(t, oauthtest.Options{})
		s.srv.Token.Next(oauthtest.SetClaim("exp", "1"))
		time.Sleep(lifetime)
		_, err := s.src.Token(t.Context())
		e := new(freshtoken.RefreshError)
		if !errors.As(err, &e) || !errors.Is(err, openid.ErrExpired) || errors.Is(err, freshtoken.ErrSessionEnded) || !e.Temporary || e.OutcomeUnknown {
			t.Errorf("got error %v", err)
		}
		if log := s.srv.LogOf(oauthtest.TokenEndpoint); s.srv.AccessAlive(s.first.AccessToken) || s.store.has(`"access_token":"at-1-2`) || log[0].IssuedRefresh == "" {
			t.Error("an access token is in use that was not to be")
		}
		time.Sleep(time.Minute)
		if s.who() != "alice" || s.srv.Stats().Reuses != 0 {
			t.Error("the refresh token was lost")
		}
	})
	inBubble(t, "keys that cannot be had cost no session", func(t *testing.T) {
		s := newSession(t, oauthtest.Options{BaseURL: "http://oauth.test"}, func(c *freshtoken.Config) { c.InsecureHTTP = true })
		s.srv.Keys.Next(oauthtest.Stall())
		time.Sleep(lifetime)
		if _, err := s.src.Token(t.Context()); !errors.Is(err, openid.ErrKeys) || errors.Is(err, freshtoken.ErrSessionEnded) {
			t.Errorf("got error %v", err)
		}
		time.Sleep(time.Minute)
		if s.who() != "alice" || s.srv.Stats().Reuses != 0 {
			t.Error("the refresh token was lost")
		}
	})
	inBubble(t, "without a check nothing changes", func(t *testing.T) {
		s := newSession(t, oauthtest.Options{}, func(c *freshtoken.Config) { c.IDTokens = nil })
		s.srv.Token.Next(oauthtest.SetClaim("sub", `"bob"`))
		time.Sleep(lifetime)
		if s.who() != "bob" || s.store.has("login_id_token") {
			t.Error("there was a check")
		}
	})
	inBubble(t, "RPL-1 the logout in the browser gets the newest that was accepted", func(t *testing.T) {
		var hint string
		s := newSession(t, oauthtest.Options{}, func(c *freshtoken.Config) {
			c.EndSession = func(_ context.Context, _ freshtoken.Config, idToken string) error { hint = idToken; return nil }
		})
		time.Sleep(lifetime)
		newest := s.token().Extra("id_token").(string)
		s.srv.Token.Next(oauthtest.SetClaim("sub", `"bob"`))
		time.Sleep(lifetime)
		s.src.Token(t.Context())
		if err := s.src.Logout(t.Context()); err != nil || hint != newest {
			t.Errorf("error %v, hint %q", err, hint)
		}
		if strings.Contains(s.store.last(), "id_token") {
			t.Error("an ID token is still stored")
		}
	})
}

// A verifier of a program's own, which repeats what it was given, or hangs.
type faultyVerifier func(context.Context, freshtoken.IDToken) error

func (f faultyVerifier) VerifyIDToken(ctx context.Context, _ freshtoken.Config, t freshtoken.IDToken) error {
	return f(ctx, t)
}

func TestOtherVerifiers(t *testing.T) {
	with := func(f faultyVerifier) func(*freshtoken.Config) {
		return func(c *freshtoken.Config) { c.IDTokens = f }
	}
	inBubble(t, "what repeats a token is hidden", func(t *testing.T) {
		var seen freshtoken.IDToken
		s := newSession(t, oauthtest.Options{}, with(func(_ context.Context, id freshtoken.IDToken) error {
			seen = id
			return fmt.Errorf("%s is not %s", id.Raw, id.AccessToken)
		}))
		time.Sleep(lifetime)
		_, err := s.src.Token(t.Context())
		if err == nil || strings.Contains(err.Error(), seen.Raw) || strings.Contains(err.Error(), seen.AccessToken) || seen.Login != s.first.Extra("id_token") {
			t.Errorf("got error %v", err)
		}
		data, _ := json.Marshal(seen)
		if text := fmt.Sprintf("%v %+v %#v %s %s", seen, seen, &seen, seen, data); strings.Contains(text, seen.Raw) || strings.Contains(text, seen.AccessToken) {
			t.Errorf("it prints %s", text)
		}
	})
	for name, f := range map[string]faultyVerifier{
		"waits for its context": func(ctx context.Context, _ freshtoken.IDToken) error { <-ctx.Done(); return ctx.Err() },
		"waits for longer": func(context.Context, freshtoken.IDToken) error {
			time.Sleep(20 * time.Second)
			return errors.New("late")
		},
	} {
		inBubble(t, "one that "+name+" costs no session", func(t *testing.T) {
			var slow atomic.Bool
			slow.Store(true)
			s := newSession(t, oauthtest.Options{}, with(func(ctx context.Context, id freshtoken.IDToken) error {
				if slow.Load() {
					return f(ctx, id)
				}
				return nil
			}))
			time.Sleep(lifetime)
			if _, err := s.src.Token(t.Context()); err == nil || errors.Is(err, freshtoken.ErrSessionEnded) {
				t.Errorf("got error %v", err)
			}
			time.Sleep(30 * time.Second)
			slow.Store(false)
			time.Sleep(time.Minute)
			if s.who() != "alice" || s.srv.Stats().Reuses != 0 {
				t.Error("the refresh token was lost")
			}
		})
	}
	inBubble(t, "one that never returns costs no session, and holds nobody up", func(t *testing.T) {
		stuck := make(chan struct{})
		defer close(stuck)
		var calls atomic.Int64
		s := newSession(t, oauthtest.Options{}, with(func(context.Context, freshtoken.IDToken) error {
			calls.Add(1)
			<-stuck
			return nil
		}))
		time.Sleep(lifetime)
		for range 3 {
			if _, err := s.src.Token(t.Context()); err == nil || errors.Is(err, freshtoken.ErrSessionEnded) {
				t.Errorf("got error %v", err)
			}
			time.Sleep(lifetime)
		}
		s.cfg.IDTokens = nil
		other := s.program() // as if the first had been killed: it has saved what it got
		if tok, err := other.Token(t.Context()); err != nil || !s.srv.AccessAlive(tok.AccessToken) || s.srv.Stats().Reuses != 0 {
			t.Errorf("the refresh token was lost: %v", err)
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("%d calls wait", n)
		}
	})
}
