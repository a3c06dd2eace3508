package discovery

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/endpoint"
	"golang.org/x/oauth2"
)

const offlineAccess = "offline_access"

// Configure asks cfg.Issuer for its metadata, with cfg.HTTPClient, and fills
// in what cfg leaves empty:
//
//   - OAuth2.Endpoint: AuthURL, TokenURL, DeviceAuthURL
//   - OAuth2.Endpoint.AuthStyle, if OAuth2 has a ClientSecret and leaves the
//     choice open: HTTP Basic if the server has client_secret_basic or does not
//     say (RFC 8414 section 2), else in the body if it has client_secret_post,
//     else the error is ErrClientAuth. Nothing is tried out.
//   - RevocationURL
//   - PushedAuthorizationURL, if the server requires that logins by browser begin
//     there (RFC 9126 section 5), and not otherwise
//   - RequireIss, if the server names itself in its answers (RFC 9207)
//
// If cfg.ClientAuth presents a certificate, the endpoints are those that the
// server has for such clients, as far as there are any (RFC 8705 section 5). If
// the server lists its methods of authentication, or the algorithms of client
// assertions, and what cfg.ClientAuth does is not among them, the error is
// ErrClientAuth.
//
// It adds the scope offline_access to OAuth2.Scopes if the server lists it and
// Scopes has any: without a refresh token a session ends with its first access
// token. Take it away again if that is what you want. Without Scopes the server
// chooses what to grant, which one scope alone would undo.
//
// What is set stays as it is, and is not checked here; freshtoken.New does. The
// Config that cfg.OAuth2 points to is not written to: cfg gets a changed copy.
// On an error cfg is untouched. No session is read or written.
//
// If cfg.Store is set, the metadata is kept there, and used for a day without
// asking again, and for as long as the server cannot be reached. What the Store
// fails with does not matter here. Configure waits for it for as long as a
// person may need to unlock it, two minutes at most.
//
// OAuth2.ClientID and Issuer are required. Beware of setting Issuer in a
// program that did without: stored sessions are bound to it, and its users
// have to log in again.
//
// The errors are those of [Fetch], and ErrClientAuth; ErrInvalid also if the
// metadata lacks a token endpoint that cfg needs, or requires pushed
// authorization requests without saying where to push them. Nobody else may use cfg
// meanwhile; what cfg.OAuth2 points to may be shared.
func Configure(ctx context.Context, cfg *freshtoken.Config) (*Metadata, error) {
	switch {
	case cfg == nil || cfg.OAuth2 == nil:
		return nil, errors.New("discovery: Config.OAuth2 is nil: set it to an oauth2.Config with the ClientID of your client")
	case cfg.OAuth2.ClientID == "":
		return nil, errors.New("discovery: Config.OAuth2.ClientID is empty: set it to the identifier of your client at the server")
	case cfg.Issuer == "":
		return nil, errors.New("discovery: Config.Issuer is empty: set it to the server's issuer identifier, such as https://login.example.com")
	}
	m, err := ask(ctx, cfg)
	if err != nil {
		return nil, err
	}
	o := *cfg.OAuth2
	o.Scopes = slices.Clone(o.Scopes)
	if len(o.Scopes) > 0 && slices.Contains(m.ScopesSupported, offlineAccess) && !slices.Contains(o.Scopes, offlineAccess) {
		o.Scopes = append(o.Scopes, offlineAccess)
	}
	method, err := m.clientMethod(cfg)
	if err != nil {
		return nil, err
	}
	var alias Aliases
	if method.MutualTLS {
		alias = m.MTLSEndpointAliases
	}
	e := &o.Endpoint
	e.AuthURL = cmp.Or(e.AuthURL, m.AuthorizationEndpoint)
	e.TokenURL = cmp.Or(e.TokenURL, alias.TokenEndpoint, m.TokenEndpoint)
	e.DeviceAuthURL = cmp.Or(e.DeviceAuthURL, alias.DeviceAuthorizationEndpoint, m.DeviceAuthorizationEndpoint)
	if e.TokenURL == "" && cfg.Refresher == nil {
		return nil, fail(ErrInvalid, "token_endpoint is missing: check Config.Issuer, or write Config.OAuth2.Endpoint.TokenURL")
	}
	pushed := cfg.PushedAuthorizationURL
	if m.RequirePushedAuthorizationRequests {
		pushed = cmp.Or(pushed, alias.PushedAuthorizationRequestEndpoint, m.PushedAuthorizationRequestEndpoint)
		if pushed == "" && e.AuthURL != "" && cfg.Refresher == nil { // otherwise nobody logs in there
			return nil, fail(ErrInvalid, "require_pushed_authorization_requests is true, and pushed_authorization_request_endpoint is missing: "+
				"ask the server's operator to correct it, or write Config.PushedAuthorizationURL")
		}
	}
	if o.ClientSecret != "" && e.AuthStyle == oauth2.AuthStyleAutoDetect {
		if e.AuthStyle, err = authStyle(m.TokenEndpointAuthMethodsSupported); err != nil {
			return nil, err
		}
	}
	cfg.OAuth2 = &o
	cfg.RevocationURL = cmp.Or(cfg.RevocationURL, alias.RevocationEndpoint, m.RevocationEndpoint)
	cfg.PushedAuthorizationURL = pushed
	cfg.RequireIss = cfg.RequireIss || m.AuthorizationResponseIssParameterSupported
	return m, nil
}

// clientMethod is what cfg.ClientAuth says that it does, as far as it says so,
// checked against what the server says that it takes.
func (m *Metadata) clientMethod(cfg *freshtoken.Config) (freshtoken.ClientMethod, error) {
	d, ok := cfg.ClientAuth.(freshtoken.ClientDescriber)
	if !ok {
		return freshtoken.ClientMethod{}, nil
	}
	is := d.DescribeClient()
	methods, algorithms := m.TokenEndpointAuthMethodsSupported, m.TokenEndpointAuthSigningAlgValuesSupported
	has := func(all []string) func(string) bool {
		return func(name string) bool { return slices.Contains(all, name) }
	}
	// A server that does not say takes client_secret_basic (RFC 8414 section
	// 2). Many do not say that they take more.
	if len(methods) > 0 && len(is.Names) > 0 && !slices.ContainsFunc(is.Names, has(methods)) {
		return is, fail(ErrClientAuth, "it supports %q, and Config.ClientAuth is %s: use one of the server's, or write its endpoints into the Config if the metadata is wrong",
			endpoint.Sanitize(strings.Join(methods, " "), 200), strings.Join(is.Names, " or "))
	}
	if len(algorithms) > 0 && is.Algorithm != "" && !slices.Contains(algorithms, is.Algorithm) {
		return is, fail(ErrClientAuth, "it takes assertions by %q, and Config.ClientAuth signs by %s: set clientauth.Options.Algorithm, or use a key that goes with one of them",
			endpoint.Sanitize(strings.Join(algorithms, " "), 200), is.Algorithm)
	}
	return is, nil
}

// authStyle chooses how a client with a secret authenticates.
func authStyle(methods []string) (oauth2.AuthStyle, error) {
	switch {
	case len(methods) == 0, slices.Contains(methods, "client_secret_basic"):
		return oauth2.AuthStyleInHeader, nil
	case slices.Contains(methods, "client_secret_post"):
		return oauth2.AuthStyleInParams, nil
	}
	return 0, fail(ErrClientAuth, "it supports %q: leave ClientSecret out if the client is registered without one (none), authenticate in a Config.Refresher of your own, or set Endpoint.AuthStyle if the metadata is wrong",
		endpoint.Sanitize(strings.Join(methods, " "), 200))
}
