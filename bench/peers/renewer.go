package peers

import (
	"context"
	"net/http"
	"sync"
	"time"

	"golang.org/x/oauth2"
)

// A renewer is what libraries that leave the refresh to their users are given:
// it holds the refresh token and exchanges it, with x/oauth2, at each call. The
// first call returns the token of the login, if that has not expired.
type renewer struct {
	oauth2 *oauth2.Config
	http   *http.Client

	mu      sync.Mutex // guards what follows, and is held during an exchange
	login   *oauth2.Token
	refresh string
}

func newRenewer(s Setup) *renewer {
	return &renewer{oauth2: s.OAuth2, http: s.HTTP, login: s.Token, refresh: s.Token.RefreshToken}
}

func (r *renewer) token(ctx context.Context) (*oauth2.Token, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if tok := r.login; tok != nil {
		r.login = nil
		if time.Now().Before(tok.Expiry) {
			return tok, nil
		}
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, r.http)
	tok, err := r.oauth2.TokenSource(ctx, &oauth2.Token{RefreshToken: r.refresh}).Token()
	if err != nil {
		return nil, err
	}
	r.refresh = tok.RefreshToken
	return tok, nil
}

// fresh reports whether a login's token serves still: an adapter then has its
// library keep it from the start. It is not asked to otherwise, because that
// would refresh.
func fresh(tok *oauth2.Token) bool { return tok != nil && time.Now().Before(tok.Expiry) }
