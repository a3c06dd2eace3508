package interop_test

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/discovery"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// A property is a row of the table in README.md. show exercises it on a server,
// and says what the server did; what the library must do in any case, it checks.
type property struct {
	name     string
	lifetime int // of access tokens, in seconds
	show     func(*subject) string
}

var properties = slices.Concat([]property{
	{"metadata", 3600, (*subject).showMetadata},
	{"ways to sign in", 3600, (*subject).showSignIn},
	{"rotation", 3600, (*subject).showRotation},
	{"reuse detection", 3600, (*subject).showReuse},
	{"revoked", 3600, (*subject).showRevoked},
	{"narrower access token", 3600, (*subject).showTarget},
	{"expired at the API", 4, (*subject).showExpired},
	{"lost response", 3600, (*subject).showLostResponse},
	{"eight processes", 3, (*subject).showProcesses},
	{"logout", 3600, (*subject).showLogout},
	{"logout in the browser", 3600, (*subject).showBrowserLogout},
}, policies)

func TestServers(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.dir, func(t *testing.T) {
			for _, p := range properties {
				t.Run(p.name, func(t *testing.T) {
					if why := untried[p.name][k.dir]; why != "" {
						results.record(p.name, k.name, "not tried: "+why)
						return
					}
					t.Parallel()
					text := p.show(k.start(t, p.lifetime))
					if !t.Failed() {
						results.record(p.name, k.name, text)
					}
				})
			}
		})
	}
}

// The metadata tells what site has, and is all that a program needs.
func (x *subject) showMetadata() string {
	if x.app.Issuer == "" {
		return "none"
	}
	known := x.app.config(nil)
	cfg := x.discovered(nil)
	if got, want := cfg.OAuth2.Endpoint, known.OAuth2.Endpoint; got.AuthURL != want.AuthURL || got.TokenURL != want.TokenURL ||
		got.DeviceAuthURL != want.DeviceAuthURL || cfg.RevocationURL != known.RevocationURL {
		x.t.Errorf("discovery has found the endpoints %+v and %s, want %+v and %s", got, cfg.RevocationURL, want, known.RevocationURL)
	}
	if !cfg.RequireIss {
		return "OpenID Connect Discovery, which promises no iss (RFC 9207)"
	}
	return "OpenID Connect Discovery"
}

// discovered is a Config for which nothing is known but the issuer; or that of
// the site, for a server without metadata.
func (x *subject) discovered(store freshtoken.Store) freshtoken.Config {
	x.t.Helper()
	cfg := x.app.config(store)
	if x.app.Issuer == "" {
		return cfg
	}
	cfg.OAuth2.Endpoint, cfg.RevocationURL = oauth2.Endpoint{}, ""
	if _, err := discovery.Configure(x.t.Context(), &cfg); err != nil {
		x.t.Fatal(err)
	}
	return cfg
}

// The whole cycle, for each way: login, calls, refresh, logout.
func (x *subject) showSignIn() string {
	var names []string
	for _, w := range x.ways {
		src := x.source(x.discovered(storage.NewMemory()))
		if _, err := login.Ensure(x.t.Context(), src, w.flow); err != nil {
			x.t.Fatalf("sign-in by %s: %v", w.name, err)
		}
		client := x.app.client(src)
		if err := call(x.t.Context(), client, x.app.APIs[0]); err != nil {
			x.t.Errorf("after a sign-in by %s: %v", w.name, err)
		}
		x.refreshed(src)
		if err := call(x.t.Context(), client, x.app.APIs[0]); err != nil {
			x.t.Errorf("refreshed after a sign-in by %s: %v", w.name, err)
		}
		if err := src.Logout(x.t.Context()); err != nil {
			x.t.Errorf("Logout after a sign-in by %s: %v", w.name, err)
		}
		if err := call(x.t.Context(), client, x.app.APIs[0]); !errors.Is(err, freshtoken.ErrNoSession) {
			x.t.Errorf("a call after Logout: got error %v, want ErrNoSession", err)
		}
		names = append(names, w.name)
	}
	if c := x.counts(); c.Refreshes != len(x.ways) || c.InvalidGrants != 0 || c.Reuses != 0 {
		x.t.Errorf("got %+v, want one refresh for each of %d sign-ins, and nothing refused", c, len(x.ways))
	}
	return strings.Join(names, ", ")
}

func (x *subject) showRotation() string {
	tok := x.login()
	src, listener := x.session(tok)
	before := tok.RefreshToken
	fresh := 0
	for range 3 {
		x.refreshed(src)
		if after := listener.refreshToken(); after != before {
			before = after
			fresh++
		}
	}
	x.wantWhole()
	switch fresh {
	case 3:
		return "a new refresh token each time"
	case 0:
		return "the same refresh token each time"
	}
	return "now and then a new refresh token"
}

// A refresh token is shown again after the session has gone on from it.
func (x *subject) showReuse() string {
	tok := x.login()
	src, _ := x.session(tok)
	newer := x.refreshed(src)
	said := x.spend(tok.RefreshToken) + "; " + x.lives(newer)
	if _, err := src.Refresh(x.t.Context(), newer); err == nil {
		return said + "; the session goes on"
	} else if e := x.wantRefused(err); e != "" {
		return said + "; the session dies"
	}
	return said
}

// The server ends the session, as an administrator would.
func (x *subject) showRevoked() string {
	tok := x.login()
	src, _ := x.session(tok)
	x.control("end", map[string][]string{"token": {tok.RefreshToken}}, new(struct{}))
	alive := x.lives(tok)
	said := x.wantRefused(x.refused(src))
	before := x.counts().TokenRequests
	if _, err := src.Refresh(x.t.Context(), nil); !errors.Is(err, freshtoken.ErrSessionEnded) {
		x.t.Errorf("asked again: got error %v, want ErrSessionEnded", err)
	}
	if n := x.counts().TokenRequests; n != before {
		x.t.Error("an ended session was sent to the server again")
	}
	next, _ := x.session(x.login())
	x.refreshed(next)
	return alive + "; " + said
}

// The API stops taking the access token before the program knows that it has
// expired.
func (x *subject) showExpired() string {
	tokens := make([]*oauth2.Token, len(x.app.APIs))
	for i, a := range x.app.APIs {
		tokens[i] = x.login()
		if said := x.probe(a, tokens[i]); said != "200" {
			x.t.Fatalf("%s: a new access token gets %s", a.Name, said)
		}
	}
	var all []string
	for i, a := range x.app.APIs {
		tok := tokens[i]
		said := x.refusal(a, tok)
		before := x.counts()
		src, _ := x.session(&oauth2.Token{AccessToken: tok.AccessToken, RefreshToken: tok.RefreshToken})
		if err := call(x.t.Context(), a.client(src), a); err != nil {
			x.t.Errorf("%s: the caller saw that the token had expired: %v", a.Name, err)
		}
		if c := x.wantWhole(); c.Refreshes != before.Refreshes+1 {
			x.t.Errorf("%s: %d refreshes, want 1", a.Name, c.Refreshes-before.Refreshes)
		}
		if a.Name != "" {
			said = a.Name + ": " + said
		}
		all = append(all, said)
	}
	return strings.Join(all, "; ")
}

// refusal waits until the API refuses an access token, and says how it does.
func (x *subject) refusal(a api, tok *oauth2.Token) string {
	x.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if said := x.probe(a, tok); said != "200" {
			return said
		}
		select {
		case <-tick.C:
		case <-deadline:
			x.t.Fatal("the access token does not expire")
		}
	}
}

// A cut is a network that breaks down once, when the server has answered and
// before the answer arrives.
type cut struct{ done atomic.Bool }

func (c *cut) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil || c.done.Swap(true) {
		return resp, err
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return nil, errors.New("the connection was cut")
}

func (x *subject) showLostResponse() string { return x.lose(x.login()) }

func (x *subject) showProcesses() string {
	x.shareByEight(x.app, sharedStores[0], x.login().RefreshToken, 3)
	return "no call fails, no refresh token is sent twice"
}

func (x *subject) showLogout() string {
	src, listener := x.session(x.login())
	tok := x.refreshed(src)
	if err := src.Logout(x.t.Context()); err != nil {
		x.t.Fatalf("Logout: %v", err)
	}
	if _, err := src.Token(x.t.Context()); !errors.Is(err, freshtoken.ErrNoSession) {
		x.t.Errorf("after Logout: got error %v, want ErrNoSession", err)
	}
	said := "no revocation endpoint"
	if x.app.Revocation != "" {
		said = "revocation (RFC 7009)"
		if n := x.counts().Revocations; n != 1 {
			x.t.Errorf("%d requests to the revocation endpoint, want 1", n)
		}
	}
	alive := x.lives(tok)
	return said + "; the refresh token then: " + x.spend(listener.refreshToken()) + "; " + alive
}

// A program has the server end the user's session there, too: whether a login
// then asks for the password, in a browser that the server knew, tells.
func (x *subject) showBrowserLogout() string {
	if x.app.Issuer == "" {
		return "none"
	}
	cfg := x.app.config(nil)
	m, err := discovery.Configure(x.t.Context(), &cfg)
	if err != nil {
		x.t.Fatal(err)
	}
	if m.EndSessionEndpoint == "" {
		return "none"
	}
	user := alice()
	cfg.EndSession = visit(user.approve).logout(m.EndSessionEndpoint, "http://127.0.0.1/bye")
	if x.exactReturn {
		cfg.EndSession = visit(user.leave).logout(m.EndSessionEndpoint, "")
	}
	src := x.source(cfg)
	if _, err := login.Ensure(x.t.Context(), src, visit(user.approve).loopback()); err != nil {
		x.t.Fatal(err)
	}
	said := "before, a login " + x.asksPassword(user)
	if err := src.Logout(x.t.Context()); err != nil {
		x.t.Errorf("Logout: %v", err)
	}
	return said + "; after, it " + x.asksPassword(user)
}

// asksPassword says whether a login asks the user for the password.
func (x *subject) asksPassword(user *browser) string {
	x.t.Helper()
	user.asked = false
	if _, err := user.authenticate(x.t.Context(), x.app.config(nil)); err != nil {
		x.t.Fatal(err)
	}
	if user.asked {
		return "asks for the password"
	}
	return "goes through without the password"
}
