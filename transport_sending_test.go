package freshtoken_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// How the token is sent.
func TestSendsTheToken(t *testing.T) {
	rtBubble(t, "R6750-2.1 writes Bearer, one space, the token", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
		src := w.loggedIn()
		time.Sleep(2 * time.Minute)
		w.as.Token.Next(oauthtest.SetMember("token_type", `"bEaReR"`))
		rt, spy := w.wired(src)
		rtWant(t, "status", rtGet(t, &http.Client{Transport: rt}, w.as.APIURL("x")), http.StatusOK)
		w.wantPosts(1)
		rtWant(t, "header", spy.requests()[0].header.Get("Authorization"), "Bearer "+w.token(src).AccessToken)
	})
	rtBubble(t, "R6750-2 sends one credential", testOneCredential)
	rtBubble(t, "R6750-5.3-tls sends over https alone", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		rt, spy := w.wired(w.loggedIn())
		_, err := rt.RoundTrip(rtRequest(t, http.MethodGet, "http://oauth.test/api/x", nil))
		wantErr(t, err, freshtoken.ErrOrigin)
		rtWant(t, "requests", len(spy.requests()), 0)
		w.as.API.Next(oauthtest.Redirect(http.StatusFound, "http://oauth.test/api/x"))
		rtWant(t, "status", rtGet(t, &http.Client{Transport: rt}, w.as.APIURL("x")), http.StatusUnauthorized)
		sent := spy.requests()
		rtWant(t, "requests", len(sent), 2)
		rtWant(t, "over https", len(sent[0].credentials), 1)
		rtWant(t, "over http", len(sent[1].credentials), 0)
		w.wantPosts(0)
	})
	t.Run("R6750-5.2-cert checks the certificate", func(t *testing.T) {
		hits := 0
		api := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits++ }))
		api.Config.ErrorLog = silent
		api.StartTLS()
		defer api.Close()
		w := newWorld(t, oauthtest.Options{})
		base := &http.Transport{} // as it is by default: it does not know the certificate
		defer base.CloseIdleConnections()
		rt := &freshtoken.Transport{Source: w.loggedIn(), Base: base, Origins: []string{api.URL}}
		resp, err := rt.RoundTrip(rtRequest(t, http.MethodGet, api.URL, nil))
		if err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("got %v and error %v, want one about the certificate", resp, err)
		}
		api.Close() // waits for requests under way
		rtWant(t, "requests", hits, 0)
		if base.TLSClientConfig != nil && base.TLSClientConfig.InsecureSkipVerify {
			t.Error("the check was switched off")
		}
	})
	rtBubble(t, "R6750-5.3-leak judges every hop", testJudgesEveryHop)
	rtBubble(t, "R6749-7.1 does not use a type it does not know", func(t *testing.T) {
		for _, kind := range []string{"mac", "N_A", "DPoP", "urn:example:type"} {
			w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
			src := w.loggedIn()
			tok := w.as.Login("alice")
			tok.TokenType = kind
			wantErr(t, src.SetToken(t.Context(), tok), freshtoken.ErrBadToken)
			time.Sleep(2 * time.Minute)
			w.as.Token.Always(oauthtest.SetMember("token_type", `"`+kind+`"`))
			rt, spy := w.wired(src)
			_, err := rt.RoundTrip(rtRequest(t, http.MethodGet, w.as.APIURL("x"), nil))
			wantErr(t, err, freshtoken.ErrBadToken)
			rtWant(t, "requests", len(spy.requests()), 0)
		}
	})
	rtBubble(t, "R6749-5.1-type compares the type without case", func(t *testing.T) {
		for _, c := range []struct {
			fault  oauthtest.Fault
			assume bool
			ok     bool
		}{
			{oauthtest.SetMember("token_type", `"BEARER"`), false, true},
			{oauthtest.OmitMember("token_type"), false, false},
			{oauthtest.OmitMember("token_type"), true, true},
		} {
			w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
			src := w.loggedIn(func(cfg *freshtoken.Config) { cfg.AssumeBearer = c.assume })
			time.Sleep(2 * time.Minute)
			w.as.Token.Always(c.fault)
			rt, spy := w.wired(src)
			resp, err := rt.RoundTrip(rtRequest(t, http.MethodGet, w.as.APIURL("x"), nil))
			if !c.ok {
				wantErr(t, err, freshtoken.ErrBadToken)
				rtWant(t, "requests", len(spy.requests()), 0)
				continue
			}
			status, _ := rtFinish(t, resp, err)
			rtWant(t, "status", status, http.StatusOK)
		}
	})
	rtBubble(t, "R6750-b64 refuses a token that is more than a token", func(t *testing.T) {
		const evil = `a b\r\nX-Evil: y`
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
		src := w.loggedIn()
		time.Sleep(2 * time.Minute)
		w.as.Token.Always(oauthtest.SetMember("access_token", `"`+evil+`"`))
		rt, spy := w.wired(src)
		_, err := rt.RoundTrip(rtRequest(t, http.MethodGet, w.as.APIURL("x"), nil))
		wantErr(t, err, freshtoken.ErrBadToken)
		rtWant(t, "requests", len(spy.requests()), 0)
		if strings.Contains(w.stored(), "X-Evil") || strings.Contains(err.Error(), "Evil") {
			t.Error("it was stored, or shown")
		}
	})
	rtBubble(t, "R21-1.4 does not look into the token", func(t *testing.T) {
		// {"alg":"none"}.{"exp":1,"scope":"none"}.
		const jwt = "eyJhbGciOiJub25lIn0.eyJleHAiOjEsInNjb3BlIjoibm9uZSJ9."
		w := newWorld(t, oauthtest.Options{})
		src := w.source()
		tok := &oauth2.Token{AccessToken: jwt, TokenType: "Bearer", RefreshToken: w.as.Login("alice").RefreshToken, ExpiresIn: 3600}
		if err := src.SetToken(t.Context(), tok); err != nil {
			t.Fatal(err)
		}
		var got string
		rt, _ := w.wired(src, func(t *freshtoken.Transport) {
			t.Base = rtAnswers(func(r *http.Request) *http.Response {
				got = r.Header.Get("Authorization")
				return answerOf(http.StatusOK, "")
			})
		})
		time.Sleep(30 * time.Minute)
		rtWant(t, "status", rtGet(t, &http.Client{Transport: rt}, w.as.APIURL("x")), http.StatusOK)
		rtWant(t, "header", got, "Bearer "+jwt)
		w.wantPosts(0)
	})
	rtBubble(t, "R6749-10.4-rt shows a refresh token to its server alone", testRefreshTokenStaysHome)
}

func testOneCredential(t *testing.T) {
	w := newWorld(t, oauthtest.Options{})
	rt, spy := w.wired(w.loggedIn())
	client := &http.Client{Transport: rt}
	for _, c := range []struct {
		name string
		url  string
		edit func(*http.Request)
		want []string
	}{
		{"the caller's header", w.as.APIURL("x"), func(r *http.Request) { r.Header.Set("Authorization", "Basic own") }, []string{"Basic own"}},
		{"the caller's header, oddly spelt", w.as.APIURL("x"), func(r *http.Request) { r.Header["authorization"] = []string{"Basic own"} }, []string{"Basic own"}},
		{"a header that says none", w.as.APIURL("x"), func(r *http.Request) { r.Header["Authorization"] = nil }, nil},
		{"a user in the URL", "https://user:pw@oauth.test/api/x", nil, []string{"Basic dXNlcjpwdw=="}},
		{"the caller's header for elsewhere", "https://other.test/", func(r *http.Request) { r.Header.Set("Authorization", "Basic own") }, []string{"Basic own"}},
	} {
		before := len(spy.requests())
		req := rtRequest(t, http.MethodGet, c.url, nil)
		if c.edit != nil {
			c.edit(req)
		}
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
			// The answer to another credential says nothing about ours.
			rtWant(t, c.name+": status", resp.StatusCode, http.StatusUnauthorized)
		}
		sent := spy.requests()[before:]
		if len(sent) != 1 || !slices.Equal(sent[0].credentials, c.want) {
			t.Errorf("%s: sent %v, want one request with %q", c.name, sent, c.want)
		}
	}
	w.wantPosts(0)
	// Straight to the Transport, net/http makes no credential of the user.
	resp, err := rt.RoundTrip(rtRequest(t, http.MethodGet, "https://user:pw@oauth.test/api/x", nil))
	status, _ := rtFinish(t, resp, err)
	rtWant(t, "a user in the URL, straight", status, http.StatusOK)
	for _, s := range spy.requests() {
		if u, err := url.Parse(s.url); err != nil || u.Query().Has("access_token") {
			t.Error("a token stood in a URL")
		}
	}
}

func testRefreshTokenStaysHome(t *testing.T) {
	var worlds [2]*world
	var tokens [2][]string // the refresh tokens of each
	for i, base := range []string{"https://one.test", "https://two.test"} {
		w := newWorld(t, oauthtest.Options{BaseURL: base, AccessLifetime: time.Minute})
		worlds[i] = w
		src := w.source()
		if i == 1 { // both sessions in one store, under the same name
			w.store = worlds[0].store
			src = w.source()
		}
		tokens[i] = []string{w.login(src).RefreshToken}
		rt, spy := w.wired(src)
		for range 3 {
			time.Sleep(2 * time.Minute)
			rtWant(t, "status", rtGet(t, &http.Client{Transport: rt}, w.as.APIURL("x")), http.StatusOK)
		}
		for _, s := range spy.requests() {
			for _, values := range s.header {
				if slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, tokens[i][0]) }) {
					t.Error("the API got the refresh token")
				}
			}
		}
	}
	for i, w := range worlds {
		s := w.as.Stats()
		rtWant(t, "refreshes", s.Refreshes, 3)
		rtWant(t, "refusals", s.InvalidGrants+s.BadRequests, 0)
		for _, e := range w.as.LogOf(oauthtest.TokenEndpoint) {
			if e.Outcome == oauthtest.UnknownToken || e.Presented == oauthtest.Fingerprint(tokens[1-i][0]) {
				t.Error("a server got the other's refresh token")
			}
		}
	}
}
