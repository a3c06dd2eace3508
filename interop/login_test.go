package interop_test

import (
	"context"
	"errors"
	"testing"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/login"
	"golang.org/x/oauth2"
)

// A way is one to sign in as alice.
type way struct {
	name string
	flow freshtoken.Authenticator
}

var (
	byPassword = way{"password", freshtoken.AuthenticatorFunc(
		func(ctx context.Context, cfg freshtoken.Config) (*oauth2.Token, error) {
			return cfg.OAuth2.PasswordCredentialsToken(ctx, "alice", "wonderland")
		})}
	byCode = way{"authorization code with PKCE", freshtoken.AuthenticatorFunc(
		func(ctx context.Context, cfg freshtoken.Config) (*oauth2.Token, error) {
			return alice().authenticate(ctx, cfg)
		})}
	byDevice = way{"device code", login.Device{Prompt: login.Prompt{
		Show: func(ctx context.Context, c login.Code) error { return alice().approveDevice(ctx, c.Address, c.Code) },
	}}}
)

// authenticate logs in by login.Loopback, with b as the browser of this machine.
func (b *browser) authenticate(ctx context.Context, cfg freshtoken.Config) (*oauth2.Token, error) {
	return visit(b.approve).loopback().Authenticate(ctx, cfg)
}

// A visit is what a user does who is sent to an address.
type visit func(ctx context.Context, address string) error

// prompt is a Prompt that sends the user on a visit. The context ends when that
// fails. done waits until it is over, and adds how it went to an error.
func (v visit) prompt(ctx context.Context) (_ context.Context, p login.Prompt, done func(error) error) {
	outside := context.WithoutCancel(ctx) // a browser shows its last page when the login is over
	ctx, giveUp := context.WithCancelCause(ctx)
	came := make(chan error, 1)
	begun := false
	p.Browse = func(_ context.Context, address string) error {
		begun = true
		go func() {
			err := v(outside, address)
			if err != nil {
				giveUp(err)
			}
			came <- err
		}()
		return nil
	}
	return ctx, p, func(err error) error {
		if begun {
			err = errors.Join(err, <-came)
		}
		giveUp(nil)
		return err
	}
}

// loopback logs in by login.Loopback.
func (v visit) loopback() freshtoken.Authenticator {
	return freshtoken.AuthenticatorFunc(func(ctx context.Context, cfg freshtoken.Config) (*oauth2.Token, error) {
		ctx, prompt, done := v.prompt(ctx)
		tok, err := login.Loopback{Prompt: prompt}.Authenticate(ctx, cfg)
		return tok, done(err)
	})
}

// logout is a Config.EndSession that logs out by login.BrowserLogout. back is
// where the browser comes back to; "": it stays at the server.
func (v visit) logout(endpoint, back string) func(context.Context, freshtoken.Config, string) error {
	return func(ctx context.Context, cfg freshtoken.Config, idToken string) error {
		ctx, prompt, done := v.prompt(ctx)
		return done(login.BrowserLogout{URL: endpoint, RedirectURL: back, Prompt: prompt}.Logout(ctx, cfg, idToken))
	}
}

// The user may say no, and the harness's browser can.
func TestDeniedConsent(t *testing.T) {
	s := startServer(t)
	user := alice()
	user.fill["decision"] = "deny"
	cfg := s.site(public).config(nil)
	if _, err := user.authenticate(t.Context(), cfg); !errors.Is(err, login.ErrDenied) {
		t.Errorf("got error %v, want ErrDenied", err)
	}
}

func TestWrongPassword(t *testing.T) {
	s := startServer(t)
	user := alice()
	user.fill["password"] = "guess"
	if _, err := user.authenticate(t.Context(), s.site(public).config(nil)); err == nil {
		t.Error("a wrong password signs in")
	}
}
