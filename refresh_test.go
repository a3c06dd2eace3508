package freshtoken_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// wire is a RoundTripper that keeps what goes to the token endpoint.
type wire struct {
	base http.RoundTripper

	mu       sync.Mutex // guards what follows
	requests []*http.Request
	bodies   []string
}

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(req.Body)
	req.Body = io.NopCloser(strings.NewReader(string(body)))
	w.mu.Lock()
	w.requests, w.bodies = append(w.requests, req), append(w.bodies, string(body))
	w.mu.Unlock()
	return w.base.RoundTrip(req)
}

// tap records what a Source sends to the token endpoint.
func (w *world) tap() (*wire, func(*freshtoken.Config)) {
	tap := &wire{base: w.as.Transport()}
	return tap, func(c *freshtoken.Config) { c.HTTPClient = &http.Client{Transport: tap} }
}

func (w *wire) only(t *testing.T) (*http.Request, url.Values) {
	t.Helper()
	if len(w.requests) != 1 {
		t.Fatalf("%d requests to the token endpoint, want 1", len(w.requests))
	}
	form, err := url.ParseQuery(w.bodies[0])
	if err != nil {
		t.Fatal(err)
	}
	return w.requests[0], form
}

// inBubble runs a subtest in a bubble of its own.
func inBubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

const lifetime = time.Minute

// expired is a program whose access token has just expired.
func expired(t *testing.T, o oauthtest.Options, edits ...func(*freshtoken.Config)) (*world, *freshtoken.Source) {
	t.Helper()
	if o.AccessLifetime == 0 {
		o.AccessLifetime = lifetime
	}
	w := newWorld(t, o)
	src := w.loggedIn(edits...)
	time.Sleep(o.AccessLifetime)
	return w, src
}

// The request.
func TestTokenRequest(t *testing.T) {
	request := func(t *testing.T, o oauthtest.Options, edits ...func(*freshtoken.Config)) (*http.Request, url.Values, string) {
		t.Helper()
		w := newWorld(t, o)
		tap, edit := w.tap()
		src := w.source(append(edits, edit)...)
		if err := src.SetToken(t.Context(), &oauth2.Token{RefreshToken: w.as.Login("alice", "a", "b").RefreshToken}); err != nil {
			t.Fatal(err)
		}
		w.usable(src)
		req, form := tap.only(t)
		return req, form, tap.bodies[0]
	}
	inBubble(t, "R6749-6 exact body of a public client", func(t *testing.T) {
		req, form, _ := request(t, oauthtest.Options{})
		if len(form) != 3 || form.Get("grant_type") != "refresh_token" || form.Get("refresh_token") == "" || form.Get("client_id") != "client" {
			t.Errorf("body %v", form)
		}
		if req.Method != "POST" || req.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
			t.Errorf("%s with %v", req.Method, req.Header)
		}
	})
	inBubble(t, "R6749-6 a confidential client authenticates on refresh", func(t *testing.T) {
		req, form, _ := request(t, oauthtest.Options{ClientSecret: clientSecret})
		if _, secret, ok := req.BasicAuth(); !ok || secret != clientSecret || len(form) != 2 {
			t.Errorf("header %v, body %v", req.Header, form)
		}
	})
	inBubble(t, "R6749-6-scope no scope is asked for", func(t *testing.T) {
		if _, form, _ := request(t, oauthtest.Options{}); form.Has("scope") {
			t.Errorf("body %v", form)
		}
	})
	inBubble(t, "R6749-3.2.1 no empty client_secret", func(t *testing.T) {
		_, form, _ := request(t, oauthtest.Options{})
		if form.Has("client_secret") || len(form["client_id"]) != 1 {
			t.Errorf("body %v", form)
		}
	})
	inBubble(t, "R6749-2.3 one authentication method, no secret in the URI", func(t *testing.T) {
		req, form, _ := request(t, oauthtest.Options{ClientSecret: clientSecret})
		if form.Has("client_secret") || form.Has("client_id") || req.URL.RawQuery != "" {
			t.Errorf("%v, body %v", req.URL, form)
		}
		req, form, _ = request(t, oauthtest.Options{ClientSecret: clientSecret}, func(c *freshtoken.Config) {
			c.OAuth2.Endpoint.AuthStyle = oauth2.AuthStyleInParams
		})
		if req.Header.Get("Authorization") != "" || form.Get("client_secret") != clientSecret {
			t.Errorf("%v, body %v", req.Header, form)
		}
	})
	inBubble(t, "R6749-2.3.1-basic id and secret are form-encoded", func(t *testing.T) {
		o := oauthtest.Options{ClientID: "https://a/c", ClientSecret: "a+b:c%"}
		req, _, _ := request(t, o)
		want := "Basic " + base64.StdEncoding.EncodeToString([]byte("https%3A%2F%2Fa%2Fc:a%2Bb%3Ac%25"))
		if got := req.Header.Get("Authorization"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
	inBubble(t, "R6749-2.3.1-basic the encoding can be left out", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{ClientID: "a/c", ClientSecret: "b+c"})
		tap, edit := w.tap()
		src := w.source(edit, func(c *freshtoken.Config) { c.PlainBasicAuth = true })
		src.SetToken(t.Context(), &oauth2.Token{RefreshToken: w.as.Login("alice").RefreshToken})
		src.Token(t.Context())
		req, _ := tap.only(t)
		if id, secret, _ := req.BasicAuth(); id != "a/c" || secret != "b+c" {
			t.Errorf("got %q %q", id, secret)
		}
	})
	inBubble(t, "R8414-2-auth no second method is tried", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{ClientSecret: clientSecret}, func(c *freshtoken.Config) { c.OAuth2.ClientSecret = "wrong" })
		_, err := src.Token(t.Context())
		if e := refreshError(t, err); e.Code != "invalid_client" || e.Temporary || errors.Is(err, freshtoken.ErrSessionEnded) {
			t.Errorf("got %#v", e)
		}
		if !strings.Contains(err.Error(), "AuthStyle") {
			t.Errorf("the error does not name the setting: %v", err)
		}
		w.wantPosts(1)
	})
	inBubble(t, "R6749-B form encoding", func(t *testing.T) {
		_, form, body := request(t, oauthtest.Options{}, func(c *freshtoken.Config) {
			c.RefreshParams = url.Values{"audience": {" %&+£€"}}
		})
		if !strings.Contains(body, "audience=+%25%26%2B%C2%A3%E2%82%AC") || form.Get("audience") != " %&+£€" {
			t.Errorf("body %s", body)
		}
	})
	inBubble(t, "R6749-3.1-query an existing query is kept", func(t *testing.T) {
		req, _, _ := request(t, oauthtest.Options{}, func(c *freshtoken.Config) { c.OAuth2.Endpoint.TokenURL += "?tenant=1" })
		if req.URL.RawQuery != "tenant=1" {
			t.Errorf("sent to %v", req.URL)
		}
	})
	t.Run("R6749-3.1-query a fragment is refused", func(t *testing.T) {
		_, err := freshtoken.New(freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "c", Endpoint: oauth2.Endpoint{TokenURL: "https://as.test/token#x"}}})
		if err == nil || !strings.Contains(err.Error(), "fragment") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("R6749-3.2-dup parameters are not doubled", func(t *testing.T) {
		for _, params := range []url.Values{{"scope": {"a"}}, {"state": {"a"}}, {"grant_type": {"password"}}, {"x": {""}}, {"x": nil}, {"x": {"a", "b"}}} {
			w := newWorld(t, oauthtest.Options{})
			cfg := w.config()
			cfg.RefreshParams = params
			if _, err := freshtoken.New(cfg); err == nil {
				t.Errorf("%v was accepted", params)
			}
		}
	})
	inBubble(t, "R6749-3.2-dup resource may repeat", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		tap, edit := w.tap()
		src := w.source(edit, func(c *freshtoken.Config) { c.RefreshParams = url.Values{"resource": {"urn:a", "urn:b"}} })
		src.SetToken(t.Context(), &oauth2.Token{RefreshToken: w.as.Login("alice").RefreshToken})
		src.Token(t.Context())
		if _, form := tap.only(t); len(form["resource"]) != 2 {
			t.Errorf("body %v", form)
		}
	})
	inBubble(t, "R6749-4.4.3 client credentials are renewed with the credentials", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		n := 0
		src := w.source(func(c *freshtoken.Config) {
			c.Refresher = freshtoken.RefresherFunc(func(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
				n++
				return &oauth2.Token{AccessToken: "at" + strconv.Itoa(n), RefreshToken: "unasked", ExpiresIn: 60}, nil
			})
		})
		src.SetToken(t.Context(), &oauth2.Token{AccessToken: "at0", ExpiresIn: 60})
		for i := range 3 {
			if tok := w.token(src); tok.AccessToken != "at"+strconv.Itoa(i) {
				t.Errorf("got %q", tok.AccessToken)
			}
			time.Sleep(lifetime)
		}
		w.wantPosts(0)
	})
	t.Run("R6750-5.2-cert the server's certificate is checked", func(t *testing.T) {
		hits := 0
		as := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits++ }))
		as.Config.ErrorLog = quiet
		defer as.Close()
		src, err := freshtoken.New(freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "c", Endpoint: oauth2.Endpoint{TokenURL: as.URL}}})
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		src.SetToken(t.Context(), &oauth2.Token{RefreshToken: "rt"})
		_, err = src.Token(t.Context())
		if e := refreshError(t, err); hits != 0 || e.OutcomeUnknown || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%d hits, error %v", hits, err)
		}
	})
	inBubble(t, "R6749-3.2-post a redirect is not followed", func(t *testing.T) {
		for _, status := range []int{301, 302, 303, 307, 308} {
			w, src := expired(t, oauthtest.Options{ClientSecret: clientSecret})
			leaked := 0
			w.as.Handle("evil.test", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { leaked++ }))
			w.as.Token.Next(oauthtest.Redirect(status, "https://evil.test/token"))
			_, err := src.Token(t.Context())
			if e := refreshError(t, err); leaked != 0 || !e.Temporary || e.OutcomeUnknown || !strings.Contains(err.Error(), "TokenURL") {
				t.Errorf("%d: %d requests at the target, error %v", status, leaked, err)
			}
			time.Sleep(time.Minute)
			w.usable(src)
		}
	})
}

// Answers with an oddity whose tokens serve all the same.
func TestOddAnswers(t *testing.T) {
	for _, odd := range oauthtest.OddAnswers() {
		inBubble(t, odd.Name, func(t *testing.T) {
			w, src := expired(t, oauthtest.Options{}, func(c *freshtoken.Config) { c.AcceptFormEncoded, c.AssumeBearer = true, true })
			w.as.Token.Next(odd)
			w.usable(src)
			time.Sleep(2 * time.Minute)
			w.as.RevokeAccess(w.token(src).AccessToken)
			for range 2 {
				tok, err := src.Refresh(t.Context(), w.token(src))
				if err != nil || !w.as.AccessAlive(tok.AccessToken) {
					t.Fatalf("the next refresh failed: %v", err)
				}
			}
			if s := w.as.Stats(); s.Reuses != 0 || s.InvalidGrants != 0 {
				t.Errorf("the session was damaged: %+v", s)
			}
		})
	}
	for _, odd := range oauthtest.OmittedRefreshTokens() {
		inBubble(t, "R6749-6-keep "+odd.Name, func(t *testing.T) {
			w, src := expired(t, oauthtest.Options{Rotation: oauthtest.NoRotation})
			w.as.Token.Always(odd)
			for range 5 {
				w.usable(src)
				time.Sleep(lifetime)
			}
		})
	}
}

// Answers without a usable access token: an error, nothing lost that can be
// kept, and nothing of the answer shown.
func TestBadAnswers(t *testing.T) {
	for _, bad := range oauthtest.BadAnswers() {
		inBubble(t, bad.Name, func(t *testing.T) {
			w, src := expired(t, oauthtest.Options{Rotation: oauthtest.SameToken})
			w.as.Token.Always(bad)
			_, err := src.Token(t.Context())
			w.as.Token.Clear()
			e := refreshError(t, err)
			if errors.Is(err, freshtoken.ErrSessionEnded) || !e.Temporary {
				t.Errorf("got %#v", e)
			}
			if strings.Contains(err.Error(), "<html") || strings.Contains(err.Error(), "{") {
				t.Errorf("the error shows the body: %v", err)
			}
			time.Sleep(time.Minute)
			w.usable(src) // the refresh token was kept
		})
	}
	bad := func(id, what string, f oauthtest.Fault, want string) {
		inBubble(t, id+" "+what, func(t *testing.T) {
			w, src := expired(t, oauthtest.Options{Rotation: oauthtest.SameToken})
			w.as.Token.Always(f)
			_, err := src.Token(t.Context())
			refreshError(t, err)
			if !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q in it", err, want)
			}
			w.as.Token.Clear()
			time.Sleep(time.Minute)
			w.usable(src)
		})
	}
	for _, body := range []string{`{}`, `null`, `[]`, `{"access_token":123,"token_type":"Bearer"}`, `{"access_token":"","token_type":"Bearer"}`, `{"access_token":"a`, `<html>portal</html>`, ``} {
		bad("R6749-5.1-at", "no access token in "+strconv.Quote(body), oauthtest.JSON(200, body), "answer")
	}
	bad("R6749-5.1-ct", "a page of HTML is no token", oauthtest.HTML(200), "not a JSON object")
	bad("R6749-5.1-type", "a missing token_type is an error by default", oauthtest.OmitMember("token_type"), "AssumeBearer")
	bad("R6749-7.1", "a type that is not understood", oauthtest.SetMember("token_type", `"mac"`), `type is "mac"`)
	bad("R6750-b64", "a token that would break the header", oauthtest.SetMember("access_token", `"a b\r\nX: y"`), "not allowed in a header")
	bad("R6749-3.2-rdup", "a member twice", oauthtest.AddMember("access_token", `"other"`), "twice")
	bad("R6749-5.1-size", "a body without end", oauthtest.BigBody(-1), "larger than")
	bad("R6749-5.1-size", "a body of 100 MiB", oauthtest.BigBody(100<<20), "larger than")
	bad("R6749-5.1-ct", "a form-encoded answer is an error by default", oauthtest.FormEncoded(), "AcceptFormEncoded")

	inBubble(t, "R6749-5.1-ct a form-encoded answer, enabled", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{}, func(c *freshtoken.Config) { c.AcceptFormEncoded = true })
		w.as.Token.Next(oauthtest.FormEncoded())
		w.usable(src)
	})
	inBubble(t, "R6749-1.9 names are compared with case", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		w.as.Token.Next(oauthtest.AddMember("Refresh_Token", `"evil"`))
		w.usable(src)
		time.Sleep(lifetime)
		w.usable(src)
	})
	inBubble(t, "R6749-5.1-size a token of 64 KiB", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		big := strings.Repeat("x", 64<<10)
		w.as.Token.Next(oauthtest.SetMember("access_token", `"`+big+`"`))
		if tok := w.token(src); tok.AccessToken != big {
			t.Errorf("got %d bytes", len(tok.AccessToken))
		}
		if tok := w.token(w.source()); tok.AccessToken != big {
			t.Errorf("another process got %d bytes", len(tok.AccessToken))
		}
	})
	inBubble(t, "R6749-5.1-unk unknown members are readable", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		w.as.Token.Next(oauthtest.AddMember("extra", `{"a":[1,null]}`))
		if got, ok := w.token(src).Extra("extra").(map[string]any); !ok || got["a"] == nil {
			t.Errorf("got %v", w.token(src).Extra("extra"))
		}
	})
	inBubble(t, "R6749-5.1-scope a narrower scope is visible", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		w.as.Token.Next(oauthtest.SetMember("scope", `"b"`), oauthtest.OmitMember("scope"))
		for range 2 {
			if got := w.token(src).Extra("scope"); got != "b" {
				t.Errorf("scope %v, want b", got)
			}
			time.Sleep(lifetime)
		}
	})
	inBubble(t, "R21-1.4 a JWT is opaque", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		jwt := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"exp":1}`)) + "."
		w.as.Token.Next(oauthtest.SetMember("access_token", strconv.Quote(jwt)))
		if tok := w.token(src); tok.AccessToken != jwt {
			t.Errorf("got %v", tok)
		}
		w.wantPosts(1)
	})
}

func TestExpiresIn(t *testing.T) {
	for _, tt := range []struct {
		value string
		want  time.Duration // 0: unknown
	}{
		{`60`, time.Minute}, {`"60"`, time.Minute}, {`60.0`, time.Minute}, {`6e1`, time.Minute},
		{`1e18`, 100 * 365 * 24 * time.Hour}, {`3000000000`, 3000000000 * time.Second}, {`1e999`, 100 * 365 * 24 * time.Hour},
		{`0`, 10 * time.Second}, {`-5`, 10 * time.Second}, {`null`, 0}, {`"soon"`, 0}, {`{}`, 0}, {`""`, 0}, {`"NaN"`, 0},
	} {
		inBubble(t, "R6749-5.1-exp "+tt.value, func(t *testing.T) {
			w, src := expired(t, oauthtest.Options{})
			w.as.Token.Next(oauthtest.SetMember("expires_in", tt.value))
			now := time.Now()
			got := w.token(src).Expiry
			want := now.Add(tt.want)
			if tt.want == 0 {
				want = time.Time{}
			}
			if !got.Equal(want) {
				t.Errorf("expires in %v, want %v", got.Sub(now), tt.want)
			}
			for range 10 {
				w.token(src)
			}
			w.wantPosts(1)
		})
	}
	inBubble(t, "R6749-5.1-exp a stale token does not make a loop", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		w.as.Token.Always(oauthtest.SetMember("expires_in", "0"))
		for range 100 {
			w.token(src)
			time.Sleep(100 * time.Millisecond)
		}
		if n := w.posts(); n > 15 {
			t.Errorf("%d refreshes in 10 s", n)
		}
	})
	inBubble(t, "R6749-5.1-exp absent is until it is rejected", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{AccessLifetime: time.Hour})
		w.as.Token.Next(oauthtest.OmitMember("expires_in"))
		first := w.token(src)
		time.Sleep(30 * 24 * time.Hour)
		if w.token(src).AccessToken != first.AccessToken {
			t.Error("it was replaced")
		}
		w.wantPosts(1)
		if _, err := src.Refresh(t.Context(), first); err != nil {
			t.Error(err)
		}
		w.usable(src)
	})
	inBubble(t, "R6749-5.1-clock counts from the request's start", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		w.as.Token.Next(oauthtest.Fault{Delay: 20 * time.Second, Edit: func(a *oauthtest.Answer) { a.Members.Set("expires_in", 60) }})
		start := time.Now()
		if got := w.token(src).Expiry; !got.Equal(start.Add(time.Minute)) {
			t.Errorf("expires %v after the request began, want 1m", got.Sub(start))
		}
	})
	inBubble(t, "R21-3.2.3 a token may die at once", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn()
		time.Sleep(time.Second)
		w.as.RevokeAccess(w.token(src).AccessToken)
		resp, err := w.client(src).Get(w.as.APIURL("x"))
		if err != nil || resp.StatusCode != 200 {
			t.Errorf("got %v, %v", resp, err)
		}
		w.wantPosts(1)
	})
}
