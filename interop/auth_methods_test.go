package interop_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/clientauth"
	"github.com/freshtoken/freshtoken/internal/mark"
)

// A registration is what oidc-provider is told of a client.
type registration struct {
	client
	Algorithm string          `json:"token_endpoint_auth_signing_alg,omitempty"`
	JWKS      json.RawMessage `json:"jwks,omitempty"`
	JWKSURI   string          `json:"jwks_uri,omitempty"` // in place of JWKS
	Subject   string          `json:"tls_client_auth_subject_dn,omitempty"`
	Bound     bool            `json:"tls_client_certificate_bound_access_tokens,omitempty"`
}

// A proof is how a program shows which client it is.
type proof struct {
	name   string
	secret string
	auth   freshtoken.ClientAuthenticator
	cert   *clientauth.Certificate // what its connections present; nil: nothing
}

// An authMethod is a row of the table of client authentications in README.md.
type authMethod struct {
	name       string
	registered registration
	right      proof
	wrong      []proof          // what the server must refuse
	renewed    *tls.Certificate // one that may replace that of right; nil: none may
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// authNames are the names of authMethods: the rows of the table.
var authNames = []string{"none", "client_secret_basic", "client_secret_post", "client_secret_jwt",
	"private_key_jwt, RS256", "private_key_jwt, PS256", "private_key_jwt, ES256", "private_key_jwt, EdDSA",
	"tls_client_auth", "self_signed_tls_client_auth", "none, with a certificate", "private_key_jwt, ES256, with a certificate"}

// authMethods are all that freshtoken has. The certificates of tls_client_auth
// come from ca.
func authMethods(ca tls.Certificate) []authMethod {
	all := []authMethod{
		{name: "none", registered: registration{client: client{Method: "none"}},
			wrong: []proof{{name: "a secret", secret: mark.New(mark.ClientSecret)}}},
		bySecret("client_secret_basic"), bySecret("client_secret_post"), bySharedKey(),
	}
	rsaKeys := rsaKeys()
	all = append(all,
		byKey(clientauth.RS256, rsaKeys[0], rsaKeys[1], clientauth.PS256),
		byKey(clientauth.PS256, rsaKeys[0], rsaKeys[1], clientauth.RS256),
		byKey(clientauth.ES256, ecKey(), ecKey(), ""),
		byKey(clientauth.EdDSA, edKey(), edKey(), ""),
		byIssued(ca), bySelfSigned(), public8705(ca), boundJWT(ca))
	for i := range all {
		all[i].registered.ID = "by " + all[i].name // spaces have to be encoded
	}
	return all
}

func bySecret(method string) authMethod {
	// The characters are those of the clients in server_test.go.
	secret := mark.Weave(mark.ClientSecret, `s3cr+t %41/&=:~"?`)
	return authMethod{name: method, registered: registration{client: client{Method: method, Secret: secret}}, right: proof{secret: secret},
		wrong: []proof{{name: "another secret", secret: mark.New(mark.ClientSecret)}}}
}

// bySharedKey is client_secret_jwt.
func bySharedKey() authMethod {
	secret := mark.New(mark.ClientSecret)
	sign := func(name, secret string, o clientauth.Options) proof {
		return proof{name: name, auth: must(clientauth.SecretJWT(secret, o))}
	}
	return authMethod{name: "client_secret_jwt", registered: registration{client: client{Method: "client_secret_jwt", Secret: secret}},
		right: sign("", secret, clientauth.Options{}),
		wrong: []proof{sign("another secret", mark.New(mark.ClientSecret), clientauth.Options{}),
			sign("another audience", secret, clientauth.Options{Audience: elsewhere}),
			{name: "the secret itself", secret: secret}}}
}

// elsewhere is the audience of an assertion that is for another server.
func elsewhere(freshtoken.ClientRequest) string { return "https://login.example.com" }

// byKey is private_key_jwt by an algorithm. "" stands for no other one that goes
// with the key.
func byKey(algorithm string, key, other crypto.Signer, otherAlgorithm string) authMethod {
	sign := func(name string, key crypto.Signer, o clientauth.Options) proof {
		o.KeyID = "key-1"
		return proof{name: name, auth: must(clientauth.PrivateKeyJWT(must(clientauth.NewKey(key)), o))}
	}
	right := clientauth.Options{Algorithm: algorithm}
	m := authMethod{name: "private_key_jwt, " + algorithm,
		registered: registration{client: client{Method: "private_key_jwt"}, Algorithm: algorithm, JWKS: publicJWKS(key)},
		right:      sign("", key, right),
		wrong: []proof{sign("another key", other, right),
			sign("another audience", key, clientauth.Options{Algorithm: algorithm, Audience: elsewhere})}}
	if otherAlgorithm != "" {
		m.wrong = append(m.wrong, sign("another algorithm", key, clientauth.Options{Algorithm: otherAlgorithm}))
	}
	return m
}

func publicJWKS(key crypto.Signer) json.RawMessage {
	return must(must(clientauth.NewKey(key)).PublicJWKS("key-1"))
}

// byIssued is tls_client_auth.
func byIssued(ca tls.Certificate) authMethod {
	const subject = "subject"
	return authMethod{name: "tls_client_auth",
		registered: registration{client: client{Method: "tls_client_auth"}, Subject: "CN=" + subject + ",O=freshtoken", Bound: true},
		right:      byCertificate("", newCertificate(subject, &ca)),
		renewed:    ptr(newCertificate(subject, &ca)),
		wrong: []proof{byCertificate("of another subject", newCertificate("somebody", &ca)),
			byCertificate("of another CA", newCertificate(subject, ptr(newCA()))),
			{name: "not presented", auth: must(clientauth.NewCertificate(newCertificate(subject, &ca)))}}}
}

// bySelfSigned is self_signed_tls_client_auth. Two certificates are registered:
// the second is that of next year.
func bySelfSigned() authMethod {
	first, second := newCertificate("self", nil), newCertificate("self", nil)
	return authMethod{name: "self_signed_tls_client_auth",
		registered: registration{client: client{Method: "self_signed_tls_client_auth"}, JWKS: certificateJWKS(first, second), Bound: true},
		right:      byCertificate("", first),
		renewed:    &second,
		wrong: []proof{byCertificate("another one", newCertificate("self", nil)),
			{name: "not presented", auth: must(clientauth.NewCertificate(first))}}}
}

// public8705 is a public client whose tokens, the refresh tokens among them, are
// bound to its certificate (RFC 8705 section 4).
func public8705(ca tls.Certificate) authMethod {
	beside := func(name string, cert tls.Certificate) proof {
		p := byCertificate(name, cert)
		p.auth = p.cert.With(nil)
		return p
	}
	return authMethod{name: "none, with a certificate", registered: registration{client: client{Method: "none"}, Bound: true},
		right: beside("", newCertificate("anybody", &ca)),
		wrong: []proof{beside("another certificate", newCertificate("anybody", &ca)),
			{name: "another one, not presented", auth: must(clientauth.NewCertificate(newCertificate("anybody", &ca))).With(nil)}}}
}

// boundJWT is a client with assertions, and with tokens that are bound to its
// certificate (RFC 8705 section 3).
func boundJWT(ca tls.Certificate) authMethod {
	m := byKey(clientauth.ES256, ecKey(), ecKey(), "")
	m.name += ", with a certificate"
	m.registered.Bound = true
	cert := must(clientauth.NewCertificate(newCertificate("anybody", &ca)))
	m.renewed = ptr(newCertificate("anybody", &ca))
	for _, p := range append([]*proof{&m.right}, refs(m.wrong)...) {
		p.cert, p.auth = cert, cert.With(p.auth)
	}
	return m
}

func ptr[T any](v T) *T { return &v }

func refs[T any](all []T) (out []*T) {
	for i := range all {
		out = append(out, &all[i])
	}
	return out
}

func byCertificate(name string, cert tls.Certificate) proof {
	c := must(clientauth.NewCertificate(cert))
	return proof{name: name, auth: c, cert: c}
}

// rsaKeys are two that all tests share: it takes time to find one.
var rsaKeys = sync.OnceValue(func() (keys [2]*rsa.PrivateKey) {
	for i := range keys {
		keys[i] = must(rsa.GenerateKey(rand.Reader, 2048))
	}
	return keys
})

func edKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(rand.Text() + rand.Text())[:ed25519.SeedSize])
}

func ecKey() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func newCA() tls.Certificate {
	return issue(&x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true}, nil)
}

// newCertificate makes a certificate for a client; without a CA it is
// self-signed.
func newCertificate(subject string, ca *tls.Certificate) tls.Certificate {
	return issue(&x509.Certificate{Subject: pkix.Name{CommonName: subject, Organization: []string{"freshtoken"}},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca)
}

// issue makes a certificate for a new key.
func issue(c *x509.Certificate, ca *tls.Certificate) tls.Certificate {
	key := ecKey()
	c.SerialNumber = must(rand.Int(rand.Reader, big.NewInt(1<<62)))
	c.NotBefore, c.NotAfter = time.Now().Add(-24*time.Hour), time.Now().Add(24*time.Hour)
	parent, signer := c, crypto.Signer(key)
	if ca != nil {
		parent, signer = ca.Leaf, ca.PrivateKey.(crypto.Signer)
	}
	der := must(x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: must(x509.ParseCertificate(der))}
}

// certificateJWKS registers certificates as RFC 8705 section 2.2.2 has it: as
// keys with their x5c.
func certificateJWKS(certs ...tls.Certificate) json.RawMessage {
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	for _, cert := range certs {
		var one struct {
			Keys []map[string]any `json:"keys"`
		}
		if err := json.Unmarshal(publicJWKS(cert.PrivateKey.(crypto.Signer)), &one); err != nil {
			panic(err)
		}
		jwk := one.Keys[0]
		delete(jwk, "kid") // which must differ
		jwk["x5c"] = [][]byte{cert.Certificate[0]}
		set.Keys = append(set.Keys, jwk)
	}
	return must(json.Marshal(set))
}

// A tlsServer is an oidc-provider behind TLS, which knows the clients of
// authMethods, and more.
type tlsServer struct {
	*server          // its back doors, in the clear
	front     string // the issuer
	certified string // the port that asks for certificates
	roots     *x509.CertPool
	methods   []authMethod
}

func startTLSServer(t *testing.T, accessLifetime int, more ...authMethod) *tlsServer {
	t.Helper()
	ca := newCA()
	own := issue(&x509.Certificate{Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, &ca)
	w := &tlsServer{roots: x509.NewCertPool(), methods: append(authMethods(ca), more...)}
	w.roots.AddCert(ca.Leaf)
	var o struct {
		serverOptions
		Clients []registration    `json:"clients"` // in place of those there
		TLS     map[string]string `json:"tls"`
	}
	o.serverOptions = serverOptions{AccessLifetime: accessLifetime, RefreshLifetime: 3600, Rotate: true}
	for _, m := range w.methods {
		o.Clients = append(o.Clients, m.registered)
	}
	o.TLS = map[string]string{"ca": asPEM("CERTIFICATE", ca.Certificate[0]), "cert": asPEM("CERTIFICATE", own.Certificate[0]),
		"key": asPEM("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(own.PrivateKey)))}
	var said struct{ Issuer, Control, Certified string }
	if err := json.Unmarshal(launch(t, "oidcprovider", must(json.Marshal(o))), &said); err != nil {
		t.Fatal(err)
	}
	w.server, w.front, w.certified = &server{t: t, issuer: said.Control}, said.Issuer, said.Certified
	return w
}

func asPEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
