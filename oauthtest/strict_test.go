package oauthtest_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/freshtoken/freshtoken/oauthtest"
)

// Every rule of the token endpoint, broken one at a time. None may spend the
// refresh token.
func TestTokenEndpointIsStrict(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	tests := []struct {
		name    string
		secret  string // the client's; "" is a public client
		body    string // RT stands for the refresh token
		change  func(*http.Request)
		status  int
		code    string
		outcome oauthtest.Outcome
	}{
		{"get", "", "", func(r *http.Request) { r.Method = "GET" }, 405, "invalid_request", oauthtest.BadRequest},
		{"json", "", `{"grant_type":"refresh_token"}`, func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, 400, "invalid_request", oauthtest.BadRequest},
		{"no content type", "", "grant_type=refresh_token&client_id=client&refresh_token=RT", func(r *http.Request) { r.Header.Del("Content-Type") }, 400, "invalid_request", oauthtest.BadRequest},
		{"two content types", "", "grant_type=refresh_token&client_id=client&refresh_token=RT", func(r *http.Request) { r.Header.Add("Content-Type", form) }, 400, "invalid_request", oauthtest.BadRequest},
		{"duplicate", "", "grant_type=refresh_token&client_id=client&refresh_token=RT&refresh_token=RT", nil, 400, "invalid_request", oauthtest.BadRequest},
		{"empty value", "", "grant_type=refresh_token&client_id=client&refresh_token=RT&scope=", nil, 400, "invalid_request", oauthtest.BadRequest},
		{"malformed", "", "grant_type=refresh_token&client_id=client&refresh_token=RT&x=%zz", nil, 400, "invalid_request", oauthtest.BadRequest},
		{"too long", "", "grant_type=refresh_token&client_id=client&refresh_token=RT&x=" + strings.Repeat("x", 2<<20), nil, 413, "invalid_request", oauthtest.BadRequest},
		{"no grant type", "", "client_id=client&refresh_token=RT", nil, 400, "invalid_request", oauthtest.BadRequest},
		{"no refresh token", "", "client_id=client&grant_type=refresh_token", nil, 400, "invalid_request", oauthtest.BadRequest},
		{"unknown grant type", "", "client_id=client&grant_type=password", nil, 400, "unsupported_grant_type", oauthtest.BadGrantType},
		{"refresh token in the URL", "", "grant_type=refresh_token&client_id=client", func(r *http.Request) { r.URL.RawQuery = "refresh_token=x" }, 400, "invalid_request", oauthtest.BadRequest},
		{"secret in the URL", "s", "grant_type=refresh_token&client_id=client&refresh_token=RT", func(r *http.Request) { r.URL.RawQuery = "client_secret=s" }, 400, "invalid_request", oauthtest.BadRequest},
		{"malformed query", "", "grant_type=refresh_token&client_id=client&refresh_token=RT", func(r *http.Request) { r.URL.RawQuery = "a=%zz" }, 400, "invalid_request", oauthtest.BadRequest},
		{"no client", "", "grant_type=refresh_token&refresh_token=RT", nil, 401, "invalid_client", oauthtest.BadClient},
		{"other client", "", "grant_type=refresh_token&refresh_token=RT&client_id=other", nil, 401, "invalid_client", oauthtest.BadClient},
		{"secret of a public client", "", "grant_type=refresh_token&refresh_token=RT&client_id=client&client_secret=x", nil, 401, "invalid_client", oauthtest.BadClient},
		{"basic of a public client", "", "grant_type=refresh_token&refresh_token=RT", func(r *http.Request) { r.SetBasicAuth("client", "") }, 401, "invalid_client", oauthtest.BadClient},
		{"no secret", "s", "grant_type=refresh_token&refresh_token=RT&client_id=client", nil, 401, "invalid_client", oauthtest.BadClient},
		{"wrong secret", "s", "grant_type=refresh_token&refresh_token=RT&client_id=client&client_secret=t", nil, 401, "invalid_client", oauthtest.BadClient},
		{"wrong basic secret", "s", "grant_type=refresh_token&refresh_token=RT", func(r *http.Request) { r.SetBasicAuth("client", "t") }, 401, "invalid_client", oauthtest.BadClient},
		{"basic without form-encoding", "a%zz", "grant_type=refresh_token&refresh_token=RT", func(r *http.Request) { r.SetBasicAuth("client", "a%zz") }, 401, "invalid_client", oauthtest.BadClient},
		{"two methods", "s", "grant_type=refresh_token&refresh_token=RT&client_id=client&client_secret=s", func(r *http.Request) { r.SetBasicAuth("client", "s") }, 400, "invalid_request", oauthtest.BadRequest},
		{"two client IDs", "s", "grant_type=refresh_token&refresh_token=RT&client_id=other", func(r *http.Request) { r.SetBasicAuth("client", "s") }, 400, "invalid_request", oauthtest.BadRequest},
		{"two headers", "s", "grant_type=refresh_token&refresh_token=RT", func(r *http.Request) {
			r.SetBasicAuth("client", "s")
			r.Header.Add("Authorization", r.Header.Get("Authorization"))
		}, 401, "invalid_client", oauthtest.BadClient},
		{"bearer", "s", "grant_type=refresh_token&refresh_token=RT", func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, 401, "invalid_client", oauthtest.BadClient},
		{"client credentials of a public client", "", "grant_type=client_credentials&client_id=client", nil, 400, "unauthorized_client", oauthtest.BadClient},
		{"unknown refresh token", "", "grant_type=refresh_token&client_id=client&refresh_token=never-issued", nil, 400, "invalid_grant", oauthtest.UnknownToken},
	}
	for _, tt := range tests {
		bubble(t, tt.name, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{ClientSecret: tt.secret})
			rt := srv.Login("alice").RefreshToken
			req, err := http.NewRequest("POST", srv.TokenURL(), strings.NewReader(strings.ReplaceAll(tt.body, "RT", rt)))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", form)
			if tt.change != nil {
				tt.change(req)
			}
			r, err := do(srv.Client(), req)
			if err != nil {
				t.Fatal(err)
			}
			if r.status != tt.status || r.member(t, "error") != tt.code {
				t.Fatalf("%d %s, want %d %s", r.status, r.body, tt.status, tt.code)
			}
			if e := srv.Log()[0]; e.Outcome != tt.outcome || e.Status != tt.status || e.Order != 1 {
				t.Fatalf("log: %+v", e)
			}
			if r.status == 401 && !strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Basic ") {
				t.Fatal("401 without a challenge")
			}
			if !srv.Alive(rt) {
				t.Fatal("a refused request spent the refresh token")
			}
			if strings.Contains(r.body, rt) {
				t.Fatal("the refresh token is in the answer")
			}
		})
	}
}

func TestClientAuthenticationWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{ClientSecret: "a+b:c%"})
		for name, req := range map[string]*http.Request{
			"body": formRequest(t, srv.TokenURL(), url.Values{
				"grant_type": {"refresh_token"}, "refresh_token": {srv.Login("a").RefreshToken},
				"client_id": {"client"}, "client_secret": {"a+b:c%"}}),
			"basic": formRequest(t, srv.TokenURL(), url.Values{
				"grant_type": {"refresh_token"}, "refresh_token": {srv.Login("a").RefreshToken}}),
			"basic with client_id": formRequest(t, srv.TokenURL()+"?tenant=1", refreshForm(srv.Login("a").RefreshToken)),
		} {
			if name != "body" {
				req.SetBasicAuth("client", url.QueryEscape("a+b:c%"))
			}
			r, err := do(srv.Client(), req)
			if err != nil || r.status != 200 {
				t.Errorf("%s: %v %+v", name, err, r)
			}
			if r.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: Cache-Control %q", name, r.header.Get("Cache-Control"))
			}
		}
		req := formRequest(t, srv.TokenURL(), url.Values{"grant_type": {"client_credentials"}, "scope": {"read"},
			"resource": {"https://a", "https://b"}})
		req.SetBasicAuth("client", url.QueryEscape("a+b:c%"))
		r, err := do(srv.Client(), req)
		if err != nil || r.status != 200 || r.member(t, "refresh_token") != "" || r.member(t, "scope") != "read" {
			t.Fatalf("client_credentials: %v %+v", err, r)
		}
		if r := callAPI(t, srv, "x?scope=read", r.member(t, "access_token")); r.status != 200 || r.member(t, "subject") != "client" {
			t.Fatalf("API: %+v", r)
		}
		if srv.Stats().ClientCredentials != 1 {
			t.Fatalf("stats: %+v", srv.Stats())
		}
	})
}

func TestRevocation(t *testing.T) {
	revoke := func(t *testing.T, srv *oauthtest.Server, form url.Values) reply {
		r, err := do(srv.Client(), formRequest(t, srv.RevocationURL(), form))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		a, b := srv.Login("a"), srv.Login("b")
		if r := revoke(t, srv, url.Values{"token": {a.RefreshToken}, "token_type_hint": {"refresh_token"}, "client_id": {"client"}}); r.status != 200 {
			t.Fatalf("%+v", r)
		}
		if srv.Alive(a.RefreshToken) || srv.AccessAlive(a.AccessToken) {
			t.Fatal("a revoked session lives")
		}
		if r := revoke(t, srv, url.Values{"token": {b.AccessToken}, "client_id": {"client"}}); r.status != 200 {
			t.Fatalf("%+v", r)
		}
		if !srv.Alive(b.RefreshToken) || srv.AccessAlive(b.AccessToken) {
			t.Fatal("want the access token dead, alone")
		}
		if r := revoke(t, srv, url.Values{"token": {"unknown"}, "client_id": {"client"}}); r.status != 200 {
			t.Fatalf("unknown token: %+v", r)
		}
		if r := revoke(t, srv, url.Values{"token": {a.RefreshToken}, "client_id": {"client"}}); r.status != 200 {
			t.Fatalf("again: %+v", r)
		}
		if r := revoke(t, srv, url.Values{"token": {b.RefreshToken}}); r.status != 401 || !srv.Alive(b.RefreshToken) {
			t.Fatalf("without a client: %+v", r)
		}
		if r := revoke(t, srv, url.Values{"client_id": {"client"}}); r.status != 400 {
			t.Fatalf("without a token: %+v", r)
		}
		if st := srv.Stats(); st.RevocationRequests != 6 || st.Revocations != 2 || st.BadClients != 1 {
			t.Fatalf("stats: %+v", st)
		}
	})
}

func TestAPIIsStrict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		at := srv.Login("alice").AccessToken
		tests := []struct {
			name      string
			path      string
			headers   []string
			status    int
			challenge string
		}{
			{"good", "x", []string{"Bearer " + at}, 200, ""},
			{"none", "x", nil, 401, `Bearer realm="oauthtest"`},
			{"other scheme", "x", []string{"Basic Zm9vOmJhcg=="}, 401, `Bearer realm="oauthtest"`},
			{"unknown", "x", []string{"Bearer unknown"}, 401, `Bearer realm="oauthtest", error="invalid_token", error_description="The token is not live"`},
			{"twice", "x", []string{"Bearer " + at, "Bearer " + at}, 400, `Bearer realm="oauthtest", error="invalid_request"`},
			{"lower case", "x", []string{"bearer " + at}, 400, `Bearer realm="oauthtest", error="invalid_request"`},
			{"two spaces", "x", []string{"Bearer  " + at}, 400, `Bearer realm="oauthtest", error="invalid_request"`},
			{"in the URL", "x?access_token=" + at, []string{"Bearer " + at}, 400, `Bearer realm="oauthtest", error="invalid_request"`},
		}
		for _, tt := range tests {
			req := apiRequest(t, srv, tt.path, "")
			if tt.headers != nil {
				req.Header["Authorization"] = tt.headers
			}
			r, err := do(srv.Client(), req)
			if err != nil || r.status != tt.status || r.header.Get("WWW-Authenticate") != tt.challenge {
				t.Errorf("%s: %v %d %v", tt.name, err, r.status, r.header)
			}
		}
		if st := srv.Stats(); st.APIUnauthorized != 3 || st.BadRequests != 4 || st.APIServed != 1 {
			t.Errorf("stats: %+v", st)
		}
	})
}

func TestAPIProvesBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		at := srv.Login("alice").AccessToken
		text := strings.Repeat("body ", 100_000) // larger than any buffer on the way
		sum := sha256.Sum256([]byte(text))
		digest := hex.EncodeToString(sum[:])
		send := func(body io.Reader, checksum string) reply {
			req, err := http.NewRequest("PUT", srv.APIURL("x"), body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+at)
			req.Header.Set(oauthtest.ChecksumHeader, checksum)
			r, err := do(srv.Client(), req)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		for name, body := range map[string]io.Reader{"known length": strings.NewReader(text), "unknown length": io.MultiReader(strings.NewReader(text))} {
			r := send(body, digest)
			if r.status != 200 || r.member(t, "sha256") != digest || r.member(t, "method") != "PUT" ||
				r.member(t, "subject") != "alice" || !strings.Contains(r.body, `"length":500000`) {
				t.Fatalf("%s: %+v", name, r)
			}
		}
		if r := send(strings.NewReader(text[1:]), digest); r.status != 400 || r.member(t, "error") != "damaged_body" {
			t.Fatalf("damaged body: %+v", r)
		}
		log := srv.Log()
		if e := log[len(log)-1]; e.Outcome != oauthtest.DamagedBody || e.BodyLength != 499_999 {
			t.Fatalf("log: %+v", e)
		}
		req, err := http.NewRequest("PUT", srv.APIURL("x"), io.MultiReader(strings.NewReader(text)))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = 500_001
		req.Header.Set("Authorization", "Bearer "+at)
		if r, err := do(srv.Client(), req); err != nil || r.status != 400 || r.member(t, "error") != "damaged_body" {
			t.Fatalf("short body: %v %+v", err, r)
		}
		if srv.Stats().DamagedBodies != 2 {
			t.Fatalf("stats: %+v", srv.Stats())
		}
	})
}

func TestOtherPlaces(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{})
	for path, status := range map[string]int{"/login": 200, "/": 404, "/tokens": 404, "/apis/x": 404} {
		req, err := http.NewRequest("GET", srv.BaseURL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := do(srv.Client(), req)
		if err != nil || r.status != status {
			t.Errorf("%s: %v %d", path, err, r.status)
		}
		if status == 200 && !strings.HasPrefix(r.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: %v", path, r.header)
		}
	}
}
