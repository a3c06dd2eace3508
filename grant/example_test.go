package grant_test

import (
	"context"
	"crypto"
	"fmt"
	"log"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/clientauth"
	"github.com/freshtoken/freshtoken/grant"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// A service acts for a user, with a token that it gets in exchange for the user's
// own.
func ExampleTokenExchange() {
	server := oauthtest.New(oauthtest.Options{ClientID: "reports", ClientSecret: "secret", Grants: oauthtest.Grants{Exchange: true}})
	users := server.Login("alice").AccessToken // as it came with the user's request

	src, err := freshtoken.New(freshtoken.Config{
		OAuth2:     &oauth2.Config{ClientID: "reports", ClientSecret: "secret", Endpoint: oauth2.Endpoint{TokenURL: server.TokenURL()}},
		HTTPClient: server.Client(), // leave it out for a real server
		Refresher: &grant.TokenExchange{
			Subject: func(context.Context) (token, tokenType string, err error) {
				return users, grant.TypeAccessToken, nil // or grant.AccessToken(src), or grant.File(path, grant.TypeJWT)
			},
			Audience: []string{"archive"},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	tok, err := src.Token(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(tok.Extra("issued_token_type"), server.AccessAlive(tok.AccessToken))
	// Output: urn:ietf:params:oauth:token-type:access_token true
}

// A service account has a key, and signs an assertion for each token.
func ExampleJWTBearer() {
	key, err := clientauth.NewKey(ecKey) // or clientauth.LoadKey("robot.pem", "key-1")
	if err != nil {
		log.Fatal(err)
	}
	server := oauthtest.New(oauthtest.Options{ClientID: "app", Grants: oauthtest.Grants{
		Issuers: map[string]crypto.PublicKey{"robot@example.com": key.Public()}}})

	src, err := freshtoken.New(freshtoken.Config{
		OAuth2:     &oauth2.Config{ClientID: "app", Endpoint: oauth2.Endpoint{TokenURL: server.TokenURL()}},
		HTTPClient: server.Client(), // leave it out for a real server
		Refresher:  &grant.JWTBearer{Key: key, Issuer: "robot@example.com"},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	for range 2 {
		if _, err := src.Refresh(context.Background(), nil); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(server.Stats().ReplayedAssertions, "assertions sent twice")
	// Output: 0 assertions sent twice
}

// A service that has a secret and nothing else.
func ExampleClientCredentials() {
	server := oauthtest.New(oauthtest.Options{ClientID: "service", ClientSecret: "secret"})
	src, err := freshtoken.New(freshtoken.Config{
		OAuth2:     &oauth2.Config{ClientID: "service", ClientSecret: "secret", Endpoint: oauth2.Endpoint{TokenURL: server.TokenURL()}},
		HTTPClient: server.Client(), // leave it out for a real server
		Refresher:  &grant.ClientCredentials{Scopes: []string{"jobs"}},
		Background: true, // nobody waits
	})
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	tok, err := src.Token(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(tok.Extra("scope"))
	// Output: jobs
}
