package freshtoken

import (
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"golang.org/x/oauth2"
)

// However an address is spelt, and whichever way its origin is found, the
// answer is that of the origins as they are compared in full.
func TestOriginsAreComparedAlike(t *testing.T) {
	schemes := []string{"https", "HTTPS", "http", "HTTP", "Https", "ftp", ""}
	names := []string{"api.test", "API.test", "api.test.", "other.test", "127.0.0.1", "[::1]", "localhost", "LOCALHOST", "İ.test", "i.test", ""}
	ports := []string{"", ":", ":80", ":443", ":8080", ":0443"}
	src, err := New(Config{OAuth2: &oauth2.Config{ClientID: "client", Endpoint: oauth2.Endpoint{TokenURL: "https://as.test/token"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	for _, transport := range []*Transport{
		{Source: src, Origins: []string{"https://api.test"}},
		{Source: src, Origins: []string{"https://other.test:8080", "HTTPS://API.test:443", "http://127.0.0.1:8080", "https://i.test/"}},
		{Source: src, Origins: []string{"http://api.test", "https://api.test:80"}, InsecureHTTP: []string{"http://api.test:80"}},
		{Source: src, AnyOrigin: true},
		{Source: src, AnyOrigin: true, InsecureHTTP: []string{"http://API.test"}},
		{Source: src, AnyOrigin: true, Origins: []string{"https://api.test", "http://[::1]"}},
	} {
		r, err := newRules(transport)
		if err != nil {
			t.Fatal(err)
		}
		for _, scheme := range schemes {
			for _, name := range names {
				for _, port := range ports {
					u := &url.URL{Scheme: scheme, Host: name + port}
					o := originOf(u)
					want := slices.Contains(r.listed, o) || r.any && r.secure(o)
					if got := r.allowed(u); got != want {
						t.Errorf("%q, any: %v: %v is allowed: %v, want %v", transport.Origins, r.any, u, got, want)
					}
				}
			}
		}
	}
}

// A header is copied with all its fields, whatever their number, and without
// touching it, unless there is an Authorization field among them.
func TestCopyHeader(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for n := range 70 {
		h := make(http.Header, rnd.IntN(20))
		for len(h) < n {
			h[randomName(rnd)] = []string{"value"}
		}
		before := h.Clone()
		c, ok := copyHeader(h)
		if !ok || !maps.EqualFunc(c, h, slices.Equal) {
			t.Fatalf("of %v comes %v, %v", h, c, ok)
		}
		c["Authorization"] = []string{"Bearer access"}
		if !maps.EqualFunc(h, before, slices.Equal) || len(c) != n+1 {
			t.Fatalf("of %v has become %v", before, h)
		}
		for _, name := range []string{"Authorization", "authorization", "AUTHORIZATION", "aUTHORIZATION"} {
			h := h.Clone()
			h[name] = nil
			if _, ok := copyHeader(h); ok {
				t.Errorf("%d fields and %s are copied", n, name)
			}
		}
	}
	if c, ok := copyHeader(nil); !ok || c == nil {
		t.Errorf("of no header comes %v, %v", c, ok)
	}
}

// randomName returns the name of a field that is no Authorization, but as long.
func randomName(rnd *rand.Rand) string {
	name := []byte("Authorization")
	name[rnd.IntN(len(name))] = byte('0' + rnd.IntN(10))
	name[rnd.IntN(len(name))] = byte('0' + rnd.IntN(10))
	return string(name)
}
