package freshtoken

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// A Transport is an http.RoundTripper that sends the session's access token
// (RFC 6750 section 2.1) to the origins it is meant for. When an API rejects
// the token, it has it replaced and sends the request once more.
//
// It departs from the letter of http.RoundTripper, which should neither
// authenticate nor interpret answers, in just that: one refresh, one replay. A
// caller's request is never modified; an Authorization header that the caller
// has set is sent as it is, and the answer to it is not looked at. Requests to
// the session's token and revocation endpoints pass unsigned.
//
// The fields are set before the first use and not changed thereafter. A
// Transport is safe for concurrent use.
type Transport struct {
	// Source keeps the session. Required.
	Source *Source

	// Base sends the requests. Nil: http.DefaultTransport.
	Base http.RoundTripper

	// Origins are those that get the token, each a scheme, a host and, unless
	// it is the scheme's own, a port: "https://api.example.com". Required,
	// unless AnyOrigin is set. Each request is judged by itself, redirects
	// included. A request to another origin is not sent and fails with
	// ErrOrigin. A redirect to another origin is followed without the token,
	// and so is what it leads to.
	//
	// Plain http is refused but for this machine ("http://127.0.0.1:8080")
	// and the origins in InsecureHTTP.
	Origins []string

	// AnyOrigin sends the token to whatever https origin a request is for.
	// A redirect to another origin is still followed without it.
	AnyOrigin bool

	// PassUnlisted sends requests to other origins without the token, instead
	// of refusing them.
	PassUnlisted bool

	// InsecureHTTP lists plain http origins that may get the token, which
	// everybody on the way can read.
	InsecureHTTP []string

	// Rejected reports whether an answer means that the token was not
	// accepted and that a new one may be. It must not touch the body. Nil: a
	// 401 without a challenge, or with a Bearer challenge whose error is
	// invalid_token or missing (RFC 6750 section 3.1). See RejectedByLogin for
	// another.
	Rejected func(*http.Response) bool

	// NoReplay returns the answer of an API that has rejected the token to
	// the caller. The next request gets a new token.
	NoReplay bool

	once  sync.Once // makes rules and err
	rules rules
	err   error
}

var _ http.RoundTripper = (*Transport)(nil)

// RejectedByLogin returns a Transport.Rejected for APIs behind a proxy that
// answers an expired token with a redirect to its login page. loginURL is that
// page, as far as its address is always the same: what follows it, such as a
// query, does not matter. A path alone is one at the API's own origin. A loginURL
// that is none never matches. What the default takes for a rejection is one, too.
func RejectedByLogin(loginURL string) func(*http.Response) bool {
	login, err := url.Parse(loginURL)
	if err == nil && loginURL == "" {
		err = errors.New("no login page")
	}
	return func(resp *http.Response) bool {
		if rejectedByDefault(resp) {
			return true
		}
		to, missing := resp.Location()
		if err != nil || missing != nil || resp.StatusCode < 300 || resp.StatusCode > 399 {
			return false
		}
		if !login.IsAbs() && resp.Request != nil && resp.Request.URL != nil {
			return sameOrigin(to, resp.Request.URL) && under(to.Path, login.Path)
		}
		return sameOrigin(to, login) && under(to.Path, login.Path)
	}
}

// under reports whether a path is a given one or lies below it.
func under(path, root string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(root, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

func rejectedByDefault(resp *http.Response) bool {
	return resp.StatusCode == http.StatusUnauthorized && asksForNewToken(resp.Header)
}

// RoundTrip implements http.RoundTripper. Its errors are those of Source.Token
// and of the base, and ErrOrigin. Once the API has answered, the caller gets
// that answer: if no new token can be had, it is the rejection.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.once.Do(func() { t.rules, t.err = newRules(t) })
	if t.err != nil {
		return nil, refuse(req, t.err)
	}
	sign, err := t.rules.judge(req)
	if err != nil {
		return nil, refuse(req, err)
	}
	if !sign {
		return t.send(req, req)
	}
	header, ok := copyHeader(req.Header)
	if !ok { // the caller has a credential of its own
		return t.send(req, req)
	}
	v, err := t.Source.view(req.Context())
	if err != nil {
		return nil, refuse(req, err)
	}
	resp, err := t.send(signed(req, header, v), req)
	if err != nil || t.Rejected == nil && resp.StatusCode != http.StatusUnauthorized || !t.isRejected(resp) {
		return resp, err
	}
	return t.replay(req, resp, v)
}

// send has the base send r, which is the caller's req or made of it. The answer
// names req, which shows no token, and by which a redirect is judged; some bases
// name none.
func (t *Transport) send(r, req *http.Request) (*http.Response, error) {
	resp, err := t.base().RoundTrip(r)
	if resp != nil {
		resp.Request = req
	}
	return resp, err
}

// signed returns a copy of a request that shares all but its header. That is
// the given one, and gets the token.
func signed(req *http.Request, header http.Header, v *view) *http.Request {
	r := new(http.Request)
	*r = *req
	r.Header = header
	r.Header["Authorization"] = v.header
	return r
}

// copyHeader returns a copy of a header, with room for one field more. It
// reports false if the header has an Authorization field, however it is spelt:
// beside it, ours would be a second credential.
func copyHeader(h http.Header) (c http.Header, ok bool) {
	switch n := len(h); {
	case n == 0:
		return make(http.Header, 1), true
	case n < 8: // Go keeps eight in one block, which Clone copies as a whole
		return maps.Clone(h), !hasAuthorization(h)
	}
	c = make(http.Header, len(h)+1)
	for name, values := range h {
		if isAuthorization(name) {
			return nil, false
		}
		c[name] = values
	}
	return c, true
}

func hasAuthorization(h http.Header) bool {
	for name := range h {
		if isAuthorization(name) {
			return true
		}
	}
	return false
}

func isAuthorization(name string) bool {
	return len(name) == len("Authorization") && strings.EqualFold(name, "Authorization")
}

func (t *Transport) isRejected(resp *http.Response) bool {
	if t.Rejected != nil {
		return t.Rejected(resp)
	}
	return rejectedByDefault(resp)
}

// maxDrain is the largest body of a rejection that is read, so that its
// connection is free for others, the refresh among them. Its length must be
// known: one that never ends must not hold up the replay.
const maxDrain = 4 << 10

// detach reads the body of a rejection into memory, if it is a small one, and
// leaves the answer with that in its place.
func detach(resp *http.Response) {
	if resp.ContentLength < 0 || resp.ContentLength > maxDrain {
		return
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxDrain))
	resp.Body.Close()
	resp.Body = &detached{Reader: bytes.NewReader(data), err: err}
}

// detached is a body that has been read, with the error that it ended in.
type detached struct {
	*bytes.Reader
	err error
}

func (d *detached) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	if err != nil && d.err != nil {
		err = d.err
	}
	return n, err
}

func (d *detached) Close() error { return nil }

// replay answers a rejection: it gets a newer token and sends the request once
// more. If it can't, resp goes back as it is.
func (t *Transport) replay(req *http.Request, resp *http.Response, v *view) (*http.Response, error) {
	rejected := v.token.AccessToken
	hasBody := req.Body != nil && req.Body != http.NoBody
	if t.NoReplay || hasBody && req.GetBody == nil {
		t.Source.reject(rejected) // the next request gets a new one
		return resp, nil
	}
	detach(resp)
	newer, err := t.Source.renew(req.Context(), rejected)
	if err != nil || newer.id != v.id { // another session's token must not sign this request
		return resp, nil
	}
	header, ok := copyHeader(req.Header)
	if !ok {
		return resp, nil
	}
	again := signed(req, header, newer)
	if hasBody {
		// The base may still be reading the first body.
		if again.Body, err = req.GetBody(); err != nil {
			return resp, nil
		}
	}
	resp.Body.Close()
	t.Source.emit(EventReplayed, nil)
	return t.send(again, req)
}

// refuse closes the body of a request that is not sent, as RoundTripper
// demands.
func refuse(req *http.Request, err error) error {
	if req.Body != nil {
		req.Body.Close()
	}
	return public(err)
}

func (t *Transport) base() http.RoundTripper {
	if t.Base != nil {
		return t.Base
	}
	return http.DefaultTransport
}

// CloseIdleConnections closes those of the base, if it knows how to.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// describe is what a Transport shows of itself.
func (t *Transport) describe() string {
	return fmt.Sprintf("freshtoken.Transport{Source: %v, Origins: %q}", t.Source, t.Origins)
}

// Format implements fmt.Formatter: no verb shows a token.
func (t *Transport) Format(f fmt.State, _ rune) { fmt.Fprint(f, t.describe()) }

// MarshalJSON implements json.Marshaler, without a token.
func (t *Transport) MarshalJSON() ([]byte, error) { return marshalString(t.describe()) }

// LogValue implements slog.LogValuer, without a token.
func (t *Transport) LogValue() slog.Value { return slog.StringValue(t.describe()) }
