package login

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/endpoint"
)

// BrowserLogout ends the person's session at the server too, in the browser
// (OpenID Connect RP-Initiated Logout 1.0): without that, the next login may go
// through unasked, as the same person. Its Logout is for Config.EndSession:
//
//	cfg.EndSession = login.BrowserLogout{URL: metadata.EndSessionEndpoint}.Logout
//
// Programs whose users share a browser with nobody do well without.
type BrowserLogout struct {
	// URL is the server's end_session_endpoint. Required.
	URL string

	// RedirectURL is where the browser comes back to, a loopback URL like that
	// of Loopback, which the server must know as a post-logout redirect URI of
	// the client. Empty: the browser stays at the server, and Logout does not
	// wait for it.
	RedirectURL string

	// Prompt is how to reach the person: its Browse.
	Prompt Prompt

	// Timeout is how long the person has. Zero means 5 minutes.
	Timeout time.Duration

	// Page, if not nil, makes the page that the browser shows at the end, as
	// that of Loopback does.
	Page func(err error) []byte
}

// Logout opens the server's logout in the browser, with an ID token of the
// session, if there is one, to tell whose it is. It returns when the
// browser is back, or ctx is done; its errors are those of a login.
func (b BrowserLogout) Logout(ctx context.Context, cfg freshtoken.Config, idToken string) error {
	if err := b.logout(ctx, &cfg, idToken); err != nil {
		return named(err)
	}
	return nil
}

func (b BrowserLogout) logout(ctx context.Context, cfg *freshtoken.Config, idToken string) error {
	if err := reachable(b.Prompt.Browse != nil, "Browse"); err != nil {
		return err
	}
	if b.URL == "" {
		return errors.New("BrowserLogout.URL is empty: set it to the server's end_session_endpoint")
	}
	if err := endpoint.CheckURL(b.URL, cfg.InsecureHTTP); err != nil {
		return fmt.Errorf("BrowserLogout.URL %w", err)
	}
	u, err := url.Parse(b.URL)
	if err != nil {
		return errors.New("BrowserLogout.URL is no URL")
	}
	form := url.Values{"client_id": {cfg.OAuth2.ClientID}}
	if idToken != "" {
		form.Set("id_token_hint", idToken)
	}
	address := func() string {
		to := *u
		to.RawQuery = strings.TrimPrefix(u.RawQuery+"&"+form.Encode(), "&")
		return to.String()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if b.RedirectURL == "" {
		asked := ask(func() error { return b.Prompt.browse(ctx, errand{to: "log out", address: address()}) })
		asked.leave()
		select {
		case err := <-asked.failed:
			return fmt.Errorf("asking to log out: %w", err)
		default:
			return nil
		}
	}
	state := rand.Text()
	page := b.Page
	if page == nil {
		page = logoutPage
	}
	r, err := listen(b.RedirectURL, state, page)
	if err != nil {
		return err
	}
	form.Set("post_logout_redirect_uri", r.uri)
	form.Set("state", state)
	_, err = r.await(ctx, cfg, b.Prompt, errand{to: "log out", address: address(), back: r.uri}, b.Timeout) // that the state is right is all that it tells
	cancel()
	r.close(err)
	return err
}
