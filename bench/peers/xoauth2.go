package peers

import (
	"context"

	"golang.org/x/oauth2"
)

// XOAuth2 is golang.org/x/oauth2 by itself: Config.TokenSource and Transport.
var XOAuth2 = Peer{Name: "x/oauth2", Module: "golang.org/x/oauth2", Open: func(s Setup) (*Session, error) {
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, s.HTTP)
	src := oauth2.ReuseTokenSourceWithExpiry(s.Token, s.OAuth2.TokenSource(ctx, &oauth2.Token{RefreshToken: s.Token.RefreshToken}), s.Lead)
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
