package oauthtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// idTokenKeys make the keys of ID tokens when they are first needed: one for each
// algorithm and all servers of the process, since they take their time. Those that
// fail would fail everything else, too.
var idTokenKeys = map[string]func() crypto.Signer{
	"RS256": sync.OnceValue(func() crypto.Signer { return key(rsa.GenerateKey(rand.Reader, 2048)) }),
	"ES256": sync.OnceValue(func() crypto.Signer { return key(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }),
	"EdDSA": sync.OnceValue(func() crypto.Signer {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return key(private, err)
	}),
}

func key[K crypto.Signer](k K, err error) crypto.Signer {
	if err != nil {
		panic("oauthtest: " + err.Error())
	}
	return k
}

// idToken returns the ID token that goes with an access token (OpenID Connect
// Core sections 2 and 12.2); "" if none does. s.mu is held.
func (s *Server) idToken(at *accessToken) string {
	if s.opt.IDTokens == "" || !slices.Contains(at.fam.scopes, "openid") {
		return ""
	}
	now := time.Now()
	claims := map[string]any{"iss": s.base, "sub": at.fam.subject, "aud": at.fam.client, "iat": now.Unix(),
		"exp": now.Add(s.opt.AccessLifetime).Unix(), "auth_time": at.fam.begun.Unix(), "at_hash": accessHash(at.value, s.opt.IDTokens)}
	if at.fam.nonce != "" {
		claims["nonce"] = at.fam.nonce
		at.fam.nonce = "" // refreshed ones have none
	}
	if slices.Contains(at.fam.scopes, "email") {
		claims["email"], claims["email_verified"] = at.fam.subject+"@example.com", true
	}
	if slices.Contains(at.fam.scopes, "profile") {
		claims["name"], claims["preferred_username"] = at.fam.subject, at.fam.subject
	}
	return SignIDToken(s.opt.IDTokens, claims)
}

func accessHash(accessToken, alg string) string {
	sum256 := sha256.Sum256([]byte(accessToken))
	sum := sum256[:]
	if alg == "EdDSA" {
		sum512 := sha512.Sum512([]byte(accessToken))
		sum = sum512[:]
	}
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}

// SignIDToken signs claims with the key that all servers of this process have for
// an algorithm of Options.IDTokens. It panics if there is none, or if a claim can't
// be encoded.
func SignIDToken(alg string, claims map[string]any) string {
	opts := (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", alg)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: idTokenKeys[alg]()}, opts)
	if err != nil {
		panic("oauthtest: " + err.Error())
	}
	sig, err := signer.Sign(encode(claims))
	if err != nil {
		panic("oauthtest: " + err.Error())
	}
	text, err := sig.CompactSerialize()
	if err != nil {
		panic("oauthtest: " + err.Error())
	}
	return text
}

// SetClaim returns a good answer whose ID token has a claim with this JSON text as
// its value, and a good signature: SetClaim("sub", `"mallory"`). An answer without
// an ID token stays as it is.
func SetClaim(name, text string) Fault {
	return editClaims("claim "+name+"="+text, func(c map[string]any) { c[name] = json.RawMessage(text) })
}

// OmitClaim returns a good answer whose ID token lacks a claim.
func OmitClaim(name string) Fault {
	return editClaims("omit claim "+name, func(c map[string]any) { delete(c, name) })
}

func editClaims(name string, edit func(map[string]any)) Fault {
	return Edit(name, func(a *Answer) {
		var raw string
		if json.Unmarshal(a.Members.Get("id_token"), &raw) != nil {
			return
		}
		parts := strings.Split(raw, ".")
		var header struct {
			Alg string `json:"alg"`
		}
		decode(parts[0], &header)
		members := make(map[string]json.RawMessage)
		decode(parts[1], &members)
		claims := make(map[string]any, len(members))
		for name, value := range members {
			claims[name] = value
		}
		edit(claims)
		a.Members.Set("id_token", SignIDToken(header.Alg, claims))
	})
}

// decode reads a part of a JWT that this package has made.
func decode(part string, into any) {
	data, err := base64.RawURLEncoding.DecodeString(part)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		panic("oauthtest: " + err.Error())
	}
}

// keys answers with the public keys of ID tokens (RFC 7517 section 5).
func (c *call) keys() Answer {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	alg := s.opt.IDTokens
	if alg == "" || c.r.Method != http.MethodGet {
		c.decide(NotFound)
		return newAnswer(http.StatusNotFound, nil)
	}
	c.decide(Served)
	s.stats.KeysRequests++
	var m Members
	m.Add("keys", []jose.JSONWebKey{{Key: idTokenKeys[alg]().Public(), KeyID: alg, Algorithm: alg, Use: "sig"}})
	return newAnswer(http.StatusOK, m)
}
