package clientauth_test

import (
	"context"
	"crypto"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/clientauth"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
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
