// Package endpoint talks to the endpoints of an authorization server as a
// client: one POST that carries the client's authentication and follows no
// redirect, and a bounded answer, read strictly. What an answer means for a
// session, or for a login, is for the caller to say.
package endpoint

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/freshtoken/freshtoken/internal/words"
	"golang.org/x/oauth2"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

// A Client is how one OAuth client talks to its authorization server.
type Client struct {
	http       *http.Client
	oauth2     oauth2.Config
	plainBasic bool
	prove      Prover
}

// A Prover returns the parameters that prove to an endpoint which client asks.
type Prover func(ctx context.Context, target string) (url.Values, error)

// New returns the Client of o. client sends the requests; nil means one over
// http.DefaultTransport. plainBasic leaves out the form-encoding of HTTP Basic.
// prove, if not nil, takes the place of the secret.
func New(client *http.Client, o *oauth2.Config, plainBasic bool, prove Prover) *Client {
	c := new(http.Client)
	if client != nil {
		*c = *client
	}
	// A redirect would carry tokens, codes and the client's secret to wherever
	// it points.
	FollowNone(c)
	return &Client{http: c, oauth2: *o, plainBasic: plainBasic, prove: prove}
}

// Location is where the answers that a client of FollowNone gets have what was
// the Location of a redirect.
const Location = "\x00Location"

// FollowNone has a client return redirects as they are. A CheckRedirect does not
// do for that: package http looks at the Location first, and fails if it is no
// URL, with all of it in the error.
func FollowNone(c *http.Client) { c.Transport = followNone{c.Transport} }

type followNone struct{ base http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (f followNone) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := f.transport().RoundTrip(req)
	if resp != nil && resp.Header.Get("Location") != "" {
		resp.Header = resp.Header.Clone()
		resp.Header[Location] = resp.Header["Location"]
		resp.Header.Del("Location")
	}
	return resp, err
}

// CloseIdleConnections implements what http.Client looks for.
func (f followNone) CloseIdleConnections() {
	if base, ok := f.transport().(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

func (f followNone) transport() http.RoundTripper {
	if f.base == nil {
		return http.DefaultTransport
	}
	return f.base
}

// CheckClient is what to do where a server accepts this client in no request.
const CheckClient = "check ClientID of Config.OAuth2 and, if the client has a secret, ClientSecret and Endpoint.AuthStyle " +
	"(one of oauth2.AuthStyleInHeader and oauth2.AuthStyleInParams)"

// CheckClientAuth is the same where the client proves who it is by other means.
const CheckClientAuth = "check ClientID of Config.OAuth2, and that the server knows this client with the method and the key, or the certificate, " +
	"of Config.ClientAuth; for assertions also Config.Issuer, which is their audience, and clientauth.Options"

// NotAccepted says that the server does not accept the client. proves says whether the client has a
// Prover.
func NotAccepted(proves bool) string {
	if proves {
		return "the server does not accept this program's client ID or its proof of being that client"
	}
	return "the server does not accept this program's client ID or client secret"
}

// Unproven is what has happened if a Prover fails.
const Unproven = "this program cannot prove to the server which client it is"

// An AuthError is the failure of a Prover. Nothing was sent.
type AuthError struct{ Err error }

func (e *AuthError) Error() string { return Unproven + ": " + words.Text(e.Err) }
func (e *AuthError) Unwrap() error { return e.Err }

// A SendError is the failure of a request that got no answer.
type SendError struct {
	Host   string // that was asked
	Err    error
	Unsent bool // provably
}

func (e *SendError) Error() string {
	if bad := new(tls.CertificateVerificationError); errors.As(e.Err, &bad) {
		return fmt.Sprintf("%s cannot prove who it is (%v): check the clock of this machine, and which certificates it trusts", e.Host, e.Err)
	}
	if e.Unsent {
		return fmt.Sprintf("cannot reach %s (%s): check the network connection, and that this is the right address", e.Host, reason(e.Err))
	}
	return fmt.Sprintf("no answer from %s (%s)", e.Host, reason(e.Err))
}

func (e *SendError) Unwrap() error { return e.Err }

// reason is what an error of package net says, without how it came to say so.
func reason(err error) string {
	if op := new(net.OpError); errors.As(err, &op) && op.Op == "proxyconnect" {
		return "by way of the proxy: " + reason(op.Err)
	}
	var errno syscall.Errno
	var timeout interface{ Timeout() bool }
	dns := new(net.DNSError)
	switch {
	case errors.As(err, &dns):
		return "its name could not be looked up: " + strings.TrimSpace(dns.Err[strings.LastIndex(dns.Err, ": ")+1:])
	case errors.Is(err, context.Canceled), errors.As(err, &timeout) && timeout.Timeout():
		return "it took too long"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed"
	}
	return err.Error()
}

// Post sends a form, authenticated as the client, and reads the answer. It adds
// to form what the client's authentication wants there. The error, if any, is a
// *SendError or an *AuthError. The form is sent once, whatever the transport
// likes to repeat.
func (c *Client) Post(ctx context.Context, target string, form url.Values) (*Answer, error) {
	basic, proof, err := c.authenticate(ctx, target, form)
	if err != nil {
		return nil, &AuthError{err}
	}
	var wanted, got atomic.Bool // a connection
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { wanted.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { got.Store(true) },
	})
	b := &body{form: form.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, nil)
	if err == nil {
		req.ContentLength = int64(len(b.form))
		req.Body, err = b.reader()
	}
	if err != nil {
		return nil, &SendError{Host: "the server", Err: Bare(err), Unsent: true}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if basic != "" {
		req.Header.Set("Authorization", basic)
	}
	// What comes after an answer on a connection that is kept, net/http prints
	// to the program's log, and it may be the rest of the answer. There is no
	// other request for a long while.
	req.Close = true
	client := *c.http
	client.Transport = b.over(client.Transport)
	resp, err := client.Do(req)
	if err != nil {
		// Nothing was sent if nobody has read the form, or if a transport that
		// traces its connections never had one; others do not trace, and their
		// silence proves nothing. A transport that had a connection, and then
		// failed to get another, may have sent the request on the first.
		never := !got.Load() && (wanted.Load() || IsUnsent(err))
		return nil, &SendError{Host: req.URL.Host, Err: Hide(Bare(err), proof...), Unsent: !b.end() || never}
	}
	defer resp.Body.Close()
	a := &Answer{Status: resp.StatusCode, Header: resp.Header, proof: proof}
	a.body, a.err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if len(a.body) > maxAnswer {
		a.body, a.err = a.body[:maxAnswer], fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	a.err = Hide(Bare(a.err), proof...)
	return a, nil
}

// authenticate adds to the form what the client's authentication method wants
// there, and returns the Authorization header, if any, and what nobody but the
// server is to see of a proof. The method follows from the configuration alone:
// trying one after the other would spend the refresh token, or the code.
func (c *Client) authenticate(ctx context.Context, target string, form url.Values) (basic string, proof []string, err error) {
	id, secret := c.oauth2.ClientID, c.oauth2.ClientSecret
	if c.prove != nil {
		form.Set("client_id", id) // RFC 8705 section 2; with an assertion it does no harm
		proof, err := c.addProof(ctx, target, form)
		return "", proof, err
	}
	if c.oauth2.Endpoint.AuthStyle == oauth2.AuthStyleInParams || secret == "" {
		if id != "" { // or the grant itself says who asks (RFC 7521 section 4.1)
			form.Set("client_id", id)
		}
		if secret != "" {
			form.Set("client_secret", secret)
		}
		return "", nil, nil
	}
	if !c.plainBasic { // RFC 6749 section 2.3.1
		id, secret = url.QueryEscape(id), url.QueryEscape(secret)
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret)), nil, nil
}

// addProof adds to the form what the Prover returns.
func (c *Client) addProof(ctx context.Context, target string, form url.Values) (proof []string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	params, err := c.prove(ctx, target)
	if err != nil {
		return nil, err
	}
	for name, values := range params {
		switch {
		case form.Has(name) || name == "client_secret":
			return nil, fmt.Errorf("Config.ClientAuth has returned the parameter %q, which is not for it to set", Sanitize(name, 40))
		case len(values) != 1 || values[0] == "":
			return nil, fmt.Errorf("Config.ClientAuth has returned the parameter %q without one value", Sanitize(name, 40))
		}
		form[name] = values
		if name != "client_assertion_type" {
			proof = append(proof, values[0])
		}
	}
	return proof, nil
}

// IsUnsent reports whether an error of net/http proves by itself that no byte
// of the request was sent.
func IsUnsent(err error) bool {
	if op := new(net.OpError); errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect") {
		return true
	}
	dns := new(net.DNSError)
	return errors.As(err, &dns)
}

// Bare strips the URL, whose query may hold what nobody should see, from an
// error of net/http.
func Bare(err error) error {
	if u := new(url.Error); errors.As(err, &u) {
		return u.Err
	}
	return err
}

// CheckURL checks the URL of an endpoint that will receive secrets. The error
// goes on where a sentence has named it. insecureHTTP allows plain http to
// other machines.
func CheckURL(raw string, insecureHTTP bool) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "":
		return errors.New("is not an absolute URL")
	case u.User != nil:
		return errors.New("has a user or password in it: secrets belong into ClientSecret")
	case u.Fragment != "" || strings.HasSuffix(raw, "#"):
		return errors.New("has a fragment, which RFC 6749 section 3.2 forbids")
	case u.Scheme == "https", u.Scheme == "http" && (insecureHTTP || IsLoopback(u.Hostname())):
		return nil
	case u.Scheme == "http":
		return fmt.Errorf("is plain http to %s: use https, or set Config.InsecureHTTP if the network is trusted", u.Host)
	default:
		return fmt.Errorf("has the scheme %q: use https", u.Scheme)
	}
}

// IsLoopback reports whether a host name means this machine, as RFC 8252
// section 7.3 and browsers see it.
func IsLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// WithoutQuery shortens a URL to what may be shown.
func WithoutQuery(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// IsResource reports whether s can name a resource in a request: an absolute URI
// without a fragment (RFC 8707 section 2, RFC 8693 section 2.1).
func IsResource(s string) bool {
	u, err := url.Parse(s)
	if err != nil || !u.IsAbs() || u.Host == "" && u.Opaque == "" {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '#' { // a URI has visible ASCII alone (RFC 3986)
			return false
		}
	}
	return true
}
