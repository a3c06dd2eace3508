package oauthtest_test

import (
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken/oauthtest"
)

const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// deviceAnswer is what the device authorization endpoint answers.
type deviceAnswer struct {
	DeviceCode  string `json:"device_code"`
	UserCode    string `json:"user_code"`
	URI         string `json:"verification_uri"`
	CompleteURI string `json:"verification_uri_complete"`
	ExpiresIn   int    `json:"expires_in"`
	Interval    int    `json:"interval"`
}

func deviceRequest(t *testing.T, srv *oauthtest.Server, changes ...string) reply {
	t.Helper()
	form := url.Values{"client_id": {"client"}}
	change(form, changes)
	r, err := do(srv.Client(), formRequest(t, srv.DeviceAuthURL(), form))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func startDevice(t *testing.T, srv *oauthtest.Server, changes ...string) (d deviceAnswer) {
	t.Helper()
	r := deviceRequest(t, srv, changes...)
	if err := json.Unmarshal([]byte(r.body), &d); err != nil || r.status != 200 {
		t.Fatalf("%v %+v", err, r)
	}
	return d
}

func poll(t *testing.T, srv *oauthtest.Server, deviceCode string, changes ...string) reply {
	t.Helper()
	form := url.Values{"grant_type": {deviceGrant}, "client_id": {"client"}, "device_code": {deviceCode}}
	change(form, changes)
	r, err := do(srv.Client(), formRequest(t, srv.TokenURL(), form))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantPoll polls and expects this error, or "" for success.
func wantPoll(t *testing.T, srv *oauthtest.Server, deviceCode, code string, o oauthtest.Outcome) reply {
	t.Helper()
	r := poll(t, srv, deviceCode)
	if r.member(t, "error") != code || (r.status == 200) != (code == "") || code != "" && r.status != 400 || last(srv).Outcome != o {
		t.Fatalf("want %q: %+v, log %+v", code, r, last(srv))
	}
	return r
}

func TestLoginByDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		d := startDevice(t, srv, "scope", "read write")
		if d.URI != srv.LoginURL() || d.CompleteURI != srv.LoginURL()+"?user_code="+d.UserCode || d.ExpiresIn != 600 || d.Interval != 5 ||
			!regexp.MustCompile(`^[B-DF-HJ-NP-TV-XZ]{4}-[B-DF-HJ-NP-TV-XZ]{4}$`).MatchString(d.UserCode) {
			t.Fatalf("%+v", d)
		}
		if e := last(srv); e.Endpoint != oauthtest.DeviceEndpoint || e.Outcome != oauthtest.CodeIssued || e.Client != "client" ||
			e.IssuedCode != oauthtest.Fingerprint(d.DeviceCode) {
			t.Fatalf("log %+v", e)
		}
		if resp, err := srv.Client().Get(d.CompleteURI); err != nil || resp.StatusCode != 200 {
			t.Fatalf("the page for the user: %v", err)
		} else {
			resp.Body.Close()
		}
		wantPoll(t, srv, d.DeviceCode, "authorization_pending", oauthtest.AuthorizationPending)
		time.Sleep(5 * time.Second)
		wantPoll(t, srv, d.DeviceCode, "authorization_pending", oauthtest.AuthorizationPending)
		if !srv.ApproveDevice(strings.ToLower(strings.ReplaceAll(d.UserCode, "-", " ")), "bob") {
			t.Fatal("no login waits under the code")
		}
		time.Sleep(5 * time.Second)
		r := wantPoll(t, srv, d.DeviceCode, "", oauthtest.Granted)
		at, rt := r.member(t, "access_token"), r.member(t, "refresh_token")
		if e := last(srv); e.GrantType != deviceGrant || e.Subject != "bob" || e.Family != 1 || e.NewGeneration != 1 || e.Presented != oauthtest.Fingerprint(d.DeviceCode) {
			t.Fatalf("log %+v", e)
		}
		if api := callAPI(t, srv, "x?scope=write", at); api.member(t, "subject") != "bob" {
			t.Fatalf("API: %+v", api)
		}
		log := srv.LogOf(oauthtest.TokenEndpoint)
		for i := 1; i < len(log); i++ {
			if gap := log[i].Arrived.Sub(log[i-1].Arrived); gap != 5*time.Second {
				t.Fatalf("gap %d: %v", i, gap)
			}
		}
		_, next := refreshed(t, srv, rt)
		time.Sleep(time.Second) // too soon or not: it is a reuse
		wantPoll(t, srv, d.DeviceCode, "invalid_grant", oauthtest.Reuse)
		if srv.Alive(next) || srv.AccessAlive(at) {
			t.Fatal("the session outlived the reuse of its device code")
		}
		if st := srv.Stats(); st.DeviceRequests != 1 || st.DeviceLogins != 1 || st.Polls != 4 || st.SlowDowns != 0 || st.CodeReuses != 1 || st.FamilyKills != 1 {
			t.Fatalf("stats %+v", st)
		}
	})
}

// Every early poll makes the interval five seconds longer, for good.
func TestSlowDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{PollInterval: 1500 * time.Millisecond})
		d, other := startDevice(t, srv), startDevice(t, srv)
		if d.Interval != 2 {
			t.Fatalf("interval %d, want it rounded up", d.Interval)
		}
		steps := []struct {
			gap     time.Duration
			outcome oauthtest.Outcome
		}{
			{0, oauthtest.AuthorizationPending}, // the first poll may come at once
			{1500 * time.Millisecond, oauthtest.AuthorizationPending},
			{1500*time.Millisecond - 1, oauthtest.SlowDown}, // 6.5 s from here
			{6500*time.Millisecond - 1, oauthtest.SlowDown}, // 11.5 s
			{11500 * time.Millisecond, oauthtest.AuthorizationPending},
			{11500*time.Millisecond - 1, oauthtest.SlowDown}, // 16.5 s
			{16500 * time.Millisecond, oauthtest.AuthorizationPending},
		}
		for i, step := range steps {
			time.Sleep(step.gap)
			r := poll(t, srv, d.DeviceCode)
			if e := last(srv); e.Outcome != step.outcome || r.member(t, "error") != strings.ReplaceAll(string(step.outcome), "-", "_") {
				t.Fatalf("step %d: %+v", i, e)
			}
		}
		srv.ApproveDevice(d.UserCode, "alice")
		wantPoll(t, srv, d.DeviceCode, "slow_down", oauthtest.SlowDown) // whatever the user has decided
		wantPoll(t, srv, other.DeviceCode, "authorization_pending", oauthtest.AuthorizationPending)
		time.Sleep(21500 * time.Millisecond)
		wantPoll(t, srv, d.DeviceCode, "", oauthtest.Granted)
		if st := srv.Stats(); st.SlowDowns != 4 {
			t.Fatalf("stats %+v", st)
		}
	})
}

// Polls count by their arrival, and only those that were processed.
func TestPollsThatFaultsDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		d := startDevice(t, srv)
		srv.Token.Next(oauthtest.Error(400, "slow_down"), oauthtest.Fault{Delay: 7 * time.Second})
		poll(t, srv, d.DeviceCode) // the fault's answer: no poll
		done := make(chan bool)
		go func() {
			defer close(done)
			poll(t, srv, d.DeviceCode)
		}()
		time.Sleep(5 * time.Second)
		wantPoll(t, srv, d.DeviceCode, "authorization_pending", oauthtest.AuthorizationPending)
		<-done
		if st := srv.Stats(); st.SlowDowns != 0 || st.Polls != 2 {
			t.Fatalf("stats %+v", st)
		}
	})
}

func TestDeviceLoginsEnd(t *testing.T) {
	bubble(t, "denied", func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		d := startDevice(t, srv)
		if !srv.DenyDevice(d.UserCode) {
			t.Fatal("no login waits under the code")
		}
		for range 2 {
			wantPoll(t, srv, d.DeviceCode, "access_denied", oauthtest.Denied)
			time.Sleep(5 * time.Second)
		}
		if srv.ApproveDevice(d.UserCode, "alice") || srv.DenyDevice(d.UserCode) || srv.ApproveDevice("", "alice") || srv.DenyDevice("AAAA-AAAA") {
			t.Fatal("a login waits that has been decided, or never was")
		}
	})
	bubble(t, "expired", func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{DeviceLifetime: time.Minute})
		d, approved, used := startDevice(t, srv), startDevice(t, srv), startDevice(t, srv)
		if d.ExpiresIn != 60 {
			t.Fatalf("%+v", d)
		}
		srv.ApproveDevice(approved.UserCode, "alice")
		srv.ApproveDevice(used.UserCode, "alice")
		time.Sleep(time.Minute - 1)
		wantPoll(t, srv, d.DeviceCode, "authorization_pending", oauthtest.AuthorizationPending)
		wantPoll(t, srv, used.DeviceCode, "", oauthtest.Granted)
		time.Sleep(time.Nanosecond)
		wantPoll(t, srv, d.DeviceCode, "expired_token", oauthtest.Expired)
		wantPoll(t, srv, approved.DeviceCode, "expired_token", oauthtest.Expired)
		if srv.ApproveDevice(d.UserCode, "alice") {
			t.Fatal("an expired login waits")
		}
	})
}

func TestApproveDeviceScopes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		d, narrow := startDevice(t, srv, "scope", "read write"), startDevice(t, srv, "scope", "read write")
		srv.ApproveDevice(d.UserCode, "alice")
		srv.ApproveDevice(narrow.UserCode, "alice", "read")
		if r := poll(t, srv, d.DeviceCode); r.member(t, "scope") != "read write" {
			t.Fatalf("%+v", r)
		}
		if r := poll(t, srv, narrow.DeviceCode); r.member(t, "scope") != "read" {
			t.Fatalf("%+v", r)
		}
	})
}

func strictDevices() *oauthtest.Server {
	return oauthtest.New(oauthtest.Options{Scopes: []string{"read"}, OtherClients: map[string]string{"other": "", "tv": "s"}})
}

// Every rule of the device authorization endpoint, broken one at a time.
func TestDeviceEndpointIsStrict(t *testing.T) {
	for _, tt := range []struct {
		name    string
		changes []string
		status  int
		code    string
	}{
		{"no client", []string{"client_id", ""}, 401, "invalid_client"},
		{"unknown client", []string{"client_id", "unknown"}, 401, "invalid_client"},
		{"a secret", []string{"client_secret", "s"}, 401, "invalid_client"},
		{"no secret", []string{"client_id", "tv"}, 401, "invalid_client"},
		{"unknown scope", []string{"scope", "admin"}, 400, "invalid_scope"},
		{"malformed scope", []string{"scope", "read "}, 400, "invalid_scope"},
	} {
		bubble(t, tt.name, func(t *testing.T) {
			srv := strictDevices()
			if r := deviceRequest(t, srv, tt.changes...); r.status != tt.status || r.member(t, "error") != tt.code || last(srv).IssuedCode != "" {
				t.Fatalf("%+v", r)
			}
		})
	}
	bubble(t, "form", func(t *testing.T) {
		srv := strictDevices()
		req := formRequest(t, srv.DeviceAuthURL(), url.Values{"client_id": {"client", "client"}})
		if r, err := do(srv.Client(), req); err != nil || r.status != 400 || r.member(t, "error") != "invalid_request" {
			t.Fatalf("repeated parameter: %v %+v", err, r)
		}
		req = formRequest(t, srv.DeviceAuthURL(), url.Values{"client_id": {"client"}})
		req.Method = "GET"
		if r, err := do(srv.Client(), req); err != nil || r.status != 405 {
			t.Fatalf("GET: %v %+v", err, r)
		}
		req = formRequest(t, srv.TokenURL()+"?device_code=x", url.Values{"grant_type": {deviceGrant}})
		if r, err := do(srv.Client(), req); err != nil || r.status != 400 || !strings.Contains(r.body, "URL") {
			t.Fatalf("device code in the URL: %v %+v", err, r)
		}
	})
}

// No poll that breaks a rule spends the device code, nor counts as one.
func TestPollsAreStrict(t *testing.T) {
	bubble(t, "public", func(t *testing.T) {
		srv := strictDevices()
		d := startDevice(t, srv)
		srv.ApproveDevice(d.UserCode, "alice")
		for name, r := range map[string]reply{
			"no code":        poll(t, srv, ""),
			"unknown code":   poll(t, srv, "never-issued"),
			"user code":      poll(t, srv, d.UserCode),
			"other client":   poll(t, srv, d.DeviceCode, "client_id", "other"),
			"no client":      poll(t, srv, d.DeviceCode, "client_id", ""),
			"another's code": poll(t, srv, d.DeviceCode, "client_id", "tv", "client_secret", "s"),
		} {
			if r.status == 200 || strings.Contains(r.body, d.DeviceCode) {
				t.Errorf("%s: %+v", name, r)
			}
		}
		if st := srv.Stats(); st.Polls != 0 {
			t.Errorf("stats %+v", st)
		}
		wantPoll(t, srv, d.DeviceCode, "", oauthtest.Granted)
	})
	bubble(t, "confidential", func(t *testing.T) {
		srv := strictDevices()
		d := startDevice(t, srv, "client_id", "tv", "client_secret", "s")
		srv.ApproveDevice(d.UserCode, "alice")
		if r := poll(t, srv, d.DeviceCode, "client_id", "tv", "client_secret", "s"); r.status != 200 {
			t.Fatalf("%+v", r)
		}
	})
}

// x/oauth2 as the client.
func TestDeviceLoginWithOAuth2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		ctx := contextOf(t, srv)
		login, err := srv.OAuth2().DeviceAuth(ctx)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(12*time.Second, func() { srv.ApproveDevice(login.UserCode, "alice") })
		tok, err := srv.OAuth2().DeviceAccessToken(ctx, login)
		if err != nil || !srv.Alive(tok.RefreshToken) {
			t.Fatal(err)
		}
		if st := srv.Stats(); st.Polls != 3 || st.SlowDowns != 0 {
			t.Fatalf("stats %+v", st)
		}
	})
}
