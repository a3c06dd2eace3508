package clientauth_test

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"
)

// certOptions says what certificate newCert makes; the zero value is one of a
// client, self-signed, and valid for a day on either side.
type certOptions struct {
	key         crypto.Signer // nil: the EC key of all tests
	subject     string        // "": client
	from, until time.Time
	ca          *tls.Certificate // nil: self-signed
	isCA        bool
}

func newCert(t testing.TB, o certOptions) tls.Certificate {
	t.Helper()
	if o.key == nil {
		o.key = ecKey()
	}
	if o.subject == "" {
		o.subject = "client"
	}
	if o.from.IsZero() {
		o.from = time.Now().Add(-24 * time.Hour)
	}
	if o.until.IsZero() {
		o.until = time.Now().Add(24 * time.Hour)
	}
	template := &x509.Certificate{SerialNumber: must(rand.Int(rand.Reader, big.NewInt(1<<62))), Subject: pkix.Name{CommonName: o.subject},
		NotBefore: o.from, NotAfter: o.until, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if o.isCA {
		template.KeyUsage, template.ExtKeyUsage, template.IsCA, template.BasicConstraintsValid = x509.KeyUsageCertSign, nil, true, true
	}
	parent, signer := template, o.key
	if o.ca != nil {
		parent, signer = o.ca.Leaf, o.ca.PrivateKey.(crypto.Signer)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, o.key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: o.key, Leaf: must(x509.ParseCertificate(der))}
}

// exampleCertificate is one for examples, which have no testing.T.
func exampleCertificate() tls.Certificate { return newCert(new(testing.T), certOptions{}) }
