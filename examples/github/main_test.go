package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// fake is GitHub as far as the program can tell: its places, and its ways of
// answering.
type fake struct {
	*oauthtest.Server
	web, api *httptest.Server
	home     string
	tokens   chan string // an access token for each login
}

func startFake(t *testing.T) *fake {
	f := &fake{
		Server: oauthtest.New(oauthtest.Options{OfflineAccess: oauthtest.OfflineByScope, PollInterval: time.Second}),
		home:   t.TempDir(),
		tokens: make(chan string, 10),
	}
	web := http.NewServeMux()
	web.HandleFunc("POST /login/device/code", f.pass("/device"))
	web.HandleFunc("POST /login/oauth/access_token", f.pass("/token"))
	api := http.NewServeMux()
	api.HandleFunc("GET /user", f.guard(`{"login": "octocat", "name": "The Octocat"}`))
	api.HandleFunc("GET /user/repos", f.guard(`[{"full_name": "octocat/hello", "description": "First"}, {"full_name": "octocat/world"}]`))
	f.web, f.api = httptest.NewServer(web), httptest.NewServer(api)
	t.Cleanup(f.web.Close)
	t.Cleanup(f.api.Close)
	for _, name := range []string{"HOME", "XDG_STATE_HOME", "LocalAppData"} {
		t.Setenv(name, f.home)
	}
	return f
}

// pass hands a request to the authorization server, and words the answer as
// GitHub does: with status 200 whatever it says, without a lifetime, and
// form-encoded unless the client asks for JSON.
func (f *fake) pass(place string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path, r.RequestURI = place, place
		rec := httptest.NewRecorder()
		f.ServeHTTP(rec, r)
		var m map[string]any
		if err := json.Unmarshal(rec.Body.Bytes(), &m); err != nil {
			http.Error(w, "the server sent no JSON", http.StatusInternalServerError)
			return
		}
		if tok, ok := m["access_token"].(string); ok {
			f.tokens <- tok
			delete(m, "expires_in")
			m["token_type"] = "bearer"
		}
		if r.Header.Get("Accept") == "application/json" {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			json.NewEncoder(w).Encode(m)
			return
		}
		form := make(url.Values)
		for name, value := range m {
			form.Set(name, fmt.Sprint(value))
		}
		w.Header().Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		fmt.Fprint(w, form.Encode())
	}
}

// guard answers with the text those who show a live token. GitHub's 401 has no
// challenge.
func (f *fake) guard(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		if tok, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); !ok || !f.AccessAlive(tok) {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"message": "Bad credentials"}`)
			return
		}
		fmt.Fprint(w, text)
	}
}

// run runs the program, with a person who approves.
func (f *fake) run(ctx context.Context) (string, error) {
	approve := func(_ context.Context, c login.Code) error {
		if !f.ApproveDevice(c.Code, "octocat") {
			return errors.New("no login waits for this code")
		}
		return nil
	}
	var out bytes.Buffer
	err := run(ctx, []string{"-client-id", "client", "-server", f.web.URL, "-api", f.api.URL + "/", "-key-file", filepath.Join(f.home, "key")},
		login.Prompt{Show: approve}, &out)
	return out.String(), err
}

const shown = "octocat (The Octocat)\n  octocat/hello\tFirst\n  octocat/world\t\n"

func TestGitHub(t *testing.T) {
	f := startFake(t)
	for _, when := range []string{"the first time", "with the session that is stored"} {
		if out, err := f.run(t.Context()); err != nil || out != shown {
			t.Errorf("%s: %v\n%s", when, err, out)
		}
	}
	if n := f.Stats().DeviceLogins; n != 1 {
		t.Fatalf("%d logins, want 1", n)
	}

	f.RevokeAccess(<-f.tokens)
	for _, when := range []string{"after a revocation", "after the login that followed"} {
		if out, err := f.run(t.Context()); err != nil || out != shown {
			t.Errorf("%s: %v\n%s", when, err, out)
		}
	}
	if n := f.Stats().DeviceLogins; n != 2 {
		t.Errorf("%d logins, want 2", n)
	}
}

func TestNoClientID(t *testing.T) {
	err := run(t.Context(), nil, login.Prompt{}, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "give -client-id") {
		t.Errorf("got %v, want to be told about -client-id", err)
	}
}
