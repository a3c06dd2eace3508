package canary_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken/internal/canary"
)

const secret = "rt-1-1-QWERTYUIOPASDFGHJKLZXCVBNM"

// Whatever way a secret is shown, it is found; and what is none, is not.
func TestFinds(t *testing.T) {
	for name, text := range map[string]string{
		"whole":           "x" + secret + "y",
		"its end":         "…" + secret[len(secret)-12:],
		"its middle":      secret[9:21],
		"hex":             fmt.Sprintf("%x", secret),
		"HEX":             fmt.Sprintf("%X", "abc"+secret),
		"base64":          base64.StdEncoding.EncodeToString([]byte(secret)),
		"base64, shifted": base64.StdEncoding.EncodeToString([]byte("a:" + secret)),
		"base64, more":    base64.RawURLEncoding.EncodeToString([]byte("ab:c" + secret + "xx")),
		"bytes":           fmt.Sprint([]byte(secret)),
		"a value":         canary.Spill(struct{ T []byte }{[]byte(secret)}),
		"an error":        canary.Spill(errors.New(secret)),
	} {
		c := canary.New()
		c.Text(name, []byte(text))
		c.Secret("a token", secret) // also if it is learnt later
		if leaks := c.Leaks(); len(leaks) == 0 || !strings.HasPrefix(leaks[0], name+": a token") || strings.Contains(leaks[0], secret[9:]) {
			t.Errorf("%s: got %q", name, leaks)
		}
	}
	c := canary.New()
	c.Secret("a token", secret)
	c.Secret("a password", "a b&c=d%1")
	for _, text := range []string{"rt-1-1-", secret[:11], strings.ToLower(secret), "QWERTY", ""} {
		c.Text("nothing", []byte(text))
	}
	if leaks := c.Leaks(); len(leaks) > 0 {
		t.Errorf("got %q", leaks)
	}
	c.Text("a form", []byte(url.QueryEscape("a b&c=d%1")))
	slog.New(slog.NewJSONHandler(c.Writer("a log"), nil)).Info("a b&c=d%1")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, secret), []byte("a b&c=d%1"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Files(dir)
	if leaks := c.Leaks(); len(leaks) != 4 {
		t.Errorf("got %q, want the form, the log, and a file's name and bytes", leaks)
	}
}

type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// At the right place a secret is learnt; at any other, and in any other form, it
// is a leak.
func TestRequests(t *testing.T) {
	answer := `{"access_token":"at-1-1-ABCDEFGHIJKLMNOPQRST","refresh_token":"` + secret + `"}`
	base := trip(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{"Location": {"http://127.0.0.1:1/callback?code=ABCDEFGHIJKLMNOP"}}, Body: io.NopCloser(strings.NewReader(answer))}, nil
	})
	ask := func(c *canary.Canary, address, authorization string, form url.Values) {
		c.Server("https://as.test/token", "https://as.test/device", "https://as.test/revoke", "https://as.test/authorize", "https://as.test/api/", "")
		c.Pushed("https://as.test/par")
		req, _ := http.NewRequest(http.MethodPost, address, strings.NewReader(form.Encode()))
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		resp, err := c.Transport(base).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(resp.Body); err != nil || string(got) != answer {
			t.Errorf("the answer became %q, %v", got, err)
		}
	}
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("client:secret%20of+the+client"))
	for name, test := range map[string]struct {
		address, authorization string
		form                   url.Values
		kinds                  int
		leaks                  bool
	}{
		"a refresh":                     {"https://as.test/token", basic, url.Values{"refresh_token": {"old-refresh-token"}}, 4, false},
		"an API":                        {"https://as.test/api/me", "Bearer at-old-0123456789", nil, 1, false},
		"a login":                       {"https://as.test/authorize?state=ABCDEFGHIJKLMNOPQ", "", nil, 2, false},
		"a pushed login":                {"https://as.test/par", basic, url.Values{"state": {"ABCDEFGHIJKLMNOPQ"}}, 2, false},
		"a verifier pushed":             {"https://as.test/par", basic, url.Values{"code_verifier": {secret}}, 2, true},
		"its answer":                    {"http://127.0.0.1:1234/callback?code=ABCDEFGHIJ&state=KLMNOPQRST", "", nil, 2, false},
		"a token elsewhere":             {"https://evil.test/token", "", url.Values{"refresh_token": {secret}}, 1, true},
		"a token at the API":            {"https://as.test/api/me", "", url.Values{"refresh_token": {secret}}, 1, true},
		"a token in the query":          {"https://as.test/token?refresh_token=" + secret, "", nil, 2, true},
		"a token as another parameter":  {"https://as.test/token", "", url.Values{"scope": {secret}}, 2, true},
		"an access token at the server": {"https://as.test/token", "Bearer " + secret, nil, 2, true},
		"http":                          {"http://as.test/api/me", "Bearer " + secret, nil, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := canary.New()
			if test.leaks {
				c.Secret("a token", secret)
			}
			ask(c, test.address, test.authorization, test.form)
			if kinds, leaks := c.Kinds(), c.Leaks(); len(kinds) < test.kinds || len(leaks) > 0 != test.leaks {
				t.Errorf("knows %v; leaks %q, want any: %v", kinds, leaks, test.leaks)
			}
		})
	}
}
