package freshtoken

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/freshtoken/freshtoken/internal/endpoint"
	"golang.org/x/oauth2"
)

// A Refresher knows how a new token is had. The default asks the token endpoint
// with the refresh_token grant (RFC 6749 section 6).
//
// The Source calls Refresh for one refresh at a time, across all processes that
// share the session, with a context of its own that ends after 30 seconds. When
// it has ended, Refresh must return: an answer that comes later is lost. Refresh
// must not ask the Source for a token, or it waits for itself. old is the token to
// replace, with its refresh token if it has one; it may be modified. The result's
// RefreshToken, if not empty, replaces the old one; its Expiry or ExpiresIn tells
// its lifetime.
//
// An error that is a *RefreshError or an *oauth2.RetrieveError is understood as
// it stands. Any other counts as "outcome unknown" if old has a refresh token
// and the error does not prove that nothing was sent, and as temporary
// otherwise.
//
// A Refresher that is to know the Config is a [ConfigRefresher].
type Refresher interface {
	Refresh(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error)
}

// RefresherFunc is a function that is a Refresher.
type RefresherFunc func(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error)

// Refresh calls f.
func (f RefresherFunc) Refresh(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
	return f(ctx, old)
}

// A tokenEndpoint is the server's, asked by the refresh_token grant, as a Refresher,
// and by others.
type tokenEndpoint struct {
	*endpoint.Client
	tokenURL     string
	params       url.Values
	proves       bool // Config.ClientAuth is set
	acceptForm   bool
	assumeBearer bool
}

var _ Refresher = (*tokenEndpoint)(nil)

// newTokenEndpoint takes what it needs of a checked Config.
func newTokenEndpoint(cfg *Config) *tokenEndpoint {
	return &tokenEndpoint{Client: endpoint.New(cfg.HTTPClient, cfg.OAuth2, cfg.PlainBasicAuth, cfg.prover()),
		tokenURL: cfg.OAuth2.Endpoint.TokenURL, proves: cfg.ClientAuth != nil,
		params: cfg.RefreshParams, acceptForm: cfg.AcceptFormEncoded, assumeBearer: cfg.AssumeBearer}
}

// Refresh implements Refresher by one POST, which is never repeated.
func (t *tokenEndpoint) Refresh(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
	return t.refresh(ctx, old, nil)
}

// refresh is Refresh with the parameters of a target, in place of those of the
// Config.
func (t *tokenEndpoint) refresh(ctx context.Context, old *oauth2.Token, target url.Values) (*oauth2.Token, error) {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {old.RefreshToken}}
	maps.Copy(form, t.params)
	maps.Copy(form, target)
	return t.request(ctx, form)
}

// request sends a form to the token endpoint, and says what the answer means for
// a session whose refresh token was in it.
func (t *tokenEndpoint) request(ctx context.Context, form url.Values) (*oauth2.Token, error) {
	start := time.Now()
	asserts := form.Has("assertion") // before the client adds its own
	answer, err := t.Post(ctx, t.tokenURL, form)
	if failed := new(endpoint.AuthError); errors.As(err, &failed) {
		return nil, unproven(failed.Err)
	}
	if failed := new(endpoint.SendError); errors.As(err, &failed) {
		if failed.Unsent {
			return nil, &RefreshError{class: classTransient, Temporary: true, Err: failed}
		}
		return nil, &RefreshError{class: classUnknown, Temporary: true, OutcomeUnknown: true, Err: failed}
	}
	tok, err := answer.Token(start, t.acceptForm, t.assumeBearer)
	if refused := new(endpoint.Refusal); errors.As(err, &refused) {
		e := refusal(refused)
		if e.proves = t.proves; t.proves || asserts {
			e.suspectClock(refused.Header, time.Now(), asserts)
		}
		return nil, e
	}
	if bad := new(endpoint.UnusableError); errors.As(err, &bad) {
		if bad.Err == endpoint.ErrNoType {
			bad.Err = wrap(ErrBadToken, "%w", bad.Err)
		}
		e := unusable(bad.RefreshToken, bad.Err)
		e.Status, e.idToken = answer.Status, bad.IDToken
		return nil, e
	}
	return tok, err
}

// unusable makes an error of an answer without a usable access token. Its refresh
// token is kept, if there is one; without one, nobody knows what has happened to
// the old one.
func unusable(refreshToken string, err error) *RefreshError {
	e := &RefreshError{class: classTransient, Temporary: true, Err: err}
	if refreshToken != "" && endpoint.Printable(refreshToken) {
		e.salvaged = refreshToken
	} else {
		e.class, e.OutcomeUnknown = classUnknown, true
	}
	return e
}

// seconds converts a lifetime, however absurd.
func seconds(n float64) time.Duration {
	if n > maxLifetime.Seconds() {
		return maxLifetime
	}
	return clampLifetime(time.Duration(max(n, 0) * float64(time.Second)))
}

// A class says what an answer of the token endpoint means for the session.
type class string

const (
	classTransient     class = "transient"     // not sent, or not processed; later, perhaps
	classUnknown       class = "unknown"       // perhaps processed
	classEnded         class = "ended"         // the grant is dead
	classDenied        class = "denied"        // the grant is dead, in other words
	classRefused       class = "refused"       // some other refusal
	classConfiguration class = "configuration" // this client cannot be served
	classMistaken      class = "mistaken"      // tokens of somebody else, or so it seems
	classTarget        class = "target"        // the session does not have what a Target asks for
)

// Error codes beyond those of RFC 6749, as found in the field.
var (
	deniedCodes        = []string{"bad_refresh_token", "invalid_refresh_token", "refresh_token_expired", "refresh_token_reused", "refresh_token_revoked", "expired_token", "token_expired"}
	configurationCodes = []string{"invalid_client", "unauthorized_client", "unsupported_grant_type", "incorrect_client_credentials"}
	rateLimitCodes     = []string{"slow_down", "temporarily_unavailable", "rate_limit_exceeded", "rate_limited", "rate_limit", "too_many_requests"}
)

// classify tells what a status other than success, or an error code with any
// status, means.
func classify(status int, h http.Header, code string) class {
	switch {
	case code == "invalid_grant" && status < 500:
		return classEnded
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable, status == http.StatusRequestTimeout:
		return classTransient
	case status >= 500, status < 200: // of which no answer may consist
		return classUnknown
	case slices.Contains(deniedCodes, code):
		return classDenied
	case slices.Contains(configurationCodes, code):
		return classConfiguration
	case slices.Contains(rateLimitCodes, code), status >= 400 && (h.Get("Retry-After") != "" || h.Get("X-Ratelimit-Remaining") == "0"):
		return classTransient
	case code == "server_error":
		return classUnknown
	case status >= 300 && status < 400, status == http.StatusProxyAuthRequired:
		return classTransient
	default:
		return classRefused
	}
}

// refusal makes an error of an answer that has no token.
func refusal(r *endpoint.Refusal) *RefreshError {
	e := &RefreshError{Status: r.Status, Code: r.Code, Description: r.Description}
	e.judge(r.Header)
	switch {
	case r.Broken != nil:
		if e.Err = r.Broken; e.class == classRefused { // the reason is still to come
			e.class, e.Temporary = classTransient, true
		}
	case r.Status >= 300 && r.Status < 400:
		e.Err = errors.New("it redirects, which is not followed: if its address has changed, set Endpoint.TokenURL to the new one")
	case e.class == classRefused && e.Code == "":
		e.Err = errors.New("it gave no reason: check that Endpoint.TokenURL is the token endpoint")
	}
	return e
}

// judge sets the class, and what follows from it, from status and code.
func (e *RefreshError) judge(h http.Header) {
	e.class = classify(e.Status, h, e.Code)
	switch e.class {
	case classTransient:
		e.Temporary, e.RetryAfter = true, retryAfter(h, time.Now())
	case classUnknown:
		e.Temporary, e.OutcomeUnknown, e.RetryAfter = true, true, retryAfter(h, time.Now())
	case classEnded:
		e.ended = true
	}
}

// retryAfter reads a Retry-After field, seconds or a date (RFC 9110 section
// 10.2.3). Zero if there is none, or none that makes sense.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	var d time.Duration
	if n, err := strconv.ParseFloat(value, 64); err == nil && n == n {
		d = time.Duration(min(max(n, 0), maxRetryAfter.Seconds()) * float64(time.Second))
	} else if at, err := http.ParseTime(value); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

// refreshErrorOf makes a *RefreshError of whatever a Refresher returned. spends
// says whether the Refresher had a refresh token to spend.
func refreshErrorOf(err error, spends bool) *RefreshError {
	if e := new(RefreshError); errors.As(err, &e) {
		c := *e // the Source adds what it knows to a copy
		c.RetryAfter = min(max(c.RetryAfter, 0), maxRetryAfter)
		if c.class == "" {
			switch {
			case c.OutcomeUnknown:
				c.class = classUnknown
			case c.Temporary:
				c.class = classTransient
			default:
				c.judge(nil)
			}
		}
		return &c
	}
	if r := new(oauth2.RetrieveError); errors.As(err, &r) && r.Response != nil {
		e := &RefreshError{Status: r.Response.StatusCode, Code: endpoint.Sanitize(r.ErrorCode, 64), Description: endpoint.Sanitize(r.ErrorDescription, 200)}
		e.judge(r.Response.Header)
		return e
	}
	if errors.Is(err, ErrSessionEnded) {
		return &RefreshError{class: classEnded, ended: true, Err: err}
	}
	e := &RefreshError{class: classTransient, Temporary: true, Err: endpoint.Bare(err)}
	if spends && !endpoint.IsUnsent(err) {
		e.class, e.OutcomeUnknown = classUnknown, true
	}
	return e
}
