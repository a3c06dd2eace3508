package openid_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/discovery"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/openid"
	"golang.org/x/oauth2"
)

// browser has a person log in, and keeps what it was sent to and shown.
type browser struct {
	client *http.Client
	visit  sync.WaitGroup
	asked  url.Values
	page   string
}

func (b *browser) loopback() login.Loopback {
	return login.Loopback{Timeout: time.Minute, Prompt: login.Prompt{Browse: func(_ context.Context, address string) error {
		if u, err := url.Parse(address); err == nil {
			b.asked = u.Query()
		}
		b.visit.Go(func() {
			resp, err := b.client.Get(address)
			if err != nil {
				return
			}
			defer resp.Body.Close()
			page, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
			b.page = string(page)
		})
		return nil
	}}}
}

// logIn has alice log in at a server, with a fault at its token endpoint.
func logIn(t *testing.T, srv *oauthtest.Server, fault oauthtest.Fault, edits ...func(*freshtoken.Config, *login.Loopback)) (*oauth2.Token, *browser, error) {
	t.Helper()
	cfg := config(srv)
	b := &browser{client: srv.Browser()}
	flow := b.loopback()
	for _, edit := range edits {
		edit(&cfg, &flow)
	}
	src, err := freshtoken.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	srv.Token.Next(fault)
	tok, err := login.Ensure(t.Context(), src, flow)
	b.visit.Wait()
	if _, after := src.Token(t.Context()); (err == nil) != (after == nil) {
		t.Errorf("the login ended with %v, and then there is %v", err, after)
	}
	return tok, b, err
}

// noLogin wants a login that failed for this reason, which the person sees.
func noLogin(t *testing.T, b *browser, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || !errors.Is(err, freshtoken.ErrNoSession) || strings.Contains(err.Error(), "openid:") ||
		!strings.HasPrefix(err.Error(), "freshtoken: the login failed: "+want.Error()) {
		t.Errorf("got error %v, want %v", err, want)
	}
	if strings.Contains(b.page, "You are logged in") || b.page == "" {
		t.Errorf("the person sees %s", b.page)
	}
}

func TestLogins(t *testing.T) {
	t.Run("OIDC-3.1.3.7: a nonce goes out and comes back", func(t *testing.T) {
		srv := newServer(oauthtest.Options{})
		nonces := make(map[string]bool)
		for range 2 {
			tok, b, err := logIn(t, srv, oauthtest.Fault{})
			if err != nil {
				t.Fatal(err)
			}
			nonces[b.asked.Get("nonce")] = true
			c, err := openid.ClaimsOf(tok)
			if err != nil || c.Subject != "alice" || c.Email != "alice@example.com" || !c.EmailVerified || c.Issuer != srv.BaseURL() || c.AuthTime.IsZero() {
				t.Errorf("%v, error %v", c, err)
			}
			var all struct{ Nonce string }
			if err := c.Decode(&all); err != nil || all.Nonce != b.asked.Get("nonce") || len(all.Nonce) < 26 {
				t.Errorf("%v, error %v", all, err)
			}
		}
		if len(nonces) != 2 {
			t.Error("two logins have one nonce")
		}
	})
	for name, test := range map[string]struct {
		fault oauthtest.Fault
		want  error
	}{
		"the nonce of another login": {oauthtest.SetClaim("nonce", `"another"`), openid.ErrNonce},
		"no nonce":                   {oauthtest.OmitClaim("nonce"), openid.ErrNonce},
		"another issuer":             {oauthtest.SetClaim("iss", `"https://other.test"`), openid.ErrIssuer},
		"another client":             {oauthtest.SetClaim("aud", `"other"`), openid.ErrAudience},
		"expired":                    {oauthtest.SetClaim("exp", "1"), openid.ErrExpired},
		"another access token":       {oauthtest.SetMember("access_token", `"at-of-somebody-else"`), openid.ErrAccessToken},
		"no ID token":                {oauthtest.OmitMember("id_token"), openid.ErrMissing},
		"null":                       {oauthtest.SetMember("id_token", "null"), openid.ErrMissing},
		"a number":                   {oauthtest.SetMember("id_token", "7"), openid.ErrMalformed},
	} {
		t.Run("OIDC-3.1.3.7: no session: "+name, func(t *testing.T) {
			_, b, err := logIn(t, newServer(oauthtest.Options{}), test.fault)
			noLogin(t, b, err, test.want)
		})
	}
	t.Run("OIDC-3.1.3.7: no session without keys", func(t *testing.T) {
		srv := newServer(oauthtest.Options{})
		srv.Keys.Next(oauthtest.Status(503))
		_, b, err := logIn(t, srv, oauthtest.Fault{})
		noLogin(t, b, err, openid.ErrKeys)
	})
	t.Run("OIDC-3.1.3.7: max_age is checked", func(t *testing.T) {
		hour := func(_ *freshtoken.Config, l *login.Loopback) { l.Params = url.Values{"max_age": {"3600"}} }
		if _, _, err := logIn(t, newServer(oauthtest.Options{}), oauthtest.Fault{}, hour); err != nil {
			t.Error(err)
		}
		_, b, err := logIn(t, newServer(oauthtest.Options{}), oauthtest.SetClaim("auth_time", "1"), hour)
		noLogin(t, b, err, openid.ErrAuthTime)
		_, _, err = logIn(t, newServer(oauthtest.Options{}), oauthtest.Fault{}, func(_ *freshtoken.Config, l *login.Loopback) { l.Params = url.Values{"max_age": {"-1"}} })
		if err == nil || !strings.Contains(err.Error(), "max_age") {
			t.Errorf("got error %v", err)
		}
	})
	t.Run("R9470-4: whatever max_age an API demands", func(t *testing.T) {
		for _, age := range []string{"0", "2147483648", "3000000000", "9223372037", "9223372036854775807", "18446744073709551615", "99999999999999999999999"} {
			params := func(_ *freshtoken.Config, l *login.Loopback) { l.Params = url.Values{"max_age": {age}} }
			if _, b, err := logIn(t, newServer(oauthtest.Options{}), oauthtest.Fault{}, params); err != nil || b.asked.Get("max_age") != age {
				t.Errorf("%s in the login's Params: asked for %s, error %v", age, b.asked.Get("max_age"), err)
			}
			resp := &http.Response{StatusCode: 401, Header: http.Header{"Www-Authenticate": {`Bearer error="insufficient_user_authentication", max_age="` + age + `"`}}}
			c, ok := freshtoken.ChallengeFrom(resp)
			if !ok {
				t.Fatalf("%s: no challenge", age)
			}
			srv := newServer(oauthtest.Options{})
			src, err := freshtoken.New(config(srv))
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			b := &browser{client: srv.Browser()}
			for range 2 { // the first time nobody is logged in
				_, err = login.StepUp(t.Context(), src, b.loopback(), c)
				b.visit.Wait()
				if err != nil {
					t.Errorf("%s from an API: %v", age, err)
				}
			}
		}
	})
	t.Run("OIDC-3.1.3.7: the nonce is not for the program to set", func(t *testing.T) {
		own := func(_ *freshtoken.Config, l *login.Loopback) { l.Params = url.Values{"nonce": {"mine"}} }
		if _, _, err := logIn(t, newServer(oauthtest.Options{}), oauthtest.Fault{}, own); err == nil || !strings.Contains(err.Error(), `"nonce"`) {
			t.Errorf("got error %v", err)
		}
		_, b, err := logIn(t, newServer(oauthtest.Options{}), oauthtest.Fault{}, own, func(c *freshtoken.Config, _ *login.Loopback) { c.IDTokens = nil })
		if err != nil || b.asked.Get("nonce") != "mine" {
			t.Errorf("without a check: %v, %v", err, b.asked)
		}
	})
	t.Run("a login that asks for no ID token", func(t *testing.T) {
		srv := newServer(oauthtest.Options{})
		read := func(c *freshtoken.Config, _ *login.Loopback) { c.OAuth2.Scopes = []string{"read"} }
		tok, b, err := logIn(t, srv, oauthtest.Fault{}, read)
		if err != nil || b.asked.Has("nonce") {
			t.Errorf("error %v, asked with %v", err, b.asked)
		}
		_, err = openid.ClaimsOf(tok)
		wantErr(t, err, openid.ErrMissing)
		_, b, err = logIn(t, srv, oauthtest.SetMember("id_token", `"gibberish"`), read) // what comes unasked is checked as well
		noLogin(t, b, err, openid.ErrMalformed)
	})
}

func TestDeviceLogins(t *testing.T) {
	for name, test := range map[string]struct {
		fault oauthtest.Fault
		want  error
	}{
		"a good one":     {oauthtest.Fault{}, nil},
		"another client": {oauthtest.SetClaim("aud", `"other"`), openid.ErrAudience},
		"a nonce":        {oauthtest.SetClaim("nonce", `"x"`), openid.ErrNonce},
		"none":           {oauthtest.OmitMember("id_token"), openid.ErrMissing},
	} {
		inBubble(t, "OIDC-3.1.3.7: on another device: "+name, func(t *testing.T) {
			srv := newServer(oauthtest.Options{})
			src, err := freshtoken.New(config(srv))
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			srv.Token.Next(test.fault)
			_, err = login.Ensure(t.Context(), src, login.Device{Prompt: login.Prompt{Show: func(_ context.Context, c login.Code) error {
				srv.ApproveDevice(c.Code, "alice")
				return nil
			}}})
			if !errors.Is(err, test.want) || test.want != nil && !errors.Is(err, freshtoken.ErrNoSession) {
				t.Errorf("got error %v, want %v", err, test.want)
			}
		})
	}
}

// What discovery finds is what a Verifier takes.
func TestDiscovery(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{IDTokens: "EdDSA", Scopes: []string{"openid", "email"}})
	cfg := freshtoken.Config{Issuer: srv.BaseURL(), HTTPClient: srv.Client(), OAuth2: &oauth2.Config{ClientID: "client", Scopes: []string{"openid"}}}
	server, err := discovery.Configure(t.Context(), &cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.IDTokens = &openid.Verifier{KeysURL: server.JWKSURI, Algorithms: server.IDTokenSigningAlgValuesSupported}
	src, err := freshtoken.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	b := &browser{client: srv.Browser()}
	if _, err := login.Ensure(t.Context(), src, b.loopback()); err != nil {
		t.Error(err)
	}
	b.visit.Wait()
}
