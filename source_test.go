package freshtoken_test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

func TestNoSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		f := w.faults()
		src := w.source()
		for range 100 {
			_, err := src.Token(t.Context())
			wantErr(t, err, freshtoken.ErrNoSession)
		}
		if loads, _ := f.counts(); loads != 1 {
			t.Errorf("looked into the store %d times for 100 calls, want once a second", loads)
		}
		// A login in another program is noticed.
		w.loggedIn()
		time.Sleep(time.Second)
		w.usable(src)
		w.wantPosts(0)
	})
}

func TestTokenOutlivesRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
		src := w.source()
		tok := w.login(src)
		if got := w.token(src); got.AccessToken != tok.AccessToken || got.RefreshToken != "" {
			t.Errorf("got %+v, want the login's access token without a refresh token", got)
		}
		for range 10 {
			if err := src.Close(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			src = w.source()
			w.usable(src)
		}
		w.wantPosts(10)
		if n := w.as.Stats().Reuses; n != 0 {
			t.Errorf("%d refresh tokens were used twice", n)
		}
	})
}

func TestFlight(t *testing.T) {
	inBubble(t, "MGR-flight one refresh for all who ask", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
		src := w.loggedIn()
		time.Sleep(2 * time.Minute)
		w.as.Token.Always(oauthtest.Fault{Delay: 500 * time.Millisecond})
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() { w.usable(src) })
		}
		wg.Wait()
		w.wantPosts(1)
	})
	inBubble(t, "MGR-flight a caller's deadline ends its wait and nothing else", deadlineEndsTheWait)
}

// Only the elected caller waits when a refresh is due; the token endpoint that
// never answers costs it two seconds, and nobody else anything.
func TestDueRefreshStallsOneCallerBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: 10 * time.Minute})
		src := w.loggedIn()
		time.Sleep(9 * time.Minute)
		w.as.Token.Always(oauthtest.Stall())
		var wg sync.WaitGroup
		var mu sync.Mutex
		stalled := 0
		for range 100 {
			wg.Go(func() {
				start := time.Now()
				w.usable(src)
				if d := time.Since(start); d > 0 {
					mu.Lock()
					defer mu.Unlock()
					stalled++
					if d > 2*time.Second {
						t.Errorf("waited %v with a valid token", d)
					}
				}
			})
		}
		wg.Wait()
		if stalled > 1 {
			t.Errorf("%d callers waited though the token was valid", stalled)
		}
		w.wantPosts(1)
		w.as.Token.Clear()
		time.Sleep(59 * time.Second)
		w.usable(src)
	})
}

func deadlineEndsTheWait(t *testing.T) {
	w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
	src := w.loggedIn()
	time.Sleep(2 * time.Minute)
	w.as.Token.Next(oauthtest.Fault{AfterDelay: 5 * time.Second})
	var wg sync.WaitGroup
	start := time.Now()
	for i := range 3 {
		wg.Go(func() { // the first of them starts the refresh
			time.Sleep(time.Duration(i) * time.Millisecond)
			begin := time.Now()
			_, err := src.Token(soon(t, 50*time.Millisecond))
			wantErr(t, err, context.DeadlineExceeded)
			if d := time.Since(begin); d != 50*time.Millisecond {
				t.Errorf("returned after %v, want 50ms", d)
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	w.usable(src)
	if d := time.Since(start); d != 5*time.Second {
		t.Errorf("the caller without a deadline got its token after %v, want 5s", d)
	}
	wg.Wait()
	w.wantPosts(1)
	time.Sleep(2 * time.Minute)
	w.usable(src)
	if s := w.as.Stats(); s.Reuses != 0 {
		t.Error("the family was killed")
	}
}

func TestRefreshTokenAloneIsEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.source()
		tok := w.as.Login("alice")
		if err := src.SetToken(t.Context(), &oauth2.Token{RefreshToken: tok.RefreshToken}); err != nil {
			t.Fatal(err)
		}
		w.usable(src)
		w.wantPosts(1)
	})
}

// A program may hand in the token of its login at every start.
func TestSetTokenOfTheSameLoginKeepsTheNewerTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
		tok := w.login(w.source())
		for range 5 {
			time.Sleep(2 * time.Minute)
			src := w.source()
			if err := src.SetToken(t.Context(), tok); err != nil {
				t.Fatal(err)
			}
			w.usable(src)
			src.Close()
		}
		if s := w.as.Stats(); s.Reuses != 0 || s.Refreshes != 5 {
			t.Errorf("%d refreshes, %d reuses; want 5, 0", s.Refreshes, s.Reuses)
		}
	})
}

func TestBackgroundKeepsAnIdleSessionFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
		src := w.loggedIn(func(c *freshtoken.Config) { c.Background = true })
		w.as.Token.Always(oauthtest.Fault{Delay: 500 * time.Millisecond})
		for range 100 {
			time.Sleep(17 * time.Second)
			start := time.Now()
			w.usable(src)
			if d := time.Since(start); d != 0 {
				t.Errorf("stalled for %v", d)
			}
		}
	})
}

// Some servers answer a refresh with the access token that they issued before,
// as long as it is good. An API that rejects it must not take it from the others.
func TestServerThatIssuesTheSameTokenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn()
		tok := w.token(src)
		w.as.Token.Always(oauthtest.SetMember("access_token", strconv.Quote(tok.AccessToken)))
		time.Sleep(time.Second)
		_, err := src.Refresh(t.Context(), tok)
		if e := refreshError(t, err); !strings.Contains(e.Error(), "same one again") || e.Temporary {
			t.Errorf("got %v", err)
		}
		w.wantPosts(1)
		w.usable(src)
		for range 100 {
			src.Refresh(t.Context(), tok)
			w.usable(src)
		}
		w.wantPosts(5) // the budget
	})
}
