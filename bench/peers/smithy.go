package peers

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/aws/smithy-go/auth/bearer"
)

// Smithy is the token cache of the AWS SDK, with the options that the SDK
// gives it. The refresh is the caller's code. So is the transport: the library
// signs requests of its own kind only.
var Smithy = Peer{Name: "aws smithy-go", Module: "github.com/aws/smithy-go", Open: openSmithy}

func openSmithy(s Setup) (*Session, error) {
	if s.Token == nil {
		return nil, errNoStore
	}
	r := newRenewer(s)
	cache := newTokenCache(s, bearer.TokenProviderFunc(func(ctx context.Context) (bearer.Token, error) {
		tok, err := r.token(ctx)
		if err != nil {
			return bearer.Token{}, err
		}
		return bearer.Token{Value: tok.AccessToken, CanExpire: true, Expires: tok.Expiry}, nil
	}))
	if fresh(s.Token) {
		if _, err := cache.RetrieveBearerToken(context.Background()); err != nil {
			return nil, err
		}
	}
	return &Session{Token: tokenOf(cache)}, nil
}

// newTokenCache makes a cache as config.LoadDefaultConfig does: five minutes
// before expiry, unless the Setup says otherwise, and half a minute for a
// refresh.
func newTokenCache(s Setup, p bearer.TokenProvider) *bearer.TokenCache {
	return bearer.NewTokenCache(p, func(o *bearer.TokenCacheOptions) {
		o.RefreshBeforeExpires = cmp.Or(s.Lead, 5*time.Minute)
		o.RetrieveBearerTokenTimeout = 30 * time.Second
	})
}

func tokenOf(p bearer.TokenProvider) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		tok, err := p.RetrieveBearerToken(ctx)
		return tok.Value, err
	}
}

// errNoStore refuses a Setup without a Token, for libraries that keep nothing.
var errNoStore = errors.New("peers: Setup.Token is nil, and the library stores no sessions: give it the token of a login")
