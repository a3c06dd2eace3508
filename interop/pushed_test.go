package interop_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken/discovery"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// A server that takes no authorization request but those that were pushed to it.
func TestPushedAuthorizationRequests(t *testing.T) {
	s := startServer(t, func(o *serverOptions) { o.AccessLifetime, o.RequirePushed = 3600, true })
	for _, c := range []client{public, basic, post} {
		t.Run("R9126-4: login, calls and a refresh by "+c.Method, func(t *testing.T) {
			s := s.in(t)
			cfg := s.config(c, storage.NewMemory())
			cfg.OAuth2.Endpoint, cfg.RevocationURL = oauth2.Endpoint{AuthStyle: c.style()}, ""
			if _, err := discovery.Configure(t.Context(), &cfg); err != nil {
				t.Fatal(err)
			}
			var address string
			flow := visit(func(ctx context.Context, to string) error {
				address = to
				return alice().approve(ctx, to)
			})
			src := s.source(cfg)
			if _, err := login.Ensure(t.Context(), src, flow.loopback()); err != nil {
				t.Fatal(err)
			}
			if u, err := url.Parse(address); err != nil || len(u.Query()) != 2 || u.Query().Get("client_id") != c.ID || !u.Query().Has("request_uri") {
				t.Errorf("the browser was sent to %s", address)
			}
			if err := call(t.Context(), src.Client(s.issuer), s.api()); err != nil {
				t.Error(err)
			}
			if _, err := src.Refresh(t.Context(), nil); err != nil {
				t.Error(err)
			}
			if err := call(t.Context(), src.Client(s.issuer), s.api()); err != nil {
				t.Error(err)
			}
			client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			resp, err := client.Get(address)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if to := resp.Header.Get("Location"); !strings.Contains(to, "error=invalid_request_uri&") || strings.Contains(to, "code=") {
				t.Errorf("the address served once more: %s, %s", resp.Status, to)
			}
			if n := s.wantWhole().Refreshes; n == 0 {
				t.Error("no refresh")
			}
		})
	}
	for name, test := range map[string]struct {
		endpoint, code string
		edit           func(pushed, redirect *string)
	}{
		"R9126-4: nothing else will do": {"authorization endpoint", "invalid_request", func(pushed, _ *string) { *pushed = "" }},
		"R9126-4: the program is told of a redirect URI that is not known": {"pushed authorization request endpoint", "invalid_request",
			func(_, redirect *string) { *redirect = "http://127.0.0.1/elsewhere" }},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			cfg := s.config(public, nil)
			cfg.PushedAuthorizationURL = s.issuer + "/request"
			test.edit(&cfg.PushedAuthorizationURL, &cfg.OAuth2.RedirectURL)
			_, err := alice().authenticate(t.Context(), cfg)
			refused := new(login.ServerError)
			if !errors.As(err, &refused) || refused.Endpoint != test.endpoint || refused.Code != test.code || !strings.Contains(err.Error(), "check ") {
				t.Errorf("got %v", err)
			}
		})
	}
}
