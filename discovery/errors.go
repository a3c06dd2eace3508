package discovery

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/freshtoken/freshtoken/internal/endpoint"
)

// Errors to branch on, with errors.Is. The text of each says what to do.
var (
	// ErrIssuer: the issuer that was asked for is not an issuer identifier
	// (RFC 8414 section 2), or the server says that it is another one. Correct
	// Config.Issuer. If it is right, somebody else answers in the server's
	// place; nothing of that answer has been used.
	ErrIssuer = errors.New("issuer refused")

	// ErrNotFound: the server has answered, but has no metadata at any of the
	// usual addresses. Correct Config.Issuer, or write the endpoints into the
	// Config instead.
	ErrNotFound = errors.New("no metadata found")

	// ErrInvalid: the server's metadata cannot be used: a member of the wrong
	// type or given twice, an endpoint that is not https, too much of it, a
	// redirect to another origin. The server's operator can mend it; until
	// then, write the endpoints into the Config instead.
	ErrInvalid = errors.New("unusable metadata")

	// ErrClientAuth: the Config has a ClientSecret, and the server takes no
	// secret in a way that this library knows; or the Config has a ClientAuth,
	// and the server does not take what that does. The text names the ways that
	// the server has.
	ErrClientAuth = errors.New("no way to authenticate the client at this server")

	// ErrUnavailable: no answer, or one that says to come later. It passes as
	// a rule; it says nothing about the issuer, nor about any session. What it
	// wraps is the network's error, if there is one.
	ErrUnavailable = errors.New("the server could not be asked for its metadata")
)

// instead is the way out that is always there.
const instead = "write the endpoints into Config.OAuth2.Endpoint instead"

// fail makes an error that leaves the package: its name once, a sentinel to
// branch on, and what happened.
func fail(sentinel error, format string, args ...any) error {
	return fmt.Errorf("discovery: %w: %w", sentinel, fmt.Errorf(format, args...))
}

// absent says why an address has no metadata, which is a reason to try the
// next one.
type absent string

func (a absent) Error() string { return string(a) }

// A networkError shows an error of net/http without what might harm a
// terminal: some of them quote what the server sent.
type networkError struct{ err error }

func (n networkError) Error() string { return endpoint.Sanitize(n.err.Error(), 300) }
func (n networkError) Unwrap() error { return n.err }

// unavailable makes an error of a request that failed at address.
func unavailable(address string, err error) error {
	host := ""
	if u, perr := url.Parse(address); perr == nil {
		host = u.Host
	}
	network := new(url.Error)
	bad := new(tls.CertificateVerificationError)
	switch {
	case errors.As(err, &bad):
		return fail(ErrUnavailable, "%s: %w: check the issuer, and which certificates the HTTP client trusts", address, networkError{endpoint.Bare(err)})
	case errors.Is(err, http.ErrSchemeMismatch):
		return fail(ErrUnavailable, "%s: %w: check whether the issuer begins with http or https", address, networkError{endpoint.Bare(err)})
	case errors.As(err, &network) && endpoint.IsUnsent(err):
		return fail(ErrUnavailable, "%w; if the server is down, try again later", networkError{&endpoint.SendError{Host: host, Err: network.Err, Unsent: true}})
	}
	return fail(ErrUnavailable, "%s: %w: try again later; if it stays like this, check the issuer and the network, or %s", address, networkError{endpoint.Bare(err)}, instead)
}

// printable reports whether r is a visible character of ASCII. URLs consist of
// nothing else (RFC 3986 section 2).
func printable(r rune) bool { return 0x20 < r && r < 0x7f }
