package oauthtest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"
)

// claimsOf are the claims of the ID token that came with tok, whose signature
// the server's keys have made.
func claimsOf(t *testing.T, srv *oauthtest.Server, tok *oauth2.Token, alg string) map[string]any {
	t.Helper()
	raw, _ := tok.Extra("id_token").(string)
	sig, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := srv.Client().Get(srv.KeysURL())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var keys jose.JSONWebKeySet
	if err := json.NewDecoder(resp.Body).Decode(&keys); err != nil || len(keys.Keys) != 1 {
		t.Fatalf("%d keys, error %v", len(keys.Keys), err)
	}
	payload, err := sig.Verify(&keys.Keys[0])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestIDTokens(t *testing.T) {
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{IDTokens: alg})
			first := srv.Login("alice", "openid", "email")
			was := claimsOf(t, srv, first, alg)
			if was["iss"] != srv.BaseURL() || was["sub"] != "alice" || was["aud"] != "client" || was["email"] != "alice@example.com" || was["nonce"] != nil {
				t.Errorf("%v", was)
			}
			ctx := context.WithValue(t.Context(), oauth2.HTTPClient, srv.Client())
			refresh := func() *oauth2.Token {
				tok, err := srv.OAuth2().TokenSource(ctx, &oauth2.Token{RefreshToken: first.RefreshToken, Expiry: time.Unix(1, 0)}).Token()
				if err != nil {
					t.Fatal(err)
				}
				first = tok
				return tok
			}
			if is := claimsOf(t, srv, refresh(), alg); is["sub"] != "alice" || is["auth_time"] != was["auth_time"] || is["at_hash"] == was["at_hash"] {
				t.Errorf("%v after %v", is, was)
			}
			srv.Token.Next(oauthtest.SetClaim("sub", `"bob"`), oauthtest.OmitClaim("exp"))
			if is := claimsOf(t, srv, refresh(), alg); is["sub"] != "bob" {
				t.Errorf("%v", is)
			}
			if is := claimsOf(t, srv, refresh(), alg); is["exp"] != nil || is["sub"] != "alice" {
				t.Errorf("%v", is)
			}
		})
	}
	t.Run("not asked for, or not there", func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{IDTokens: "ES256"})
		if tok := srv.Login("alice", "read"); tok.Extra("id_token") != nil {
			t.Error("there is one")
		}
		srv = oauthtest.New(oauthtest.Options{})
		if tok := srv.Login("alice", "openid"); tok.Extra("id_token") != nil {
			t.Error("there is one")
		}
		resp, err := srv.Client().Get(srv.KeysURL())
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("keys: %d", resp.StatusCode)
		}
	})
	t.Run("the server says so", func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{IDTokens: "ES256"})
		if m := metadata(t, srv, "GET", openIDMetadata); !strings.Contains(m.body, `"jwks_uri":"`+srv.KeysURL()+`"`) {
			t.Errorf("%s", m.body)
		}
		raw := oauthtest.SignIDToken("ES256", map[string]any{"sub": "x"})
		if payload, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[1]); err != nil || string(payload) != `{"sub":"x"}` {
			t.Errorf("%s, %v", payload, err)
		}
	})
}
