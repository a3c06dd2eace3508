package clientauth_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/clientauth"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
)

func TestBadCertificates(t *testing.T) {
	good := newCert(t, certOptions{})
	with := func(edit func(*tls.Certificate)) tls.Certificate {
		c := good
		edit(&c)
		return c
	}
	for name, test := range map[string]struct {
		cert tls.Certificate
		want error
	}{
		"R8705-2: the key of another certificate": {with(func(c *tls.Certificate) { c.PrivateKey = edKey() }), clientauth.ErrMismatch},
		"R8705-2: one that has expired":           {newCert(t, certOptions{until: time.Now().Add(-time.Minute)}), clientauth.ErrExpired},
		"R8705-2: one that is not valid yet":      {newCert(t, certOptions{from: time.Now().Add(time.Hour)}), clientauth.ErrExpired},
		"R8705-2: one without its key":            {with(func(c *tls.Certificate) { c.PrivateKey = nil }), clientauth.ErrNoKey},
		"R8705-2: a public key":                   {with(func(c *tls.Certificate) { c.PrivateKey = ecKey().Public() }), clientauth.ErrNoKey},
		"R8705-2: none":                           {tls.Certificate{}, clientauth.ErrFormat},
		"R8705-2: a damaged one":                  {with(func(c *tls.Certificate) { c.Certificate = [][]byte{[]byte("x")} }), clientauth.ErrFormat},
		"R8705-2: a good one":                     {good, nil},
		"R8705-2: one whose key is elsewhere":     {with(func(c *tls.Certificate) { c.PrivateKey = elsewhere(ecKey()) }), nil},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := clientauth.NewCertificate(test.cert)
			if !errors.Is(err, test.want) || (c == nil) != (err != nil) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			keeper := must(clientauth.NewCertificate(good))
			before := keeper.DescribeClient().Thumbprint
			if err := keeper.Renew(test.cert); !errors.Is(err, test.want) {
				t.Errorf("Renew: got %v, want %v", err, test.want)
			}
			if test.want != nil && keeper.DescribeClient().Thumbprint != before {
				t.Error("it was taken all the same")
			}
		})
	}
}

func TestNoCertificate(t *testing.T) {
	for name, c := range map[string]*clientauth.Certificate{"nil": nil, "empty": {}} {
		t.Run("R8705-2: a Certificate that is "+name+" authenticates nobody", func(t *testing.T) {
			for _, a := range []freshtoken.ClientDescriber{c, c.With(nil).(freshtoken.ClientDescriber)} {
				if _, err := a.AuthenticateClient(t.Context(), to); !errors.Is(err, clientauth.ErrFormat) || a.DescribeClient().Thumbprint != "" {
					t.Errorf("got %v", err)
				}
			}
			if _, err := c.Client().Get("https://oauth.test/"); !errors.Is(err, clientauth.ErrFormat) {
				t.Errorf("Client: got %v", err)
			}
		})
	}
}

func TestLoadCertificate(t *testing.T) {
	dir := t.TempDir()
	cert := newCert(t, certOptions{})
	public, private := block("CERTIFICATE", cert.Certificate[0]), pkcs8(ecKey())
	write := func(name, data string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, test := range map[string]struct {
		cert, key string
		want      error
	}{
		"R8705-2: a pair":                      {write("c", public), write("k", private), nil},
		"R8705-2: a pair in one file":          {write("both", public+private), write("both", public+private), nil},
		"R8705-2: another key":                 {write("c", public), write("k2", pkcs8(edKey())), clientauth.ErrMismatch},
		"R8705-2: an encrypted key":            {write("c", public), write("enc", block("ENCRYPTED PRIVATE KEY", []byte("x"))), clientauth.ErrEncrypted},
		"R8705-2: the certificate for the key": {write("c", public), write("c", public), clientauth.ErrPublicKey},
		"R8705-2: the key for the certificate": {write("k", private), write("k", private), clientauth.ErrFormat},
		"R8705-2: no such file":                {filepath.Join(dir, "none"), write("k", private), fs.ErrNotExist},
		"R8705-2: no such key file":            {write("c", public), filepath.Join(dir, "none"), fs.ErrNotExist},
		"R8705-2: expired": {write("old", block("CERTIFICATE", newCert(t, certOptions{until: time.Now().Add(-time.Minute)}).Certificate[0])),
			write("k", private), clientauth.ErrExpired},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := clientauth.LoadCertificate(test.cert, test.key)
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if err != nil && (!strings.HasPrefix(err.Error(), "clientauth: ") || !strings.Contains(err.Error(), dir)) {
				t.Errorf("it does not say where: %v", err)
			}
		})
	}
}

// A certificate that expires while the program runs costs no request, and no
// session; a new one heals it.
func TestCertificateExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cert := newCert(t, certOptions{until: time.Now().Add(90 * time.Second)})
		w := byCert("self_signed_tls_client_auth", cert, tls.Certificate{}, false)
		as, transport := w.server()
		src := newSource(t, freshtoken.Config{OAuth2: as.OAuth2(), HTTPClient: &http.Client{Transport: transport}, ClientAuth: w.auth})
		src.SetToken(t.Context(), as.Login("alice"))
		time.Sleep(2 * lifetime)
		_, err := src.Token(t.Context())
		if !errors.Is(err, clientauth.ErrExpired) || errors.Is(err, freshtoken.ErrSessionEnded) || !strings.Contains(err.Error(), "have a new one issued") {
			t.Errorf("R8705-2: got %v", err)
		}
		if n := as.Stats().TokenRequests; n != 0 {
			t.Errorf("R8705-2: %d requests were sent", n)
		}
		renewed := newCert(t, certOptions{})
		if err := w.auth.(*clientauth.Certificate).Renew(renewed); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // the pause between attempts
		if _, err = src.Token(t.Context()); err != nil {
			t.Errorf("R8705-2: the renewed certificate does not help: %v", err)
		}
	})
}

// overTLS is a server that binds tokens to certificates, and a client that has
// one of two.
type overTLS struct {
	as       *oauthtest.Server
	cert     *clientauth.Certificate
	old, new tls.Certificate
	base     *http.Transport
	cfg      freshtoken.Config
}

func newOverTLS(t *testing.T) *overTLS {
	t.Helper()
	ca := newCert(t, certOptions{subject: "CA", isCA: true, key: edKey()})
	w := &overTLS{old: newCert(t, certOptions{ca: &ca}), new: newCert(t, certOptions{ca: &ca, key: rsaKey()})}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Leaf)
	w.as = oauthtest.New(oauthtest.Options{ClientAuth: oauthtest.ClientAuth{Method: "tls_client_auth", Certificate: w.old.Leaf, CAs: roots, BindTokens: true}})
	stop, trusted := w.as.StartTLS()
	t.Cleanup(stop)
	w.cert = must(clientauth.NewCertificate(w.old))
	w.base = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted, ClientSessionCache: tls.NewLRUClientSessionCache(8)}, ForceAttemptHTTP2: true}
	t.Cleanup(w.base.CloseIdleConnections)
	w.cfg = freshtoken.Config{OAuth2: w.as.OAuth2(), Issuer: w.as.BaseURL(), RevocationURL: w.as.RevocationURL(), ClientAuth: w.cert,
		HTTPClient: &http.Client{Transport: w.cert.Transport(w.base)}, Store: storage.NewMemory()}
	return w
}

// api is a client of the API, through the certificate's Transport.
func (w *overTLS) api(t *testing.T, src *freshtoken.Source) *http.Client {
	base := w.cert.Transport(w.base)
	client := &http.Client{Transport: &freshtoken.Transport{Source: src, Base: base, Origins: []string{w.as.BaseURL()}}}
	t.Cleanup(base.(interface{ CloseIdleConnections() }).CloseIdleConnections)
	return client
}

func get(t *testing.T, client *http.Client, url string) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("got %s, %v", resp.Status, err)
	}
}

func TestRenewOverTLS(t *testing.T) {
	t.Run("R8705-3: requests in flight, and a certificate that is renewed: no connection of before gets a new token", func(t *testing.T) {
		w := newOverTLS(t)
		src := newSource(t, w.cfg)
		if err := src.SetToken(t.Context(), w.as.Login("alice")); err != nil {
			t.Fatal(err)
		}
		client := w.api(t, src)
		get(t, client, w.as.APIURL("warm"))
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 20 {
					if i == 0 && j == 10 {
						if err := w.cert.Renew(w.new); err != nil {
							t.Error(err)
						}
					}
					resp, err := client.Get(w.as.APIURL("x"))
					if err != nil {
						t.Error(err)
						return
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if resp.StatusCode != http.StatusOK {
						t.Errorf("got %s", resp.Status)
					}
				}
			})
		}
		wg.Wait()
		if s := w.as.Stats(); s.Refreshes != 1 || s.BadClients != 0 || s.InvalidGrants != 0 {
			t.Errorf("the server counts %+v, want one refresh", s)
		}
		for _, e := range w.as.LogOf(oauthtest.APIEndpoint) {
			if e.Outcome == oauthtest.InvalidToken && e.Generation != 1 {
				t.Errorf("request %d: a token of generation %d went over a connection of before", e.ID, e.Generation)
			}
		}
	})
	t.Run("R8705-3: Refresh after Renew spares the API's rejection", func(t *testing.T) {
		w := newOverTLS(t)
		src := newSource(t, w.cfg)
		src.SetToken(t.Context(), w.as.Login("alice"))
		client := w.api(t, src)
		get(t, client, w.as.APIURL("warm"))
		if err := w.cert.Renew(w.new); err != nil {
			t.Fatal(err)
		}
		if _, err := src.Refresh(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		get(t, client, w.as.APIURL("x"))
		if s := w.as.Stats(); s.APIUnauthorized != 0 || s.Refreshes != 1 {
			t.Errorf("the server counts %+v", s)
		}
	})
	t.Run("R8705-3: a program that starts with another certificate takes a stored token for expired", func(t *testing.T) {
		w := newOverTLS(t)
		src := newSource(t, w.cfg)
		src.SetToken(t.Context(), w.as.Login("alice"))
		src.Close()
		if err := w.cert.Renew(w.new); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			src = newSource(t, w.cfg)
			get(t, w.api(t, src), w.as.APIURL("x"))
			src.Close()
		}
		if s := w.as.Stats(); s.APIUnauthorized != 0 || s.Refreshes != 1 {
			t.Errorf("the server counts %+v, want one refresh, and no rejection", s)
		}
	})
	t.Run("R8705-3: no TLS session of before is resumed", func(t *testing.T) {
		seen := make(chan *x509.Certificate, 1)
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.TLS.PeerCertificates[0] }))
		server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
		server.StartTLS()
		defer server.Close()
		base := server.Client().Transport.(*http.Transport)
		base.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(8)
		before, after := newCert(t, certOptions{}), newCert(t, certOptions{})
		cert := must(clientauth.NewCertificate(before))
		rt := cert.Transport(base)
		defer rt.(interface{ CloseIdleConnections() }).CloseIdleConnections()
		for _, want := range []tls.Certificate{before, after} {
			if err := cert.Renew(want); err != nil {
				t.Fatal(err)
			}
			get(t, &http.Client{Transport: rt}, server.URL)
			if got := <-seen; !got.Equal(want.Leaf) {
				t.Error("the server sees the certificate of before")
			}
		}
	})
	t.Run("R8705-2: a certificate is presented whatever CAs the server asks for, and to the server alone that asks", func(t *testing.T) {
		seen := make(chan int, 1)
		other := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- len(r.TLS.PeerCertificates) }))
		pool := x509.NewCertPool()
		pool.AddCert(newCert(t, certOptions{subject: "stranger", isCA: true}).Leaf)
		other.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, ClientCAs: pool}
		other.StartTLS()
		defer other.Close()
		cert := must(clientauth.NewCertificate(newCert(t, certOptions{})))
		rt := cert.Transport(other.Client().Transport.(*http.Transport))
		defer rt.(interface{ CloseIdleConnections() }).CloseIdleConnections()
		get(t, &http.Client{Transport: rt}, other.URL)
		if n := <-seen; n != 1 {
			t.Errorf("the server saw %d certificates", n)
		}
	})
}

// The refresh token of a client without a secret is bound to its certificate. A
// program that starts with another one is refused; the session is not over for
// one that has the right one.
func TestForeignCertificate(t *testing.T) {
	const item = "R8705-3: a refresh token that is bound to another certificate is kept"
	t.Run(item, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			right, wrong := newCert(t, certOptions{}), newCert(t, certOptions{})
			w := byCert("", right, tls.Certificate{}, true)
			presented := right.Leaf
			as, _ := w.server()
			cert := must(clientauth.NewCertificate(right))
			cfg := freshtoken.Config{OAuth2: as.OAuth2(), Store: storage.NewMemory(), ClientAuth: cert.With(nil),
				HTTPClient: &http.Client{Transport: as.TransportWith(func() []*x509.Certificate { return []*x509.Certificate{presented} })}}
			src := newSource(t, cfg)
			tok := as.Login("alice")
			src.SetToken(t.Context(), tok)
			src.Close()

			presented = wrong.Leaf
			cert.Renew(wrong)
			src = newSource(t, cfg)
			_, err := src.Token(t.Context())
			refused := new(freshtoken.RefreshError)
			if !errors.As(err, &refused) || !refused.Uncertain || !errors.Is(err, freshtoken.ErrSessionEnded) || !strings.Contains(err.Error(), "another client certificate") {
				t.Errorf("got %v", err)
			}
			src.Close()

			presented = nil
			without := cfg
			without.ClientAuth = nil
			src = newSource(t, without)
			if tok, err := src.Token(t.Context()); err == nil { // nobody knows yet that it is bound
				_, err = src.Refresh(t.Context(), tok)
				if !errors.As(err, &refused) || !refused.Uncertain || !errors.Is(err, freshtoken.ErrSessionEnded) {
					t.Errorf("without a certificate: got %v", err)
				}
			}
			src.Close()

			presented = right.Leaf
			cert.Renew(right)
			src = newSource(t, cfg)
			if got, err := src.Token(t.Context()); err != nil || got.AccessToken != tok.AccessToken {
				t.Errorf("the session is over: %v", err)
			}
			time.Sleep(lifetime)
			if _, err := src.Token(t.Context()); err != nil {
				t.Errorf("the session is over: %v", err)
			}
		})
	})
}

// Two programs with a certificate each take the token from each other: within
// the budget of an API that rejects good tokens, and then they are told why.
func TestContestedSession(t *testing.T) {
	const item = "R8705-3: two programs with a certificate each do not chase each other"
	for name, fault := range map[string]oauthtest.Fault{
		item:                                 {},
		item + ", without lifetimes, either": oauthtest.OmitMember("expires_in"),
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { contest(t, fault) }) })
	}
}

func contest(t *testing.T, fault oauthtest.Fault) {
	ca := newCert(t, certOptions{subject: "CA", isCA: true})
	a, b := newCert(t, certOptions{ca: &ca}), newCert(t, certOptions{ca: &ca})
	w := byCert("tls_client_auth", a, ca, true)
	w.options.KillOldAccess = true
	as, _ := w.server()
	as.Token.Always(fault)
	store := storage.NewMemory()
	program := func(cert tls.Certificate) (*freshtoken.Source, *http.Client) {
		rt := as.TransportWith(func() []*x509.Certificate { return []*x509.Certificate{cert.Leaf} })
		src := newSource(t, freshtoken.Config{OAuth2: as.OAuth2(), Store: store, HTTPClient: &http.Client{Transport: rt}, ClientAuth: must(clientauth.NewCertificate(cert))})
		return src, &http.Client{Transport: &freshtoken.Transport{Source: src, Base: rt, Origins: []string{as.BaseURL()}}}
	}
	first, one := program(a)
	tok := as.Login("alice")
	if fault.Name != "" {
		tok.Expiry, tok.ExpiresIn = time.Time{}, 0
	}
	first.SetToken(t.Context(), tok)
	_, two := program(b)
	told := false
	for range 300 { // half a minute
		for _, client := range []*http.Client{one, two} {
			resp, err := client.Get(as.APIURL("x"))
			if err == nil {
				resp.Body.Close()
			}
			told = told || err != nil && strings.Contains(err.Error(), "another client certificate")
		}
		time.Sleep(100 * time.Millisecond)
	}
	if n := as.Stats().TokenRequests; n > 10 {
		t.Errorf("%d refreshes in half a minute", n)
	}
	if !told {
		t.Error("nobody was told why")
	}
}

func TestDescriptions(t *testing.T) {
	cert := must(clientauth.NewCertificate(newCert(t, certOptions{})))
	jwt := must(clientauth.PrivateKeyJWT(keyOf(ecKey()), clientauth.Options{}))
	describe := func(a freshtoken.ClientAuthenticator) freshtoken.ClientMethod {
		return a.(freshtoken.ClientDescriber).DescribeClient()
	}
	print := cert.DescribeClient().Thumbprint
	for name, test := range map[string]struct{ got, want freshtoken.ClientMethod }{
		"a key":             {describe(jwt), freshtoken.ClientMethod{Names: []string{"private_key_jwt"}, Algorithm: "ES256"}},
		"a secret":          {describe(must(clientauth.SecretJWT(longSecret, clientauth.Options{}))), freshtoken.ClientMethod{Names: []string{"client_secret_jwt"}, Algorithm: "HS256"}},
		"a certificate":     {describe(cert), freshtoken.ClientMethod{Names: []string{"tls_client_auth", "self_signed_tls_client_auth"}, MutualTLS: true, Thumbprint: print}},
		"both":              {describe(cert.With(jwt)), freshtoken.ClientMethod{Names: []string{"private_key_jwt"}, Algorithm: "ES256", MutualTLS: true, Thumbprint: print}},
		"one without proof": {describe(cert.With(nil)), freshtoken.ClientMethod{Names: []string{"none"}, MutualTLS: true, Thumbprint: print}},
	} {
		if got, want := string(must(json.Marshal(test.got))), string(must(json.Marshal(test.want))); got != want || len(print) != 43 {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}
