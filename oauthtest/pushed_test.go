package oauthtest_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/oauthtest"
)

// push leaves an authorization request at the server.
func push(t *testing.T, srv *oauthtest.Server, changes ...string) reply {
	t.Helper()
	r, err := do(srv.Client(), formRequest(t, srv.PushedAuthorizationURL(), loginQuery(changes...)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pushed is the request_uri of a good request.
func pushed(t *testing.T, srv *oauthtest.Server, changes ...string) string {
	t.Helper()
	r := push(t, srv, changes...)
	var answer struct {
		URI     string `json:"request_uri"`
		Seconds int    `json:"expires_in"`
	}
	if err := json.Unmarshal([]byte(r.body), &answer); err != nil || r.status != 201 || answer.Seconds != 60 || !strings.HasPrefix(answer.URI, "urn:ietf:params:oauth:request_uri:") {
		t.Fatalf("%v %+v", err, r)
	}
	return answer.URI
}

func byReference(client, uri string) string {
	return url.Values{"client_id": {client}, "request_uri": {uri}}.Encode()
}

func strictPushes() *oauthtest.Server {
	return oauthtest.New(oauthtest.Options{RequirePushed: true, Scopes: []string{"read"}, OtherClients: map[string]string{"other": "", "web": "s"}})
}

func TestPushedLogin(t *testing.T) {
	bubble(t, "R9126-4: a login whose request is pushed", func(t *testing.T) {
		srv := strictPushes()
		uri := pushed(t, srv, "scope", "read")
		if e := last(srv); e.Endpoint != oauthtest.PushedEndpoint || e.Outcome != oauthtest.RequestIssued || e.Client != "client" ||
			e.IssuedCode != oauthtest.Fingerprint(uri) || e.Scope != "read" || e.Path != "/par" {
			t.Errorf("log %+v", e)
		}
		q := broughtBack(t, authorize(t, srv, byReference("client", uri)))
		if e := last(srv); e.Outcome != oauthtest.CodeIssued || e.Presented != oauthtest.Fingerprint(uri) || e.Client != "client" || q.Get("state") != "xyz" {
			t.Errorf("log %+v, brought back %v", e, q)
		}
		if r := redeem(t, srv, q.Get("code")); r.status != 200 {
			t.Errorf("the code does not serve: %+v", r)
		}
		if st := srv.Stats(); st.PushedRequests != 1 || st.CodeLogins != 1 || st.BadRequests != 0 {
			t.Errorf("stats %+v", st)
		}
	})
	bubble(t, "R9126-4: by a client with a secret", func(t *testing.T) {
		srv := strictPushes()
		uri := pushed(t, srv, "client_id", "web", "client_secret", "s")
		if q := broughtBack(t, authorize(t, srv, byReference("web", uri))); q.Get("code") == "" {
			t.Errorf("brought back %v", q)
		}
	})
	bubble(t, "R9126-4: where it is required nothing else will do", func(t *testing.T) {
		srv := strictPushes()
		if q := broughtBack(t, authorize(t, srv, loginQuery().Encode())); q.Get("error") != "invalid_request" || q.Has("code") || last(srv).Outcome != oauthtest.BadRequest {
			t.Errorf("brought back %v", q)
		}
	})
}

// Every rule of the pushed authorization request endpoint, broken one at a time.
func TestPushedEndpointIsStrict(t *testing.T) {
	for _, tt := range []struct {
		name    string
		changes []string
		status  int
		code    string
	}{
		{"no client", []string{"client_id", ""}, 401, "invalid_client"},
		{"unknown client", []string{"client_id", "unknown"}, 401, "invalid_client"},
		{"a secret", []string{"client_secret", "s"}, 401, "invalid_client"},
		{"no secret", []string{"client_id", "web"}, 401, "invalid_client"},
		{"a request_uri inside", []string{"request_uri", "urn:x"}, 400, "invalid_request"},
		{"another redirect URI", []string{"redirect_uri", "https://evil.test/"}, 400, "invalid_request"},
		{"no redirect URI", []string{"redirect_uri", ""}, 400, "invalid_request"},
		{"no PKCE", []string{"code_challenge", ""}, 400, "invalid_request"},
		{"plain PKCE", []string{"code_challenge_method", "plain"}, 400, "invalid_request"},
		{"another response type", []string{"response_type", "token"}, 400, "unsupported_response_type"},
		{"a secret of another kind", []string{"refresh_token", "x"}, 400, "invalid_request"},
		{"unknown scope", []string{"scope", "admin"}, 400, "invalid_scope"},
		{"malformed resource", []string{"resource", "x"}, 400, "invalid_target"},
	} {
		bubble(t, "R9126-4: "+tt.name, func(t *testing.T) {
			srv := strictPushes()
			if r := push(t, srv, tt.changes...); r.status != tt.status || r.member(t, "error") != tt.code || last(srv).IssuedCode != "" {
				t.Fatalf("%+v", r)
			}
		})
	}
	bubble(t, "R9126-4: GET", func(t *testing.T) {
		srv := strictPushes()
		req := formRequest(t, srv.PushedAuthorizationURL(), loginQuery())
		req.Method = "GET"
		if r, err := do(srv.Client(), req); err != nil || r.status != 405 {
			t.Fatalf("%v %+v", err, r)
		}
	})
	bubble(t, "R9126-4: no client_id beside HTTP Basic", func(t *testing.T) {
		srv := strictPushes()
		req := formRequest(t, srv.PushedAuthorizationURL(), loginQuery("client_id", ""))
		req.SetBasicAuth("web", "s")
		if r, err := do(srv.Client(), req); err != nil || r.status != 400 || r.member(t, "error") != "invalid_request" {
			t.Fatalf("%v %+v", err, r)
		}
	})
}

// A request_uri serves once, for a while, the client that has it.
func TestRequestURIs(t *testing.T) {
	refused := func(t *testing.T, srv *oauthtest.Server, query string, want oauthtest.Outcome) {
		t.Helper()
		if r := authorize(t, srv, query); r.status != 400 || r.header.Get("Location") != "" || last(srv).Outcome != want || last(srv).IssuedCode != "" {
			t.Errorf("%+v, log %+v", r, last(srv))
		}
	}
	bubble(t, "R9126-4: twice", func(t *testing.T) {
		srv := strictPushes()
		uri := pushed(t, srv)
		broughtBack(t, authorize(t, srv, byReference("client", uri)))
		refused(t, srv, byReference("client", uri), oauthtest.Reuse)
	})
	bubble(t, "R9126-4: too late", func(t *testing.T) {
		srv := strictPushes()
		uri := pushed(t, srv)
		time.Sleep(time.Minute)
		refused(t, srv, byReference("client", uri), oauthtest.Expired)
	})
	bubble(t, "R9126-4: another client's, unknown, and with more beside it", func(t *testing.T) {
		srv := strictPushes()
		uri := pushed(t, srv)
		refused(t, srv, byReference("other", uri), oauthtest.Mismatch)
		refused(t, srv, byReference("client", uri+"x"), oauthtest.UnknownToken)
		refused(t, srv, byReference("client", ""), oauthtest.UnknownToken)
		refused(t, srv, byReference("client", uri)+"&scope=read", oauthtest.BadRequest)
		refused(t, srv, url.Values{"request_uri": {uri}}.Encode(), oauthtest.BadRequest)
		refused(t, srv, byReference("client", uri)+"&"+byReference("client", uri), oauthtest.BadRequest)
		broughtBack(t, authorize(t, srv, byReference("client", uri))) // none of which has spent it
	})
}

func TestPushedCatalogue(t *testing.T) {
	for _, f := range oauthtest.BadPushedAnswers() {
		if f.Name == "endless" {
			continue // see TestEndlessBodies
		}
		bubble(t, f.Name, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{})
			srv.Pushed.Next(f)
			c := srv.Client()
			c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			r, err := do(c, formRequest(t, srv.PushedAuthorizationURL(), loginQuery()))
			var answer struct {
				URI     string `json:"request_uri"`
				Seconds int    `json:"expires_in"`
				Error   string `json:"error"`
			}
			once := strings.Count(r.body, `"request_uri"`) == 1
			if err != nil || r.status == 201 && json.Unmarshal([]byte(r.body), &answer) == nil && once && !strings.Contains(answer.URI, "\x1b") && answer.URI != "" && answer.Seconds > 0 {
				t.Errorf("usable: %v %+v", err, r)
			}
			if last(srv).Fault != f.Name {
				t.Errorf("log %+v", last(srv))
			}
			pushed(t, srv) // once is enough
		})
	}
}
