package freshtoken_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/endpoint"
	"github.com/freshtoken/freshtoken/internal/faultproxy"
	"github.com/freshtoken/freshtoken/internal/figures"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// The exchange of a code is cut at each byte: the code is sent once, and an
// error that says it was not sent is right.
func TestNetworkCodeExchange(t *testing.T) {
	cuts := 0
	for _, protocol := range []string{"http/1.1", "h2"} {
		for _, response := range []bool{false, true} {
			l := newLine(t, protocol)
			for at := 0; at < maxBytes; at += 2 * *networkStride {
				do := []faultproxy.Action{faultproxy.Close, faultproxy.Reset, faultproxy.HalfClose, faultproxy.Stall}[at / *networkStride / 2 % 4]
				if !l.cutExchange(faultproxy.Plan{Do: do, Response: response, At: at}) || t.Failed() {
					break
				}
				cuts++
			}
		}
	}
	figures.Record(t, "networks.code", strconv.Itoa(cuts))
}

func (l *line) cutExchange(plan faultproxy.Plan) (carriedOut bool) {
	l.t.Helper()
	n := newNetwork(l.t)
	l.current.Store(&lineServer{as: n.as, arrivals: map[string][]arrival{}})
	c := l.client(plan)
	n.by = []http.RoundTripper{c}
	cfg := freshtoken.Config{OAuth2: n.as.OAuth2(), HTTPClient: &http.Client{Transport: n}}
	cfg.OAuth2.Endpoint.TokenURL = l.path
	var browser sync.WaitGroup
	flow := login.Loopback{Prompt: login.Prompt{Browse: func(_ context.Context, address string) error {
		browser.Go(func() {
			if resp, err := n.as.Browser().Get(address); err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
		return nil
	}}}
	tok, err := flow.Authenticate(l.t.Context(), cfg)
	browser.Wait()
	c.end()
	_, _, carriedOut = l.proxy.Bytes()
	s := n.as.Stats()
	lost := new(endpoint.SendError)
	switch {
	// A code that is shown twice is a reuse. What else there is can be the
	// request of the cut before, which came late.
	case n.attempts != 1 || s.CodeLogins > 1 || s.CodeReuses > 0:
		l.t.Errorf("%+v: the code was sent %d times, %d requests, error %v", plan, n.attempts, s.TokenRequests, err)
	case err == nil && (s.CodeLogins != 1 || !n.as.AccessAlive(tok.AccessToken)):
		l.t.Errorf("%+v: a token that is not alive", plan)
	case errors.As(err, &lost) && lost.Unsent && s.CodeLogins > 0:
		l.t.Errorf("%+v: the code was spent: %v", plan, err)
	case err != nil && !carriedOut:
		l.t.Errorf("%+v: %v", plan, err)
	}
	return carriedOut
}

// A pipeNet is a network within a bubble whose connections end at a byte.
type pipeNet struct {
	listener chan net.Conn
	closed   chan struct{}

	conns    int  // dialled. One at a time.
	which    int  // is cut, from 1
	response bool // the direction
	at       int
	reached  bool
}

func (p *pipeNet) Accept() (net.Conn, error) {
	select {
	case conn := <-p.listener:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipeNet) Close() error   { return nil }
func (p *pipeNet) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipeNet) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p.listener <- server
	if p.conns++; p.conns == p.which {
		return &cutConn{Conn: client, p: p}, nil
	}
	return client, nil
}

// A cutConn is the client's end of a connection that is cut.
type cutConn struct {
	net.Conn
	p    *pipeNet
	seen int // bytes in the direction that is cut; one goroutine for each
}

func (c *cutConn) Write(data []byte) (int, error) {
	if c.p.response || c.seen+len(data) <= c.p.at {
		if !c.p.response {
			c.seen += len(data)
		}
		return c.Conn.Write(data)
	}
	c.p.reached = true
	n, _ := c.Conn.Write(data[:c.p.at-c.seen])
	c.Conn.Close()
	return n, net.ErrClosed
}

func (c *cutConn) Read(data []byte) (int, error) {
	if !c.p.response {
		return c.Conn.Read(data)
	}
	n, err := c.Conn.Read(data)
	if c.seen+n > c.p.at {
		c.p.reached = true
		n, err = c.p.at-c.seen, io.EOF
		c.Conn.Close()
	}
	c.seen += n
	return n, err
}

// The polls of a login on another device are cut at each byte. Only an answer
// with tokens that got lost ends the login.
func TestNetworkDevicePolls(t *testing.T) {
	cuts, lost := 0, 0
	for _, poll := range []int{1, 2} { // the first is too early for the person, the second is not
		for _, response := range []bool{false, true} {
			for at := 0; ; at += *networkStride {
				reached := false
				inBubble(t, "R8628-3.5-net poll "+strconv.Itoa(poll)+", "+strconv.FormatBool(response)+", "+strconv.Itoa(at), func(t *testing.T) {
					p := &pipeNet{listener: make(chan net.Conn), closed: make(chan struct{}), which: 1 + poll, response: response, at: at}
					as := oauthtest.New(oauthtest.Options{BaseURL: "http://127.0.0.1:1"})
					testCutPoll(t, p, as)
					if as.Stats().CodeReuses > 0 {
						lost++
					}
					reached = p.reached
				})
				if !reached || t.Failed() {
					break
				}
				cuts++
			}
		}
	}
	if lost == 0 && !t.Failed() {
		t.Error("no answer with tokens was lost")
	}
	figures.Record(t, "networks.device", strconv.Itoa(cuts))
}

func testCutPoll(t *testing.T, p *pipeNet, as *oauthtest.Server) {
	server := &http.Server{Handler: as, ErrorLog: quiet}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(p) })
	base := &http.Transport{DialContext: p.dial}
	defer func() {
		base.CloseIdleConnections()
		close(p.closed)
		server.Close()
		serving.Wait()
	}()
	flow := login.Device{Prompt: login.Prompt{Show: func(_ context.Context, c login.Code) error {
		time.AfterFunc(7*time.Second, func() { as.ApproveDevice(c.Code, "alice") })
		return nil
	}}}
	tok, err := flow.Authenticate(t.Context(), freshtoken.Config{OAuth2: as.OAuth2(), HTTPClient: &http.Client{Transport: base}})
	s := as.Stats()
	switch {
	case err == nil && !as.AccessAlive(tok.AccessToken):
		t.Error("a token that is not alive")
	case err != nil && (s.DeviceLogins != 1 || !p.reached):
		t.Errorf("the login has ended though nothing was lost: %v, %+v", err, s)
	case err != nil && strings.Contains(err.Error(), "device_code"):
		t.Error(err)
	case s.TokenRequests > p.conns-1:
		t.Errorf("%d token requests over %d connections", s.TokenRequests, p.conns)
	}
}
