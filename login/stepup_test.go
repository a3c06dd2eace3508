package login_test

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// What an API demands goes into the authorization request, and what comes of it
// is what the API wants.
func TestStepUp(t *testing.T) {
	t.Run("R9470-4 by the browser", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		cfg := config(as)
		cfg.OAuth2.Scopes = []string{"read"}
		src := source(t, cfg)
		if err := src.SetToken(t.Context(), as.Login("alice", "read")); err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: &freshtoken.Transport{Source: src, Base: as.Transport(), Origins: []string{as.BaseURL()}}}
		call := func(want int) *http.Response {
			t.Helper()
			resp, err := client.Get(as.APIURL("me?scope=write"))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("the API answers %d, want %d", resp.StatusCode, want)
			}
			return resp
		}
		c, ok := freshtoken.ChallengeFrom(call(http.StatusForbidden))
		if !ok {
			t.Fatal("no challenge")
		}
		c.ACRValues, c.MaxAge, c.HasMaxAge = []string{"gold", "silver"}, 5*time.Second, true
		u := userOf(t, as)
		l := u.loopback()
		l.Params = url.Values{"acr_values": {"bronze"}, "login_hint": {"alice"}}
		if _, err := login.StepUp(t.Context(), src, l, c); err != nil {
			t.Fatal(err)
		}
		q := u.asked()
		if q.Get("scope") != "read write" || q.Get("acr_values") != "gold silver" || q.Get("max_age") != "5" || q.Get("login_hint") != "alice" {
			t.Errorf("the browser was sent with %v", q)
		}
		call(http.StatusOK)
		if n := as.Stats().Refreshes; n != 0 {
			t.Errorf("%d refreshes", n)
		}
	})
	inBubble(t, "R9470-4 on another device", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		cfg := config(as)
		asked := make(url.Values)
		cfg.HTTPClient = &http.Client{Transport: reading(as.Transport(), "/device", asked)}
		src := source(t, cfg)
		if err := src.SetToken(t.Context(), as.Login("alice")); err != nil {
			t.Fatal(err)
		}
		v := &viewer{as: as, after: 12 * time.Second}
		c := &freshtoken.Challenge{Code: freshtoken.InsufficientUserAuthentication, ACRValues: []string{"gold"}, HasMaxAge: true}
		if _, err := login.StepUp(t.Context(), src, v.device(), c); err != nil {
			t.Fatal(err)
		}
		if asked.Get("acr_values") != "gold" || asked.Get("max_age") != "0" {
			t.Errorf("the server was asked with %v", asked)
		}
	})
	t.Run("R9470-8 nobody there: nothing opens, and the session goes on", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		src := source(t, config(as))
		if err := src.SetToken(t.Context(), as.Login("alice")); err != nil {
			t.Fatal(err)
		}
		c := &freshtoken.Challenge{Code: freshtoken.InsufficientScope, Scopes: []string{"write"}}
		for range 3 {
			_, err := login.StepUp(t.Context(), src, login.Auto{}, c)
			wantErr(t, err, login.ErrNotInteractive)
		}
		if _, err := src.Token(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("what makes up a login is not for LoginParams", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		cfg := config(as)
		cfg.LoginParams = url.Values{"state": {"x"}}
		u := userOf(t, as)
		if _, err := login.Ensure(t.Context(), source(t, cfg), u.loopback()); err == nil || len(u.addresses) > 0 {
			t.Errorf("got error %v, addresses %v", err, u.addresses)
		}
	})
	t.Run("resource of LoginParams goes into the token request, too", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		cfg := config(as)
		asked := make(url.Values)
		cfg.HTTPClient = &http.Client{Transport: reading(as.Transport(), "/token", asked)}
		cfg.LoginParams = url.Values{"resource": {"https://a.test"}}
		u := userOf(t, as)
		if _, err := login.Ensure(t.Context(), source(t, cfg), u.loopback()); err != nil {
			t.Fatal(err)
		}
		if asked.Get("resource") != "https://a.test" || u.asked().Get("resource") != "https://a.test" {
			t.Errorf("asked with %v", asked)
		}
	})
}

// reading is a transport that keeps the form of the last request to a path.
func reading(next http.RoundTripper, path string, form url.Values) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path != path {
			return next.RoundTrip(req)
		}
		data, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		req.Body.Close()
		values, err := url.ParseQuery(string(data))
		if err != nil {
			return nil, err
		}
		clear(form)
		maps.Copy(form, values)
		again := req.Clone(req.Context())
		again.Body, again.GetBody = io.NopCloser(bytes.NewReader(data)), nil
		return next.RoundTrip(again)
	})
}
