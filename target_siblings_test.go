package freshtoken_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// writing is a second Target of a session that has both scopes.
var writing = freshtoken.Target{Scopes: []string{"write"}}

// What one Source of a session learns takes from another no pause, and tells it
// nothing that is not so.
func TestForPauses(t *testing.T) {
	askInTurn := func(w *world, n int, every time.Duration, all ...*freshtoken.Source) (last error) {
		for range n {
			for _, s := range all {
				if _, err := s.Token(w.t.Context()); err == nil {
					w.t.Error("there is a token")
				} else {
					last = err
				}
			}
			time.Sleep(every)
		}
		return last
	}
	inBubble(t, "two Targets that are refused", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped()
		w.as.Token.Always(oauthtest.Error(400, "invalid_scope"))
		wantErr(t, askInTurn(w, 100, time.Second, w.target(src, reading), w.target(src, writing)), freshtoken.ErrNotGranted)
		w.wantPosts(2)
	})
	inBubble(t, "one that is refused, beside others that are refreshed", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped()
		d := w.target(src, freshtoken.Target{Resources: []string{"https://other.test"}})
		w.as.Token.Next(oauthtest.Error(400, "invalid_target"))
		for range 4 {
			_, err := d.Token(t.Context())
			wantErr(t, err, freshtoken.ErrNotGranted)
			if _, err := src.Refresh(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		w.wantPosts(5)
		time.Sleep(time.Minute)
		w.usable(d)
	})
	inBubble(t, "a client that the server does not accept", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped()
		time.Sleep(2 * time.Hour)
		w.as.Token.Always(oauthtest.Error(401, "invalid_client"))
		askInTurn(w, 1000, time.Millisecond, src, w.target(src, reading))
		if n := w.posts(); n > 10 {
			t.Errorf("%d requests in a second", n)
		}
	})
	inBubble(t, "a login ends them", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped()
		w.as.Token.Next(oauthtest.Error(400, "invalid_scope"))
		d := w.target(src, reading)
		askInTurn(w, 1, 0, d)
		if err := src.SetToken(t.Context(), w.as.Login("alice", "read")); err != nil {
			t.Fatal(err)
		}
		w.usable(d)
	})
	inBubble(t, "a store that cannot be read is no session that is not there", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		w.scoped().Close()
		f := w.faults()
		src := w.source()
		d := w.target(src, reading)
		f.set(func(f *faulty) { f.load = failing(errDisk) })
		for _, s := range []*freshtoken.Source{src, d, src, d} {
			_, err := s.Token(t.Context())
			wantErr(t, err, freshtoken.ErrStore)
			if errors.Is(err, freshtoken.ErrNoSession) || s.Status().State != freshtoken.StateUnknown {
				t.Errorf("%v; %+v", err, s.Status())
			}
		}
		f.set(func(f *faulty) { f.load = nil })
		time.Sleep(time.Second)
		w.usable(src)
		w.usable(d)
	})
	inBubble(t, "the first token for a Target, while the store neither takes nor tells anything", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		f := w.faults()
		src := w.scoped()
		f.set(afterMark)
		if _, err := src.Refresh(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		f.set(func(f *faulty) { f.load, f.save = failing(errDisk), failing(errDisk) })
		w.usable(w.target(src, reading))
		f.set(func(f *faulty) { f.load, f.save = nil, nil })
		time.Sleep(2 * time.Minute)
		if st := src.Status(); !st.Persisted || st.Generation != 3 {
			t.Errorf("%+v", st)
		}
	})
	inBubble(t, "more Targets than the store keeps", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped()
		for range 5 {
			for n := range 40 {
				w.usable(w.target(src, freshtoken.Target{Resources: []string{fmt.Sprintf("https://api%d.test", n)}}))
				time.Sleep(time.Second)
			}
		}
		w.wantPosts(40)
	})
}

// What a refresh for a Target tells of the session's life counts for the session's
// own token at once.
func TestForAndLifetimes(t *testing.T) {
	inBubble(t, "the background goes on after a warning that was put off", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: 24 * time.Hour, RefreshLifetime: 24 * time.Hour})
		var r recorder
		src := w.source(func(c *freshtoken.Config) { c.Background, c.OnEvent = true, r.receive })
		if err := src.SetToken(t.Context(), with(w.as.Login("alice", "read"), map[string]any{"refresh_token_expires_in": 24 * 3600})); err != nil {
			t.Fatal(err)
		}
		time.Sleep(12 * time.Hour)
		w.usable(w.target(src, reading))
		w.wantPosts(1)
		time.Sleep(12*time.Hour - time.Minute)
		w.wantPosts(2)
		if n := r.count(freshtoken.EventExpiring); n != 0 {
			t.Errorf("%d warnings", n)
		}
	})
	inBubble(t, "KeepAlive keeps alive what is first told of so", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: 30 * 24 * time.Hour, RefreshLifetime: time.Hour})
		src := w.scoped(func(c *freshtoken.Config) { c.Background, c.KeepAlive = true, true })
		w.usable(w.target(src, reading))
		time.Sleep(24 * time.Hour)
		w.as.RevokeAccess(w.token(src).AccessToken)
		w.wantGet(src, "scope=read", 200)
	})
	inBubble(t, "KeepAlive without a background, where only a Target is asked for", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: 30 * 24 * time.Hour, RefreshLifetime: time.Hour})
		src := w.scoped(func(c *freshtoken.Config) { c.KeepAlive = true })
		d := w.target(src, reading)
		for range 24 * 12 {
			w.usable(d)
			time.Sleep(5 * time.Minute)
		}
		if _, err := src.Refresh(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if n := w.posts(); n > 50 {
			t.Errorf("%d requests in a day", n)
		}
	})
	inBubble(t, "one warning, whoever asks", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: 24 * time.Hour, RefreshLifetime: 2 * time.Hour})
		var r recorder
		src := w.scoped(func(c *freshtoken.Config) { c.OnEvent = r.receive })
		d := w.target(src, reading)
		w.usable(d)
		time.Sleep(2*time.Hour - 10*time.Minute)
		for range 10 {
			w.usable(d)
			w.usable(src)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if n := r.count(freshtoken.EventExpiring); n != 1 {
			t.Errorf("%d warnings", n)
		}
	})
}

// A refusal that is of the session comes to light, and costs no more for a Target.
func TestForAndRefusals(t *testing.T) {
	inBubble(t, "a program that knows no lock was faster", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped()
		d := w.target(src, reading)
		var newer *oauth2.Token
		w.as.Token.Next(oauthtest.Fault{Before: func(context.Context) error {
			key := freshtoken.StoreKey(w.config())
			data, err := w.store.Load(t.Context(), key)
			if err != nil {
				return err
			}
			newer = w.as.Login("alice", "read", "write")
			return w.store.Save(t.Context(), key, freshtoken.EditRecord(data, func(r map[string]any) {
				r["generation"] = 2
				r["refresh_token"], r["access_token"] = newer.RefreshToken, newer.AccessToken
				r["issued"] = time.Now()
				delete(r, "mark")
			}))
		}, Status: 400, Body: `{"error":"invalid_grant"}`})
		w.usable(d)
		if got := w.token(src); got.AccessToken != newer.AccessToken {
			t.Error("what the other program has stored is lost")
		}
		w.wantPosts(2)
	})
	inBubble(t, "the session was begun with another certificate", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		print := "old"
		auth := func(c *freshtoken.Config) { c.ClientAuth = &presenting{&print} }
		src := w.scoped(auth)
		src.Close()
		print = "new"
		time.Sleep(2 * time.Hour)
		src = w.source(auth)
		d := w.target(src, reading)
		w.as.Token.Always(oauthtest.InvalidGrant())
		for range 100 {
			if _, err := d.Token(t.Context()); err == nil {
				t.Fatal("there is a token")
			}
			time.Sleep(time.Second)
		}
		if n := w.posts(); n > 4 {
			t.Errorf("%d requests in 100 seconds", n)
		}
	})
}

// presenting is a client that presents a certificate.
type presenting struct{ print *string }

func (p *presenting) AuthenticateClient(context.Context, freshtoken.ClientRequest) (url.Values, error) {
	return nil, nil
}

func (p *presenting) DescribeClient() freshtoken.ClientMethod {
	return freshtoken.ClientMethod{Names: []string{"none"}, MutualTLS: true, Thumbprint: *p.print}
}

// A login for what an API demands is the session's, whichever Source it was for.
func TestForAndStepUp(t *testing.T) {
	demand := &freshtoken.Challenge{Code: freshtoken.InsufficientScope, Scopes: []string{"admin"}}
	admin := freshtoken.Target{Scopes: []string{"admin"}}
	inBubble(t, "the event is the session's", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		var r recorder
		d := w.target(w.scoped(func(c *freshtoken.Config) { c.OnEvent = r.receive }), admin)
		_, err := d.Token(t.Context())
		wantErr(t, err, freshtoken.ErrNotGranted)
		tok, err := d.StepUp(t.Context(), demand, freshtoken.AuthenticatorFunc(func(_ context.Context, cfg freshtoken.Config) (*oauth2.Token, error) {
			return w.as.Login("alice", cfg.OAuth2.Scopes...), nil
		}))
		if err != nil || tok.Extra("scope") != "admin" {
			t.Fatalf("got %v, %v", tok != nil, err)
		}
		synctest.Wait()
		for _, e := range r.events {
			if e.Kind == freshtoken.EventLoggedIn && e.Target != "" {
				t.Errorf("it is of %q", e.Target)
			}
		}
	})
	inBubble(t, "another program has had somebody log in, and there was no token for the Target", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		d := w.target(w.scoped(), admin)
		_, err := d.Token(t.Context())
		wantErr(t, err, freshtoken.ErrNotGranted)
		if err := w.source().SetToken(t.Context(), w.as.Login("alice", "read", "write", "admin")); err != nil {
			t.Fatal(err)
		}
		_, err = d.StepUp(t.Context(), demand, freshtoken.AuthenticatorFunc(func(context.Context, freshtoken.Config) (*oauth2.Token, error) {
			return nil, errors.New("somebody was asked")
		}))
		if err != nil {
			t.Error(err)
		}
	})
}
