package interop_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// A subject is a running server, as the tests that all servers share see it.
type subject struct {
	*server      // its back doors
	app     site // what a program knows of it
	ways    []way

	under       func(policy) *subject // another one, under a policy; nil: it has none
	exactReturn bool                  // whether a logout comes back to no loopback port but that which it knows
}

// A kind is a server to be tested.
type kind struct {
	release
	start func(t *testing.T, accessLifetime int) *subject
}

// The servers of the table in README.md, in its order.
var kinds = []kind{
	{release{"oidcprovider", "oidc-provider"}, func(t *testing.T, lifetime int) *subject {
		return startOIDCProvider(t, lifetime, policy{Idle: time.Hour})
	}},
	{release{"nodeoauth", "@node-oauth/oauth2-server"}, func(t *testing.T, lifetime int) *subject {
		x := startNodeOAuth(t, "nodeoauth", serverOptions{AccessLifetime: lifetime, RefreshLifetime: 3600, Clients: []client{public}})
		x.app.Auth = x.issuer + "/authorize"
		x.ways = []way{byPassword, byCode}
		return x
	}},
	{release{"nodeoauth2", "oauth2-server"}, func(t *testing.T, lifetime int) *subject {
		// Its client identifiers have no odd characters, and all have secrets.
		app := client{ID: "app", Secret: "the-app-s-secret", Method: "client_secret_basic"}
		x := startNodeOAuth(t, "nodeoauth2", serverOptions{AccessLifetime: lifetime, RefreshLifetime: 3600, Clients: []client{app}})
		x.ways = []way{byPassword}
		return x
	}},
	{release{"oauth2proxy", "oauth2-proxy"}, startProxy},
	{release{"fosite", "fosite"}, startFosite},
	{release{"dex", "dex"}, startDex},
}

func startOIDCProvider(t *testing.T, lifetime int, p policy) *subject {
	t.Helper()
	s := startServer(t, func(o *serverOptions) { o.AccessLifetime, o.RefreshLifetime = lifetime, int(p.Idle.Seconds()) })
	x := &subject{server: s, app: s.site(public), ways: []way{byCode, byDevice}}
	x.under = func(p policy) *subject { return startOIDCProvider(t, lifetime, p) }
	return x
}

// startNodeOAuth starts one of the two that have neither metadata nor a
// revocation endpoint.
func startNodeOAuth(t *testing.T, dir string, o serverOptions) *subject {
	t.Helper()
	arg, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	var said struct{ Issuer string }
	if err := json.Unmarshal(launch(t, dir, arg), &said); err != nil {
		t.Fatal(err)
	}
	app := site{Client: o.Clients[0], Token: said.Issuer + "/token", APIs: []api{{URL: said.Issuer + "/secret"}}}
	x := &subject{server: &server{t: t, issuer: said.Issuer}, app: app}
	x.under = func(p policy) *subject {
		o.RefreshLifetime = int(p.Idle.Seconds())
		y := startNodeOAuth(t, dir, o)
		y.ways = x.ways[:1]
		return y
	}
	return x
}

// startProxy starts oauth2-proxy before an API, with tokens by oidc-provider:
// JWTs, which the proxy checks by itself.
func startProxy(t *testing.T, lifetime int) *subject {
	t.Helper()
	const audience = "urn:freshtoken:api"
	gate := client{ID: "gate", Secret: "the-secret-of-the-gate", Method: "client_secret_basic",
		RedirectURIs: []string{"http://127.0.0.1/oauth2/callback"}}
	s := startServer(t, func(o *serverOptions) {
		o.AccessLifetime, o.Audience, o.Clients = lifetime, audience, []client{public, gate}
	})
	bin, err := buildProxy()
	if err != nil {
		t.Skipf("oauth2-proxy cannot be built: %v", err)
	}
	arg, err := json.Marshal(map[string]string{"binary": bin, "issuer": s.issuer, "clientId": gate.ID, "clientSecret": gate.Secret, "audience": audience})
	if err != nil {
		t.Fatal(err)
	}
	var said struct{ Proxy, Button string }
	if err := json.Unmarshal(launch(t, "oauth2proxy", arg), &said); err != nil {
		t.Fatal(err)
	}
	app := s.site(public)
	app.APIs = []api{
		{Name: "with skip_provider_button", URL: said.Proxy + "/pages/call", Login: s.issuer + "/auth"},
		{Name: "by default", URL: said.Button + "/pages/call", Forbids: true},
		{Name: "with api_routes", URL: said.Proxy + "/api/call"},
		{Name: "for `Accept: application/json`", URL: said.Proxy + "/pages/call", Accept: "application/json"},
	}
	return &subject{server: s, app: app, ways: []way{byCode, byDevice}}
}

// login signs in by the first way.
func (x *subject) login() *oauth2.Token {
	x.t.Helper()
	tok, err := x.ways[0].flow.Authenticate(x.t.Context(), x.app.config(nil))
	if err != nil {
		x.t.Fatalf("sign-in by %s: %v", x.ways[0].name, err)
	}
	if tok.RefreshToken == "" {
		x.t.Fatal("the server has issued no refresh token")
	}
	return tok
}

// session returns a Source with the token of a login, and what listens to its
// token endpoint.
func (x *subject) session(tok *oauth2.Token) (*freshtoken.Source, *tap) {
	x.t.Helper()
	listener := &tap{last: tok.RefreshToken}
	cfg := x.app.config(storage.NewMemory())
	cfg.HTTPClient = &http.Client{Transport: listener}
	src := x.source(cfg)
	if err := src.SetToken(x.t.Context(), tok); err != nil {
		x.t.Fatal(err)
	}
	return src, listener
}

// refreshed is a Refresh that must succeed.
func (x *subject) refreshed(src *freshtoken.Source) *oauth2.Token {
	x.t.Helper()
	tok, err := src.Refresh(x.t.Context(), nil)
	if err != nil {
		x.t.Fatalf("Refresh: %v", err)
	}
	return tok
}

// spend says what the server answers to a refresh token, sent past the library.
func (x *subject) spend(refreshToken string) string {
	x.t.Helper()
	_, err := x.app.refresh(refreshToken)
	if e := new(oauth2.RetrieveError); errors.As(err, &e) {
		return answered(e.Response.StatusCode, e.ErrorCode)
	}
	if err != nil {
		x.t.Fatal(err)
	}
	return "200 with new tokens"
}

// lives says whether the API still takes an access token.
func (x *subject) lives(tok *oauth2.Token) string {
	x.t.Helper()
	if x.probe(x.app.APIs[0], tok) == "200" {
		return "the access token lives on"
	}
	return "the access token dies"
}

// probe says what an API answers to an access token.
func (x *subject) probe(a api, tok *oauth2.Token) string {
	x.t.Helper()
	answer, err := a.probe(tok.AccessToken)
	if err != nil {
		x.t.Fatal(err)
	}
	return answer
}

// wantRefused fails the test unless the error says that the session has ended
// because the server has refused it, and returns what the server answered.
func (x *subject) wantRefused(err error) string {
	x.t.Helper()
	var e *freshtoken.RefreshError
	if !errors.Is(err, freshtoken.ErrSessionEnded) || !errors.As(err, &e) {
		x.t.Fatalf("got error %v, want ErrSessionEnded", err)
	}
	said := answered(e.Status, e.Code) + ": ErrSessionEnded"
	if e.Uncertain {
		said += ", Uncertain"
	}
	if !e.Interrupted.IsZero() {
		said += ", Interrupted"
	}
	return said
}

func answered(status int, code string) string {
	return strings.TrimSpace(fmt.Sprint(status, " ", code))
}
