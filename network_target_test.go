package freshtoken_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"strconv"
	"testing"

	"github.com/freshtoken/freshtoken/clientauth"
	"github.com/freshtoken/freshtoken/internal/figures"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// What breaks while an access token is asked for that is not the session's own,
// and on connections that show a client certificate.

// A clientCert is the certificate of a client, at both ends.
type clientCert struct {
	tls  tls.Certificate
	auth *clientauth.Certificate
	leaf *x509.Certificate
	pool *x509.CertPool
}

func newClientCert(t *testing.T) *clientCert {
	t.Helper()
	c := new(clientCert)
	c.tls, c.pool = certificate(t, func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "client"}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	var err error
	if c.auth, err = clientauth.NewCertificate(c.tls); err != nil {
		t.Fatal(err)
	}
	if c.leaf, err = x509.ParseCertificate(c.tls.Certificate[0]); err != nil {
		t.Fatal(err)
	}
	return c
}

// server is what a server knows of the client: it binds tokens to the
// certificate.
func (c *clientCert) server() oauthtest.ClientAuth {
	return oauthtest.ClientAuth{Method: "tls_client_auth", Certificate: c.leaf, CAs: c.pool, BindTokens: true}
}

// transport takes requests to a server in memory.
func (c *clientCert) transport(as *oauthtest.Server) http.RoundTripper {
	return as.TransportWith(func() []*x509.Certificate { return []*x509.Certificate{c.leaf} })
}

// closer is what the transports of package clientauth are.
type closer interface {
	http.RoundTripper
	CloseIdleConnections()
}

// over shows the certificate on the connections of base.
func (c *clientCert) over(t *testing.T, base *http.Transport) closer {
	t.Helper()
	rt, ok := c.auth.Transport(base).(closer)
	if !ok {
		t.Fatal("the transport cannot close its connections")
	}
	return rt
}

// network is a network whose first attempt is to take this line.
func (l *line) network() *network {
	n := newNetwork(l.t)
	n.narrow = l.narrow
	if n.client = l.cert; l.cert != nil {
		n.as = oauthtest.New(oauthtest.Options{ClientAuth: l.cert.server()})
	}
	return n
}

// checkUse checks what the token that came of it all is good for, and that the
// session's own has stayed as it was, if it is not that.
func (n *network) checkUse(o outcome) {
	n.t.Helper()
	if o.tok == nil {
		return
	}
	last := n.store.last(n.t)
	scope, kept := "read write", last.AccessToken
	if n.narrow {
		scope, kept = "read", last.Derived[reading.String()].AccessToken
		if last.AccessToken != n.login.AccessToken || !n.as.AccessAlive(last.AccessToken) {
			n.t.Error("the session's own access token is another one, or dead")
		}
	}
	if got := o.tok.Extra("scope"); got != scope || kept != o.tok.AccessToken {
		n.t.Errorf("the token is for %v, want %s; it is stored in its place: %v", got, scope, kept == o.tok.AccessToken)
	}
	if n.client == nil {
		return
	}
	for want, way := range map[int]http.RoundTripper{401: n.as.Transport(), 200: n.client.transport(n.as)} {
		req, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, n.as.APIURL("x?scope=read"), nil)
		if err != nil {
			n.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+o.tok.AccessToken)
		resp, err := way.RoundTrip(req)
		if err != nil {
			n.t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			n.t.Errorf("the API answers %d, want %d: the token is not bound to the certificate", resp.StatusCode, want)
		}
	}
}

// Each byte of what has an access token for a Target, and each byte of what shows
// a client certificate, is where the connection ends: as with TestNetworkCuts,
// and the session's own access token has nothing to do with it.
func TestNetworkTargetCuts(t *testing.T) {
	lines := []struct {
		name, protocol string
		narrow, cert   bool
		y              *tally
	}{
		{"target", "http/1.1", true, false, new(tally)},
		{"mtls", "https/1.1", false, true, new(tally)},
		{"mtls-target", "h2", true, true, new(tally)},
	}
	t.Run("cuts", func(t *testing.T) {
		for _, way := range lines {
			for direction, response := range map[string]bool{"request": false, "response": true} {
				t.Run(way.name+", "+direction, func(t *testing.T) {
					t.Parallel()
					var cert *clientCert
					if way.cert {
						cert = newClientCert(t)
					}
					l := newLineFor(t, way.protocol, cert)
					l.narrow = way.narrow
					l.cutAll(response, way.y)
				})
			}
		}
	})
	for _, way := range lines {
		counts := way.y.counts // without encryption, there is nothing to cut before the form
		if counts["ends"] != 2 || counts[unknown] == 0 || way.cert && (counts["handshake"] == 0 || counts[unsent] == 0) {
			t.Errorf("%s: some outcome never came, or some direction was not cut to the end: %v", way.name, counts)
		}
		figures.Record(t, "networks."+way.name+".cuts", strconv.Itoa(counts["handshake"]+counts["request"]+counts["response"]))
		for name, n := range map[string]int{"handshake": counts["handshake"], unsent: counts[unsent], unknown: counts[unknown],
			done: counts[done] + counts[salvaged], refused: counts[refused]} {
			figures.Record(t, "networks."+way.name+"."+name, strconv.Itoa(n))
		}
	}
}
