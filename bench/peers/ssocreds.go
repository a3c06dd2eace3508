package peers

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/aws-sdk-go-v2/service/ssooidc"
	"golang.org/x/oauth2"
)

// SSOCreds is the token file of the AWS SDK's single sign-on, in the token
// cache that the SDK puts around it; the AWS command line writes that file at a
// login. The library asks for new tokens with an API of its own: the adapter's
// client does so with the refresh_token grant, and x/oauth2. It refreshes a
// token only once that has expired, to the second, and wants a client secret,
// which stands in the file and goes no further.
var SSOCreds = Peer{Name: "aws ssocreds", Module: "github.com/aws/aws-sdk-go-v2/credentials", Stores: true, Open: openSSOCreds}

func openSSOCreds(s Setup) (*Session, error) {
	dir, remove, err := workDir(s)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "sso.json")
	if s.Token != nil {
		if err := writeSSOToken(path, s); err != nil {
			remove()
			return nil, err
		}
	}
	cache := newTokenCache(s, ssocreds.NewSSOTokenProvider(createToken{s}, path))
	if fresh(s.Token) {
		if _, err := cache.RetrieveBearerToken(context.Background()); err != nil {
			remove()
			return nil, err
		}
	}
	return &Session{Token: tokenOf(cache), Close: remove}, nil
}

// writeSSOToken leaves the file of a login.
func writeSSOToken(path string, s Setup) error {
	data, err := json.Marshal(map[string]string{
		"accessToken":  s.Token.AccessToken,
		"expiresAt":    s.Token.Expiry.UTC().Format(time.RFC3339),
		"refreshToken": s.Token.RefreshToken,
		"clientId":     s.OAuth2.ClientID,
		"clientSecret": "unused",
	})
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// createToken is an ssocreds.CreateTokenAPIClient for servers of OAuth 2.0.
type createToken struct{ setup Setup }

func (c createToken) CreateToken(ctx context.Context, in *ssooidc.CreateTokenInput, _ ...func(*ssooidc.Options)) (*ssooidc.CreateTokenOutput, error) {
	ctx = context.WithValue(ctx, oauth2.HTTPClient, c.setup.HTTP)
	tok, err := c.setup.OAuth2.TokenSource(ctx, &oauth2.Token{RefreshToken: aws.ToString(in.RefreshToken)}).Token()
	if err != nil {
		return nil, err
	}
	return &ssooidc.CreateTokenOutput{AccessToken: &tok.AccessToken, RefreshToken: &tok.RefreshToken, ExpiresIn: int32(tok.ExpiresIn)}, nil
}

// workDir is where libraries work that need a directory; where the Setup has
// none, remove deletes it.
func workDir(s Setup) (dir string, remove func() error, err error) {
	if s.Dir != "" {
		return s.Dir, func() error { return nil }, nil
	}
	dir, err = os.MkdirTemp("", "bench-")
	return dir, func() error { return os.RemoveAll(dir) }, err
}
