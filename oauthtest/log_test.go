package oauthtest_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken/oauthtest"
)

func TestLogEntry(t *testing.T) {
	both(t, func(t *testing.T, srv *oauthtest.Server, c *http.Client) {
		srv.Login("someone else")
		tok := srv.Login("alice")
		before := time.Now()
		r, err := do(c, formRequest(t, srv.TokenURL(), refreshForm(tok.RefreshToken)))
		if err != nil {
			t.Fatal(err)
		}
		at, next := r.member(t, "access_token"), r.member(t, "refresh_token")
		if _, err := do(c, apiRequest(t, srv, "x?y=z", at)); err != nil {
			t.Fatal(err)
		}
		log := srv.Log()
		if len(log) != 2 {
			t.Fatalf("log %+v", log)
		}
		for _, e := range log {
			if e.Arrived.Before(before) || e.Decided.Before(e.Arrived) || e.AnswerWritten.Before(e.Decided) {
				t.Errorf("times %+v", e)
			}
		}
		got := log[0]
		got.Arrived, got.Decided, got.AnswerWritten = time.Time{}, time.Time{}, time.Time{}
		want := oauthtest.Entry{
			ID: 1, Endpoint: oauthtest.TokenEndpoint, Method: "POST", Path: "/token", Order: 1,
			Outcome: oauthtest.Granted, Status: 200, GrantType: "refresh_token", Client: "client",
			Subject: "alice", Family: 2, Generation: 1, NewGeneration: 2,
			Presented:    oauthtest.Fingerprint(tok.RefreshToken),
			IssuedAccess: oauthtest.Fingerprint(at), IssuedRefresh: oauthtest.Fingerprint(next),
		}
		if got != want {
			t.Errorf("token entry\n%+v, want\n%+v", got, want)
		}
		got = log[1]
		got.Arrived, got.Decided, got.AnswerWritten = time.Time{}, time.Time{}, time.Time{}
		want = oauthtest.Entry{
			ID: 2, Endpoint: oauthtest.APIEndpoint, Method: "GET", Path: "/api/x", Order: 2,
			Outcome: oauthtest.Served, Status: 200, Subject: "alice", Family: 2, Generation: 2,
			Presented: oauthtest.Fingerprint(at),
		}
		if got != want {
			t.Errorf("API entry\n%+v, want\n%+v", got, want)
		}
	})
}

func TestLogHoldsNoToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		tok := srv.Login("alice")
		at, next := refreshed(t, srv, tok.RefreshToken)
		callAPI(t, srv, "x?access_token="+at, at)
		refresh(t, srv, tok.RefreshToken)
		code, d := codeOf(t, srv), startDevice(t, srv)
		redeem(t, srv, code, "redirect_uri", "http://127.0.0.1/")
		authorize(t, srv, loginQuery("code", code, "state", "nobody-knows").Encode())
		poll(t, srv, d.DeviceCode)
		text := fmt.Sprintf("%+v", srv.Log())
		for _, secret := range []string{tok.AccessToken, tok.RefreshToken, at, next, code, verifier, d.DeviceCode, d.UserCode, "nobody-knows"} {
			if strings.Contains(text, secret) {
				t.Fatal("a token is in the log")
			}
		}
	})
}

func TestFingerprint(t *testing.T) {
	if got := oauthtest.Fingerprint("abc"); got != "ba7816bf8f01" { // FIPS 180-2, appendix B.1
		t.Fatal(got)
	}
	if got := oauthtest.Fingerprint(""); got != "" {
		t.Fatal(got)
	}
}

// Order is the order of effects, not of arrival.
func TestLogOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		rt := srv.Login("alice").RefreshToken
		srv.Token.Next(oauthtest.Fault{Delay: time.Second}, oauthtest.Fault{})
		var wg sync.WaitGroup
		wg.Go(func() { refresh(t, srv, rt) })
		synctest.Wait()
		refreshed(t, srv, rt)
		wg.Wait()
		log := srv.Log()
		if log[0].ID != 1 || log[0].Order != 2 || log[0].Outcome != oauthtest.Reuse || log[0].Generation != 1 ||
			log[1].ID != 2 || log[1].Order != 1 || log[1].Outcome != oauthtest.Granted {
			t.Fatalf("log %+v", log)
		}
		if st := srv.Stats(); st.PeakTokenRequests != 2 {
			t.Fatalf("stats %+v", st)
		}
		if after := srv.LogAfter(1); len(after) != 1 || after[0].ID != 2 {
			t.Fatalf("LogAfter(1) %+v", after)
		}
		if srv.LogAfter(5) != nil || len(srv.LogAfter(-1)) != 2 {
			t.Fatal("LogAfter out of range")
		}
		if n := len(srv.LogOf(oauthtest.APIEndpoint)); n != 0 {
			t.Fatalf("%d API entries", n)
		}
	})
}
