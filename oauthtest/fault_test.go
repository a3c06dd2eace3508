package oauthtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken/oauthtest"
)

// both runs a test in a bubble over memory, and over a real listener.
func both(t *testing.T, f func(t *testing.T, srv *oauthtest.Server, c *http.Client)) {
	t.Helper()
	bubble(t, "memory", func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		f(t, srv, srv.Client())
	})
	t.Run("listener", func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		t.Cleanup(srv.Start())
		tr := &http.Transport{}
		t.Cleanup(tr.CloseIdleConnections)
		f(t, srv, &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }})
	})
}

func last(srv *oauthtest.Server) oauthtest.Entry {
	log := srv.Log()
	return log[len(log)-1]
}

func TestDrops(t *testing.T) {
	tests := []struct {
		fault   oauthtest.Fault
		spent   bool
		outcome oauthtest.Outcome
	}{
		{oauthtest.Drop(), false, oauthtest.DroppedBefore},
		{oauthtest.LoseAnswer(), true, oauthtest.Granted},
		{oauthtest.Fault{Truncate: 10}, true, oauthtest.Granted},
		{oauthtest.Fault{Truncate: -1}, true, oauthtest.Granted},
		{oauthtest.Fault{Before: func(context.Context) error { return errors.New("no") }}, false, oauthtest.DroppedBefore},
		{oauthtest.Fault{AfterCommit: func(context.Context) error { return errors.New("no") }}, true, oauthtest.Granted},
	}
	for _, tt := range tests {
		both(t, func(t *testing.T, srv *oauthtest.Server, c *http.Client) {
			rt := srv.Login("alice").RefreshToken
			srv.Token.Next(tt.fault)
			r, err := do(c, formRequest(t, srv.TokenURL(), refreshForm(rt)))
			if err == nil {
				t.Fatalf("an answer in spite of the fault: %+v", r)
			}
			if tt.fault.Truncate != 0 {
				if !errors.Is(err, io.ErrUnexpectedEOF) || r.status != 200 || len(r.body) != max(tt.fault.Truncate, 0) {
					t.Fatalf("%v %+v", err, r)
				}
			}
			e := last(srv)
			if srv.Alive(rt) == tt.spent || e.Outcome != tt.outcome || !e.Dropped || !e.AnswerWritten.IsZero() {
				t.Fatalf("spent %v, log %+v", !srv.Alive(rt), e)
			}
			if (e.Order != 0) != tt.spent || e.Decided.IsZero() == tt.spent {
				t.Fatalf("log %+v", e)
			}
			if srv.Stats().Dropped != 1 {
				t.Fatalf("stats %+v", srv.Stats())
			}
		})
	}
}

func TestUnsent(t *testing.T) {
	both(t, func(t *testing.T, srv *oauthtest.Server, c *http.Client) {
		rt := srv.Login("alice").RefreshToken
		srv.Token.Next(oauthtest.Refuse())
		_, err := do(c, formRequest(t, srv.TokenURL(), refreshForm(rt)))
		var op *net.OpError
		if strings.HasPrefix(srv.BaseURL(), "https:") {
			if !errors.As(err, &op) || op.Op != "dial" || last(srv).Outcome != oauthtest.Unsent || srv.Stats().TokenRequests != 0 {
				t.Fatalf("%v, log %+v", err, last(srv))
			}
		} else if err == nil || last(srv).Outcome != oauthtest.DroppedBefore {
			t.Fatalf("%v, log %+v", err, last(srv))
		}
		if !srv.Alive(rt) {
			t.Fatal("the refresh token was spent")
		}
		if r, err := do(c, formRequest(t, srv.TokenURL(), refreshForm(rt))); err != nil || r.status != 200 {
			t.Fatalf("the next request: %v %+v", err, r)
		}
	})
}

func TestCannedAnswers(t *testing.T) {
	both(t, func(t *testing.T, srv *oauthtest.Server, c *http.Client) {
		rt := srv.Login("alice").RefreshToken
		send := func() reply {
			r, err := do(c, formRequest(t, srv.TokenURL(), refreshForm(rt)))
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		srv.Token.Next(oauthtest.Unavailable("7"), oauthtest.HTML(502).IfRefused(), oauthtest.HTML(502).IfRefused())
		if r := send(); r.status != 503 || r.header.Get("Retry-After") != "7" || !srv.Alive(rt) || last(srv).Outcome != oauthtest.Canned {
			t.Fatalf("instead: %+v, log %+v", r, last(srv))
		}
		if r := send(); r.status != 200 || srv.Alive(rt) || last(srv).Fault != "" {
			t.Fatalf("IfRefused on a good token: %+v, log %+v", r, last(srv))
		}
		if r := send(); r.status != 502 || !strings.Contains(r.body, "<h1>") || last(srv).Outcome != oauthtest.Reuse || last(srv).Fault != "502-html" {
			t.Fatalf("IfRefused on a spent token: %+v, log %+v", r, last(srv))
		}
		rt = srv.Login("alice").RefreshToken
		srv.Token.Next(oauthtest.Status(504).AfterProcessing())
		if r := send(); r.status != 504 || srv.Alive(rt) || last(srv).Outcome != oauthtest.Granted || last(srv).Status != 504 {
			t.Fatalf("AfterProcessing: %+v, log %+v", r, last(srv))
		}
	})
}

func TestEdits(t *testing.T) {
	both(t, func(t *testing.T, srv *oauthtest.Server, c *http.Client) {
		send := func(f oauthtest.Fault) reply {
			srv.Token.Next(f)
			r, err := do(c, formRequest(t, srv.TokenURL(), refreshForm(srv.Login("alice").RefreshToken)))
			if err != nil || r.status != 200 {
				t.Fatalf("%s: %v %+v", f.Name, err, r)
			}
			return r
		}
		for _, tt := range []struct {
			f    oauthtest.Fault
			want string
		}{
			{oauthtest.SetMember("expires_in", `"3600"`), `"token_type":"Bearer","expires_in":"3600","refresh_token":`},
			{oauthtest.SetMember("expires_in", `1e18`), `"expires_in":1e18,`},
			{oauthtest.SetMember("new", `nonsense`), `,"new":nonsense}`},
			{oauthtest.AddMember("token_type", `"mac"`), `"token_type":"Bearer","expires_in":3600,"refresh_token":`},
			{oauthtest.AddMember("token_type", `"mac"`), `,"token_type":"mac"}`},
			{oauthtest.OmitMember("token_type"), `","expires_in":3600`},
			{oauthtest.RenameMember("refresh_token", "Refresh_Token"), `"Refresh_Token":"rt-`},
			{oauthtest.FormEncoded(), `&token_type=Bearer`},
		} {
			if r := send(tt.f); !strings.Contains(r.body, tt.want) {
				t.Errorf("%s: %s", tt.f.Name, r.body)
			}
		}
		if r := send(oauthtest.OmitMember("refresh_token")); strings.Contains(r.body, "refresh_token") {
			t.Errorf("omitted: %s", r.body)
		}
		if r := send(oauthtest.BigBody(1 << 20)); len(r.body) < 1<<20 || !json.Valid([]byte(r.body)) || r.member(t, "access_token") == "" {
			t.Errorf("big body: %d bytes", len(r.body))
		}
		srv.Token.Next(oauthtest.Edit("", func(a *oauthtest.Answer) { a.Status, a.Raw = 201, []byte("x") }))
		r, err := do(c, formRequest(t, srv.TokenURL(), refreshForm(srv.Login("alice").RefreshToken)))
		if err != nil || r.status != 201 || r.body != "x" {
			t.Errorf("%v %+v", err, r)
		}
	})
}

func TestEndlessBodies(t *testing.T) {
	both(t, func(t *testing.T, srv *oauthtest.Server, c *http.Client) {
		f := oauthtest.Unauthorized(`Bearer error="invalid_token"`)
		f.Stream = oauthtest.Repeat("401 ", -1)
		srv.API.Next(f)
		srv.Token.Next(oauthtest.BigBody(-1))
		for _, req := range []*http.Request{
			apiRequest(t, srv, "x", "any"),
			formRequest(t, srv.TokenURL(), refreshForm(srv.Login("alice").RefreshToken)),
		} {
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.CopyN(io.Discard, resp.Body, 4<<20); err != nil {
				t.Fatalf("after %d bytes: %v", n, err)
			}
			resp.Body.Close()
			if !last(srv).AnswerWritten.IsZero() {
				t.Fatalf("log %+v", last(srv))
			}
		}
	})
}

// A client that goes away makes the server panic with http.ErrAbortHandler
// below a deferred call. The collector must be able to run at that moment: see
// the comment on call.write.
func TestCollectionWhileAnAnswerIsAborted(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{})
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for _, f := range []func(){runtime.GC, func() { srv.Log() }} { // Log makes the deferred call wait for the lock
		busy.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		})
	}
	f := oauthtest.Unauthorized(`Bearer error="invalid_token"`)
	f.Stream = func(context.Context, io.Writer) error {
		runtime.GC() // what the answer holds is dead by now
		return io.ErrClosedPipe
	}
	srv.API.Always(f)
	for range 25 {
		if _, err := do(srv.Client(), apiRequest(t, srv, "x", "any")); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut answer: %v", err)
			break
		}
	}
	close(stop)
	busy.Wait()
}

func TestDelaysAreServedInFull(t *testing.T) {
	for name, f := range map[string]oauthtest.Fault{
		"before": {Delay: time.Minute},
		"after":  {AfterDelay: time.Minute},
	} {
		bubble(t, name, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{})
			rt := srv.Login("alice").RefreshToken
			srv.Token.Next(f)
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			_, err := do(srv.Client(), formRequest(t, srv.TokenURL(), refreshForm(rt)).WithContext(ctx))
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 30*time.Second {
				t.Fatalf("%v after %v", err, time.Since(start))
			}
			if srv.Alive(rt) != (name == "before") {
				t.Fatal("committed at the wrong time")
			}
			time.Sleep(time.Minute)
			e := last(srv)
			if srv.Alive(rt) || e.Outcome != oauthtest.Granted || !e.AnswerWritten.IsZero() || srv.Stats().AnswersNotWritten != 1 {
				t.Fatalf("the server must commit what nobody waits for: %+v", e)
			}
			if e.Decided.Sub(start) != f.Delay {
				t.Fatalf("decided after %v", e.Decided.Sub(start))
			}
		})
	}
}

func TestGate(t *testing.T) {
	both(t, func(t *testing.T, srv *oauthtest.Server, c *http.Client) {
		before, after := oauthtest.NewGate(), oauthtest.NewGate()
		srv.Token.Always(oauthtest.Fault{Before: before.Hold, AfterCommit: after.Hold})
		rt := srv.Login("alice").RefreshToken
		done := make(chan reply, 1)
		go func() {
			r, err := do(c, formRequest(t, srv.TokenURL(), refreshForm(rt)))
			if err != nil {
				t.Error(err)
			}
			done <- r
		}()
		<-before.Arrived()
		if !srv.Alive(rt) || last(srv).Outcome != oauthtest.Pending {
			t.Errorf("held before processing: %+v", last(srv))
		}
		before.Open()
		<-after.Arrived()
		if srv.Alive(rt) || last(srv).Outcome != oauthtest.Granted || !last(srv).AnswerWritten.IsZero() {
			t.Errorf("held after processing: %+v", last(srv))
		}
		after.Open()
		after.Open()
		if r := <-done; r.status != 200 || last(srv).AnswerWritten.IsZero() {
			t.Errorf("%+v, log %+v", r, last(srv))
		}
	})
}

// A client that dies while its request is held leaves the hold.
func TestGateEndsWithTheClient(t *testing.T) {
	both(t, func(t *testing.T, srv *oauthtest.Server, c *http.Client) {
		rt := srv.Login("alice").RefreshToken
		gate, left := oauthtest.NewGate(), make(chan error, 1)
		srv.Token.Next(oauthtest.Fault{Before: func(ctx context.Context) error {
			err := gate.Hold(ctx)
			left <- err
			return err
		}})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-gate.Arrived()
			cancel()
		}()
		if _, err := do(c, formRequest(t, srv.TokenURL(), refreshForm(rt)).WithContext(ctx)); !errors.Is(err, context.Canceled) {
			t.Fatalf("client: %v", err)
		}
		if err := <-left; err == nil {
			t.Fatal("the hold ended without an error")
		}
		if !srv.Alive(rt) {
			t.Fatal("the request was processed")
		}
	})
}

func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		srv.Revocation.Always(oauthtest.Stall())
		c := srv.Client()
		c.Timeout = 10 * time.Second
		start := time.Now()
		_, err := do(c, formRequest(t, srv.RevocationURL(), refreshForm("x")))
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() || time.Since(start) != c.Timeout {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
	})
}

func TestFaultOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		at := srv.Login("alice").AccessToken
		status := func() int { return callAPI(t, srv, "x", at).status }
		expect := func(want ...int) {
			t.Helper()
			for i, w := range want {
				if got := status(); got != w {
					t.Fatalf("request %d: %d, want %d", i, got, w)
				}
			}
		}
		srv.API.Always(oauthtest.Status(500))
		expect(500, 500)
		srv.API.Next(oauthtest.Status(501), oauthtest.Fault{}, oauthtest.Status(502))
		if srv.API.Queued() != 3 {
			t.Fatal("queue", srv.API.Queued())
		}
		expect(501, 200, 502, 500)
		var ns []int
		srv.API.Func(func(r *http.Request, n int) oauthtest.Fault {
			ns = append(ns, n)
			if r.URL.Path != "/api/x" || n%2 == 0 {
				return oauthtest.Fault{}
			}
			return oauthtest.Status(503)
		})
		expect(503, 500, 503)
		if len(ns) != 3 || ns[0] != 7 || ns[2] != 9 {
			t.Fatal("numbers", ns)
		}
		srv.API.Func(nil)
		srv.API.Always(oauthtest.Fault{})
		expect(200)
		srv.API.Next(oauthtest.Status(500))
		srv.API.Clear()
		expect(200)
	})
}

// One token dies; ten requests that show it at once learn it one after another.
func TestStagger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		at := srv.Login("alice").AccessToken
		srv.RevokeAccess(at)
		srv.API.Func(oauthtest.Stagger(10*time.Second, 10))
		start := time.Now()
		var mu sync.Mutex
		seen := map[time.Duration]int{}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				r := callAPI(t, srv, "x", at)
				mu.Lock()
				defer mu.Unlock()
				if r.status == 401 {
					seen[time.Since(start)]++
				}
			})
		}
		wg.Wait()
		for i := range 10 {
			if seen[time.Duration(i)*time.Second] != 1 {
				t.Fatalf("answers at %v", seen)
			}
		}
	})
}

func TestTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		f := oauthtest.Unauthorized()
		f.Stream = oauthtest.Trickle("0123456789", 10*time.Second)
		srv.API.Always(f)
		start := time.Now()
		resp, err := srv.Client().Do(apiRequest(t, srv, "x", "any"))
		if err != nil || time.Since(start) != 0 {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || string(b) != "0123456789" || time.Since(start) != 10*time.Second {
			t.Fatalf("%q %v after %v", b, err, time.Since(start))
		}
	})
}
