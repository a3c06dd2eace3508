package oauthtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
)

// Transport returns an http.RoundTripper that reaches the server and the hosts
// of [Server.Handle] without sockets. It keeps the contract of net/http's
// transport as far as clients can tell: it honours the request's context also
// while the body is read, closes the request's body on every path (possibly
// after it has returned), streams the answer, follows no redirect, and calls
// the httptrace hooks GetConn, GotConn (with an empty Conn), WroteHeaders,
// WroteRequest and GotFirstResponseByte. A dropped connection is a
// *net.OpError of Op "read", an unknown host one of Op "dial". Unlike
// net/http's, it never sends a request again by itself.
//
// It works in testing/synctest bubbles: it blocks on nothing but channels that
// are made for the one request.
func (s *Server) Transport() http.RoundTripper { return transport{s: s} }

type transport struct {
	s     *Server
	certs func() []*x509.Certificate // that the client presents; nil: none
}

func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	body := &onceBody{ReadCloser: req.Body}
	if req.Body == nil {
		body.ReadCloser = http.NoBody
	}
	resp, err := t.roundTrip(req, body)
	if err != nil {
		body.Close()
	}
	return resp, err
}

func (t transport) roundTrip(req *http.Request, body *onceBody) (*http.Response, error) {
	if err := checkRequest(req); err != nil {
		return nil, err
	}
	ctx := req.Context()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	trace := httptrace.ContextClientTrace(ctx)
	if trace != nil && trace.GetConn != nil {
		trace.GetConn(hostPort(req.URL))
	}
	handler, own := t.s.route(req.URL)
	if handler == nil {
		return nil, dialError(&net.DNSError{Err: "no such host", Name: req.URL.Hostname(), IsNotFound: true})
	}
	x := newExchange(req, body, trace)
	if t.certs != nil {
		x.certs = t.certs()
	}
	if own {
		if ep := endpointOf(req.URL.Path); ep != "" {
			d := drawn{t.s.draw(ep, req)}
			if d.fault.Unsent {
				t.s.unsent(ep, req, &d.fault)
				x.cancel()
				return nil, dialError(os.NewSyscallError("connect", syscall.ECONNREFUSED))
			}
			x.serverCtx = context.WithValue(x.serverCtx, drawnKey{}, d)
		}
	}
	if trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	stop := context.AfterFunc(ctx, x.cancel)
	go func() {
		defer stop()
		x.run(handler)
	}()
	select {
	case <-x.ready:
		if x.err != nil && ctx.Err() != nil {
			return nil, context.Cause(ctx) // the server noticed that we left
		}
		return x.resp, x.err
	case <-ctx.Done():
		x.cancel()
		return nil, context.Cause(ctx)
	}
}

func dialError(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }

func (s *Server) unsent(ep Endpoint, r *http.Request, f *Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newEntry(ep, r, f).Outcome = Unsent
	s.stats.Unsent++
}

// route returns the handler for a URL's host, and whether it is the server's
// own.
func (s *Server) route(u *url.URL) (h http.Handler, own bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	host := canonicalHost(u)
	if h := s.hosts[host]; h != nil {
		return h, false
	}
	if s.own[host] {
		return s, true
	}
	return nil, false
}

// canonicalHost is the host in lower case, without a port that the scheme
// implies.
func canonicalHost(u *url.URL) string {
	host := strings.ToLower(u.Host)
	if u.Scheme == "https" {
		return strings.TrimSuffix(host, ":443")
	}
	return strings.TrimSuffix(host, ":80")
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "80"
		if u.Scheme == "https" {
			port = "443"
		}
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// checkRequest refuses what net/http's transport refuses before it sends
// anything.
func checkRequest(req *http.Request) error {
	if req.URL == nil {
		return errors.New("http: nil Request.URL")
	}
	if req.Header == nil {
		return errors.New("http: nil Request.Header")
	}
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return fmt.Errorf("unsupported protocol scheme %q", req.URL.Scheme)
	}
	if req.URL.Host == "" {
		return errors.New("http: no Host in request URL")
	}
	for name, values := range req.Header {
		for _, v := range values {
			if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return fmt.Errorf("net/http: invalid header field value for %q", name) // never the value
			}
		}
	}
	return nil
}

// An onceBody is a request's body that is closed once, by whichever side comes
// first.
type onceBody struct {
	io.ReadCloser
	once sync.Once
	err  error
}

func (b *onceBody) Close() error {
	b.once.Do(func() { b.err = b.ReadCloser.Close() })
	return b.err
}

// smallBody is the size up to which a request's body is taken in whole before
// the handler runs, as the buffers of a socket would, unless the client expects
// to be asked for it.
const smallBody = 64 << 10

// An exchange is one request on its way through memory. It is the handler's
// http.ResponseWriter; its fields belong to the handler's goroutine until ready
// is closed, and resp and err to the client's from then on.
type exchange struct {
	req       *http.Request
	body      *onceBody
	trace     *httptrace.ClientTrace
	certs     []*x509.Certificate // of the client
	serverCtx context.Context
	cancel    context.CancelFunc

	header  http.Header
	status  int    // 0 until WriteHeader
	held    []byte // written, but not yet visible to the client
	written int64  // bytes of body from the handler
	out     *pipe  // nil until the header is made

	ready chan struct{} // closed once resp or err is set
	resp  *http.Response
	err   error
}

var (
	_ http.Flusher = (*exchange)(nil)
	_ finisher     = (*exchange)(nil)
)

func newExchange(req *http.Request, body *onceBody, trace *httptrace.ClientTrace) *exchange {
	x := &exchange{
		req: req, body: body, trace: trace,
		header: make(http.Header, 6),
		ready:  make(chan struct{}),
	}
	x.serverCtx, x.cancel = context.WithCancel(context.Background())
	return x
}

// run sends the request to the handler and the answer back.
func (x *exchange) run(h http.Handler) {
	defer x.cancel()
	defer x.body.Close()
	if x.trace != nil && x.trace.WroteHeaders != nil {
		x.trace.WroteHeaders()
	}
	r, err := x.serverRequest()
	if err != nil {
		x.fail(err)
		return
	}
	if x.serve(h, r) {
		x.finish(func() {})
	} else {
		x.abort()
	}
}

// serve reports whether the handler came to its end. One that panics with
// http.ErrAbortHandler, or ends its goroutine, did not; any other panic is a
// bug of the test, and passes.
func (x *exchange) serve(h http.Handler, r *http.Request) (whole bool) {
	returned := false
	defer func() {
		if returned {
			return
		}
		switch v := recover(); v {
		case http.ErrAbortHandler:
		case nil: // runtime.Goexit: the goroutine ends when the deferred calls have run
			x.abort()
		default:
			panic(v)
		}
	}()
	h.ServeHTTP(x, r)
	returned = true
	return true
}

// serverRequest makes what the handler gets to see.
func (x *exchange) serverRequest() (*http.Request, error) {
	req := x.req
	u := &url.URL{Path: req.URL.Path, RawPath: req.URL.RawPath, RawQuery: req.URL.RawQuery}
	host := req.Host
	if host == "" {
		host = req.URL.Host
	}
	r := &http.Request{
		Method: req.Method, URL: u, Header: req.Header.Clone(), Host: host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		RequestURI: u.RequestURI(), RemoteAddr: "192.0.2.1:1234",
		ContentLength: req.ContentLength, Body: http.NoBody,
	}
	if r.Method == "" {
		r.Method = http.MethodGet
	}
	if req.URL.Scheme == "https" {
		r.TLS = tlsState()
		r.TLS.PeerCertificates = x.certs
	}
	switch {
	case req.Body == nil || req.Body == http.NoBody:
		x.wroteRequest(nil)
	case req.ContentLength > 0 && req.ContentLength <= smallBody && req.Header.Get("Expect") == "":
		b, err := io.ReadAll(io.LimitReader(x.body, req.ContentLength+1))
		if err == nil && int64(len(b)) != req.ContentLength {
			err = fmt.Errorf("http: ContentLength=%d with Body length %d", req.ContentLength, len(b))
		}
		x.wroteRequest(err)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(b))
	default:
		if req.ContentLength == 0 {
			r.ContentLength = -1 // a body of unknown length
		}
		r.Body = &lazyBody{x: x}
	}
	return r.WithContext(x.serverCtx), nil
}

func tlsState() *tls.ConnectionState {
	return &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true}
}

func (x *exchange) wroteRequest(err error) {
	if x.trace != nil && x.trace.WroteRequest != nil {
		x.trace.WroteRequest(httptrace.WroteRequestInfo{Err: err})
	}
}

// A lazyBody is a large or endless request body: it is read as the handler
// reads it.
type lazyBody struct {
	x    *exchange
	done bool
}

func (b *lazyBody) Read(p []byte) (int, error) {
	n, err := b.x.body.Read(p)
	if err != nil && !b.done {
		b.done = true
		if err == io.EOF {
			b.x.wroteRequest(nil)
		} else {
			b.x.wroteRequest(err)
		}
	}
	return n, err
}

func (b *lazyBody) Close() error { return b.x.body.Close() }

// fail ends the exchange with an error instead of an answer.
func (x *exchange) fail(err error) {
	if x.resp == nil && x.err == nil {
		x.err = err
		close(x.ready)
	}
}

// abort drops the connection: an answer under way is cut, another one fails.
func (x *exchange) abort() {
	if x.out != nil {
		x.Flush()
		x.out.end(io.ErrUnexpectedEOF, nil, nil)
		return
	}
	x.body.Close()
	x.fail(&net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)})
}
