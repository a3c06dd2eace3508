package login_test

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/mark"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// pushing is a client of a server that requires pushed requests.
func pushing(as *oauthtest.Server) freshtoken.Config {
	cfg := config(as)
	cfg.PushedAuthorizationURL = as.PushedAuthorizationURL()
	return cfg
}

// secretive is a server that requires them, of a client with a secret.
func secretive() *oauthtest.Server {
	return oauthtest.New(oauthtest.Options{RequirePushed: true, ClientSecret: mark.Weave(mark.ClientSecret, "s+ %"), IDTokens: "ES256"})
}

// wantPushed fails the test unless a login has had one request pushed, and the
// browser has shown the server what names it, and nothing else.
func wantPushed(t *testing.T, as *oauthtest.Server, u *user) {
	t.Helper()
	q, log := u.asked(), as.LogOf(oauthtest.PushedEndpoint)
	if len(q) != 2 || q.Get("client_id") != "client" || len(q["request_uri"]) != 1 {
		t.Errorf("the browser was given %v", q)
	}
	if len(log) != 1 || log[0].IssuedCode != oauthtest.Fingerprint(q.Get("request_uri")) {
		t.Errorf("pushed: %+v", log)
	}
	if st := as.Stats(); st.CodeLogins != 1 || st.BadRequests != 0 || st.BadClients != 0 {
		t.Errorf("the server counts %+v", st)
	}
}

func TestPushedLogin(t *testing.T) {
	full := func(l *login.Loopback, cfg *freshtoken.Config) {
		l.AccessTypeOffline = true
		l.Params = url.Values{"login_hint": {"alice"}, "resource": {"https://a.test", "https://b.test"}}
		cfg.LoginParams = url.Values{"acr_values": {"gold"}}
		cfg.OAuth2.Scopes = []string{"openid", "read"}
		cfg.IDTokens = verifier(func(id freshtoken.IDToken) error {
			if id.Raw == "" || id.Nonce == "" && !id.Refreshed {
				return errors.New("no nonce, or no ID token")
			}
			return nil
		})
	}
	for name, test := range map[string]struct {
		as   *oauthtest.Server
		edit func(*login.Loopback, *freshtoken.Config)
	}{
		"R9126-4: by a public client":         {oauthtest.New(oauthtest.Options{RequirePushed: true}), nil},
		"R9126-4: where it is not required":   {oauthtest.New(oauthtest.Options{}), nil},
		"R9126-4: with the secret by Basic":   {secretive(), nil},
		"R9126-4: with all that can be asked": {secretive(), full},
		"R9126-4: with the secret in the body": {secretive(), func(_ *login.Loopback, cfg *freshtoken.Config) {
			cfg.OAuth2.Endpoint.AuthStyle = oauth2.AuthStyleInParams
		}},
		"R9126-4: with the style left open": {secretive(), func(_ *login.Loopback, cfg *freshtoken.Config) { cfg.OAuth2.Endpoint.AuthStyle = 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			u := userOf(t, test.as)
			l, cfg := u.loopback(), pushing(test.as)
			if test.edit != nil {
				test.edit(&l, &cfg)
			}
			src := source(t, cfg)
			if _, err := login.Ensure(t.Context(), src, l); err != nil {
				t.Fatal(err)
			}
			wantPushed(t, test.as, u)
			if e := test.as.LogOf(oauthtest.PushedEndpoint)[0]; test.edit != nil && l.Params != nil && (e.Scope != "openid read" || e.Resource != "https://a.test https://b.test") {
				t.Errorf("pushed %+v", e)
			}
			if _, err := src.Refresh(t.Context(), nil); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("R9126-4: not unless the program says so", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{RequirePushed: true})
		u := userOf(t, as)
		_, err := login.Ensure(t.Context(), source(t, config(as)), u.loopback())
		if refused := new(login.ServerError); !errors.As(err, &refused) || refused.Code != "invalid_request" || as.Stats().PushedRequests != 0 {
			t.Errorf("got %v", err)
		}
	})
	t.Run("R9126-4 R6749-3.1-query: the query of the endpoint's address stays", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		u := userOf(t, as)
		cfg := pushing(as)
		cfg.OAuth2.Endpoint.AuthURL += "?tenant=1%2F2"
		l := u.loopback()
		l.Timeout = short // the server here does not take more than two parameters
		_, err := login.Ensure(t.Context(), source(t, cfg), l)
		wantErr(t, err, login.ErrTimeout)
		if q := u.asked(); !strings.Contains(u.addresses[0], "?tenant=1%2F2&") || len(q) != 3 {
			t.Errorf("the browser was given %v", q)
		}
	})
}

// verifier is a function that is an IDTokenVerifier.
type verifier func(freshtoken.IDToken) error

func (v verifier) VerifyIDToken(_ context.Context, _ freshtoken.Config, id freshtoken.IDToken) error {
	return v(id)
}

// A request_uri is for one visit of one login.
func TestRequestURIs(t *testing.T) {
	// pushed are the fingerprints of what the server has issued.
	pushed := func(as *oauthtest.Server) (all []string) {
		for _, e := range as.LogOf(oauthtest.PushedEndpoint) {
			all = append(all, e.IssuedCode)
		}
		return all
	}
	t.Run("R9126-4: a login that is retried pushes again", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{RequirePushed: true})
		u := userOf(t, as)
		src := source(t, pushing(as))
		as.Authorization.Next(oauthtest.Deny("access_denied"))
		_, err := login.Ensure(t.Context(), src, u.loopback())
		wantErr(t, err, login.ErrDenied)
		if _, err := login.Ensure(t.Context(), src, u.loopback()); err != nil {
			t.Fatal(err)
		}
		if all := pushed(as); len(all) != 2 || all[0] == all[1] || len(u.addresses) != 2 || u.addresses[0] == u.addresses[1] {
			t.Errorf("pushed %v, opened %v", all, u.addresses)
		}
	})
	t.Run("R9126-4: who opens the address again gets nothing by it", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{RequirePushed: true})
		u := userOf(t, as)
		if _, err := login.Ensure(t.Context(), source(t, pushing(as)), u.loopback()); err != nil {
			t.Fatal(err)
		}
		if p := u.visit(u.addresses[0]); p.status != http.StatusBadRequest || issuedCodes(as) != 1 {
			t.Errorf("the browser sees %+v", p)
		}
	})
	for _, life := range []string{"0", "-1", "1e-9", "0.9", `"0"`} {
		expired := oauthtest.Edit("expired", oauthtest.SetMember("expires_in", life).Edit)
		t.Run("R9126-4: what has expired on the way is pushed anew: "+life, func(t *testing.T) {
			as := oauthtest.New(oauthtest.Options{RequirePushed: true})
			u := userOf(t, as)
			as.Pushed.Next(expired, expired)
			if _, err := login.Ensure(t.Context(), source(t, pushing(as)), u.loopback()); err != nil {
				t.Fatal(err)
			}
			all := pushed(as)
			if len(all) != 3 || all[2] != oauthtest.Fingerprint(u.asked().Get("request_uri")) {
				t.Errorf("pushed %v", all)
			}
		})
		t.Run("R9126-4: but not for ever: "+life, func(t *testing.T) {
			as := oauthtest.New(oauthtest.Options{RequirePushed: true})
			u := userOf(t, as)
			as.Pushed.Always(expired)
			_, err := login.Ensure(t.Context(), source(t, pushing(as)), u.loopback())
			if wantErr(t, err, login.ErrPushed); len(pushed(as)) != 3 || len(u.addresses) != 0 {
				t.Errorf("pushed %v, opened %v", pushed(as), u.addresses)
			}
		})
	}
	for name, edit := range map[string]oauthtest.Fault{
		"is not told": oauthtest.Edit("missing", oauthtest.OmitMember("expires_in").Edit),
		"is no time":  oauthtest.Edit("words", oauthtest.SetMember("expires_in", `"soon"`).Edit),
		"is absurd":   oauthtest.Edit("absurd", oauthtest.SetMember("expires_in", `1e300`).Edit),
		"has a tail":  oauthtest.Edit("float", oauthtest.SetMember("expires_in", `60.0`).Edit),
	} {
		t.Run("R9126-4: a lifetime that "+name, func(t *testing.T) {
			as := oauthtest.New(oauthtest.Options{RequirePushed: true})
			u := userOf(t, as)
			as.Pushed.Next(edit)
			if _, err := login.Ensure(t.Context(), source(t, pushing(as)), u.loopback()); err != nil {
				t.Fatal(err)
			}
			wantPushed(t, as, u)
		})
	}
	t.Run("R9126-4: who comes too late is told", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{RequirePushed: true})
		l := login.Loopback{Timeout: short, Prompt: login.Prompt{Browse: func(context.Context, string) error { return nil }}}
		_, err := login.Ensure(t.Context(), source(t, pushing(as)), l)
		if wantErr(t, err, login.ErrTimeout); !strings.Contains(err.Error(), "open the address within 1 minute") {
			t.Errorf("got %v", err)
		}
	})
}

// Whatever the server answers, nobody is sent anywhere by what is not a
// request_uri.
func TestBadPushedAnswers(t *testing.T) {
	for _, f := range oauthtest.BadPushedAnswers() {
		t.Run("R9126-4: "+f.Name, func(t *testing.T) {
			as := secretive()
			u := userOf(t, as)
			as.Pushed.Always(f)
			_, err := login.Ensure(t.Context(), source(t, pushing(as)), u.loopback())
			refused := new(login.ServerError)
			if !errors.As(err, &refused) {
				wantErr(t, err, login.ErrPushed)
			} else if refused.Endpoint != "pushed authorization request endpoint" || refused.Status == 0 {
				t.Errorf("got %+v", refused)
			}
			wantErr(t, err, err) // shows no secret
			advice := map[string]string{"too-large": "leave out some of the Params", "endless": "log in again", "expires-in-zero": "log in again", "expires-in-negative": "log in again"}[f.Name]
			if !strings.Contains(err.Error(), cmp.Or(advice, "check ")) {
				t.Errorf("the error does not say what to do: %v", err)
			}
			want := 1
			if strings.HasPrefix(f.Name, "expires-in") {
				want = 3
			}
			if st := as.Stats(); st.PushedRequests != want || st.AuthorizationRequests != 0 || st.TokenRequests != 0 || len(u.addresses) != 0 {
				t.Errorf("the server counts %+v", st)
			}
		})
	}
	for name, test := range map[string]struct {
		edit func(*freshtoken.Config)
		says []string
	}{
		"a wrong secret": {func(cfg *freshtoken.Config) { cfg.OAuth2.ClientSecret = mark.Weave(mark.ClientSecret, "wrong") },
			[]string{"401 invalid_client", "ClientSecret"}},
		"a redirect URI that the server does not know": {func(cfg *freshtoken.Config) { cfg.OAuth2.RedirectURL = "http://127.0.0.1/other" },
			[]string{"400 invalid_request", "register http://127.0.0.1/other with any port"}},
		"another place": {func(cfg *freshtoken.Config) { cfg.PushedAuthorizationURL += "s" }, []string{"404", "check Config.PushedAuthorizationURL"}},
		"no server":     {func(cfg *freshtoken.Config) { cfg.PushedAuthorizationURL = "https://nobody.test/par" }, []string{"nobody.test", "check the network"}},
	} {
		t.Run("R9126-4: "+name, func(t *testing.T) {
			as := secretive()
			u := userOf(t, as)
			cfg := pushing(as)
			test.edit(&cfg)
			_, err := login.Ensure(t.Context(), source(t, cfg), u.loopback())
			if err == nil || len(u.addresses) != 0 {
				t.Fatalf("got %v, opened %v", err, u.addresses)
			}
			wantErr(t, err, err)
			for _, s := range test.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("the error does not say %q: %v", s, err)
				}
			}
		})
	}
	t.Run("R9126-4: a server that repeats what it was sent", func(t *testing.T) {
		as, state := secretive(), ""
		as.Handle("echo.test", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.ParseForm()
			state = r.Form.Get("state")
			w.Header().Set("Content-Type", "application/x-www-form-urlencoded")
			w.WriteHeader(http.StatusBadRequest)
			w.Write([]byte("error=invalid_request&error_description=" + url.QueryEscape("no: "+state)))
		}))
		cfg := pushing(as)
		cfg.PushedAuthorizationURL, cfg.OAuth2.Endpoint.AuthStyle = "https://echo.test/par", oauth2.AuthStyleInParams
		_, err := login.Ensure(t.Context(), source(t, cfg), userOf(t, as).loopback())
		wantErr(t, err, err)
		if refused := new(login.ServerError); !errors.As(err, &refused) || refused.Code != "invalid_request" || state == "" || strings.Contains(err.Error(), state) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("R9126-4: a login that is given up meanwhile", func(t *testing.T) {
		as := secretive()
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("the window was closed")
		as.Pushed.Next(oauthtest.Fault{Before: func(ctx context.Context) error { cancel(why); <-ctx.Done(); return ctx.Err() }})
		_, err := userOf(t, as).loopback().Authenticate(ctx, pushing(as))
		wantErr(t, err, context.Canceled)
		wantErr(t, err, why)
	})
	t.Run("R9126-4: a refusal that breaks off", func(t *testing.T) {
		as := secretive()
		cut := oauthtest.Error(http.StatusBadRequest, "invalid_request")
		cut.Truncate = 5
		as.Pushed.Always(cut)
		_, err := userOf(t, as).loopback().Authenticate(t.Context(), pushing(as))
		wantErr(t, err, login.ErrPushed)
	})
}

// What would weaken a pushed request, or send it in the clear, is refused before
// anything is sent.
func TestPushedConfig(t *testing.T) {
	for name, edit := range map[string]func(*login.Loopback, *freshtoken.Config){
		"no request_uri inside":       func(l *login.Loopback, _ *freshtoken.Config) { l.Params = url.Values{"request_uri": {"urn:x"}} },
		"nor one by way of a Config":  func(_ *login.Loopback, c *freshtoken.Config) { c.LoginParams = url.Values{"request_uri": {"urn:x"}} },
		"nor another request":         func(l *login.Loopback, _ *freshtoken.Config) { l.Params = url.Values{"request": {"x"}} },
		"nor a secret":                func(l *login.Loopback, _ *freshtoken.Config) { l.Params = url.Values{"client_secret": {"x"}} },
		"nor an assertion":            func(l *login.Loopback, _ *freshtoken.Config) { l.Params = url.Values{"client_assertion": {"x"}} },
		"nor any in the address":      func(_ *login.Loopback, c *freshtoken.Config) { c.OAuth2.Endpoint.AuthURL += "?request_uri=urn:x" },
		"nor what is pushed anyway":   func(_ *login.Loopback, c *freshtoken.Config) { c.OAuth2.Endpoint.AuthURL += "?state=x" },
		"http to another machine":     func(_ *login.Loopback, c *freshtoken.Config) { c.PushedAuthorizationURL = "http://oauth.test/par" },
		"an address that is not one":  func(_ *login.Loopback, c *freshtoken.Config) { c.PushedAuthorizationURL = "/par" },
		"an address with a user name": func(_ *login.Loopback, c *freshtoken.Config) { c.PushedAuthorizationURL = "https://a:b@oauth.test/par" },
	} {
		t.Run("R9126-4: "+name, func(t *testing.T) {
			as := oauthtest.New(oauthtest.Options{})
			u := userOf(t, as)
			l, cfg := u.loopback(), pushing(as)
			edit(&l, &cfg)
			_, err := l.Authenticate(t.Context(), cfg)
			if err == nil || len(as.Log()) != 0 || len(u.addresses) != 0 {
				t.Errorf("got %v, %d requests", err, len(as.Log()))
			}
		})
	}
	t.Run("R9126-4: http to this machine will do", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{RequirePushed: true})
		t.Cleanup(as.Start())
		u := userOf(t, as)
		cfg := pushing(as)
		cfg.HTTPClient = nil
		if _, err := login.Ensure(t.Context(), source(t, cfg), u.loopback()); err != nil {
			t.Fatal(err)
		}
		wantPushed(t, as, u)
	})
}
