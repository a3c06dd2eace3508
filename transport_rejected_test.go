package freshtoken_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// What a rejection is, and the one replay.
func TestRejections(t *testing.T) {
	rtBubble(t, "R6750-3.1-401 replays with a new token", func(t *testing.T) {
		for _, f := range oauthtest.Rejections() {
			w := newWorld(t, oauthtest.Options{})
			rec := new(recorder)
			src := w.loggedIn(func(c *freshtoken.Config) { c.OnEvent = rec.receive })
			old := w.revoke(src)
			w.as.API.Always(f.IfRefused())
			rt, spy := w.wired(src)
			resp, err := rt.RoundTrip(posting(t, w.as.APIURL("x"), []byte("body")))
			status, body := rtFinish(t, resp, err)
			rtWant(t, f.Name+": status", status, http.StatusOK)
			if !strings.Contains(body, `"generation":2`) || !strings.Contains(body, `"length":4`) {
				t.Errorf("%s: the API saw %s", f.Name, body)
			}
			w.wantPosts(1)
			sent := spy.requests()
			if len(sent) != 2 || sent[0].credentials[0] != "Bearer "+old || sent[1].credentials[0] == "Bearer "+old {
				t.Errorf("%s: %d requests, or the wrong tokens", f.Name, len(sent))
			}
			synctest.Wait()
			rtWant(t, f.Name+": events", rec.count(freshtoken.EventRejected)+rec.count(freshtoken.EventReplayed), 2)
		}
	})
	rtBubble(t, "R6750-3.1-403 leaves denials alone", func(t *testing.T) {
		for _, f := range oauthtest.Denials() {
			testDenied(t, f)
		}
	})
	rtBubble(t, "R6750-3.1-else leaves other failures alone", func(t *testing.T) {
		const challenge = `Bearer error="invalid_token"`
		for _, status := range []int{400, 402, 403, 404, 407, 421, 429, 500, 502, 503} {
			f := oauthtest.JSON(status, `{"error":"invalid_token"}`)
			f.Name = http.StatusText(status)
			f.Header.Set("WWW-Authenticate", challenge)
			testDenied(t, f)
		}
	})
	rtBubble(t, "R6750-3-none asks only if a token was sent", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn()
		rt, spy := w.wired(src, func(t *freshtoken.Transport) { t.PassUnlisted = true })
		for range 3 {
			w.as.API.Next(oauthtest.Unauthorized())
			req := rtRequest(t, http.MethodGet, w.as.APIURL("x"), nil)
			req.Header.Set("Authorization", "Bearer own")
			resp, err := rt.RoundTrip(req)
			status, _ := rtFinish(t, resp, err)
			rtWant(t, "status", status, http.StatusUnauthorized)
		}
		rtWant(t, "requests", len(spy.requests()), 3)
		w.wantPosts(0)
		testDenied(t, oauthtest.Unauthorized(`Basic realm="x"`))
	})
	rtBubble(t, "R9110-15.5.2 gives the second 401 to the caller", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn()
		w.as.API.Always(oauthtest.JSON(401, `{"error":"invalid_token","which":"second"}`))
		w.as.API.Next(oauthtest.JSON(401, `{"error":"invalid_token","which":"first"}`))
		rt, spy := w.wired(src)
		resp, err := rt.RoundTrip(rtRequest(t, http.MethodGet, w.as.APIURL("x"), nil))
		status, body := rtFinish(t, resp, err)
		rtWant(t, "status", status, http.StatusUnauthorized)
		if !strings.Contains(body, "second") {
			t.Errorf("got %s", body)
		}
		rtWant(t, "requests", len(spy.requests()), 2)
		w.wantPosts(1)
	})
	rtBubble(t, "R9110-9.2.2 repeats nothing but a rejected request", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn()
		rt, spy := w.wired(src)
		for _, f := range []oauthtest.Fault{oauthtest.Drop(), oauthtest.LoseAnswer(), oauthtest.Refuse()} {
			before := len(spy.requests())
			w.as.API.Next(f)
			if resp, err := rt.RoundTrip(posting(t, w.as.APIURL("x"), []byte("body"))); err == nil {
				t.Errorf("%s: got %v, want the failure", f.Name, resp.Status)
			}
			rtWant(t, f.Name+": requests", len(spy.requests())-before, 1)
		}
		w.wantPosts(0)
		w.revoke(src)
		resp, err := rt.RoundTrip(posting(t, w.as.APIURL("x"), []byte("body")))
		status, _ := rtFinish(t, resp, err)
		rtWant(t, "a POST after a 401", status, http.StatusOK)
		w.wantPosts(1)
		rt, spy = w.wired(src, func(t *freshtoken.Transport) { t.NoReplay = true })
		w.revoke(src)
		resp, err = rt.RoundTrip(posting(t, w.as.APIURL("x"), []byte("body")))
		status, _ = rtFinish(t, resp, err)
		rtWant(t, "a POST after a 401, without replay", status, http.StatusUnauthorized)
		rtWant(t, "requests", len(spy.requests()), 1)
	})
	rtBubble(t, "MGR-stale replays with the token there is", testStale)
	t.Run("R9110-10.1.1 replays a body that waited to be asked for", testExpectContinue)
}

// testDenied sends a request that no new token helps.
func testDenied(t *testing.T, f oauthtest.Fault) {
	t.Helper()
	w := newWorld(t, oauthtest.Options{})
	rt, spy := w.wired(w.loggedIn())
	w.as.API.Always(f)
	resp, err := rt.RoundTrip(rtRequest(t, http.MethodGet, w.as.APIURL("x"), nil))
	status, body := rtFinish(t, resp, err)
	rtWant(t, f.Name+": status", status, f.Status)
	rtWant(t, f.Name+": body", body, f.Body)
	rtWant(t, f.Name+": requests", len(spy.requests()), 1)
	if err == nil && !slices.Equal(resp.Header["Www-Authenticate"], f.Header["Www-Authenticate"]) {
		t.Errorf("%s: the caller does not see the challenge: %v", f.Name, resp.Header)
	}
	w.wantPosts(0)
	w.usable(rt.Source)
	w.wantPosts(0)
}

// Fifty requests are on their way when the token dies, and their 401s come one
// after the other, most of them when the new token is long there.
func testStale(t *testing.T) {
	for _, n := range []int{10, 50} {
		w := newWorld(t, oauthtest.Options{KillOldAccess: true})
		src := w.loggedIn()
		rt, spy := w.wired(src)
		client := &http.Client{Transport: rt}
		bad := w.revoke(src)
		w.as.API.Func(underWay(10*time.Second, n))
		w.as.Token.Always(oauthtest.Fault{Delay: 50 * time.Millisecond})
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() { rtWant(t, "status", rtGet(t, client, w.as.APIURL("x")), http.StatusOK) })
		}
		wg.Wait()
		w.wantPosts(1)
		rejected := 0
		for _, s := range spy.requests() {
			if s.credentials[0] == "Bearer "+bad {
				rejected++
			}
		}
		rtWant(t, "requests with the bad token", rejected, n)
		rtWant(t, "requests", len(spy.requests()), 2*n)
	}
}

func TestRulesOfOnesOwn(t *testing.T) {
	onExpiry := func(resp *http.Response) bool { return resp.StatusCode == http.StatusForbidden }
	for _, c := range []struct {
		fault string
		rule  func(*http.Response) bool
		seen  int // by the caller
		posts int
	}{
		{"access-denied-403", nil, 403, 0},
		{"access-denied-403", onExpiry, 200, 1},
		{"empty-object-403", onExpiry, 200, 1},
		{"invalid-token-400", onExpiry, 400, 0},
		{"invalid-token-400", func(r *http.Response) bool { return r.StatusCode == 400 }, 200, 1},
		{"private-error", nil, 401, 0},
		{"private-error", func(r *http.Response) bool {
			return strings.Contains(r.Header.Get("WWW-Authenticate"), "request_unauthorized")
		}, 200, 1},
		{"private-error", func(*http.Response) bool { return false }, 401, 0},
		{"login-page", nil, 302, 0},
		{"login-page", freshtoken.RejectedByLogin("https://oauth.test/login"), 200, 1},
		{"login-page", freshtoken.RejectedByLogin("https://OAUTH.test:443/login?rd=/"), 200, 1},
		{"login-page", freshtoken.RejectedByLogin("/login"), 200, 1},
		{"login-page", freshtoken.RejectedByLogin("/login/"), 200, 1},
		{"login-page", freshtoken.RejectedByLogin("https://oauth.test"), 200, 1},
		{"login-page", freshtoken.RejectedByLogin("https://other.test/login"), 302, 0},
		{"login-page", freshtoken.RejectedByLogin("https://oauth.test:8443/login"), 302, 0},
		{"login-page", freshtoken.RejectedByLogin("http://oauth.test/login"), 302, 0},
		{"login-page", freshtoken.RejectedByLogin("/log"), 302, 0},
		{"login-page", freshtoken.RejectedByLogin("/login/start"), 302, 0},
		{"login-page", freshtoken.RejectedByLogin("https://not a URL"), 302, 0},
		{"access-denied-403", freshtoken.RejectedByLogin("/login"), 403, 0},
	} {
		rtBubble(t, c.fault, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
			src := w.loggedIn()
			w.revoke(src)
			w.as.API.Always(oauthtest.Pick(oauthtest.OddRejections(), c.fault).IfRefused())
			rt, spy := w.wired(src, func(rt *freshtoken.Transport) { rt.Rejected = c.rule })
			resp, err := rt.RoundTrip(rtRequest(t, http.MethodGet, w.as.APIURL("x"), nil))
			status, _ := rtFinish(t, resp, err)
			rtWant(t, "status", status, c.seen)
			w.wantPosts(c.posts)
			rtWant(t, "requests", len(spy.requests()), 1+c.posts)
		})
	}
}

func TestRejectedByLogin(t *testing.T) {
	at := func(status int, location string) *http.Response {
		req := rtRequest(t, http.MethodGet, "https://api.test/v1/x", nil)
		resp := &http.Response{StatusCode: status, Header: http.Header{}, Request: req}
		if location != "" {
			resp.Header.Set("Location", location)
		}
		return resp
	}
	for _, c := range []struct {
		login string
		resp  *http.Response
		want  bool
	}{
		{"https://sso.test/oauth2/start", at(302, "https://sso.test/oauth2/start?rd=%2Fv1%2Fx"), true},
		{"https://sso.test/oauth2/start", at(302, "https://sso.test/oauth2/start/more"), true},
		{"https://sso.test/oauth2/start", at(302, "https://sso.test/oauth2/starting"), false},
		{"https://sso.test/oauth2/start", at(302, "https://sso.test/oauth2"), false},
		{"https://sso.test/oauth2/start", at(302, "/oauth2/start"), false},
		{"https://sso.test/oauth2/start", at(303, "https://sso.test/oauth2/start"), true},
		{"https://sso.test/oauth2/start", at(307, "https://sso.test/oauth2/start"), true},
		{"https://sso.test/oauth2/start", at(200, "https://sso.test/oauth2/start"), false},
		{"https://sso.test/oauth2/start", at(201, "https://sso.test/oauth2/start"), false},
		{"https://sso.test/oauth2/start", at(302, ""), false},
		{"https://sso.test/oauth2/start", at(302, "https://sso.test:bad/"), false},
		{"https://sso.test", at(302, "https://sso.test/anything"), true},
		{"https://sso.test/", at(302, "https://sso.test/anything"), true},
		{"/oauth2/start", at(302, "/oauth2/start?rd=x"), true},
		{"/oauth2/start", at(302, "https://api.test/oauth2/start"), true},
		{"/oauth2/start", at(302, "https://sso.test/oauth2/start"), false},
		{"/oauth2/start", at(401, ""), true},
		{"/oauth2/start", at(403, ""), false},
	} {
		if got := freshtoken.RejectedByLogin(c.login)(c.resp); got != c.want {
			t.Errorf("login %s, %d to %q: got %v, want %v", c.login, c.resp.StatusCode, c.resp.Header.Get("Location"), got, c.want)
		}
	}
}

// With net/http's client on top, a login page is not what the program gets.
func TestLoginPageIsNotFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn()
		w.revoke(src)
		w.as.API.Always(oauthtest.Pick(oauthtest.OddRejections(), "login-page").IfRefused())
		client := w.client(src, func(rt *freshtoken.Transport) { rt.Rejected = freshtoken.RejectedByLogin("/login") })
		resp, err := client.Do(rtRequest(t, http.MethodGet, w.as.APIURL("x"), nil))
		_, body := rtFinish(t, resp, err)
		if strings.Contains(body, "<form") || !strings.Contains(body, `"subject":"alice"`) {
			t.Errorf("the program got %q", body)
		}
		w.wantPosts(1)
	})
}

// An API that rejects whatever it is shown costs a few refreshes, and then one
// a minute. Nobody else suffers.
func TestBudget(t *testing.T) {
	rtBubble(t, "one process", func(t *testing.T) { testBudget(t, 1, time.Hour, time.Minute) })
	rtBubble(t, "two processes share it", func(t *testing.T) { testBudget(t, 2, time.Hour, time.Minute) })
	rtBubble(t, "half the lifetime", func(t *testing.T) { testBudget(t, 1, 80*time.Second, 40*time.Second) })
}

func testBudget(t *testing.T, processes int, lifetime, refill time.Duration) {
	w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
	rec := new(recorder)
	rejects := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		rw.WriteHeader(http.StatusUnauthorized)
		rw.Write([]byte("its own words"))
	})
	w.as.Handle("rejects.test", rejects)
	w.loggedIn().Close()
	var bad, good []*http.Client
	for range processes {
		src := w.source(func(c *freshtoken.Config) { c.OnEvent = rec.receive })
		bad = append(bad, w.client(src, listing("https://rejects.test")))
		good = append(good, w.client(src))
	}
	round := func() {
		t.Helper()
		for i := range processes {
			resp, err := bad[i].Do(posting(t, "https://rejects.test/", []byte("body")))
			status, body := rtFinish(t, resp, err)
			rtWant(t, "the API that rejects", status, http.StatusUnauthorized)
			rtWant(t, "its answer", body, "its own words")
			rtWant(t, "the other API", rtGet(t, good[i], w.as.APIURL("x")), http.StatusOK)
		}
	}
	for range 50 {
		round()
	}
	w.wantPosts(5)
	synctest.Wait()
	if rec.count(freshtoken.EventOverBudget) == 0 {
		t.Error("no event tells of it")
	}
	// Ten more minutes of a request a second: what is due counts for itself,
	// but with a lifetime of an hour nothing is.
	start := time.Now()
	for time.Since(start) < 10*time.Minute {
		time.Sleep(time.Second)
		round()
	}
	allowed := 5 + int(10*time.Minute/refill)
	if lifetime < 10*time.Minute {
		allowed += int(10 * time.Minute / (lifetime / 2))
	}
	if n := w.posts(); n > allowed || n < 5+int(10*time.Minute/refill)/2 {
		t.Errorf("%d refreshes in ten minutes, want at most %d", n, allowed)
	}
	rtWant(t, "reuses", w.as.Stats().Reuses, 0)
}

// A request that alice has made is never sent as bob.
func TestNeverReplaysUnderAnotherSession(t *testing.T) {
	for _, c := range []struct {
		name string
		swap func(t *testing.T, w *world, src *freshtoken.Source)
	}{
		{"logged in again", func(t *testing.T, w *world, src *freshtoken.Source) {
			src.Logout(t.Context())
			bob := w.as.Login("bob")
			if err := src.SetToken(t.Context(), bob); err != nil {
				t.Error(err)
			}
		}},
		{"replaced without a logout", func(t *testing.T, w *world, src *freshtoken.Source) {
			if err := src.SetToken(t.Context(), w.as.Login("bob")); err != nil {
				t.Error(err)
			}
		}},
		{"by another process", func(t *testing.T, w *world, _ *freshtoken.Source) {
			other := w.source()
			other.Logout(t.Context())
			if err := other.SetToken(t.Context(), w.as.Login("bob")); err != nil {
				t.Error(err)
			}
		}},
		{"with a refresh token alone", func(t *testing.T, w *world, src *freshtoken.Source) {
			bob := w.as.Login("bob")
			bob.AccessToken = ""
			if err := src.SetToken(t.Context(), bob); err != nil {
				t.Error(err)
			}
		}},
		{"logged out", func(t *testing.T, w *world, src *freshtoken.Source) { src.Logout(t.Context()) }},
	} {
		rtBubble(t, c.name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{})
			src := w.loggedIn()
			rt, spy := w.wired(src)
			w.revoke(src)
			gate := oauthtest.NewGate()
			w.as.API.Next(oauthtest.Fault{AfterCommit: gate.Hold})
			answered := make(chan struct{})
			go func() {
				defer close(answered)
				resp, err := rt.RoundTrip(posting(t, w.as.APIURL("x"), []byte("alice's own words")))
				status, _ := rtFinish(t, resp, err)
				rtWant(t, "status", status, http.StatusUnauthorized)
			}()
			<-gate.Arrived()
			c.swap(t, w, src)
			gate.Open()
			<-answered
			rtWant(t, "requests", len(spy.requests()), 1)
			for _, e := range w.as.LogOf(oauthtest.APIEndpoint) {
				if e.Subject == "bob" {
					t.Error("bob's token signed alice's request")
				}
			}
			// The next one is bob's, if he is there.
			if resp, err := rt.RoundTrip(rtRequest(t, http.MethodGet, w.as.APIURL("x"), nil)); err == nil {
				status, body := rtFinish(t, resp, err)
				if status != http.StatusOK || !strings.Contains(body, "bob") {
					t.Errorf("next: %d %s", status, body)
				}
			} else {
				wantErr(t, err, freshtoken.ErrNoSession)
			}
		})
	}
}

// While no new token is to be had, the rejection goes back; it is not the
// rejection's fault.
func TestRejectedWhileNothingHelps(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault oauthtest.Fault
		store error
		next  error
	}{
		{"server down", oauthtest.Unavailable(""), nil, nil},
		{"session ended", oauthtest.InvalidGrant(), nil, freshtoken.ErrSessionEnded},
		{"client unknown", oauthtest.Error(401, "invalid_client"), nil, nil},
		{"store down", oauthtest.Fault{}, context.Canceled, freshtoken.ErrStore},
	} {
		rtBubble(t, c.name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{})
			f := w.faults()
			src := w.loggedIn()
			w.revoke(src)
			w.as.Token.Always(c.fault)
			if c.store != nil {
				f.set(func(f *faulty) { f.load = failing(c.store) })
			}
			rt, spy := w.wired(src)
			resp, err := rt.RoundTrip(posting(t, w.as.APIURL("x"), []byte("body")))
			status, body := rtFinish(t, resp, err)
			rtWant(t, "status", status, http.StatusUnauthorized)
			if !strings.Contains(body, "invalid_token") {
				t.Errorf("the answer's body is %q", body)
			}
			rtWant(t, "requests", len(spy.requests()), 1)
			_, err = rt.RoundTrip(rtRequest(t, http.MethodGet, w.as.APIURL("x"), nil))
			if err == nil || c.next != nil {
				wantErr(t, err, c.next)
			}
			rtWant(t, "requests", len(spy.requests()), 1)
		})
	}
}
