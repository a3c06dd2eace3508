package interop_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/storage"
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
