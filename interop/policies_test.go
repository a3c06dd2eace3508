package interop_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// A policy is what a server may be told of the life of refresh tokens that
// rotate. Zero: nothing.
type policy struct {
	Reuse    time.Duration // how long one stays good after it was spent
	Absolute time.Duration // of all of a session, from the login on
	Idle     time.Duration // of each, unless it is used
}

// policies are the rows of the table for servers that have such a policy. The
// tests move the server's clock; nobody waits.
var policies = []property{
	{"reuse interval", 3600, (*subject).showReuseInterval},
	{"absolute lifetime", 3600, (*subject).showAbsolute},
	{"idle lifetime", 3600, (*subject).showIdle},
}

// untried says why a property, by its name, is not tried with a server, by its
// folder.
var untried = map[string]map[string]string{
	"narrower access token": {
		"nodeoauth":  "its model has no scopes",
		"nodeoauth2": "its model has no scopes",
	},
	"reuse interval": {
		"oidcprovider": "it has no such setting",
		"nodeoauth":    "that is for the model, and the one here is strict",
		"nodeoauth2":   "a spent refresh token stays good",
		"oauth2proxy":  "the tokens are oidc-provider's",
		"fosite":       "that is for the storage, and its memory store is strict",
	},
	"absolute lifetime": {
		"oidcprovider": "each refresh token has a life of its own, unless one programs it",
		"nodeoauth":    "each refresh token has a life of its own",
		"nodeoauth2":   "each refresh token has a life of its own",
		"oauth2proxy":  "the tokens are oidc-provider's",
		"fosite":       "each refresh token has a life of its own",
	},
	"idle lifetime": {
		"oauth2proxy": "the tokens are oidc-provider's",
	},
}

// What is not tried has a name in the table.
func TestUntriedAreInTheTable(t *testing.T) {
	known := make(map[string]bool)
	for _, p := range properties {
		known[p.name] = true
	}
	for _, k := range kinds {
		known[k.dir] = true
	}
	for name, why := range untried {
		for dir, reason := range why {
			if !known[name] || !known[dir] || reason == "" {
				t.Errorf("%q of %q is not tried because %q", name, dir, reason)
			}
		}
	}
}

// pass lets time pass at the server.
func (s *server) pass(by time.Duration) {
	s.t.Helper()
	s.control("pass", url.Values{"seconds": {fmt.Sprint(int(by.Seconds()))}}, new(struct{}))
}

// refused returns what Refresh says of a session whose refresh token the server
// refuses: in the end, if the server is not clear about it.
func (x *subject) refused(src *freshtoken.Source) error {
	x.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := src.Refresh(x.t.Context(), nil)
		var e *freshtoken.RefreshError
		if errors.Is(err, freshtoken.ErrSessionEnded) || !errors.As(err, &e) || !e.Temporary {
			return err
		}
		select {
		case <-tick.C:
		case <-deadline:
			x.t.Fatalf("no end of it: %v", err)
		}
	}
}

// A refresh token may be shown again for a while, in case that the answer was
// lost.
func (x *subject) showReuseInterval() string {
	const interval = time.Minute
	x = x.under(policy{Reuse: interval})
	first := x.login()
	src, listener := x.session(first)
	x.refreshed(src)
	said := "the first refresh brings a new refresh token"
	if listener.refreshToken() == first.RefreshToken {
		said = "within it, the first refresh brings the refresh token of the login"
	}
	x.pass(2 * interval)
	x.refreshed(src)
	second := listener.refreshToken()
	again, err := x.app.refresh(first.RefreshToken)
	switch {
	case err != nil || second == first.RefreshToken:
		x.t.Fatalf("the interval does not show: %v", err)
	case again.RefreshToken == second:
		said += ", and a spent one brings the one that has replaced it"
	default:
		said += ", and a spent one brings another new one"
	}
	x.pass(2 * interval)
	said += "; after a lost response " + x.lose(&oauth2.Token{RefreshToken: second})
	x.pass(2 * interval)
	return said + "; after it, a spent one gets " + x.spend(second)
}

// A session ends so long after the login, whatever happens.
func (x *subject) showAbsolute() string {
	const life = 2 * time.Hour
	x = x.under(policy{Absolute: life})
	src, _ := x.session(x.login())
	for range 2 {
		x.pass(life / 3)
		x.refreshed(src)
	}
	x.pass(life/3 + time.Minute)
	said := "whatever is refreshed, then: " + x.wantRefused(x.refused(src))
	x.loginHelps()
	return said
}

// A session ends when nobody has refreshed it for so long.
func (x *subject) showIdle() string {
	const life = 2 * time.Hour
	x = x.under(policy{Idle: life})
	src, _ := x.session(x.login())
	for range 2 {
		x.pass(life * 3 / 4)
		x.refreshed(src)
	}
	x.pass(life + time.Minute)
	said := "each refresh starts it anew; then: " + x.wantRefused(x.refused(src))
	x.loginHelps()
	return said
}

// loginHelps fails the test unless a new login starts a session that lives.
func (x *subject) loginHelps() {
	x.t.Helper()
	src, _ := x.session(x.login())
	x.refreshed(src)
}

// lose has the answer to a refresh get lost, and says what becomes of the
// session.
func (x *subject) lose(tok *oauth2.Token) string {
	x.t.Helper()
	cfg := x.app.config(storage.NewMemory())
	cfg.HTTPClient = &http.Client{Transport: &cut{}}
	src := x.source(cfg)
	if err := src.SetToken(x.t.Context(), tok); err != nil {
		x.t.Fatal(err)
	}
	// A Source tries once more by itself, so the first error may be the last.
	_, err := src.Refresh(x.t.Context(), tok)
	if e := new(freshtoken.RefreshError); err != nil && !errors.Is(err, freshtoken.ErrSessionEnded) &&
		(!errors.As(err, &e) || !e.Temporary || !e.OutcomeUnknown && e.Interrupted.IsZero()) {
		x.t.Fatalf("got error %v, want one that is Temporary, and tells of the interruption", err)
	}
	if err != nil {
		err = x.refused(src)
	}
	if err == nil {
		newer, err := src.Token(x.t.Context())
		if err != nil {
			x.t.Fatal(err)
		}
		if alive := x.lives(newer); alive != "the access token lives on" {
			x.t.Errorf("after the retry: %s", alive)
		}
		return "the session goes on with the next attempt"
	}
	said := x.wantRefused(err)
	if e := new(freshtoken.RefreshError); !errors.As(err, &e) || e.Interrupted.IsZero() {
		x.t.Errorf("the error does not tell that a refresh was interrupted: %v", err)
	}
	if strings.Contains(said, "Uncertain") {
		return "the attempts that follow end it: " + said
	}
	return "the next attempt ends it: " + said
}
