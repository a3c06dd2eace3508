package freshtoken_test

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// with returns a token whose answer had other members, too.
func with(tok *oauth2.Token, members map[string]any) *oauth2.Token { return tok.WithExtra(members) }

// wantExpiry compares what Status tells with a time from now on; zero: nothing.
func wantExpiry(t *testing.T, src *freshtoken.Source, in time.Duration) {
	t.Helper()
	got := src.Status().RefreshExpiry
	if in == 0 && !got.IsZero() || in != 0 && !got.Equal(time.Now().Add(in)) {
		t.Errorf("RefreshExpiry is in %v, want %v", time.Until(got), in)
	}
}

func TestRefreshExpiry(t *testing.T) {
	const decade = 315569520 * time.Second
	for _, c := range []struct {
		name    string
		members map[string]any
		want    time.Duration
	}{
		{"nothing", nil, 0},
		{"RTX-1: refresh_token_timeout as it stands", map[string]any{"refresh_token_timeout": 315569520}, decade},
		{"RTX-1: authorization_expires_in as it stands", map[string]any{"authorization_expires_in": 315569520}, decade},
		{"RTX-1: whichever comes first", map[string]any{"refresh_token_timeout": 7200, "authorization_expires_in": 3600}, time.Hour},
		{"refresh_token_expires_in", map[string]any{"refresh_token_expires_in": 1209600}, 14 * 24 * time.Hour},
		{"refresh_expires_in", map[string]any{"refresh_expires_in": 1800}, 30 * time.Minute},
		{"zero, for a token that does not expire", map[string]any{"refresh_expires_in": 0}, 0},
		{"the shorter of two", map[string]any{"refresh_expires_in": 1800, "refresh_token_expires_in": 600}, 10 * time.Minute},
		{"a string", map[string]any{"refresh_token_expires_in": "600"}, 10 * time.Minute},
		{"a fraction", map[string]any{"refresh_token_expires_in": 600.5}, 600500 * time.Millisecond},
		{"less than nothing", map[string]any{"refresh_token_expires_in": -5}, 0},
		{"huge", map[string]any{"refresh_token_expires_in": 1e300}, 100 * 365 * 24 * time.Hour},
		{"a huge string", map[string]any{"refresh_token_expires_in": "1e400"}, 100 * 365 * 24 * time.Hour},
		{"no number", map[string]any{"refresh_token_expires_in": true, "refresh_expires_in": "soon", "authorization_expires_in": []int{1}}, 0},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{})
			src := w.source()
			if err := src.SetToken(t.Context(), with(w.as.Login("alice"), c.members)); err != nil {
				t.Fatal(err)
			}
			wantExpiry(t, src, c.want)
			other := w.source() // reads it from the store
			w.token(other)
			wantExpiry(t, other, c.want)
		})
	}
	inBubble(t, "it counts from when the token was asked for", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Hour})
		tok := with(w.as.Login("alice"), map[string]any{"refresh_token_expires_in": 7200})
		tok.ExpiresIn, tok.Expiry = 3600, time.Now().Add(time.Hour)
		time.Sleep(20 * time.Minute)
		src := w.source()
		if err := src.SetToken(t.Context(), tok); err != nil {
			t.Fatal(err)
		}
		wantExpiry(t, src, 100*time.Minute)
	})
	inBubble(t, "a record with nonsense in it says nothing", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		w.loggedIn()
		for _, life := range []string{`{"from":"0001-01-01T00:00:00Z","lasts_ns":1000}`, `{"lasts_ns":-1}`, `null`,
			`{"from":"2024-01-01T00:00:00Z","lasts_ns":9223372036854775807}`} {
			w.restore(strings.Replace(w.stored(), `"access_token"`, `"refresh_life":`+life+`,"access_token"`, 1))
			src := w.source()
			w.token(src)
			wantExpiry(t, src, 0)
		}
	})
}

// What a refresh says of the life of the refresh token, and what it does not say.
func TestRefreshExpiryAfterARefresh(t *testing.T) {
	for _, c := range []struct {
		name    string
		options oauthtest.Options
		answer  oauthtest.Fault
		want    time.Duration // half an hour after a login that said two hours, and four for the grant
	}{
		{"a new token with its own", oauthtest.Options{RefreshLifetime: time.Hour}, oauthtest.Fault{}, time.Hour},
		{"a new token of which nothing is said: the grant's is left", oauthtest.Options{}, oauthtest.Fault{}, 210 * time.Minute},
		{"no new token: the old one's", oauthtest.Options{Rotation: oauthtest.NoRotation}, oauthtest.Fault{}, 90 * time.Minute},
		{"no new token, but a new life", oauthtest.Options{Rotation: oauthtest.NoRotation}, oauthtest.SetMember("refresh_expires_in", "600"), 10 * time.Minute},
		{"no new token, which does not expire any more", oauthtest.Options{Rotation: oauthtest.NoRotation}, oauthtest.SetMember("refresh_expires_in", "0"), 210 * time.Minute},
		{"RTX-1: another end of the grant", oauthtest.Options{}, oauthtest.SetMember("authorization_expires_in", "60"), time.Minute},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			w := newWorld(t, c.options)
			src := w.source()
			if err := src.SetToken(t.Context(), with(w.as.Login("alice"), map[string]any{"refresh_expires_in": 7200, "authorization_expires_in": 14400})); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Minute)
			w.as.Token.Next(c.answer)
			if _, err := src.Refresh(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			wantExpiry(t, src, c.want)
		})
	}
	inBubble(t, "the same token again, of which nothing is said", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{Rotation: oauthtest.NoRotation})
		tok := w.as.Login("alice")
		src := w.source()
		if err := src.SetToken(t.Context(), with(tok, map[string]any{"refresh_expires_in": 7200})); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Minute)
		w.as.Token.Next(oauthtest.SetMember("refresh_token", `"`+tok.RefreshToken+`"`))
		if _, err := src.Refresh(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		wantExpiry(t, src, 90*time.Minute)
	})
}

func TestExpiringIsAnnounced(t *testing.T) {
	const life = 2 * time.Hour
	for _, background := range []bool{false, true} {
		inBubble(t, fmt.Sprintf("RTX-1: once, in time, background %t", background), func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{AccessLifetime: 24 * time.Hour})
			events := &recorder{}
			src := w.source(func(c *freshtoken.Config) { c.Background, c.OnEvent = background, events.receive })
			if err := src.SetToken(t.Context(), with(w.as.Login("alice"), map[string]any{"refresh_token_timeout": 7200})); err != nil {
				t.Fatal(err)
			}
			ask := func() {
				if !background {
					w.usable(src)
				}
				synctest.Wait()
			}
			time.Sleep(life - 13*time.Minute)
			if ask(); events.count(freshtoken.EventExpiring) != 0 {
				t.Error("too early")
			}
			time.Sleep(2 * time.Minute) // a tenth of its life is left
			if ask(); events.count(freshtoken.EventExpiring) != 1 {
				t.Error("no event")
			}
			for range 30 {
				time.Sleep(time.Minute)
				ask()
			}
			if n := events.count(freshtoken.EventExpiring); n != 1 {
				t.Errorf("%d events", n)
			}
			w.wantPosts(0) // the access token is fresh
		})
	}
	inBubble(t, "a refresh that puts off the end makes it needless", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: 10 * time.Minute, RefreshLifetime: 30 * time.Minute})
		events := &recorder{}
		src := w.source(func(c *freshtoken.Config) { c.OnEvent = events.receive })
		w.loginSaying(src, 30*time.Minute)
		for range 20 {
			time.Sleep(28 * time.Minute)
			w.usable(src)
		}
		synctest.Wait()
		if n := events.count(freshtoken.EventExpiring); n != 0 {
			t.Errorf("%d events", n)
		}
	})
	inBubble(t, "RTX-1: of an end that no refresh puts off, once for all refresh tokens", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: 5 * time.Minute})
		events := &recorder{}
		src := w.source(func(c *freshtoken.Config) { c.Background, c.OnEvent = true, events.receive })
		end := time.Now().Add(3 * time.Hour)
		w.as.Token.Func(func(*http.Request, int) oauthtest.Fault {
			return oauthtest.SetMember("refresh_expires_in", fmt.Sprint(int(time.Until(end)/time.Second)))
		})
		if err := src.SetToken(t.Context(), with(w.as.Login("alice"), map[string]any{"refresh_expires_in": 10800})); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3*time.Hour - 13*time.Minute) // a tenth of the whole is 18
		if n := events.count(freshtoken.EventExpiring); n != 1 {
			t.Errorf("%d events in time", n)
		}
		time.Sleep(12 * time.Minute)
		if n := events.count(freshtoken.EventExpiring); n != 1 {
			t.Errorf("%d events", n)
		}
		if n := w.posts(); n > 50 {
			t.Errorf("%d refreshes", n)
		}
	})
	inBubble(t, "of a token of which nobody knows how long it lives, in the background", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		events := &recorder{}
		src := w.source(func(c *freshtoken.Config) { c.Background, c.OnEvent = true, events.receive })
		tok := &oauth2.Token{AccessToken: "at", RefreshToken: w.as.Login("alice").RefreshToken}
		if err := src.SetToken(t.Context(), with(tok, map[string]any{"refresh_token_timeout": 7200})); err != nil {
			t.Fatal(err)
		}
		time.Sleep(115 * time.Minute)
		if n := events.count(freshtoken.EventExpiring); n != 1 {
			t.Errorf("%d events", n)
		}
	})
	inBubble(t, "and the background goes on after it", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: 3 * time.Hour})
		src := w.source(func(c *freshtoken.Config) { c.Background = true })
		w.loginSaying(src, 2*time.Hour)
		time.Sleep(4 * time.Hour)
		w.wantPosts(1)
		w.usable(src)
	})
	inBubble(t, "though the server is down", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: 10 * time.Minute, RefreshLifetime: time.Hour})
		events := &recorder{}
		src := w.source(func(c *freshtoken.Config) { c.OnEvent = events.receive })
		w.loginSaying(src, time.Hour)
		w.as.Token.Always(oauthtest.Unavailable(""))
		time.Sleep(55 * time.Minute)
		if _, err := src.Token(t.Context()); err == nil {
			t.Error("there is a token")
		}
		synctest.Wait()
		if n := events.count(freshtoken.EventExpiring); n != 1 {
			t.Errorf("%d events", n)
		}
	})
	inBubble(t, "nothing runs for it while idle", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.source()
		before := runtime.NumGoroutine()
		if err := src.SetToken(t.Context(), with(w.as.Login("alice"), map[string]any{"refresh_token_timeout": 7200})); err != nil {
			t.Fatal(err)
		}
		w.usable(src)
		synctest.Wait()
		if n := runtime.NumGoroutine(); n > before {
			t.Errorf("%d goroutines more", n-before)
		}
	})
}

// A server that ends sessions which are idle has none to end.
func TestKeepAlive(t *testing.T) {
	keep := func(c *freshtoken.Config) { c.Background, c.KeepAlive = true, true }
	sliding := oauthtest.Options{AccessLifetime: 30 * 24 * time.Hour, RefreshLifetime: time.Hour}
	for name, o := range map[string]oauthtest.Options{
		"an access token that outlives the refresh token": sliding,
		"many refreshes": {AccessLifetime: 3 * time.Hour, RefreshLifetime: 2 * time.Minute},
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, o)
			events := &recorder{}
			src := w.source(keep, func(c *freshtoken.Config) { c.OnEvent = events.receive })
			w.loginSaying(src, o.RefreshLifetime)
			time.Sleep(20 * o.RefreshLifetime)
			if _, err := src.Refresh(t.Context(), nil); err != nil {
				t.Error(err)
			}
			if n := w.posts(); n < 20 || n > 65 {
				t.Errorf("%d refreshes in twenty lives", n)
			}
			if n := events.count(freshtoken.EventExpiring); n != 0 {
				t.Errorf("%d events", n)
			}
		})
	}
	inBubble(t, "an access token of which nobody knows how long it lives", func(t *testing.T) {
		w := newWorld(t, sliding)
		w.as.Token.Always(oauthtest.OmitMember("expires_in"))
		src := w.source(keep)
		w.loginSaying(src, time.Hour)
		time.Sleep(10 * time.Hour)
		if _, err := src.Refresh(t.Context(), nil); err != nil {
			t.Error(err)
		}
	})
	inBubble(t, "without Background, by those who ask", func(t *testing.T) {
		w := newWorld(t, sliding)
		src := w.source(func(c *freshtoken.Config) { c.KeepAlive = true })
		w.loginSaying(src, time.Hour)
		for range 60 {
			time.Sleep(10 * time.Minute)
			w.usable(src)
		}
		if n := w.posts(); n < 10 || n > 15 {
			t.Errorf("%d refreshes in ten lives", n)
		}
	})
	inBubble(t, "not beyond the end of the grant", func(t *testing.T) {
		w := newWorld(t, sliding)
		src := w.source(keep)
		tok := with(w.as.Login("alice"), map[string]any{"refresh_token_expires_in": 3600, "authorization_expires_in": 1800})
		if err := src.SetToken(t.Context(), tok); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Hour)
		w.wantPosts(0)
	})
	inBubble(t, "it is a choice: otherwise the session ends", func(t *testing.T) {
		w := newWorld(t, sliding)
		src := w.source(func(c *freshtoken.Config) { c.Background = true })
		w.loginSaying(src, time.Hour)
		time.Sleep(2 * time.Hour)
		w.wantPosts(0)
		_, err := src.Refresh(t.Context(), nil)
		wantErr(t, err, freshtoken.ErrSessionEnded)
	})
}

// That answers are lost makes no difference to a session in the end, if the server is
// back before the refresh token expires: though it may be spent, it is sent again,
// late, as long as there is something to win by it.
func TestRefreshTokenIsNotLeftToExpire(t *testing.T) {
	keep := func(c *freshtoken.Config) { c.KeepAlive = true }
	background := func(c *freshtoken.Config) { c.Background = true }
	session := func(_ *world, src *freshtoken.Source) *freshtoken.Source { return src }
	target := func(w *world, src *freshtoken.Source) *freshtoken.Source {
		d := w.target(src, reading)
		w.usable(d)
		return d
	}
	for name, c := range map[string]struct {
		options []func(*freshtoken.Config)
		used    func(*world, *freshtoken.Source) *freshtoken.Source
	}{
		"in the background":   {[]func(*freshtoken.Config){keep, background}, nil},
		"by those who ask":    {[]func(*freshtoken.Config){keep}, session},
		"for one of a Target": {[]func(*freshtoken.Config){keep}, target},
	} {
		for lost := 2; lost <= 5; lost++ {
			inBubble(t, fmt.Sprintf("%s, %d answers", name, lost), func(t *testing.T) {
				w := newWorld(t, oauthtest.Options{AccessLifetime: time.Hour, RefreshLifetime: 30 * time.Minute})
				src := w.source(c.options...)
				w.loginSaying(src, 30*time.Minute, "read", "write")
				used := src
				if c.used != nil {
					used = c.used(w, src)
				}
				for range lost {
					w.as.Token.Next(oauthtest.Status(http.StatusBadGateway))
				}
				for end := time.Now().Add(55 * time.Minute); time.Now().Before(end); time.Sleep(10 * time.Second) {
					if c.used != nil {
						w.usable(used)
					}
				}
				if _, err := src.Refresh(t.Context(), nil); err != nil {
					t.Errorf("after %d lost answers: %v", lost, err)
				}
			})
		}
	}
	inBubble(t, "not before there is a warning, and not for ever", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Hour, RefreshLifetime: 30 * time.Minute})
		src := w.source(keep, background)
		w.loginSaying(src, 30*time.Minute)
		w.as.Token.Always(oauthtest.Status(http.StatusBadGateway))
		time.Sleep(25*time.Minute - time.Second)
		w.wantPosts(2)
		if in := time.Until(src.Status().RefreshAt).Round(time.Second); in != time.Second {
			t.Errorf("the next is in %v", in)
		}
		time.Sleep(2 * time.Second)
		w.wantPosts(3)
		time.Sleep(30 * time.Minute)
		if n := w.posts(); n < 8 || n > 12 {
			t.Errorf("%d refreshes", n)
		}
		w.usable(src)
	})
	inBubble(t, "not if the access token expires first", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: 20 * time.Minute, RefreshLifetime: 30 * time.Minute})
		src := w.source(keep, background)
		w.loginSaying(src, 30*time.Minute)
		w.as.Token.Next(oauthtest.Status(http.StatusBadGateway), oauthtest.Status(http.StatusBadGateway))
		time.Sleep(20*time.Minute - time.Second)
		w.wantPosts(2)
		time.Sleep(2 * time.Second)
		w.wantPosts(3)
		w.usable(src)
	})
}

// loginSaying has alice log in, with a refresh token that says how long it lives.
func (w *world) loginSaying(src *freshtoken.Source, life time.Duration, scopes ...string) {
	w.t.Helper()
	tok := with(w.as.Login("alice", scopes...), map[string]any{"refresh_token_expires_in": int(life / time.Second)})
	if err := src.SetToken(w.t.Context(), tok); err != nil {
		w.t.Fatal(err)
	}
}

// An end that no refresh puts off, and lives too short to be true, cause no storm.
func TestKeepAliveHasBounds(t *testing.T) {
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		rotation oauthtest.Rotation
		first    time.Duration
		answer   func(end time.Time) oauthtest.Fault
		most     int
	}{
		"an absolute lifetime": {oauthtest.Rotate, 10 * time.Hour, func(end time.Time) oauthtest.Fault {
			return oauthtest.SetMember("refresh_expires_in", fmt.Sprint(int(time.Until(end)/time.Second)))
		}, 2},
		"one that is told once": {oauthtest.NoRotation, 10 * time.Hour, func(time.Time) oauthtest.Fault { return oauthtest.Fault{} }, 1},
		"a second":              {oauthtest.Rotate, time.Second, func(time.Time) oauthtest.Fault { return oauthtest.SetMember("refresh_expires_in", "1") }, 1},
		"the end of the grant": {oauthtest.Rotate, 10 * time.Hour, func(end time.Time) oauthtest.Fault {
			left := int(time.Until(end) / time.Second)
			f := oauthtest.SetMember("refresh_expires_in", fmt.Sprint(left))
			return oauthtest.Edit("both", func(a *oauthtest.Answer) {
				f.Edit(a)
				oauthtest.SetMember("authorization_expires_in", fmt.Sprint(left)).Edit(a)
			})
		}, 2},
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{AccessLifetime: 30 * day, Rotation: c.rotation})
			end := time.Now().Add(c.first)
			w.as.Token.Func(func(*http.Request, int) oauthtest.Fault { return c.answer(end) })
			src := w.source(func(c *freshtoken.Config) { c.Background, c.KeepAlive = true, true })
			w.loginSaying(src, c.first)
			time.Sleep(5 * day)
			w.usable(src)
			if n := w.posts(); n > c.most {
				t.Errorf("%d refreshes, want %d at most", n, c.most)
			}
		})
	}
}

// No clock here ends a session: a refresh token that should have expired is tried,
// and only the server's refusal counts.
func TestLapsedIsTried(t *testing.T) {
	inBubble(t, "and may do", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
		src := w.source()
		w.loginSaying(src, time.Hour)
		time.Sleep(24 * time.Hour)
		w.usable(src)
		w.wantPosts(1)
	})
	inBubble(t, "and if it does not, the error says so, in other programs, too", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute, RefreshLifetime: time.Hour})
		src := w.source()
		end := time.Now().Add(time.Hour)
		w.loginSaying(src, time.Hour)
		time.Sleep(24 * time.Hour)
		for _, src := range []*freshtoken.Source{src, src, w.source()} {
			_, err := src.Token(t.Context())
			wantErr(t, err, freshtoken.ErrSessionEnded)
			if e := refreshError(t, err); !e.Lapsed.Equal(end) || !strings.Contains(err.Error(), "it was to expire at "+end.UTC().Format(time.RFC3339)) {
				t.Errorf("got %v", err)
			}
		}
		w.wantPosts(1)
		wantExpiry(t, src, 0)
	})
	inBubble(t, "one that was refused before its time has not lapsed", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
		src := w.source()
		w.loginSaying(src, time.Hour)
		w.as.RevokeFamily(w.token(src).AccessToken)
		time.Sleep(2 * time.Minute)
		_, err := src.Token(t.Context())
		if e := new(freshtoken.RefreshError); errors.As(err, &e) && !e.Lapsed.IsZero() {
			t.Errorf("got %v", err)
		}
	})
}
