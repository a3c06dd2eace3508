package openid_test

import (
	"context"
	"fmt"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/discovery"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/openid"
	"golang.org/x/oauth2"
)

// A program that shows who is logged in.
func Example() {
	server := oauthtest.New(oauthtest.Options{IDTokens: "RS256"}) // yours is elsewhere
	cfg := freshtoken.Config{
		Issuer:     server.BaseURL(),
		OAuth2:     &oauth2.Config{ClientID: "client", Scopes: []string{"openid", "email"}},
		HTTPClient: server.Client(),
	}
	whoami := func(ctx context.Context) (string, error) {
		metadata, err := discovery.Configure(ctx, &cfg)
		if err != nil {
			return "", err
		}
		cfg.IDTokens = &openid.Verifier{KeysURL: metadata.JWKSURI, Algorithms: metadata.IDTokenSigningAlgValuesSupported}
		src, err := freshtoken.New(cfg)
		if err != nil {
			return "", err
		}
		defer src.Close()
		tok, err := login.Ensure(ctx, src, login.Loopback{Prompt: login.Prompt{Browse: open(server)}})
		if err != nil {
			return "", err
		}
		who, err := openid.ClaimsOf(tok)
		if err != nil {
			return "", err
		}
		return who.Email, nil
	}
	fmt.Println(whoami(context.Background()))
	// Output: alice@example.com <nil>
}

// open stands for a person with a browser.
func open(server *oauthtest.Server) func(context.Context, string) error {
	return func(_ context.Context, address string) error {
		go func() {
			if resp, err := server.Browser().Get(address); err == nil {
				resp.Body.Close()
			}
		}()
		return nil
	}
}
