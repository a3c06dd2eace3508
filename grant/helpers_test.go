package grant_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/clientauth"
	"github.com/freshtoken/freshtoken/grant"
	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/internal/mark"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

func TestMain(m *testing.M) {
	canary.MarkRandom()
	m.Run()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var (
	ecKey = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	key   = must(clientauth.NewKey(ecKey))
)

// trusting is a server that trusts the key, and exchanges tokens.
func trusting() *oauthtest.Server {
	return oauthtest.New(oauthtest.Options{ClientID: "service", ClientSecret: mark.New(mark.ClientSecret),
		Grants: oauthtest.Grants{Exchange: true, Issuers: map[string]crypto.PublicKey{"robot": ecKey.Public()}}})
}

// configOf is that of a client of the server, with a grant.
func configOf(srv *oauthtest.Server, r freshtoken.Refresher) freshtoken.Config {
	o := srv.OAuth2()
	return freshtoken.Config{OAuth2: o, HTTPClient: srv.Client(), Refresher: r}
}

func open(t *testing.T, cfg freshtoken.Config) *freshtoken.Source {
	t.Helper()
	src, err := freshtoken.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

// apiClient asks the server's API.
func apiClient(srv *oauthtest.Server, src *freshtoken.Source) *http.Client {
	return &http.Client{Transport: &freshtoken.Transport{Source: src, Base: srv.Transport(), Origins: []string{srv.BaseURL()}}}
}

func token(t *testing.T, src *freshtoken.Source) *oauth2.Token {
	t.Helper()
	tok, err := src.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// fixed is a subject that stays the same.
func fixed(value, tokenType string) grant.TokenFunc {
	return func(context.Context) (string, string, error) { return value, tokenType, nil }
}

// endpoint is a token endpoint that answers what it is told to, and remembers the
// forms that it was sent.
type endpoint struct {
	mu     sync.Mutex // guards what follows
	forms  []url.Values
	answer func(n int, form url.Values) (status int, body string) // n counts from 1
	date   string
}

func (e *endpoint) RoundTrip(req *http.Request) (*http.Response, error) {
	defer req.Body.Close()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forms = append(e.forms, form)
	status, text := 200, ""
	if e.answer != nil {
		status, text = e.answer(len(e.forms), form)
	}
	if text == "" {
		text = fmt.Sprintf(`{"access_token":%q,"token_type":"Bearer","expires_in":3600}`, mark.New(mark.AccessToken))
	}
	h := http.Header{"Content-Type": {"application/json"}}
	if e.date != "" {
		h.Set("Date", e.date)
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(bytes.NewBufferString(text)), Request: req}, nil
}

// seen are the forms so far.
func (e *endpoint) seen() []url.Values {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]url.Values(nil), e.forms...)
}

// config is that of a client of the endpoint that has neither a name nor a
// secret.
func (e *endpoint) config(r freshtoken.Refresher) freshtoken.Config {
	return freshtoken.Config{OAuth2: &oauth2.Config{Endpoint: oauth2.Endpoint{TokenURL: "https://sts.test/token"}},
		HTTPClient: &http.Client{Transport: e}, Refresher: r}
}

// part decodes a part of a JWT.
func part(t *testing.T, jwt string, n int) (all map[string]any) {
	t.Helper()
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		t.Fatalf("a JWT of %d parts", len(parts))
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[n])
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// clean reports a text with a secret in it.
func clean(t *testing.T, texts ...any) {
	t.Helper()
	for _, text := range texts {
		for _, shown := range []string{fmt.Sprintf("%v", text), fmt.Sprintf("%+v", text), fmt.Sprintf("%#v", text)} {
			if found := mark.In([]byte(shown)); len(found) > 0 {
				t.Errorf("it shows %v: %s", found, mark.Hide([]byte(shown)))
			}
		}
	}
}
