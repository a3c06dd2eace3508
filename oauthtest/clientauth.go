package oauthtest

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// ClientAuth says how the client of Options.ClientID authenticates, other than
// by a secret that it sends. The other clients are as they would be without.
type ClientAuth struct {
	// Method is the method's name in metadata: client_secret_jwt, with
	// Options.ClientSecret as the key, private_key_jwt, tls_client_auth or
	// self_signed_tls_client_auth. Empty: Options.ClientSecret tells.
	Method string

	// Keys are the client's public keys for private_key_jwt, by their key IDs:
	// *rsa.PublicKey (RS256, PS256), *ecdsa.PublicKey of the curve P-256 (ES256)
	// or ed25519.PublicKey (EdDSA). An assertion without a key ID will do if
	// there is one key.
	Keys map[string]crypto.PublicKey

	// Audience is what an assertion has to be for; empty means the server's
	// issuer identifier.
	Audience string

	// Type is what the typ of an assertion has to be; empty means
	// "client-authentication+jwt".
	Type string

	// Certificate is the client's: the very one for
	// self_signed_tls_client_auth; for tls_client_auth one with its subject, that
	// CAs have issued.
	Certificate *x509.Certificate
	CAs         *x509.CertPool

	// BindTokens binds access tokens to the certificate that they are asked for
	// with, and the refresh tokens of a public client as well (RFC 8705 sections
	// 3 and 4). Those of Server.Login are bound to Certificate.
	BindTokens bool

	// AliasHost is the in-memory host that alone asks for certificates; the
	// metadata names it in mtls_endpoint_aliases. Empty: every place of the
	// server does.
	AliasHost string
}

const (
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

	// maxAssertion is how far ahead an assertion may expire: the server has to
	// remember it for so long.
	maxAssertion = 10 * time.Minute
)

func (o *Options) completeAuth() {
	a := &o.ClientAuth
	switch a.Method {
	case "", "client_secret_jwt", "private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth":
	default:
		panic("oauthtest: Options.ClientAuth.Method is none that the server knows")
	}
	a.Type = cmp.Or(a.Type, "client-authentication+jwt")
	a.Keys = maps.Clone(a.Keys)
	for _, key := range a.Keys {
		if algorithms(key) == nil {
			panic("oauthtest: Options.ClientAuth.Keys must be public keys: RSA, EC of P-256, or Ed25519")
		}
	}
}

// byMethod reports whether the client has to authenticate by ClientAuth.Method.
func (o *Options) byMethod(client string) bool {
	return client == o.ClientID && o.ClientAuth.Method != ""
}

// confidential reports whether a client authenticates at all.
func (o *Options) confidential(client string) bool {
	secret, _ := o.secretOf(client)
	return secret != "" || o.byMethod(client)
}

// authenticateBy checks the client of ClientAuth.Method, which the form, or the
// assertion in it, names. s.mu is held.
func (c *call) authenticateBy(form url.Values) (Answer, bool) {
	switch {
	case len(c.r.Header.Values("Authorization")) > 0, form.Has("client_secret"):
		return c.badClient("the client must not send its secret"), false
	case strings.HasSuffix(c.s.opt.ClientAuth.Method, "tls_client_auth") && form.Has("client_assertion"):
		return c.badRequest("more than one way of client authentication"), false
	case strings.HasSuffix(c.s.opt.ClientAuth.Method, "tls_client_auth"):
		if err := c.checkCertificate(); err != nil {
			return c.badClient(err.Error()), false
		}
	default:
		if err := c.checkAssertion(form, time.Now()); err != nil {
			return c.badClient(err.Error()), false
		}
	}
	c.client = c.s.opt.ClientID
	return Answer{}, true
}

// checkAssertion checks a client assertion (RFC 7523 section 3), and takes its
// jti. s.mu is held.
func (c *call) checkAssertion(form url.Values, now time.Time) error {
	o := &c.s.opt
	raw := form.Get("client_assertion")
	c.entry.Assertion = Fingerprint(raw)
	if form.Get("client_assertion_type") != assertionType || raw == "" {
		return errors.New("the client assertion, or its type, is missing")
	}
	payload, err := o.verify(raw)
	if err != nil {
		return err
	}
	var claims struct {
		Iss, Sub, Jti string
		Aud           json.RawMessage
		Exp, Iat, Nbf float64
	}
	if json.Unmarshal(payload, &claims) != nil {
		return errors.New("the claims of the assertion are malformed")
	}
	audience, _ := json.Marshal(cmp.Or(o.ClientAuth.Audience, c.s.base))
	at := float64(now.Unix())
	switch {
	case claims.Iss != o.ClientID || claims.Sub != o.ClientID:
		return errors.New("iss and sub of the assertion must be the client")
	case string(claims.Aud) != string(audience):
		return errors.New("the assertion is not for this server alone")
	case claims.Exp <= at:
		return errors.New("the assertion has expired")
	case claims.Exp > at+maxAssertion.Seconds():
		return errors.New("the assertion lives too long")
	case claims.Iat > at+1 || claims.Nbf > at+1:
		return errors.New("the assertion is from the future")
	case claims.Jti == "":
		return errors.New("the assertion has no jti")
	}
	maps.DeleteFunc(c.s.assertions, func(_ string, end float64) bool { return end <= at })
	if _, used := c.s.assertions[claims.Jti]; used {
		c.s.stats.ReplayedAssertions++
		return errors.New("the assertion was used before")
	}
	c.s.assertions[claims.Jti] = claims.Exp
	return nil
}

// verify checks header and signature of an assertion, and returns its claims.
func (o *Options) verify(raw string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256, jose.EdDSA, jose.HS256})
	if err != nil {
		return nil, errors.New("the assertion is no JWT that is signed by a known algorithm")
	}
	header := jws.Signatures[0].Header
	if typ, _ := header.ExtraHeaders[jose.HeaderType].(string); typ != o.ClientAuth.Type {
		return nil, errors.New("the typ of the assertion is missing or wrong")
	}
	var key any = []byte(o.ClientSecret)
	allowed := []jose.SignatureAlgorithm{jose.HS256}
	if o.ClientAuth.Method == "private_key_jwt" {
		public, ok := o.ClientAuth.Keys[header.KeyID]
		if !ok && header.KeyID == "" && len(o.ClientAuth.Keys) == 1 {
			for _, public = range o.ClientAuth.Keys {
			}
		}
		key, allowed = public, algorithms(public)
	}
	if !slices.Contains(allowed, jose.SignatureAlgorithm(header.Algorithm)) {
		return nil, errors.New("the assertion is not signed by a key of the client")
	}
	payload, err := jws.Verify(key)
	if err != nil {
		return nil, errors.New("the signature of the assertion is wrong")
	}
	return payload, nil
}

// algorithms are those that go with a public key; nil: it is none.
func algorithms(public crypto.PublicKey) []jose.SignatureAlgorithm {
	switch public.(type) {
	case *rsa.PublicKey:
		return []jose.SignatureAlgorithm{jose.RS256, jose.PS256}
	case *ecdsa.PublicKey:
		return []jose.SignatureAlgorithm{jose.ES256}
	case ed25519.PublicKey:
		return []jose.SignatureAlgorithm{jose.EdDSA}
	}
	return nil
}

// certificate is the one that the client presents; nil if it does not, or was
// not asked for one.
func (c *call) certificate() *x509.Certificate {
	if c.r.TLS == nil || len(c.r.TLS.PeerCertificates) == 0 {
		return nil
	}
	if alias := c.s.opt.ClientAuth.AliasHost; alias != "" && !strings.EqualFold(c.r.Host, alias) && c.endpoint != APIEndpoint {
		return nil
	}
	return c.r.TLS.PeerCertificates[0]
}

// checkCertificate checks the client's certificate (RFC 8705 section 2).
func (c *call) checkCertificate() error {
	a, shown := &c.s.opt.ClientAuth, c.certificate()
	switch {
	case shown == nil:
		return errors.New("the connection has no client certificate")
	case a.Certificate == nil:
		return errors.New("the client has no certificate registered")
	case a.Method == "self_signed_tls_client_auth":
		if !shown.Equal(a.Certificate) {
			return errors.New("the certificate is not the client's")
		}
		return nil
	}
	chain := x509.NewCertPool()
	for _, cert := range c.r.TLS.PeerCertificates[1:] {
		chain.AddCert(cert)
	}
	if _, err := shown.Verify(x509.VerifyOptions{Roots: cmp.Or(a.CAs, x509.NewCertPool()), Intermediates: chain, CurrentTime: time.Now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return errors.New("the certificate is not from a CA that counts, or has expired")
	}
	if shown.Subject.String() != a.Certificate.Subject.String() {
		return errors.New("the certificate has another subject than the client")
	}
	return nil
}

// bound is the thumbprint that tokens asked for by c are bound to; "" if they
// are not.
func (c *call) bound() string {
	if !c.s.opt.ClientAuth.BindTokens {
		return ""
	}
	return thumbprint(c.certificate())
}

func thumbprint(cert *x509.Certificate) string {
	if cert == nil {
		return ""
	}
	sum := sha256.Sum256(cert.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
