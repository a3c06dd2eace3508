package clientauth_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/clientauth"
	"github.com/freshtoken/freshtoken/discovery"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

const lifetime = time.Minute

// A way is one method of client authentication, at both ends.
type way struct {
	options oauthtest.Options
	auth    freshtoken.ClientAuthenticator
	cert    *x509.Certificate // that the client presents
}

func (w way) server() (*oauthtest.Server, http.RoundTripper) {
	w.options.AccessLifetime, w.options.Grace = lifetime, time.Minute
	as := oauthtest.New(w.options)
	if w.cert == nil {
		return as, as.Transport()
	}
	return as, as.TransportWith(func() []*x509.Certificate { return []*x509.Certificate{w.cert} })
}

func byKey(key crypto.Signer, o clientauth.Options) way {
	public := map[string]crypto.PublicKey{"one": key.Public(), "two": must(clientauth.ParseKey([]byte(jwk(edKey())), "")).Public()}
	if o.KeyID == "" {
		o.KeyID = "one"
	}
	return way{options: oauthtest.Options{ClientAuth: oauthtest.ClientAuth{Method: "private_key_jwt", Keys: public}},
		auth: must(clientauth.PrivateKeyJWT(keyOf(key), o))}
}

func byCert(method string, cert, ca tls.Certificate, bind bool) way {
	o := oauthtest.Options{ClientAuth: oauthtest.ClientAuth{Method: method, Certificate: cert.Leaf, BindTokens: bind}}
	if ca.Leaf != nil {
		o.ClientAuth.CAs = x509.NewCertPool()
		o.ClientAuth.CAs.AddCert(ca.Leaf)
	}
	return way{options: o, auth: must(clientauth.NewCertificate(cert)), cert: cert.Leaf}
}

// ways are all methods. It is called in a bubble, whose certificates are of its
// time.
func ways(t *testing.T) map[string]way {
	ca := newCert(t, certOptions{subject: "CA", isCA: true})
	issued := newCert(t, certOptions{ca: &ca})
	own := newCert(t, certOptions{key: edKey()})
	public := byCert("", own, tls.Certificate{}, true)
	public.auth = public.auth.(*clientauth.Certificate).With(nil)
	both := byKey(ecKey(), clientauth.Options{})
	both.options.ClientAuth.BindTokens, both.options.ClientAuth.Certificate, both.cert = true, own.Leaf, own.Leaf
	both.auth = must(clientauth.NewCertificate(own)).With(both.auth)
	aliased := byCert("tls_client_auth", issued, ca, true)
	aliased.options.ClientAuth.AliasHost = "mtls.oauth.test"
	return map[string]way{
		"client_secret_jwt": {options: oauthtest.Options{ClientSecret: longSecret, ClientAuth: oauthtest.ClientAuth{Method: "client_secret_jwt"}},
			auth: must(clientauth.SecretJWT(longSecret, clientauth.Options{}))},
		"private_key_jwt, RS256":            byKey(rsaKey(), clientauth.Options{}),
		"private_key_jwt, PS256":            byKey(rsaKey(), clientauth.Options{Algorithm: "PS256"}),
		"private_key_jwt, ES256":            byKey(ecKey(), clientauth.Options{}),
		"private_key_jwt, EdDSA":            byKey(edKey(), clientauth.Options{}),
		"private_key_jwt, elsewhere":        byKey(elsewhere(ecKey()), clientauth.Options{}),
		"tls_client_auth":                   byCert("tls_client_auth", issued, ca, false),
		"tls_client_auth, bound":            byCert("tls_client_auth", issued, ca, true),
		"tls_client_auth, with aliases":     aliased,
		"self_signed_tls_client_auth":       byCert("self_signed_tls_client_auth", own, tls.Certificate{}, true),
		"none, bound to a certificate":      public,
		"private_key_jwt and a certificate": both,
	}
}

// inEachWay runs a test with each method, in a bubble: with a Config that
// discovery has filled in, and a client for the API.
func inEachWay(t *testing.T, item string, f func(t *testing.T, as *oauthtest.Server, cfg freshtoken.Config, api http.RoundTripper)) {
	var names []string
	synctest.Test(t, func(t *testing.T) {
		for name := range ways(t) {
			names = append(names, name)
		}
	})
	for _, name := range names {
		t.Run(item+", by "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := ways(t)[name]
				as, transport := w.server()
				cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "client"}, Issuer: as.BaseURL(), ClientAuth: w.auth,
					HTTPClient: &http.Client{Transport: transport}, Store: storage.NewMemory()}
				if _, err := discovery.Configure(t.Context(), &cfg); err != nil {
					t.Fatal(err)
				}
				f(t, as, cfg, transport)
			})
		})
	}
}

func newSource(t *testing.T, cfg freshtoken.Config) *freshtoken.Source {
	t.Helper()
	src, err := freshtoken.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

// A session lives by each method: fifty refreshes, some of whose answers are
// lost or late, and a logout. No assertion is shown twice, though refresh tokens
// are.
func TestSession(t *testing.T) {
	inEachWay(t, "R7523-3: fifty refreshes, and what goes wrong with them", func(t *testing.T, as *oauthtest.Server, cfg freshtoken.Config, api http.RoundTripper) {
		src := newSource(t, cfg)
		if err := src.SetToken(t.Context(), as.Login("alice")); err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: &freshtoken.Transport{Source: src, Base: api, Origins: []string{as.BaseURL()}}}
		for i := range 50 {
			time.Sleep(lifetime)
			if i%10 == 5 {
				as.Token.Next(oauthtest.LoseAnswer(), oauthtest.Unavailable("1"))
			}
			for tries := 0; ; tries++ {
				resp, err := client.Get(as.APIURL("me"))
				if err == nil {
					resp.Body.Close()
					if resp.StatusCode != http.StatusOK {
						t.Fatalf("the API says %s", resp.Status)
					}
					break
				}
				if i%10 != 5 || tries == 10 {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Second)
			}
		}
		if err := src.Logout(t.Context()); err != nil {
			t.Error(err)
		}
		stats := as.Stats()
		if stats.Refreshes != 55 || stats.GraceUses != 5 || stats.Revocations != 1 || stats.BadClients != 0 || stats.ReplayedAssertions != 0 || stats.BadRequests != 0 {
			t.Errorf("the server counts %+v", stats)
		}
		// Five requests were answered before anybody looked at them.
		if n := distinctAssertions(t, as); n != 0 && n != stats.TokenRequests-5+stats.RevocationRequests {
			t.Errorf("there were %d assertions, and %+v", n, stats)
		}
	})
}

// distinctAssertions checks that no two requests had the same one.
func distinctAssertions(t *testing.T, as *oauthtest.Server) (n int) {
	t.Helper()
	seen := make(map[string]int)
	for _, e := range as.Log() {
		if e.Assertion == "" {
			continue
		}
		if other := seen[e.Assertion]; other != 0 {
			t.Errorf("requests %d and %d have the same assertion", other, e.ID)
		}
		seen[e.Assertion] = e.ID
	}
	return len(seen)
}

// Polling has a new assertion for each poll.
func TestDeviceLogin(t *testing.T) {
	inEachWay(t, "R7523-3: a device login, with its polls", func(t *testing.T, as *oauthtest.Server, cfg freshtoken.Config, api http.RoundTripper) {
		src := newSource(t, cfg)
		show := func(_ context.Context, c login.Code) error {
			go func() {
				time.Sleep(30 * time.Second)
				as.ApproveDevice(c.Code, "alice")
			}()
			return nil
		}
		if _, err := login.Ensure(t.Context(), src, login.Device{Prompt: login.Prompt{Show: show}}); err != nil {
			t.Fatal(err)
		}
		stats := as.Stats()
		if stats.DeviceLogins != 1 || stats.Polls < 5 || stats.BadClients != 0 {
			t.Errorf("the server counts %+v", stats)
		}
		if n := distinctAssertions(t, as); n != 0 && n != stats.Polls+1 {
			t.Errorf("there were %d assertions, and %d polls", n, stats.Polls)
		}
	})
}

// A retry of a revocation has a new assertion.
func TestRevocationRetry(t *testing.T) {
	inEachWay(t, "R7523-3: a revocation that is tried again", func(t *testing.T, as *oauthtest.Server, cfg freshtoken.Config, api http.RoundTripper) {
		src := newSource(t, cfg)
		src.SetToken(t.Context(), as.Login("alice"))
		as.Revocation.Next(oauthtest.Unavailable("1").AfterProcessing())
		if err := src.Logout(t.Context()); err != nil {
			t.Error(err)
		}
		if got := as.Stats(); got.RevocationRequests != 2 || got.ReplayedAssertions != 0 || got.BadClients != 0 {
			t.Errorf("the server counts %+v", got)
		}
		distinctAssertions(t, as)
	})
}

// A client that proves nothing, or something else, is refused, and keeps its
// session: another program has the right key.
func TestWrongProof(t *testing.T) {
	for name, make := range map[string]func(t *testing.T) (way, freshtoken.ClientAuthenticator){
		"R7523-3: another key": func(t *testing.T) (way, freshtoken.ClientAuthenticator) {
			return byKey(rsaKey(), clientauth.Options{}), byKey(ecKey(), clientauth.Options{}).auth
		},
		"R7523-3: an unknown key ID": func(t *testing.T) (way, freshtoken.ClientAuthenticator) {
			return byKey(ecKey(), clientauth.Options{}), byKey(ecKey(), clientauth.Options{KeyID: "three"}).auth
		},
		"R7523bis-aud: another audience": func(t *testing.T) (way, freshtoken.ClientAuthenticator) {
			return byKey(ecKey(), clientauth.Options{}), byKey(ecKey(), clientauth.Options{Audience: clientauth.AudienceTokenURL}).auth
		},
		"R7523bis-aud: another type": func(t *testing.T) (way, freshtoken.ClientAuthenticator) {
			return byKey(ecKey(), clientauth.Options{}), byKey(ecKey(), clientauth.Options{Type: "JWT"}).auth
		},
		"R7518-3.2: another secret": func(t *testing.T) (way, freshtoken.ClientAuthenticator) {
			return way{options: oauthtest.Options{ClientSecret: longSecret, ClientAuth: oauthtest.ClientAuth{Method: "client_secret_jwt"}}},
				must(clientauth.SecretJWT(longSecret+"x", clientauth.Options{}))
		},
		"R8705-2: another certificate": func(t *testing.T) (way, freshtoken.ClientAuthenticator) {
			own, other := newCert(t, certOptions{}), newCert(t, certOptions{})
			w := byCert("self_signed_tls_client_auth", own, tls.Certificate{}, false)
			w.cert = other.Leaf
			return w, must(clientauth.NewCertificate(other))
		},
		"R8705-2: no certificate": func(t *testing.T) (way, freshtoken.ClientAuthenticator) {
			w := byCert("self_signed_tls_client_auth", newCert(t, certOptions{}), tls.Certificate{}, false)
			w.cert = nil
			return w, w.auth
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, auth := make(t)
				as, transport := w.server()
				cfg := freshtoken.Config{OAuth2: as.OAuth2(), Issuer: as.BaseURL(), HTTPClient: &http.Client{Transport: transport}, ClientAuth: auth}
				src := newSource(t, cfg)
				tok := as.Login("alice")
				src.SetToken(t.Context(), tok)
				time.Sleep(lifetime)
				_, err := src.Token(t.Context())
				refused := new(freshtoken.RefreshError)
				if !errors.As(err, &refused) || refused.Code != "invalid_client" || refused.Temporary || errors.Is(err, freshtoken.ErrSessionEnded) {
					t.Fatalf("got %v", err)
				}
				if !strings.Contains(err.Error(), "Config.ClientAuth") || strings.Contains(err.Error(), "ClientSecret") {
					t.Errorf("it does not say what to do: %v", err)
				}
				if !as.Alive(tok.RefreshToken) || src.Status().State != freshtoken.StateAlive {
					t.Error("the session is over")
				}
				for range 100 { // nobody hammers
					src.Token(t.Context())
					time.Sleep(time.Second)
				}
				if n := as.Stats().TokenRequests; n > 12 {
					t.Errorf("%d requests in 100 seconds", n)
				}
			})
		})
	}
}
