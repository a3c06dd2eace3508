package openid

import (
	"errors"
	"fmt"

	"github.com/freshtoken/freshtoken/internal/endpoint"
)

// Errors to branch on, with errors.Is: each says which rule of OpenID Connect
// Core an ID token breaks. The text of each says what to do, and holds nothing of
// the token that tells who somebody is.
var (
	// ErrMissing: the login was to bring an ID token, and has brought none
	// (section 3.1.3.3); or a token for ClaimsOf has none.
	ErrMissing = errors.New("there is no ID token")

	// ErrMalformed: the ID token cannot be read, or lacks a claim that each must
	// have (section 2). An encrypted one is among these.
	ErrMalformed = errors.New("the ID token cannot be read")

	// ErrAlgorithm: the ID token is signed by an algorithm that is not accepted,
	// such as "none" (section 3.1.3.7, rules 7 and 8).
	ErrAlgorithm = errors.New("the ID token is signed in a way that is not accepted")

	// ErrSignature: no key of the server has made the signature (rule 6).
	ErrSignature = errors.New("the signature of the ID token is wrong")

	// ErrIssuer: another server has issued it (rule 2, section 12.2).
	ErrIssuer = errors.New("the ID token is from another issuer")

	// ErrAudience: it is for another client, also for others than this one, or
	// at a refresh for others than the login's (rules 3 to 5, section 12.2).
	ErrAudience = errors.New("the ID token is for another client")

	// ErrSubject: a refresh has brought the ID token of another person than the
	// one who has logged in (section 12.2).
	ErrSubject = errors.New("the ID token is another person's")

	// ErrNonce: it belongs to another login (rule 11, section 12.2).
	ErrNonce = errors.New("the ID token belongs to another login")

	// ErrAccessToken: it belongs to another access token than the one that it
	// came with (section 3.1.3.8).
	ErrAccessToken = errors.New("the ID token belongs to another access token")

	// ErrAuthTime: the person has not proved who they are as recently as the
	// login asked for (rule 13), or, according to a refresh, at another time than
	// at the login (section 12.2).
	ErrAuthTime = errors.New("the ID token tells of another authentication")

	// ErrExpired: it has expired, or is not valid yet (rule 9).
	ErrExpired = errors.New("the ID token is not valid at this time")

	// ErrIssuedAt: it was issued in the future, or too long ago (rule 10).
	ErrIssuedAt = errors.New("the ID token was issued at another time")

	// ErrKeys: the server's keys could not be had, or Verifier or Config lack
	// what it takes to check anything.
	ErrKeys = errors.New("the keys to check ID tokens with could not be had")
)

// fail makes an error that leaves the package: its name once, a sentinel to
// branch on, and what to do.
func fail(sentinel error, format string, args ...any) error {
	return fmt.Errorf("openid: %w: %w", sentinel, fmt.Errorf(format, args...))
}

// show makes what a server says fit to be quoted.
func show(s string) string { return endpoint.Sanitize(s, 100) }
