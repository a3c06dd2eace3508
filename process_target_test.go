package freshtoken_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/clientauth"
	"github.com/freshtoken/freshtoken/internal/figures"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// Programs whose access tokens are not the session's own, and programs that show
// a client certificate.

// scopedSource is src, or that of its session for a scope that is not empty.
func scopedSource(src *freshtoken.Source, scope string) (*freshtoken.Source, error) {
	if scope == "" {
		return src, nil
	}
	return src.For(freshtoken.Target{Scopes: []string{scope}})
}

// trust is what connections of a program to its server need; nil: there is no
// TLS.
func (s procSetup) trust() *tls.Config {
	if s.Roots == nil {
		return nil
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.Roots)
	return &tls.Config{RootCAs: roots}
}

// present has a program show its certificate, if it has one, to the token
// endpoint, and returns what shows it to the API.
func (s procSetup) present(cfg *freshtoken.Config) (http.RoundTripper, error) {
	if s.Client == nil {
		return http.DefaultTransport, nil
	}
	pair, err := tls.X509KeyPair(s.Client, s.Client)
	if err != nil {
		return nil, errors.New("the certificate of a test is damaged")
	}
	cert, err := clientauth.NewCertificate(pair)
	if err != nil {
		return nil, err
	}
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.TLSClientConfig = s.trust()
	cfg.ClientAuth, cfg.HTTPClient = cert, &http.Client{Transport: cert.Transport(base)}
	return cfg.HTTPClient.Transport, nil
}

// show has the programs show a certificate to their server, which listens
// already.
func (w *procWorld) show(client *clientCert) {
	w.t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(client.tls.PrivateKey)
	if err != nil {
		w.t.Fatal(err)
	}
	// The roots are the server's own certificate.
	conn, err := tls.Dial("tcp", w.setup.Origin[len("https://"):], &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	w.client = client
	w.setup.Roots = block("CERTIFICATE", conn.ConnectionState().PeerCertificates[0].Raw)
	w.setup.Client = append(block("CERTIFICATE", client.leaf.Raw), block("PRIVATE KEY", key)...)
}

// spoil leaves the session without a valid access token of the kind that the
// victims ask for.
func (k *killing) spoil() {
	k.t.Helper()
	if k.scope == "" {
		k.shift(-2 * time.Hour)
		return
	}
	k.edit(func(all map[string]json.RawMessage) { delete(all, "derived") })
}

// checkTargets checks what is stored beside the refresh token, if the victims ask
// for the token of a Target: with the answer that is there, or without it; the
// session's own is what it was.
func (k *killing) checkTargets(r procRecord, answered bool) {
	k.t.Helper()
	if k.scope == "" || r.ID != k.before.ID || r.Ended != nil {
		return
	}
	if r.AccessToken != k.before.AccessToken {
		k.t.Error("the session's own access token is another one")
	}
	got, ok := r.Derived[(freshtoken.Target{Scopes: []string{k.scope}}).String()]
	if ok != answered || len(r.Derived) > 1 {
		k.t.Errorf("generation %d is stored with %d tokens for Targets, and one of them is that of an answer: %v, want %v", r.Generation, len(r.Derived), ok, answered)
	}
	if ok && !k.as.AccessAlive(got.AccessToken) && k.as.Alive(r.RefreshToken) {
		k.t.Error("the stored token for a Target is dead")
	}
	if ok && k.client != nil && got.Thumbprint != k.client.auth.DescribeClient().Thumbprint {
		k.t.Error("the stored token for a Target does not tell of the certificate that it was had with")
	}
}

// Processes are killed at every point of a request for the access token of a
// Target: as with TestKill, and the session's own access token has nothing to do
// with it.
func TestKillTarget(t *testing.T) {
	k := &killing{t: t, procWorld: newProcWorld(t, oauthtest.Options{}, procPlace{}), scope: "read"}
	kills := max(*killN/3, len(killPlans))
	ended := k.campaign(kills)
	figures.Record(t, "kills.target", fmt.Sprint(kills))
	figures.Record(t, "kills.target.lost", fmt.Sprint(ended))
	t.Run("twice", func(t *testing.T) { killTwice(t, "read", holdUnlocked) })
}

// The same with processes that show a client certificate, to which their tokens
// are bound.
func TestKillMutualTLS(t *testing.T) {
	client := newClientCert(t)
	kills, ended := 0, 0
	for _, scope := range []string{"", "read"} {
		t.Run("scope "+scope, func(t *testing.T) {
			as := oauthtest.New(oauthtest.Options{ClientAuth: client.server()})
			stop, _ := as.StartTLS()
			t.Cleanup(stop)
			k := &killing{t: t, procWorld: worldOf(t, as, procPlace{}), scope: scope}
			k.show(client)
			n := max(*killN/6, len(killPlans))
			kills, ended = kills+n, ended+k.campaign(n)
			if s := as.Stats(); s.BadClients > 0 {
				t.Errorf("the server saw %+v", s)
			}
		})
	}
	figures.Record(t, "kills.mtls", fmt.Sprint(kills))
	figures.Record(t, "kills.mtls.lost", fmt.Sprint(ended))
}
