package interop_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/clientauth"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/storage"
	"github.com/ory/fosite"
	"golang.org/x/oauth2"
)

// fosite takes assertions for its token URL, and not for its issuer: what
// AudienceTokenURL is for.
func TestFositeWantsItsTokenURL(t *testing.T) {
	s := startFositeServer(t, fositeLives{access: time.Hour, refresh: time.Hour})
	for algorithm, key := range map[string]*clientauth.Key{
		clientauth.RS256: must(clientauth.NewKey(rsaKeys()[0])), clientauth.ES256: must(clientauth.NewKey(ecKey())),
	} {
		t.Run("R7523bis-aud, R7523-3: private_key_jwt, "+algorithm, func(t *testing.T) {
			id := "by " + algorithm
			s.register(t, id, algorithm, key)
			store := storage.NewMemory()
			program := func(o clientauth.Options) *freshtoken.Source {
				o.KeyID = "key-1"
				src, err := freshtoken.New(freshtoken.Config{Store: store, Issuer: s.issuer, RevocationURL: s.issuer + "/revoke",
					ClientAuth: must(clientauth.PrivateKeyJWT(key, o)),
					OAuth2: &oauth2.Config{ClientID: id, Scopes: []string{"offline_access", "api"},
						Endpoint: oauth2.Endpoint{AuthURL: s.issuer + "/authorize", TokenURL: s.issuer + "/token"}}})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { src.Close() })
				return src
			}
			src := program(clientauth.Options{Audience: clientauth.AudienceTokenURL})
			if _, err := login.Ensure(t.Context(), src, byCode.flow); err != nil {
				t.Fatal(err)
			}
			_, err := program(clientauth.Options{}).Refresh(t.Context(), nil)
			wantCode(t, err, "invalid_client")
			if errors.Is(err, freshtoken.ErrSessionEnded) {
				t.Errorf("got %v, want an error about the configuration", err)
			}
			for range 3 {
				if _, err := src.Refresh(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
			}
			a := api{URL: s.issuer + "/api/call"}
			if err := call(t.Context(), a.client(src), a); err != nil {
				t.Error(err)
			}
			if err := src.Logout(t.Context()); err != nil {
				t.Errorf("Logout: %v", err)
			}
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.counts; c.InvalidClients != 2 || c.Refreshes != 6 || c.Revocations != 2 || c.InvalidGrants != 0 {
		t.Errorf("got %+v, want two clients refused, six refreshes and two revocations", c)
	}
}

// register has the server know a client by its key.
func (s *fositeServer) register(t *testing.T, id, algorithm string, key *clientauth.Key) {
	t.Helper()
	c := &fosite.DefaultOpenIDConnectClient{DefaultClient: &fosite.DefaultClient{ID: id,
		RedirectURIs: []string{"http://127.0.0.1/callback"}, GrantTypes: []string{"authorization_code", "refresh_token"},
		ResponseTypes: []string{"code"}, Scopes: []string{"offline_access", "api"}},
		TokenEndpointAuthMethod: "private_key_jwt", TokenEndpointAuthSigningAlgorithm: algorithm}
	if err := json.Unmarshal(must(key.PublicJWKS("key-1")), &c.JSONWebKeys); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store.Clients[id] = c
}
