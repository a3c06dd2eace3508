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
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	outside := context.WithoutCancel(ctx) // a browser shows its last page when the login is over
	came := make(chan error, 1)
	opened := false
	browse := func(_ context.Context, address string) error {
		opened = true
		go func() {
			err := b.approve(outside, address)
			if err != nil {
				giveUp(err)
			}
			came <- err
		}()
		return nil
	}
	tok, err := login.Loopback{Prompt: login.Prompt{Browse: browse}}.Authenticate(ctx, cfg)
	if opened {
		err = errors.Join(err, <-came)
	}
	return tok, err
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
