package clientauth_test

import (
	"context"
	"crypto"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/clientauth"
	"github.com/freshtoken/freshtoken/discovery"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// browse is a person whose browser goes where it is sent.
func browse(as *oauthtest.Server) login.Loopback {
	return login.Loopback{Prompt: login.Prompt{Browse: func(_ context.Context, address string) error {
		resp, err := as.Browser().Get(address)
		if err != nil {
			return err
		}
		io.Copy(io.Discard, resp.Body)
		return resp.Body.Close()
	}}}
}

func TestCodeLogin(t *testing.T) {
	asleep := signerFunc{ecKey().Public(), func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errKMS }}
	for name, test := range map[string]struct {
		auth freshtoken.ClientAuthenticator
		says string // of the error; "": none
		is   error
	}{
		"R7523-3: a code is exchanged with an assertion":              {byKey(ecKey(), clientauth.Options{}).auth, "", nil},
		"R7523-3: a server that does not accept the key":              {byKey(edKey(), clientauth.Options{}).auth, "of Config.ClientAuth", nil},
		"R7523-3: a signer that fails keeps the code from being sent": {must(clientauth.PrivateKeyJWT(keyOf(asleep), clientauth.Options{})), "this program cannot prove to the server which client it is", errKMS},
	} {
		t.Run(name, func(t *testing.T) {
			as, transport := byKey(ecKey(), clientauth.Options{}).server()
			src := newSource(t, freshtoken.Config{OAuth2: as.OAuth2(), Issuer: as.BaseURL(), HTTPClient: &http.Client{Transport: transport}, ClientAuth: test.auth})
			_, err := login.Ensure(t.Context(), src, browse(as))
			if test.says == "" {
				if err != nil || as.Stats().CodeLogins != 1 {
					t.Errorf("got %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "ClientSecret") || test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("got %v", err)
			}
			if test.is != nil && as.Stats().TokenRequests != 0 {
				t.Error("the code was sent")
			}
		})
	}
}

// A pushed authorization request is authenticated as all others are, and where
// certificates are for a host of their own, it goes there. The server takes no
// assertion twice.
func TestPushedLogin(t *testing.T) {
	for _, name := range []string{"client_secret_jwt", "private_key_jwt, ES256", "tls_client_auth, with aliases", "self_signed_tls_client_auth",
		"none, bound to a certificate", "private_key_jwt and a certificate"} {
		t.Run("R9126-4 R8705-2 R7523-3: by "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := ways(t)[name]
				w.options.RequirePushed = true
				as, transport := w.server()
				asked := new(hosts)
				asked.base = transport
				cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "client"}, Issuer: as.BaseURL(), ClientAuth: w.auth, HTTPClient: &http.Client{Transport: asked}}
				if _, err := discovery.Configure(t.Context(), &cfg); err != nil {
					t.Fatal(err)
				}
				as.Pushed.Next(oauthtest.Edit("expired", oauthtest.SetMember("expires_in", "0").Edit)) // so that there is another
				if _, err := login.Ensure(t.Context(), newSource(t, cfg), browse(as)); err != nil {
					t.Fatal(err)
				}
				want := "oauth.test"
				if alias := w.options.ClientAuth.AliasHost; alias != "" {
					want = alias
				}
				if st := as.Stats(); st.PushedRequests != 2 || st.CodeLogins != 1 || st.ReplayedAssertions != 0 || st.BadClients != 0 || asked.pushed != want {
					t.Errorf("pushed to %q; the server counts %+v", asked.pushed, st)
				}
				log := as.LogOf(oauthtest.PushedEndpoint)
				if signed := strings.Contains(name, "jwt"); signed != (log[0].Assertion != "") {
					t.Errorf("pushed %+v", log[0])
				}
			})
		})
	}
	t.Run("R9126-4: a signer that fails keeps the request from being sent", func(t *testing.T) {
		asleep := signerFunc{ecKey().Public(), func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errKMS }}
		as, transport := byKey(ecKey(), clientauth.Options{}).server()
		cfg := freshtoken.Config{OAuth2: as.OAuth2(), Issuer: as.BaseURL(), PushedAuthorizationURL: as.PushedAuthorizationURL(), HTTPClient: &http.Client{Transport: transport},
			ClientAuth: must(clientauth.PrivateKeyJWT(keyOf(asleep), clientauth.Options{}))}
		_, err := login.Ensure(t.Context(), newSource(t, cfg), browse(as))
		if !errors.Is(err, errKMS) || len(as.Log()) != 0 {
			t.Errorf("got %v, %d requests", err, len(as.Log()))
		}
	})
}

// hosts is a transport that remembers where a request was pushed to.
type hosts struct {
	base   http.RoundTripper
	pushed string
}

func (h *hosts) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Path == "/par" {
		h.pushed = req.URL.Host
	}
	return h.base.RoundTrip(req)
}
