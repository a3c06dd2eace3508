package openid_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/openid"
	"github.com/freshtoken/freshtoken/storage"
	"github.com/go-jose/go-jose/v4"
)

const (
	alg    = "ES256"
	access = "the.access.token"
	nonce  = "the-nonce-of-this-login"
)

// newServer signs ID tokens.
func newServer(o oauthtest.Options) *oauthtest.Server {
	o.IDTokens = alg
	return oauthtest.New(o)
}

// config is a client of a server that checks ID tokens.
func config(srv *oauthtest.Server) freshtoken.Config {
	o := srv.OAuth2()
	o.Scopes = []string{"openid", "email"}
	return freshtoken.Config{OAuth2: o, Issuer: srv.BaseURL(), Store: storage.NewMemory(), HTTPClient: srv.Client(), IDTokens: verifier(srv)}
}

func verifier(srv *oauthtest.Server) *openid.Verifier {
	return &openid.Verifier{KeysURL: srv.KeysURL(), Algorithms: []string{alg, "none", "HS256"}}
}

type claims = map[string]any

// good are the claims of an ID token that nobody can object to.
func good(srv *oauthtest.Server) claims {
	now := time.Now().Unix()
	return claims{"iss": srv.BaseURL(), "sub": "alice-4711", "aud": "client", "iat": now, "exp": now + 300, "auth_time": now - 100,
		"nonce": nonce, "at_hash": "R2a7yCsxS8BpCgk-2VRP3w"}
}

// with returns claims with some changed, or taken away if they are nil.
func with(c claims, changes claims) claims {
	c = maps.Clone(c)
	for name, value := range changes {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

func sign(c claims) string { return oauthtest.SignIDToken(alg, c) }

// signBy signs with another key than the server's.
func signBy(t *testing.T, a jose.SignatureAlgorithm, key any, headers map[jose.HeaderKey]any, c claims) string {
	t.Helper()
	opts := &jose.SignerOptions{}
	for name, value := range headers {
		opts.WithHeader(name, value)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: a, Key: key}, opts)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := signer.Sign(data)
	if err != nil {
		t.Fatal(err)
	}
	text, err := sig.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// otherKey is one that no server has.
var otherKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
})

var _ crypto.Signer = otherKey()

// sentinels are all errors of the package.
var sentinels = []error{openid.ErrMissing, openid.ErrMalformed, openid.ErrAlgorithm, openid.ErrSignature, openid.ErrIssuer, openid.ErrAudience,
	openid.ErrSubject, openid.ErrNonce, openid.ErrAccessToken, openid.ErrAuthTime, openid.ErrExpired, openid.ErrIssuedAt, openid.ErrKeys}

// wantErr wants one sentinel and no other, words about what to do, and nothing
// that tells who somebody is.
func wantErr(t *testing.T, err, want error) {
	t.Helper()
	for _, s := range sentinels {
		if errors.Is(err, s) != (s == want) {
			t.Errorf("got error %v, want %v", err, want)
			return
		}
	}
	if err == nil {
		return
	}
	text := err.Error()
	if strings.Count(text, ":") < 2 || strings.Count(text, "openid: ") > 1 || strings.Contains(text, "alice-4711") || strings.Contains(text, nonce) || strings.Contains(text, access) {
		t.Errorf("it says %q", text)
	}
}

func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// saves is a Store that remembers all that was saved.
type saves struct {
	freshtoken.Store

	mu  sync.Mutex // guards all
	all []string
}

func (s *saves) Save(ctx context.Context, key string, value []byte) error {
	s.mu.Lock()
	s.all = append(s.all, string(value))
	s.mu.Unlock()
	return s.Store.Save(ctx, key, value)
}

// has reports whether text was ever saved, and last what was saved last.
func (s *saves) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.all, func(v string) bool { return strings.Contains(v, text) })
}

func (s *saves) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[len(s.all)-1]
}
