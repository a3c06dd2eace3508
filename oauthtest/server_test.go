package oauthtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/freshtoken/freshtoken/oauthtest"
)

// A reply is an answer read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// member returns a member of a JSON body as text.
func (r reply) member(t *testing.T, name string) string {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(r.body), &m); err != nil {
		t.Fatalf("body %q: %v", r.body, err)
	}
	s, _ := m[name].(string)
	return s
}

func do(c *http.Client, req *http.Request) (reply, error) {
	resp, err := c.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(b)}, err
}

func formRequest(t *testing.T, url string, form url.Values) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return req
}

func refreshForm(rt string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "client_id": {"client"}, "refresh_token": {rt}}
}

// refresh spends a refresh token of a public client and expects an answer.
func refresh(t *testing.T, srv *oauthtest.Server, rt string) reply {
	t.Helper()
	r, err := do(srv.Client(), formRequest(t, srv.TokenURL(), refreshForm(rt)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// refreshed is refresh where it must succeed; it returns the two tokens.
func refreshed(t *testing.T, srv *oauthtest.Server, rt string) (access, next string) {
	t.Helper()
	r := refresh(t, srv, rt)
	if r.status != 200 {
		t.Fatalf("refresh: %d %s", r.status, r.body)
	}
	return r.member(t, "access_token"), r.member(t, "refresh_token")
}

func apiRequest(t *testing.T, srv *oauthtest.Server, path, token string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", srv.APIURL(path), nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req
}

func callAPI(t *testing.T, srv *oauthtest.Server, path, token string) reply {
	t.Helper()
	r, err := do(srv.Client(), apiRequest(t, srv, path, token))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func TestReuseKillsTheFamily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		first, other := srv.Login("alice"), srv.Login("alice")
		at, next := refreshed(t, srv, first.RefreshToken)
		if next == first.RefreshToken || at == first.AccessToken {
			t.Fatal("nothing was rotated")
		}
		if srv.Alive(first.RefreshToken) || !srv.Alive(next) {
			t.Fatal("the wrong refresh token is alive")
		}
		if !srv.AccessAlive(first.AccessToken) || !srv.AccessAlive(at) {
			t.Fatal("a refresh killed an access token")
		}
		r := refresh(t, srv, first.RefreshToken)
		if r.status != 400 || r.member(t, "error") != "invalid_grant" {
			t.Fatalf("reuse: %d %s", r.status, r.body)
		}
		if srv.Alive(next) || srv.AccessAlive(at) || srv.AccessAlive(first.AccessToken) {
			t.Fatal("the family outlived a reuse")
		}
		if r := callAPI(t, srv, "x", at); r.status != 401 {
			t.Fatalf("API after the reuse: %d", r.status)
		}
		if r := refresh(t, srv, next); r.status != 400 {
			t.Fatalf("refresh after the reuse: %d", r.status)
		}
		if !srv.Alive(other.RefreshToken) || !srv.AccessAlive(other.AccessToken) {
			t.Fatal("another session of the same user was hit")
		}
		var got []oauthtest.Outcome
		for _, e := range srv.LogOf(oauthtest.TokenEndpoint) {
			got = append(got, e.Outcome)
		}
		want := []oauthtest.Outcome{oauthtest.Granted, oauthtest.Reuse, oauthtest.FamilyDead}
		if len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
			t.Fatalf("outcomes %v, want %v", got, want)
		}
		st := srv.Stats()
		if st.Logins != 2 || st.TokenRequests != 3 || st.Refreshes != 1 || st.Reuses != 1 || st.FamilyKills != 1 ||
			st.InvalidGrants != 2 || st.APIRequests != 1 || st.APIUnauthorized != 1 || st.PeakTokenRequests != 1 {
			t.Fatalf("stats: %+v", st)
		}
	})
}

func TestRotationModes(t *testing.T) {
	tests := []struct {
		name               string
		rotation           oauthtest.Rotation
		answered           bool // a refresh token is in the answer
		changed, oldServes bool
	}{
		{"Rotate", oauthtest.Rotate, true, true, false},
		{"RotateLenient", oauthtest.RotateLenient, true, true, true},
		{"NoRotation", oauthtest.NoRotation, false, false, true},
		{"SameToken", oauthtest.SameToken, true, false, true},
	}
	for _, tt := range tests {
		bubble(t, tt.name, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{Rotation: tt.rotation})
			first := srv.Login("alice").RefreshToken
			_, next := refreshed(t, srv, first)
			if (next != "") != tt.answered {
				t.Fatalf("refresh token in the answer: %q", next)
			}
			if tt.answered && (next != first) != tt.changed {
				t.Fatal("wrong refresh token in the answer")
			}
			if got := srv.Alive(first); got != tt.oldServes {
				t.Fatalf("old one alive: %v", got)
			}
			if got := refresh(t, srv, first).status == 200; got != tt.oldServes {
				t.Fatalf("old one accepted: %v", got)
			}
		})
	}
}

func TestGrace(t *testing.T) {
	const grace = 10 * time.Second
	open := func(mode oauthtest.GraceMode) (*oauthtest.Server, string) {
		srv := oauthtest.New(oauthtest.Options{Grace: grace, GraceMode: mode})
		return srv, srv.Login("alice").RefreshToken
	}
	bubble(t, "same", func(t *testing.T) {
		srv, first := open(oauthtest.GraceSame)
		at1, rt1 := refreshed(t, srv, first)
		time.Sleep(grace)
		at2, rt2 := refreshed(t, srv, first)
		if rt1 != rt2 || at1 == at2 || !srv.AccessAlive(at1) {
			t.Fatal("want the same refresh token and another access token")
		}
		if srv.Stats().GraceUses != 1 {
			t.Fatalf("stats: %+v", srv.Stats())
		}
	})
	bubble(t, "new", func(t *testing.T) {
		srv, first := open(oauthtest.GraceNew)
		_, rt1 := refreshed(t, srv, first)
		_, rt2 := refreshed(t, srv, first)
		if rt1 == rt2 || !srv.Alive(rt1) || !srv.Alive(rt2) {
			t.Fatal("want two live successors")
		}
	})
	bubble(t, "replace", func(t *testing.T) {
		srv, first := open(oauthtest.GraceReplace)
		at1, rt1 := refreshed(t, srv, first)
		at2, rt2 := refreshed(t, srv, first)
		if srv.Alive(rt1) || srv.AccessAlive(at1) || !srv.Alive(rt2) || !srv.AccessAlive(at2) {
			t.Fatal("want the second successor alone")
		}
		if refresh(t, srv, rt1).status != 400 || srv.Alive(rt2) {
			t.Fatal("a withdrawn token must count as reuse")
		}
	})
	bubble(t, "over", func(t *testing.T) {
		srv, first := open(oauthtest.GraceSame)
		_, rt1 := refreshed(t, srv, first)
		time.Sleep(grace + 1)
		if srv.Alive(first) || refresh(t, srv, first).status != 400 || srv.Alive(rt1) {
			t.Fatal("reuse after the grace must kill the family")
		}
	})
	bubble(t, "successor used", func(t *testing.T) {
		srv, first := open(oauthtest.GraceSame)
		_, rt1 := refreshed(t, srv, first)
		_, rt2 := refreshed(t, srv, rt1)
		if srv.Alive(first) || refresh(t, srv, first).status != 400 || srv.Alive(rt2) {
			t.Fatal("grace must end when the successor is used")
		}
	})
}

func TestLifetimes(t *testing.T) {
	bubble(t, "access", func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{AccessLifetime: 90 * time.Second})
		tok := srv.Login("alice")
		if tok.ExpiresIn != 90 || !tok.Expiry.Equal(time.Now().Add(90*time.Second)) {
			t.Fatalf("lifetime %d, expiry %v", tok.ExpiresIn, tok.Expiry)
		}
		time.Sleep(90*time.Second - time.Nanosecond)
		if r := callAPI(t, srv, "x", tok.AccessToken); r.status != 200 {
			t.Fatalf("just before expiry: %d", r.status)
		}
		time.Sleep(time.Nanosecond)
		r := callAPI(t, srv, "x", tok.AccessToken)
		if r.status != 401 || !strings.Contains(r.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Fatalf("at expiry: %d %v", r.status, r.header)
		}
	})
	bubble(t, "refresh", func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{RefreshLifetime: time.Hour})
		first := srv.Login("alice").RefreshToken
		time.Sleep(time.Hour - 1)
		r := refresh(t, srv, first)
		if r.status != 200 || !strings.Contains(r.body, `"refresh_token_expires_in":3600`) {
			t.Fatalf("just before expiry: %d %s", r.status, r.body)
		}
		next := r.member(t, "refresh_token")
		time.Sleep(time.Hour)
		if srv.Alive(next) || refresh(t, srv, next).status != 400 {
			t.Fatal("an expired refresh token was accepted")
		}
		log := srv.Log()
		if got := log[len(log)-1].Outcome; got != oauthtest.Expired {
			t.Fatalf("outcome %s", got)
		}
	})
	bubble(t, "KillOldAccess", func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{KillOldAccess: true})
		first := srv.Login("alice")
		at, next := refreshed(t, srv, first.RefreshToken)
		if srv.AccessAlive(first.AccessToken) || !srv.AccessAlive(at) {
			t.Fatal("want the newest access token alone")
		}
		newest, _ := refreshed(t, srv, next)
		if srv.AccessAlive(at) || !srv.AccessAlive(newest) {
			t.Fatal("want the newest access token alone")
		}
	})
}

func TestScopes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		tok := srv.Login("alice", "read", "write")
		if got := tok.Extra("scope"); got != "read write" {
			t.Fatalf("scope of the login: %v", got)
		}
		form := refreshForm(tok.RefreshToken)
		form.Set("scope", "read admin")
		r, err := do(srv.Client(), formRequest(t, srv.TokenURL(), form))
		if err != nil || r.status != 400 || r.member(t, "error") != "invalid_scope" {
			t.Fatalf("widening: %v %+v", err, r)
		}
		if !srv.Alive(tok.RefreshToken) {
			t.Fatal("a refused widening spent the refresh token")
		}
		form.Set("scope", "read")
		r, err = do(srv.Client(), formRequest(t, srv.TokenURL(), form))
		if err != nil || r.status != 200 || r.member(t, "scope") != "read" {
			t.Fatalf("narrowing: %v %+v", err, r)
		}
		narrow := r.member(t, "access_token")
		if r := callAPI(t, srv, "x?scope=read", narrow); r.status != 200 {
			t.Fatalf("scope read: %d", r.status)
		}
		r2 := callAPI(t, srv, "x?scope=write", narrow)
		if r2.status != 403 || !strings.Contains(r2.header.Get("WWW-Authenticate"), `error="insufficient_scope", scope="write"`) {
			t.Fatalf("scope write: %d %v", r2.status, r2.header)
		}
		if r := refresh(t, srv, r.member(t, "refresh_token")); r.member(t, "scope") != "read write" {
			t.Fatal("narrowing an access token narrowed the session")
		}
	})
}

func TestRevokingByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		a, b, c := srv.Login("a"), srv.Login("b"), srv.Login("c")
		srv.RevokeAccess(a.AccessToken)
		if srv.AccessAlive(a.AccessToken) || !srv.Alive(a.RefreshToken) {
			t.Fatal("RevokeAccess must end the access token alone")
		}
		srv.RevokeFamily(b.AccessToken)
		srv.RevokeFamily(c.RefreshToken)
		srv.RevokeFamily("unknown")
		srv.RevokeAccess("unknown")
		for _, tok := range []*oauth2.Token{b, c} {
			if srv.AccessAlive(tok.AccessToken) || srv.Alive(tok.RefreshToken) {
				t.Fatal("RevokeFamily left a token alive")
			}
		}
		if srv.Alive("unknown") || srv.AccessAlive("unknown") {
			t.Fatal("an unknown token is alive")
		}
	})
}

func TestWithOAuth2(t *testing.T) {
	for name, secret := range map[string]string{"public": "", "confidential": "a+b:c% ü"} {
		bubble(t, name, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{ClientID: "https://a/c", ClientSecret: secret})
			ctx := context.WithValue(t.Context(), oauth2.HTTPClient, srv.Client())
			old := srv.Login("alice")
			tok, err := srv.OAuth2().TokenSource(ctx, &oauth2.Token{RefreshToken: old.RefreshToken}).Token()
			if err != nil {
				t.Fatal(err)
			}
			if !srv.AccessAlive(tok.AccessToken) || !srv.Alive(tok.RefreshToken) {
				t.Fatal("x/oauth2 got no live tokens")
			}
			_, err = srv.OAuth2().TokenSource(ctx, old.WithExtra(nil)).Token()
			if err != nil {
				t.Fatal("a fresh token needs no refresh:", err)
			}
			var re *oauth2.RetrieveError
			_, err = srv.OAuth2().TokenSource(ctx, &oauth2.Token{RefreshToken: old.RefreshToken}).Token()
			if !errors.As(err, &re) || re.ErrorCode != "invalid_grant" {
				t.Fatalf("reuse: %v", err)
			}
		})
	}
}

func TestBaseURL(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{BaseURL: "https://AS.example:443/"})
	if got := srv.TokenURL(); got != "https://AS.example:443/token" {
		t.Fatal(got)
	}
	if srv.APIURL("x") != srv.APIURL("/x") || srv.APIURL("x") != srv.BaseURL()+"/api/x" {
		t.Fatal(srv.APIURL("/x"))
	}
	resp, err := srv.Client().Get("https://as.example/login")
	if err != nil || resp.StatusCode != 200 {
		t.Fatal("the host must be matched without case and default port:", err)
	}
	resp.Body.Close()
	defer func() {
		if recover() == nil {
			t.Fatal("a base URL without a host was accepted")
		}
	}()
	oauthtest.New(oauthtest.Options{BaseURL: "oauth.test"})
}

func TestNothingPrintsSecrets(t *testing.T) {
	opt := oauthtest.Options{ClientID: "shown", ClientSecret: "hidden", OtherClients: map[string]string{"also": "hidden"}}
	srv := oauthtest.New(opt)
	tok := srv.Login("alice")
	var text bytes.Buffer
	for _, v := range []any{opt, &opt, srv} {
		fmt.Fprintf(&text, "%v %+v %#v %s %q\n", v, v, v, v, v)
		if err := json.NewEncoder(&text).Encode(v); err != nil {
			t.Fatal(err)
		}
		slog.New(slog.NewTextHandler(&text, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&text, nil)).Info("x", "v", v)
	}
	for _, secret := range []string{"hidden", tok.AccessToken, tok.RefreshToken} {
		if strings.Contains(text.String(), secret) {
			t.Errorf("a secret is shown: %s", text.String())
		}
	}
	if opt.OtherClients["also"] != "hidden" {
		t.Error("printing changed the options")
	}
	if !strings.Contains(text.String(), "shown") || !strings.Contains(text.String(), srv.BaseURL()) {
		t.Errorf("nothing is shown: %s", text.String())
	}
}
