package discovery_test

import (
	"context"
	"net/url"
	"testing"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/discovery"
	"golang.org/x/oauth2"
)

// proof is a ClientAuthenticator that says what it does, and does nothing.
type proof freshtoken.ClientMethod

func (p proof) AuthenticateClient(context.Context, freshtoken.ClientRequest) (url.Values, error) {
	return nil, nil
}
func (p proof) DescribeClient() freshtoken.ClientMethod { return freshtoken.ClientMethod(p) }

func TestMTLSAliases(t *testing.T) {
	const tokenOnly = `"mtls_endpoint_aliases": {"token_endpoint": "https://mtls.as.test/token"}`
	const all = `"mtls_endpoint_aliases": {"token_endpoint": "https://mtls.as.test/token", "revocation_endpoint": "https://mtls.as.test/revoke",
		"device_authorization_endpoint": "https://mtls.as.test/device", "userinfo_endpoint": "https://mtls.as.test/me",
		"pushed_authorization_request_endpoint": "https://mtls.as.test/par", "authorization_endpoint": "https://mtls.as.test/never", "new": 1}`
	mutual := proof{Names: []string{"tls_client_auth", "self_signed_tls_client_auth"}, MutualTLS: true}
	for name, test := range map[string]struct {
		member                       string
		auth                         freshtoken.ClientAuthenticator
		tokenURL                     string // of the program
		token, device, revoke, login string
	}{
		"R8705-2: aliases for the token endpoint alone": {tokenOnly, mutual, "",
			"https://mtls.as.test/token", "https://as.test/device", "https://elsewhere.test/revoke", "https://as.test/authorize?tenant=1"},
		"R8705-2: aliases for all that are asked directly": {all, mutual, "",
			"https://mtls.as.test/token", "https://mtls.as.test/device", "https://mtls.as.test/revoke", "https://as.test/authorize?tenant=1"},
		"R8705-2: no aliases": {`"mtls_endpoint_aliases": null`, mutual, "",
			"https://as.test/token", "https://as.test/device", "https://elsewhere.test/revoke", "https://as.test/authorize?tenant=1"},
		"R8705-2: what the program has set stays": {all, mutual, "https://own.test/token",
			"https://own.test/token", "https://mtls.as.test/device", "https://mtls.as.test/revoke", "https://as.test/authorize?tenant=1"},
		"R8705-2: an assertion and a certificate": {all, proof{Names: []string{"private_key_jwt"}, MutualTLS: true}, "",
			"https://mtls.as.test/token", "https://mtls.as.test/device", "https://mtls.as.test/revoke", "https://as.test/authorize?tenant=1"},
		"R8705-2: an assertion alone": {all, proof{Names: []string{"private_key_jwt"}}, "",
			"https://as.test/token", "https://as.test/device", "https://elsewhere.test/revoke", "https://as.test/authorize?tenant=1"},
		"R8705-2: neither": {all, nil, "",
			"https://as.test/token", "https://as.test/device", "https://elsewhere.test/revoke", "https://as.test/authorize?tenant=1"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app", Endpoint: oauth2.Endpoint{TokenURL: test.tokenURL}}, ClientAuth: test.auth}
			m, err := configure(t, &cfg, append([]string{test.member}, everything...)...)
			if err != nil {
				t.Fatal(err)
			}
			e := cfg.OAuth2.Endpoint
			if e.TokenURL != test.token || e.DeviceAuthURL != test.device || cfg.RevocationURL != test.revoke || e.AuthURL != test.login {
				t.Errorf("got %+v, %s", e, cfg.RevocationURL)
			}
			if test.member == all && (m.MTLSEndpointAliases.UserinfoEndpoint != "https://mtls.as.test/me" || m.MTLSEndpointAliases.PushedAuthorizationRequestEndpoint != "https://mtls.as.test/par") {
				t.Errorf("got %+v", m.MTLSEndpointAliases)
			}
		})
	}
	for name, member := range map[string]string{
		"R8705-2: an alias in the clear":        `"mtls_endpoint_aliases": {"token_endpoint": "http://mtls.as.test/token"}`,
		"R8705-2: an alias with a user in it":   `"mtls_endpoint_aliases": {"revocation_endpoint": "https://a:b@mtls.as.test/"}`,
		"R8705-2: an alias that is no URL":      `"mtls_endpoint_aliases": {"token_endpoint": "/token"}`,
		"R8705-2: an alias that is there twice": `"mtls_endpoint_aliases": {"token_endpoint": "https://a.test", "token_endpoint": "https://b.test"}`,
		"R8705-2: an alias of a wrong type":     `"mtls_endpoint_aliases": {"token_endpoint": 1}`,
		"R8705-2: aliases of a wrong type":      `"mtls_endpoint_aliases": ["https://mtls.as.test/token"]`,
	} {
		t.Run(name, func(t *testing.T) {
			cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app"}, ClientAuth: mutual}
			_, err := configure(t, &cfg, append([]string{member}, everything...)...)
			wantError(t, err, discovery.ErrInvalid)
		})
	}
}

func TestClientAuthAgainstMetadata(t *testing.T) {
	key := proof{Names: []string{"private_key_jwt"}, Algorithm: "ES256"}
	for name, test := range map[string]struct {
		methods, algorithms string // JSON; "": the member is missing
		auth                freshtoken.ClientAuthenticator
		says                string // of the error; "": none
	}{
		"R8414-2-auth: the method is listed":               {`["none", "private_key_jwt"]`, "", key, ""},
		"R8414-2-auth: it is not":                          {`["client_secret_basic", "none"]`, "", key, "private_key_jwt"},
		"R8414-2-auth: nothing is listed":                  {"", "", key, ""},
		"R8414-2-auth: one of two is listed":               {`["self_signed_tls_client_auth"]`, "", proof{Names: []string{"tls_client_auth", "self_signed_tls_client_auth"}}, ""},
		"R8414-2-auth: neither of two is":                  {`["private_key_jwt"]`, "", proof{Names: []string{"tls_client_auth", "self_signed_tls_client_auth"}}, "tls_client_auth or self_signed_tls_client_auth"},
		"R8414-2-auth: the algorithm is listed":            {`["private_key_jwt"]`, `["PS256", "ES256"]`, key, ""},
		"R8414-2-auth: the algorithm is not":               {`["private_key_jwt"]`, `["PS256"]`, key, "Options.Algorithm"},
		"R8414-2-auth: a certificate has none":             {`["tls_client_auth"]`, `["PS256"]`, proof{Names: []string{"tls_client_auth"}}, ""},
		"R8414-2-auth: one that does not say what it does": {`["none"]`, `["PS256"]`, freshtoken.ClientAuthenticatorFunc(proof{}.AuthenticateClient), ""},
	} {
		t.Run(name, func(t *testing.T) {
			members := everything
			if test.methods != "" {
				members = append([]string{`"token_endpoint_auth_methods_supported": ` + test.methods}, members...)
			}
			if test.algorithms != "" {
				members = append([]string{`"token_endpoint_auth_signing_alg_values_supported": ` + test.algorithms}, members...)
			}
			cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app"}, ClientAuth: test.auth}
			_, err := configure(t, &cfg, members...)
			if test.says != "" {
				wantError(t, err, discovery.ErrClientAuth, test.says, "Config.ClientAuth")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			accepted(t, cfg)
		})
	}
}
