package oauthtest_test

import (
	"crypto"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/oauthtest"
)

// Each rule of the two grants, broken alone, is a refusal.
func TestGrants(t *testing.T) {
	const bearer, exchange = "urn:ietf:params:oauth:grant-type:jwt-bearer", "urn:ietf:params:oauth:grant-type:token-exchange"
	const access, jwt = "urn:ietf:params:oauth:token-type:access_token", "urn:ietf:params:oauth:token-type:jwt"
	key, other := newECKey(t), newECKey(t)
	by := func(name string, value any) func(*testing.T) string {
		return func(t *testing.T) string {
			return sign(t, key, "JWT", "", map[string]any{"iss": "robot", "sub": "alice", name: value})
		}
	}
	assertion := func(f func(*testing.T) string) func(*testing.T, *oauthtest.Server) url.Values {
		return func(t *testing.T, _ *oauthtest.Server) url.Values {
			return url.Values{"grant_type": {bearer}, "assertion": {f(t)}}
		}
	}
	of := func(edit url.Values) func(*testing.T, *oauthtest.Server) url.Values {
		return func(t *testing.T, srv *oauthtest.Server) url.Values {
			form := url.Values{"grant_type": {exchange}, "subject_token": {srv.Login("alice").AccessToken}, "subject_token_type": {access}}
			for name, values := range edit {
				if form[name] = values; values == nil {
					delete(form, name)
				}
			}
			return form
		}
	}
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for name, test := range map[string]struct {
		form func(*testing.T, *oauthtest.Server) url.Values
		code string // "": granted
	}{
		"an assertion":            {assertion(by("x", 1)), ""},
		"for the token endpoint":  {assertion(by("aud", "https://oauth.test/token")), ""},
		"no assertion":            {assertion(func(*testing.T) string { return "" }), "invalid_request"},
		"no JWT":                  {assertion(func(*testing.T) string { return "x" }), "invalid_grant"},
		"another issuer":          {assertion(by("iss", "x")), "invalid_grant"},
		"another audience":        {assertion(by("aud", "https://x.test")), "invalid_grant"},
		"no subject":              {assertion(by("sub", nil)), "invalid_grant"},
		"no jti":                  {assertion(by("jti", nil)), "invalid_grant"},
		"expired":                 {assertion(by("exp", in(-time.Second))), "invalid_grant"},
		"too long":                {assertion(by("exp", in(2*time.Hour))), "invalid_grant"},
		"from the future":         {assertion(by("iat", in(time.Hour))), "invalid_grant"},
		"another key":             {assertion(func(t *testing.T) string { return sign(t, other, "JWT", "", map[string]any{"iss": "robot"}) }), "invalid_grant"},
		"an exchange":             {of(nil), ""},
		"an actor":                {of(url.Values{"actor_token": {by("x", 1)(t)}, "actor_token_type": {jwt}}), ""},
		"a JWT":                   {of(url.Values{"subject_token": {by("x", 1)(t)}, "subject_token_type": {jwt}}), ""},
		"a resource":              {of(url.Values{"resource": {"https://a.test/", "urn:b:c"}, "audience": {"a", "b"}}), ""},
		"no subject token":        {of(url.Values{"subject_token": nil}), "invalid_request"},
		"no subject token type":   {of(url.Values{"subject_token_type": nil}), "invalid_request"},
		"another type":            {of(url.Values{"subject_token_type": {jwt}}), "invalid_request"},
		"an unknown type":         {of(url.Values{"subject_token_type": {"urn:x:y"}}), "invalid_request"},
		"an actor without a type": {of(url.Values{"actor_token": {by("x", 1)(t)}}), "invalid_request"},
		"a type without an actor": {of(url.Values{"actor_token_type": {jwt}}), "invalid_request"},
		"a wrong actor":           {of(url.Values{"actor_token": {"x"}, "actor_token_type": {jwt}}), "invalid_request"},
		"another token":           {of(url.Values{"subject_token": {"x"}}), "invalid_request"},
		"a relative resource":     {of(url.Values{"resource": {"/api"}}), "invalid_target"},
		"a fragment":              {of(url.Values{"resource": {"https://a.test/#x"}}), "invalid_target"},
		"a type to ask for":       {of(url.Values{"requested_token_type": {"urn:x:y"}}), "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{Grants: oauthtest.Grants{Exchange: true, Issuers: map[string]crypto.PublicKey{"robot": key.Public()}}})
			form := test.form(t, srv)
			form.Set("client_id", "client")
			if form.Get("assertion") == "" {
				form.Del("assertion")
			}
			status, answer := postForm(t, srv, form)
			if code, _ := answer["error"].(string); code != test.code || (status == 200) != (test.code == "") {
				t.Fatalf("got %d %s", status, code)
			}
			_, typed := answer["issued_token_type"]
			if granted := test.code == ""; granted && typed != (form.Get("grant_type") == exchange) || answer["refresh_token"] != nil {
				t.Errorf("the answer has the members of another grant")
			}
			if got := srv.Stats(); got.JWTBearers+got.Exchanges != map[bool]int{true: 1}[test.code == ""] {
				t.Errorf("%d, %d were granted", got.JWTBearers, got.Exchanges)
			}
			if status != 200 || form.Get("grant_type") != bearer {
				return
			}
			if status, _ := postForm(t, srv, form); status != 400 || srv.Stats().ReplayedAssertions != 1 {
				t.Errorf("an assertion that is used again: %d", status)
			}
		})
	}
	t.Run("without Options.Grants", func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		for _, grant := range []string{bearer, exchange} {
			if _, answer := postForm(t, srv, url.Values{"grant_type": {grant}, "client_id": {"client"}}); answer["error"] != "unsupported_grant_type" {
				t.Errorf("%s: %v", grant, answer["error"])
			}
		}
	})
	t.Run("metadata", func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{Grants: oauthtest.Grants{Exchange: true}})
		resp, err := srv.Client().Get(srv.BaseURL() + "/.well-known/oauth-authorization-server")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var m struct {
			Grants []string `json:"grant_types_supported"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&m); err != nil || !slices.Contains(m.Grants, exchange) || slices.Contains(m.Grants, bearer) {
			t.Errorf("%v, %v", m.Grants, err)
		}
	})
}

func postForm(t *testing.T, srv *oauthtest.Server, form url.Values) (status int, answer map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.TokenURL(), strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}
