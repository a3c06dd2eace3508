package discovery_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken/discovery"
)

const as = "https://as.test"

var endpoints = map[string]func(*discovery.Metadata) string{
	"authorization_endpoint":                func(m *discovery.Metadata) string { return m.AuthorizationEndpoint },
	"token_endpoint":                        func(m *discovery.Metadata) string { return m.TokenEndpoint },
	"device_authorization_endpoint":         func(m *discovery.Metadata) string { return m.DeviceAuthorizationEndpoint },
	"pushed_authorization_request_endpoint": func(m *discovery.Metadata) string { return m.PushedAuthorizationRequestEndpoint },
	"revocation_endpoint":                   func(m *discovery.Metadata) string { return m.RevocationEndpoint },
	"end_session_endpoint":                  func(m *discovery.Metadata) string { return m.EndSessionEndpoint },
	"userinfo_endpoint":                     func(m *discovery.Metadata) string { return m.UserinfoEndpoint },
	"jwks_uri":                              func(m *discovery.Metadata) string { return m.JWKSURI },
}

var lists = map[string]func(*discovery.Metadata) []string{
	"scopes_supported":                           func(m *discovery.Metadata) []string { return m.ScopesSupported },
	"response_types_supported":                   func(m *discovery.Metadata) []string { return m.ResponseTypesSupported },
	"grant_types_supported":                      func(m *discovery.Metadata) []string { return m.GrantTypesSupported },
	"token_endpoint_auth_methods_supported":      func(m *discovery.Metadata) []string { return m.TokenEndpointAuthMethodsSupported },
	"revocation_endpoint_auth_methods_supported": func(m *discovery.Metadata) []string { return m.RevocationEndpointAuthMethodsSupported },
	"id_token_signing_alg_values_supported":      func(m *discovery.Metadata) []string { return m.IDTokenSigningAlgValuesSupported },
	"code_challenge_methods_supported":           func(m *discovery.Metadata) []string { return m.CodeChallengeMethodsSupported },
}

var flags = map[string]func(*discovery.Metadata) bool{
	"authorization_response_iss_parameter_supported": func(m *discovery.Metadata) bool { return m.AuthorizationResponseIssParameterSupported },
	"require_pushed_authorization_requests":          func(m *discovery.Metadata) bool { return m.RequirePushedAuthorizationRequests },
}

func parse(t *testing.T, members ...string) *discovery.Metadata {
	t.Helper()
	m, err := discovery.Parse([]byte(doc(as, members...)), as, false)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// refused checks that a document is refused whole, by a text that names the
// member and shows nothing of it.
func refused(t *testing.T, name string, members ...string) {
	t.Helper()
	m, err := discovery.Parse([]byte(doc(as, members...)), as, false)
	if err == nil || m != nil {
		t.Fatalf("accepted: %s", members)
	}
	wantError(t, fmt.Errorf("discovery: %w", err), discovery.ErrInvalid, " "+name+" ", "write the endpoints")
}

func TestMembers(t *testing.T) {
	t.Run("R8414-2: a document of nothing but the issuer", func(t *testing.T) {
		m := parse(t)
		for name, of := range endpoints {
			if got := of(m); got != "" {
				t.Errorf("%s: %q", name, got)
			}
		}
		for name, of := range lists {
			if got := of(m); got != nil {
				t.Errorf("%s: %q", name, got)
			}
		}
		for name, of := range flags {
			if of(m) {
				t.Errorf("%s is true", name)
			}
		}
	})
}

func TestEndpoints(t *testing.T) {
	for name, of := range endpoints {
		t.Run("R8414-2: "+name, func(t *testing.T) {
			want := as + "/" + name + "?tenant=1"
			if got := of(parse(t, fmt.Sprintf("%q: %q", name, want))); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			for _, none := range []string{`""`, "null"} {
				if got := of(parse(t, fmt.Sprintf("%q: %s", name, none))); got != "" {
					t.Errorf("%s: got %q", none, got)
				}
			}
			for _, odd := range []string{"1", "true", "{}", `["` + want + `"]`} {
				refused(t, name, fmt.Sprintf("%q: %s", name, odd))
			}
			refused(t, name, fmt.Sprintf("%q: %q", name, want), fmt.Sprintf("%q: %q", name, want))
			refused(t, name, fmt.Sprintf("%q: %q", name, want), fmt.Sprintf(`"\u00%x%s": "https://%s.test"`, name[0], name[1:], canary))
			refused(t, name, fmt.Sprintf("%q: null", name), fmt.Sprintf("%q: %q", name, want))
			if got := of(parse(t, fmt.Sprintf("%q: %q", name, want), fmt.Sprintf("%q: %q", strings.ToUpper(name), "https://evil.test"))); got != want {
				t.Errorf("a name in capitals counts: %q", got)
			}
			refused(t, name, fmt.Sprintf("%q: %q", name, "http://"+canary+".test/token"))
		})
	}
}

func TestListsAndFlags(t *testing.T) {
	for name, of := range lists {
		t.Run("R8414-2: "+name, func(t *testing.T) {
			for value, want := range map[string][]string{`["a", "B c", ""]`: {"a", "B c", ""}, "[]": {}, "null": nil} {
				if got := of(parse(t, fmt.Sprintf("%q: %s", name, value))); !reflect.DeepEqual(got, want) {
					t.Errorf("%s: got %#v, want %#v", value, got, want)
				}
			}
			for _, odd := range []string{`"` + canary + `"`, "1", "{}", `["` + canary + `", 1]`, `[null]`, `[["` + canary + `"]]`} {
				refused(t, name, fmt.Sprintf("%q: %s", name, odd))
			}
			refused(t, name, fmt.Sprintf(`%q: ["a"]`, name), fmt.Sprintf(`%q: ["a"]`, name))
		})
	}
	for name, of := range flags {
		t.Run("R8414-2: "+name, func(t *testing.T) {
			for value, want := range map[string]bool{"true": true, "false": false, "null": false} {
				if got := of(parse(t, fmt.Sprintf("%q: %s", name, value))); got != want {
					t.Errorf("%s: got %v", value, got)
				}
			}
			for _, odd := range []string{`"true"`, "1", "{}", "[true]"} {
				refused(t, name, fmt.Sprintf("%q: %s", name, odd))
			}
			refused(t, name, fmt.Sprintf("%q: true", name), fmt.Sprintf("%q: true", name))
		})
	}
}

func TestOddIssuers(t *testing.T) {
	t.Run("R8414-3.3: issuer", func(t *testing.T) {
		refused(t, "issuer", `"issuer": "https://as.test"`)
		refused(t, "issuer", `"issuer": "https://evil.test"`)
		for _, odd := range []string{"1", "{}", `["https://as.test"]`} {
			_, err := discovery.Parse([]byte(`{"issuer": `+odd+"}"), as, false)
			wantError(t, fmt.Errorf("discovery: %w", err), discovery.ErrInvalid, " issuer ")
		}
	})
}

func TestEndpointURLs(t *testing.T) {
	for raw, says := range map[string]string{
		"http://as.test/token":             "plain http",
		"http://10.0.0.1/token":            "plain http",
		"HTTP://as.test/token":             "plain http",
		"http://localhost.as.test/token":   "plain http",
		"http://127.0.0.1@as.test/token":   "user or password",
		"https://u:p@as.test/token":        "user or password",
		"https://@as.test/token":           "user or password",
		"https://as.test/token#f":          "fragment",
		"https://as.test/token#":           "fragment",
		"javascript:alert(1)":              "absolute",
		"javascript://as.test/%0aalert(1)": "not https",
		"data:text/html,x":                 "absolute",
		"file:///etc/passwd":               "absolute",
		"ftp://as.test/token":              "not https",
		"/token":                           "absolute",
		"//as.test/token":                  "not https",
		"token":                            "absolute",
		"https:///token":                   "absolute",
		"https://:443/token":               "absolute",
		"https://as.test:port/token":       "absolute",
		"https://as.test\\\\.evil.test/":   "absolute",
		" https://as.test/token":           "unescaped",
		"https://as.test/to ken":           "unescaped",
		"https://as.test/to\\nken":         "unescaped",
		"https://as.test/\u202enekot":      "unescaped",
		"https://\u0430s.test/token":       "unescaped",
	} {
		t.Run("R8414-2: refused as an endpoint: "+raw, func(t *testing.T) {
			for name := range endpoints {
				_, err := discovery.Parse([]byte(doc(as, fmt.Sprintf(`%q: "%s"`, name, raw))), as, false)
				if err == nil {
					t.Fatalf("accepted as %s", name)
				}
				wantError(t, fmt.Errorf("discovery: %w", err), discovery.ErrInvalid, says, name)
			}
		})
	}
	for raw, insecure := range map[string]bool{
		"https://elsewhere.test:8443/x/y?z=1": false, // another host is common
		"HTTPS://as.test":                     false,
		"http://localhost:8080/token":         false,
		"http://127.1.2.3/token":              false,
		"http://[::1]/token":                  false,
		"http://as.test/token":                true,
		"http://10.0.0.1/token":               true,
	} {
		t.Run(fmt.Sprintf("R8414-2: accepted as an endpoint, insecure %v: %s", insecure, raw), func(t *testing.T) {
			for name, of := range endpoints {
				m, err := discovery.Parse([]byte(doc(as, fmt.Sprintf(`%q: %q`, name, raw))), as, insecure)
				if err != nil || of(m) != raw {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

func TestMember(t *testing.T) {
	m := parse(t, `"registration_endpoint": "javascript:x"`, `"n": {"a": [1]}`, `"no": null`, `"twice": 1`, `"twice": 2`, `"token_endpoint": "https://as.test/t"`)
	for name, want := range map[string]string{
		"registration_endpoint": `"javascript:x"`, "n": `{"a": [1]}`, "no": "null", "token_endpoint": `"https://as.test/t"`, "issuer": `"https://as.test"`,
	} {
		if got := string(m.Member(name)); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	for _, name := range []string{"twice", "N", "", "registration"} {
		if got := m.Member(name); got != nil {
			t.Errorf("%s: got %s, want nil", name, got)
		}
	}
	clear(m.Member("n"))
	if got := string(m.Member("n")); got != `{"a": [1]}` {
		t.Errorf("the caller has changed it: %q", got)
	}
	if got := new(discovery.Metadata).Member("issuer"); got != nil {
		t.Errorf("of nothing: %s", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(doc(as)))
	f.Add([]byte(doc(as, `"token_endpoint": "https://as.test/token"`, `"jwks_uri": "https://as.test/jwks"`, `"scopes_supported": ["a", "offline_access"]`)))
	f.Add([]byte(doc(as, `"token_endpoint": "http://127.0.0.1:1/token"`, `"authorization_response_iss_parameter_supported": true`)))
	f.Add([]byte(doc(as, `"x": 1`, `"TOKEN_ENDPOINT": "http://evil.test"`, `"token_endpoint": null`)))
	f.Add([]byte(doc("https://evil.test\x1b")))
	f.Add([]byte(`[{"issuer": "https://as.test"}]`))
	f.Add([]byte(`{"issuer": "https://as.test", "a": {"b": [[[{}]]]}, "token_endpoint": "javascript:x"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := discovery.Parse(data, as, false)
		if err != nil {
			if m != nil {
				t.Error("an error and a document")
			}
			if len(err.Error()) > 1000 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < 0x20 || r > 0x7e }) {
				t.Errorf("an error that shows too much: %q", err)
			}
			return
		}
		if m.Issuer != as {
			t.Fatalf("the document of %q", m.Issuer)
		}
		for name, of := range endpoints {
			got := of(m)
			if got == "" {
				continue
			}
			if u, err := discovery.CheckURL(got, false); err != nil || u.Scheme != "https" && u.Hostname() == "as.test" {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		// What encoding/json makes of it, with the names compared exactly.
		var all map[string]json.RawMessage
		if err := json.Unmarshal([]byte(strings.TrimPrefix(string(data), "\ufeff")), &all); err != nil {
			t.Fatalf("accepted what is not JSON: %v", err)
		}
		for name, value := range all {
			if got := m.Member(name); got != nil && string(got) != string(value) {
				t.Errorf("member %q is %s, not %s", name, got, value)
			}
		}
		for name, of := range endpoints {
			want := ""
			if raw := all[name]; raw != nil {
				json.Unmarshal(raw, &want)
			}
			if got := of(m); got != want {
				t.Errorf("%s is %q, not %q", name, got, want)
			}
		}
	})
}
