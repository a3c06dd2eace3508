package freshtoken_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/internal/figures"
)

// An acceptor is what somebody does with a connection that is not a token
// endpoint.
type acceptor func(net.Conn)

// acceptIn listens on the loopback interface until the test ends.
func acceptIn(t *testing.T, network, address string, do acceptor) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			do(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func accept(t *testing.T, do acceptor) string { return acceptIn(t, "tcp", "127.0.0.1:0", do) }

// nobody is an address where nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// proxied answers the CONNECT of a client with text.
func proxied(text string) acceptor {
	return func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			io.WriteString(conn, text)
		}
	}
}

// handshakes has a server that is not to be trusted greet clients.
func handshakes(c *tls.Config) acceptor {
	return func(conn net.Conn) { tls.Server(conn, c).Handshake() }
}

// Before there is a connection, nothing can be spent, and the library says so.
func TestNetworkUnsent(t *testing.T) {
	through := func(address string) *http.Transport {
		return &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: address})}
	}
	resolver := func(err error) *http.Transport {
		d := &net.Dialer{Resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, err }}}
		return &http.Transport{DialContext: d.DialContext}
	}
	greeting := func(edit func(*x509.Certificate), known bool) (*http.Transport, string) {
		cert, pool := certificate(t, edit)
		c := &tls.Config{RootCAs: pool}
		if !known {
			c.RootCAs = x509.NewCertPool()
		}
		return &http.Transport{TLSClientConfig: c}, "https://" + accept(t, handshakes(&tls.Config{Certificates: []tls.Certificate{cert}}))
	}
	type test struct {
		name string
		base *http.Transport
		to   string
	}
	tests := []test{
		{"the name is not known", resolver(&net.DNSError{Err: "no such host", IsNotFound: true}), "https://token.invalid"},
		{"the name server does not answer", resolver(&net.DNSError{Err: "timeout", IsTimeout: true}), "https://token.invalid"},
		{"the name server cannot be reached", resolver(errors.New("network is unreachable")), "https://token.invalid"},
		{"nobody listens", &http.Transport{}, "http://" + nobody(t)},
		{"a server without TLS", &http.Transport{}, "https://" + accept(t, proxied("HTTP/1.1 400 Bad Request\r\n\r\n"))},
		{"a server without TLS that speaks first", &http.Transport{}, "https://" + accept(t, func(c net.Conn) { io.WriteString(c, "220 ready\r\n") })},
		{"a proxy where nobody listens", through(nobody(t)), "https://token.invalid"},
	}
	for _, text := range []string{"", "H", "HTTP/1.1 2", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n\x15\x03\x01\x00\x02\x02\x28",
		"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n", "HTTP/1.1 403 Forbidden\r\n\r\n",
		"HTTP/1.1 502 Bad Gateway\r\n\r\n", "HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", "SSH-2.0-x\r\n", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 10)} {
		tests = append(tests, test{"a proxy that answers " + strconv.Quote(text), through(accept(t, proxied(text))), "https://token.invalid"})
	}
	for name, edit := range map[string]func(*x509.Certificate){
		"expired":                  func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(time.Minute) },
		"not valid yet":            func(c *x509.Certificate) { c.NotBefore = c.NotAfter.Add(-time.Minute) },
		"for another name":         func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"token.invalid"} },
		"for clients":              func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} },
		"of an unknown authority":  nil,
		"of an authority too weak": func(c *x509.Certificate) { c.IsCA = false; c.IPAddresses = nil },
	} {
		base, to := greeting(edit, edit != nil)
		tests = append(tests, test{"R6750-5.2-cert a certificate " + name, base, to})
	}
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil {
		to := l.Addr().String()
		l.Close()
		tests = append(tests, test{"nobody listens, IPv6", &http.Transport{}, "http://" + to})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newNetwork(t)
			n.tokenURL = tt.to + "/token"
			n.by = []http.RoundTripper{tt.base, inMemory{n.as}}
			defer tt.base.CloseIdleConnections()
			o := n.refresh()
			if o.class != unsent {
				t.Errorf("the attempt counts as %s: %v", o.class, o.first)
			}
			n.check(o, false)
		})
	}
	figures.Record(t, "networks.unsent", strconv.Itoa(len(tests)+testUnsentInTime(t)))
}

// testUnsentInTime is about those who never answer, in a bubble's time. It
// returns how many they are.
func testUnsentInTime(t *testing.T) int {
	const later = time.Minute
	silent := func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		time.AfterFunc(later, func() { server.Close() })
		go io.Copy(io.Discard, server)
		return client, nil
	}
	blackHole := func(ctx context.Context, _, _ string) (net.Conn, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(later): // net/http dials on when the request is over
			return nil, errors.New("connection timed out")
		}
	}
	tests := map[string]*http.Transport{
		"a black hole": {DialContext: blackHole},
		"a black hole that is dialled on": {DialContext: func(context.Context, string, string) (net.Conn, error) {
			time.Sleep(later) // whatever its context says
			return nil, errors.New("connection timed out")
		}},
		"a server that does not greet back":  {DialContext: silent},
		"a proxy that does not answer":       {DialContext: silent, Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy.invalid"})},
		"a proxy of SOCKS that says nothing": {DialContext: silent, Proxy: http.ProxyURL(&url.URL{Scheme: "socks5", Host: "proxy.invalid"})},
	}
	for name, base := range tests {
		inBubble(t, name, func(t *testing.T) {
			n := newNetwork(t)
			n.tokenURL = "https://[2001:db8::1]/token"
			n.by = []http.RoundTripper{base, inMemory{n.as}}
			t.Cleanup(func() { time.Sleep(time.Hour) }) // until what was dialled has come to nothing
			start := time.Now()
			o := n.refresh()
			if took := time.Since(start); took > 33*time.Second {
				t.Errorf("it took %v", took)
			}
			if o.class != unsent {
				t.Errorf("the attempt counts as %s: %v", o.class, o.first)
			}
			n.check(o, false)
		})
	}
	return len(tests)
}

// What transports of programs say proves as much as it proves.
func TestNetworkForeignTransports(t *testing.T) {
	opaque := errors.New("it did not work out")
	refusal := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	for _, tt := range []struct {
		name, class string
		way         roundTripper
	}{
		{"an error before the form was read", unsent, func(*http.Request) (*http.Response, error) { return nil, opaque }},
		{"an error after it was", unknown, func(req *http.Request) (*http.Response, error) {
			io.Copy(io.Discard, req.Body)
			return nil, opaque
		}},
		{"a refused connection, of a transport that reads first", unsent, func(req *http.Request) (*http.Response, error) {
			io.Copy(io.Discard, req.Body)
			return nil, refusal
		}},
		{"a refused connection after one that was not", unknown, func(req *http.Request) (*http.Response, error) {
			trace := httptrace.ContextClientTrace(req.Context())
			trace.GetConn("")
			trace.GotConn(httptrace.GotConnInfo{})
			io.Copy(io.Discard, req.Body)
			return nil, refusal
		}},
		{"one that wants the form again", unknown, func(req *http.Request) (*http.Response, error) {
			io.Copy(io.Discard, req.Body)
			if _, err := req.GetBody(); err == nil {
				t.Error("there is a second copy of the form")
			}
			return nil, opaque
		}},
		{"one that reads when it is over", unsent, func(req *http.Request) (*http.Response, error) {
			t.Cleanup(func() {
				if n, err := req.Body.Read(make([]byte, 10)); n > 0 || err == nil {
					t.Errorf("%d bytes can be read of a request that counts as unsent", n)
				}
			})
			return nil, opaque
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNetwork(t)
			n.by = []http.RoundTripper{tt.way, inMemory{n.as}}
			o := n.refresh()
			if o.class != tt.class {
				t.Errorf("the attempt counts as %s, want %s: %v", o.class, tt.class, o.first)
			}
			n.check(o, false)
		})
	}
}
