package grant_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/grant"
	"github.com/freshtoken/freshtoken/internal/mark"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// A service acts for the user whose session another Source keeps: the first
// token, those in good time, and one after a 401.
func TestExchangeOfAnotherSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := trusting()
		user := open(t, configOf(srv, nil))
		if err := user.SetToken(t.Context(), srv.Login("alice", "read")); err != nil {
			t.Fatal(err)
		}
		src := open(t, configOf(srv, &grant.TokenExchange{Subject: grant.AccessToken(user), RequestedType: grant.TypeAccessToken, Scopes: []string{"read", "write"}}))
		first := token(t, src)
		if issued := first.Extra("issued_token_type"); issued != grant.TypeAccessToken {
			t.Errorf("issued_token_type is %v", issued)
		}
		if first.Extra("scope") != "read write" {
			t.Errorf("the scope is %v", first.Extra("scope"))
		}
		client := apiClient(srv, src)
		get := func() {
			t.Helper()
			resp, err := client.Get(srv.APIURL("hello"))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != 200 || !strings.Contains(string(body), "alice") {
				t.Fatalf("%s, %v: %s", resp.Status, err, mark.Hide(body))
			}
		}
		get()
		srv.RevokeAccess(first.AccessToken)
		get()
		if got := srv.Stats(); got.Exchanges != 2 || got.Refreshes != 0 {
			t.Errorf("%d exchanges, %d refreshes", got.Exchanges, got.Refreshes)
		}
		time.Sleep(59 * time.Minute)
		get()
		if got := srv.Stats(); got.Exchanges != 3 || got.Refreshes != 1 || got.BadRequests != 0 {
			t.Errorf("an hour later: %d exchanges, %d refreshes, %d bad requests", got.Exchanges, got.Refreshes, got.BadRequests)
		}
	})
}

func TestExchangeParameters(t *testing.T) {
	params := func(x *grant.TokenExchange, more url.Values) url.Values {
		t.Helper()
		e := new(endpoint)
		cfg := e.config(x)
		cfg.RefreshParams = more
		token(t, open(t, cfg))
		return e.seen()[0]
	}
	t.Run("R8693-2: actor_token_type goes with actor_token, and neither without", func(t *testing.T) {
		got := params(&grant.TokenExchange{Subject: fixed("s", grant.TypeJWT)}, nil)
		want := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {"s"}, "subject_token_type": {grant.TypeJWT}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %v", got)
		}
		got = params(&grant.TokenExchange{Subject: fixed("s", grant.TypeJWT), Actor: fixed("a", grant.TypeAccessToken)}, nil)
		want.Set("actor_token", "a")
		want.Set("actor_token_type", grant.TypeAccessToken)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %v", got)
		}
	})
	t.Run("all of them", func(t *testing.T) {
		got := params(&grant.TokenExchange{Subject: fixed("s", "urn:example:type"), RequestedType: grant.TypeSAML2, Audience: []string{"a", "b"},
			Resource: []string{"https://api.test/x?y", "urn:example:r"}, Scopes: []string{"r", "w"}}, url.Values{"options": {"o"}})
		want := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {"s"}, "subject_token_type": {"urn:example:type"},
			"requested_token_type": {grant.TypeSAML2}, "audience": {"a", "b"}, "resource": {"https://api.test/x?y", "urn:example:r"}, "scope": {"r w"}, "options": {"o"}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %v", got)
		}
	})
}

func TestExchangeAnswers(t *testing.T) {
	t.Run("R8693-2: token_type N_A is not used as a bearer token", func(t *testing.T) {
		srv := trusting()
		srv.Token.Always(oauthtest.SetMember("token_type", `"N_A"`))
		src := open(t, configOf(srv, &grant.TokenExchange{Subject: fixed(srv.Login("alice").AccessToken, grant.TypeAccessToken)}))
		_, err := apiClient(srv, src).Get(srv.APIURL("hello"))
		failed := new(freshtoken.RefreshError)
		if !errors.Is(err, freshtoken.ErrBadToken) || !errors.As(err, &failed) || failed.Temporary || failed.OutcomeUnknown {
			t.Errorf("got %v", err)
		}
		if got := srv.Stats(); got.APIRequests != 0 || got.Exchanges != 1 {
			t.Errorf("%d requests to the API, %d exchanges", got.APIRequests, got.Exchanges)
		}
		clean(t, err)
	})
	t.Run("a refresh token is dropped, and what is said of it", func(t *testing.T) {
		e := &endpoint{answer: func(n int, _ url.Values) (int, string) {
			return 200, `{"access_token":"at` + strconv.Itoa(n) + `","token_type":"bearer","expires_in":60,"refresh_token":"rt","refresh_expires_in":99,"issued_token_type":"urn:x:y"}`
		}}
		src := open(t, e.config(&grant.TokenExchange{Subject: fixed("s", grant.TypeJWT)}))
		tok := token(t, src)
		if tok.Extra("refresh_expires_in") != nil || tok.Extra("issued_token_type") != "urn:x:y" {
			t.Errorf("%v, %v", tok.Extra("refresh_expires_in"), tok.Extra("issued_token_type"))
		}
		if _, err := src.Refresh(t.Context(), tok); err != nil {
			t.Fatal(err)
		}
		if forms := e.seen(); len(forms) != 2 || forms[1].Get("grant_type") != forms[0].Get("grant_type") || forms[1].Has("refresh_token") {
			t.Errorf("asked by %v", forms)
		}
	})
}

// What is refused is the subject token that was shown, and no more.
func TestRefusedSubject(t *testing.T) {
	for name, refusal := range map[string]string{
		"invalid_grant": "invalid_grant", "invalid_request, as RFC 8693 section 2.2.2 has it": "invalid_request",
		"invalid_target": "invalid_target", "invalid_scope": "invalid_scope",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var accept atomic.Bool
				accept.Store(true)
				e := &endpoint{answer: func(n int, form url.Values) (int, string) {
					if accept.Load() {
						return 200, ""
					}
					return 400, `{"error":"` + refusal + `","error_description":"no: ` + form.Get("subject_token") + `"}`
				}}
				subject := mark.New(mark.Value)
				var mu sync.Mutex
				var events []freshtoken.Event // guarded by mu
				cfg := e.config(&grant.TokenExchange{Subject: fixed(subject, grant.TypeJWT)})
				cfg.OnEvent = func(ev freshtoken.Event) {
					mu.Lock()
					defer mu.Unlock()
					events = append(events, ev)
				}
				src := open(t, cfg)
				first := token(t, src)
				accept.Store(false)
				for range 58 { // tries again and again, and nobody notices
					time.Sleep(time.Minute)
					if tok := token(t, src); tok != first {
						t.Fatal("another token")
					}
				}
				if n := len(e.seen()); n < 4 {
					t.Errorf("%d requests before the token expired", n)
				}
				time.Sleep(5 * time.Minute)
				_, err := src.Token(t.Context())
				failed := new(freshtoken.RefreshError)
				if !errors.As(err, &failed) || !errors.Is(err, grant.ErrRefused) || errors.Is(err, freshtoken.ErrSessionEnded) ||
					!failed.Temporary || failed.Uncertain || failed.OutcomeUnknown || failed.Code != refusal || failed.RetryAfter == 0 {
					t.Errorf("got %+v", err)
				}
				if st := src.Status(); st.State != freshtoken.StateAlive {
					t.Errorf("the state is %v", st.State)
				}
				accept.Store(true)
				time.Sleep(10 * time.Minute)
				token(t, src)
				mu.Lock()
				defer mu.Unlock()
				clean(t, err, events)
				if len(events) == 0 {
					t.Error("no events")
				}
			})
		})
	}
}

// An outage spends nothing, so nobody holds back until the token has expired.
func TestExchangeInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		e := &endpoint{answer: func(int, url.Values) (int, string) {
			if down.Load() {
				return 502, "no"
			}
			return 200, ""
		}}
		cfg := e.config(&grant.TokenExchange{Subject: fixed("s", grant.TypeJWT)})
		cfg.Background = true
		src := open(t, cfg)
		first := token(t, src)
		down.Store(true)
		time.Sleep(57 * time.Minute)
		asked := len(e.seen())
		if asked < 4 {
			t.Errorf("asked %d times", asked)
		}
		failed := new(freshtoken.RefreshError)
		if err := src.Status().LastError; !errors.As(err, &failed) || failed.OutcomeUnknown || !failed.Temporary {
			t.Errorf("got %+v", err)
		}
		down.Store(false)
		time.Sleep(2*time.Minute + 50*time.Second)
		if tok := token(t, src); tok.AccessToken == first.AccessToken {
			t.Error("nobody has asked again in time")
		}
	})
}

// The end of the user's session is told to those who ask for what rests on it,
// and ends nothing here.
func TestEndOfTheSubject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := trusting()
		user := open(t, configOf(srv, nil))
		login := srv.Login("alice")
		if err := user.SetToken(t.Context(), login); err != nil {
			t.Fatal(err)
		}
		asked := 0
		cfg := configOf(srv, &grant.TokenExchange{Subject: grant.AccessToken(user)})
		cfg.Reauthenticate = freshtoken.AuthenticatorFunc(func(context.Context, freshtoken.Config) (*oauth2.Token, error) {
			asked++
			return nil, errors.New("nobody is there")
		})
		src := open(t, cfg)
		if err := src.SetToken(t.Context(), &oauth2.Token{AccessToken: "old", TokenType: "Bearer", Expiry: time.Now().Add(time.Minute)}); err != nil {
			t.Fatal(err)
		}
		srv.RevokeFamily(login.RefreshToken)
		time.Sleep(2 * time.Hour)
		_, err := src.Token(t.Context())
		failed := new(freshtoken.RefreshError)
		if !errors.Is(err, freshtoken.ErrSessionEnded) || !errors.As(err, &failed) || !failed.Temporary || errors.Is(err, grant.ErrRefused) {
			t.Errorf("got %+v", err)
		}
		if st := src.Status().State; st != freshtoken.StateAlive || asked != 0 {
			t.Errorf("the state is %v, and somebody was asked to log in %d times", st, asked)
		}
		if err := user.SetToken(t.Context(), srv.Login("alice")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		token(t, src)
		clean(t, err)
	})
}

// What platforms renew is read anew each time.
func TestFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "token")
		e := new(endpoint)
		src := open(t, e.config(&grant.TokenExchange{Subject: grant.File(path, grant.TypeJWT)}))
		if _, err := src.Token(t.Context()); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, freshtoken.ErrNoSession) ||
			!strings.Contains(err.Error(), "the subject token could not be had") || strings.Contains(err.Error(), "login") {
			t.Errorf("without a file: %v", err)
		}
		for i, text := range []string{"one\n", " two "} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			token(t, src)
			if got := e.seen()[i].Get("subject_token"); got != strings.TrimSpace(text) {
				t.Errorf("%q became %q", text, got)
			}
		}
		for text, want := range map[string]error{"": grant.ErrNoSubject, " \n": grant.ErrNoSubject, "a\nb": grant.ErrNoSubject, strings.Repeat("x", 2<<20): nil} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			before := len(e.seen())
			time.Sleep(2 * time.Hour)
			if _, err := src.Token(t.Context()); err == nil || want != nil && !errors.Is(err, want) || len(err.Error()) > 300 {
				t.Errorf("%.10q: got %v", text, err)
			}
			if len(e.seen()) != before {
				t.Error("something was sent")
			}
		}
	})
}

// Bad input is found by New, or at least before anything is sent.
func TestBadExchange(t *testing.T) {
	s := fixed("s", grant.TypeJWT)
	for name, test := range map[string]struct {
		x    *grant.TokenExchange
		more url.Values
		want error
	}{
		"nil":                         {nil, nil, grant.ErrNoSubject},
		"no subject":                  {&grant.TokenExchange{}, nil, grant.ErrNoSubject},
		"a relative resource":         {&grant.TokenExchange{Subject: s, Resource: []string{"/api"}}, nil, grant.ErrResource},
		"a resource without a scheme": {&grant.TokenExchange{Subject: s, Resource: []string{"api.test/x"}}, nil, grant.ErrResource},
		"a resource with a fragment":  {&grant.TokenExchange{Subject: s, Resource: []string{"https://api.test/#x"}}, nil, grant.ErrResource},
		"an empty fragment":           {&grant.TokenExchange{Subject: s, Resource: []string{"https://api.test/#"}}, nil, grant.ErrResource},
		"an empty resource":           {&grant.TokenExchange{Subject: s, Resource: []string{"https://api.test", ""}}, nil, grant.ErrResource},
		"an empty audience":           {&grant.TokenExchange{Subject: s, Audience: []string{""}}, nil, grant.ErrParameter},
		"two scopes in one":           {&grant.TokenExchange{Subject: s, Scopes: []string{"a b"}}, nil, grant.ErrParameter},
		"a type that is no URI":       {&grant.TokenExchange{Subject: s, RequestedType: "jwt"}, nil, grant.ErrTokenType},
		"scopes of a login":           {&grant.TokenExchange{Subject: s}, nil, grant.ErrConfig},
		"a parameter twice":           {&grant.TokenExchange{Subject: s, Audience: []string{"a"}}, url.Values{"audience": {"b"}}, grant.ErrParameter},
		"a subject as a parameter":    {&grant.TokenExchange{Subject: s}, url.Values{"subject_token": {"b"}}, grant.ErrParameter},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := new(endpoint).config(test.x)
			cfg.RefreshParams = test.more
			if name == "scopes of a login" {
				cfg.OAuth2.Scopes = []string{"openid"}
			}
			src, err := freshtoken.New(cfg)
			if src != nil || !errors.Is(err, test.want) || !strings.HasPrefix(err.Error(), "grant: ") {
				t.Errorf("got %v", err)
			}
		})
	}
	for name, x := range map[string]*grant.TokenExchange{
		"no type":          {Subject: fixed("s", "")},
		"an actor without": {Subject: s, Actor: fixed("a", "")},
		"a type, no URI":   {Subject: fixed("s", "jwt")},
	} {
		t.Run(name, func(t *testing.T) {
			e := new(endpoint)
			_, err := open(t, e.config(x)).Token(t.Context())
			if !errors.Is(err, grant.ErrTokenType) || strings.Count(err.Error(), "grant: ") != 0 || len(e.seen()) != 0 {
				t.Errorf("%d requests, and %v", len(e.seen()), err)
			}
		})
	}
	t.Run("no token endpoint", func(t *testing.T) {
		_, err := freshtoken.New(freshtoken.Config{OAuth2: &oauth2.Config{}, Refresher: &grant.TokenExchange{Subject: s}, HTTPClient: http.DefaultClient})
		if !errors.Is(err, grant.ErrConfig) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("outside of a Config", func(t *testing.T) {
		for _, r := range []freshtoken.Refresher{&grant.TokenExchange{Subject: s}, &grant.JWTBearer{}, &grant.ClientCredentials{}} {
			if _, err := r.Refresh(t.Context(), nil); !errors.Is(err, grant.ErrConfig) {
				t.Errorf("%T: %v", r, err)
			}
		}
	})
}
