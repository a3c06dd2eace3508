package interop_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/discovery"
	"github.com/freshtoken/freshtoken/login"
	"golang.org/x/oauth2"
)

// An authSubject is the server as the client of one method sees it.
type authSubject struct {
	*tlsServer
	m authMethod
}

func (w *tlsServer) in(t *testing.T, m authMethod) *authSubject {
	mine := *w
	mine.server = w.server.in(t)
	return &authSubject{&mine, m}
}

// A wire is what a program's requests to the server go through.
type wire struct {
	base  http.RoundTripper
	mu    sync.Mutex   // guards forms
	forms []url.Values // that were sent
}

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(body)
		if err != nil {
			return nil, err
		}
		form, err := url.ParseQuery(string(data))
		if err != nil {
			return nil, err
		}
		w.mu.Lock()
		w.forms = append(w.forms, form)
		w.mu.Unlock()
	}
	return w.base.RoundTrip(req)
}

// last is the newest form of a kind of grant.
func (w *wire) last(grantType string) url.Values {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(w.forms) - 1; i >= 0; i-- {
		if w.forms[i].Get("grant_type") == grantType {
			return w.forms[i]
		}
	}
	return nil
}

// wantNew fails the test unless each request had an assertion of its own, or
// none if that is the client's way.
func (x *authSubject) wantNew(sent *wire) {
	x.t.Helper()
	sent.mu.Lock()
	defer sent.mu.Unlock()
	signs := strings.HasSuffix(x.m.registered.Method, "_jwt")
	seen := make(map[string]bool)
	for _, form := range sent.forms {
		a := form.Get("client_assertion")
		if signs != (a != "") {
			x.t.Errorf("%s: a request has an assertion, or has none: %q", x.m.name, form.Get("grant_type"))
		}
		if seen[a] && a != "" {
			x.t.Errorf("%s: an assertion was sent twice", x.m.name)
		}
		seen[a] = true
	}
}

// transport connects as a program does that has a proof.
func (x *authSubject) transport(p proof) http.RoundTripper {
	base := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: x.roots}}
	if p.cert == nil {
		x.t.Cleanup(base.CloseIdleConnections)
		return base
	}
	rt := p.cert.Transport(base)
	x.t.Cleanup(rt.(interface{ CloseIdleConnections() }).CloseIdleConnections)
	return rt
}

// program sets a program up that knows the issuer and has a proof.
func (x *authSubject) program(p proof, store freshtoken.Store) (freshtoken.Config, *wire) {
	x.t.Helper()
	sent := &wire{base: x.transport(p)}
	cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: x.m.registered.ID, ClientSecret: p.secret, Scopes: []string{"openid", "api"}},
		Issuer: x.front, ClientAuth: p.auth, HTTPClient: &http.Client{Transport: sent}, Store: store}
	if p.secret != "" && x.m.name != "client_secret_basic" { // one that discovery would choose
		cfg.OAuth2.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	if _, err := discovery.Configure(x.t.Context(), &cfg); err != nil {
		x.t.Fatal(err)
	}
	at := x.front
	if d, ok := p.auth.(freshtoken.ClientDescriber); ok && d.DescribeClient().MutualTLS {
		at = x.certified
	}
	for _, endpoint := range []string{cfg.OAuth2.Endpoint.TokenURL, cfg.OAuth2.Endpoint.DeviceAuthURL, cfg.RevocationURL} {
		if !strings.HasPrefix(endpoint, at+"/") {
			x.t.Errorf("%s is not at %s", endpoint, at)
		}
	}
	return cfg, sent
}

// api is the API, where clients with a certificate go, or where others go.
func (x *authSubject) api() api {
	at := x.front
	if x.m.right.cert != nil {
		at = x.certified
	}
	return api{Name: "API", URL: at + "/api/call"}
}

// call calls the API with the session, by the connections of a proof.
func (x *authSubject) call(src *freshtoken.Source, p proof) error {
	base, _, _ := strings.Cut(x.api().URL, "/api/")
	t := &freshtoken.Transport{Source: src, Base: x.transport(p), Origins: []string{base}}
	return call(x.t.Context(), &http.Client{Transport: t}, x.api())
}

// probe says what the API answers to an access token that is sent past the
// library, on a connection of a proof.
func (x *authSubject) probe(tok *oauth2.Token, p proof) string {
	x.t.Helper()
	resp, _, err := x.api().send(x.t.Context(), &http.Client{Transport: x.transport(p)}, http.Header{"Authorization": {"Bearer " + tok.AccessToken}})
	if err != nil {
		x.t.Fatal(err)
	}
	if said := resp.Header.Get("WWW-Authenticate"); strings.Contains(said, `error="invalid_token"`) {
		return fmt.Sprint(resp.StatusCode, " invalid_token")
	}
	return fmt.Sprint(resp.StatusCode)
}

// user is alice, with a browser that has no certificate.
func (x *authSubject) user() *browser {
	user := alice()
	user.client.Transport = x.transport(proof{})
	return user
}

// begin logs in with a browser. Each part of a row has a session of its own: one
// refreshes five times and no more, when nobody but the test says that it must.
func (x *authSubject) begin(store freshtoken.Store) (*freshtoken.Source, *wire) {
	x.t.Helper()
	cfg, sent := x.program(x.m.right, store)
	src := x.source(cfg)
	if _, err := login.Ensure(x.t.Context(), src, visit(x.user().approve).loopback()); err != nil {
		x.t.Fatal(err)
	}
	return src, sent
}

func (x *authSubject) refreshed(src *freshtoken.Source) *oauth2.Token {
	x.t.Helper()
	tok, err := src.Refresh(x.t.Context(), nil)
	if err != nil {
		x.t.Fatalf("Refresh: %v", err)
	}
	return tok
}

func (x *authSubject) tokenURL() string {
	if x.m.right.cert != nil {
		return x.certified + "/token"
	}
	return x.front + "/token"
}
