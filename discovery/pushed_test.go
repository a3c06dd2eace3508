package discovery_test

import (
	"testing"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/discovery"
	"github.com/freshtoken/freshtoken/grant"
	"golang.org/x/oauth2"
)

func TestPushedAuthorizationURL(t *testing.T) {
	const (
		required = `"require_pushed_authorization_requests": true`
		offered  = `"pushed_authorization_request_endpoint": "https://as.test/par"`
		aliased  = `"mtls_endpoint_aliases": {"pushed_authorization_request_endpoint": "https://mtls.as.test/par"}`
	)
	mutual := proof{MutualTLS: true}
	for name, test := range map[string]struct {
		members []string
		auth    freshtoken.ClientAuthenticator
		own     string // of the program
		want    string
	}{
		"R9126-4: where the server requires it":                      {[]string{required, offered, aliased}, nil, "", "https://as.test/par"},
		"R9126-4: not where it only offers it":                       {[]string{offered, aliased}, mutual, "", ""},
		"R9126-4: nor where it says that it does not":                {[]string{offered, `"require_pushed_authorization_requests": false`}, nil, "", ""},
		"R9126-4: what the program has set stays":                    {[]string{required, offered, aliased}, mutual, "https://own.test/par", "https://own.test/par"},
		"R9126-4: also where nothing is required":                    {[]string{offered}, nil, "https://own.test/par", "https://own.test/par"},
		"R9126-4: or no endpoint is named":                           {[]string{required}, nil, "https://own.test/par", "https://own.test/par"},
		"R9126-4 R8705-2: the alias for a client with a certificate": {[]string{required, offered, aliased}, mutual, "", "https://mtls.as.test/par"},
		"R9126-4 R8705-2: an alias alone":                            {[]string{required, aliased}, mutual, "", "https://mtls.as.test/par"},
		"R9126-4 R8705-2: no alias":                                  {[]string{required, offered}, mutual, "", "https://as.test/par"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app"}, ClientAuth: test.auth, PushedAuthorizationURL: test.own}
			if _, err := configure(t, &cfg, append(test.members, everything...)...); err != nil {
				t.Fatal(err)
			}
			if cfg.PushedAuthorizationURL != test.want {
				t.Errorf("got %q, want %q", cfg.PushedAuthorizationURL, test.want)
			}
			accepted(t, cfg)
		})
	}
	for name, members := range map[string][]string{
		"R9126-4: required, and nowhere to be had":                {required},
		"R9126-4: required, and to be had with certificates only": {required, aliased},
		"R9126-4: an endpoint in the clear":                       {required, `"pushed_authorization_request_endpoint": "http://as.test/par"`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app"}}
			_, err := configure(t, &cfg, append(members, everything...)...)
			wantError(t, err, discovery.ErrInvalid, "pushed_authorization_request_endpoint", "ask the server's operator", "write")
		})
	}
	t.Run("R9126-4: which does not matter to a session without a person", func(t *testing.T) {
		cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app"}, Refresher: &grant.ClientCredentials{}}
		if _, err := configure(t, &cfg, append([]string{required}, everything...)...); err != nil {
			t.Error(err)
		}
	})
	t.Run("R9126-4: nor where no login by browser is to be had", func(t *testing.T) {
		cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app"}}
		if _, err := configure(t, &cfg, append([]string{required}, everything[1:]...)...); err != nil {
			t.Error(err)
		}
	})
}
