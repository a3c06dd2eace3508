package discovery_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/freshtoken/freshtoken/discovery"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// canary stands in every hostile answer and must not come back in an error.
const canary = "c4n4ry"

// A page is what a server has at an address.
type page struct {
	status   int    // 0: 200
	kind     string // "": application/json
	location string
	body     string
}

func (p page) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	kind := p.kind
	if kind == "" {
		kind = "application/json"
	}
	w.Header().Set("Content-Type", kind)
	if p.location != "" {
		w.Header().Set("Location", p.location)
	}
	w.WriteHeader(max(p.status, http.StatusOK))
	w.Write([]byte(p.body))
}

// doc is a document of issuer, with further members as they are.
func doc(issuer string, members ...string) string {
	all := append([]string{fmt.Sprintf(`"issuer": %q, "x": %q`, issuer, canary)}, members...)
	return "{" + strings.Join(all, ", ") + "}"
}

// A web is a set of hosts in memory, reached over https and http alike. It
// remembers what it was asked for.
type web struct {
	t      *testing.T
	server *oauthtest.Server

	mu    sync.Mutex // guards asked
	asked []string
}

func newWeb(t *testing.T) *web {
	return &web{t: t, server: oauthtest.New(oauthtest.Options{})}
}

func (w *web) client() *http.Client { return &http.Client{Transport: w} }

func (w *web) RoundTrip(req *http.Request) (*http.Response, error) {
	w.mu.Lock()
	w.asked = append(w.asked, req.URL.String())
	w.mu.Unlock()
	if req.Method != http.MethodGet || req.Header.Get("Authorization") != "" || req.Body != nil {
		w.t.Errorf("%s %s with a body or credentials", req.Method, req.URL)
	}
	return w.server.Transport().RoundTrip(req)
}

// host puts pages, by their paths, on a host. All others are 404.
func (w *web) host(name string, pages map[string]http.Handler) {
	w.server.Handle(name, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		h := pages[r.URL.EscapedPath()]
		if h == nil {
			h = page{status: http.StatusNotFound, kind: "text/plain", body: canary}
		}
		h.ServeHTTP(rw, r)
	}))
}

// wantAsked checks what was asked for, and in which order.
func (w *web) wantAsked(want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.asked, want) {
		w.t.Errorf("asked for\n%s\nwant\n%s", strings.Join(w.asked, "\n"), strings.Join(want, "\n"))
	}
}

// wantError checks what every error of the package has in common, and that it
// matches want and no other sentinel. What it says is to be found in it.
func wantError(t *testing.T, err, want error, says ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
	for _, other := range []error{discovery.ErrIssuer, discovery.ErrNotFound, discovery.ErrInvalid, discovery.ErrClientAuth, discovery.ErrUnavailable} {
		if other != want && errors.Is(err, other) {
			t.Errorf("%v also matches %v", err, other)
		}
	}
	text := err.Error()
	if !strings.HasPrefix(text, "discovery: ") || strings.Count(text, "discovery: ") != 1 {
		t.Errorf("the package is not named once: %s", text)
	}
	if strings.Contains(text, canary) {
		t.Errorf("the answer shows: %s", text)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		t.Errorf("the text might harm a terminal: %q", text)
	}
	if len(text) > 1500 {
		t.Errorf("the text has %d bytes", len(text))
	}
	for _, s := range says {
		if !strings.Contains(text, s) {
			t.Errorf("the text does not say %q: %s", s, text)
		}
	}
}

// tlsServer is a server on this machine, with a certificate that only its own
// client trusts.
func tlsServer(t *testing.T, h http.Handler) *httptest.Server {
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	return srv
}
