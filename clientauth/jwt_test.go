package clientauth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/clientauth"
	"github.com/go-jose/go-jose/v4"
)

var to = freshtoken.ClientRequest{ClientID: "app", Issuer: "https://as.test", TokenURL: "https://as.test/token", Endpoint: "https://as.test/revoke"}

const longSecret = "0123456789abcdef0123456789abcdef"

// signerFunc is a signer that keeps its key elsewhere.
type signerFunc struct {
	public crypto.PublicKey
	sign   func(random io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error)
}

func (s signerFunc) Public() crypto.PublicKey { return s.public }
func (s signerFunc) Sign(random io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return s.sign(random, digest, o)
}

// elsewhere hides what kind of key it is.
func elsewhere(key crypto.Signer) crypto.Signer { return signerFunc{key.Public(), key.Sign} }

func keyOf(signer crypto.Signer) *clientauth.Key { return must(clientauth.NewKey(signer)) }

// assertion makes one and returns its header and claims, once its signature is
// verified.
func assertion(t *testing.T, j *clientauth.JWT, request freshtoken.ClientRequest, public any) (jose.Header, map[string]any) {
	t.Helper()
	params, err := j.AuthenticateClient(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if len(params) != 2 || params.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		t.Errorf("the parameters are %v", params)
	}
	jws, err := jose.ParseSignedCompact(params.Get("client_assertion"), []jose.SignatureAlgorithm{"RS256", "PS256", "ES256", "EdDSA", "HS256"})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := jws.Verify(public)
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return jws.Signatures[0].Header, claims
}

func TestAssertion(t *testing.T) {
	for name, test := range map[string]struct {
		jwt    *clientauth.JWT
		public any
		alg    string
	}{
		"RS256":             {must(clientauth.PrivateKeyJWT(keyOf(rsaKey()), clientauth.Options{})), rsaKey().Public(), "RS256"},
		"PS256":             {must(clientauth.PrivateKeyJWT(keyOf(rsaKey()), clientauth.Options{Algorithm: clientauth.PS256})), rsaKey().Public(), "PS256"},
		"PS256, by the JWK": {must(clientauth.PrivateKeyJWT(must(clientauth.ParseKey([]byte(jwk(rsaKey(), alg("PS256"))), "")), clientauth.Options{})), rsaKey().Public(), "PS256"},
		"ES256":             {must(clientauth.PrivateKeyJWT(keyOf(ecKey()), clientauth.Options{})), ecKey().Public(), "ES256"},
		"EdDSA":             {must(clientauth.PrivateKeyJWT(keyOf(edKey()), clientauth.Options{})), edKey().Public(), "EdDSA"},
		"RS256, elsewhere":  {must(clientauth.PrivateKeyJWT(keyOf(elsewhere(rsaKey())), clientauth.Options{})), rsaKey().Public(), "RS256"},
		"PS256, elsewhere":  {must(clientauth.PrivateKeyJWT(keyOf(elsewhere(rsaKey())), clientauth.Options{Algorithm: "PS256"})), rsaKey().Public(), "PS256"},
		"ES256, elsewhere":  {must(clientauth.PrivateKeyJWT(keyOf(elsewhere(ecKey())), clientauth.Options{})), ecKey().Public(), "ES256"},
		"EdDSA, elsewhere":  {must(clientauth.PrivateKeyJWT(keyOf(elsewhere(edKey())), clientauth.Options{})), edKey().Public(), "EdDSA"},
		"HS256":             {must(clientauth.SecretJWT(longSecret, clientauth.Options{})), []byte(longSecret), "HS256"},
	} {
		t.Run("R7523-3: the claims, by "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				header, claims := assertion(t, test.jwt, to, test.public)
				now := float64(time.Now().Unix())
				if header.Algorithm != test.alg || header.KeyID != "" {
					t.Errorf("the header is %+v", header)
				}
				if claims["iss"] != "app" || claims["sub"] != "app" || claims["iat"] != now || claims["exp"] != now+60 || len(claims) != 6 {
					t.Errorf("the claims are %v", claims)
				}
				if jti, _ := claims["jti"].(string); len(jti) < 22 {
					t.Errorf("the jti is %q, of fewer than 110 random bits", jti)
				}
			})
		})
		t.Run("R7523-3: each has a jti of its own, by "+name, func(t *testing.T) {
			seen := make(map[any]bool)
			for range 20 {
				_, claims := assertion(t, test.jwt, to, test.public)
				seen[claims["jti"]] = true
			}
			if len(seen) != 20 {
				t.Errorf("%d of 20 differ", len(seen))
			}
		})
	}
}

// A salt as long as the hash is what RFC 7518 section 3.5 demands of PS256; strict
// servers refuse others.
func TestPSSSalt(t *testing.T) {
	asked := 0
	signer := signerFunc{rsaKey().Public(), func(random io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
		if pss, ok := o.(*rsa.PSSOptions); ok && pss.SaltLength == rsa.PSSSaltLengthEqualsHash && pss.Hash == crypto.SHA256 {
			asked++
		}
		return rsaKey().Sign(random, digest, o)
	}}
	j := must(clientauth.PrivateKeyJWT(keyOf(signer), clientauth.Options{Algorithm: "PS256"}))
	if assertion(t, j, to, rsaKey().Public()); asked != 1 {
		t.Error("the signer may choose the salt")
	}
}

func TestAudience(t *testing.T) {
	request := func(issuer string) freshtoken.ClientRequest {
		r := to
		r.Issuer = issuer
		return r
	}
	foreign := to
	foreign.TokenURL, foreign.Endpoint = "https://other.test/token", "https://other.test/token"
	for name, test := range map[string]struct {
		audience func(freshtoken.ClientRequest) string
		request  freshtoken.ClientRequest
		want     string
	}{
		"R7523bis-aud: the issuer":                                         {nil, to, "https://as.test"},
		"R7523bis-aud: the issuer, with the endpoints of another server":   {nil, foreign, "https://as.test"},
		"R7523bis-aud: the token URL, by option":                           {clientauth.AudienceTokenURL, to, "https://as.test/token"},
		"R7523bis-aud: the endpoint, by option":                            {clientauth.AudienceEndpoint, to, "https://as.test/revoke"},
		"R7523bis-aud: another, by option":                                 {func(freshtoken.ClientRequest) string { return "x" }, to, "x"},
		"R7523bis-aud: the token URL, where the program knows no issuer":   {nil, request(""), "https://as.test/token"},
		"R7523bis-aud: none is an error":                                   {nil, freshtoken.ClientRequest{ClientID: "app"}, ""},
		"R7523bis-aud: an option that has none is an error, and no issuer": {func(freshtoken.ClientRequest) string { return "" }, to, ""},
	} {
		t.Run(name, func(t *testing.T) {
			j := must(clientauth.PrivateKeyJWT(keyOf(ecKey()), clientauth.Options{Audience: test.audience}))
			if test.want == "" {
				if _, err := j.AuthenticateClient(t.Context(), test.request); !errors.Is(err, clientauth.ErrNoAudience) {
					t.Errorf("got %v", err)
				}
				return
			}
			if _, claims := assertion(t, j, test.request, ecKey().Public()); claims["aud"] != test.want { // a string: no list equals it
				t.Errorf("got %v, want %q", claims["aud"], test.want)
			}
		})
	}
}

func TestHeader(t *testing.T) {
	named := must(clientauth.ParseKey([]byte(jwk(ecKey(), kid("own"))), ""))
	for name, test := range map[string]struct {
		key      *clientauth.Key
		o        clientauth.Options
		typ, kid string
	}{
		"R7523bis-aud: the type is explicit": {keyOf(ecKey()), clientauth.Options{}, "client-authentication+jwt", ""},
		"R7523bis-aud: another, by option":   {keyOf(ecKey()), clientauth.Options{Type: "JWT"}, "JWT", ""},
		"the kid of the JWK":                 {named, clientauth.Options{}, "client-authentication+jwt", "own"},
		"another kid, by option":             {named, clientauth.Options{KeyID: "other"}, "client-authentication+jwt", "other"},
		"the kid that PEM was given":         {must(clientauth.ParseKey([]byte(pkcs8(ecKey())), "mine")), clientauth.Options{}, "client-authentication+jwt", "mine"},
	} {
		t.Run(name, func(t *testing.T) {
			header, _ := assertion(t, must(clientauth.PrivateKeyJWT(test.key, test.o)), to, ecKey().Public())
			if header.ExtraHeaders["typ"] != test.typ || header.KeyID != test.kid || header.JSONWebKey != nil {
				t.Errorf("got %+v", header)
			}
		})
	}
}

func TestBadOptions(t *testing.T) {
	private := func(key *clientauth.Key, o clientauth.Options) error {
		j, err := clientauth.PrivateKeyJWT(key, o)
		if (j == nil) != (err != nil) {
			t.Error("both, or none")
		}
		return err
	}
	secret := func(s string, o clientauth.Options) error { _, err := clientauth.SecretJWT(s, o); return err }
	for name, test := range map[string]struct{ err, want error }{
		"R7518-3.2: a secret of 10 bytes":             {secret("0123456789", clientauth.Options{}), clientauth.ErrSecretTooShort},
		"R7518-3.2: a secret of 31 bytes":             {secret(longSecret[:31], clientauth.Options{}), clientauth.ErrSecretTooShort},
		"R7518-3.2: a secret of 32 bytes will do":     {secret(longSecret, clientauth.Options{}), nil},
		"R7518-3.2: no secret":                        {secret("", clientauth.Options{}), clientauth.ErrSecretTooShort},
		"R7518-3.2: none is no algorithm of a secret": {secret(longSecret, clientauth.Options{Algorithm: "none"}), clientauth.ErrAlgorithm},
		"R7518-3.2: nor of a key":                     {private(keyOf(ecKey()), clientauth.Options{Algorithm: "none"}), clientauth.ErrAlgorithm},
		"a secret does not sign by RS256":             {secret(longSecret, clientauth.Options{Algorithm: "RS256"}), clientauth.ErrAlgorithm},
		"a key does not sign by HS256":                {private(keyOf(rsaKey()), clientauth.Options{Algorithm: "HS256"}), clientauth.ErrAlgorithm},
		"the algorithm of another key":                {private(keyOf(ecKey()), clientauth.Options{Algorithm: "EdDSA"}), clientauth.ErrAlgorithm},
		"no key":                                      {private(nil, clientauth.Options{}), clientauth.ErrNoKey},
		"R7523-3: a lifetime that is over":            {private(keyOf(ecKey()), clientauth.Options{Lifetime: -time.Second}), clientauth.ErrLifetime},
		"R7523-3: a lifetime that is no short one":    {private(keyOf(ecKey()), clientauth.Options{Lifetime: time.Hour}), clientauth.ErrLifetime},
		"R7523-3: ten minutes will do":                {private(keyOf(ecKey()), clientauth.Options{Lifetime: 10 * time.Minute}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			if !errors.Is(test.err, test.want) {
				t.Errorf("got %v, want %v", test.err, test.want)
			}
			if test.err != nil && strings.Contains(test.err.Error(), "012345") {
				t.Errorf("it shows the secret: %v", test.err)
			}
		})
	}
}

var errKMS = errors.New("the KMS is asleep")

// Whatever a signer does, there is an assertion, or an error of this package and
// none; and nobody waits for it longer than the context says.
func TestBadSigners(t *testing.T) {
	other := must(ecdsa.GenerateKey(ecKey().Curve, nil))
	hang := make(chan struct{})
	for name, test := range map[string]struct {
		sign func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error)
		want []error
	}{
		"it fails":                 {func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errKMS }, []error{clientauth.ErrSigner, errKMS}},
		"its signature is no DER":  {func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return []byte("x"), nil }, []error{clientauth.ErrSigner}},
		"its signature is nothing": {func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, nil }, []error{clientauth.ErrSigner}},
		"its signature is huge": {func(r io.Reader, d []byte, o crypto.SignerOpts) ([]byte, error) {
			return append([]byte{0x30, 0x2b, 0x02, 0x28, 0x7f}, append(make([]byte, 39), 0x02, 0x01, 0x01)...), nil
		}, []error{clientauth.ErrSigner}},
		"it panics":                 {func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { panic("x") }, []error{clientauth.ErrSigner}},
		"it signs with another key": {other.Sign, []error{clientauth.ErrSigner}},
		"it hangs": {func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { <-hang; return nil, errKMS },
			[]error{clientauth.ErrSigner, context.DeadlineExceeded}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if name != "it hangs" {
				ctx = t.Context()
			}
			j := must(clientauth.PrivateKeyJWT(keyOf(signerFunc{ecKey().Public(), test.sign}), clientauth.Options{}))
			_, err := j.AuthenticateClient(ctx, to)
			for _, want := range test.want {
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
			}
			var passes interface{ Temporary() bool }
			if !errors.As(err, &passes) || !passes.Temporary() {
				t.Errorf("%v is not temporary", err)
			}
		})
	}
	close(hang)
}

// A signer that takes longer than an assertion lives has signed one that is
// expired.
func TestSlowSigner(t *testing.T) {
	for name, test := range map[string]struct {
		takes time.Duration
		want  error
	}{
		"R7523-3: an assertion that has expired is not sent":  {2 * time.Minute, clientauth.ErrExpired},
		"R7523-3: one that is good for a second more is sent": {59 * time.Second, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				signer := signerFunc{ecKey().Public(), func(r io.Reader, d []byte, o crypto.SignerOpts) ([]byte, error) {
					time.Sleep(test.takes)
					return ecKey().Sign(r, d, o)
				}}
				_, err := must(clientauth.PrivateKeyJWT(keyOf(signer), clientauth.Options{})).AuthenticateClient(t.Context(), to)
				if !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
			})
		})
	}
}
