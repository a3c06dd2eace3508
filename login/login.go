package login

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/endpoint"
	"golang.org/x/oauth2"
)

// Ensure returns the session's token, and has somebody log in by flow where
// nobody is logged in, or the session has ended. It is Source.Authenticate, which
// tells the rest: one login at a time, for all callers and processes, once it is
// sure that the store takes a session.
func Ensure(ctx context.Context, src *freshtoken.Source, flow freshtoken.Authenticator) (*oauth2.Token, error) {
	return src.Authenticate(ctx, flow)
}

// StepUp has somebody log in by flow to meet what an API demands, though there is
// a session, which the login then replaces. It is Source.StepUp, which tells the
// rest: how often somebody is asked at most, and that it must be the same person.
//
//	if c, ok := freshtoken.ChallengeFrom(resp); ok {
//		tok, err := login.StepUp(ctx, src, login.Auto{}, c)
func StepUp(ctx context.Context, src *freshtoken.Source, flow freshtoken.Authenticator, c *freshtoken.Challenge) (*oauth2.Token, error) {
	return src.StepUp(ctx, c, flow)
}

// Auto logs in by Loopback where a browser can be opened on this machine, and
// otherwise by Device, if the server is known to have it
// (Endpoint.DeviceAuthURL). Without either it is Loopback, which then shows the
// address. A Loopback.Prompt.Browse counts as a browser, and a server without an
// Endpoint.AuthURL has no logins in one. The zero Auto is ready for use.
type Auto struct {
	Loopback Loopback
	Device   Device
}

var _ freshtoken.Authenticator = Auto{}

// Authenticate implements freshtoken.Authenticator.
func (a Auto) Authenticate(ctx context.Context, cfg freshtoken.Config) (*oauth2.Token, error) {
	e := cfg.OAuth2.Endpoint
	if e.DeviceAuthURL != "" && (e.AuthURL == "" || a.Loopback.Prompt.Browse == nil && !thisMachine().hasBrowser()) {
		return a.Device.Authenticate(ctx, cfg)
	}
	return a.Loopback.Authenticate(ctx, cfg)
}

// Elsewhere implements what a Source looks for in an Authenticator, and is not
// for programs to call: see Prompt.Elsewhere, which is that of Loopback.
func (a Auto) Elsewhere(ctx context.Context) { a.Loopback.Elsewhere(ctx) }

// grantTime bounds one request to the server.
const grantTime = 30 * time.Second

// errBroken is about a refusal that broke off before it gave its reason.
var errBroken = errors.New("token endpoint")

// exchange sends a grant to the token endpoint, once. secrets are what the grant
// has of those.
func exchange(ctx context.Context, cfg *freshtoken.Config, form url.Values, secrets ...string) (*oauth2.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, grantTime)
	defer cancel()
	start := time.Now()
	answer, err := client(cfg).Post(ctx, cfg.OAuth2.Endpoint.TokenURL, form)
	if err != nil {
		return nil, hide(cfg, err, secrets...)
	}
	tok, err := answer.Token(start, cfg.AcceptFormEncoded, cfg.AssumeBearer)
	if refused := new(endpoint.Refusal); errors.As(err, &refused) {
		if refused.Broken != nil {
			return nil, fmt.Errorf("%w: %w", errBroken, hide(cfg, refused.Broken, secrets...))
		}
		return nil, refusal(cfg, "token endpoint", refused, secrets...)
	}
	if err != nil {
		return nil, fmt.Errorf("token endpoint: %w: check Config.OAuth2.Endpoint.TokenURL", hide(cfg, err, secrets...))
	}
	return tok, nil
}

func client(cfg *freshtoken.Config) *endpoint.Client {
	return endpoint.New(cfg.HTTPClient, cfg.OAuth2, cfg.PlainBasicAuth, prover(cfg))
}

// prover returns how the client proves who it is; nil: by Endpoint.AuthStyle.
func prover(cfg *freshtoken.Config) endpoint.Prover {
	if cfg.ClientAuth == nil {
		return nil
	}
	to := freshtoken.ClientRequest{ClientID: cfg.OAuth2.ClientID, Issuer: cfg.Issuer, TokenURL: cfg.OAuth2.Endpoint.TokenURL}
	return func(ctx context.Context, target string) (url.Values, error) {
		to := to
		to.Endpoint = target
		return cfg.ClientAuth.AuthenticateClient(ctx, to)
	}
}

// checkRefreshToken says so if a login has brought no refresh token.
func checkRefreshToken(tok *oauth2.Token, accessTokenOnly bool) error {
	if tok.RefreshToken == "" && !accessTokenOnly {
		return wrap(ErrNoRefreshToken, "ask for one by the scope offline_access, or by the option AccessTypeOffline, "+
			"and allow it to the client at the server; or set AccessTokenOnly and log in whenever the access token has expired")
	}
	return nil
}

// request returns the parameters that a login begins with: the program's own,
// the scope, and what asks for a refresh token. own are those that are not for
// the program to set (RFC 6749 sections 3.1 and 3.2: none twice, none empty).
func request(cfg *freshtoken.Config, params url.Values, offline bool, own ...string) (url.Values, error) {
	form := make(url.Values)
	params = maps.Clone(params)
	if params == nil {
		params = make(url.Values)
	}
	maps.Copy(params, cfg.LoginParams)
	for name, values := range params {
		switch {
		case slices.Contains(own, name):
			return nil, fmt.Errorf("the login's Params (or Config.LoginParams) have %q, which is not for the program to set", name)
		case len(values) == 0 || slices.Contains(values, ""):
			return nil, fmt.Errorf("the login's Params (or Config.LoginParams) have %q without a value", name)
		case len(values) > 1 && name != "resource" && name != "audience":
			return nil, fmt.Errorf("the login's Params (or Config.LoginParams) have %q more than once", name)
		}
		form[name] = slices.Clone(values)
	}
	set := func(name, value string) {
		if value != "" && !form.Has(name) {
			form.Set(name, value)
		}
	}
	set("scope", strings.Join(cfg.OAuth2.Scopes, " "))
	if offline {
		set("access_type", "offline")
	}
	return form, nil
}
