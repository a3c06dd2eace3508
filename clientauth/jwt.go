package clientauth

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/endpoint"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"
)

const (
	// ExplicitType is the typ of assertions (RFC 8725 section 3.11), so that
	// none can be taken for another kind of JWT.
	ExplicitType = "client-authentication+jwt"

	defaultLifetime = time.Minute
	maxLifetime     = 10 * time.Minute

	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// Options adapts assertions to a server. The zero value is what most take.
type Options struct {
	// Algorithm is how to sign: one of RS256, PS256, ES256, EdDSA. Empty: what
	// the JWK says, else what goes with the key, RS256 for RSA. A SecretJWT
	// has HS256.
	Algorithm string

	// KeyID is the kid in the header, by which the server finds the key. Empty:
	// that of the Key; none if that has none.
	KeyID string

	// Audience is whom an assertion is for. Nil: the server's issuer identifier
	// (Config.Issuer), as the update of RFC 7523 demands, or the token URL if
	// the program knows none. Servers that want another one are AudienceTokenURL
	// or AudienceEndpoint, or a function of the program's.
	//
	// With an audience that comes from a server's metadata a malicious server
	// can have a client make assertions that are good at another one: choose the
	// token URL only for a client that knows one server.
	Audience func(to freshtoken.ClientRequest) string

	// Lifetime is how long an assertion is good for. Zero means one minute; ten
	// are the most. What clocks may differ by has to fit in.
	Lifetime time.Duration

	// Type is the typ in the header. Empty means ExplicitType. Older servers
	// refuse that; they take "JWT".
	Type string
}

// AudienceTokenURL is the audience of assertions for servers that want the URL
// of their token endpoint, whatever endpoint is asked.
func AudienceTokenURL(to freshtoken.ClientRequest) string { return to.TokenURL }

// AudienceEndpoint is the audience of assertions for servers that want the URL
// of the endpoint that is asked.
func AudienceEndpoint(to freshtoken.ClientRequest) string { return to.Endpoint }

// A JWT authenticates a client by assertions (RFC 7523 section 2.2). Make one
// with PrivateKeyJWT or SecretJWT. It is safe for concurrent use, and prints
// without its key.
type JWT struct {
	method    string
	algorithm string
	key       any // what jose signs with
	verifier  any // that tells whether a signer has signed; nil: it need not be told
	id        string
	options   Options
}

var _ freshtoken.ClientDescriber = (*JWT)(nil)

// PrivateKeyJWT authenticates by assertions that are signed with a private key
// (private_key_jwt). The errors are ErrAlgorithm and ErrLifetime.
func PrivateKeyJWT(key *Key, o Options) (*JWT, error) {
	if key == nil || key.signer == nil {
		return nil, fail(ErrNoKey, "the Key is nil: make one with LoadKey, ParseKey or NewKey")
	}
	alg, err := key.algorithm(o.Algorithm)
	if err != nil {
		return nil, err
	}
	j := &JWT{method: "private_key_jwt", algorithm: alg, id: cmp.Or(o.KeyID, key.id), options: o}
	switch key.signer.(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey:
		j.key = key.signer
	default:
		j.key, j.verifier = cryptosigner.Opaque(pss{key.signer, key.public}), key.public
	}
	if err := j.check(); err != nil {
		return nil, err
	}
	return j, nil
}

// SecretJWT authenticates by assertions that are signed with the client's secret
// (client_secret_jwt), by HS256. The secret must have 32 bytes or more, else the
// error is ErrSecretTooShort: what it signs lets anybody try whether they have
// guessed it. Others are ErrAlgorithm and ErrLifetime.
func SecretJWT(secret string, o Options) (*JWT, error) {
	if o.Algorithm != "" && o.Algorithm != HS256 {
		return nil, fail(ErrAlgorithm, "%q does not go with a secret, which is for %s", short(o.Algorithm), HS256)
	}
	if size := crypto.SHA256.Size(); len(secret) < size {
		return nil, fail(ErrSecretTooShort, "it has %d bytes, and %s takes %d or more (RFC 7518 section 3.2): have the server issue a longer one, or use PrivateKeyJWT", len(secret), HS256, size)
	}
	j := &JWT{method: "client_secret_jwt", algorithm: HS256, key: []byte(secret), id: o.KeyID, options: o}
	if err := j.check(); err != nil {
		return nil, err
	}
	return j, nil
}

// check checks the options that do not depend on the key.
func (j *JWT) check() error {
	switch life := j.options.Lifetime; {
	case life == 0:
		j.options.Lifetime = defaultLifetime
	case life < time.Second || life > maxLifetime:
		return fail(ErrLifetime, "%v is not between one second and %v; zero means %v", life, maxLifetime, defaultLifetime)
	}
	j.options.Type = cmp.Or(j.options.Type, ExplicitType)
	return nil
}

// DescribeClient implements freshtoken.ClientDescriber.
func (j *JWT) DescribeClient() freshtoken.ClientMethod {
	return freshtoken.ClientMethod{Names: []string{j.method}, Algorithm: j.algorithm}
}

// AuthenticateClient implements freshtoken.ClientAuthenticator by a new
// assertion, with a jti of its own. The errors are ErrNoAudience, ErrSigner and
// ErrExpired.
func (j *JWT) AuthenticateClient(ctx context.Context, to freshtoken.ClientRequest) (url.Values, error) {
	audience := cmp.Or(to.Issuer, to.TokenURL)
	if j.options.Audience != nil {
		audience = j.options.Audience(to)
	}
	if audience == "" || to.ClientID == "" {
		return nil, fail(ErrNoAudience, "set Config.Issuer to the server's issuer identifier, or Options.Audience, and ClientID")
	}
	now := time.Now()
	end := now.Add(j.options.Lifetime)
	claims, err := json.Marshal(map[string]any{"iss": to.ClientID, "sub": to.ClientID, "aud": audience, // one string: RFC 7523bis section 4
		"jti": rand.Text(), "iat": now.Unix(), "exp": end.Unix()})
	if err != nil {
		return nil, fail(ErrNoAudience, "the audience or the ClientID is no text: correct it")
	}
	signed, err := j.sign(ctx, claims)
	if err != nil {
		return nil, err
	}
	if !time.Now().Before(end) {
		return nil, endpoint.Passing(fail(ErrExpired, "the assertion has expired while it was signed: set Options.Lifetime to what the signer takes, and what clocks differ by"))
	}
	return url.Values{"client_assertion_type": {assertionType}, "client_assertion": {signed}}, nil
}

// sign signs claims. A signer that is no more than a key in memory is not waited
// for in vain; another one may hang, and is left behind.
func (j *JWT) sign(ctx context.Context, claims []byte) (string, error) {
	if j.verifier == nil {
		return j.signNow(claims)
	}
	type result struct {
		signed string
		err    error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if recover() != nil { // the length of a signature may be anything
				r = result{err: endpoint.Passing(fail(ErrSigner, "its signature cannot be read: check that it is a crypto.Signer of the kind that its public key says"))}
			}
			done <- r
		}()
		r.signed, r.err = j.signNow(claims)
	}()
	select {
	case r := <-done:
		return r.signed, r.err
	case <-ctx.Done():
		return "", endpoint.Passing(fail(ErrSigner, "it has not answered in time: %w", ctx.Err()))
	}
}

func (j *JWT) signNow(claims []byte) (string, error) {
	o := new(jose.SignerOptions).WithType(jose.ContentType(j.options.Type))
	if j.id != "" {
		o = o.WithHeader("kid", j.id)
	}
	var told error
	key := j.key
	if opaque, ok := key.(jose.OpaqueSigner); ok {
		key = telling{opaque, &told}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(j.algorithm), Key: key}, o)
	if err != nil {
		return "", fail(ErrAlgorithm, "%s does not go with this key", j.algorithm)
	}
	jws, err := signer.Sign(claims)
	if told != nil {
		return "", endpoint.Passing(fail(ErrSigner, "check that it can be reached, and may be used: %w", told))
	}
	var signed string
	if err == nil {
		signed, err = jws.CompactSerialize()
	}
	if err == nil && j.verifier != nil {
		// A server would only say that it does not accept the client.
		if _, bad := jws.Verify(j.verifier); bad != nil {
			err = errors.New("its signature does not fit its public key: check which key it signs with")
		}
	}
	if err != nil {
		return "", endpoint.Passing(fail(ErrSigner, "%w", err))
	}
	return signed, nil
}

// telling remembers what a signer fails with, which jose does not always wrap.
type telling struct {
	jose.OpaqueSigner
	err *error
}

func (t telling) SignPayload(payload []byte, alg jose.SignatureAlgorithm) ([]byte, error) {
	signed, err := t.OpaqueSigner.SignPayload(payload, alg)
	*t.err = err
	return signed, err
}

// pss has a signer use a salt as long as the hash (RFC 7518 section 3.5), where
// cryptosigner leaves the choice to it; and its public key, which may have to
// come over a network, only once.
type pss struct {
	crypto.Signer
	public crypto.PublicKey
}

func (p pss) Public() crypto.PublicKey { return p.public }

func (p pss) Sign(random io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if asked, ok := o.(*rsa.PSSOptions); ok {
		o = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: asked.Hash}
	}
	return p.Signer.Sign(random, digest, o)
}

func (j *JWT) describe() string {
	if j == nil {
		return "clientauth.JWT{}"
	}
	return fmt.Sprintf("clientauth.JWT{Method: %s, Algorithm: %s, KeyID: %q}", j.method, j.algorithm, j.id)
}

// Format implements fmt.Formatter: no verb shows the key.
func (j *JWT) Format(f fmt.State, _ rune) { fmt.Fprint(f, j.describe()) }

// MarshalJSON implements json.Marshaler, without the key.
func (j *JWT) MarshalJSON() ([]byte, error) { return quote(j.describe()) }

// LogValue implements slog.LogValuer, without the key.
func (j *JWT) LogValue() slog.Value { return slog.StringValue(j.describe()) }
