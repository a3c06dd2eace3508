package interop_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/clientauth"
	"github.com/freshtoken/freshtoken/storage"
)

// method is a method of the server by its name.
func (w *tlsServer) method(name string) authMethod {
	return w.methods[slices.IndexFunc(w.methods, func(m authMethod) bool { return m.name == name })]
}

// The server's clock is ten minutes ahead: no assertion is good then, and the
// program says why. An assertion from the future this server takes.
func TestWrongClock(t *testing.T) {
	w := startTLSServer(t, 3600)
	for _, name := range []string{"client_secret_jwt", "private_key_jwt, ES256"} {
		t.Run("R7523-3: "+name, func(t *testing.T) {
			x := w.in(t, w.method(name))
			store := storage.NewMemory()
			src, _ := x.begin(store)
			x.pass(10 * time.Minute)
			_, err := src.Refresh(t.Context(), nil)
			x.pass(-10 * time.Minute)
			wantCode(t, err, "invalid_client")
			if !errors.Is(err, freshtoken.ErrClock) || errors.Is(err, freshtoken.ErrSessionEnded) {
				t.Errorf("got %v, want ErrClock", err)
			}
			cfg, _ := x.program(x.m.right, store) // which is started again: the other one waits for a while
			x.refreshed(x.source(cfg))
		})
	}
}

// A client's keys are where the server fetches them: a program with a new key
// goes on with the session, as soon as the server knows that key.
func TestKeysAtAnAddress(t *testing.T) {
	const name = "private_key_jwt, jwks_uri"
	first, second := ecKey(), ecKey()
	var published atomic.Value
	published.Store(publicJWKS(first))
	keys := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/jwk-set+json")
		rw.Write(published.Load().(json.RawMessage))
	}))
	defer keys.Close()
	own := byKey(clientauth.ES256, first, second, "")
	own.name, own.registered.ID, own.registered.JWKS, own.registered.JWKSURI = name, name, nil, keys.URL
	w := startTLSServer(t, 3600, own)
	t.Run("R7523-3: a key that is replaced", func(t *testing.T) {
		x := w.in(t, w.method(name))
		store := storage.NewMemory()
		x.begin(store)
		old, _ := x.program(x.m.right, store)
		x.refreshed(x.source(old))
		later := proof{auth: must(clientauth.PrivateKeyJWT(must(clientauth.NewKey(second)),
			clientauth.Options{KeyID: "key-1", Lifetime: 5 * time.Minute}))}
		cfg, _ := x.program(later, store)
		_, err := x.source(cfg).Refresh(t.Context(), nil)
		wantCode(t, err, "invalid_client")
		published.Store(publicJWKS(second))
		x.pass(2 * time.Minute) // the server asks for the keys again after one
		before := x.counts().Refreshes
		x.refreshed(x.source(cfg))
		if n := x.counts().Refreshes; n != before+1 {
			t.Errorf("%d refreshes, want 1", n-before)
		}
		_, err = x.source(old).Refresh(t.Context(), nil) // with the first key, which is gone
		wantCode(t, err, "invalid_client")
	})
}
