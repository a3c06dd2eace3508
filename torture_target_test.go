//go:build linux || darwin

package freshtoken_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// What TestTorture does with access tokens for a Target, beside the session's
// own: half of its programs use both.

// A tortureUser is one of the Sources of a program, and what uses its tokens.
type tortureUser struct {
	src    *freshtoken.Source
	client *http.Client
	scope  string // that the API is to want
}

func (p *tortureProgram) user(src *freshtoken.Source, base http.RoundTripper, scope string) tortureUser {
	return tortureUser{src, &http.Client{Transport: &freshtoken.Transport{Source: src, Base: base, Origins: []string{p.setup.Origin}}}, scope}
}

// use makes a request, which may fail in many ways, but not for a token that is
// for something else.
func (u tortureUser) use(p *tortureProgram) {
	resp, err := u.client.Get(p.setup.API + "?scope=" + u.scope)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	if resp.StatusCode == http.StatusForbidden {
		p.fail(fmt.Errorf("the API does not take the token for the scope %s", u.scope))
	}
}

// asksForScope reports whether a request is for the token of a Target.
func asksForScope(req *http.Request) (bool, error) {
	body, err := io.ReadAll(req.Body)
	req.Body.Close()
	if err != nil {
		return false, err
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	form, err := url.ParseQuery(string(body))
	return form.Has("scope"), err
}

// askingFor is the server's side of connections that ask for a certificate.
func askingFor(t *testing.T) *tls.Config {
	t.Helper()
	cert, _ := certificate(t, nil)
	return &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert}
}

// revoke has an access token die, of either kind. Who uses it finds out.
func (h *torture) revoke() {
	h.t.Helper()
	r := h.record()
	token := r.AccessToken
	if narrow, ok := r.Derived[reading.String()]; ok && h.rnd.IntN(2) == 0 {
		token = narrow.AccessToken
	}
	h.as.RevokeAccess(token)
	h.revoked[token] = true
}

// checkTargets looks at the access tokens in the store, as another program might
// at any moment. Each is one that the server has issued for what it is stored
// for, and the server takes it, or it has expired; and one that has been there
// stays until then, if it is not replaced.
func (h *torture) checkTargets() {
	h.t.Helper()
	r := h.record()
	if r.ID != h.id || r.Ended != nil {
		return
	}
	if i := h.issued(r.AccessToken); i.ID != 0 && i.Scope != "read write" {
		h.t.Errorf("generation %d: the session's own access token is for %q", r.Generation, i.Scope)
	}
	known := h.known
	h.known = knownTarget{r.ID, r.Derived[reading.String()]}
	if known.id == r.ID && time.Now().Before(known.end()) && h.known.AccessToken == "" && !h.revoked[known.AccessToken] {
		h.t.Errorf("generation %d: the token for a Target is gone, before its end", r.Generation)
	}
	for target, a := range r.Derived {
		if i := h.issued(a.AccessToken); i.Scope != "read" || target != reading.String() {
			h.t.Errorf("generation %d: the token for %q was issued: %v, for %q", r.Generation, target, i.ID != 0, i.Scope)
		}
		if h.as.AccessAlive(a.AccessToken) {
			h.figures.targets++
			continue
		}
		if now := time.Now(); now.Before(a.end()) && !h.revoked[a.AccessToken] && !h.dead() {
			h.t.Errorf("generation %d: the token for %q is dead, %s before its end", r.Generation, target, a.end().Sub(now))
		}
	}
}

// knownTarget is the token for a Target that a session had in the store.
type knownTarget struct {
	id string // of the session
	procAccess
}

// end is when the token expires.
func (a procAccess) end() time.Time { return a.Issued.Add(a.Lifetime) }

// issued is the request that the server has answered with an access token; that
// of a login had none.
func (h *torture) issued(token string) oauthtest.Entry {
	sum := oauthtest.Fingerprint(token)
	for _, e := range h.as.LogOf(oauthtest.TokenEndpoint) {
		if e.IssuedAccess == sum && e.Family == h.family && e.Outcome == oauthtest.Granted {
			return e
		}
	}
	return oauthtest.Entry{}
}

// dead reports whether the server has ended the session.
func (h *torture) dead() bool {
	_, dead := h.explain()
	return dead
}

// checkNewest checks that the answer that the last program has got, for a
// Target, is what is stored.
func (h *torture) checkNewest() {
	h.t.Helper()
	r := h.record()
	a, ok := r.Derived[reading.String()]
	i := h.issued(a.AccessToken)
	if !ok || i.NewGeneration != r.Generation || i.Scope != "read" {
		h.t.Errorf("generation %d is stored, with a token for a Target: %v; that came with generation %d, for %q", r.Generation, ok, i.NewGeneration, i.Scope)
	}
	h.checkTargets()
}

// judgeTargets does the part of judge that is about Targets, and certificates.
func (h *torture) judgeTargets(record func(name string, value any)) {
	h.t.Helper()
	asked, losses, kills := 0, 0, 0
	for _, e := range h.as.LogOf(oauthtest.TokenEndpoint) {
		if e.Outcome == oauthtest.Granted && e.Scope == "read" {
			asked++
		}
	}
	for _, l := range h.losses {
		if l.narrow {
			losses++
		}
	}
	for _, p := range h.all {
		if p.wasKilled() && p.narrowRequest() {
			kills++
		}
	}
	if s := h.as.Stats(); s.BadClients > 0 {
		h.t.Errorf("the server saw %+v", s)
	}
	if *tortureDuration >= 20*time.Second && (asked < 2 || h.figures.targets == 0) {
		h.t.Errorf("%d tokens for a Target, seen alive in the store %d times: this is no torture of them", asked, h.figures.targets)
	}
	record("target-refreshes", asked)
	record("target-kills", kills)
	record("target-unavoidable", losses)
	record("target-seen", h.figures.targets)
}

// narrowRequest reports whether the program, which is over, had a request for
// the token of a Target under way, or an answer to it that was not saved.
func (p *target) narrowRequest() bool {
	if p.phase != phasePosting && p.phase != phaseAnswered {
		return false
	}
	narrow := false
	for _, t := range p.told() {
		if t.Step == stepPosts {
			narrow = t.Narrow
		}
	}
	return narrow
}
