package freshtoken_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

var reading = freshtoken.Target{Scopes: []string{"read"}}

// scoped starts a session that was granted the scopes read and write.
func (w *world) scoped(edits ...func(*freshtoken.Config)) *freshtoken.Source {
	w.t.Helper()
	src := w.source(edits...)
	if err := src.SetToken(w.t.Context(), w.as.Login("alice", "read", "write")); err != nil {
		w.t.Fatal(err)
	}
	return src
}

// target is the Source of src's session for a Target.
func (w *world) target(src *freshtoken.Source, t freshtoken.Target) *freshtoken.Source {
	w.t.Helper()
	d, err := src.For(t)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// get asks the API for something, and returns the status of its answer.
func (w *world) ask(src *freshtoken.Source, query string) int {
	w.t.Helper()
	resp, err := w.client(src).Get(w.as.APIURL("x?" + query))
	if err != nil {
		w.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func (w *world) wantGet(src *freshtoken.Source, query string, want int) {
	w.t.Helper()
	if got := w.ask(src, query); got != want {
		w.t.Errorf("the API answers %d to %s, want %d", got, query, want)
	}
}

// An access token for a Target is the session's, and has its own life.
func TestFor(t *testing.T) {
	inBubble(t, "it is asked for when it is needed, and serves what it is for", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped()
		narrow := w.target(src, reading)
		if st := narrow.Status(); st.State != freshtoken.StateUnknown || st.Target != "scope=read" {
			t.Errorf("before it is used: %+v", st)
		}
		w.wantPosts(0)
		w.wantGet(narrow, "scope=read", 200)
		w.wantGet(narrow, "scope=write", 403)
		w.wantPosts(1)
		w.wantGet(src, "scope=write", 200)
		w.wantPosts(1)
		if scope := w.token(narrow).Extra("scope"); scope != "read" {
			t.Errorf("its scope is %v", scope)
		}
		if scope := w.token(src).Extra("scope"); scope != "read write" {
			t.Errorf("the session's scope is %v", scope)
		}
		if narrow.Status().Generation != 2 || src.Status().Generation != 2 {
			t.Errorf("generations: %+v and %+v", narrow.Status(), src.Status())
		}
	})
	inBubble(t, "R8707-2 one for each of two APIs, by one refresh token", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{Resources: []string{"https://mail.test", "https://files.test/v1"}})
		src := w.scoped()
		for range 3 {
			mail := w.target(src, freshtoken.Target{Resources: []string{"https://mail.test"}})
			files := w.target(src, freshtoken.Target{Resources: []string{"https://files.test/v1"}, Scopes: []string{"read"}})
			w.wantGet(mail, "resource=https://mail.test&scope=write", 200)
			w.wantGet(files, "resource=https://files.test/v1", 200)
			w.wantGet(files, "resource=https://files.test/v1&scope=write", 403)
			w.wantPosts(2)
		}
		for n, want := range []string{"https://mail.test", "https://files.test/v1"} {
			if got := w.as.LogOf(oauthtest.TokenEndpoint)[n].Resource; got != want {
				t.Errorf("request %d was for %q", n, got)
			}
		}
		both := w.target(src, freshtoken.Target{Resources: []string{"https://mail.test", "https://files.test/v1"}})
		w.wantGet(both, "resource=https://mail.test&resource=https://files.test/v1", 200)
		_, err := w.target(src, freshtoken.Target{Resources: []string{"https://other.test"}}).Token(t.Context())
		wantErr(t, err, freshtoken.ErrNotGranted)
		if e := refreshError(t, err); e.Code != "invalid_target" {
			t.Errorf("got %#v", e)
		}
		w.usable(src)
		if s := w.as.Stats(); s.Reuses != 0 || s.Refreshes != 3 {
			t.Errorf("%+v", s)
		}
	})
	inBubble(t, "R8707-2 what RefreshParams says is for the session's own", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped(func(c *freshtoken.Config) { c.RefreshParams = url.Values{"resource": {"https://own.test"}} })
		time.Sleep(2 * time.Hour)
		w.wantGet(src, "resource=https://own.test", 200)
		w.wantGet(w.target(src, reading), "resource=https://own.test", 200)
		w.wantGet(w.target(src, freshtoken.Target{Resources: []string{"https://other.test"}}), "resource=https://other.test", 200)
	})
	inBubble(t, "each is refreshed when its own time has come", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped()
		narrow := w.target(src, reading)
		time.Sleep(40 * time.Minute)
		first := w.token(narrow)
		time.Sleep(30 * time.Minute) // the session's own has expired
		w.usable(src)
		w.wantPosts(2)
		if w.token(narrow) != first {
			t.Error("it was replaced by a refresh of the session's own")
		}
		time.Sleep(30 * time.Minute)
		w.usable(narrow)
		w.wantPosts(3)
		if !src.Status().Expiry.Before(narrow.Status().Expiry) {
			t.Error("it expires no later")
		}
		if s := w.as.Stats(); s.Reuses != 0 {
			t.Errorf("%+v", s)
		}
	})
	inBubble(t, "other programs, and later ones, have it from the store", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped()
		want := w.token(w.target(src, reading)).AccessToken
		src.Close()
		for range 2 {
			again := w.source()
			if got := w.token(w.target(again, reading)).AccessToken; got != want {
				t.Error("another token")
			}
			w.usable(again)
		}
		w.wantPosts(1)
	})
	inBubble(t, "what another program has got meanwhile is taken over", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		a := w.scoped()
		b := w.source()
		w.usable(b)
		want := w.token(w.target(a, reading)).AccessToken
		if got := w.token(w.target(b, reading)).AccessToken; got != want {
			t.Error("another token")
		}
		w.wantPosts(1)
		time.Sleep(2 * time.Hour)
		w.usable(w.target(b, reading))
		w.usable(w.target(a, reading))
		w.usable(a)
		w.usable(b)
		w.wantPosts(3)
	})
	inBubble(t, "one request, however many ask", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		programs := []*freshtoken.Source{w.scoped(), w.source()}
		w.as.Token.Always(oauthtest.Fault{Delay: 3 * time.Second})
		var all sync.WaitGroup
		for n := range 100 {
			narrow := w.target(programs[n%2], reading)
			all.Go(func() {
				if _, err := narrow.Token(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		w.wantPosts(1)
	})
	inBubble(t, "a login that brought a refresh token alone", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.source()
		tok := w.as.Login("alice", "read", "write")
		if err := src.SetToken(t.Context(), &oauth2.Token{RefreshToken: tok.RefreshToken}); err != nil {
			t.Fatal(err)
		}
		narrow := w.target(src, reading)
		w.wantGet(narrow, "scope=read", 200)
		w.wantPosts(1)
		again := w.source()
		w.wantGet(w.target(again, reading), "scope=read", 200)
		w.wantPosts(1)
		w.wantGet(again, "scope=write", 200)
		w.wantGet(src, "scope=write", 200)
		w.wantPosts(2)
		if s := w.as.Stats(); s.Reuses != 0 {
			t.Errorf("%+v", s)
		}
	})
	inBubble(t, "those for several Targets take turns", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped()
		var all sync.WaitGroup
		for _, scope := range []string{"read", "write"} {
			narrow := w.target(src, freshtoken.Target{Scopes: []string{scope}})
			all.Go(func() {
				if _, err := narrow.Token(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		w.wantPosts(2)
		if st := src.Status(); st.Generation != 3 || !st.Persisted {
			t.Errorf("%+v", st)
		}
	})
	t.Run("the same Target, the same Source", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.source()
		both := freshtoken.Target{Scopes: []string{"b", "a", "b"}, Resources: []string{"https://y.test", "https://x.test/z"}}
		same := freshtoken.Target{Scopes: []string{"a", "b"}, Resources: []string{"https://x.test/z", "https://y.test"}}
		if w.target(src, both) != w.target(w.target(src, reading), same) {
			t.Error("they differ")
		}
		if w.target(w.target(src, both), freshtoken.Target{}) != src {
			t.Error("the zero Target is not the session's own")
		}
		if want := "resource=https%3A%2F%2Fx.test%2Fz&resource=https%3A%2F%2Fy.test&scope=a+b"; both.String() != want {
			t.Errorf("it is %s", both)
		}
	})
}

// What makes no sense is told before anything is asked for.
func TestBadTargets(t *testing.T) {
	w := newWorld(t, oauthtest.Options{})
	src := w.scoped()
	for _, bad := range []freshtoken.Target{
		{Resources: []string{"api"}}, {Resources: []string{"/api"}}, {Resources: []string{""}}, {Resources: []string{"https://api.test/#x"}},
		{Resources: []string{"https://api.test/#"}}, {Resources: []string{"https://api.test/ x"}}, {Resources: []string{"://"}},
		{Scopes: []string{""}}, {Scopes: []string{"read write"}}, {Scopes: []string{"re\"ad"}}, {Scopes: []string{"re\nad"}},
	} {
		d, err := src.For(bad)
		wantErr(t, err, freshtoken.ErrTarget)
		if d != nil {
			t.Errorf("%+v: a Source", bad)
		}
	}
	t.Run("a Refresher of the program's own", func(t *testing.T) {
		own := w.source(func(c *freshtoken.Config) {
			c.Refresher = freshtoken.RefresherFunc(func(context.Context, *oauth2.Token) (*oauth2.Token, error) { return nil, errors.New("no") })
		})
		_, err := own.For(reading)
		wantErr(t, err, freshtoken.ErrTarget)
		if got := w.target(own, freshtoken.Target{}); got != own {
			t.Error("the zero Target is not the session's own")
		}
	})
	w.wantPosts(0)
}

// telling has requests for a target say so in a header.
type telling struct{ http.RoundTripper }

func (l telling) RoundTrip(req *http.Request) (*http.Response, error) {
	data, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	req.Body.Close()
	form, err := url.ParseQuery(string(data))
	if err != nil {
		return nil, err
	}
	again := req.Clone(req.Context())
	again.Body = io.NopCloser(bytes.NewReader(data))
	again.Header.Set("X-Scope", form.Get("scope"))
	return l.RoundTripper.RoundTrip(again)
}

// A Target that the session does not cover costs the session nothing.
func TestNotGranted(t *testing.T) {
	admin := freshtoken.Target{Scopes: []string{"admin"}}
	inBubble(t, "a scope that was never granted: nothing is spent", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		var r recorder
		src := w.scoped(func(c *freshtoken.Config) { c.OnEvent = r.receive })
		d := w.target(src, admin)
		for range 3 {
			_, err := d.Token(t.Context())
			wantErr(t, err, freshtoken.ErrNotGranted)
			if errors.Is(err, freshtoken.ErrSessionEnded) || !strings.Contains(err.Error(), `"admin"`) {
				t.Errorf("got %v", err)
			}
		}
		w.wantPosts(0)
		w.usable(src)
		synctest.Wait()
		if n := r.count(freshtoken.EventRefreshFailed); n != 1 {
			t.Errorf("%d events", n)
		}
		if err := src.SetToken(t.Context(), w.as.Login("alice", "read", "admin")); err != nil {
			t.Fatal(err)
		}
		w.wantGet(d, "scope=admin", 200)
	})
	inBubble(t, "a server that gives more than the login was granted is asked if it is said to", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped()
		d := w.target(src, admin)
		_, err := d.Token(t.Context())
		wantErr(t, err, freshtoken.ErrNotGranted)
		w.wantPosts(0)
		beyond := admin
		beyond.BeyondLogin = true
		if again := w.target(src, beyond); again != d {
			t.Error("another Source")
		}
		_, err = d.Token(t.Context())
		wantErr(t, err, freshtoken.ErrNotGranted)
		if e := refreshError(t, err); e.Code != "invalid_scope" {
			t.Errorf("got %#v", e)
		}
		w.wantPosts(1)
	})
	inBubble(t, "another program has somebody log in", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		d := w.target(w.scoped(), admin)
		_, err := d.Token(t.Context())
		wantErr(t, err, freshtoken.ErrNotGranted)
		if err := w.source().SetToken(t.Context(), w.as.Login("alice", "admin")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.wantGet(d, "scope=admin", 200)
	})
	inBubble(t, "a login without a refresh token", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.source()
		tok := w.as.Login("alice", "read", "write")
		tok.RefreshToken = ""
		if err := src.SetToken(t.Context(), tok); err != nil {
			t.Fatal(err)
		}
		_, err := w.target(src, reading).Token(t.Context())
		wantErr(t, err, freshtoken.ErrNotGranted)
		w.usable(src)
	})
	for _, refusal := range oauthtest.TargetRefusals() {
		inBubble(t, "R8707-2 the server says "+refusal.Name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{})
			src := w.scoped()
			d := w.target(src, freshtoken.Target{Resources: []string{"https://other.test"}})
			w.as.Token.Next(refusal)
			for range 10 {
				_, err := d.Token(t.Context())
				wantErr(t, err, freshtoken.ErrNotGranted)
				if e := refreshError(t, err); e.Code == "" || e.Temporary || errors.Is(err, freshtoken.ErrSessionEnded) {
					t.Errorf("got %#v", e)
				}
				time.Sleep(10 * time.Second)
			}
			w.wantPosts(1)
			w.usable(src)
			w.usable(w.target(src, reading))
			w.wantPosts(2)
			time.Sleep(5 * time.Minute)
			w.usable(d)
		})
	}
	inBubble(t, "the server refuses without saying why", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped(func(c *freshtoken.Config) { c.HTTPClient = &http.Client{Transport: telling{c.HTTPClient.Transport}} })
		d := w.target(src, reading)
		w.as.Token.Func(func(r *http.Request, _ int) oauthtest.Fault {
			if r.Header.Get("X-Scope") != "" {
				return oauthtest.Error(400, "invalid_request")
			}
			return oauthtest.Fault{}
		})
		for range 1000 {
			if _, err := d.Token(t.Context()); err == nil || errors.Is(err, freshtoken.ErrSessionEnded) || errors.Is(err, freshtoken.ErrNotGranted) {
				t.Fatalf("got %v", err)
			}
			time.Sleep(time.Second)
		}
		if n := w.posts(); n < 5 || n > 12 {
			t.Errorf("%d requests", n)
		}
		w.usable(src)
	})
	inBubble(t, "a server that never says clearly that a session is over: who uses a target alone is told all the same", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped()
		d := w.target(src, reading)
		w.as.Token.Always(oauthtest.Error(400, "invalid_request"))
		var err error
		for range 20 {
			if _, err = d.Token(t.Context()); errors.Is(err, freshtoken.ErrSessionEnded) {
				break
			}
			time.Sleep(time.Minute)
		}
		wantErr(t, err, freshtoken.ErrSessionEnded)
		if e := refreshError(t, err); !e.Uncertain {
			t.Errorf("got %#v", e)
		}
	})
	inBubble(t, "a refusal lasts, whether or not an API rejects the token that there is", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped()
		d := w.target(src, reading)
		w.usable(d)
		time.Sleep(59 * time.Minute) // it is due
		w.as.Token.Next(oauthtest.Error(400, "invalid_scope"))
		tok := w.token(d)
		w.wantPosts(2)
		if _, err := d.Refresh(t.Context(), tok); !errors.Is(err, freshtoken.ErrNotGranted) {
			t.Errorf("got %v", err)
		}
		w.wantPosts(2)
		time.Sleep(5 * time.Minute)
		w.usable(d)
		w.wantPosts(3)
	})
	inBubble(t, "a server that says invalid_grant of a scope does not end the session", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped()
		d := w.target(src, reading)
		w.as.Token.Next(oauthtest.InvalidGrant())
		_, err := d.Token(t.Context())
		wantErr(t, err, freshtoken.ErrNotGranted)
		w.wantPosts(2) // the second is the session's own, which shows that it lives
		w.usable(src)
		if st := src.Status(); st.State != freshtoken.StateAlive || st.Generation != 2 || st.LastError != nil {
			t.Errorf("%+v", st)
		}
		if _, err := d.Token(t.Context()); !errors.Is(err, freshtoken.ErrNotGranted) {
			t.Error(err)
		}
		w.wantPosts(2)
	})
	inBubble(t, "answers were lost before, and the session's own token lives: it is asked for all the same", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped()
		d := w.target(src, reading)
		w.as.Token.Next(oauthtest.Drop(), oauthtest.LoseAnswer())
		if _, err := d.Token(t.Context()); err == nil {
			t.Fatal("there is a token")
		}
		w.usable(src)
		time.Sleep(5 * time.Minute)
		_, err := d.Token(t.Context())
		wantErr(t, err, freshtoken.ErrSessionEnded)
		if e := refreshError(t, err); e.Interrupted.IsZero() {
			t.Errorf("%v does not say that an answer was lost", err)
		}
	})
	inBubble(t, "a session that is over is over for all", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.source()
		tok := w.as.Login("alice", "read", "write")
		if err := src.SetToken(t.Context(), tok); err != nil {
			t.Fatal(err)
		}
		w.as.RevokeFamily(tok.RefreshToken)
		_, err := w.target(src, reading).Token(t.Context())
		wantErr(t, err, freshtoken.ErrSessionEnded)
		w.wantPosts(2)
		for _, s := range []*freshtoken.Source{src, w.source(), w.target(src, freshtoken.Target{Scopes: []string{"write"}})} {
			_, err := s.Token(t.Context())
			wantErr(t, err, freshtoken.ErrSessionEnded)
		}
		w.wantPosts(2)
	})
}

// An API's rejection is about the token that it got.
func TestForRejected(t *testing.T) {
	inBubble(t, "one token is replaced, and the request sent again", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped()
		narrow := w.target(src, reading)
		own, first := w.token(src), w.token(narrow)
		w.as.RevokeAccess(first.AccessToken)
		w.wantGet(narrow, "scope=read", 200)
		w.wantPosts(2)
		if w.token(src) != own || w.token(narrow).AccessToken == first.AccessToken {
			t.Error("the wrong one was replaced")
		}
		w.as.RevokeAccess(own.AccessToken)
		kept := w.token(narrow)
		w.wantGet(src, "scope=write", 200)
		w.wantPosts(3)
		if w.token(narrow) != kept {
			t.Error("the wrong one was replaced")
		}
	})
	inBubble(t, "a server that lets only the newest one live is told of, and not fought", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{KillOldAccess: true})
		told := make(map[freshtoken.EventKind]int)
		var mu sync.Mutex // guards told
		src := w.scoped(func(c *freshtoken.Config) {
			c.OnEvent = func(e freshtoken.Event) {
				mu.Lock()
				defer mu.Unlock()
				if e.Err != nil && strings.Contains(e.Err.Error(), "only the newest") {
					told[e.Kind]++
				}
			}
		})
		narrow := w.target(src, reading)
		failed := 0
		for range 100 {
			for _, s := range []*freshtoken.Source{src, narrow} {
				if w.ask(s, "scope=read") != 200 {
					failed++
				}
				time.Sleep(time.Millisecond)
			}
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if n := w.posts(); n > 8 || told[freshtoken.EventRejected] < 3 || told[freshtoken.EventOverBudget] == 0 || failed == 0 {
			t.Errorf("%d requests, told %v times, %d calls failed", n, told, failed)
		}
	})
}

// The session's beginning and end are those of all its tokens.
func TestForAndTheSession(t *testing.T) {
	inBubble(t, "another login", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped()
		narrow := w.target(src, reading)
		old := w.token(narrow).AccessToken
		if err := narrow.SetToken(t.Context(), w.as.Login("alice", "read")); err != nil {
			t.Fatal(err)
		}
		if got := w.token(narrow).AccessToken; got == old {
			t.Error("the token is that of the session before")
		}
		if strings.Contains(w.stored(), old) {
			t.Error("it is still stored")
		}
	})
	inBubble(t, "Logout", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped()
		narrow := w.target(src, reading)
		old := w.token(narrow).AccessToken
		if err := narrow.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.wantGone(src, narrow, w.target(w.source(), reading))
		if strings.Contains(w.stored(), old) {
			t.Error("the token is still stored")
		}
	})
	inBubble(t, "Logout at a server that revokes no refresh tokens", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped(revoking(w))
		own, narrow := w.token(src), w.token(w.target(src, reading))
		w.as.Revocation.Next(oauthtest.Error(400, "unsupported_token_type"))
		wantErr(t, src.Logout(t.Context()), freshtoken.ErrNotRevoked)
		for _, tok := range []*oauth2.Token{own, narrow} {
			if w.as.AccessAlive(tok.AccessToken) {
				t.Error("an access token is alive")
			}
		}
	})
	inBubble(t, "Close", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped()
		narrow := w.target(src, reading)
		w.usable(narrow)
		if err := narrow.Close(); err != nil {
			t.Error(err)
		}
		for _, s := range []*freshtoken.Source{src, narrow, w.target(src, freshtoken.Target{Scopes: []string{"write"}})} {
			_, err := s.Token(t.Context())
			wantErr(t, err, freshtoken.ErrClosed)
		}
	})
	inBubble(t, "the background refreshes the session's own alone", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped(func(c *freshtoken.Config) { c.Background = true })
		narrow := w.target(src, reading)
		w.usable(narrow)
		time.Sleep(70 * time.Minute)
		w.wantPosts(2)
		w.usable(narrow) // it has expired, and is asked for anew
		w.wantPosts(3)
	})
	inBubble(t, "what keeps the session alive is a refresh for any of them", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: 24 * time.Hour, RefreshLifetime: time.Hour})
		src := w.scoped(func(c *freshtoken.Config) { c.Background, c.KeepAlive = true, true })
		narrow := w.target(src, reading)
		for _, wait := range []time.Duration{40 * time.Minute, 40 * time.Minute} {
			time.Sleep(wait)
			tok := w.token(narrow)
			if _, err := narrow.Refresh(t.Context(), tok); err != nil {
				t.Fatal(err)
			}
		}
		w.wantPosts(3)
		time.Sleep(time.Hour)
		w.wantPosts(4)
		w.usable(src)
	})
	inBubble(t, "an answer that is lost is asked for again, and one that cannot be saved is used", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{Grace: time.Minute})
		f := w.faults()
		src := w.scoped()
		w.as.Token.Next(oauthtest.LoseAnswer())
		w.usable(w.target(src, reading))
		w.wantPosts(2)
		f.set(afterMark)
		writing := w.target(src, freshtoken.Target{Scopes: []string{"write"}})
		w.usable(writing)
		if st := writing.Status(); st.Persisted {
			t.Error("it cannot be stored")
		}
		f.set(func(f *faulty) { f.save = nil })
		time.Sleep(time.Minute)
		if st := src.Status(); !st.Persisted || st.Generation != 3 {
			t.Errorf("%+v", st)
		}
		if s := w.as.Stats(); s.Reuses != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A program that refreshes an older record, put back from a backup, for one
// target, takes no newer token for another one from who has it.
func TestForAndBackups(t *testing.T) {
	for _, narrow := range []bool{true, false} {
		inBubble(t, fmt.Sprintf("the newer one is for a target: %v", narrow), func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{Grace: time.Hour, GraceMode: oauthtest.GraceNew})
			a := w.scoped()
			mine, theirs := a, freshtoken.Target{Scopes: []string{"write"}}
			if narrow {
				mine, theirs = w.target(a, reading), freshtoken.Target{}
			}
			old := w.token(mine)
			backup := w.stored()
			newer, err := mine.Refresh(t.Context(), old)
			if err != nil {
				t.Fatal(err)
			}
			w.restore(backup)
			b := w.target(w.source(), theirs)
			first := w.token(b)
			if narrow {
				if _, err := b.Refresh(t.Context(), first); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second)
			other := w.target(a, theirs)
			w.as.RevokeAccess(w.token(other).AccessToken)
			w.ask(other, "scope=write") // a meets what b has stored
			if got := w.token(mine); got.AccessToken != newer.AccessToken {
				t.Errorf("it went back to an older token")
			}
			w.usable(mine)
		})
	}
}

// Programs that ask for ever new Targets do not fill the store.
func TestManyTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.source()
		if err := src.SetToken(t.Context(), w.as.Login("alice", "read")); err != nil {
			t.Fatal(err)
		}
		var tokens []string
		for n := range 50 {
			target := freshtoken.Target{Resources: []string{fmt.Sprintf("https://api%d.test", n)}}
			tokens = append(tokens, w.token(w.target(src, target)).AccessToken)
			time.Sleep(time.Second)
		}
		stored := w.stored()
		for n, token := range tokens {
			if kept := strings.Contains(stored, token); kept != (n >= 50-32) {
				t.Errorf("token %d is stored: %v", n, kept)
			}
		}
		time.Sleep(time.Hour)
		w.usable(src)
		w.usable(w.target(src, reading))
		if stored = w.stored(); strings.Count(stored, url.QueryEscape("https://api")) != 0 {
			t.Errorf("what has expired is still stored: %s", stored)
		}
	})
}
