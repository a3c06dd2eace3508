package login

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/endpoint"
	"github.com/freshtoken/freshtoken/internal/words"
	"golang.org/x/oauth2"
)

// An expectation is what the ID token of a login has to tell (OpenID Connect
// Core section 3.1.3.7). The zero one expects nothing in particular.
type expectation struct {
	nonce string
	since time.Time // when the person has to have authenticated
}

// maxAge, in seconds, is a max_age that everybody meets: a time.Duration holds it,
// and has room for what a verifier adds. An API may demand any.
const maxAge = 100 * 365 * 24 * 3600

// asksForIDToken reports whether a login is to bring one that is checked.
func asksForIDToken(cfg *freshtoken.Config) bool {
	return cfg.IDTokens != nil && slices.Contains(cfg.OAuth2.Scopes, "openid")
}

// expect adds a nonce to an authorization request that asks for an ID token, and
// reads its max_age.
func expect(cfg *freshtoken.Config, form url.Values) (expectation, error) {
	if !asksForIDToken(cfg) {
		return expectation{}, nil
	}
	e := expectation{nonce: rand.Text()} // 130 random bits
	form.Set("nonce", e.nonce)
	if form.Has("max_age") {
		seconds, err := strconv.ParseUint(form.Get("max_age"), 10, 63)
		if err != nil && !errors.Is(err, strconv.ErrRange) { // seconds is as large as can be then
			return e, errors.New("the login's Params (or Config.LoginParams) have a max_age that is not a number of seconds")
		}
		e.since = time.Now().Add(-time.Duration(min(seconds, maxAge)) * time.Second)
	}
	return e, nil
}

// check has Config.IDTokens check the ID token that a login has brought.
func (e expectation) check(ctx context.Context, cfg *freshtoken.Config, tok *oauth2.Token) error {
	if cfg.IDTokens == nil {
		return nil
	}
	all, _ := tok.Extra(endpoint.AllMembers).(map[string]json.RawMessage)
	raw := endpoint.IDToken(all)
	if raw == "" && !asksForIDToken(cfg) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, grantTime)
	defer cancel()
	err := cfg.IDTokens.VerifyIDToken(ctx, *cfg, freshtoken.IDToken{
		Raw: raw, AccessToken: tok.AccessToken, Nonce: e.nonce, AuthenticatedSince: e.since})
	switch {
	case err == nil:
		return nil
	case endpoint.Repeats(err.Error(), raw, tok.AccessToken, tok.RefreshToken, e.nonce):
		return errors.New("the ID token is not accepted, for a reason that is " + endpoint.Hidden)
	}
	return words.Say(words.Text(err), err)
}
