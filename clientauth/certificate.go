package clientauth

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/freshtoken/freshtoken"
)

// A Certificate authenticates a client by the certificate of its TLS
// connections (RFC 8705): one that a CA has issued, which the server knows by
// its subject (tls_client_auth), or one that is registered there itself
// (self_signed_tls_client_auth). Make one with NewCertificate or
// LoadCertificate. It is Config.ClientAuth, its Client is Config.HTTPClient, and
// its Transport the Base of a freshtoken.Transport, if the API wants to see the
// certificate as well. It is safe for concurrent use, and prints without its
// key.
//
// Access tokens may be bound to the certificate. After Renew, or in a program
// that is started with another certificate, those of before are of no use: a
// stored one counts as expired, one that an API rejects is replaced, and no
// connection that was made with the certificate of before gets a new one.
type Certificate struct {
	mu   sync.Mutex // guards what follows
	now  *identity
	next uint64 // number of the next identity
}

// An identity is a certificate, and since when it is presented.
type identity struct {
	number     uint64
	cert       tls.Certificate // with its Leaf
	thumbprint string          // RFC 8705 section 3.1
}

var _ freshtoken.ClientDescriber = (*Certificate)(nil)

// NewCertificate checks that the key belongs to the certificate, which must be
// valid now. The key may be any crypto.Signer. The errors are ErrMismatch,
// ErrExpired, ErrNoKey, and ErrFormat.
func NewCertificate(cert tls.Certificate) (*Certificate, error) {
	c := new(Certificate)
	if err := c.Renew(cert); err != nil {
		return nil, err
	}
	return c, nil
}

// LoadCertificate reads a certificate, which intermediate ones may follow, and
// its private key from PEM files, which may be one. The errors are those of
// NewCertificate and ParseKey; keys of TLS may be of more kinds.
func LoadCertificate(certFile, keyFile string) (*Certificate, error) {
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("clientauth: cannot read the certificate: %w", err)
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("clientauth: cannot read the key: %w", err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%w (the files are %s and %s)", explainPair(keyPEM, err), certFile, keyFile)
	}
	c, err := NewCertificate(cert)
	if err != nil {
		return nil, fmt.Errorf("%w (the file is %s)", err, certFile)
	}
	return c, nil
}

// explainPair says what is wrong with files that are no pair.
func explainPair(keyPEM []byte, err error) error {
	if strings.Contains(err.Error(), "does not match") {
		return mismatch()
	}
	if _, bad := parsePEM(keyPEM, ""); bad != nil {
		return bad
	}
	return fail(ErrFormat, "the certificate is not one in PEM (BEGIN CERTIFICATE): give that of the client, then any intermediate ones")
}

func mismatch() error {
	return fail(ErrMismatch, "give the key that it was issued for, and put the client's certificate first in the file")
}

// Renew replaces the certificate for all connections from now on. Those of
// before are not used for new requests. The errors are those of NewCertificate,
// and leave the former in use. Have Source.Refresh get a token that is bound to
// the new one, or leave that to the first request that an API rejects.
func (c *Certificate) Renew(cert tls.Certificate) error {
	id, err := identify(cert)
	if err != nil {
		return err
	}
	if err := id.valid(time.Now()); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	id.number = c.next
	c.next++
	c.now = id
	return nil
}

// identify checks that a certificate and a key are a pair.
func identify(cert tls.Certificate) (*identity, error) {
	if len(cert.Certificate) == 0 {
		return nil, fail(ErrFormat, "there is no certificate in it: give that of the client")
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return nil, fail(ErrFormat, "the certificate is damaged: have it issued again")
	}
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fail(ErrNoKey, "the certificate comes without its private key: set PrivateKey, to a crypto.Signer")
	}
	public, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(key.Public()) {
		return nil, mismatch()
	}
	sum := sha256.Sum256(leaf.Raw)
	cert.Leaf = leaf
	return &identity{cert: cert, thumbprint: base64.RawURLEncoding.EncodeToString(sum[:])}, nil
}

// valid checks the certificate's time.
func (id *identity) valid(now time.Time) error {
	switch leaf := id.cert.Leaf; {
	case now.After(leaf.NotAfter):
		return fail(ErrExpired, "the client certificate has expired at %s: have a new one issued", leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fail(ErrExpired, "the client certificate is not valid before %s: check the clock of this machine", leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// current returns nil for a Certificate that is nil or empty.
func (c *Certificate) current() *identity {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// AuthenticateClient implements freshtoken.ClientAuthenticator: the form needs
// no more than client_id. The error is ErrExpired, if the certificate has
// expired meanwhile; nothing is sent then.
func (c *Certificate) AuthenticateClient(context.Context, freshtoken.ClientRequest) (url.Values, error) {
	id := c.current()
	if id == nil {
		return nil, fail(ErrFormat, "the Certificate is nil or empty: make one with NewCertificate or LoadCertificate")
	}
	return nil, id.valid(time.Now())
}

// DescribeClient implements freshtoken.ClientDescriber.
func (c *Certificate) DescribeClient() freshtoken.ClientMethod {
	m := freshtoken.ClientMethod{Names: []string{"tls_client_auth", "self_signed_tls_client_auth"}, MutualTLS: true}
	if id := c.current(); id != nil {
		m.Thumbprint = id.thumbprint
	}
	return m
}

// With returns what authenticates a client by other means, while it presents the
// certificate for tokens to be bound to it (RFC 8705 section 3): a JWT, say, or
// nil for a public client.
func (c *Certificate) With(a freshtoken.ClientAuthenticator) freshtoken.ClientAuthenticator {
	return beside{c, a}
}

type beside struct {
	cert *Certificate
	a    freshtoken.ClientAuthenticator // nil: a public client
}

var _ freshtoken.ClientDescriber = beside{}

func (b beside) AuthenticateClient(ctx context.Context, to freshtoken.ClientRequest) (url.Values, error) {
	if params, err := b.cert.AuthenticateClient(ctx, to); err != nil || b.a == nil {
		return params, err
	}
	return b.a.AuthenticateClient(ctx, to)
}

func (b beside) DescribeClient() freshtoken.ClientMethod {
	m := b.cert.DescribeClient()
	m.Names = nil
	switch d, ok := b.a.(freshtoken.ClientDescriber); {
	case b.a == nil:
		m.Names = []string{"none"}
	case ok:
		of := d.DescribeClient()
		m.Names, m.Algorithm = of.Names, of.Algorithm
	}
	return m
}

func (c *Certificate) describe() string {
	if c.current() == nil {
		return "clientauth.Certificate{}"
	}
	id := c.current()
	return fmt.Sprintf("clientauth.Certificate{Subject: %q, NotAfter: %s}", short(id.cert.Leaf.Subject.String()), id.cert.Leaf.NotAfter.UTC().Format(time.RFC3339))
}

// Format implements fmt.Formatter: no verb shows the key.
func (c *Certificate) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.describe()) }

// MarshalJSON implements json.Marshaler, without the key.
func (c *Certificate) MarshalJSON() ([]byte, error) { return quote(c.describe()) }

// LogValue implements slog.LogValuer, without the key.
func (c *Certificate) LogValue() slog.Value { return slog.StringValue(c.describe()) }

// Client returns an HTTP client that presents the certificate, over a clone of
// http.DefaultTransport. It is for Config.HTTPClient.
func (c *Certificate) Client() *http.Client { return &http.Client{Transport: c.Transport(nil)} }

// Transport returns an http.RoundTripper that presents the certificate to every
// server that asks for one, whatever CAs that says it wants. It has a clone of
// base for each certificate that Renew brings, so that no connection, and no TLS
// session, outlives its certificate; nil means http.DefaultTransport. Certificates
// that base has of its own are not used, nor is an HTTP/2 in TLSNextProto: that of
// net/http takes its place. It presents nothing over plain http.
func (c *Certificate) Transport(base *http.Transport) http.RoundTripper {
	if base == nil {
		var ok bool
		if base, ok = http.DefaultTransport.(*http.Transport); !ok { // a program has wrapped it
			base = &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second}
		}
	}
	own := base.Clone()
	if own.TLSNextProto["h2"] != nil {
		// All clones would share the connections of the HTTP/2 that is set up
		// there, by http2.ConfigureTransport say. This way each has its own.
		own.TLSNextProto, own.ForceAttemptHTTP2 = nil, true
	}
	return &transport{cert: c, base: own}
}

type transport struct {
	cert *Certificate
	base *http.Transport

	mu     sync.Mutex // guards what follows
	number uint64     // of the identity that now presents
	now    *http.Transport
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	id := t.cert.current()
	if id == nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, fail(ErrFormat, "the Certificate is nil or empty: make one with NewCertificate or LoadCertificate")
	}
	return t.with(id).RoundTrip(req)
}

// with returns the transport of an identity.
func (t *transport) with(id *identity) *http.Transport {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now != nil && t.number >= id.number { // a newer one may have come since the caller looked
		return t.now
	}
	next := t.base.Clone()
	if next.TLSClientConfig == nil {
		next.TLSClientConfig = new(tls.Config)
	}
	conf := next.TLSClientConfig
	conf.Certificates = nil
	// With Certificates, package tls would send none where the server does not
	// list the CA, and the server's answer would not tell why.
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &id.cert, nil }
	if conf.ClientSessionCache != nil { // a session that is resumed has the certificate that it began with
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	if t.now != nil {
		t.now.CloseIdleConnections()
	}
	t.number, t.now = id.number, next
	return next
}

// CloseIdleConnections implements what http.Client looks for.
func (t *transport) CloseIdleConnections() {
	t.mu.Lock()
	now := t.now
	t.mu.Unlock()
	if now != nil {
		now.CloseIdleConnections()
	}
}
