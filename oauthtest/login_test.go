package oauthtest_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/freshtoken/freshtoken/oauthtest"
)

const (
	verifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk" // RFC 7636, appendix B
	challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
	callback  = "http://127.0.0.1:4321/callback"
)

// loginQuery is a good authorization request. A change with "" as its value
// takes the parameter away.
func loginQuery(changes ...string) url.Values {
	q := url.Values{
		"response_type": {"code"}, "client_id": {"client"}, "redirect_uri": {callback}, "state": {"xyz"},
		"code_challenge": {challenge}, "code_challenge_method": {"S256"},
	}
	change(q, changes)
	return q
}

func change(form url.Values, changes []string) {
	for i := 0; i < len(changes); i += 2 {
		form.Set(changes[i], changes[i+1])
		if changes[i+1] == "" {
			form.Del(changes[i])
		}
	}
}

// authorize sends an authorization request and follows no redirect.
func authorize(t *testing.T, srv *oauthtest.Server, query string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", srv.AuthURL()+"?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := srv.Transport().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return reply{status: resp.StatusCode, header: resp.Header}
}

// broughtBack returns the parameters of a redirect to the callback.
func broughtBack(t *testing.T, r reply) url.Values {
	t.Helper()
	to, query, _ := strings.Cut(r.header.Get("Location"), "?")
	q, err := url.ParseQuery(query)
	if r.status != 302 || to != callback || err != nil {
		t.Fatalf("no redirect to the callback: %d %v", r.status, r.header)
	}
	return q
}

// codeOf logs in and returns the code.
func codeOf(t *testing.T, srv *oauthtest.Server, changes ...string) string {
	t.Helper()
	code := broughtBack(t, authorize(t, srv, loginQuery(changes...).Encode())).Get("code")
	if code == "" {
		t.Fatalf("no code: %+v", last(srv))
	}
	return code
}

func redeem(t *testing.T, srv *oauthtest.Server, code string, changes ...string) reply {
	t.Helper()
	form := url.Values{
		"grant_type": {"authorization_code"}, "client_id": {"client"}, "code": {code},
		"redirect_uri": {callback}, "code_verifier": {verifier},
	}
	change(form, changes)
	r, err := do(srv.Client(), formRequest(t, srv.TokenURL(), form))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestLoginByCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		q := broughtBack(t, authorize(t, srv, loginQuery("scope", "read write", "nonce", "unknown").Encode()))
		if len(q) != 3 || q.Get("state") != "xyz" || q.Get("iss") != srv.BaseURL() {
			t.Fatalf("brought back %v", q)
		}
		e := last(srv)
		if e.Endpoint != oauthtest.AuthorizationEndpoint || e.Outcome != oauthtest.CodeIssued || e.Client != "client" || e.Subject != "alice" ||
			e.IssuedCode != oauthtest.Fingerprint(q.Get("code")) || e.Path != "/authorize" || e.Status != 302 || e.Family != 0 {
			t.Fatalf("log %+v", e)
		}
		r := redeem(t, srv, q.Get("code"))
		if r.status != 200 || r.member(t, "scope") != "read write" || r.header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%+v", r)
		}
		at, rt := r.member(t, "access_token"), r.member(t, "refresh_token")
		if !srv.AccessAlive(at) || !srv.Alive(rt) {
			t.Fatal("the tokens are dead")
		}
		e = last(srv)
		if e.Outcome != oauthtest.Granted || e.GrantType != "authorization_code" || e.Presented != oauthtest.Fingerprint(q.Get("code")) ||
			e.Subject != "alice" || e.Family != 1 || e.Generation != 0 || e.NewGeneration != 1 || e.IssuedRefresh != oauthtest.Fingerprint(rt) {
			t.Fatalf("log %+v", e)
		}
		if api := callAPI(t, srv, "x?scope=write", at); api.member(t, "subject") != "alice" {
			t.Fatalf("API: %+v", api)
		}
		refreshed(t, srv, rt)
		if st := srv.Stats(); st.AuthorizationRequests != 1 || st.CodeLogins != 1 || st.Refreshes != 1 || st.Logins != 0 || st.BadRequests != 0 {
			t.Fatalf("stats %+v", st)
		}
	})
}

// x/oauth2 as the client, public and confidential.
func TestCodeLoginWithOAuth2(t *testing.T) {
	for name, secret := range map[string]string{"public": "", "confidential": "a+b:c% ü"} {
		bubble(t, name, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{ClientID: "https://a/c", ClientSecret: secret})
			conf := srv.OAuth2()
			if conf.Endpoint.AuthURL != srv.AuthURL() || conf.Endpoint.DeviceAuthURL != srv.DeviceAuthURL() {
				t.Fatalf("%+v", conf.Endpoint)
			}
			conf.RedirectURL = callback
			_, query, _ := strings.Cut(conf.AuthCodeURL("xyz", oauth2.S256ChallengeOption(verifier)), "?")
			code := broughtBack(t, authorize(t, srv, query)).Get("code")
			tok, err := conf.Exchange(contextOf(t, srv), code, oauth2.VerifierOption(verifier))
			if err != nil || !srv.Alive(tok.RefreshToken) {
				t.Fatal(err)
			}
		})
	}
}

// Every rule of the authorization endpoint that is answered by a redirect,
// broken one at a time.
func TestAuthorizationEndpointIsStrict(t *testing.T) {
	good := loginQuery().Encode()
	tests := []struct {
		name, query, code string
		outcome           oauthtest.Outcome
		state             string
	}{
		{"no response type", loginQuery("response_type", "").Encode(), "invalid_request", oauthtest.BadRequest, "xyz"},
		{"token", loginQuery("response_type", "token").Encode(), "unsupported_response_type", oauthtest.BadRequest, "xyz"},
		{"hybrid", loginQuery("response_type", "code id_token").Encode(), "unsupported_response_type", oauthtest.BadRequest, "xyz"},
		{"no challenge", loginQuery("code_challenge", "").Encode(), "invalid_request", oauthtest.BadRequest, "xyz"},
		{"no PKCE", loginQuery("code_challenge", "", "code_challenge_method", "").Encode(), "invalid_request", oauthtest.BadRequest, "xyz"},
		{"no method", loginQuery("code_challenge_method", "").Encode(), "invalid_request", oauthtest.BadRequest, "xyz"},
		{"plain", loginQuery("code_challenge_method", "plain").Encode(), "invalid_request", oauthtest.BadRequest, "xyz"},
		{"method in lower case", loginQuery("code_challenge_method", "s256").Encode(), "invalid_request", oauthtest.BadRequest, "xyz"},
		{"short challenge", loginQuery("code_challenge", challenge[1:]).Encode(), "invalid_request", oauthtest.BadRequest, "xyz"},
		{"long challenge", loginQuery("code_challenge", strings.Repeat("AAAA", 11)).Encode(), "invalid_request", oauthtest.BadRequest, "xyz"},
		{"padded challenge", loginQuery("code_challenge", challenge+"=").Encode(), "invalid_request", oauthtest.BadRequest, "xyz"},
		{"challenge in base64", loginQuery("code_challenge", strings.ReplaceAll(challenge, "-", "+")).Encode(), "invalid_request", oauthtest.BadRequest, "xyz"},
		{"challenge with loose bits", loginQuery("code_challenge", challenge[:42]+"N").Encode(), "invalid_request", oauthtest.BadRequest, "xyz"},
		{"empty parameter", good + "&login_hint=", "invalid_request", oauthtest.BadRequest, "xyz"},
		{"repeated challenge", good + "&code_challenge=" + challenge, "invalid_request", oauthtest.BadRequest, "xyz"},
		{"repeated unknown", good + "&x=1&x=2", "invalid_request", oauthtest.BadRequest, "xyz"},
		{"repeated state", good + "&state=xyz", "invalid_request", oauthtest.BadRequest, ""},
		{"empty state", loginQuery("state", "").Encode() + "&state=", "invalid_request", oauthtest.BadRequest, ""},
		{"verifier in the URL", good + "&code_verifier=" + verifier, "invalid_request", oauthtest.BadRequest, "xyz"},
		{"secret in the URL", good + "&client_secret=s", "invalid_request", oauthtest.BadRequest, "xyz"},
		{"unknown scope", loginQuery("scope", "read admin").Encode(), "invalid_scope", oauthtest.BadScope, "xyz"},
	}
	for _, tt := range tests {
		bubble(t, tt.name, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{Scopes: []string{"read", "write"}})
			q := broughtBack(t, authorize(t, srv, tt.query))
			if q.Get("error") != tt.code || q.Get("error_description") == "" || q.Has("code") ||
				!slices.Equal(q["state"], nonEmpty(tt.state)) || q.Get("iss") != srv.BaseURL() {
				t.Fatalf("brought back %v", q)
			}
			if e := last(srv); e.Outcome != tt.outcome || e.Detail == "" || e.Status != 302 || e.IssuedCode != "" {
				t.Fatalf("log %+v", e)
			}
		})
	}
	bubble(t, "good", func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{Scopes: []string{"read", "write"}})
		codeOf(t, srv, "scope", "read write")
		if q := broughtBack(t, authorize(t, srv, good+"&resource=https://a&resource=https://b")); !q.Has("code") {
			t.Fatalf("two resources (RFC 8707): %v", q)
		}
		if q := broughtBack(t, authorize(t, srv, loginQuery("state", "").Encode())); !q.Has("code") || q.Has("state") {
			t.Fatalf("without a state: %v", q)
		}
	})
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// Where any scope may be asked for, it must still be a scope (RFC 6749, section
// 3.3).
func TestMalformedScopes(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{})
	for scope, want := range map[string]string{
		"read write":   "",
		"a:b/c?d=~!#'": "",
		"read  write":  "invalid_scope",
		" read":        "invalid_scope",
		"read ":        "invalid_scope",
		`"read"`:       "invalid_scope",
		`re\ad`:        "invalid_scope",
		"read\twrite":  "invalid_scope",
		"schön":        "invalid_scope",
	} {
		q := broughtBack(t, authorize(t, srv, loginQuery("scope", scope).Encode()))
		if q.Get("error") != want || q.Has("code") != (want == "") {
			t.Errorf("%q: brought back %v", scope, q)
		}
	}
}

// What must not redirect at all.
func TestAuthorizationEndpointRedirectsToNoStranger(t *testing.T) {
	good := loginQuery().Encode()
	for name, query := range map[string]string{
		"no client":            loginQuery("client_id", "").Encode(),
		"other client":         loginQuery("client_id", "other").Encode(),
		"two clients":          good + "&client_id=client",
		"no redirect":          loginQuery("redirect_uri", "").Encode(),
		"two redirects":        good + "&redirect_uri=" + url.QueryEscape(callback),
		"malformed":            good + "&x=%zz",
		"other host":           loginQuery("redirect_uri", "http://evil.test:4321/callback").Encode(),
		"other path":           loginQuery("redirect_uri", callback+"2").Encode(),
		"slash":                loginQuery("redirect_uri", callback+"/").Encode(),
		"escaped path":         loginQuery("redirect_uri", "http://127.0.0.1:4321/c%61llback").Encode(),
		"dots":                 loginQuery("redirect_uri", "http://127.0.0.1:4321/x/../callback").Encode(),
		"query":                loginQuery("redirect_uri", callback+"?x=y").Encode(),
		"fragment":             loginQuery("redirect_uri", callback+"#x").Encode(),
		"https":                loginQuery("redirect_uri", "https://127.0.0.1:4321/callback").Encode(),
		"localhost":            loginQuery("redirect_uri", "http://localhost:4321/callback").Encode(),
		"other loopback":       loginQuery("redirect_uri", "http://127.0.0.2:4321/callback").Encode(),
		"long IPv6":            loginQuery("redirect_uri", "http://[0:0:0:0:0:0:0:1]:4321/callback").Encode(),
		"short IPv4":           loginQuery("redirect_uri", "http://127.1:4321/callback").Encode(),
		"user":                 loginQuery("redirect_uri", "http://127.0.0.1:4321@evil.test/callback").Encode(),
		"user before":          loginQuery("redirect_uri", "http://x@127.0.0.1:4321/callback").Encode(),
		"longer host":          loginQuery("redirect_uri", "http://127.0.0.1.evil.test/callback").Encode(),
		"port 0":               loginQuery("redirect_uri", "http://127.0.0.1:0/callback").Encode(),
		"port 65536":           loginQuery("redirect_uri", "http://127.0.0.1:65536/callback").Encode(),
		"empty port":           loginQuery("redirect_uri", "http://127.0.0.1:/callback").Encode(),
		"other port elsewhere": loginQuery("redirect_uri", "https://app.test:444/callback").Encode(),
	} {
		bubble(t, name, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{RedirectURIs: []string{
				"http://127.0.0.1/callback", "http://[::1]:1/callback", "https://app.test/callback",
			}})
			r := authorize(t, srv, query)
			if r.status != 400 || r.header.Get("Location") != "" || !strings.HasPrefix(r.header.Get("Content-Type"), "text/html") {
				t.Fatalf("%d %v", r.status, r.header)
			}
			if e := last(srv); e.Outcome != oauthtest.BadRequest && e.Outcome != oauthtest.BadClient || e.Detail == "" {
				t.Fatalf("log %+v", e)
			}
		})
	}
}

func TestRedirectURIs(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{RedirectURIs: []string{
		"http://127.0.0.1/callback", "http://[::1]:1/callback?as=1", "http://127.0.0.1", "https://app.test/callback?x=y", "com.example.app:/callback",
		"http://127.0.0.1.example/callback",
	}})
	for uri, want := range map[string]string{
		"http://127.0.0.1/callback":           "http://127.0.0.1/callback?code=",
		"http://127.0.0.1:65535/callback":     "http://127.0.0.1:65535/callback?code=",
		"http://[::1]:4321/callback?as=1":     "http://[::1]:4321/callback?as=1&code=",
		"http://127.0.0.1:4321":               "http://127.0.0.1:4321?code=",
		"https://app.test/callback?x=y":       "https://app.test/callback?x=y&code=",
		"com.example.app:/callback":           "com.example.app:/callback?code=",
		"http://127.0.0.1:4321?as=1":          "",
		"http://[::1]:4321/callback":          "",
		"https://app.test/callback?x=y&z=1":   "",
		"https://app.test:443/callback?x=y":   "",
		"https://app.test/callback":           "",
		"com.example.app://callback":          "",
		"http://127.0.0.1.example/callback":   "http://127.0.0.1.example/callback?code=",
		"http://127.0.0.1:1.example/callback": "",
		"http://127.0.0.1:4321/callback?x=y":  "",
	} {
		to := authorize(t, srv, loginQuery("redirect_uri", uri).Encode()).header.Get("Location")
		if !strings.HasPrefix(to, want) || want == "" && to != "" {
			t.Errorf("%s: redirected to %q", uri, to)
		}
	}
	for _, bad := range []string{"/callback", "http://127.0.0.1/callback#x", "http://127.0.0.1/callback#", ":"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("New accepted the redirect URI %q", bad)
				}
			}()
			oauthtest.New(oauthtest.Options{RedirectURIs: []string{bad}})
		}()
	}
}

func TestAuthorizationEndpointWantsGET(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{})
	for _, method := range []string{"POST", "HEAD", "PUT"} {
		req, err := http.NewRequest(method, srv.AuthURL()+"?"+loginQuery().Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := do(srv.Client(), req); err != nil || r.status != 405 || r.header.Get("Allow") != "GET" {
			t.Errorf("%s: %v %+v", method, err, r)
		}
	}
}

func TestApproveAs(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{})
	srv.ApproveAs("bob", "read")
	r := redeem(t, srv, codeOf(t, srv, "scope", "read write"))
	if api := callAPI(t, srv, "x", r.member(t, "access_token")); r.member(t, "scope") != "read" || api.member(t, "subject") != "bob" {
		t.Fatalf("%+v %+v", r, api)
	}
	srv.ApproveAs("carol")
	if r := redeem(t, srv, codeOf(t, srv, "scope", "read write")); r.member(t, "scope") != "read write" || last(srv).Subject != "carol" {
		t.Fatalf("%+v %+v", r, last(srv))
	}
}

func TestOfflineAccess(t *testing.T) {
	for _, tt := range []struct {
		option  oauthtest.OfflineAccess
		changes []string
		offline bool
	}{
		{oauthtest.OfflineAlways, nil, true},
		{oauthtest.OfflineByScope, nil, false},
		{oauthtest.OfflineByScope, []string{"access_type", "offline"}, false},
		{oauthtest.OfflineByScope, []string{"scope", "read offline_access"}, true},
		{oauthtest.OfflineByParam, nil, false},
		{oauthtest.OfflineByParam, []string{"access_type", "online"}, false},
		{oauthtest.OfflineByParam, []string{"scope", "read offline_access"}, false},
		{oauthtest.OfflineByParam, []string{"access_type", "offline"}, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{OfflineAccess: tt.option})
			byCode := redeem(t, srv, codeOf(t, srv, tt.changes...))
			d := startDevice(t, srv, tt.changes...)
			srv.ApproveDevice(d.UserCode, "alice")
			byDevice := poll(t, srv, d.DeviceCode)
			for _, r := range []reply{byCode, byDevice} {
				if rt := r.member(t, "refresh_token"); r.status != 200 || (rt != "") != tt.offline {
					t.Errorf("%+v: %+v", tt, r)
				}
				if !srv.AccessAlive(r.member(t, "access_token")) {
					t.Errorf("%+v: the access token is dead", tt)
				}
			}
			if srv.Login("alice").RefreshToken == "" {
				t.Error("Login gave no refresh token")
			}
		})
	}
}

func TestOmitIss(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{OmitIss: true})
	for _, q := range []url.Values{loginQuery(), loginQuery("code_challenge", "")} {
		if back := broughtBack(t, authorize(t, srv, q.Encode())); back.Has("iss") || back.Get("state") != "xyz" {
			t.Errorf("brought back %v", back)
		}
	}
}

func TestCodeLifetime(t *testing.T) {
	for _, tt := range []struct{ option, lifetime time.Duration }{{0, time.Minute}, {time.Second, time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{CodeLifetime: tt.option})
			code := codeOf(t, srv)
			time.Sleep(tt.lifetime - 1)
			if r := redeem(t, srv, code); r.status != 200 {
				t.Fatalf("just before the end: %+v", r)
			}
			code = codeOf(t, srv)
			time.Sleep(tt.lifetime)
			if r := redeem(t, srv, code); r.status != 400 || r.member(t, "error") != "invalid_grant" || last(srv).Outcome != oauthtest.Expired {
				t.Fatalf("at the end: %+v", r)
			}
		})
	}
}
