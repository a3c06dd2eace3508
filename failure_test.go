package freshtoken_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// Sections E and F: what an answer of the token endpoint means for the session.

func TestEndedSession(t *testing.T) {
	for _, dead := range oauthtest.DeadGrants() {
		inBubble(t, "R6749-5.2-class "+dead.Name, func(t *testing.T) {
			w, src := expired(t, oauthtest.Options{})
			w.as.Token.Always(dead)
			var wg sync.WaitGroup
			for range 1000 {
				wg.Go(func() {
					_, err := src.Token(t.Context())
					wantErr(t, err, freshtoken.ErrSessionEnded)
					retrieve := new(oauth2.RetrieveError)
					if !errors.As(err, &retrieve) || retrieve.ErrorCode != "invalid_grant" || len(retrieve.Body) != 0 ||
						retrieve.Response.Request != nil || len(retrieve.Response.Header) != 0 || retrieve.Error() == "" {
						t.Errorf("not the *oauth2.RetrieveError that others look for: %#v", retrieve)
					}
				})
			}
			wg.Wait()
			w.wantPosts(1)
			if got := w.stored(); strings.Contains(got, "refresh_token") || strings.Contains(got, "access_token") {
				t.Errorf("the tombstone has tokens: %s", got)
			}
			// Neither time nor another process asks again.
			time.Sleep(time.Hour)
			_, err := src.Token(t.Context())
			wantErr(t, err, freshtoken.ErrSessionEnded)
			_, err = w.source().Token(t.Context())
			wantErr(t, err, freshtoken.ErrSessionEnded)
			w.wantPosts(1)
			// A login elsewhere heals.
			w.as.Token.Clear()
			w.loggedIn()
			time.Sleep(time.Second)
			w.usable(src)
		})
	}
	inBubble(t, "R7009-2.1-any a revoked grant costs one request", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		src := w.source()
		w.as.RevokeFamily(w.login(src).RefreshToken)
		time.Sleep(lifetime)
		for range 100 {
			_, err := src.Token(t.Context())
			wantErr(t, err, freshtoken.ErrSessionEnded)
			time.Sleep(time.Second)
		}
		w.wantPosts(1)
	})
}

func TestConfigurationErrors(t *testing.T) {
	for _, refusal := range oauthtest.ClientRefusals() {
		inBubble(t, "R6749-5.2-class "+refusal.Name, func(t *testing.T) {
			w, src := expired(t, oauthtest.Options{})
			w.as.Token.Always(refusal)
			for range 100 {
				_, err := src.Token(t.Context())
				if e := refreshError(t, err); e.Temporary || errors.Is(err, freshtoken.ErrSessionEnded) {
					t.Fatalf("got %#v", e)
				}
				time.Sleep(100 * time.Millisecond)
			}
			if n := w.posts(); n > 15 {
				t.Errorf("%d requests in 10 s", n)
			}
			// A program that is configured better is served at once.
			w.as.Token.Clear()
			w.usable(w.source())
		})
	}
}

func TestRefusals(t *testing.T) {
	for _, refusal := range oauthtest.OddRefusals() {
		inBubble(t, refusal.Name, func(t *testing.T) {
			w, src := expired(t, oauthtest.Options{})
			w.as.Token.Always(refusal)
			var err error
			for range 20 {
				if _, err = src.Token(t.Context()); errors.Is(err, freshtoken.ErrSessionEnded) {
					break
				}
				if e := refreshError(t, err); !e.Temporary {
					t.Errorf("got %#v", e)
				}
				time.Sleep(time.Second)
			}
			if e := refreshError(t, err); !e.Uncertain || !errors.Is(err, freshtoken.ErrSessionEnded) {
				t.Errorf("got %#v", e)
			}
			before := w.posts()
			if before > 3 {
				t.Errorf("asked %d times, want 3 at most", before)
			}
			for range 100 {
				_, err := src.Token(t.Context())
				wantErr(t, err, freshtoken.ErrSessionEnded)
				time.Sleep(time.Second)
			}
			w.wantPosts(before)
			// The tokens are still there, for when the server comes to its senses.
			w.as.Token.Clear()
			time.Sleep(5 * time.Minute)
			w.usable(src)
		})
	}
}

func TestOutages(t *testing.T) {
	for _, outage := range oauthtest.Outages() {
		inBubble(t, "MGR-soft "+outage.Name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{AccessLifetime: 10 * time.Minute, Rotation: oauthtest.SameToken})
			src := w.loggedIn()
			time.Sleep(9 * time.Minute)
			w.as.Token.Always(outage)
			for time.Since(src.Status().Issued) < 9*time.Minute+50*time.Second {
				w.usable(src)
				time.Sleep(100 * time.Millisecond)
			}
			if n := len(w.as.LogOf(oauthtest.TokenEndpoint)); n == 0 || n > 15 {
				t.Errorf("%d requests in 50 s of outage", n)
			}
			time.Sleep(11 * time.Second)
			_, err := src.Token(t.Context())
			if e := refreshError(t, err); !e.Temporary || errors.Is(err, freshtoken.ErrSessionEnded) {
				t.Errorf("expired: got %#v", e)
			}
			w.as.Token.Clear()
			time.Sleep(time.Hour) // the longest Retry-After that is believed
			w.usable(src)
		})
	}
}

func TestRetryAfter(t *testing.T) {
	for _, tt := range []struct {
		value string
		want  time.Duration
	}{
		{"120", 2 * time.Minute}, {"date", 3 * time.Minute}, {"315360000", time.Hour}, {"1e99", time.Hour}, {"never", 0}, {"-5", 0}, {"NaN", 0},
	} {
		inBubble(t, "R9110-10.2.3 "+tt.value, func(t *testing.T) {
			w, src := expired(t, oauthtest.Options{})
			value := tt.value
			if value == "date" {
				value = time.Now().Add(tt.want).UTC().Format(http.TimeFormat)
			}
			w.as.Token.Next(oauthtest.Unavailable(value))
			_, err := src.Token(t.Context())
			if e := refreshError(t, err); tt.want > 0 && e.RetryAfter != tt.want || tt.want == 0 && e.RetryAfter > time.Second {
				t.Errorf("RetryAfter is %v, want %v", e.RetryAfter, tt.want)
			}
			if tt.want == 0 {
				return
			}
			// No process asks before, and all say why at once.
			other := w.source()
			time.Sleep(tt.want - time.Second)
			for _, s := range []*freshtoken.Source{src, other} {
				start := time.Now()
				_, err = s.Token(t.Context())
				if e := refreshError(t, err); e.Status != 503 || time.Since(start) != 0 {
					t.Errorf("got %v after %v", err, time.Since(start))
				}
			}
			w.wantPosts(1)
			time.Sleep(time.Second)
			w.usable(other)
		})
	}
}

// 503 with Retry-After: 2 for 10 s while the access token lives.
func TestOutageWithinLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: 60 * time.Second})
		w.loggedIn()
		var sources []*freshtoken.Source
		for range 8 {
			sources = append(sources, w.source())
		}
		time.Sleep(48 * time.Second)
		w.as.Token.Always(oauthtest.Unavailable("2"))
		for range 100 {
			for _, src := range sources {
				w.usable(src)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := w.posts(); n < 2 || n > 5 {
			t.Errorf("%d requests in 10 s for eight processes, want 5 at most", n)
		}
		var last time.Time
		for _, e := range w.as.LogOf(oauthtest.TokenEndpoint) {
			if d := e.Arrived.Sub(last); d < 2*time.Second {
				t.Errorf("asked again after %v", d)
			}
			last = e.Arrived
		}
	})
}

// The server is well again before the token expires: whatever pause was drawn
// after the last failure, nobody is told of one.
func TestOutageEndsBeforeExpiry(t *testing.T) {
	for _, f := range []oauthtest.Fault{oauthtest.Unavailable(""), oauthtest.Unavailable("2"), oauthtest.Refuse(), oauthtest.Status(500)} {
		inBubble(t, f.Name, func(t *testing.T) {
			for range 20 {
				w := newWorld(t, oauthtest.Options{AccessLifetime: 60 * time.Second})
				src := w.loggedIn()
				time.Sleep(50 * time.Second) // due
				w.as.Token.Always(f)
				for range 75 {
					w.usable(src)
					time.Sleep(100 * time.Millisecond)
				}
				w.as.Token.Always(oauthtest.Fault{})
				time.Sleep(2500 * time.Millisecond)
				w.usable(src)
			}
		})
	}
}

// However long an outage has lasted, a server that names the pause it needs is
// asked again before twice that is over.
func TestRetryAfterBoundsThePause(t *testing.T) {
	inBubble(t, "R9110-10.2.3", func(t *testing.T) {
		for range 20 {
			w, src := expired(t, oauthtest.Options{})
			w.as.Token.Always(oauthtest.Unavailable("2"))
			for range 10 {
				_, err := src.Token(t.Context())
				e := refreshError(t, err)
				if e.RetryAfter < 2*time.Second || e.RetryAfter > 4*time.Second {
					t.Fatalf("the pause is %v, want two to four seconds", e.RetryAfter)
				}
				time.Sleep(e.RetryAfter)
			}
			w.as.Token.Always(oauthtest.Fault{})
			w.usable(src)
		}
	})
}

func TestUnknownOutcome(t *testing.T) {
	inBubble(t, "R9110-9.2.2-rt one prompt retry in a new attempt", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{Grace: time.Minute})
		w.as.Token.Next(oauthtest.LoseAnswer())
		w.usable(src) // the server has a grace period: nobody notices
		w.wantPosts(2)
	})
	for _, lost := range oauthtest.LostAnswers() {
		inBubble(t, "a strict server "+lost.Name, func(t *testing.T) {
			w, src := expired(t, oauthtest.Options{})
			before := time.Now()
			w.as.Token.Next(lost)
			_, err := src.Token(t.Context())
			e := refreshError(t, err)
			if !errors.Is(err, freshtoken.ErrSessionEnded) || e.Interrupted.Before(before) || !strings.Contains(err.Error(), "interrupted") {
				t.Errorf("got %v, want an ended session that tells of the interruption", err)
			}
			w.wantPosts(2)
		})
	}
	inBubble(t, "while the access token lives there is one retry", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: 10 * time.Minute, Rotation: oauthtest.SameToken})
		src, other := w.loggedIn(), w.source()
		w.token(other)
		time.Sleep(9 * time.Minute)
		w.as.Token.Always(oauthtest.Status(500))
		for range 500 {
			w.usable(src)
			w.usable(other)
			time.Sleep(100 * time.Millisecond)
		}
		w.wantPosts(2)
		time.Sleep(11 * time.Second)
		_, err := src.Token(t.Context())
		if e := refreshError(t, err); !e.OutcomeUnknown || !e.Temporary {
			t.Errorf("got %#v", e)
		}
	})
	inBubble(t, "a refresh token is salvaged from a broken answer", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		w.as.Token.Next(oauthtest.SetMember("token_type", `"mac"`))
		_, err := src.Token(t.Context())
		if e := refreshError(t, err); e.OutcomeUnknown || !errors.Is(err, freshtoken.ErrBadToken) {
			t.Errorf("got %#v", e)
		}
		time.Sleep(2 * time.Second)
		w.usable(src)
		if s := w.as.Stats(); s.Reuses != 0 {
			t.Error("the spent refresh token was used again")
		}
	})
	inBubble(t, "a rejected access token stays rejected when only a refresh token is salvaged", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn()
		tok := w.token(src)
		w.as.RevokeAccess(tok.AccessToken)
		w.as.Token.Next(oauthtest.SetMember("token_type", `"mac"`))
		_, err := src.Refresh(t.Context(), tok)
		refreshError(t, err)
		for range 10 {
			if got, err := src.Token(t.Context()); err == nil && got.AccessToken == tok.AccessToken {
				t.Fatal("the rejected token is handed out")
			}
			time.Sleep(time.Second)
		}
		w.usable(src)
		if s := w.as.Stats(); s.Reuses != 0 {
			t.Error("the spent refresh token was used again")
		}
	})
	inBubble(t, "a refused connection is no unknown outcome", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		w.as.Token.Always(oauthtest.Refuse())
		_, err := src.Token(t.Context())
		if e := refreshError(t, err); e.OutcomeUnknown || !e.Temporary {
			t.Errorf("got %#v", e)
		}
		if strings.Contains(w.stored(), `"mark"`) {
			t.Error("the record says that the refresh token may be spent")
		}
	})
}

func TestErrorTexts(t *testing.T) {
	inBubble(t, "R6749-5.2 code and description of any status", func(t *testing.T) {
		for _, status := range []int{400, 401, 403, 418} {
			w, src := expired(t, oauthtest.Options{})
			w.as.Token.Always(oauthtest.JSON(status, `{"error":"private_code","error_description":"because"}`))
			_, err := src.Token(t.Context())
			if e := refreshError(t, err); e.Code != "private_code" || e.Description != "because" || e.Status != status {
				t.Errorf("got %#v", e)
			}
		}
	})
	inBubble(t, "R6749-5.2-200 an error with status 200", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		w.as.Token.Always(oauthtest.JSON(200, `{"error":"bad_refresh_token"}`))
		_, err := src.Token(t.Context())
		if e := refreshError(t, err); !errors.Is(err, freshtoken.ErrSessionEnded) || !e.Uncertain {
			t.Errorf("got %#v", e)
		}
		w.wantPosts(1)
	})
	inBubble(t, "R6749-10.14 hostile text is inert", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		w.as.Token.Always(oauthtest.JSON(400, `{"error":"a\u001b[31m\nb","error_description":"\u0007\r\n\u202e`+strings.Repeat("x", 10000)+`"}`))
		_, err := src.Token(t.Context())
		e := refreshError(t, err)
		for _, s := range []string{err.Error(), e.Code, e.Description} {
			if len(s) > 1000 {
				t.Errorf("%d bytes", len(s))
			}
			for _, r := range s {
				if r < 0x20 || r > 0x7e {
					t.Errorf("%q has %q", s, r)
				}
			}
		}
	})
}

// A 401 whose refresh token belongs to a family that a sibling has rotated.
func TestSiblingWithoutLock(t *testing.T) {
	inBubble(t, "MGR-cas a newer stored token is adopted after invalid_grant", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		// While our request is under way, a process that knows no lock saves
		// the session as it is after its own refresh.
		sibling := w.as.Login("alice")
		w.as.Token.Next(oauthtest.Fault{Before: func(context.Context) error {
			key := freshtoken.StoreKey(w.config())
			data, _ := w.store.Load(t.Context(), key)
			record := freshtoken.EditRecord(data, func(r map[string]any) {
				r["generation"] = 2
				r["refresh_token"], r["access_token"] = sibling.RefreshToken, sibling.AccessToken
				r["issued"] = time.Now()
				delete(r, "mark")
			})
			return w.store.Save(t.Context(), key, record)
		}, Status: 400, Body: `{"error":"invalid_grant"}`})
		if tok := w.token(src); tok.AccessToken != sibling.AccessToken {
			t.Error("the sibling's token was not adopted")
		}
		w.wantPosts(1)
		time.Sleep(lifetime)
		w.usable(src)
	})
}

func TestRotation(t *testing.T) {
	for name, o := range map[string]oauthtest.Options{
		"R6749-6-rotate strict":            {},
		"R9700-4.14.2 kills old access":    {KillOldAccess: true},
		"R9700-4.14.2 same token":          {Rotation: oauthtest.SameToken},
		"R9700-4.14.2 no rotation":         {Rotation: oauthtest.NoRotation},
		"R9700-4.14.2 lenient":             {Rotation: oauthtest.RotateLenient},
		"R9700-4.14.2 grace":               {Grace: 10 * time.Second},
		"R9700-4.14.2 grace, new token":    {Grace: 10 * time.Second, GraceMode: oauthtest.GraceNew},
		"R9700-4.14.2 grace, replacements": {Grace: 10 * time.Second, GraceMode: oauthtest.GraceReplace},
	} {
		inBubble(t, name, func(t *testing.T) {
			o.AccessLifetime = lifetime
			w := newWorld(t, o)
			sources := []*freshtoken.Source{w.loggedIn(), w.source(), w.source()}
			rounds := 200
			if o.Rotation == oauthtest.Rotate && o.Grace == 0 {
				rounds = 1000
			}
			for w.as.Stats().Refreshes < rounds {
				for _, src := range sources {
					w.usable(src)
				}
				time.Sleep(20 * time.Second)
			}
			if s := w.as.Stats(); s.Reuses != 0 || s.InvalidGrants != 0 || s.GraceUses != 0 {
				t.Errorf("got %+v", s)
			}
		})
	}
}
