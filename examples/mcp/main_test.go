package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/oauth2"
)

func TestSecondRunNeitherRegistersNorLogsIn(t *testing.T) {
	w := start(t)
	w.works(t)
	w.want(t, 1, 1, 1)
	before := w.calls.Load()
	w.works(t)
	w.want(t, 1, 1, 1)
	first, second := before, w.calls.Load()-before
	if first != second+1 {
		t.Errorf("%d requests in the first run and %d in the second: want one more, for the first 401", first, second)
	}
	if all := w.files(t); strings.Contains(all, secret) || strings.Contains(all, "LEAK~") || strings.Contains(all, "registered-1") {
		t.Error("something lies in the store as it is")
	}
}

func TestRejectedTokenLeadsToARefresh(t *testing.T) {
	w := start(t)
	w.works(t)
	w.revoke(t)
	w.works(t)
	w.want(t, 1, 1, 2)
}

// revoke kills the access token of the session, and nothing else.
func (w *world) revoke(t *testing.T) {
	t.Helper()
	w.as.RevokeAccess(w.token(t))
}

func (w *world) token(t *testing.T) string {
	t.Helper()
	h, err := open(t.Context(), w.options())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	tok, err := h.src.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tok.AccessToken
}

func TestEndedSessionLeadsToALogin(t *testing.T) {
	t.Run("found out by a 401", func(t *testing.T) {
		w := start(t)
		w.works(t)
		w.as.RevokeFamily(w.token(t))
		w.works(t)
		w.want(t, 1, 2, 3) // a refresh that is refused, and a code
	})
	t.Run("found out before the request", func(t *testing.T) {
		w := start(t)
		w.works(t)
		w.ended(t)
		w.works(t)
		w.want(t, 1, 2, 3)
	})
}

// ended has the session end as far as the Store knows.
func (w *world) ended(t *testing.T) {
	t.Helper()
	h, err := open(t.Context(), w.options())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	w.as.RevokeFamily(w.token(t))
	if _, err := h.src.Refresh(t.Context(), nil); !errors.Is(err, freshtoken.ErrSessionEnded) {
		t.Fatalf("got %v, want ErrSessionEnded", err)
	}
}

// plain hands the SDK a Source's TokenSource as it is.
type plain struct {
	src        *freshtoken.Source
	authorized int
}

func (p *plain) TokenSource(ctx context.Context) (oauth2.TokenSource, error) {
	return p.src.TokenSource(ctx), nil
}

func (p *plain) Authorize(_ context.Context, _ *http.Request, resp *http.Response) error {
	p.authorized++
	return errors.Join(errors.New("nobody there"), resp.Body.Close())
}

// The SDK asks for a login, and does not fail, when a TokenSource says invalid_grant
// in an *oauth2.RetrieveError. A Source's does.
func TestSDKUnderstandsTheErrorOfAnEndedSession(t *testing.T) {
	w := start(t)
	w.works(t)
	h, err := open(t.Context(), w.options())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	w.as.RevokeFamily(w.token(t))
	if _, err := h.src.Refresh(t.Context(), nil); !errors.Is(err, freshtoken.ErrSessionEnded) {
		t.Fatalf("got %v, want ErrSessionEnded", err)
	}
	p := &plain{src: h.src}
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	if session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: w.server, OAuthHandler: p, DisableStandaloneSSE: true}, nil); err == nil {
		t.Error("connected without a token")
		session.Close()
	}
	if p.authorized == 0 {
		t.Error("Authorize was not called")
	}
}

func TestServerThatTakesNoTokenBothersNobody(t *testing.T) {
	w := start(t)
	w.works(t)
	w.deaf.Store(true)
	if out, err := w.program(t.Context()); err == nil {
		t.Errorf("got %q from a server that takes no token", out)
	}
	if n := w.logins.Load(); n != 1 {
		t.Errorf("%d logins, want the first alone", n)
	}
	w.deaf.Store(false)
	w.works(t)
	if n := w.logins.Load(); n != 1 {
		t.Errorf("%d logins, want the first alone", n)
	}
}

// A server that wants more scope gets it by another login, and does not make
// people log in for ever.
func TestMoreScopeByAnotherLogin(t *testing.T) {
	w := start(t)
	w.works(t)
	w.wants.Store("admin")
	w.works(t)
	w.want(t, 1, 2, 2)
	w.works(t)
	w.want(t, 1, 2, 2)
	w.forbids.Store(true)
	_, err := w.program(t.Context())
	if !errors.Is(err, freshtoken.ErrStepUpLimit) {
		t.Errorf("got %v", err)
	}
	w.want(t, 1, 3, 3)
}

func TestForbiddenIsNoReasonForAnything(t *testing.T) {
	w := start(t)
	w.works(t)
	w.forbids.Store(true)
	_, err := w.program(t.Context())
	if err == nil || !strings.Contains(err.Error(), "refuses this") {
		t.Errorf("got %v", err)
	}
	w.want(t, 1, 1, 1)
}

func TestOutageBothersNobody(t *testing.T) {
	w := start(t)
	w.works(t)
	w.revoke(t)
	w.as.Token.Next(oauthtest.Unavailable("1"))
	var failed *freshtoken.RefreshError
	if _, err := w.program(t.Context()); !errors.As(err, &failed) || !failed.Temporary {
		t.Errorf("got %v, want a *RefreshError that is Temporary", err)
	}
	if n := w.logins.Load(); n != 1 {
		t.Errorf("%d logins, want the first alone", n)
	}
}

func TestRegistrationThatIsGoneIsMadeAgain(t *testing.T) {
	t.Run("the server has forgotten it", func(t *testing.T) {
		w := start(t)
		w.works(t)
		w.revoke(t)
		w.as.Token.Next(oauthtest.Error(http.StatusUnauthorized, "invalid_client"))
		w.works(t)
		w.want(t, 2, 2, 3)
		w.works(t)
		w.want(t, 2, 2, 3)
	})
	t.Run("the server has forgotten it, as is known before the request", func(t *testing.T) {
		w := start(t)
		w.works(t)
		h, err := open(t.Context(), w.options())
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		w.as.Token.Next(oauthtest.Error(http.StatusUnauthorized, "invalid_client"))
		if _, err := h.src.Refresh(t.Context(), nil); !unknownClient(err) {
			t.Fatalf("got %v, want invalid_client", err)
		}
		if err := list(t.Context(), h, io.Discard); err != nil {
			t.Error(err)
		}
		w.want(t, 2, 2, 3)
	})
	t.Run("the secret has expired", func(t *testing.T) {
		w := start(t)
		w.registers(http.StatusCreated, `{"client_id":"ID","client_secret":"`+secret+`","client_secret_expires_at":1}`)
		w.works(t)
		w.works(t)
		w.want(t, 2, 2, 2)
	})
}

func TestClientWithoutASecret(t *testing.T) {
	w := start(t)
	w.registers(http.StatusCreated, `{"client_id":"client","token_endpoint_auth_method":"none"}`)
	w.works(t)
	w.revoke(t)
	w.works(t)
	w.want(t, 1, 1, 2)
}

func TestRefusedRegistration(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		answer string
		want   string
	}{
		"refused":           {http.StatusBadRequest, `{"error":"invalid_redirect_uri"}`, "invalid_redirect_uri"},
		"cut off":           {http.StatusCreated, `{"client_id":"ID","client_secret":"` + secret, "makes no sense"},
		"no identifier":     {http.StatusCreated, `{"client_secret":"` + secret + `"}`, "makes no sense"},
		"another way of it": {http.StatusCreated, `{"client_id":"ID","client_secret":"` + secret + `","token_endpoint_auth_method":"tls_client_auth"}`, "tls_client_auth"},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t)
			w.registers(c.status, c.answer)
			_, err := w.program(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secret) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if n := w.logins.Load(); n != 0 {
				t.Errorf("%d logins", n)
			}
		})
	}
}

func TestRefusedLoginKeepsTheRegistration(t *testing.T) {
	w := start(t)
	w.as.Authorization.Next(oauthtest.Deny("access_denied"))
	var refused *login.ServerError
	if _, err := w.program(t.Context()); !errors.As(err, &refused) || refused.Code != "access_denied" {
		t.Errorf("got %v, want access_denied", err)
	}
	w.works(t)
	w.want(t, 1, 2, 1)
}

func TestTwoAtOnceRegisterAndLogInOnce(t *testing.T) {
	w := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if out, err := w.program(ctx); err != nil || out != "greet: says hello\n" {
				t.Errorf("got %q, %v", out, err)
			}
		})
	}
	both.Wait()
	w.want(t, 1, 1, 1)
}

func TestTokensAreForTheServer(t *testing.T) {
	w := start(t)
	w.works(t)
	w.revoke(t)
	w.works(t)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.resources) != 2 || w.resources[0] != w.server || w.resources[1] != w.server {
		t.Errorf("tokens for %q, want two for %s", w.resources, w.server)
	}
}

func TestForgotten(t *testing.T) {
	w := start(t)
	w.works(t)
	access := w.token(t)
	h, err := open(t.Context(), w.options())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.forget(t.Context()), h.Close()); err != nil {
		t.Error(err)
	}
	if w.as.AccessAlive(access) {
		t.Error("the session is alive")
	}
	w.works(t)
	w.want(t, 2, 2, 2)
}

func TestNoTokenWithoutTLS(t *testing.T) {
	o := start(t).options()
	o.server = "http://mcp.example.com/mcp"
	if _, err := open(t.Context(), o); err == nil {
		t.Error("plain http was accepted")
	}
}
