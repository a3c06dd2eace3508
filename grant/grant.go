package grant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/endpoint"
	"github.com/freshtoken/freshtoken/internal/words"
	"golang.org/x/oauth2"
)

// Errors to branch on, with errors.Is. None contains a token, an assertion or a
// key. All but ErrRefused come before anything is sent; those that the Config
// alone shows come from freshtoken.New.
var (
	// ErrRefused: the server refuses to issue a token for what it was shown: the
	// subject token, the assertion, the scope or the target. The RefreshError
	// that it comes in has the server's code.
	ErrRefused = errors.New("the server refuses what the token was asked for with")

	// ErrNoSubject: there is nothing to exchange, or no assertion: no function is
	// set, or it has returned nothing that can be sent.
	ErrNoSubject = errors.New("there is nothing to ask for a token with")

	// ErrTokenType: a token type is missing, or is not a URI (RFC 8693 section 3).
	ErrTokenType = errors.New("the type of a token is missing or wrong")

	// ErrResource: a resource is not an absolute URI, or has a fragment (RFC 8693
	// section 2.1, RFC 8707 section 2).
	ErrResource = errors.New("a resource that is no absolute URI")

	// ErrParameter: a parameter without a value, or one of Config.RefreshParams
	// that the grant sets itself.
	ErrParameter = errors.New("a parameter that cannot be sent")

	// ErrClaims: JWTBearer.Claims are not JSON, or have a claim that JWTBearer
	// sets itself.
	ErrClaims = errors.New("claims that cannot be signed")

	// ErrLifetime: JWTBearer.Lifetime is out of bounds, or an assertion had
	// expired before it was signed.
	ErrLifetime = errors.New("the lifetime of assertions does not do")

	// ErrConfig: the Config does not do for this grant.
	ErrConfig = errors.New("the Config does not do for this grant")
)

// fail makes an error that leaves the package.
func fail(sentinel error, format string, args ...any) error {
	return fmt.Errorf("grant: %w: %w", sentinel, fmt.Errorf(format, args...))
}

// notYet makes an error of what the program has not been able to bring along.
// The outermost RefreshError is the one that a Source goes by: one that is
// wrapped may be of another session, and say nothing of this one.
func notYet(text string, err error) error {
	return &freshtoken.RefreshError{Temporary: true, Err: words.Say(text+words.Text(err), err)}
}

// A request is a grant of a Config: all that a Source needs to have a token.
type request struct {
	cfg    freshtoken.Config
	form   url.Values // what is the same each time
	own    func(ctx context.Context) (url.Values, error)
	advice map[string]string // by error code: what to do
}

var _ freshtoken.Refresher = (*request)(nil)

// newRequest checks what all grants have in common. reserved are parameters that
// are not for Config.RefreshParams, beside those in form.
func newRequest(cfg freshtoken.Config, form url.Values, reserved ...string) (*request, error) {
	if cfg.OAuth2 == nil || cfg.OAuth2.Endpoint.TokenURL == "" {
		return nil, fail(ErrConfig, "Config.OAuth2.Endpoint.TokenURL is empty: set it to the server's token endpoint, or have discovery.Configure do so")
	}
	if len(cfg.OAuth2.Scopes) > 0 && !form.Has("scope") {
		return nil, fail(ErrConfig, "Config.OAuth2.Scopes are what a login asks for, and there is none: leave them out, and set Scopes of the grant if its tokens are to have some")
	}
	for name, values := range form {
		if slices.Contains(values, "") {
			return nil, fail(ErrParameter, "%s has an empty value: leave it out", name)
		}
	}
	for name, values := range cfg.RefreshParams {
		if form.Has(name) || slices.Contains(reserved, name) {
			return nil, fail(ErrParameter, "Config.RefreshParams has %q, which the grant sets: leave it out there", endpoint.Sanitize(name, 60))
		}
		form[name] = values
	}
	return &request{cfg: cfg, form: form}, nil
}

// Refresh implements freshtoken.Refresher by one request with what the program
// has at hand now.
func (r *request) Refresh(ctx context.Context, _ *oauth2.Token) (*oauth2.Token, error) {
	form := maps.Clone(r.form)
	if r.own != nil {
		fresh, err := r.own(ctx)
		if err != nil {
			return nil, err
		}
		maps.Copy(form, fresh)
	}
	tok, err := r.cfg.RequestToken(ctx, form)
	if err != nil {
		return nil, r.explain(err)
	}
	return withoutRefreshToken(tok), nil
}

// explain adds what to do to what the server refuses.
func (r *request) explain(err error) error {
	e := new(freshtoken.RefreshError)
	if !errors.As(err, &e) {
		return err
	}
	advice, known := r.advice[e.Code]
	switch {
	case !known || e.Status < 400 || e.Status > 499 || !e.Temporary:
	case e.Err != nil: // the clock, say
		e.Err = words.Say(e.Err.Error(), ErrRefused, e.Err)
	default:
		e.Err = words.Say(advice, ErrRefused)
	}
	return e
}

// withoutRefreshToken drops the refresh token of an answer, and what it says of
// that token.
func withoutRefreshToken(tok *oauth2.Token) *oauth2.Token {
	all, _ := tok.Extra(endpoint.AllMembers).(map[string]json.RawMessage)
	all = maps.Clone(all)
	for _, name := range append([]string{"refresh_token"}, endpoint.RefreshLifetimes...) {
		delete(all, name)
	}
	c := &oauth2.Token{AccessToken: tok.AccessToken, TokenType: tok.TokenType, Expiry: tok.Expiry, ExpiresIn: tok.ExpiresIn}
	return c.WithExtra(map[string]any{endpoint.AllMembers: all})
}

// begin implements freshtoken.Authenticator for a grant.
func begin(ctx context.Context, g freshtoken.ConfigRefresher, cfg freshtoken.Config) (*oauth2.Token, error) {
	r, err := g.ForConfig(cfg)
	if err != nil {
		return nil, err
	}
	return r.Refresh(ctx, nil)
}

// unbound is what a grant answers that is asked outside of a Config.
func unbound() error {
	return fail(ErrConfig, "there is none: set Config.Refresher to the grant itself, or call Refresh of what its ForConfig returns")
}

// addScope adds the scopes, if there are any.
func addScope(form url.Values, scopes []string) error {
	for _, s := range scopes {
		if s == "" || strings.Contains(s, " ") || !endpoint.Printable(s) {
			return fail(ErrParameter, "the scope %q is none: give one scope for each element of Scopes", endpoint.Sanitize(s, 60))
		}
	}
	if len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " "))
	}
	return nil
}
