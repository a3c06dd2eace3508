package grant_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/grant"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// witness is told what happens to a session.
type witness struct {
	mu       sync.Mutex // guards what follows
	events   []freshtoken.Event
	attempts []freshtoken.Attempt
}

func (w *witness) listen(cfg *freshtoken.Config) {
	cfg.OnEvent = func(e freshtoken.Event) { w.mu.Lock(); w.events = append(w.events, e); w.mu.Unlock() }
	cfg.OnAttempt = func(a freshtoken.Attempt) { w.mu.Lock(); w.attempts = append(w.attempts, a); w.mu.Unlock() }
}

// outcomes are those of the attempts that asked the server, and those that failed.
func (w *witness) outcomes() (all []freshtoken.Outcome) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.attempts {
		asked := slices.ContainsFunc(a.Steps, func(st freshtoken.Step) bool { return st.Kind == freshtoken.StepRequest })
		if asked || a.Outcome == freshtoken.OutcomeFailed {
			all = append(all, a.Outcome)
		}
	}
	return all
}

func (w *witness) failures() (n int) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind == freshtoken.EventRefreshFailed && e.Err != nil {
			n++
		}
	}
	return n
}

// That the first token cannot be had is told as for any other: it asks nobody to log
// in, and the server is asked again when the error says so.
func TestFirstTokenFails(t *testing.T) {
	for name, test := range map[string]struct {
		fault   oauthtest.Fault
		status  int
		least   time.Duration
		most    time.Duration
		passing bool
	}{
		"500":                    {oauthtest.Status(500), 500, 100 * time.Millisecond, time.Second, true},
		"503":                    {oauthtest.Unavailable(""), 503, 100 * time.Millisecond, time.Second, true},
		"a connection that ends": {oauthtest.Drop(), 0, 100 * time.Millisecond, time.Second, true},
		"429 that says when":     {oauthtest.TooManyRequests("2"), 429, 2 * time.Second, 4 * time.Second, true},
		"503 that says when":     {oauthtest.Unavailable("110"), 503, 110 * time.Second, 220 * time.Second, true},
		"an unknown client":      {oauthtest.Error(401, "invalid_client"), 401, 100 * time.Millisecond, time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, seen := trusting(), new(witness)
				cfg := configOf(srv, new(grant.ClientCredentials))
				seen.listen(&cfg)
				src := open(t, cfg)
				srv.Token.Next(test.fault)
				var failed *freshtoken.RefreshError
				for range 50 {
					_, err := src.Token(t.Context())
					if !errors.As(err, &failed) || errors.Is(err, freshtoken.ErrNoSession) || errors.Is(err, freshtoken.ErrSessionEnded) {
						t.Fatalf("got %v", err)
					}
				}
				if failed.Status != test.status || failed.Temporary != test.passing || failed.RetryAfter < test.least || failed.RetryAfter > test.most {
					t.Errorf("got %v: %+v", failed, failed.RetryAfter)
				}
				if told := strings.Contains(failed.Error(), "try again in"); told != test.passing {
					t.Errorf("the text is %q", failed)
				}
				clean(t, failed)
				if n := srv.Stats().TokenRequests; n != 1 {
					t.Errorf("%d requests", n)
				}
				if st := src.Status(); st.LastError == nil || st.State != freshtoken.StateAbsent {
					t.Errorf("the status is %+v", st)
				}
				if n, all := seen.failures(), seen.outcomes(); n != 1 || !slices.Equal(all, []freshtoken.Outcome{freshtoken.OutcomeFailed}) {
					t.Errorf("told of %d failures, and %v", n, all)
				}
				time.Sleep(failed.RetryAfter - time.Millisecond)
				if _, err := src.Token(t.Context()); err == nil {
					t.Error("the server was asked before the error said so")
				}
				time.Sleep(2 * time.Millisecond)
				token(t, src)
				if st := src.Status(); st.LastError != nil || st.State != freshtoken.StateAlive {
					t.Errorf("thereafter the status is %+v", st)
				}
				if all := seen.outcomes(); !slices.Equal(all, []freshtoken.Outcome{freshtoken.OutcomeFailed, freshtoken.OutcomeRefreshed}) {
					t.Errorf("told of %v", all)
				}
			})
		})
	}
}

// A server that is down for long is asked less and less often.
func TestFirstTokenIsAskedForLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := trusting()
		src := open(t, configOf(srv, new(grant.ClientCredentials)))
		srv.Token.Always(oauthtest.Status(http.StatusInternalServerError))
		for range 3600 {
			if _, err := src.Token(t.Context()); err == nil {
				t.Fatal("a token")
			}
			time.Sleep(time.Second)
		}
		if n := srv.Stats().TokenRequests; n < 60 || n > 700 {
			t.Errorf("%d requests in an hour", n)
		}
		srv.Token.Always(oauthtest.Fault{})
		time.Sleep(time.Minute)
		token(t, src)
	})
}

// A start that goes well is no failure.
func TestFirstTokenIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, seen := trusting(), new(witness)
		cfg := configOf(srv, new(grant.ClientCredentials))
		seen.listen(&cfg)
		token(t, open(t, cfg))
		if all := seen.outcomes(); seen.failures() != 0 || !slices.Equal(all, []freshtoken.Outcome{freshtoken.OutcomeRefreshed}) {
			t.Errorf("told of %v", all)
		}
		if last := seen.attempts[len(seen.attempts)-1]; last.Generation != 1 {
			t.Errorf("told of generation %d", last.Generation)
		}
	})
}

// Where no person has a part in a session, nobody is asked to log in, and no login
// takes the session over.
func TestNobodyLogsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := trusting()
		src := open(t, configOf(srv, new(grant.ClientCredentials)))
		asked := 0
		person := freshtoken.AuthenticatorFunc(func(context.Context, freshtoken.Config) (*oauth2.Token, error) {
			asked++
			return srv.Login("alice"), nil
		})
		srv.Token.Next(oauthtest.Status(http.StatusInternalServerError))
		if _, err := src.Authenticate(t.Context(), person); err == nil || errors.Is(err, freshtoken.ErrNoSession) {
			t.Errorf("got %v", err)
		}
		time.Sleep(2 * time.Second)
		tok, err := src.Authenticate(t.Context(), person)
		if err != nil {
			t.Fatal(err)
		}
		challenge := &freshtoken.Challenge{Code: "insufficient_scope", Scopes: []string{"write"}}
		_, err = src.StepUp(t.Context(), challenge, person)
		if got := new(freshtoken.Challenge); !errors.As(err, &got) || !strings.Contains(fmt.Sprint(err), "Config.Refresher") {
			t.Errorf("got %v", err)
		}
		if again := token(t, src); asked != 0 || again.AccessToken != tok.AccessToken {
			t.Errorf("a person was asked %d times", asked)
		}
	})
}
