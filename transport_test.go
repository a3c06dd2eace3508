package freshtoken_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// The contract of http.RoundTripper.
func TestRoundTripperContract(t *testing.T) {
	rtBubble(t, "GO-1 leaves the request alone", testLeavesRequestAlone)
	rtBubble(t, "GO-2 closes the body on every path", testClosesBody)
	rtBubble(t, "GO-3 returns the answer it has", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		rec := new(recorder)
		src := w.loggedIn(func(c *freshtoken.Config) { c.OnEvent = rec.receive })
		w.revoke(src)
		w.as.Token.Always(oauthtest.Unavailable(""))
		rt, _ := w.wired(src)
		resp, err := rt.RoundTrip(rtRequest(t, http.MethodGet, w.as.APIURL("x"), nil))
		status, body := rtFinish(t, resp, err)
		rtWant(t, "status", status, http.StatusUnauthorized)
		if !strings.Contains(body, "invalid_token") {
			t.Errorf("the answer's body is %q", body)
		}
		e := refreshError(t, src.Status().LastError)
		rtWant(t, "the refresh's status in Status", e.Status, http.StatusServiceUnavailable)
		synctest.Wait()
		rtWant(t, "events of the failed refresh", rec.count(freshtoken.EventRefreshFailed), 1)
	})
	rtBubble(t, "GO-4 serves many goroutines", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
		src := w.loggedIn()
		old := w.token(src).AccessToken
		time.Sleep(2 * time.Minute)
		w.as.Token.Always(oauthtest.Fault{Delay: 100 * time.Millisecond})
		rt, spy := w.wired(src)
		client := &http.Client{Transport: rt}
		var wg sync.WaitGroup
		for range 500 {
			wg.Go(func() { rtWant(t, "status", rtGet(t, client, w.as.APIURL("x")), http.StatusOK) })
		}
		wg.Wait()
		w.wantPosts(1)
		now := "Bearer " + w.token(src).AccessToken
		sent := spy.requests()
		rtWant(t, "requests", len(sent), 500)
		for _, s := range sent {
			if !slices.Equal(s.credentials, []string{now}) || now == "Bearer "+old {
				t.Fatal("a request did not carry the new token")
			}
		}
	})
	rtBubble(t, "GO-5 replays with a new body", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn()
		w.revoke(src)
		rt, spy := w.wired(src)
		body := bytes.Repeat([]byte("all of it must arrive. "), 8<<20/23)
		resp, err := rt.RoundTrip(posting(t, w.as.APIURL("x"), body))
		status, _ := rtFinish(t, resp, err)
		rtWant(t, "status", status, http.StatusOK)
		rtWant(t, "requests", len(spy.requests()), 2)
		log := w.as.LogOf(oauthtest.APIEndpoint)
		rtWant(t, "bytes read before the 401", log[0].BodyLength, 0)
		rtWant(t, "bytes of the replay", log[1].BodyLength, int64(len(body)))
		rtWant(t, "damaged bodies", w.as.Stats().DamagedBodies, 0)
	})
	rtBubble(t, "GO-6 does not replay what it cannot", testDoesNotReplay)
	rtBubble(t, "GO-7 reads little of the first answer", testReadsLittle)
	rtBubble(t, "GO-8 hands streams on as they come", testStreams)
	rtBubble(t, "GO-9 lets a caller leave", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn()
		w.revoke(src)
		w.as.Token.Always(oauthtest.Fault{AfterDelay: 10 * time.Second})
		rt, _ := w.wired(src)
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { // its 401 starts the refresh
			req := rtRequest(t, http.MethodGet, w.as.APIURL("x"), nil)
			resp, err := rt.RoundTrip(req.WithContext(soon(t, 100*time.Millisecond)))
			rtWant(t, "returned after", time.Since(start), 100*time.Millisecond)
			if err != nil {
				t.Errorf("the 401 was lost: %v", err)
				return
			}
			rtWant(t, "status", resp.StatusCode, http.StatusUnauthorized)
			resp.Body.Close()
		})
		wg.Go(func() { // this one waits from the beginning
			time.Sleep(50 * time.Millisecond)
			req := rtRequest(t, http.MethodGet, w.as.APIURL("x"), nil)
			_, err := rt.RoundTrip(req.WithContext(soon(t, 100*time.Millisecond)))
			rtWant(t, "returned after", time.Since(start), 150*time.Millisecond)
			wantErr(t, err, context.DeadlineExceeded)
		})
		wg.Go(func() {
			time.Sleep(60 * time.Millisecond)
			resp, err := rt.RoundTrip(rtRequest(t, http.MethodGet, w.as.APIURL("x"), nil))
			status, _ := rtFinish(t, resp, err)
			rtWant(t, "status", status, http.StatusOK)
			rtWant(t, "returned after", time.Since(start), 10*time.Second)
		})
		wg.Wait()
		w.wantPosts(1)
	})
	rtBubble(t, "GO-10 forwards CloseIdleConnections", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		rt, spy := w.wired(w.source())
		(&http.Client{Transport: rt}).CloseIdleConnections()
		rtWant(t, "calls", spy.idle, 1)
		rt.Base = rtAnswers(nil) // has no such method
		rt.CloseIdleConnections()
	})
	rtBubble(t, "GO-11 can be told not to replay", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn()
		w.revoke(src)
		rt, spy := w.wired(src, func(t *freshtoken.Transport) { t.NoReplay = true })
		client := &http.Client{Transport: rt}
		rtWant(t, "first", rtGet(t, client, w.as.APIURL("x")), http.StatusUnauthorized)
		rtWant(t, "requests", len(spy.requests()), 1)
		w.wantPosts(0) // nobody needs a token yet
		rtWant(t, "second", rtGet(t, client, w.as.APIURL("x")), http.StatusOK)
		w.wantPosts(1)
	})
}

func testLeavesRequestAlone(t *testing.T) {
	w := newWorld(t, oauthtest.Options{})
	src := w.loggedIn()
	w.revoke(src)
	rt, _ := w.wired(src)
	req := posting(t, w.as.APIURL("x?a=b"), []byte("body"))
	req.Header["X-Many"] = []string{"1", "2"}
	shallow := *req
	header, target := req.Header.Clone(), *req.URL
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // with -race, any write to the header is a failure
		for {
			select {
			case <-stop:
				return
			default:
				_ = maps.Clone(req.Header)
				_ = req.URL.String() + req.Method + req.Host
				synctestYield()
			}
		}
	})
	resp, err := rt.RoundTrip(req)
	close(stop)
	wg.Wait()
	status, _ := rtFinish(t, resp, err)
	rtWant(t, "status", status, http.StatusOK)
	w.wantPosts(1)
	if !reflect.DeepEqual(req.Header, header) || !reflect.DeepEqual(*req.URL, target) {
		t.Errorf("the request was changed: %v, was %v", req.Header, header)
	}
	if req.URL != shallow.URL || req.Body != shallow.Body || req.Host != shallow.Host || req.ContentLength != shallow.ContentLength {
		t.Error("the request's fields were changed")
	}
	if resp.Request != req {
		t.Error("the answer's Request is not the caller's own, and shows the token")
	}
}

// synctestYield lets other goroutines run.
func synctestYield() { time.Sleep(time.Nanosecond) }

func testClosesBody(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name string
		edit func(*world, *freshtoken.Transport)
		url  string
		want error
	}{
		{name: "no Source", edit: func(_ *world, rt *freshtoken.Transport) { rt.Source = nil }},
		{name: "no origins", edit: func(_ *world, rt *freshtoken.Transport) { rt.Origins = nil }, want: freshtoken.ErrOrigin},
		{name: "another origin", url: "https://other.test/", want: freshtoken.ErrOrigin},
		{name: "plain http", url: "http://oauth.test/api/x", want: freshtoken.ErrOrigin},
		{name: "no session", edit: func(w *world, rt *freshtoken.Transport) { rt.Source.Logout(t.Context()) }, want: freshtoken.ErrNoSession},
		{name: "session ended", edit: func(w *world, rt *freshtoken.Transport) {
			time.Sleep(2 * time.Hour)
			w.as.Token.Always(oauthtest.InvalidGrant())
		}, want: freshtoken.ErrSessionEnded},
		{name: "closed", edit: func(w *world, rt *freshtoken.Transport) { rt.Source.Close() }, want: freshtoken.ErrClosed},
		{name: "store failed", edit: func(w *world, rt *freshtoken.Transport) {
			w.store.(*faulty).set(func(f *faulty) { f.load = failing(broken) })
			time.Sleep(2 * time.Hour)
		}, want: broken},
	} {
		w := newWorld(t, oauthtest.Options{})
		w.faults()
		rt, spy := w.wired(w.loggedIn())
		if c.edit != nil {
			c.edit(w, rt)
		}
		if c.url == "" {
			c.url = w.as.APIURL("x")
		}
		body := bodyOf("body")
		req := rtRequest(t, http.MethodPost, c.url, body)
		resp, err := rt.RoundTrip(req)
		if err == nil || resp != nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: got %v and error %v, want error %v", c.name, resp, err, c.want)
		}
		if body.closed() != 1 || len(spy.requests()) != 0 {
			t.Errorf("%s: closed %d times, %d requests sent; want 1 and 0", c.name, body.closed(), len(spy.requests()))
		}
	}

	// From here on the base closes, and closes each body it is given.
	w := newWorld(t, oauthtest.Options{})
	src := w.loggedIn()
	rt, _ := w.wired(src)
	client := &http.Client{Transport: rt}
	for _, c := range []struct {
		name   string
		fault  []oauthtest.Fault
		bodies int
		fails  bool
	}{
		{"served", nil, 1, false},
		{"connection refused", []oauthtest.Fault{oauthtest.Refuse()}, 1, true},
		{"connection dropped", []oauthtest.Fault{oauthtest.Drop()}, 1, true},
		{"replayed", []oauthtest.Fault{oauthtest.Unauthorized()}, 2, false},
		{"replay dropped", []oauthtest.Fault{oauthtest.Unauthorized(), oauthtest.Drop()}, 2, true},
		{"replay refused", []oauthtest.Fault{oauthtest.Unauthorized(), oauthtest.Unauthorized()}, 2, false},
	} {
		bodies := []*countedBody{bodyOf("body")}
		req := rtRequest(t, http.MethodPost, w.as.APIURL("x"), bodies[0])
		req.ContentLength = 4
		req.GetBody = func() (io.ReadCloser, error) {
			bodies = append(bodies, bodyOf("body"))
			return bodies[len(bodies)-1], nil
		}
		w.as.API.Next(c.fault...)
		resp, err := client.Do(req)
		if (err != nil) != c.fails {
			t.Errorf("%s: error %v", c.name, err)
		}
		if err == nil {
			rtFinish(t, resp, nil)
		}
		synctest.Wait()
		rtWant(t, c.name+": bodies", len(bodies), c.bodies)
		for i, b := range bodies {
			if b.closed() == 0 {
				t.Errorf("%s: body %d was not closed", c.name, i)
			}
		}
	}
}

func testDoesNotReplay(t *testing.T) {
	w := newWorld(t, oauthtest.Options{})
	src := w.loggedIn()
	rt, spy := w.wired(src)
	piped := func() (*http.Request, func()) {
		r, pw := io.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			io.WriteString(pw, "streamed")
			pw.Close()
		}()
		return rtRequest(t, http.MethodPost, w.as.APIURL("x"), r), func() { <-done }
	}
	for _, c := range []struct {
		name string
		make func() (*http.Request, func())
	}{
		{"io.Pipe", piped},
		{"no GetBody", func() (*http.Request, func()) {
			return rtRequest(t, http.MethodPost, w.as.APIURL("x"), bodyOf("body")), func() {}
		}},
		{"failing GetBody", func() (*http.Request, func()) {
			req := rtRequest(t, http.MethodPost, w.as.APIURL("x"), bodyOf("body"))
			req.GetBody = func() (io.ReadCloser, error) { return nil, errors.New("gone") }
			return req, func() {}
		}},
	} {
		w.revoke(src)
		before := len(spy.requests())
		req, wait := c.make()
		resp, err := rt.RoundTrip(req)
		status, body := rtFinish(t, resp, err)
		wait()
		rtWant(t, c.name+": status", status, http.StatusUnauthorized)
		if !strings.Contains(body, "invalid_token") {
			t.Errorf("%s: the answer's body is %q", c.name, body)
		}
		rtWant(t, c.name+": requests", len(spy.requests())-before, 1)
		// The next request is fresh from the start.
		rtWant(t, c.name+": next", rtGet(t, &http.Client{Transport: rt}, w.as.APIURL("y")), http.StatusOK)
		rtWant(t, c.name+": requests", len(spy.requests())-before, 2)
	}

	// Without a body there is nothing to be had again.
	for _, body := range []io.Reader{nil, http.NoBody} {
		w.revoke(src)
		req := rtRequest(t, http.MethodPost, w.as.APIURL("x"), body)
		req.GetBody = nil
		resp, err := rt.RoundTrip(req)
		status, _ := rtFinish(t, resp, err)
		rtWant(t, "without a body", status, http.StatusOK)
	}
}

func testReadsLittle(t *testing.T) {
	w := newWorld(t, oauthtest.Options{})
	src := w.loggedIn()
	for _, name := range []string{"endless-body", "slow-body"} {
		f := oauthtest.Pick(oauthtest.Rejections(), name)
		first := &rtMeter{}
		rt := &freshtoken.Transport{Source: src, Origins: []string{w.as.BaseURL()}, Base: first.over(w.as.Transport())}
		w.as.API.Next(f)
		start := time.Now()
		rtWant(t, name, rtGet(t, &http.Client{Transport: rt}, w.as.APIURL("x")), http.StatusOK)
		rtWant(t, name+": waited", time.Since(start), 0)
		synctest.Wait()
		if first.read > 64<<10 || first.closes != 1 {
			t.Errorf("%s: read %d bytes of the rejection, closed it %d times", name, first.read, first.closes)
		}
	}

	// One that is short and says so is read, so that its connection serves on.
	short := &rtMeter{}
	rt := &freshtoken.Transport{Source: src, Origins: []string{w.as.BaseURL()}, Base: short.over(w.as.Transport())}
	w.as.API.Next(oauthtest.JSON(401, `{"error":"invalid_token"}`))
	rtWant(t, "short", rtGet(t, &http.Client{Transport: rt}, w.as.APIURL("x")), http.StatusOK)
	rtWant(t, "short: read", short.read, int64(len(`{"error":"invalid_token"}`)))
	rtWant(t, "short: closes", short.closes, 1)

	// One that goes back is left unread.
	back := &rtMeter{}
	rt = &freshtoken.Transport{Source: src, Origins: []string{w.as.BaseURL()}, Base: back.over(w.as.Transport()), NoReplay: true}
	w.as.API.Next(oauthtest.JSON(401, `{"error":"invalid_token"}`))
	resp, err := rt.RoundTrip(rtRequest(t, http.MethodGet, w.as.APIURL("x"), nil))
	if err != nil || back.read != 0 || back.closes != 0 {
		t.Errorf("read %d bytes of an answer that goes back, closed it %d times, error %v", back.read, back.closes, err)
	}
	rtFinish(t, resp, err)
}

// rtMeter measures what is read of the first answer that passes.
type rtMeter struct {
	io.ReadCloser
	used   bool
	read   int64
	closes int
}

func (m *rtMeter) over(base http.RoundTripper) http.RoundTripper {
	return rtFunc(func(req *http.Request) (*http.Response, error) {
		resp, err := base.RoundTrip(req)
		if err == nil && !m.used {
			m.used, m.ReadCloser = true, resp.Body
			resp.Body = m
		}
		return resp, err
	})
}

func (m *rtMeter) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	m.read += int64(n)
	return n, err
}

func (m *rtMeter) Close() error { m.closes++; return m.ReadCloser.Close() }

type rtFunc func(*http.Request) (*http.Response, error)

func (f rtFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func testStreams(t *testing.T) {
	w := newWorld(t, oauthtest.Options{})
	src := w.loggedIn()
	// Server-sent events arrive one by one, while the answer is being made.
	w.as.Handle("stream.test", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		for range 3 {
			io.WriteString(rw, "data: tick\n\n")
			rw.(http.Flusher).Flush()
			time.Sleep(time.Second)
		}
	}))
	rt, _ := w.wired(src, func(t *freshtoken.Transport) { t.Origins = append(t.Origins, "https://stream.test") })
	start := time.Now()
	resp, err := rt.RoundTrip(rtRequest(t, http.MethodGet, "https://stream.test/", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	event := make([]byte, len("data: tick\n\n"))
	for i := range 3 {
		if _, err := io.ReadFull(resp.Body, event); err != nil {
			t.Fatal(err)
		}
		rtWant(t, "event after", time.Since(start), time.Duration(i)*time.Second)
	}
	if _, err := resp.Body.Read(event); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}

	// The body of an upgrade can still be written to.
	var upgraded readWriteCloser
	rt.Base = rtAnswers(func(*http.Request) *http.Response {
		resp := answerOf(http.StatusSwitchingProtocols, "")
		resp.Body = &upgraded
		return resp
	})
	resp, err = rt.RoundTrip(rtRequest(t, http.MethodGet, w.as.APIURL("ws"), nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := resp.Body.(io.ReadWriteCloser); !ok {
		t.Errorf("the body of a 101 is a %T, which cannot be written to", resp.Body)
	}
}

type readWriteCloser struct{ bytes.Buffer }

func (*readWriteCloser) Close() error { return nil }
