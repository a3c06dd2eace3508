package oauthtest_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"testing"

	"github.com/freshtoken/freshtoken/oauthtest"
)

const (
	oauthMetadata  = "/.well-known/oauth-authorization-server"
	openIDMetadata = "/.well-known/openid-configuration"
)

func metadata(t *testing.T, srv *oauthtest.Server, method, path string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, srv.BaseURL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := do(srv.Client(), req)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMetadata(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options oauthtest.Options
		changes map[string]any // of what a server without options says
	}{
		{"public", oauthtest.Options{}, nil},
		{"confidential", oauthtest.Options{ClientSecret: "s"}, map[string]any{
			"token_endpoint_auth_methods_supported":      []any{"client_secret_basic", "client_secret_post"},
			"revocation_endpoint_auth_methods_supported": []any{"client_secret_basic", "client_secret_post"},
			"grant_types_supported":                      []any{"authorization_code", "refresh_token", deviceGrant, "client_credentials"},
		}},
		{"both", oauthtest.Options{OtherClients: map[string]string{"other": "s"}}, map[string]any{
			"token_endpoint_auth_methods_supported":      []any{"client_secret_basic", "client_secret_post", "none"},
			"revocation_endpoint_auth_methods_supported": []any{"client_secret_basic", "client_secret_post", "none"},
			"grant_types_supported":                      []any{"authorization_code", "refresh_token", deviceGrant, "client_credentials"},
		}},
		{"scopes", oauthtest.Options{Scopes: []string{"read", "write"}}, map[string]any{"scopes_supported": []any{"read", "write"}}},
		{"offline_access", oauthtest.Options{Scopes: []string{"read"}, OfflineAccess: oauthtest.OfflineByScope},
			map[string]any{"scopes_supported": []any{"read", "offline_access"}}},
		{"offline_access listed", oauthtest.Options{Scopes: []string{"offline_access", "read"}, OfflineAccess: oauthtest.OfflineByScope},
			map[string]any{"scopes_supported": []any{"offline_access", "read"}}},
		{"R9126-4: pushed requests alone", oauthtest.Options{RequirePushed: true}, map[string]any{"require_pushed_authorization_requests": true}},
		{"no iss", oauthtest.Options{OmitIss: true}, map[string]any{"authorization_response_iss_parameter_supported": false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := oauthtest.New(tt.options)
			want := map[string]any{
				"issuer":                                         "https://oauth.test",
				"authorization_endpoint":                         srv.AuthURL(),
				"token_endpoint":                                 srv.TokenURL(),
				"revocation_endpoint":                            srv.RevocationURL(),
				"device_authorization_endpoint":                  srv.DeviceAuthURL(),
				"pushed_authorization_request_endpoint":          srv.PushedAuthorizationURL(),
				"response_types_supported":                       []any{"code"},
				"response_modes_supported":                       []any{"query"},
				"grant_types_supported":                          []any{"authorization_code", "refresh_token", deviceGrant},
				"token_endpoint_auth_methods_supported":          []any{"none"},
				"revocation_endpoint_auth_methods_supported":     []any{"none"},
				"code_challenge_methods_supported":               []any{"S256"},
				"authorization_response_iss_parameter_supported": true,
			}
			for name, value := range tt.changes {
				want[name] = value
			}
			for _, path := range []string{oauthMetadata, openIDMetadata} {
				r := metadata(t, srv, "GET", path)
				var got map[string]any
				if err := json.Unmarshal([]byte(r.body), &got); err != nil || r.status != 200 || r.header.Get("Content-Type") != "application/json" {
					t.Fatalf("%v %+v", err, r)
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s\n%v, want\n%v", path, got, want)
				}
				if e := last(srv); e.Endpoint != oauthtest.MetadataEndpoint || e.Outcome != oauthtest.Served || e.Path != path {
					t.Errorf("log %+v", e)
				}
			}
		})
	}
}

// All that the metadata says can be asked for is granted with offline_access.
func TestScopesAllowOfflineAccess(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{Scopes: []string{"read"}, OfflineAccess: oauthtest.OfflineByScope})
	if r := redeem(t, srv, codeOf(t, srv, "scope", "read offline_access")); r.member(t, "refresh_token") == "" {
		t.Fatalf("%+v", r)
	}
}

func TestMetadataPlaces(t *testing.T) {
	for place, want := range map[oauthtest.MetadataPlace][2]int{
		oauthtest.MetadataEverywhere: {200, 200},
		oauthtest.MetadataOAuth:      {200, 404},
		oauthtest.MetadataOpenID:     {404, 200},
		oauthtest.MetadataNowhere:    {404, 404},
	} {
		srv := oauthtest.New(oauthtest.Options{Metadata: place})
		got := [2]int{metadata(t, srv, "GET", oauthMetadata).status, metadata(t, srv, "GET", openIDMetadata).status}
		if got != want {
			t.Errorf("place %d: %v, want %v", place, got, want)
		}
		for _, e := range srv.Log() {
			if (e.Outcome == oauthtest.NotFound) != (e.Status == 404) {
				t.Errorf("place %d: log %+v", place, e)
			}
		}
	}
	srv := oauthtest.New(oauthtest.Options{})
	if r := metadata(t, srv, "HEAD", oauthMetadata); r.status != 200 || r.body != "" {
		t.Errorf("HEAD: %+v", r)
	}
	if r := metadata(t, srv, "POST", oauthMetadata); r.status != 405 || r.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %+v", r)
	}
	if r := metadata(t, srv, "GET", oauthMetadata+"/tenant"); r.status != 404 {
		t.Errorf("another issuer's: %+v", r)
	}
	if st := srv.Stats(); st.MetadataRequests != 2 {
		t.Errorf("stats %+v", st)
	}
}

// The listener's address becomes the issuer, to the letter.
func TestIssuerOfListener(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{})
	defer srv.Start()()
	if r := metadata(t, srv, "GET", oauthMetadata); r.member(t, "issuer") != srv.BaseURL() || r.member(t, "token_endpoint") != srv.TokenURL() {
		t.Fatalf("%+v", r)
	}
	if q := broughtBack(t, authorize(t, srv, loginQuery().Encode())); q.Get("iss") != srv.BaseURL() {
		t.Fatalf("brought back %v", q)
	}
}
