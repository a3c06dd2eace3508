package peers

import (
	"context"

	"golang.org/x/oauth2"
)

// XOAuth2 is golang.org/x/oauth2 by itself: Config.TokenSource and Transport.
var XOAuth2 = Peer{Name: "x/oauth2", Module: "golang.org/x/oauth2", Open: func(s Setup) (*Session, error) {
	if s.Token == nil {
		return nil, errNoStore
	}
	src := plainSource(s, s.Token)
	return &Session{
		Token: func(context.Context) (string, error) {
			tok, err := src.Token()
			if err != nil {
				return "", err
			}
			return tok.AccessToken, nil
		},
		Transport: &oauth2.Transport{Source: src, Base: s.Base},
	}, nil
}}

// plainSource is what Config.TokenSource returns, but for the Setup's lead. The
// library writes that to the token, too.
func plainSource(s Setup, tok *oauth2.Token) oauth2.TokenSource {
	own := *tok
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, s.HTTP)
	return oauth2.ReuseTokenSourceWithExpiry(&own, s.OAuth2.TokenSource(ctx, &oauth2.Token{RefreshToken: tok.RefreshToken}), s.Lead)
}
