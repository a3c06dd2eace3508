package oauthtest_test

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"golang.org/x/oauth2"

	"github.com/freshtoken/freshtoken/oauthtest"
)

func contextOf(t *testing.T, srv *oauthtest.Server) context.Context {
	return context.WithValue(t.Context(), oauth2.HTTPClient, srv.Client())
}

// Every rule of redeeming a code, broken one at a time: what each costs.
func TestCodeGrantIsStrict(t *testing.T) {
	tests := []struct {
		name    string
		changes []string
		status  int
		code    string
		outcome oauthtest.Outcome
		spent   bool
	}{
		{"no code", []string{"code", ""}, 400, "invalid_request", oauthtest.BadRequest, false},
		{"no redirect", []string{"redirect_uri", ""}, 400, "invalid_request", oauthtest.BadRequest, false},
		{"no verifier", []string{"code_verifier", ""}, 400, "invalid_request", oauthtest.BadRequest, false},
		{"short verifier", []string{"code_verifier", verifier[1:]}, 400, "invalid_request", oauthtest.BadRequest, false},
		{"long verifier", []string{"code_verifier", strings.Repeat("x", 129)}, 400, "invalid_request", oauthtest.BadRequest, false},
		{"odd verifier", []string{"code_verifier", verifier + "="}, 400, "invalid_request", oauthtest.BadRequest, false},
		{"no client", []string{"client_id", ""}, 401, "invalid_client", oauthtest.BadClient, false},
		{"unknown client", []string{"client_id", "unknown"}, 401, "invalid_client", oauthtest.BadClient, false},
		{"a secret", []string{"client_secret", "s"}, 401, "invalid_client", oauthtest.BadClient, false},
		{"without a secret", []string{"client_id", "confidential"}, 401, "invalid_client", oauthtest.BadClient, false},
		{"unknown code", []string{"code", "never-issued"}, 400, "invalid_grant", oauthtest.UnknownToken, false},
		{"other verifier", []string{"code_verifier", verifier[1:] + "x"}, 400, "invalid_grant", oauthtest.Mismatch, true},
		{"challenge as verifier", []string{"code_verifier", challenge}, 400, "invalid_grant", oauthtest.Mismatch, true},
		{"other redirect", []string{"redirect_uri", "http://127.0.0.1:4322/callback"}, 400, "invalid_grant", oauthtest.Mismatch, true},
		{"redirect without port", []string{"redirect_uri", "http://127.0.0.1/callback"}, 400, "invalid_grant", oauthtest.Mismatch, true},
		{"other client", []string{"client_id", "other"}, 400, "invalid_grant", oauthtest.Mismatch, true},
	}
	for _, tt := range tests {
		bubble(t, tt.name, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{OtherClients: map[string]string{"other": "", "confidential": "s"}})
			code := codeOf(t, srv)
			r := redeem(t, srv, code, tt.changes...)
			if r.status != tt.status || r.member(t, "error") != tt.code || strings.Contains(r.body, code) {
				t.Fatalf("%+v", r)
			}
			if e := last(srv); e.Outcome != tt.outcome || e.Outcome == oauthtest.Mismatch && e.Detail == "" {
				t.Fatalf("log %+v", e)
			}
			r = redeem(t, srv, code)
			if (r.status != 200) != tt.spent {
				t.Fatalf("after the refusal: %+v", r)
			}
			if e := last(srv); tt.spent && (e.Outcome != oauthtest.Reuse || srv.Stats().FamilyKills != 0) {
				t.Fatalf("log %+v", e)
			}
		})
	}
	bubble(t, "in the URL", func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		for _, name := range []string{"code", "code_verifier"} {
			req := formRequest(t, srv.TokenURL()+"?"+name+"=x", url.Values{"grant_type": {"authorization_code"}})
			if r, err := do(srv.Client(), req); err != nil || r.status != 400 || !strings.Contains(r.body, "URL") {
				t.Errorf("%s: %v %+v", name, err, r)
			}
		}
	})
}

func TestCodeReuseKillsTheFamily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{OtherClients: map[string]string{"other": ""}})
		for i, changes := range [][]string{nil, {"code_verifier", challenge}, {"client_id", "other"}} {
			code, bystander := codeOf(t, srv), redeem(t, srv, codeOf(t, srv))
			r := redeem(t, srv, code)
			_, next := refreshed(t, srv, r.member(t, "refresh_token"))
			again := redeem(t, srv, code, changes...)
			if again.status != 400 || again.member(t, "error") != "invalid_grant" || last(srv).Outcome != oauthtest.Reuse || last(srv).Family == 0 {
				t.Fatalf("%v: %+v, log %+v", changes, again, last(srv))
			}
			if srv.Alive(next) || srv.AccessAlive(r.member(t, "access_token")) {
				t.Fatalf("%v: the session outlived the reuse of its code", changes)
			}
			if !srv.Alive(bystander.member(t, "refresh_token")) {
				t.Fatalf("%v: another session was hit", changes)
			}
			redeem(t, srv, code)
			if st := srv.Stats(); st.CodeReuses != 2*(i+1) || st.FamilyKills != i+1 || st.Reuses != 0 {
				t.Fatalf("stats %+v", st)
			}
		}
	})
}

// Of many requests with one code, one wins, and its session does not live.
func TestCodeServesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		code := codeOf(t, srv)
		var won atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if redeem(t, srv, code).status == 200 {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		if st := srv.Stats(); won.Load() != 1 || st.CodeLogins != 1 || st.CodeReuses != 7 || st.FamilyKills != 1 {
			t.Fatalf("%d winners, %+v", won.Load(), st)
		}
	})
}

// Codes of a client that has a secret need the secret.
func TestCodeOfConfidentialClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{OtherClients: map[string]string{"web": "s"}})
		code := codeOf(t, srv, "client_id", "web")
		if r := redeem(t, srv, code, "client_id", "web"); r.status != 401 {
			t.Fatalf("without the secret: %+v", r)
		}
		if r := redeem(t, srv, code, "client_id", "web", "client_secret", "s"); r.status != 200 || last(srv).Client != "web" {
			t.Fatalf("with the secret: %+v", r)
		}
	})
}

// Tokens serve the client that they were issued to.
func TestTokensAreBoundToTheirClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{OtherClients: map[string]string{"other": "", "web": "s"}})
		r := redeem(t, srv, codeOf(t, srv, "client_id", "other"), "client_id", "other")
		rt, at := r.member(t, "refresh_token"), r.member(t, "access_token")
		send := func(url string, form url.Values) reply {
			r, err := do(srv.Client(), formRequest(t, url, form))
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		if r := refresh(t, srv, rt); r.status != 400 || r.member(t, "error") != "invalid_grant" || last(srv).Outcome != oauthtest.Mismatch {
			t.Fatalf("refresh by another client: %+v", r)
		}
		for _, token := range []string{rt, at} {
			if r := send(srv.RevocationURL(), url.Values{"client_id": {"client"}, "token": {token}}); r.status != 400 || last(srv).Outcome != oauthtest.Mismatch {
				t.Fatalf("revocation by another client: %+v", r)
			}
		}
		if !srv.Alive(rt) || !srv.AccessAlive(at) {
			t.Fatal("another client ended the session")
		}
		form := refreshForm(rt)
		form.Set("client_id", "other")
		if r := send(srv.TokenURL(), form); r.status != 200 {
			t.Fatalf("refresh by the own client: %+v", r)
		}
		r = send(srv.TokenURL(), url.Values{"grant_type": {"client_credentials"}, "client_id": {"web"}, "client_secret": {"s"}})
		if r.status != 200 || last(srv).Subject != "web" {
			t.Fatalf("client_credentials: %+v", r)
		}
	})
}
