package freshtoken_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// What Logout has to do with the server: RFC 7009.

func revoking(w *world) func(*freshtoken.Config) {
	return func(c *freshtoken.Config) { c.RevocationURL = w.as.RevocationURL() }
}

// roundTrip is a function that is a RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func (w *world) wantRevocations(want int) {
	w.t.Helper()
	if got := w.as.Stats().RevocationRequests; got != want {
		w.t.Errorf("the revocation endpoint got %d requests, want %d", got, want)
	}
}

func TestRevocationURL(t *testing.T) {
	t.Run("R7009-2 plain http is refused", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		for _, bad := range []string{"http://as.test/revoke", "ftp://as.test/revoke", "/revoke", "https://a:b@as.test/revoke", "https://as.test/#x"} {
			cfg := w.config()
			cfg.RevocationURL = bad
			if _, err := freshtoken.New(cfg); err == nil || !strings.Contains(err.Error(), "Config.RevocationURL") {
				t.Errorf("%s: got %v", bad, err)
			}
		}
	})
	t.Run("R7009-2 a certificate of nobody's is refused", func(t *testing.T) {
		var asked atomic.Int32
		impostor := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
		impostor.Config.ErrorLog = quiet
		impostor.StartTLS()
		defer impostor.Close()
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn(func(c *freshtoken.Config) { c.HTTPClient, c.RevocationURL = nil, impostor.URL })
		wantErr(t, src.Logout(t.Context()), freshtoken.ErrNotRevoked)
		if n := asked.Load(); n != 0 {
			t.Errorf("it was shown the token %d times", n)
		}
		_, err := src.Token(t.Context())
		wantErr(t, err, freshtoken.ErrNoSession)
	})
}

func TestRevocationRequest(t *testing.T) {
	const secret = "s e/cret"
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("client:s+e%2Fcret"))
	for name, tt := range map[string]struct {
		secret        string
		style         oauth2.AuthStyle
		header, extra string
	}{
		"a public client":                  {extra: "client_id=client&"},
		"a client with a secret, HTTP":     {secret: secret, header: basic},
		"a client with a secret, the body": {secret: secret, style: oauth2.AuthStyleInParams, extra: "client_id=client&client_secret=s+e%2Fcret&"},
	} {
		inBubble(t, "R7009-2.1 exact body and authentication of "+name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{ClientSecret: tt.secret})
			tap, edit := w.tap()
			src := w.source(edit, revoking(w), func(c *freshtoken.Config) { c.OAuth2.Endpoint.AuthStyle = tt.style })
			tok := w.login(src)
			if err := src.Logout(t.Context()); err != nil {
				t.Fatal(err)
			}
			req, _ := tap.only(t)
			if want := tt.extra + "token=" + tok.RefreshToken + "&token_type_hint=refresh_token"; tap.bodies[0] != want {
				t.Errorf("sent %q, want %q", tap.bodies[0], want)
			}
			if got := req.Header.Get("Authorization"); got != tt.header {
				t.Errorf("Authorization is %q, want %q", got, tt.header)
			}
			if req.Method != http.MethodPost || req.URL.String() != w.as.RevocationURL() || req.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
				t.Errorf("sent %s %s as %s", req.Method, req.URL, req.Header.Get("Content-Type"))
			}
			if w.as.Alive(tok.RefreshToken) || w.as.AccessAlive(tok.AccessToken) {
				t.Error("the tokens are alive at the server")
			}
		})
	}
	inBubble(t, "R7009-2.1 the access token where there is no other", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		tap, edit := w.tap()
		src := w.source(edit, revoking(w))
		tok := w.as.Login("alice")
		if err := src.SetToken(t.Context(), &oauth2.Token{AccessToken: tok.AccessToken}); err != nil {
			t.Fatal(err)
		}
		if err := src.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, form := tap.only(t); form.Get("token") != tok.AccessToken || form.Get("token_type_hint") != "access_token" {
			t.Errorf("sent %v", form)
		}
	})
}

func TestRevocationAnswers(t *testing.T) {
	for name, fault := range map[string]oauthtest.Fault{
		"R7009-2.2 a page of HTML is success":             oauthtest.HTML(200),
		"R7009-2.2 an empty answer is success":            oauthtest.Status(200),
		"R7009-2.2 an error beside 200 is success":        oauthtest.JSON(200, `{"error":"server_error"}`),
		"R7009-2.2 a token that is invalid needs no more": oauthtest.Error(400, "invalid_token"),
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{})
			src := w.loggedIn(revoking(w))
			w.as.Revocation.Always(fault)
			if err := src.Logout(t.Context()); err != nil {
				t.Error(err)
			}
			w.wantRevocations(1)
		})
	}
	inBubble(t, "R7009-2.2.1 503 with Retry-After, then 200", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.source(revoking(w))
		tok := w.login(src)
		w.as.Revocation.Next(oauthtest.Unavailable("3"))
		start := time.Now()
		if err := src.Logout(t.Context()); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d < 3*time.Second || d > 10*time.Second {
			t.Errorf("asked again after %v", d)
		}
		w.wantRevocations(2)
		if w.as.Alive(tok.RefreshToken) {
			t.Error("the refresh token is alive at the server")
		}
	})
	for name, tt := range map[string]struct {
		fault    oauthtest.Fault
		requests int
	}{
		"is unavailable":              {oauthtest.Unavailable(""), 3},
		"is unavailable for long":     {oauthtest.Unavailable("60"), 1},
		"drops":                       {oauthtest.Drop(), 1},
		"stalls":                      {oauthtest.Stall(), 1},
		"cannot be reached":           {oauthtest.Refuse(), 0},
		"refuses the client":          {oauthtest.Error(401, "invalid_client"), 1},
		"fails":                       {oauthtest.Status(500), 1},
		"has accepted it for later":   {oauthtest.Status(202), 1},
		"says so of another token":    {oauthtest.Error(401, "invalid_token"), 1},
		"cannot revoke refresh token": {oauthtest.Error(400, "unsupported_token_type"), 2},
		"redirects":                   {oauthtest.Redirect(307, "https://evil.test/"), 1},
	} {
		inBubble(t, "R7009-2.2.1 it ends here though the server "+name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{})
			evil := 0
			w.as.Handle("evil.test", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { evil++ }))
			src := w.source(revoking(w))
			tok := w.login(src)
			w.as.Revocation.Always(tt.fault)
			start := time.Now()
			err := src.Logout(t.Context())
			wantErr(t, err, freshtoken.ErrNotRevoked)
			if d := time.Since(start); d > 10*time.Second || evil != 0 {
				t.Errorf("took %v, %d requests at the redirect's target", d, evil)
			}
			if strings.Contains(err.Error(), tok.RefreshToken) {
				t.Errorf("the error shows the token: %v", err)
			}
			w.wantRevocations(tt.requests)
			w.wantGone(src)
		})
	}
	inBubble(t, "R7009-2.2.1 an access token that cannot be revoked is no failure", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.source(revoking(w))
		if err := src.SetToken(t.Context(), &oauth2.Token{AccessToken: w.as.Login("alice").AccessToken}); err != nil {
			t.Fatal(err)
		}
		w.as.Revocation.Always(oauthtest.Error(400, "unsupported_token_type"))
		if err := src.Logout(t.Context()); err != nil {
			t.Error(err)
		}
		w.wantGone(src)
	})
}

// A client that does not keep to its context, and one whose errors repeat what
// was sent.
func TestRevocationClient(t *testing.T) {
	inBubble(t, "one that hangs holds nobody up for long", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		release := make(chan struct{})
		defer close(release)
		src := w.loggedIn(revoking(w), func(c *freshtoken.Config) {
			c.HTTPClient = &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
				<-release
				return nil, errors.New("late")
			})}
		})
		start := time.Now()
		wantErr(t, src.Logout(t.Context()), freshtoken.ErrNotRevoked)
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("took %v", d)
		}
		w.wantGone(src)
		if err := src.Close(); err != nil || time.Since(start) > 20*time.Minute {
			t.Errorf("Close: %v", err)
		}
	})
	inBubble(t, "ST-redact one that repeats what was sent", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.source(revoking(w), func(c *freshtoken.Config) {
			c.HTTPClient = &http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
				body, _ := req.GetBody()
				text := make([]byte, 1000)
				n, _ := body.Read(text)
				return nil, fmt.Errorf("could not send %s", text[:n])
			})}
		})
		tok := w.login(src)
		err := src.Logout(t.Context())
		wantErr(t, err, freshtoken.ErrNotRevoked)
		if strings.Contains(err.Error(), tok.RefreshToken) {
			t.Errorf("the error shows the token: %v", err)
		}
	})
}

// Nobody gets the token from the moment on that Logout has its turn, however
// long the server takes to revoke it.
func TestTokenStopsAtLogout(t *testing.T) {
	inBubble(t, "R7009-2.2 a token source in use stops serving the token at once", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn(revoking(w))
		ts, client := src.TokenSource(t.Context()), w.client(src)
		gate := oauthtest.NewGate()
		w.as.Revocation.Next(oauthtest.Fault{Before: gate.Hold})
		done := make(chan error, 1)
		go func() { done <- src.Logout(t.Context()) }()
		<-gate.Arrived()
		if _, err := ts.Token(); !errors.Is(err, freshtoken.ErrNoSession) {
			t.Errorf("during the revocation: %v", err)
		}
		if resp, err := client.Get(w.as.APIURL("x")); err == nil {
			resp.Body.Close()
			t.Errorf("a request was sent, and got %s", resp.Status)
		}
		gate.Open()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for range 100 {
			_, err := ts.Token()
			wantErr(t, err, freshtoken.ErrNoSession)
		}
		if n := w.as.Stats().APIRequests; n != 0 {
			t.Errorf("%d requests to the API", n)
		}
		synctest.Wait()
	})
	inBubble(t, "R7009-2.1-any afterwards, a hundred calls cost no request", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		if err := src.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			_, err := src.Token(t.Context())
			wantErr(t, err, freshtoken.ErrNoSession)
			time.Sleep(100 * time.Millisecond)
		}
		w.wantPosts(0)
	})
}
