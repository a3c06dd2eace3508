package freshtoken_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// What the server has against the session's own refresh does not take a target's
// token away for long, nor a living session: the target comes back after one failure
// of its own.
func TestTargetBesideTroubleOfTheSession(t *testing.T) {
	for name, own := range map[string]func() *http.Response{
		"unavailable":      func() *http.Response { return refusalOf(503, "", "") },
		"answers are lost": func() *http.Response { return refusalOf(500, "", "") },
		"a resource is wanted": func() *http.Response {
			return refusalOf(400, `{"error":"invalid_target"}`, "")
		},
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{AccessLifetime: 5 * time.Minute})
			var hiccup atomic.Bool
			var logins atomic.Int64
			src := w.loggedIn(w.by(func(ofTarget bool) *http.Response {
				switch {
				case !ofTarget:
					return own()
				case hiccup.Swap(false):
					return refusalOf(503, "", "")
				}
				return nil
			}), func(c *freshtoken.Config) {
				c.Reauthenticate = freshtoken.AuthenticatorFunc(func(context.Context, freshtoken.Config) (*oauth2.Token, error) {
					logins.Add(1)
					return w.as.Login("alice"), nil
				})
			})
			d := w.target(src, files)
			for range 30 { // half an hour, without the session's own
				w.usable(d)
				time.Sleep(time.Minute)
			}
			hiccup.Store(true)
			without := 0
			for range 3600 {
				_, err := d.Token(t.Context())
				if err != nil {
					without++
				}
				if errors.Is(err, freshtoken.ErrSessionEnded) {
					t.Fatalf("the session lives: %v", err)
				}
				time.Sleep(time.Second)
			}
			if without > 10 || logins.Load() > 0 {
				t.Errorf("for %d seconds of an hour there was no token, and %d people were asked to log in", without, logins.Load())
			}
		})
	}
}

// A target that is due, and fails once, is tried again before its token expires.
func TestTargetThatFailedOnceIsRefreshedInTime(t *testing.T) {
	inBubble(t, "in a program that uses nothing else", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Hour})
		d := w.target(w.loggedIn(), files)
		tok := w.token(d)
		time.Sleep(55*time.Minute + 31*time.Second) // due
		w.as.Token.Next(oauthtest.Unavailable(""))
		for time.Until(tok.Expiry) > time.Second {
			w.usable(d)
			time.Sleep(time.Second)
		}
		if w.token(d).AccessToken == tok.AccessToken {
			t.Errorf("a second before it expires it is still the same, after %d requests", w.posts())
		}
	})
	for _, f := range []oauthtest.Fault{oauthtest.Unavailable(""), oauthtest.Refuse(), oauthtest.Unavailable("2")} {
		inBubble(t, "the outage ends ten seconds before the expiry: "+f.Name, func(t *testing.T) {
			for range 20 {
				w := newWorld(t, oauthtest.Options{AccessLifetime: time.Hour})
				src := w.loggedIn()
				d := w.target(src, files)
				expiry := w.token(d).Expiry
				time.Sleep(40 * time.Minute)
				if _, err := src.Refresh(t.Context(), nil); err != nil { // the session's own is fresh
					t.Fatal(err)
				}
				time.Sleep(15*time.Minute + 31*time.Second)
				w.as.Token.Always(f)
				for time.Until(expiry) > 10*time.Second {
					w.usable(d)
					time.Sleep(500 * time.Millisecond)
				}
				w.as.Token.Always(oauthtest.Fault{})
				time.Sleep(10*time.Second + time.Millisecond)
				w.usable(d)
			}
		})
	}
}

// An outage is met once, not by each program and each target anew; and a refresh
// token that may be spent is not sent by all of them, as long as their tokens are
// good.
func TestTargetOutageIsShared(t *testing.T) {
	for _, f := range []oauthtest.Fault{oauthtest.Unavailable(""), oauthtest.LoseAnswer()} {
		inBubble(t, "by programs that are started one after the other: "+f.Name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{AccessLifetime: time.Hour, Grace: 24 * time.Hour})
			w.usable(w.target(w.loggedIn(), files))
			time.Sleep(56 * time.Minute) // due, and good for four minutes
			w.as.Token.Always(f)
			before := w.posts()
			for range 200 {
				p, err := freshtoken.New(w.config())
				if err != nil {
					t.Fatal(err)
				}
				w.usable(w.target(p, files))
				p.Close()
				time.Sleep(time.Second)
			}
			if n := w.posts() - before; n > 20 {
				t.Errorf("%d requests in 200 seconds of outage", n)
			}
		})
	}
	inBubble(t, "by programs that have no token", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Hour})
		w.loggedIn().Close()
		time.Sleep(2 * time.Hour)
		w.as.Token.Always(oauthtest.Drop())
		for range 600 {
			p, err := freshtoken.New(w.config())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.target(p, files).Token(t.Context()); err == nil {
				t.Error("a token")
			}
			p.Close()
			time.Sleep(time.Second)
		}
		if n := w.posts(); n > 60 {
			t.Errorf("%d requests in ten minutes of outage", n)
		}
	})
	inBubble(t, "by eight targets of one program", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Hour, Grace: 24 * time.Hour})
		src := w.loggedIn()
		w.use(src, 8)
		time.Sleep(40 * time.Minute)
		if _, err := src.Refresh(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(16 * time.Minute)
		w.as.Token.Always(oauthtest.LoseAnswer())
		before := w.posts()
		for range 400 {
			w.use(src, 8)
			time.Sleep(500 * time.Millisecond)
		}
		if n := w.posts() - before; n > 4 {
			t.Errorf("a refresh token that may be spent was sent %d times, with all access tokens good", n)
		}
	})
}

// The pause that a server names is kept, and hardly exceeded, for a target, too; and
// a new session knows nothing of the trouble of the one before.
func TestTargetPauses(t *testing.T) {
	inBubble(t, "R9110-10.2.3 named by the server", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		d := w.target(w.loggedIn(), files)
		w.as.Token.Always(oauthtest.Unavailable("2"))
		for i := range 10 {
			_, err := d.Token(t.Context())
			if e := refreshError(t, err); e.RetryAfter < 2*time.Second || e.RetryAfter > 4*time.Second {
				t.Errorf("after attempt %d the pause is %v", i, e.RetryAfter)
			} else {
				time.Sleep(e.RetryAfter)
			}
		}
		w.wantPosts(10)
	})
	inBubble(t, "of the session before", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn()
		d := w.target(src, files)
		w.as.Token.Always(oauthtest.Unavailable(""))
		for range 300 {
			d.Token(t.Context())
			time.Sleep(time.Second)
		}
		w.as.Token.Always(oauthtest.Fault{})
		w.login(src)
		w.as.Token.Next(oauthtest.Unavailable(""))
		_, err := d.Token(t.Context())
		if e := refreshError(t, err); e.RetryAfter > 2*time.Second {
			t.Errorf("the first failure is followed by a pause of %v", e.RetryAfter)
		}
	})
	inBubble(t, "of many targets are not kept for ever", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Hour})
		src := w.loggedIn()
		w.as.Token.Always(oauthtest.Unavailable(""))
		for i := range 100 {
			d := w.target(src, freshtoken.Target{Resources: []string{fmt.Sprintf("https://api%d.test", i)}})
			for range 3 {
				d.Token(t.Context())
				time.Sleep(time.Second)
			}
		}
		if n := len(w.stored()); n > 20<<10 {
			t.Errorf("the stored session has %d bytes", n)
		}
	})
}
