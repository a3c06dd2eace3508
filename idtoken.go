package freshtoken

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/freshtoken/freshtoken/internal/endpoint"
	"golang.org/x/oauth2"
)

// An IDTokenVerifier checks the ID tokens of a session (OpenID Connect Core
// sections 3.1.3.7 and 12.2). Package openid has one. It may be called by
// several goroutines at once.
type IDTokenVerifier interface {
	// VerifyIDToken returns nil if t is an ID token of cfg.Issuer, for
	// cfg.OAuth2.ClientID and for the person of the session. Otherwise nothing of
	// the answer that it came with is used, and the error, which must hold no
	// token, is wrapped by what callers get.
	//
	// At a refresh an error that has a method Temporary() bool which says so, or
	// that is about ctx, means that all that tells one session from another is
	// right, and that something else could not be found out, or depends on a
	// clock: the answer's refresh token is then kept, and its access token is
	// not. Refreshes wait for ten seconds at most.
	VerifyIDToken(ctx context.Context, cfg Config, t IDToken) error
}

// An IDToken is what an IDTokenVerifier is told of an ID token. It does not
// print its tokens.
type IDToken struct {
	// Raw is the ID token as the server sent it, which may be anything. Empty: a
	// login that asked for one, by the scope openid, has brought none. (A refresh
	// need not bring one, and there is nothing to check then.)
	Raw string

	// AccessToken is the one that it came with; empty if that was of no use.
	AccessToken string

	// Nonce is what the login sent along; empty: nothing.
	Nonce string

	// AuthenticatedSince is when the person has to have proved who they are at
	// the earliest, if the login asked for that by max_age; zero: at any time.
	AuthenticatedSince time.Time

	// Refreshed: it came with a refresh. Login is then the one that the session
	// began with; empty if that had none.
	Refreshed bool
	Login     string
}

// Format implements fmt.Formatter: no verb shows a token.
func (t IDToken) Format(f fmt.State, _ rune) { fmt.Fprint(f, t.describe()) }

// MarshalJSON implements json.Marshaler, without a token.
func (t IDToken) MarshalJSON() ([]byte, error) { return marshalString(t.describe()) }

// LogValue implements slog.LogValuer, without a token.
func (t IDToken) LogValue() slog.Value { return slog.StringValue(t.describe()) }

func (t IDToken) describe() string {
	return fmt.Sprintf("freshtoken.IDToken{Refreshed: %t}", t.Refreshed)
}

// verifyTime bounds what Config.IDTokens takes at a refresh, while the lock is
// held.
const verifyTime = 10 * time.Second

// idTokenOf returns the ID token that came with tok, as it is; "" if none did.
func idTokenOf(tok *oauth2.Token) string {
	if all, ok := tok.Extra(endpoint.AllMembers).(map[string]json.RawMessage); ok {
		return endpoint.IDToken(all)
	}
	raw, _ := tok.Extra("id_token").(string)
	return raw
}

// checkIDToken has Config.IDTokens check the ID token of an answer to a refresh
// of r, before anything of the answer is used: of access, which is empty if it is
// of no use, and refresh. The result is nil if there is nothing against it. passes
// says that it may be ours all the same.
func (s *Source) checkIDToken(r *record, raw, access, refresh string) (e *RefreshError, passes bool) {
	if s.cfg.IDTokens == nil || raw == "" || raw == r.firstIDToken() || raw == r.idToken() {
		return nil, false // there is none, or no other than has been checked
	}
	t := IDToken{Raw: raw, AccessToken: access, Refreshed: true, Login: r.firstIDToken()}
	err := s.verify(t)
	if err == nil {
		return nil, false
	}
	shown := endpoint.Hide(err, raw, t.Login, access, refresh)
	if unsettled(err) {
		return unusable(refresh, shown), true
	}
	return &RefreshError{class: classMistaken, Err: shown}, false
}

// verify has Config.IDTokens check t. Unlike a call of the store, one that does
// not return is no reason to wait: what the server has issued is to be saved.
func (s *Source) verify(t IDToken) error {
	ctx, cancel := context.WithTimeout(context.Background(), verifyTime)
	defer cancel()
	s.stopWith(cancel) // Close need not wait for it
	defer s.stopWith(nil)
	err := errExit
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = s.cfg.IDTokens.VerifyIDToken(ctx, s.cfg, t)
	}()
	select {
	case <-done:
		return err
	case <-ctx.Done():
	}
	if returned(done, hangTime) {
		return err
	}
	s.inTurn.verifying = done
	return errHangs
}

// verifiable reports whether the next ID token could be checked: not while
// Config.IDTokens has not returned from the last.
func (s *Source) verifiable() bool {
	return s.inTurn.verifying == nil || returned(s.inTurn.verifying, 0)
}

// unsettled reports whether an error of Config.IDTokens leaves open whose the ID
// token is.
func unsettled(err error) bool {
	return endpoint.Passes(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, errHangs) || errors.Is(err, errExit)
}

// idToken is the newest ID token of the session; "" if it has none.
func (r *record) idToken() string { return endpoint.IDToken(r.Extra) }

// firstIDToken is the one that the session began with, with which every later one
// is compared: those of refreshes may lack what that has.
func (r *record) firstIDToken() string {
	if r.LoginIDToken != "" {
		return r.LoginIDToken
	}
	return r.idToken()
}

// keepFirst keeps, in the record that follows r, the ID token that its session
// began with, if the refresh has brought another.
func (s *Source) keepFirst(r, next *record) {
	if s.cfg.IDTokens != nil && next.idToken() != r.idToken() {
		next.LoginIDToken = r.firstIDToken()
	}
}
