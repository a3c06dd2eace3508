package clientauth

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/endpoint"
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
	method string
	signer
	options Options
}

var _ freshtoken.ClientDescriber = (*JWT)(nil)

// PrivateKeyJWT authenticates by assertions that are signed with a private key
// (private_key_jwt). The errors are ErrAlgorithm and ErrLifetime.
func PrivateKeyJWT(key *Key, o Options) (*JWT, error) {
	alg, err := key.algorithm(o.Algorithm)
	if err != nil {
		return nil, err
	}
	j := &JWT{method: "private_key_jwt", signer: key.signing(alg, o), options: o}
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
	j := &JWT{method: "client_secret_jwt", signer: signer{algorithm: HS256, key: []byte(secret), id: o.KeyID}, options: o}
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
	j.typ = cmp.Or(j.options.Type, ExplicitType)
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
