package oauthtest_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/oauthtest"
)

// wellFormed reports whether a callback has each parameter that it needs once,
// as sent, and no error: what a strict client checks before it sends the code.
func wellFormed(srv *oauthtest.Server, q url.Values) bool {
	return slices.Equal(q["state"], []string{"xyz"}) && slices.Equal(q["iss"], []string{srv.BaseURL()}) &&
		len(q["code"]) == 1 && q.Get("code") != "" && !q.Has("error")
}

func TestCallbackCatalogue(t *testing.T) {
	state := func(q url.Values) bool { return slices.Equal(q["state"], []string{"xyz"}) }
	for _, l := range []struct {
		name   string
		faults []oauthtest.Fault
		check  func(*oauthtest.Server, url.Values) bool
	}{
		{"DeniedLogins", oauthtest.DeniedLogins(), func(srv *oauthtest.Server, q url.Values) bool {
			return state(q) && len(q["error"]) == 1 && q.Get("error") != "" && !q.Has("code") && q.Get("iss") == srv.BaseURL()
		}},
		{"ForeignCallbacks", oauthtest.ForeignCallbacks(), func(_ *oauthtest.Server, q url.Values) bool { return !state(q) }},
		{"BadCallbacks", oauthtest.BadCallbacks(), func(srv *oauthtest.Server, q url.Values) bool { return state(q) && !wellFormed(srv, q) }},
		{"OddCallbacks", oauthtest.OddCallbacks(), wellFormed},
	} {
		for _, f := range l.faults {
			bubble(t, l.name+"/"+f.Name, func(t *testing.T) {
				srv := oauthtest.New(oauthtest.Options{})
				srv.Authorization.Next(f)
				r := authorize(t, srv, loginQuery().Encode())
				r.header.Set("Location", strings.TrimSuffix(r.header.Get("Location"), "#_=_"))
				if r.status == 303 {
					r.status = 302
				}
				q := broughtBack(t, r)
				if !l.check(srv, q) {
					t.Errorf("brought back %v", q)
				}
				e := last(srv)
				if denied := f.Deny != ""; e.Fault != f.Name || (e.Outcome == oauthtest.Denied) != denied || (e.IssuedCode == "") != denied {
					t.Errorf("log %+v", e)
				}
				if l.name == "OddCallbacks" {
					if r := redeem(t, srv, q.Get("code")); r.status != 200 {
						t.Errorf("the code does not serve: %+v", r)
					}
				}
				if q := broughtBack(t, authorize(t, srv, loginQuery().Encode())); !wellFormed(srv, q) {
					t.Errorf("after the fault: %v", q)
				}
			})
		}
	}
}

// A request that breaks a rule is told so, whatever its user and a fault make of
// good ones.
func TestDenyLeavesBadRequestsAlone(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{})
	srv.Authorization.Always(oauthtest.Pick(oauthtest.ForeignCallbacks(), "denied-wrong-state"))
	q := broughtBack(t, authorize(t, srv, loginQuery("code_challenge", "").Encode()))
	if q.Get("error") != "invalid_request" || q.Get("state") != "xyz" {
		t.Fatalf("brought back %v", q)
	}
	if r := authorize(t, srv, loginQuery("redirect_uri", "https://evil.test/").Encode()); r.status != 400 || r.header.Get("Location") != "" {
		t.Fatalf("%+v", r)
	}
}

func TestRedirectEdits(t *testing.T) {
	both := oauthtest.Edit("both", func(a *oauthtest.Answer) {
		oauthtest.AddParam("iss", "b").Edit(a)
		oauthtest.OmitParam("state").Edit(a)
	})
	for _, tt := range []struct {
		fault oauthtest.Fault
		want  string // behind the code
	}{
		{oauthtest.SetParam("iss", "a b"), "&iss=a+b&state=xyz"},
		{oauthtest.OmitParam("state"), "&iss=https%3A%2F%2Foauth.test"},
		{both, "&iss=https%3A%2F%2Foauth.test&iss=b"},
		{oauthtest.OmitParam("absent"), "&iss=https%3A%2F%2Foauth.test&state=xyz"},
	} {
		srv := oauthtest.New(oauthtest.Options{})
		srv.Authorization.Next(tt.fault)
		r := authorize(t, srv, loginQuery().Encode())
		want := callback + "?code=" + broughtBack(t, r).Get("code") + tt.want
		if to := r.header.Get("Location"); to != want {
			t.Errorf("%s: %s, want %s", tt.fault.Name, to, want)
		}
	}
	srv := oauthtest.New(oauthtest.Options{})
	srv.Token.Next(oauthtest.SetParam("iss", "a"))
	if r := redeem(t, srv, codeOf(t, srv)); r.status != 200 || r.header.Get("Location") != "" {
		t.Errorf("an answer that is no redirect: %+v", r)
	}
}

func TestUnfinishedLogins(t *testing.T) {
	for _, f := range oauthtest.UnfinishedLogins() {
		bubble(t, f.Name, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{})
			srv.Handle("127.0.0.1:4321", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the browser came back") }))
			srv.Authorization.Next(f)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "GET", srv.AuthURL()+"?"+loginQuery().Encode(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp, err := srv.Browser().Do(req); err == nil {
				resp.Body.Close()
			}
			if e := srv.Log()[0]; e.Fault != f.Name {
				t.Fatalf("log %+v", e)
			}
		})
	}
}

func TestEndedPolls(t *testing.T) {
	for _, f := range oauthtest.EndedPolls() {
		bubble(t, f.Name, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{})
			d := startDevice(t, srv)
			srv.Token.Next(f)
			r := poll(t, srv, d.DeviceCode)
			if code := r.member(t, "error"); code == "" || code == "authorization_pending" || code == "slow_down" {
				t.Errorf("%+v", r)
			}
			wantPoll(t, srv, d.DeviceCode, "authorization_pending", oauthtest.AuthorizationPending)
		})
	}
}

func TestDeviceCatalogue(t *testing.T) {
	plain := func(s string) bool { return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }) }
	usable := func(r reply) bool {
		var d struct {
			deviceAnswer
			Interval json.RawMessage `json:"interval"`
			OldURI   string          `json:"verification_url"`
		}
		if r.status != 200 || json.Unmarshal([]byte(r.body), &d) != nil {
			return false
		}
		uri, err := url.Parse(d.URI + d.OldURI)
		return err == nil && uri.Scheme == "https" && plain(d.URI+d.OldURI) && plain(d.DeviceCode) && plain(d.UserCode) && d.ExpiresIn > 0
	}
	for _, f := range slices.Concat(oauthtest.BadDeviceAnswers(), oauthtest.OddDeviceAnswers()) {
		if f.Name == "endless" {
			continue // see TestEndlessBodies
		}
		bad := slices.ContainsFunc(oauthtest.BadDeviceAnswers(), func(b oauthtest.Fault) bool { return b.Name == f.Name })
		bubble(t, f.Name, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{})
			srv.Device.Next(f)
			if r := deviceRequest(t, srv); usable(r) == bad {
				t.Errorf("usable: %v %+v", !bad, r)
			}
			if e := last(srv); e.Fault != f.Name {
				t.Errorf("log %+v", e)
			}
		})
	}
}

func TestMetadataCatalogue(t *testing.T) {
	usable := func(srv *oauthtest.Server, r reply) bool {
		var m struct {
			Issuer    string
			Authorize string `json:"authorization_endpoint"`
			Token     string `json:"token_endpoint"`
		}
		return r.status == 200 && json.Unmarshal([]byte(r.body), &m) == nil && m.Issuer == srv.BaseURL() &&
			strings.HasPrefix(m.Authorize, "https://") && strings.HasPrefix(m.Token, "https://")
	}
	for _, f := range slices.Concat(oauthtest.BadMetadata(), oauthtest.MissingMetadata()) {
		if f.Name == "endless" {
			continue // see TestEndlessBodies
		}
		bubble(t, f.Name, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{})
			srv.Metadata.Next(f)
			req, err := http.NewRequest("GET", srv.BaseURL()+oauthMetadata, nil)
			if err != nil {
				t.Fatal(err)
			}
			c := &http.Client{Transport: srv.Transport(), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			r, err := do(c, req)
			if err != nil || usable(srv, r) {
				t.Errorf("%v %+v", err, r)
			}
			if r := metadata(t, srv, "GET", openIDMetadata); !usable(srv, r) {
				t.Errorf("the other place: %+v", r)
			}
		})
	}
}

// What faults do at every endpoint, they do at those of a login.
func TestFaultsOfALogin(t *testing.T) {
	both(t, func(t *testing.T, srv *oauthtest.Server, c *http.Client) {
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		for _, e := range []struct {
			method, url string
			faults      *oauthtest.Faults
			outcome     oauthtest.Outcome
		}{
			{"GET", srv.AuthURL() + "?" + loginQuery().Encode(), &srv.Authorization, oauthtest.CodeIssued},
			{"GET", srv.BaseURL() + oauthMetadata, &srv.Metadata, oauthtest.Served},
			{"POST", srv.DeviceAuthURL(), &srv.Device, oauthtest.CodeIssued},
			{"POST", srv.PushedAuthorizationURL(), &srv.Pushed, oauthtest.RequestIssued},
		} {
			send := func() (reply, error) {
				req := formRequest(t, e.url, loginQuery())
				req.Method = e.method
				req.Close = true // net/http repeats a GET whose kept connection broke
				return do(c, req)
			}
			gate := oauthtest.NewGate()
			gate.Open()
			e.faults.Next(oauthtest.Unavailable("7"), oauthtest.Drop(), oauthtest.LoseAnswer(), oauthtest.Fault{AfterCommit: gate.Hold})
			if r, err := send(); err != nil || r.status != 503 || r.header.Get("Retry-After") != "7" || last(srv).Outcome != oauthtest.Canned {
				t.Errorf("%s: %v %+v", e.url, err, r)
			}
			if _, err := send(); err == nil || last(srv).Outcome != oauthtest.DroppedBefore {
				t.Errorf("%s: %v %+v", e.url, err, last(srv))
			}
			if _, err := send(); err == nil || last(srv).Outcome != e.outcome || !last(srv).Dropped {
				t.Errorf("%s: %v %+v", e.url, err, last(srv))
			}
			if r, err := send(); err != nil || r.status >= 400 || last(srv).AnswerWritten.IsZero() || len(gate.Arrived()) != 1 {
				t.Errorf("%s: %v %+v", e.url, err, r)
			}
		}
	})
}
