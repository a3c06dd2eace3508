package freshtoken

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/freshtoken/freshtoken/internal/endpoint"
)

// Token revocation, RFC 7009.

const (
	// revokeTime bounds what Logout waits for the server, all attempts together.
	revokeTime = 10 * time.Second

	// A revocation endpoint that answers 503 is asked this often.
	maxRevocations = 3
)

// revoke has the server revoke the session's tokens. It is in time whatever
// Config.HTTPClient does with its context: the tombstone has to be written, and
// others wait for the lock. The turn is held.
func (s *Source) revoke(r *record) error {
	if s.cfg.RevocationURL == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), revokeTime-hangTime)
	defer cancel()
	err := errExit
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = s.revokeAll(ctx, r)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		if !returned(done, hangTime) {
			return wrap(ErrNotRevoked, "revocation endpoint: %w", errHangs)
		}
	}
	if err != nil {
		return wrap(ErrNotRevoked, "%w", err)
	}
	return nil
}

// revokeAll revokes the refresh token, which takes the others with it (section
// 2.1), or else the access token.
func (s *Source) revokeAll(ctx context.Context, r *record) error {
	if r.RefreshToken == "" {
		err := s.revokeToken(ctx, r.AccessToken, "access_token")
		if errors.Is(err, errUnsupportedType) {
			return nil // a server need not know how to (section 2); the token dies by itself
		}
		return err
	}
	err := s.revokeToken(ctx, r.RefreshToken, "refresh_token")
	if errors.Is(err, errUnsupportedType) {
		for _, token := range r.accessTokens() {
			s.revokeToken(ctx, token, "access_token") // better than nothing
		}
	}
	return err
}

var errUnsupportedType = errors.New("the server does not revoke tokens of this type: revoke at the server's account page")

// revokeToken revokes one token. Any answer but 200 leaves it valid, as far as
// anyone knows; a 503 asks to try again (section 2.2.1). Some servers say that a
// token is invalid where section 2.2 has them say 200: it is what was asked for.
func (s *Source) revokeToken(ctx context.Context, token, hint string) error {
	for n := 1; ; n++ {
		answer, err := s.server.Post(ctx, s.cfg.RevocationURL, url.Values{"token": {token}, "token_type_hint": {hint}})
		if err != nil {
			return endpoint.Hide(err, token, s.cfg.OAuth2.ClientSecret)
		}
		refusal := answer.Refusal()
		switch {
		case answer.Status == http.StatusOK, answer.Status == http.StatusBadRequest && refusal.Code == "invalid_token":
			return nil
		case refusal.Code == "unsupported_token_type":
			return errUnsupportedType
		case endpoint.Repeats(refusal.Code, token, s.cfg.OAuth2.ClientSecret):
			refusal.Code = ""
		}
		err = fmt.Errorf("the revocation endpoint answered %v: check Config.RevocationURL, or revoke at the server's account page", refusal)
		if answer.Status != http.StatusServiceUnavailable || n == maxRevocations || ctx.Err() != nil {
			return err
		}
		pause := max(retryAfter(answer.Header, time.Now()), backoff(n, s.random()))
		if deadline, _ := ctx.Deadline(); time.Until(deadline) <= pause {
			return err // whoever logs out does not wait that long
		}
		time.Sleep(pause) // within the deadline
	}
}
