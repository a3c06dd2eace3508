package freshtoken_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

const stormSize = 1000

// A thousand requests are on their way when the API stops accepting their
// token. Nobody sees a 401, the token endpoint is asked once, and every body
// arrives whole.
func TestStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{KillOldAccess: true})
		src := w.loggedIn()
		rt, spy := w.wired(src)
		w.as.API.Func(underWay(200*time.Millisecond, stormSize))
		w.as.Token.Always(oauthtest.Fault{Delay: 50 * time.Millisecond})
		w.revoke(src)
		start := time.Now()
		weather(t, &http.Client{Transport: rt}, w.as.APIURL("x"))
		if d := time.Since(start); d > 650*time.Millisecond {
			t.Errorf("all were served after %v: more than a rejection, a refresh and an answer take", d)
		}
		w.wantCalm(len(spy.requests()), stormSize)
	})
}

// underWay answers each of n requests after a tenth of a second, when all of them
// have been sent, and the last of them after so much more.
func underWay(spread time.Duration, n int) func(*http.Request, int) oauthtest.Fault {
	stagger := oauthtest.Stagger(spread, n)
	return func(r *http.Request, i int) oauthtest.Fault {
		f := stagger(r, i)
		f.AfterDelay += 100 * time.Millisecond
		return f
	}
}

// The same with net/http over sockets. The first requests are judged when this
// many have arrived.
func TestStormOverSockets(t *testing.T) {
	const held = 400
	w := newWorld(t, oauthtest.Options{KillOldAccess: true})
	stop := w.as.Start()
	defer stop()
	slots := make(chan struct{}, 64) // the kernel's queue of new connections is short on some systems
	dialer := new(net.Dialer)
	base := &http.Transport{MaxIdleConnsPerHost: stormSize}
	base.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		slots <- struct{}{}
		defer func() { <-slots }()
		return dialer.DialContext(ctx, network, addr)
	}
	defer base.CloseIdleConnections()
	src := w.loggedIn(func(c *freshtoken.Config) { c.HTTPClient = &http.Client{Transport: base} })
	spy := &rtWire{base: base}
	rt := &freshtoken.Transport{Source: src, Base: spy, Origins: []string{w.as.BaseURL()}}
	gate := oauthtest.NewGate()
	stagger := oauthtest.Stagger(200*time.Millisecond, held)
	w.as.API.Func(func(r *http.Request, n int) oauthtest.Fault {
		f := stagger(r, n)
		f.Before = gate.Hold
		return f
	})
	go func() {
		defer gate.Open()
		for range held {
			select {
			case <-gate.Arrived():
			case <-t.Context().Done():
				return
			}
		}
	}()
	w.revoke(src)
	weather(t, &http.Client{Transport: rt}, w.as.APIURL("x"))
	w.wantCalm(len(spy.requests()), held)
}

// Rejections must not hold the connections that the refresh needs, when both go
// to the same host and connections are few.
func TestRejectionsLeaveAConnectionForTheRefresh(t *testing.T) {
	w := newWorld(t, oauthtest.Options{KillOldAccess: true})
	defer w.as.Start()()
	base := &http.Transport{MaxConnsPerHost: 2}
	defer base.CloseIdleConnections()
	src := w.loggedIn(func(c *freshtoken.Config) { c.HTTPClient = &http.Client{Transport: base} })
	client := w.client(src, func(rt *freshtoken.Transport) { rt.Base = base })
	w.revoke(src)
	ctx := soon(t, 20*time.Second) // less than the refresh would wait for
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.as.APIURL("x"), nil)
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := client.Do(req)
			if status, body := rtFinish(t, resp, err); status != http.StatusOK {
				t.Errorf("a caller got %d %s", status, body)
			}
		})
	}
	wg.Wait()
	w.wantPosts(1)
}

// weather sends the storm: every other request has a body, of up to 100 KiB.
func weather(t *testing.T, client *http.Client, url string) {
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range stormSize {
		wg.Go(func() {
			req := rtRequest(t, http.MethodGet, url, nil)
			if i%2 == 0 {
				body := bytes.Repeat(fmt.Appendf(nil, "request %d ", i), 1+i*10)
				req = posting(t, url, body)
			}
			<-begin
			resp, err := client.Do(req)
			if status, body := rtFinish(t, resp, err); status != http.StatusOK {
				t.Errorf("a caller got %d %s", status, body)
			}
		})
	}
	close(begin)
	wg.Wait()
}

// wantCalm checks what the storm has done to the server.
func (w *world) wantCalm(sent, rejected int) {
	w.t.Helper()
	w.wantPosts(1)
	s := w.as.Stats()
	rtWant(w.t, "damaged bodies", s.DamagedBodies, 0)
	rtWant(w.t, "answers 200", s.APIServed, stormSize)
	rtWant(w.t, "reuses", s.Reuses, 0)
	if s.APIUnauthorized < rejected || s.APIUnauthorized > stormSize || sent != stormSize+s.APIUnauthorized {
		w.t.Errorf("%d requests, %d rejected: want each to be sent once, and again if rejected", sent, s.APIUnauthorized)
	}
}
