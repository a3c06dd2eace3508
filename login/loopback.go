package login

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/endpoint"
	"golang.org/x/oauth2"
)

// Loopback logs in through a browser of this machine, by the authorization code
// grant (RFC 6749 section 4.1) with PKCE (RFC 7636), and back to a listener on
// the loopback interface that lives for the login only (RFC 8252 section 7.3).
// The zero Loopback is ready for use.
//
// The redirect URI is Config.OAuth2.RedirectURL, with a port of the system's
// choosing unless it has one: http://127.0.0.1/callback if it is empty, or
// http://[::1]/callback on a machine without IPv4. The server must know it, with
// any port. A host of localhost is possible, and listened on at both addresses;
// RFC 8252 section 8.3 advises against it.
type Loopback struct {
	// Prompt is how to reach the person: its Browse.
	Prompt Prompt

	// Params are further parameters of the authorization request, such as
	// login_hint, prompt, or resource, which goes into the token request, too.
	// Those that make up the login are not for the program to set: client_id,
	// response_type, response_mode, redirect_uri, state, those of PKCE, scope,
	// which is Config.OAuth2.Scopes, with Config.IDTokens nonce, and with
	// Config.PushedAuthorizationURL request, request_uri and what authenticates
	// the client.
	Params url.Values

	// AccessTypeOffline asks for a refresh token by access_type=offline, for
	// servers that do not know the scope offline_access; and by
	// prompt=consent, without which they give one at the first login only.
	AccessTypeOffline bool

	// AccessTokenOnly accepts a login without a refresh token, which is
	// ErrNoRefreshToken otherwise. The session ends with the access token.
	AccessTokenOnly bool

	// Timeout is how long the person has. Zero means 5 minutes.
	Timeout time.Duration

	// Page, if not nil, makes the page that the browser shows at the end: HTML
	// in UTF-8, for a login that has succeeded (nil) or failed. It is shown
	// under a content security policy that allows inline styles and data:
	// images, and nothing else.
	Page func(err error) []byte
}

var _ freshtoken.Authenticator = Loopback{}

// loginTime is how long a person has, if the program does not say.
const loginTime = 5 * time.Minute

// The parameters of an authorization request that are not the program's.
var authorizationParams = []string{"client_id", "response_type", "response_mode", "redirect_uri", "state", "code_challenge", "code_challenge_method", "scope"}

// Elsewhere implements what a Source looks for in an Authenticator, and is not
// for programs to call: see Prompt.Elsewhere.
func (l Loopback) Elsewhere(ctx context.Context) { l.Prompt.elsewhere(ctx) }

// Authenticate implements freshtoken.Authenticator.
func (l Loopback) Authenticate(ctx context.Context, cfg freshtoken.Config) (*oauth2.Token, error) {
	tok, err := l.authenticate(ctx, &cfg)
	if err != nil {
		return nil, named(err)
	}
	return tok, nil
}

func (l Loopback) authenticate(ctx context.Context, cfg *freshtoken.Config) (*oauth2.Token, error) {
	if err := reachable(l.Prompt.Browse != nil, "Browse"); err != nil {
		return nil, err
	}
	a, err := l.begin(cfg)
	if err != nil {
		return nil, err
	}
	page := l.Page
	if page == nil {
		page = loginPage
	}
	r, err := listen(cfg.OAuth2.RedirectURL, a.state, page)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	tok, err := l.run(ctx, cfg, a, r)
	cancel()
	r.close(err)
	return tok, err
}

// An authorization is one authorization request.
type authorization struct {
	endpoint        *url.URL
	form            url.Values
	state, verifier string
	idToken         expectation
}

// begin makes the authorization request, but for the redirect URI.
func (l Loopback) begin(cfg *freshtoken.Config) (*authorization, error) {
	raw := cfg.OAuth2.Endpoint.AuthURL
	if raw == "" {
		return nil, errors.New("Config.OAuth2.Endpoint.AuthURL is empty: set it to the server's authorization endpoint, or have discovery.Configure do so")
	}
	if cfg.OAuth2.Endpoint.TokenURL == "" {
		return nil, errors.New("Config.OAuth2.Endpoint.TokenURL is empty: set it to the server's token endpoint, or have discovery.Configure do so")
	}
	if err := endpoint.CheckURL(raw, cfg.InsecureHTTP); err != nil {
		return nil, fmt.Errorf("Config.OAuth2.Endpoint.AuthURL %w", err)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("Config.OAuth2.Endpoint.AuthURL is no URL")
	}
	pushes := cfg.PushedAuthorizationURL != ""
	if pushes {
		if err := endpoint.CheckURL(cfg.PushedAuthorizationURL, cfg.InsecureHTTP); err != nil {
			return nil, fmt.Errorf("Config.PushedAuthorizationURL %w", err)
		}
	}
	own := slices.Clone(authorizationParams)
	if pushes {
		own = append(own, pushedParams...)
	}
	if asksForIDToken(cfg) {
		own = append(own, "nonce")
	}
	form, err := request(cfg, l.Params, l.AccessTypeOffline, own...)
	if err != nil {
		return nil, err
	}
	idToken, err := expect(cfg, form)
	if err != nil {
		return nil, err
	}
	// A refresh token takes the person's consent, which a server that has it
	// already does not ask for again (OpenID Connect Core section 11).
	scopes := cfg.OAuth2.Scopes
	if !form.Has("prompt") && (l.AccessTypeOffline || slices.Contains(scopes, "openid") && slices.Contains(scopes, "offline_access")) {
		form.Set("prompt", "consent")
	}
	// 130 random bits, and 256.
	a := &authorization{endpoint: u, form: form, state: rand.Text(), verifier: oauth2.GenerateVerifier(), idToken: idToken}
	form.Set("client_id", cfg.OAuth2.ClientID)
	form.Set("response_type", "code")
	form.Set("state", a.state)
	form.Set("code_challenge", oauth2.S256ChallengeFromVerifier(a.verifier))
	form.Set("code_challenge_method", "S256")
	for name := range u.Query() {
		if form.Has(name) || name == "redirect_uri" || pushes && slices.Contains(pushedParams, name) {
			return nil, fmt.Errorf("Config.OAuth2.Endpoint.AuthURL has the parameter %q, which the login sets: remove it there",
				endpoint.Sanitize(name, 40))
		}
	}
	return a, nil
}

// at is the authorization endpoint with a request. What the endpoint's own query
// has stays as it is (RFC 6749 section 3.1).
func (a *authorization) at(request url.Values) string {
	u := *a.endpoint
	u.RawQuery = strings.TrimPrefix(u.RawQuery+"&"+request.Encode(), "&")
	return u.String()
}

// errand returns where to send a browser that comes back to r.
func (a *authorization) errand(ctx context.Context, cfg *freshtoken.Config, r *receiver) (errand, error) {
	if cfg.PushedAuthorizationURL != "" {
		return a.refer(ctx, cfg, r)
	}
	a.form.Set("redirect_uri", r.uri)
	return errand{to: "log in", address: a.at(a.form), back: r.uri}, nil
}

// run sends the person to the browser and waits for the answer.
func (l Loopback) run(ctx context.Context, cfg *freshtoken.Config, a *authorization, r *receiver) (*oauth2.Token, error) {
	to, err := a.errand(ctx, cfg, r)
	if err != nil {
		return nil, err
	}
	got, err := r.await(ctx, cfg, l.Prompt, to, l.Timeout)
	if err != nil {
		return nil, err
	}
	code, err := got.judge(cfg)
	if err != nil {
		return nil, err
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {r.uri}, "code_verifier": {a.verifier}}
	if resource := a.form["resource"]; len(resource) > 0 {
		form["resource"] = resource // RFC 8707 section 2.2
	}
	tok, err := exchange(ctx, cfg, form, code, a.verifier)
	if err == nil {
		err = a.idToken.check(ctx, cfg, tok)
	}
	if err == nil {
		err = checkRefreshToken(tok, l.AccessTokenOnly)
	}
	return tok, err
}

// named gives an error that leaves the package the package's name, once.
func named(err error) error {
	if text := err.Error(); strings.HasPrefix(text, "login: ") {
		return err
	}
	return fmt.Errorf("login: %w", err)
}
