package freshtoken_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/mark"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// ownGrant is a ConfigRefresher of a program's own.
type ownGrant struct {
	form url.Values
	err  error
}

func (g ownGrant) ForConfig(cfg freshtoken.Config) (freshtoken.Refresher, error) {
	return freshtoken.RefresherFunc(func(ctx context.Context, _ *oauth2.Token) (*oauth2.Token, error) {
		return cfg.RequestToken(ctx, g.form)
	}), g.err
}

func (ownGrant) Refresh(context.Context, *oauth2.Token) (*oauth2.Token, error) {
	return nil, errors.New("called without a Config")
}

func (g ownGrant) Authenticate(ctx context.Context, cfg freshtoken.Config) (*oauth2.Token, error) {
	return cfg.RequestToken(ctx, g.form)
}

func serviceConfig(srv *oauthtest.Server, r freshtoken.Refresher) freshtoken.Config {
	return freshtoken.Config{OAuth2: srv.OAuth2(), HTTPClient: srv.Client(), Refresher: r}
}

// A ConfigRefresher works for the Config that it stands in, and begins its session.
func TestConfigRefresher(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{ClientSecret: mark.New(mark.ClientSecret)})
	own := ownGrant{form: url.Values{"grant_type": {"client_credentials"}}}
	src, err := freshtoken.New(serviceConfig(srv, own))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	for range 2 {
		if _, err := src.Refresh(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := srv.Stats().ClientCredentials; n != 2 {
		t.Errorf("%d tokens", n)
	}
	t.Run("an Authenticator of the program's own goes first", func(t *testing.T) {
		cfg := serviceConfig(srv, own)
		nobody := errors.New("nobody is there")
		cfg.Reauthenticate = freshtoken.AuthenticatorFunc(func(context.Context, freshtoken.Config) (*oauth2.Token, error) { return nil, nobody })
		src, err := freshtoken.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		if _, err := src.Token(t.Context()); !errors.Is(err, nobody) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("New fails if it does", func(t *testing.T) {
		wrong := errors.New("it will not do")
		if src, err := freshtoken.New(serviceConfig(srv, ownGrant{err: wrong})); src != nil || !errors.Is(err, wrong) {
			t.Errorf("got %v", err)
		}
	})
}

func TestRequestToken(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{ClientSecret: mark.New(mark.ClientSecret)})
	login := srv.Login("alice")
	cfg := serviceConfig(srv, nil)
	cfg.OAuth2.Endpoint.AuthStyle = oauth2.AuthStyleInParams // which adds to the form
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {login.RefreshToken}}
	ask := func(f *oauthtest.Fault) error {
		t.Helper()
		if f != nil {
			srv.Token.Next(*f)
		}
		tok, err := cfg.RequestToken(t.Context(), form)
		if (tok == nil) != (err != nil) {
			t.Fatalf("a token and %v", err)
		}
		return err
	}
	before := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {login.RefreshToken}}
	if err := ask(nil); err != nil || !reflect.DeepEqual(form, before) {
		t.Errorf("got %v, and the form has %d parameters", err, len(form))
	}
	faults := append(append(append(oauthtest.DeadGrants(), oauthtest.OddRefusals()...), oauthtest.Outages()...), oauthtest.LostAnswers()...)
	faults = append(faults, oauthtest.BadAnswers()...)
	for _, f := range faults {
		if strings.Contains(f.Name, "stall") || strings.Contains(f.Name, "hang") {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			err := ask(&f)
			failed := new(freshtoken.RefreshError)
			switch {
			case err == nil: // the answer is odd, and has a token: nothing to blame
				return
			case !errors.As(err, &failed):
				t.Fatalf("got %v", err)
			case errors.Is(err, freshtoken.ErrSessionEnded) || failed.OutcomeUnknown || failed.Uncertain:
				t.Errorf("it says something of the session: %+v", failed)
			case !failed.Temporary && !errors.Is(err, freshtoken.ErrBadToken):
				t.Errorf("it does not pass: %+v", failed)
			}
			if found := mark.In([]byte(fmt.Sprintf("%v %+v %#v", err, failed, *failed))); len(found) > 0 {
				t.Errorf("it shows %v", found)
			}
		})
	}
	for _, f := range oauthtest.ClientRefusals() {
		t.Run(f.Name, func(t *testing.T) {
			failed := new(freshtoken.RefreshError)
			if err := ask(&f); !errors.As(err, &failed) || failed.Temporary || errors.Is(err, freshtoken.ErrSessionEnded) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("what the server repeats is hidden, and names are not", func(t *testing.T) {
		secret := mark.New(mark.Value)
		form := url.Values{"grant_type": {"urn:example:grant:of-our-own"}, "ticket": {secret}}
		srv.Token.Next(oauthtest.JSON(400, `{"error":"invalid_grant","error_description":"the ticket `+secret[:20]+`"}`))
		_, err := cfg.RequestToken(t.Context(), form)
		if err == nil || len(mark.In([]byte(err.Error()))) > 0 {
			t.Errorf("got %v", err != nil)
		}
		if _, err = cfg.RequestToken(t.Context(), form); err == nil || !strings.Contains(err.Error(), "allow it the grant type urn:example:grant:of-our-own") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no form at all", func(t *testing.T) {
		if _, err := cfg.RequestToken(t.Context(), nil); err == nil {
			t.Error("there is a token")
		}
	})
	t.Run("without a token endpoint", func(t *testing.T) {
		c := freshtoken.Config{OAuth2: new(oauth2.Config), Refresher: ownGrant{}}
		if _, err := c.RequestToken(t.Context(), form); err == nil || !strings.Contains(err.Error(), "TokenURL") {
			t.Errorf("got %v", err)
		}
	})
}

// A Refresher may fail with what is wrong with another session, as the cause.
func TestEndOfAnotherSession(t *testing.T) {
	asked := 0
	src, err := freshtoken.New(freshtoken.Config{OAuth2: new(oauth2.Config),
		Refresher: freshtoken.RefresherFunc(func(context.Context, *oauth2.Token) (*oauth2.Token, error) {
			return nil, &freshtoken.RefreshError{Temporary: true, Err: freshtoken.ErrSessionEnded}
		}),
		Reauthenticate: freshtoken.AuthenticatorFunc(func(context.Context, freshtoken.Config) (*oauth2.Token, error) {
			asked++
			return nil, errors.New("nobody is there")
		})})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	tok := &oauth2.Token{AccessToken: "at", TokenType: "Bearer"}
	if err := src.SetToken(t.Context(), tok); err != nil {
		t.Fatal(err)
	}
	_, err = src.Refresh(t.Context(), tok)
	if !errors.Is(err, freshtoken.ErrSessionEnded) || asked != 0 || src.Status().State != freshtoken.StateAlive {
		t.Errorf("%v, %d logins, %v", err, asked, src.Status().State)
	}
}

// helper is a ConfigRefresher of a program's own.
type helper struct {
	tok  *oauth2.Token
	err  error
	asks int
}

func (h *helper) ForConfig(freshtoken.Config) (freshtoken.Refresher, error) { return h, nil }

func (h *helper) Refresh(context.Context, *oauth2.Token) (*oauth2.Token, error) {
	h.asks++
	return h.tok, h.err
}

func (h *helper) Authenticate(ctx context.Context, _ freshtoken.Config) (*oauth2.Token, error) {
	return h.Refresh(ctx, nil)
}

// Whatever the first token fails of, it is told as that of any other, and asked for
// again as soon.
func TestFirstTokenOfAHelper(t *testing.T) {
	secret := mark.New(mark.ClientSecret)
	for name, h := range map[string]*helper{
		"an error of its own":     {err: errors.New("the helper is not running")},
		"one with a secret in it": {err: errors.New("cannot run helper -secret=" + secret)},
		"nothing":                 {},
		"a token of another type": {tok: &oauth2.Token{AccessToken: "x", TokenType: "DPoP"}},
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{})
			var failed atomic.Int64
			src := w.source(func(cfg *freshtoken.Config) {
				cfg.Refresher = h
				cfg.OAuth2.ClientSecret = secret
				cfg.OnAttempt = func(a freshtoken.Attempt) {
					if a.Outcome == freshtoken.OutcomeFailed {
						failed.Add(1)
					}
				}
			})
			_, err := src.Token(t.Context())
			if e := refreshError(t, err); !e.Temporary || e.RetryAfter > time.Second || errors.Is(err, freshtoken.ErrNoSession) || strings.Contains(err.Error(), secret) {
				t.Errorf("got %v", err)
			}
			synctest.Wait()
			if n := failed.Load(); n != 1 {
				t.Errorf("told of %d attempts that failed", n)
			}
			time.Sleep(time.Second)
			src.Token(t.Context())
			if h.asks != 2 {
				t.Errorf("asked %d times", h.asks)
			}
		})
	}
}
