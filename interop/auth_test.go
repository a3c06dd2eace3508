package interop_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
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
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// authResults are the cells of the table of client authentications.
var authResults = table{
	begin:  "<!-- The table of client authentications, written by `go test -update`. -->\n",
	end:    "<!-- The end of the table of client authentications. -->\n",
	cells:  make(map[[2]string]string),
	layout: authLayout,
}

func authLayout() (layout, error) {
	version, err := kinds[0].version()
	if err != nil {
		return layout{}, err
	}
	l := layout{corner: "at " + kinds[0].name + " " + version, rows: authNames}
	for _, name := range []string{"login", "refresh", "access token", "a wrong proof", "an assertion sent twice",
		"a renewed certificate", "logout"} {
		l.columns = append(l.columns, column{name, name})
	}
	return l, nil
}

// A session by each way in which a client can show which one it is: login, calls,
// refreshes, what is refused, logout.
func TestClientAuthentication(t *testing.T) {
	w := startTLSServer(t, 3600)
	for i, m := range w.methods {
		if i >= len(authNames) || m.name != authNames[i] {
			t.Fatalf("the table has no row for %s", m.name)
		}
	}
	t.Run("R7523-3, R8705-2: by device code", func(t *testing.T) {
		var ends []func() // of logins that wait together until they may poll
		for _, m := range w.methods {
			ends = append(ends, w.in(t, m).deviceLogin())
		}
		for _, wait := range ends {
			wait()
		}
	})
	for _, m := range w.methods {
		t.Run("R7523-3, R8705-2, R8705-3: "+m.name, func(t *testing.T) {
			x := w.in(t, m)
			cells := x.showSession()
			if t.Failed() {
				return
			}
			for column, text := range cells {
				authResults.record(m.name, column, text)
			}
		})
	}
}

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

// deviceLogin begins a login on another device. The result waits for its end.
func (x *authSubject) deviceLogin() (wait func()) {
	cfg, sent := x.program(x.m.right, storage.NewMemory())
	src, user := x.source(cfg), x.user()
	show := func(ctx context.Context, c login.Code) error { return user.approveDevice(ctx, c.Address, c.Code) }
	done := make(chan error, 1)
	go func() {
		_, err := login.Ensure(x.t.Context(), src, login.Device{Prompt: login.Prompt{Show: show}})
		done <- err
	}()
	return func() {
		if err := <-done; err != nil {
			x.t.Errorf("%s: %v", x.m.name, err)
		} else if err := x.call(src, x.m.right); err != nil {
			x.t.Errorf("%s: %v", x.m.name, err)
		}
		x.wantNew(sent)
	}
}

// showSession says what becomes of sessions: the cells of the method's row.
func (x *authSubject) showSession() map[string]string {
	before := x.counts()
	cells := map[string]string{
		"login":                   "authorization code, device code", // or else the test has failed
		"refresh":                 x.showRefresh(),
		"access token":            x.showBinding(),
		"a wrong proof":           x.showWrong(),
		"an assertion sent twice": x.showReplay(),
		"a renewed certificate":   x.showRenewal(),
		"logout":                  x.showLogout(),
	}
	if c := x.counts(); c.Reuses != before.Reuses || c.FamiliesKilled != before.FamiliesKilled+1 {
		x.t.Errorf("before %+v, then %+v; want one family that has ended, by the logout", before, c)
	}
	return cells
}

func (x *authSubject) showRefresh() string {
	before := x.counts()
	src, sent := x.begin(storage.NewMemory())
	if err := x.call(src, x.m.right); err != nil {
		x.t.Error(err)
	}
	spent := make(map[string]bool)
	for range 4 {
		x.refreshed(src)
		spent[sent.last("refresh_token").Get("refresh_token")] = true
	}
	if err := x.call(src, x.m.right); err != nil {
		x.t.Error(err)
	}
	if c := x.counts(); c.Refreshes != before.Refreshes+4 || c.TokenRequests != before.TokenRequests+5 || c.InvalidClients != before.InvalidClients {
		x.t.Errorf("before %+v, then %+v; want a login and four refreshes, and nothing refused", before, c)
	}
	x.wantNew(sent)
	if len(spent) != 4 {
		x.t.Errorf("four refreshes took %d refresh tokens", len(spent))
	}
	return "a new refresh token each time"
}

func (x *authSubject) refreshed(src *freshtoken.Source) *oauth2.Token {
	x.t.Helper()
	tok, err := src.Refresh(x.t.Context(), nil)
	if err != nil {
		x.t.Fatalf("Refresh: %v", err)
	}
	return tok
}

// showBinding says who can use an access token.
func (x *authSubject) showBinding() string {
	src, _ := x.begin(nil)
	tok := x.refreshed(src)
	if said := x.probe(tok, x.m.right); said != "200" {
		x.t.Errorf("the API answers %s", said)
	}
	if x.m.right.cert == nil {
		return "not bound"
	}
	without := x.probe(tok, proof{})
	other := x.probe(tok, byCertificate("", newCertificate("thief", nil)))
	if without == "200" || other == "200" {
		x.t.Error("the access token is bound to no certificate")
	}
	return fmt.Sprintf("bound; without the certificate: %s; with another: %s", without, other)
}

// showWrong has programs with a wrong proof come upon the stored session, and
// says how the server refuses them. The session must be whole after each.
func (x *authSubject) showWrong() string {
	var all []string
	for _, p := range x.m.wrong {
		store := storage.NewMemory()
		src, _ := x.begin(store)
		before := x.counts()
		cfg, _ := x.program(p, store)
		mistaken := x.source(cfg)
		_, err := mistaken.Refresh(x.t.Context(), nil)
		var e *freshtoken.RefreshError
		if !errors.As(err, &e) {
			x.t.Fatalf("%s: got error %v, want a *RefreshError", p.name, err)
		}
		said := answered(e.Status, e.Code)
		x.wantMistake(p, err, e)
		c := x.counts()
		switch e.Code {
		case "invalid_client":
			before.InvalidClients++
		case "invalid_grant":
			said += ": ErrSessionEnded, Uncertain"
			before.InvalidGrants++
		}
		if before.TokenRequests++; c != before {
			x.t.Errorf("%s: got %+v, want %+v", p.name, c, before)
		}
		x.refreshed(src) // the session goes on
		if err := x.call(src, x.m.right); err != nil {
			x.t.Errorf("after %s: %v", p.name, err)
		}
		all = append(all, p.name+": "+said)
	}
	return strings.Join(all, "; ")
}

// wantMistake fails the test unless the error says what is wrong, and that the
// session is whole.
func (x *authSubject) wantMistake(p proof, err error, e *freshtoken.RefreshError) {
	x.t.Helper()
	ended, about := errors.Is(err, freshtoken.ErrSessionEnded), "Config.ClientAuth"
	switch {
	case e.Code == "invalid_grant": // from the server of a public client
		about = "another client certificate"
		if !ended || !e.Uncertain {
			x.t.Errorf("%s: got %v, want ErrSessionEnded, Uncertain", p.name, err)
		}
	case e.Code != "invalid_client" || ended || errors.Is(err, freshtoken.ErrNoSession) || e.Temporary:
		x.t.Errorf("%s: got %v, want an error about the configuration", p.name, err)
	case p.auth == nil:
		about = "ClientSecret"
	}
	wantCode(x.t, err, e.Code)
	if !strings.Contains(err.Error(), about) {
		x.t.Errorf("%s: the error does not speak of %s: %v", p.name, about, err)
	}
	if p.secret != "" && strings.Contains(err.Error(), p.secret) {
		x.t.Errorf("%s: the error shows the secret: %v", p.name, err)
	}
}

// showReplay sends the assertion of the last refresh once more, past the library,
// as somebody would who has seen it.
func (x *authSubject) showReplay() string {
	src, sent := x.begin(nil)
	x.refreshed(src)
	form := sent.last("refresh_token")
	if form.Get("client_assertion") == "" {
		return "has none"
	}
	resp, err := (&http.Client{Transport: x.transport(x.m.right)}).PostForm(x.tokenURL(), form)
	if err != nil {
		x.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Error string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		x.t.Fatal(err)
	}
	x.refreshed(src)
	return answered(resp.StatusCode, answer.Error)
}

func (x *authSubject) tokenURL() string {
	if x.m.right.cert != nil {
		return x.certified + "/token"
	}
	return x.front + "/token"
}

// showRenewal gives the program another certificate that the server takes for
// this client's.
func (x *authSubject) showRenewal() string {
	switch {
	case x.m.right.cert == nil:
		return "has none"
	case x.m.renewed == nil:
		return "not tried: the refresh token is bound to the first"
	}
	src, _ := x.begin(nil)
	before, bound := x.counts(), x.refreshed(src)
	if err := x.m.right.cert.Renew(*x.m.renewed); err != nil {
		x.t.Fatal(err)
	}
	if said := x.probe(bound, x.m.right); said == "200" {
		x.t.Error("the access token of the first certificate is good with the second")
	}
	if err := x.call(src, x.m.right); err != nil {
		x.t.Error(err)
	}
	if c := x.counts(); c.Refreshes != before.Refreshes+2 || c.InvalidClients != before.InvalidClients || c.InvalidGrants != before.InvalidGrants {
		x.t.Errorf("before %+v, then %+v; want two refreshes", before, c)
	}
	return "the old access token is refused; the refresh token is not"
}

func (x *authSubject) showLogout() string {
	src, sent := x.begin(nil)
	tok := x.refreshed(src)
	before := x.counts()
	if err := src.Logout(x.t.Context()); err != nil {
		x.t.Fatalf("Logout: %v", err)
	}
	if _, err := src.Token(x.t.Context()); !errors.Is(err, freshtoken.ErrNoSession) {
		x.t.Errorf("after Logout: got error %v, want ErrNoSession", err)
	}
	c := x.counts()
	if c.Revocations != before.Revocations+1 || c.FamiliesKilled != before.FamiliesKilled+1 || c.InvalidClients != before.InvalidClients {
		x.t.Errorf("before %+v, then %+v; want one revocation that ends the family", before, c)
	}
	x.wantNew(sent)
	return "revoked; the access token then: " + x.probe(tok, x.m.right)
}
