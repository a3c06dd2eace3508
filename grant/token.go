package grant

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/endpoint"
)

// Types of tokens (RFC 8693 section 3).
const (
	TypeAccessToken  = "urn:ietf:params:oauth:token-type:access_token"
	TypeRefreshToken = "urn:ietf:params:oauth:token-type:refresh_token"
	TypeIDToken      = "urn:ietf:params:oauth:token-type:id_token"
	TypeSAML1        = "urn:ietf:params:oauth:token-type:saml1"
	TypeSAML2        = "urn:ietf:params:oauth:token-type:saml2"
	TypeJWT          = "urn:ietf:params:oauth:token-type:jwt"
)

// A TokenFunc returns a token that is valid now, and its type, a URI such as
// TypeJWT. It is called for each request, by one goroutine at a time for a
// Source, and must not ask that Source for its token. Its error, which must not
// hold the token, is wrapped by what callers of the Source get, and counts as
// one that passes.
type TokenFunc func(ctx context.Context) (token, tokenType string, err error)

// AccessToken returns the access tokens of another session, such as that of a
// user on whose behalf a service acts. If that session has ended, callers of both
// find freshtoken.ErrSessionEnded, and log in there.
func AccessToken(src *freshtoken.Source) TokenFunc {
	return func(ctx context.Context) (string, string, error) {
		tok, err := src.Token(ctx)
		if err != nil {
			return "", "", err
		}
		return tok.AccessToken, TypeAccessToken, nil
	}
}

// maxFile bounds what is read of a file, in bytes; no token comes near.
const maxFile = 1 << 20

// File returns what a file has, read anew each time, without the white space
// around it: for tokens that a platform puts there and renews, such as the
// projected service account tokens of Kubernetes, which are of TypeJWT.
func File(path, tokenType string) TokenFunc {
	return func(context.Context) (string, string, error) {
		f, err := os.Open(path)
		if err != nil {
			return "", "", err
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
		if err == nil && len(data) > maxFile {
			err = fmt.Errorf("%s is larger than %d bytes, and no token", path, maxFile)
		}
		return string(bytes.TrimSpace(data)), tokenType, err
	}
}

// get calls a TokenFunc. what names the token.
func (f TokenFunc) get(ctx context.Context, what string) (token, tokenType string, err error) {
	token, tokenType, err = f(ctx)
	switch {
	case err != nil:
		return "", "", notYet(what+" could not be had: ", endpoint.Hide(err, token))
	case token == "":
		return "", "", notYet("", fail(ErrNoSubject, "%s is empty", what))
	case !endpoint.Printable(token):
		return "", "", notYet("", fail(ErrNoSubject, "%s has characters that no token has", what))
	}
	return token, tokenType, nil
}
