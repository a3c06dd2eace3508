package freshtoken

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/freshtoken/freshtoken/internal/endpoint"
	"github.com/freshtoken/freshtoken/internal/words"
)

// A ClientAuthenticator proves to the authorization server which client asks
// (RFC 6749 section 2.3), where a secret will not do: by a signed assertion
// (RFC 7523), or by the certificate of the connection (RFC 8705). Package
// clientauth has one for each.
//
// It is asked once for every request to the token endpoint, the revocation
// endpoint, the device authorization endpoint and that for pushed authorization
// requests, just before that is sent, so that no two requests carry the same
// assertion. ctx ends when it is too late for the request. It may be called by
// several goroutines at once.
//
// It returns the parameters to add to the form; client_id is there already. It
// must not return one that is there, nor client_secret, nor one with several
// values, nor an empty one. If it fails, nothing is sent and nothing is spent:
// the session stays as it is. The error, which must hold no secret, is wrapped
// by what callers get; one that has a method Temporary() bool which says so, or
// is a timeout, makes a *RefreshError that is Temporary.
type ClientAuthenticator interface {
	AuthenticateClient(ctx context.Context, to ClientRequest) (url.Values, error)
}

// ClientAuthenticatorFunc is a function that is a ClientAuthenticator.
type ClientAuthenticatorFunc func(ctx context.Context, to ClientRequest) (url.Values, error)

// AuthenticateClient calls f.
func (f ClientAuthenticatorFunc) AuthenticateClient(ctx context.Context, to ClientRequest) (url.Values, error) {
	return f(ctx, to)
}

// A ClientRequest is what a ClientAuthenticator is told of the request that it
// is to authenticate. It holds no secret.
type ClientRequest struct {
	ClientID string // Config.OAuth2.ClientID
	Issuer   string // Config.Issuer; empty if the program does not say
	TokenURL string // Config.OAuth2.Endpoint.TokenURL
	Endpoint string // where the request goes
}

// A ClientDescriber is a ClientAuthenticator that says what it does.
type ClientDescriber interface {
	ClientAuthenticator

	// DescribeClient is called whenever somebody needs to know. It must not
	// block.
	DescribeClient() ClientMethod
}

// ClientMethod describes a way of client authentication. The zero value says
// nothing.
type ClientMethod struct {
	// Names are those that servers have for the method (RFC 8414 section 2:
	// token_endpoint_auth_methods_supported); if there are several, it serves
	// for each. Nil: not told.
	Names []string

	// Algorithm is how assertions are signed, such as "ES256"; empty if there
	// are none.
	Algorithm string

	// MutualTLS: the client presents a certificate, so that the server's
	// mtls_endpoint_aliases are for it (RFC 8705 section 5).
	MutualTLS bool

	// Thumbprint is that of the certificate that is presented now, in the form
	// of RFC 8705 section 3.1; empty if none is. Access tokens may be bound to
	// it. A stored one that was had with another counts as expired, and a
	// refresh token that was had with another, and is refused, stays stored.
	Thumbprint string
}

// ErrClock: the server does not accept this client, or an assertion, and its
// clock differs from that of this machine by more than servers allow for.
var ErrClock = errors.New("the clock of this machine is wrong, or the server's is")

// maxSkew is how far two clocks may differ before a refused assertion is put
// down to them: servers allow for about as much.
const maxSkew = 30 * time.Second

// prover returns how requests of cfg are authenticated; nil: by AuthStyle.
func (c *Config) prover() endpoint.Prover {
	if c.ClientAuth == nil {
		return nil
	}
	a, to := c.ClientAuth, ClientRequest{ClientID: c.OAuth2.ClientID, Issuer: c.Issuer, TokenURL: c.OAuth2.Endpoint.TokenURL}
	return func(ctx context.Context, target string) (url.Values, error) {
		to := to
		to.Endpoint = target
		return a.AuthenticateClient(ctx, to)
	}
}

// unproven makes an error of a ClientAuthenticator that has failed.
func unproven(err error) *RefreshError {
	var late interface{ Timeout() bool }
	passes := endpoint.Passes(err) || errors.As(err, &late) && late.Timeout()
	return &RefreshError{class: classConfiguration, unproven: true, Temporary: passes, Err: err}
}

// suspectClock adds to the refusal of a client that has shown an assertion what
// the server's clock says. granted: the assertion was to grant the token, too.
func (e *RefreshError) suspectClock(h http.Header, now time.Time, granted bool) {
	if e.Code != "invalid_client" && e.class != classRefused && !(granted && e.class == classEnded) {
		return
	}
	at, err := http.ParseTime(h.Get("Date"))
	if err != nil || e.Err != nil {
		return
	}
	switch skew := at.Sub(now); {
	case skew > maxSkew:
		e.Err = wrap(ErrClock, "it is %s behind the server's: set it", words.Duration(skew))
	case skew < -maxSkew:
		e.Err = wrap(ErrClock, "it is %s ahead of the server's: set it", words.Duration(-skew))
	}
}

// thumbprint is that of the certificate that this client presents now, if it
// tells.
func (s *Source) thumbprint() string {
	if d, ok := s.cfg.ClientAuth.(ClientDescriber); ok {
		return d.DescribeClient().Thumbprint
	}
	return ""
}

// foreign reports whether a, which may be nil, was had with another certificate
// than the one that this client presents. Nobody knows whether it is bound to
// that, and a bound one is of no use on our connections (RFC 8705 section 3).
func (s *Source) foreign(a *access) bool {
	if a == nil || a.Thumbprint == "" {
		return false
	}
	now := s.thumbprint()
	return now != "" && now != a.Thumbprint
}

// contested is what callers get whose certificate is not the one that the tokens
// are had with, again and again.
func contested(d time.Duration) *RefreshError {
	return &RefreshError{class: classRefused, Temporary: true, RetryAfter: d, Err: errors.New(
		"another program uses the session with another client certificate, and each takes the token from the other: use one certificate, or a session for each (Config.Session)")}
}

// doubt makes of a clear refusal one that is not: the refresh token of a client
// without a secret is bound to a certificate (RFC 8705 section 4), and whoever
// has that may still use it.
func (e *RefreshError) doubt() {
	if e.class != classEnded {
		return
	}
	e.class, e.ended, e.Uncertain, e.foreign = classDenied, true, true, true
}
