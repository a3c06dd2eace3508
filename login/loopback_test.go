package login_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
)

func copyBounded(w io.Writer, r io.Reader) (int64, error) {
	return io.Copy(w, io.LimitReader(r, 1<<20))
}

// short is how long a person has in tests in which nobody comes.
const short = 200 * time.Millisecond

func TestAuthorizationRequest(t *testing.T) {
	as := oauthtest.New(oauthtest.Options{})
	seen := make(map[string]bool)
	for range 3 {
		u := userOf(t, as)
		if _, err := login.Ensure(t.Context(), source(t, config(as)), u.loopback()); err != nil {
			t.Fatal(err)
		}
		q := u.asked()
		for _, name := range []string{"state", "code_challenge"} {
			if v := q.Get(name); len(v) < 26 || seen[v] {
				t.Errorf("%s is %q: short, or not a new one", name, v)
			}
			seen[q.Get(name)] = true
		}
		if q.Get("code_challenge_method") != "S256" || q.Get("response_type") != "code" {
			t.Errorf("R7636-4.2: got %v", q)
		}
	}
}

func TestProgramsParameters(t *testing.T) {
	as := oauthtest.New(oauthtest.Options{})
	for name, params := range map[string]url.Values{
		"R9700-2.1.1 PKCE is not to be weakened": {"code_challenge_method": {"plain"}},
		"R9700-2.1.1 nor replaced":               {"code_challenge": {"x"}},
		"R9700-2.4 no implicit grant":            {"response_type": {"token"}},
		"R9700-2.1-csrf the state is not theirs": {"state": {"x"}},
		"another redirect URI":                   {"redirect_uri": {"http://127.0.0.1/x"}},
		"R6749-3.2-dup given twice":              {"login_hint": {"a", "b"}},
		"R6749-3.2-dup empty":                    {"login_hint": {""}},
		"R6749-3.2-dup without a value":          {"login_hint": nil},
	} {
		t.Run(name, func(t *testing.T) {
			u := userOf(t, as)
			l := u.loopback()
			l.Params = params
			if _, err := login.Ensure(t.Context(), source(t, config(as)), l); err == nil || len(u.addresses) > 0 {
				t.Errorf("got error %v, addresses %v", err, u.addresses)
			}
		})
	}
	t.Run("R6749-3.1-query the endpoint's own query is kept", func(t *testing.T) {
		u := userOf(t, as)
		cfg := config(as)
		cfg.OAuth2.Endpoint.AuthURL += "?tenant=1%2F2"
		l := u.loopback()
		l.Params = url.Values{"login_hint": {"alice"}, "resource": {"https://a.test", "https://b.test"}}
		if _, err := login.Ensure(t.Context(), source(t, cfg), l); err != nil {
			t.Fatal(err)
		}
		if q := u.asked(); q.Get("tenant") != "1/2" || q.Get("login_hint") != "alice" || len(q["resource"]) != 2 {
			t.Errorf("asked for %v", q)
		}
		if !strings.Contains(u.addresses[0], "?tenant=1%2F2&") {
			t.Errorf("the query was written anew: %s", u.addresses[0])
		}
	})
	t.Run("R6749-3.2-dup what the endpoint's query has already", func(t *testing.T) {
		u := userOf(t, as)
		cfg := config(as)
		cfg.OAuth2.Endpoint.AuthURL += "?state=1"
		if _, err := login.Ensure(t.Context(), source(t, cfg), u.loopback()); err == nil || len(u.addresses) > 0 {
			t.Errorf("got error %v", err)
		}
	})
}

func TestOfflineAccess(t *testing.T) {
	byScope := oauthtest.Options{OfflineAccess: oauthtest.OfflineByScope}
	byParam := oauthtest.Options{OfflineAccess: oauthtest.OfflineByParam}
	for _, c := range []struct {
		name   string
		server oauthtest.Options
		scopes []string
		edit   func(*login.Loopback)
		want   error
		prompt string
	}{
		{"by scope", byScope, []string{"offline_access"}, nil, nil, ""},
		{"by scope of OpenID Connect, with consent", byScope, []string{"openid", "offline_access"}, nil, nil, "consent"},
		{"by parameter, with consent", byParam, nil, func(l *login.Loopback) { l.AccessTypeOffline = true }, nil, "consent"},
		{"the program's prompt stays", byParam, nil, func(l *login.Loopback) {
			l.AccessTypeOffline, l.Params = true, url.Values{"prompt": {"select_account"}}
		}, nil, "select_account"},
		{"not asked for", byScope, nil, nil, login.ErrNoRefreshToken, ""},
		{"asked for in the wrong way", byParam, []string{"offline_access"}, nil, login.ErrNoRefreshToken, ""},
		{"not wanted", byScope, nil, func(l *login.Loopback) { l.AccessTokenOnly = true }, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			as := oauthtest.New(c.server)
			u := userOf(t, as)
			l := u.loopback()
			if c.edit != nil {
				c.edit(&l)
			}
			cfg := config(as)
			cfg.OAuth2.Scopes = c.scopes
			src := source(t, cfg)
			_, err := login.Ensure(t.Context(), src, l)
			if !errors.Is(err, c.want) {
				t.Errorf("got error %v, want %v", err, c.want)
			}
			if got := u.asked().Get("prompt"); got != c.prompt {
				t.Errorf("prompt is %q, want %q", got, c.prompt)
			}
			_, err = src.Token(t.Context())
			if (err == nil) != (c.want == nil) {
				t.Errorf("the session: %v", err)
			}
			if worked := strings.Contains(u.last().body, "You are logged in"); worked != (c.want == nil) {
				t.Errorf("the page says that it worked: %v", worked)
			}
		})
	}
}

// An answer without the right state may come from anybody.
func TestForeignCallbacks(t *testing.T) {
	for _, f := range oauthtest.ForeignCallbacks() {
		t.Run("R8252-8.9-dos R9700-2.1-csrf "+f.Name, func(t *testing.T) {
			as := oauthtest.New(oauthtest.Options{})
			u := userOf(t, as)
			as.Authorization.Next(f)
			want := http.StatusBadRequest
			if f.Name == "twice-state" { // who knows the state is no stranger: the answer is broken
				want = http.StatusOK
			}
			l := u.loopback()
			l.Prompt.Browse = func(ctx context.Context, address string) error {
				u.visits.Go(func() {
					if p := u.visit(address); p.status != want {
						t.Errorf("the browser sees %+v, want %d", p, want)
					}
					if n := tokenRequests(as); n != 0 {
						t.Errorf("%d token requests with a code of somebody else", n)
					}
					u.visit(address) // the real one
				})
				return nil
			}
			_, err := login.Ensure(t.Context(), source(t, config(as)), l)
			if want == http.StatusOK {
				wantErr(t, err, login.ErrCallback)
				return
			}
			if err != nil {
				t.Errorf("the login did not go on: %v", err)
			}
		})
	}
	t.Run("R8252-8.9-dos and no other", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		u := userOf(t, as)
		as.Authorization.Always(oauthtest.Pick(oauthtest.ForeignCallbacks(), "wrong-state"))
		l := u.loopback()
		l.Timeout = short
		_, err := login.Ensure(t.Context(), source(t, config(as)), l)
		wantErr(t, err, login.ErrTimeout)
		wantErr(t, err, login.ErrState)
		if n := tokenRequests(as); n != 0 {
			t.Errorf("%d token requests", n)
		}
	})
}

func TestBadCallbacks(t *testing.T) {
	for _, f := range oauthtest.BadCallbacks() {
		id, want := "R6749-4.1.2 ", login.ErrCallback
		if strings.HasSuffix(f.Name, "-iss") {
			id = "R9207-2.4 "
			if f.Name != "twice-iss" {
				want = login.ErrIssuer
			}
		}
		if f.Name == "error-beside-code" {
			want = login.ErrServer
		}
		t.Run(id+f.Name, func(t *testing.T) {
			as := oauthtest.New(oauthtest.Options{})
			u := userOf(t, as)
			as.Authorization.Next(f)
			src := source(t, config(as))
			_, err := login.Ensure(t.Context(), src, u.loopback())
			wantErr(t, err, want)
			wantErr(t, err, freshtoken.ErrNoSession)
			if strings.Contains(err.Error(), "access_denied") {
				t.Errorf("the error shows what another server says: %v", err)
			}
			if n := tokenRequests(as); n != 0 {
				t.Errorf("%d token requests", n)
			}
			if p := u.last(); p.status != http.StatusOK || !strings.Contains(p.body, "did not work") {
				t.Errorf("the person sees %+v", p)
			}
			gone(t, u.asked().Get("redirect_uri"))
		})
	}
}

func TestOddCallbacks(t *testing.T) {
	for _, f := range oauthtest.OddCallbacks() {
		t.Run("R6749-4.1.2 "+f.Name, func(t *testing.T) {
			as := oauthtest.New(oauthtest.Options{})
			as.Authorization.Next(f)
			if _, err := login.Ensure(t.Context(), source(t, config(as)), userOf(t, as).loopback()); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("R9207-2.4 a server that names no issuer, and never does", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{OmitIss: true})
		cfg := config(as)
		cfg.RequireIss = false
		if _, err := login.Ensure(t.Context(), source(t, cfg), userOf(t, as).loopback()); err != nil {
			t.Error(err)
		}
	})
}

func TestRequiredIssuer(t *testing.T) {
	as := oauthtest.New(oauthtest.Options{})
	u := userOf(t, as)
	cfg := config(as)
	cfg.Issuer = "" // nothing to compare the answer with
	_, err := u.loopback().Authenticate(t.Context(), cfg)
	if wantErr(t, err, login.ErrIssuer); tokenRequests(as) != 0 {
		t.Errorf("R9207-2.4: %d token requests", tokenRequests(as))
	}
}

func TestDeniedLogins(t *testing.T) {
	sentinels := map[string]error{"access_denied": login.ErrDenied, "server_error": login.ErrServer, "temporarily_unavailable": login.ErrUnavailable}
	for _, f := range oauthtest.DeniedLogins() {
		t.Run("R6749-4.1.2.1 "+f.Name, func(t *testing.T) {
			as := oauthtest.New(oauthtest.Options{})
			u := userOf(t, as)
			as.Authorization.Next(f)
			_, err := login.Ensure(t.Context(), source(t, config(as)), u.loopback())
			refused := new(login.ServerError)
			if !errors.As(err, &refused) || refused.Code != f.Deny {
				t.Fatalf("got error %v, want a *ServerError with code %s", err, f.Deny)
			}
			for code, sentinel := range sentinels {
				if errors.Is(err, sentinel) != (code == f.Deny) {
					t.Errorf("%v matches %v: %v", f.Deny, sentinel, errors.Is(err, sentinel))
				}
			}
			if strings.ContainsAny(err.Error(), "\x1b\r\n") {
				t.Errorf("R6749-10.14: %q", err)
			}
			p := u.last()
			if strings.Contains(p.body, "alert") || strings.Contains(p.body, f.Deny) {
				t.Errorf("R6749-3.1.2.5: the page repeats what the server says: %s", p.body)
			}
			if n := tokenRequests(as); n != 0 {
				t.Errorf("%d token requests", n)
			}
		})
	}
}

func TestUnfinishedLogins(t *testing.T) {
	for _, f := range oauthtest.UnfinishedLogins() {
		t.Run(f.Name, func(t *testing.T) {
			as := oauthtest.New(oauthtest.Options{})
			u := userOf(t, as)
			u.http.Timeout = 2 * short // the person closes the window
			as.Authorization.Always(f)
			l := u.loopback()
			l.Timeout = short
			_, err := login.Ensure(t.Context(), source(t, config(as)), l)
			wantErr(t, err, login.ErrTimeout)
			gone(t, u.asked().Get("redirect_uri"))
		})
	}
}

// Only the browser knows that the server has refused the redirect URI, so the
// error says what the server should know, to the letter.
func TestUnfinishedLoginNamesTheRedirectURI(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fixed := "http://" + free.Addr().String() + "/done"
	free.Close()
	for redirect, want := range map[string]string{
		"":                      "http://127.0.0.1/callback with any port",
		"http://127.0.0.1/done": "http://127.0.0.1/done with any port",
		"http://[::1]/done":     "http://[::1]/done with any port",
		"http://localhost":      "http://localhost/ with any port",
		fixed:                   fixed,
	} {
		cfg := config(oauthtest.New(oauthtest.Options{}))
		cfg.OAuth2.RedirectURL = redirect
		nobody := login.Prompt{Browse: func(context.Context, string) error { return nil }}
		_, err := login.Ensure(t.Context(), source(t, cfg), login.Loopback{Prompt: nobody, Timeout: time.Millisecond})
		if errors.Is(err, login.ErrListen) {
			continue // no such address here, or somebody has taken the port
		}
		wantErr(t, err, login.ErrTimeout)
		if err != nil && !strings.Contains(err.Error(), "register "+want+" for the client") {
			t.Errorf("%q: %v", redirect, err)
		}
	}
}

func TestExchange(t *testing.T) {
	t.Run("R7636-7.2 a server that wants no S256 gets nothing else", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		u := userOf(t, as)
		as.Authorization.Next(oauthtest.Deny("invalid_request"))
		if _, err := login.Ensure(t.Context(), source(t, config(as)), u.loopback()); err == nil {
			t.Error("no error")
		}
		u.asked() // one
	})
	t.Run("R6749-4.1.2-once whatever becomes of it", func(t *testing.T) {
		for _, f := range append(oauthtest.LostAnswers(), oauthtest.Drop(), oauthtest.InvalidGrant(), oauthtest.Unavailable("1"), oauthtest.HTML(200)) {
			as := oauthtest.New(oauthtest.Options{})
			as.Token.Next(f)
			_, err := login.Ensure(t.Context(), source(t, config(as)), userOf(t, as).loopback())
			if n := tokenRequests(as); err == nil || n > 1 {
				t.Errorf("%s: %d token requests, error %v", f.Name, n, err)
			}
		}
	})
	t.Run("R6749-4.1.2-once whoever reloads the page", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		gate := oauthtest.NewGate()
		as.Token.Next(oauthtest.Fault{Before: gate.Hold})
		u := userOf(t, as)
		var back string
		u.http.CheckRedirect = func(req *http.Request, _ []*http.Request) error { back = req.URL.String(); return nil }
		u.visits.Go(func() {
			<-gate.Arrived()
			u.visits.Go(func() { u.visit(back) })
			// It is served once its request is there; there is nothing to wait
			// for it by.
			for range 100 {
				runtime.Gosched()
			}
			gate.Open()
		})
		if _, err := login.Ensure(t.Context(), source(t, config(as)), u.loopback()); err != nil {
			t.Error(err)
		}
		if n := tokenRequests(as); n != 1 {
			t.Errorf("%d token requests", n)
		}
	})
	t.Run("R6749-3.2-post no redirect is followed with the code", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		hit := false
		as.Handle("evil.test", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hit = true }))
		as.Token.Next(oauthtest.Redirect(http.StatusTemporaryRedirect, "https://evil.test/token"))
		_, err := login.Ensure(t.Context(), source(t, config(as)), userOf(t, as).loopback())
		if err == nil || hit {
			t.Errorf("got error %v; the redirect was followed: %v", err, hit)
		}
	})
	t.Run("R6749-10.14 what the server repeats of a secret is hidden", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		cfg := config(as)
		var sent string
		cfg.HTTPClient.Transport = roundTripper(func(req *http.Request) (*http.Response, error) {
			data, _ := io.ReadAll(req.Body)
			form, _ := url.ParseQuery(string(data))
			sent = form.Get("code")
			return &http.Response{StatusCode: 400, Header: http.Header{"Content-Type": {"application/json"}},
				Body: io.NopCloser(bytes.NewBufferString(fmt.Sprintf(`{"error":"invalid_grant","error_description":"bad code %s, verifier %s"}`, sent, form.Get("code_verifier"))))}, nil
		})
		_, err := login.Ensure(t.Context(), source(t, cfg), userOf(t, as).loopback())
		if err == nil || sent == "" || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), sent) {
			t.Errorf("got error %v", err)
		}
	})
	t.Run("R9700-4.4.2 the code goes to the server that the login began with", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		cfg := config(as)
		u := userOf(t, as)
		l := u.loopback()
		o := cfg.OAuth2
		l.Prompt.Browse = func(ctx context.Context, address string) error {
			o.Endpoint.TokenURL = "https://evil.test/token"
			return u.browse(ctx, address)
		}
		if _, err := login.Ensure(t.Context(), source(t, cfg), l); err != nil {
			t.Error(err)
		}
	})
	for _, c := range []struct{ id, secret string }{{"client", ""}, {"odd id/+%:", `s3cr+t %41/&=:~"?`}} {
		t.Run("R6749-3.2.1 as the client with the id "+c.id, func(t *testing.T) {
			as := oauthtest.New(oauthtest.Options{ClientID: c.id, ClientSecret: c.secret})
			if _, err := login.Ensure(t.Context(), source(t, config(as)), userOf(t, as).loopback()); err != nil {
				t.Error(err)
			}
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
