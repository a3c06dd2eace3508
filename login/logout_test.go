package login_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// logoutServer has an end_session_endpoint, which sends the browser back with
// what answer makes of the state.
func logoutServer(answers ...func(url.Values)) (as *oauthtest.Server, asked *[]url.Values) {
	as = oauthtest.New(oauthtest.Options{})
	asked = new([]url.Values)
	as.Handle("idp.test", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		*asked = append(*asked, q)
		back := url.Values{"state": {q.Get("state")}}
		if n := len(*asked); n <= len(answers) {
			answers[n-1](back)
		}
		if to := q.Get("post_logout_redirect_uri"); to != "" {
			http.Redirect(w, r, to+"?"+back.Encode(), http.StatusFound)
		}
	}))
	return as, asked
}

func TestBrowserLogout(t *testing.T) {
	t.Run("RPL-1 the server is told whose session it is, and the state is checked", func(t *testing.T) {
		as, asked := logoutServer()
		u := userOf(t, as)
		b := login.BrowserLogout{URL: "https://idp.test/end?tenant=1", RedirectURL: "http://127.0.0.1/bye", Prompt: login.Prompt{Browse: u.browse}, Timeout: patience}
		if err := b.Logout(t.Context(), config(as), "the.id.token"); err != nil {
			t.Fatal(err)
		}
		q := (*asked)[0]
		if q.Get("id_token_hint") != "the.id.token" || q.Get("client_id") != "client" || q.Get("tenant") != "1" || len(q.Get("state")) < 26 ||
			!strings.HasSuffix(q.Get("post_logout_redirect_uri"), "/bye") {
			t.Errorf("asked with %v", q)
		}
		if p := u.last(); p.status != http.StatusOK || !strings.Contains(p.body, "You are logged out") {
			t.Errorf("the person sees %+v", p)
		}
		gone(t, q.Get("post_logout_redirect_uri"))
	})
	t.Run("RPL-1 without an ID token by the client's name", func(t *testing.T) {
		as, asked := logoutServer()
		u := userOf(t, as)
		b := login.BrowserLogout{URL: "https://idp.test/end", Prompt: login.Prompt{Browse: u.browse}}
		if err := b.Logout(t.Context(), config(as), ""); err != nil {
			t.Fatal(err)
		}
		u.last()
		if q := (*asked)[0]; q.Has("id_token_hint") || q.Get("client_id") != "client" || q.Has("state") || q.Has("post_logout_redirect_uri") {
			t.Errorf("asked with %v", q)
		}
	})
	t.Run("RPL-1 a wrong state is ignored", func(t *testing.T) {
		as, asked := logoutServer(func(back url.Values) { back.Set("state", "evil") })
		u := userOf(t, as)
		b := login.BrowserLogout{URL: "https://idp.test/end", RedirectURL: "http://127.0.0.1/bye", Timeout: patience,
			Prompt: login.Prompt{Browse: func(_ context.Context, address string) error {
				u.visits.Go(func() {
					if p := u.visit(address); p.status != http.StatusBadRequest {
						t.Errorf("the person sees %+v", p)
					}
					u.visit(address)
				})
				return nil
			}}}
		if err := b.Logout(t.Context(), config(as), ""); err != nil {
			t.Fatal(err)
		}
		if len(*asked) != 2 {
			t.Errorf("asked %d times", len(*asked))
		}
	})
	t.Run("an error of Browse with the address in it has no ID token", func(t *testing.T) {
		as, _ := logoutServer()
		const hint = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
		for _, back := range []string{"", "http://127.0.0.1/bye"} {
			b := login.BrowserLogout{URL: "https://idp.test/end", RedirectURL: back, Timeout: patience, Prompt: login.Prompt{
				Browse: func(_ context.Context, address string) error {
					return &url.Error{Op: "Get", URL: address, Err: errRefused}
				}}}
			err := b.Logout(t.Context(), config(as), hint)
			if err == nil || strings.Contains(err.Error(), hint[:20]) || strings.Contains(err.Error(), "state=") || !strings.Contains(err.Error(), "https://idp.test/end") {
				t.Errorf("got %v", err)
			}
		}
	})
	t.Run("a browser that does not come back, a bad address, nobody to ask", func(t *testing.T) {
		as, _ := logoutServer()
		u := userOf(t, as)
		silent := login.Prompt{Browse: func(context.Context, string) error { return nil }}
		b := login.BrowserLogout{URL: "https://idp.test/end", RedirectURL: "http://127.0.0.1/bye", Timeout: short, Prompt: silent}
		wantErr(t, b.Logout(t.Context(), config(as), ""), login.ErrTimeout)
		for _, bad := range []string{"", "http://idp.test/end", "javascript:alert(1)"} {
			b := login.BrowserLogout{URL: bad, Prompt: login.Prompt{Browse: u.browse}}
			if err := b.Logout(t.Context(), config(as), ""); err == nil || len(u.addresses) > 0 {
				t.Errorf("%q: error %v", bad, err)
			}
		}
		wantErr(t, login.BrowserLogout{URL: "https://idp.test/end"}.Logout(t.Context(), config(as), ""), login.ErrNotInteractive)
	})
}

var errRefused = errors.New("connection refused")
