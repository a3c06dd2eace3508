package freshtoken_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// What only sockets can show: net/http's own transport, which reads and closes
// bodies when it likes.

// socketed is a world over a listener, and a base that counts its connections.
func socketed(t *testing.T) (*world, *http.Transport, *atomic.Int64) {
	t.Helper()
	w := newWorld(t, oauthtest.Options{})
	stop := w.as.Start()
	t.Cleanup(stop)
	base, open := countingBase(t)
	return w, base, open
}

func countingBase(t *testing.T) (*http.Transport, *atomic.Int64) {
	dialled := new(atomic.Int64)
	dialer := new(net.Dialer)
	base := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialled.Add(1)
		return dialer.DialContext(ctx, network, addr)
	}}
	t.Cleanup(base.CloseIdleConnections)
	return base, dialled
}

func testExpectContinue(t *testing.T) {
	w, base, _ := socketed(t)
	base.ExpectContinueTimeout = time.Hour // the server always answers first
	src := w.loggedIn()
	rt := &freshtoken.Transport{Source: src, Base: base, Origins: []string{w.as.BaseURL()}}
	for _, dead := range []bool{false, true} {
		if dead {
			w.revoke(src)
		}
		req := posting(t, w.as.APIURL("x"), bytes.Repeat([]byte("0123456789abcdef"), 1<<18))
		req.Method = http.MethodPut
		req.Header.Set("Expect", "100-continue")
		resp, err := rt.RoundTrip(req)
		status, body := rtFinish(t, resp, err)
		rtWant(t, "status", status, http.StatusOK)
		if !strings.Contains(body, fmt.Sprintf(`"length":%d`, 4<<20)) {
			t.Errorf("the API saw %s", body)
		}
	}
	w.wantPosts(1)
	rtWant(t, "damaged bodies", w.as.Stats().DamagedBodies, 0)
	log := w.as.LogOf(oauthtest.APIEndpoint)
	rtWant(t, "requests", len(log), 3)
	rtWant(t, "bytes before the 401", log[1].BodyLength, 0)
}

// The API answers before it has read the body, and net/http may be reading it
// still when the replay reads another.
func TestEarlyAnswerOverSockets(t *testing.T) {
	w, base, _ := socketed(t)
	src := w.loggedIn()
	rt := &freshtoken.Transport{Source: src, Base: base, Origins: []string{w.as.BaseURL()}}
	body := bytes.Repeat([]byte("0123456789abcdef"), 8<<20/16)
	for range 3 {
		w.revoke(src)
		req := posting(t, w.as.APIURL("x"), body)
		first := &countedBody{Reader: bytes.NewReader(body)}
		req.Body = first
		resp, err := rt.RoundTrip(req)
		if status, text := rtFinish(t, resp, err); status != http.StatusOK {
			t.Errorf("got %d %s", status, text)
		}
		if first.closed() == 0 {
			t.Error("the first body was not closed")
		}
	}
	w.wantPosts(3)
	rtWant(t, "damaged bodies", w.as.Stats().DamagedBodies, 0)
}

// A 401 whose body never ends costs its connection and nothing else; a short
// one does not even cost that.
func TestConnectionsAfterRejections(t *testing.T) {
	for _, c := range []struct {
		fault string
		want  int64 // connections
	}{
		{"endless-body", 2},
		{"json", 1},
		{"bare", 1},
	} {
		w, base, dialled := socketed(t)
		rt := &freshtoken.Transport{Source: w.loggedIn(), Base: base, Origins: []string{w.as.BaseURL()}}
		w.as.API.Next(oauthtest.Pick(oauthtest.Rejections(), c.fault))
		rtWant(t, c.fault+": status", rtGet(t, &http.Client{Transport: rt}, w.as.APIURL("x")), http.StatusOK)
		rtWant(t, c.fault+": connections", dialled.Load(), c.want)
		rtWant(t, c.fault+": damaged or cut", w.as.Stats().DamagedBodies, 0)
	}
}

// An upgraded connection is the caller's, both ways, after a rejection too.
func TestUpgradeOverSockets(t *testing.T) {
	w := newWorld(t, oauthtest.Options{})
	src := w.loggedIn()
	accepted := func(r *http.Request) bool {
		return w.as.AccessAlive(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	}
	api := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !accepted(r) {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		conn, buffered, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(conn, buffered)
	}))
	defer api.Close()
	base, _ := countingBase(t)
	rt := &freshtoken.Transport{Source: src, Base: base, Origins: []string{api.URL}}
	for _, dead := range []bool{false, true} {
		if dead {
			w.revoke(src)
		}
		req := rtRequest(t, http.MethodGet, api.URL, nil)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "echo")
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		rtWant(t, "status", resp.StatusCode, http.StatusSwitchingProtocols)
		conn, ok := resp.Body.(io.ReadWriteCloser)
		if !ok {
			t.Fatalf("the body is a %T, which cannot be written to", resp.Body)
		}
		in := bufio.NewReader(conn)
		for _, line := range []string{"one\n", "two\n"} {
			if _, err := io.WriteString(conn, line); err != nil {
				t.Fatal(err)
			}
			got, err := in.ReadString('\n')
			if got != line || err != nil {
				t.Errorf("sent %q, got back %q, error %v", line, got, err)
			}
		}
		conn.Close()
	}
	w.wantPosts(1)
}

// HTTP/2: many requests on one connection, rejected and replayed there.
func TestHTTP2(t *testing.T) {
	w := newWorld(t, oauthtest.Options{KillOldAccess: true})
	var mu sync.Mutex // guards protocols
	protocols := map[string]int{}
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		protocols[r.Proto]++
		mu.Unlock()
		w.as.ServeHTTP(rw, r)
	}))
	api.EnableHTTP2 = true
	api.Config.ErrorLog = quiet // connections that lost the race for being the first
	api.StartTLS()
	defer api.Close()
	src := w.loggedIn()
	rt := &freshtoken.Transport{Source: src, Base: api.Client().Transport, Origins: []string{api.URL}}
	client := &http.Client{Transport: rt}
	w.revoke(src)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			resp, err := client.Do(posting(t, api.URL+"/api/x", bytes.Repeat([]byte{byte(i)}, i<<12)))
			if status, body := rtFinish(t, resp, err); status != http.StatusOK {
				t.Errorf("got %d %s", status, body)
			}
		})
	}
	wg.Wait()
	w.wantPosts(1)
	rtWant(t, "damaged bodies", w.as.Stats().DamagedBodies, 0)
	mu.Lock()
	defer mu.Unlock()
	if protocols["HTTP/2.0"] < 50 || len(protocols) != 1 {
		t.Errorf("the requests came over %v", protocols)
	}
}

// What net/http does at a redirect, over sockets: two hosts, two ports.
func TestRedirectsOverSockets(t *testing.T) {
	var mu sync.Mutex // guards got
	var got []string
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.Header.Values("Authorization")...)
	}))
	defer other.Close()
	w, base, _ := socketed(t)
	src := w.loggedIn()
	client := &http.Client{Transport: &freshtoken.Transport{Source: src, Base: base, Origins: []string{w.as.BaseURL()}}}
	_, port, err := net.SplitHostPort(other.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range redirects {
		for _, host := range []string{"127.0.0.1", "localhost"} { // the same host, and another name
			w.as.API.Next(oauthtest.Redirect(code, "http://"+net.JoinHostPort(host, port)+"/"))
			resp, err := client.Do(posting(t, w.as.APIURL("x"), []byte("body")))
			status, _ := rtFinish(t, resp, err)
			rtWant(t, "status", status, http.StatusOK)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(got) != 0 {
		t.Errorf("another port got %d tokens", len(got))
	}
	log := w.as.LogOf(oauthtest.APIEndpoint)
	if len(log) != 2*len(redirects) || !slices.ContainsFunc(log, func(e oauthtest.Entry) bool { return e.Outcome == oauthtest.Canned }) {
		t.Errorf("the API got %d requests", len(log))
	}
}
