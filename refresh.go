package freshtoken

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
)

// A Refresher knows how a new token is had. The default asks the token endpoint
// with the refresh_token grant (RFC 6749 section 6).
//
// The Source calls Refresh for one refresh at a time, across all processes that
// share the session, with a context of its own that ends after 30 seconds. When
// it has ended, Refresh must return: an answer that comes later is lost. Refresh
// must not ask the Source for a token, or it waits for itself. old
// is the token to replace, with its refresh token if it has one; it may be
// modified. The result's RefreshToken, if not empty, replaces the old one; its
// Expiry or ExpiresIn tells its lifetime.
//
// An error that is a *RefreshError or an *oauth2.RetrieveError is understood as
// it stands. Any other counts as "outcome unknown" if old has a refresh token
// and the error does not prove that nothing was sent, and as temporary
// otherwise.
type Refresher interface {
	Refresh(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error)
}

// RefresherFunc is a function that is a Refresher.
type RefresherFunc func(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error)

// Refresh calls f.
func (f RefresherFunc) Refresh(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
	return f(ctx, old)
}

// maxAnswer bounds what is read of an answer of the token endpoint.
const maxAnswer = 1 << 20

// endpoint talks to the authorization server's token and revocation endpoints.
type endpoint struct {
	client        *http.Client
	oauth2        oauth2.Config
	params        url.Values
	acceptForm    bool
	assumeBearer  bool
	plainBasic    bool
	revocationURL string
}

var _ Refresher = (*endpoint)(nil)

// newEndpoint takes what it needs of a checked Config.
func newEndpoint(cfg *Config) *endpoint {
	client := new(http.Client)
	if cfg.HTTPClient != nil {
		*client = *cfg.HTTPClient
	}
	// A redirect would carry the refresh token and the client's secret to
	// wherever it points.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &endpoint{client: client, oauth2: *cfg.OAuth2, params: cfg.RefreshParams, acceptForm: cfg.AcceptFormEncoded,
		assumeBearer: cfg.AssumeBearer, plainBasic: cfg.PlainBasicAuth, revocationURL: cfg.RevocationURL}
}

// Refresh implements Refresher by one POST, which is never repeated.
func (e *endpoint) Refresh(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
	start := time.Now()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {old.RefreshToken}}
	maps.Copy(form, e.params)
	answer, err := e.post(ctx, e.oauth2.Endpoint.TokenURL, form)
	if failed := new(sendError); errors.As(err, &failed) {
		if failed.unsent {
			return nil, &RefreshError{class: classTransient, Temporary: true, Err: fmt.Errorf("token endpoint: %w", failed.err)}
		}
		return nil, &RefreshError{class: classUnknown, Temporary: true, OutcomeUnknown: true, Err: fmt.Errorf("token endpoint: %w", failed.err)}
	}
	return answer.token(start, e.acceptForm, e.assumeBearer)
}

// revoke asks the server to revoke a token (RFC 7009 section 2.1). Any answer
// but 200 leaves the token valid, as far as anyone knows.
func (e *endpoint) revoke(ctx context.Context, token, hint string) error {
	answer, err := e.post(ctx, e.revocationURL, url.Values{"token": {token}, "token_type_hint": {hint}})
	if err != nil {
		return fmt.Errorf("revocation endpoint: %w", err)
	}
	if answer.status == http.StatusOK {
		return nil
	}
	refusal := answer.refusal()
	refusal.hide(token, e.oauth2.ClientSecret)
	said := strings.TrimSpace(fmt.Sprint(refusal.Status, " ", refusal.Code))
	return fmt.Errorf("the revocation endpoint answered %s: check Config.RevocationURL, or revoke at the server's account page", said)
}

// An answer is what an endpoint sent back.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error // why the body is incomplete
}

// A sendError is the failure of a request that got no answer.
type sendError struct {
	err    error
	unsent bool // provably
}

func (e *sendError) Error() string { return e.err.Error() }
func (e *sendError) Unwrap() error { return e.err }

// post sends a form, authenticated as the client, and reads the answer. The
// error, if any, is a *sendError.
func (e *endpoint) post(ctx context.Context, target string, form url.Values) (*answer, error) {
	basic := e.authenticate(form)
	var wanted, got atomic.Bool // a connection
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { wanted.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { got.Store(true) },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, &sendError{err: bare(err), unsent: true}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if basic != "" {
		req.Header.Set("Authorization", basic)
	}
	resp, err := e.client.Do(req)
	if err != nil {
		// A transport that traces its connections and never had one has sent
		// nothing. Silence proves nothing: others do not trace.
		return nil, &sendError{err: bare(err), unsent: isUnsent(err) || wanted.Load() && !got.Load()}
	}
	defer resp.Body.Close()
	a := &answer{status: resp.StatusCode, header: resp.Header}
	a.body, a.err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if len(a.body) > maxAnswer {
		a.body, a.err = a.body[:maxAnswer], fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	a.err = bare(a.err)
	return a, nil
}

// authenticate adds to the form what the client's authentication method wants
// there, and returns the Authorization header, if any. The method follows from
// the configuration alone: trying one after the other would spend the refresh
// token.
func (e *endpoint) authenticate(form url.Values) string {
	id, secret := e.oauth2.ClientID, e.oauth2.ClientSecret
	if e.oauth2.Endpoint.AuthStyle == oauth2.AuthStyleInParams || secret == "" {
		form.Set("client_id", id)
		if secret != "" {
			form.Set("client_secret", secret)
		}
		return ""
	}
	if !e.plainBasic { // RFC 6749 section 2.3.1
		id, secret = url.QueryEscape(id), url.QueryEscape(secret)
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
}

// isUnsent reports whether an error of net/http proves by itself that no byte
// of the request was sent.
func isUnsent(err error) bool {
	if op := new(net.OpError); errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect") {
		return true
	}
	dns := new(net.DNSError)
	return errors.As(err, &dns)
}

// bare strips the URL, whose query may hold what nobody should see, from an
// error of net/http.
func bare(err error) error {
	if u := new(url.Error); errors.As(err, &u) {
		return u.Err
	}
	return err
}

// token reads the answer to a token request. start is when the request began.
func (a *answer) token(start time.Time, acceptForm, assumeBearer bool) (*oauth2.Token, error) {
	if a.status < 200 || a.status > 299 {
		return nil, a.refusal()
	}
	all, repeated, err := a.members()
	salvaged := ""
	if rt, ok := text(all["refresh_token"]); ok && rt != "" && printable(rt) && !repeated["refresh_token"] {
		salvaged = rt
	}
	unusable := func(err error) error {
		e := unusable(salvaged, err)
		e.Status = a.status
		return e
	}
	// Without an error, or with new tokens beside it, the server has acted,
	// whatever is wrong with its answer.
	if code, _ := text(all["error"]); a.err == nil && err == nil && code != "" {
		if salvaged == "" {
			return nil, a.refusal()
		}
		return nil, unusable(errors.New("the answer has an error beside tokens"))
	}
	switch {
	case a.err != nil:
		return nil, unusable(fmt.Errorf("the answer broke off: %w", a.err))
	case err != nil:
		return nil, unusable(err)
	case a.formEncoded() && !acceptForm:
		return nil, unusable(errors.New("the answer is form-encoded, not JSON: set Config.AcceptFormEncoded if the server is meant to do so"))
	case len(repeated) > 0:
		return nil, unusable(errors.New("the answer has a member twice"))
	}
	access, ok := text(all["access_token"])
	if !ok || access == "" {
		return nil, unusable(errors.New("the answer has no access token"))
	}
	if raw, ok := all["refresh_token"]; ok && salvaged == "" && string(raw) != `""` && string(raw) != "null" {
		return nil, unusable(errors.New("the answer's refresh token cannot be read"))
	}
	kind, ok := text(all["token_type"])
	if !ok || kind == "" {
		if !assumeBearer {
			return nil, unusable(wrap(ErrBadToken, "the answer has no token_type: set Config.AssumeBearer if the server never sends one"))
		}
		kind = "Bearer"
	}
	tok := &oauth2.Token{AccessToken: access, TokenType: kind, RefreshToken: salvaged}
	if n, ok := number(all["expires_in"]); ok {
		d := seconds(n)
		tok.Expiry, tok.ExpiresIn = start.Add(d), int64(d/time.Second)
	}
	return tok.WithExtra(map[string]any{allMembers: all}), nil
}

// unusable makes an error of an answer without a usable access token. Its refresh
// token is kept, if there is one; without one, nobody knows what has happened to
// the old one.
func unusable(refreshToken string, err error) *RefreshError {
	e := &RefreshError{class: classTransient, Temporary: true, Err: err}
	if refreshToken != "" && printable(refreshToken) {
		e.salvaged = refreshToken
	} else {
		e.class, e.OutcomeUnknown = classUnknown, true
	}
	return e
}

func (a *answer) formEncoded() bool {
	kind, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "application/x-www-form-urlencoded")
}

// members reads the body as an object: JSON whatever its label says, since a
// wrong label must not cost a session, or a form if it is labelled so. Names
// are compared exactly. Of a body that breaks off, the members before the break
// are returned along with the error, which holds nothing of the body.
func (a *answer) members() (all map[string]json.RawMessage, repeated map[string]bool, err error) {
	all, repeated = make(map[string]json.RawMessage), make(map[string]bool)
	if a.formEncoded() {
		form, err := url.ParseQuery(string(a.body))
		for name, values := range form {
			all[name], _ = json.Marshal(values[0])
			if len(values) > 1 {
				repeated[name] = true
			}
		}
		if err != nil {
			err = errors.New("the answer is not a form")
		}
		return all, repeated, err
	}
	bad := errors.New("the answer is not a JSON object")
	in := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(a.body, []byte("\xef\xbb\xbf"))))
	if t, err := in.Token(); err != nil || t != json.Delim('{') {
		return all, repeated, bad
	}
	for in.More() {
		t, err := in.Token()
		name, ok := t.(string)
		var value json.RawMessage
		if err != nil || !ok || in.Decode(&value) != nil {
			return all, repeated, bad
		}
		if _, dup := all[name]; dup {
			repeated[name] = true
		}
		all[name] = value
	}
	if _, err := in.Token(); err != nil {
		return all, repeated, bad
	}
	if _, err := in.Token(); err != io.EOF {
		return all, repeated, bad
	}
	return all, repeated, nil
}

// text decodes a JSON string.
func text(raw json.RawMessage) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	return s, json.Unmarshal(raw, &s) == nil
}

// number decodes a JSON number, or a string that holds one.
func number(raw json.RawMessage) (float64, bool) {
	s, ok := text(raw)
	if !ok {
		s = string(raw)
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	return n, (err == nil || errors.Is(err, strconv.ErrRange)) && n == n
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
	case status >= 500:
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
func (a *answer) refusal() *RefreshError {
	all, _, _ := a.members()
	code, _ := text(all["error"])
	description, _ := text(all["error_description"])
	e := &RefreshError{Status: a.status, Code: sanitize(code, 64), Description: sanitize(description, 200)}
	e.judge(a.header)
	switch {
	case a.status >= 300 && a.status < 400:
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
		e := &RefreshError{Status: r.Response.StatusCode, Code: sanitize(r.ErrorCode, 64), Description: sanitize(r.ErrorDescription, 200)}
		e.judge(r.Response.Header)
		return e
	}
	if errors.Is(err, ErrSessionEnded) {
		return &RefreshError{class: classEnded, ended: true, Err: err}
	}
	e := &RefreshError{class: classTransient, Temporary: true, Err: bare(err)}
	if spends && !isUnsent(err) {
		e.class, e.OutcomeUnknown = classUnknown, true
	}
	return e
}
