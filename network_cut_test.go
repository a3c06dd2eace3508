package freshtoken_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/internal/faultproxy"
	"github.com/freshtoken/freshtoken/internal/figures"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// certificate returns one for 127.0.0.1 that is its own authority. Its size and
// that of its signatures are always the same.
func certificate(t *testing.T, edit func(*x509.Certificate)) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	if edit != nil {
		edit(c)
	}
	der, err := x509.CreateCertificate(nil, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// A line is one way to a token endpoint over sockets, with a proxy in between
// that breaks connections.
type line struct {
	t       *testing.T
	proxy   *faultproxy.Proxy
	tls     *tls.Config // of clients; nil: plain HTTP
	path    string
	warm    bool        // each refresh finds a connection that was used before
	narrow  bool        // each is for an access token of a Target
	cert    *clientCert // that clients show; nil: none
	current atomic.Pointer[lineServer]
}

// newLine starts a server that speaks one of "http/1.1", "https/1.1" and "h2".
func newLine(t *testing.T, protocol string) *line {
	t.Helper()
	return newLineFor(t, protocol, nil)
}

// newLineFor is newLine for clients that show a certificate, if that is not nil.
func newLineFor(t *testing.T, protocol string, client *clientCert) *line {
	t.Helper()
	l := &line{t: t, path: "http://", cert: client}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { l.current.Load().ServeHTTP(w, r) }))
	server.Config.ErrorLog = quiet
	if protocol == "http/1.1" {
		server.Start()
	} else {
		cert, pool := certificate(t, nil)
		server.EnableHTTP2 = protocol == "h2"
		server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		if client != nil {
			server.TLS.ClientAuth = tls.RequestClientCert
		}
		server.StartTLS()
		// A key exchange of few bytes: each is cut.
		l.tls = &tls.Config{RootCAs: pool, CurvePreferences: []tls.CurveID{tls.X25519}}
		l.path = "https://"
	}
	t.Cleanup(server.Close)
	l.proxy = faultproxy.New(t, server.Listener.Addr().String())
	l.path += l.proxy.Addr + "/token"
	return l
}

// A lineServer takes the requests of one session to its server, one at a time,
// and notes what each attempt was to it.
type lineServer struct {
	as *oauthtest.Server

	mu       sync.Mutex // guards what follows; held while a request is served
	arrivals map[string][]arrival
}

// An arrival is a request of which at least the header has arrived.
type arrival struct {
	bytes     int // of the body
	whole     bool
	committed bool
	late      bool // it took effect after a later attempt
}

func (s *lineServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	s.mu.Lock()
	defer s.mu.Unlock()
	a := arrival{bytes: len(body), whole: err == nil && int64(len(body)) == r.ContentLength}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if !a.whole {
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), broken{}))
	}
	if r.URL.Path != "/token" {
		s.as.ServeHTTP(w, r)
		return
	}
	before := len(s.as.LogOf(oauthtest.TokenEndpoint))
	defer func() {
		after := s.as.LogOf(oauthtest.TokenEndpoint)[before:]
		for _, e := range after {
			a.committed = a.committed || e.Outcome == oauthtest.Granted
		}
		a.late = before > 0 || len(after) != 1
		attempt := r.Header.Get(attemptHeader)
		s.arrivals[attempt] = append(s.arrivals[attempt], a)
	}()
	s.as.ServeHTTP(w, r)
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// of returns what an attempt was to the server.
func (s *lineServer) of(attempt int) []arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]arrival(nil), s.arrivals[strconv.Itoa(attempt)]...)
}

// A lineClient is the way of one attempt over a line.
type lineClient struct {
	base    closer
	l       *line
	stalled <-chan struct{} // ends the attempt

	mu       sync.Mutex // guards what follows
	conns    []net.Conn
	ready    bool // for requests, once at least
	settling sync.WaitGroup
}

func (l *line) client(plan faultproxy.Plan) *lineClient {
	c := &lineClient{l: l, stalled: l.proxy.Next(plan)}
	base := &http.Transport{TLSClientConfig: l.tls.Clone(), ForceAttemptHTTP2: true, DialContext: c.dial}
	if c.base = base; l.cert != nil {
		c.base = l.cert.over(l.t, base)
	}
	return c
}

func (c *lineClient) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

// RoundTrip gives up when the proxy has stalled, in the place of a timeout.
func (c *lineClient) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.ready = true
		},
	}))
	c.settling.Go(func() {
		defer cancel()
		select {
		case <-c.stalled:
		case <-ctx.Done():
		}
	})
	resp, err := c.base.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Body = &cancelled{resp.Body, cancel}
	return resp, nil
}

type cancelled struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (c *cancelled) Close() error {
	defer c.cancel()
	return c.ReadCloser.Close()
}

// end closes what the attempt has opened, and waits until it is settled what the
// server has got of it.
func (c *lineClient) end() {
	c.mu.Lock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.mu.Unlock()
	c.base.CloseIdleConnections()
	c.l.proxy.Wait()
	c.settling.Wait()
}

func (c *lineClient) wasReady() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ready
}

// A tally counts cuts by where they fell and by what the library made of them.
type tally struct {
	mu     sync.Mutex // guards counts
	counts map[string]int
}

func (y *tally) add(names ...string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.counts == nil {
		y.counts = map[string]int{}
	}
	for _, name := range names {
		y.counts[name]++
	}
}

// cut breaks one refresh off as planned, and checks what the library makes of
// it. It reports whether there was a byte to be cut.
func (l *line) cut(plan faultproxy.Plan, y *tally) bool {
	l.t.Helper()
	n := l.network()
	server := &lineServer{as: n.as, arrivals: map[string][]arrival{}}
	l.current.Store(server)
	c := l.client(plan)
	n.tokenURL = l.path
	settled := sync.OnceFunc(c.end)
	n.by = []http.RoundTripper{c, roundTripper(func(req *http.Request) (*http.Response, error) {
		settled() // or the first attempt might take effect after the second
		return n.direct().RoundTrip(req)
	})}
	failed := l.t.Failed()
	if l.warm {
		l.use(c)
	}
	o := n.refresh()
	settled()
	_, _, carriedOut := l.proxy.Bytes()
	l.judge(n, o, server.of(1), c.wasReady())
	if !failed && l.t.Failed() {
		l.t.Errorf("plan: %+v", plan)
	}
	if !carriedOut {
		return false
	}
	switch {
	case !c.wasReady():
		y.add("handshake", o.class)
	case plan.Response:
		y.add("response", o.class)
	default:
		y.add("request", o.class)
	}
	return true
}

// use has a connection opened that is idle afterwards.
func (l *line) use(c *lineClient) {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), http.MethodGet, strings.TrimSuffix(l.path, "token")+"login", nil)
	if err != nil {
		l.t.Fatal(err)
	}
	if resp, err := c.RoundTrip(req); err == nil { // or the plan is about this request
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// judge compares what the library has made of the first attempt with what
// arrived at the server.
func (l *line) judge(n *network, o outcome, arrived []arrival, ready bool) {
	l.t.Helper()
	committed := false
	for _, a := range arrived {
		if a.late {
			return // it took effect while the library went on, which nothing can prevent
		}
		committed = committed || a.committed
		if o.class == unsent && a.bytes > 0 {
			l.t.Errorf("%d bytes of the form were sent, and the attempt counts as unsent: %v", a.bytes, o.first)
		}
	}
	if len(arrived) > 1 {
		l.t.Errorf("the server got %d requests in one attempt", len(arrived))
	}
	if !ready && o.class != unsent {
		l.t.Errorf("there never was a connection, and the attempt counts as %s: %v", o.class, o.first)
	}
	if o.class == done && (len(arrived) != 1 || n.attempts != 1) {
		l.t.Errorf("done after %d requests of %d attempts", len(arrived), n.attempts)
	}
	n.check(o, committed)
	n.checkUse(o)
}

// roundTripper is a function that is an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// maxBytes bounds what a refresh may have in one direction.
const maxBytes = 8 << 10

// cutAll cuts one direction at every byte, until there is none left.
func (l *line) cutAll(response bool, y *tally) {
	l.t.Helper()
	actions := []faultproxy.Action{faultproxy.Close, faultproxy.Reset, faultproxy.HalfClose, faultproxy.Stall}
	if l.tls != nil {
		actions = append(actions, faultproxy.Duplicate) // what is not encrypted would be none the wiser
	}
	for at := 0; at < maxBytes; at += *networkStride {
		some := actions
		if !*networkAll {
			some = some[at / *networkStride % len(some):][:1]
		}
		reached := false
		for _, do := range some {
			reached = l.cut(faultproxy.Plan{Do: do, Response: response, At: at}, y) || reached
		}
		if l.t.Failed() {
			return
		}
		if !reached {
			y.add("ends")
			return
		}
	}
	l.t.Error("there is no end")
}

// Each byte of a refresh is where the connection ends, in each way that it can:
// the library says of each cut what the server's log proves.
func TestNetworkCuts(t *testing.T) {
	y := new(tally)
	t.Run("cuts", func(t *testing.T) {
		for _, protocol := range []string{"http/1.1", "https/1.1", "h2"} {
			for _, response := range []bool{false, true} {
				name := protocol + ", request"
				if response {
					name = protocol + ", response"
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					l := newLine(t, protocol)
					l.cutAll(response, y)
				})
			}
		}
	})
	for _, name := range []string{"handshake", "request", "response", unsent, unknown, done, salvaged, refused} {
		figures.Record(t, "networks.cuts."+name, strconv.Itoa(y.counts[name]))
	}
	if y.counts["ends"] != 6 {
		t.Errorf("%d of 6 directions were cut to the end", y.counts["ends"])
	}
	if y.counts[unsent] == 0 || y.counts[unknown] == 0 || y.counts[salvaged] == 0 || y.counts[refused] == 0 {
		t.Error("some outcome never came")
	}
	figures.Record(t, "networks.cuts.wrong", "0")
}

// A connection that has served before is killed just as the refresh is written,
// or later: net/http, which repeats requests for less, does not repeat this one.
func TestNetworkReusedConnections(t *testing.T) {
	y := new(tally)
	for _, protocol := range []string{"http/1.1", "https/1.1", "h2"} {
		for _, response := range []bool{false, true} {
			l := newLine(t, protocol)
			l.warm = true
			// How much the first request takes.
			l.current.Store(&lineServer{as: oauthtest.New(oauthtest.Options{}), arrivals: map[string][]arrival{}})
			c := l.client(faultproxy.Plan{})
			l.use(c)
			request, resp, _ := l.proxy.Bytes()
			c.end()
			at := request
			if response {
				at = resp
			}
			for i, stride := 0, 4**networkStride; i < maxBytes; i += stride {
				do := []faultproxy.Action{faultproxy.Close, faultproxy.Reset, faultproxy.HalfClose, faultproxy.Stall}[i/stride%4]
				if !l.cut(faultproxy.Plan{Do: do, Response: response, At: at + i}, y) || t.Failed() {
					break
				}
			}
		}
	}
	if y.counts[unknown] == 0 {
		t.Error("no cut left the outcome unknown")
	}
	figures.Record(t, "networks.reused", strconv.Itoa(y.counts["request"]+y.counts["response"]+y.counts["handshake"]))
}
