package oauthtest_test

import (
	"context"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken/oauthtest"
)

func TestStart(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{})
	tok := srv.Login("alice")
	stop := srv.Start()
	defer stop()
	if !strings.HasPrefix(srv.BaseURL(), "http://127.0.0.1:") || srv.OAuth2().Endpoint.TokenURL != srv.TokenURL() {
		t.Fatal(srv.BaseURL())
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	over := &http.Client{Transport: tr}
	if r, err := do(over, apiRequest(t, srv, "x", tok.AccessToken)); err != nil || r.status != 200 {
		t.Fatalf("over the listener: %v %+v", err, r)
	}
	if r := callAPI(t, srv, "x", tok.AccessToken); r.status != 200 {
		t.Fatalf("in memory, under the new address: %+v", r)
	}
	if resp, err := srv.Client().Get("https://oauth.test/login"); err != nil {
		t.Fatal("in memory, under the old address:", err)
	} else {
		resp.Body.Close()
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a second Start did not panic")
			}
		}()
		srv.Start()
	}()
	stop()
	stop()
	if _, err := do(over, apiRequest(t, srv, "x", tok.AccessToken)); err == nil {
		t.Fatal("an answer after stop")
	}
	srv.Start()() // a new listener may follow
}

// stop ends what holds or delays a request, and waits for it.
func TestStopEndsWhatIsHeld(t *testing.T) {
	gate := oauthtest.NewGate()
	for name, f := range map[string]oauthtest.Fault{
		"hold":  {Before: gate.Hold},
		"stall": oauthtest.Stall(),
		"delay": {Delay: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{})
			stop := srv.Start()
			rt := srv.Login("alice").RefreshToken
			arrived := make(chan struct{})
			srv.Token.Func(func(*http.Request, int) oauthtest.Fault {
				close(arrived)
				return f
			})
			failed := make(chan error, 1)
			go func() {
				_, err := do(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, formRequest(t, srv.TokenURL(), refreshForm(rt)))
				failed <- err
			}()
			<-arrived
			stop()
			if e := last(srv); e.Outcome != oauthtest.DroppedBefore || !srv.Alive(rt) {
				t.Errorf("log %+v", e)
			}
			if err := <-failed; err == nil {
				t.Error("the client got an answer")
			}
		})
	}
}

func TestStopWaits(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{})
	stop := srv.Start()
	held, ended := make(chan struct{}), make(chan struct{})
	srv.API.Next(oauthtest.Fault{Before: func(ctx context.Context) error {
		close(held)
		<-ctx.Done()
		for range 10_000 {
			runtime.Gosched() // time enough for a stop that does not wait
		}
		close(ended)
		return ctx.Err()
	}})
	go http.Get(srv.APIURL("x")) // fails when the listener stops
	<-held
	stop()
	select {
	case <-ended:
	default:
		t.Fatal("stop returned before the request had ended")
	}
}

// Of many clients that show one refresh token at once, one wins, and the family
// is dead afterwards.
func TestOneWinner(t *testing.T) {
	both(t, func(t *testing.T, srv *oauthtest.Server, c *http.Client) {
		rt := srv.Login("alice").RefreshToken
		var won atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				r, err := do(c, formRequest(t, srv.TokenURL(), refreshForm(rt)))
				if err != nil {
					t.Error(err)
				} else if r.status == 200 {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		if st := srv.Stats(); won.Load() != 1 || st.Refreshes != 1 || st.Reuses != 1 || st.FamilyKills != 1 || st.InvalidGrants != 7 {
			t.Fatalf("%d winners, %+v", won.Load(), st)
		}
	})
}

// Requests that follow each other, from whatever connection, never count as
// concurrent: the log can prove that clients take turns.
func TestTurnsAreNotConcurrent(t *testing.T) {
	both(t, func(t *testing.T, srv *oauthtest.Server, c *http.Client) {
		rt := srv.Login("alice").RefreshToken
		for i := range 50 {
			if i%10 == 9 {
				srv.Token.Next(oauthtest.Drop())
			}
			req := formRequest(t, srv.TokenURL(), refreshForm(rt))
			req.Close = true
			r, err := do(c, req)
			if err != nil {
				continue
			}
			rt = r.member(t, "refresh_token")
		}
		if st := srv.Stats(); st.PeakTokenRequests != 1 || st.Refreshes != 45 || st.Dropped != 5 {
			t.Fatalf("%+v", st)
		}
	})
}

func TestStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		tok := srv.Login("alice")
		srv.RevokeAccess(tok.AccessToken)
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				if r, err := do(srv.Client(), apiRequest(t, srv, "x", tok.AccessToken)); err != nil || r.status != 401 {
					t.Errorf("%v %d", err, r.status)
				}
			})
		}
		wg.Wait()
		if st := srv.Stats(); st.APIRequests != 1000 || st.APIUnauthorized != 1000 {
			t.Fatalf("%+v", st)
		}
		for i, e := range srv.Log() {
			if e.ID != i+1 || e.AnswerWritten.IsZero() || e.Presented != oauthtest.Fingerprint(tok.AccessToken) {
				t.Fatalf("log %+v", e)
			}
		}
	})
}

func BenchmarkRefresh(b *testing.B) {
	srv := oauthtest.New(oauthtest.Options{})
	rt, c, url := srv.Login("alice").RefreshToken, srv.Client(), srv.TokenURL()
	for b.Loop() {
		req, err := http.NewRequest("POST", url, strings.NewReader(refreshForm(rt).Encode()))
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r, err := do(c, req)
		if err != nil || r.status != 200 {
			b.Fatal(err, r.status)
		}
		_, rest, _ := strings.Cut(r.body, `"refresh_token":"`)
		rt, _, _ = strings.Cut(rest, `"`)
	}
}

func BenchmarkAPI(b *testing.B) {
	srv := oauthtest.New(oauthtest.Options{})
	at, c, url := srv.Login("alice").AccessToken, srv.Client(), srv.APIURL("x")
	for b.Loop() {
		req, err := http.NewRequest("GET", url, nil)
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+at)
		if r, err := do(c, req); err != nil || r.status != 200 {
			b.Fatal(err, r.status)
		}
	}
}
