// Package peers sets each library up as its own users would.
package peers

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/oauth2"
)

// A Setup is what a library is given to work with.
type Setup struct {
	OAuth2 *oauth2.Config    // the client and the token endpoint
	HTTP   *http.Client      // reaches the token endpoint
	Base   http.RoundTripper // carries the requests to the API
	Origin string            // of the API

	// Token is that of a login, with its Expiry. Nil: the session is in Dir.
	Token *oauth2.Token

	// Lead is how long before expiry a token may be replaced, for libraries
	// that let their users say so.
	Lead time.Duration

	// Dir is where a library that stores sessions keeps them. Empty: memory,
	// or a directory that Close removes, for a library that needs one.
	Dir string
}

// A Session is a library at work.
type Session struct {
	// Token returns an access token that is not expired; nil if the library
	// has no such function beside its transport.
	Token func(context.Context) (string, error)

	// Transport sends requests with the token; nil if the library has none,
	// and its users write their own around Token.
	Transport http.RoundTripper

	// Close ends it; nil if there is nothing to end.
	Close func() error
}

// A Peer is a library, or a way to use one.
type Peer struct {
	Name   string
	Module string // its path, by which the version is found; empty for floors
	Stores bool   // it can keep a session in Setup.Dir and find it there again
	Open   func(Setup) (*Session, error)
}

// All returns the libraries in the order in which tables show them.
func All() []Peer {
	return []Peer{
		Freshtoken,
		FreshtokenBackground,
		XOAuth2,
		Google,
		Smithy,
		Azcore,
		AzcoreChallenge,
		ClientGo,
		MSAL,
		SSOCreds,
		SaveToFile,
	}
}
