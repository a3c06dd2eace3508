package oauthtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"time"
)

// StartTLS is Start over TLS, with a certificate that the returned roots vouch
// for. Clients are asked for a certificate, and need not have one: see
// Options.ClientAuth.
func (s *Server) StartTLS() (stop func(), roots *x509.CertPool) {
	cert, roots := selfSigned()
	return s.start(&tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}), roots
}

// selfSigned makes a certificate for 127.0.0.1.
func selfSigned() (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic("oauthtest: no key can be made: " + err.Error())
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "oauthtest"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic("oauthtest: no certificate can be made: " + err.Error())
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic("oauthtest: no certificate can be made: " + err.Error())
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, roots
}

// TransportWith is Transport for a client that presents a certificate. certs is
// called for each request over https, and returns the client's certificate, and
// any intermediate ones after it; that the client has its key is taken for
// granted, since there are no handshakes in memory.
func (s *Server) TransportWith(certs func() []*x509.Certificate) http.RoundTripper {
	return transport{s, certs}
}
