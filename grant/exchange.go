package grant

import (
	"context"
	"net/url"
	"slices"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/endpoint"
	"golang.org/x/oauth2"
)

// A TokenExchange has each token in exchange for another one (RFC 8693): a
// Config.Refresher, and the session's beginning. Its fields are set before use
// and not changed thereafter; it is then safe for concurrent use.
//
// What the server has issued, Extra("issued_token_type") of the Source's tokens
// tells. A token that is no Bearer token, of token_type N_A for instance, is
// freshtoken.ErrBadToken.
type TokenExchange struct {
	// Subject returns the token to exchange, which says on whose behalf the new
	// one is asked for. Required.
	Subject TokenFunc

	// Actor returns a token that says who acts on behalf of the subject. Nil:
	// nobody is named.
	Actor TokenFunc

	// RequestedType is the type of token to ask for, such as TypeAccessToken.
	// Empty: the server chooses.
	RequestedType string

	// Resource has the URIs of the services that the token is for, absolute and
	// without a fragment.
	Resource []string

	// Audience has the names by which the server knows those services.
	Audience []string

	// Scopes are those that the token is to have. Nil: the server chooses.
	Scopes []string
}

var (
	_ freshtoken.ConfigRefresher = (*TokenExchange)(nil)
	_ freshtoken.Authenticator   = (*TokenExchange)(nil)
)

// adviceExchange is what to do about the refusals of RFC 8693 section 2.2.2.
var adviceExchange = map[string]string{
	"invalid_grant":   adviceSubject,
	"invalid_request": adviceSubject,
	"invalid_token":   adviceSubject,
	"access_denied":   adviceSubject,
	"invalid_target":  "check Resource and Audience of the TokenExchange against what the server knows, and what it lets this client have",
	"invalid_scope":   "check Scopes of the TokenExchange against what the server knows, and what it lets this client have",
}

const adviceSubject = "check that the subject token is valid, is meant for this server, and is of the type that Subject says, and so for an actor token"

// ForConfig implements freshtoken.ConfigRefresher. The errors are ErrNoSubject,
// ErrTokenType, ErrResource, ErrParameter and ErrConfig.
func (x *TokenExchange) ForConfig(cfg freshtoken.Config) (freshtoken.Refresher, error) {
	if x == nil || x.Subject == nil {
		return nil, fail(ErrNoSubject, "TokenExchange.Subject is nil: set it to what returns the token to exchange, such as grant.File or grant.AccessToken")
	}
	if x.RequestedType != "" && !isURI(x.RequestedType) {
		return nil, fail(ErrTokenType, "TokenExchange.RequestedType must be a URI, such as grant.TypeAccessToken")
	}
	for _, r := range x.Resource {
		if !endpoint.IsResource(r) {
			return nil, fail(ErrResource, "TokenExchange.Resource has %q: give an absolute URI without a fragment", endpoint.Sanitize(endpoint.WithoutQuery(r), 100))
		}
	}
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}}
	if x.RequestedType != "" {
		form.Set("requested_token_type", x.RequestedType)
	}
	if len(x.Resource) > 0 {
		form["resource"] = slices.Clone(x.Resource)
	}
	if len(x.Audience) > 0 {
		form["audience"] = slices.Clone(x.Audience)
	}
	if err := addScope(form, x.Scopes); err != nil {
		return nil, err
	}
	r, err := newRequest(cfg, form, "subject_token", "subject_token_type", "actor_token", "actor_token_type", "requested_token_type")
	if err != nil {
		return nil, err
	}
	r.own, r.advice = x.tokens, adviceExchange
	return r, nil
}

// tokens returns the parameters that are new each time.
func (x *TokenExchange) tokens(ctx context.Context) (url.Values, error) {
	form := make(url.Values)
	for _, t := range []struct {
		name, what string
		get        TokenFunc
	}{{"subject_token", "the subject token", x.Subject}, {"actor_token", "the actor token", x.Actor}} {
		if t.get == nil {
			continue
		}
		token, tokenType, err := t.get.get(ctx, t.what)
		if err != nil {
			return nil, err
		}
		if !isURI(tokenType) {
			return nil, notYet("", fail(ErrTokenType, "that of %s must be a URI, such as grant.TypeJWT", t.what))
		}
		form.Set(t.name, token)
		form.Set(t.name+"_type", tokenType)
	}
	return form, nil
}

// Authenticate implements freshtoken.Authenticator: the first token is had as the
// others are.
func (x *TokenExchange) Authenticate(ctx context.Context, cfg freshtoken.Config) (*oauth2.Token, error) {
	return begin(ctx, x, cfg)
}

// Refresh is there for Config.Refresher, whose Source calls what ForConfig
// returns. By itself it is ErrConfig.
func (x *TokenExchange) Refresh(context.Context, *oauth2.Token) (*oauth2.Token, error) {
	return nil, unbound()
}

// isURI reports whether s is an absolute URI (RFC 3986 section 4.3, or with a
// fragment).
func isURI(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.IsAbs() && (u.Host != "" || u.Opaque != "") && endpoint.Printable(s)
}
