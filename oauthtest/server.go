package oauthtest

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"golang.org/x/oauth2"
)

// A Server is an authorization server and an API that trusts it. It is an
// http.Handler with these places:
//
//	/authorize      the authorization endpoint (RFC 6749)
//	/token          the token endpoint (RFC 6749)
//	/device         the device authorization endpoint (RFC 8628)
//	/par            the pushed authorization request endpoint (RFC 9126)
//	/revoke         the revocation endpoint (RFC 7009)
//	/.well-known/…  its metadata (RFC 8414), see [Options].Metadata
//	/jwks           the keys of its ID tokens, if it has any
//	/api/           an API that wants a live Bearer token (RFC 6750)
//	/login          a page of HTML, for APIs that redirect there and for
//	                the users of devices
//
// All methods are safe for concurrent use. No lock is held while anything
// blocks, and no goroutine outlives its request.
type Server struct {
	// Token, Revocation and API make these endpoints misbehave.
	Token, Revocation, API Faults

	// Authorization, Pushed, Device, Metadata and Keys do so during a login.
	Authorization, Pushed, Device, Metadata, Keys Faults

	opt Options

	mu       sync.Mutex // guards all below; never held while blocking
	base     string
	hosts    map[string]http.Handler // in-memory hosts beside the server's own
	own      map[string]bool         // in-memory hosts that are the server's own
	access   map[string]*accessToken
	refresh  map[string]*refreshToken
	codes    map[string]*authCode
	requests map[string]*pushedRequest
	devices  map[string]*deviceLogin // by device code
	byUser   map[string]*deviceLogin // by user code, canonical
	approval approval

	assertions map[string]float64 // the jti of those that were used, with their exp

	families []*family
	entries  []*Entry
	order    int // requests processed so far
	stats    Stats
	busy     int // requests at the token endpoint now
	running  bool
}

var (
	_ http.Handler  = (*Server)(nil)
	_ fmt.Formatter = (*Server)(nil)
)

// Format implements fmt.Formatter without showing a token.
func (s *Server) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "oauthtest.Server(%s)", s.BaseURL())
}

// New makes a server. It starts no goroutine and listens nowhere: see
// [Server.Client] and [Server.Start]. It panics if BaseURL is no URL of a
// scheme and a host, a redirect URI or a resource is no absolute URI, or IDTokens
// is no algorithm that it knows.
func New(o Options) *Server {
	s := &Server{
		opt:      o.complete(),
		hosts:    map[string]http.Handler{},
		own:      map[string]bool{},
		access:   map[string]*accessToken{},
		refresh:  map[string]*refreshToken{},
		codes:    map[string]*authCode{},
		requests: map[string]*pushedRequest{},
		devices:  map[string]*deviceLogin{},
		byUser:   map[string]*deviceLogin{},
		approval: approval{subject: "alice"},

		assertions: map[string]float64{},
	}
	s.setBase(s.opt.BaseURL)
	if alias := s.opt.ClientAuth.AliasHost; alias != "" {
		s.own[strings.ToLower(alias)] = true
	}
	return s
}

func (s *Server) setBase(base string) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme == "" || u.Host == "" {
		panic("oauthtest: Options.BaseURL must look like https://host[:port]")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.base = strings.TrimSuffix(base, "/")
	s.own[canonicalHost(u)] = true
}

// Start listens on a free port of 127.0.0.1, or else of ::1, serves plain HTTP
// there, and makes that address the server's base URL; the in-memory side goes on
// working under the old and the new address. The returned stop closes the listener and every
// connection and waits until the requests under way have ended; it may be
// called twice. Start panics if it can't listen, or while the server is
// already listening.
func (s *Server) Start() (stop func()) { return s.start(nil) }

// start is Start, over TLS if conf is not nil.
func (s *Server) start(conf *tls.Config) (stop func()) {
	s.mu.Lock()
	if s.running {
		s.mu.Unlock()
		panic("oauthtest: Start called twice; stop the first listener before")
	}
	s.running = true
	s.mu.Unlock()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l, err = net.Listen("tcp", "[::1]:0")
	}
	if err != nil {
		s.mu.Lock()
		s.running = false
		s.mu.Unlock()
		panic("oauthtest: cannot listen on the loopback interface: " + err.Error())
	}
	base := "http://" + l.Addr().String()
	if conf != nil {
		base = "https://" + l.Addr().String()
		l = tls.NewListener(l, conf)
	}
	s.setBase(base)
	ctx, cancel := context.WithCancel(context.Background())
	var (
		mu       sync.Mutex // guards stopped, and requests.Add against requests.Wait
		stopped  bool
		requests sync.WaitGroup
	)
	hs := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			if stopped {
				mu.Unlock()
				panic(http.ErrAbortHandler)
			}
			requests.Add(1)
			mu.Unlock()
			defer requests.Done()
			s.ServeHTTP(w, r)
		}),
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(ctx, stopKey{}, ctx.Done())
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		hs.Serve(l) // ends with ErrServerClosed
	}()
	return sync.OnceFunc(func() {
		mu.Lock()
		stopped = true
		mu.Unlock()
		cancel()
		hs.Close()
		<-served
		requests.Wait()
		s.mu.Lock()
		s.running = false
		s.mu.Unlock()
	})
}

// stopKey is the context key under which a request of a real listener carries
// the channel that closes when the listener is stopped.
type stopKey struct{}

// Handle makes the in-memory transport answer for another host, "host" or
// "host:port", with h, over http and https alike. It is how a test provides a
// second API or the place a redirect leads to.
func (s *Server) Handle(host string, h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts[strings.ToLower(host)] = h
}

// BaseURL returns scheme and host of the server, without a trailing slash. It
// is the server's issuer identifier (RFC 8414, section 2).
func (s *Server) BaseURL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.base
}

// AuthURL returns the URL of the authorization endpoint.
func (s *Server) AuthURL() string { return s.BaseURL() + "/authorize" }

// DeviceAuthURL returns the URL of the device authorization endpoint.
func (s *Server) DeviceAuthURL() string { return s.BaseURL() + "/device" }

// PushedAuthorizationURL returns the URL of the pushed authorization request
// endpoint.
func (s *Server) PushedAuthorizationURL() string { return s.BaseURL() + "/par" }

// TokenURL returns the URL of the token endpoint.
func (s *Server) TokenURL() string { return s.BaseURL() + "/token" }

// RevocationURL returns the URL of the revocation endpoint.
func (s *Server) RevocationURL() string { return s.BaseURL() + "/revoke" }

// KeysURL returns the URL of the keys that ID tokens are signed with.
func (s *Server) KeysURL() string { return s.BaseURL() + "/jwks" }

// LoginURL returns the URL of the page that answers 200 with HTML. It is also
// where the users of devices are sent.
func (s *Server) LoginURL() string { return s.BaseURL() + "/login" }

// APIURL returns the URL of a place of the API: path "x" and "/x" give
// <base>/api/x. A query may follow; see the package's documentation for scope.
func (s *Server) APIURL(path string) string {
	return s.BaseURL() + "/api/" + strings.TrimPrefix(path, "/")
}

// OAuth2 returns a configuration for the client of Options.ClientID, without a
// RedirectURL. A client with a secret authenticates by HTTP Basic, a public one
// by client_id in the body; with Options.ClientAuth there is no secret in it.
func (s *Server) OAuth2() *oauth2.Config {
	style, secret := oauth2.AuthStyleInParams, s.opt.ClientSecret
	if s.opt.ClientAuth.Method != "" {
		secret = ""
	}
	if secret != "" {
		style = oauth2.AuthStyleInHeader
	}
	base := s.BaseURL()
	return &oauth2.Config{
		ClientID:     s.opt.ClientID,
		ClientSecret: secret,
		Endpoint: oauth2.Endpoint{
			AuthURL:       base + "/authorize",
			DeviceAuthURL: base + "/device",
			TokenURL:      base + "/token",
			AuthStyle:     style,
		},
	}
}

// Client returns an http.Client over [Server.Transport].
func (s *Server) Client() *http.Client { return &http.Client{Transport: s.Transport()} }

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ep := endpointOf(r.URL.Path)
	if ep == "" {
		http.NotFound(w, r)
		return
	}
	c := &call{s: s, w: w, r: r, endpoint: ep}
	if d, ok := r.Context().Value(drawnKey{}).(drawn); ok {
		c.fault = d.fault
	} else {
		c.fault = s.draw(ep, r)
	}
	c.serve()
}

func endpointOf(path string) Endpoint {
	switch {
	case path == "/authorize":
		return AuthorizationEndpoint
	case path == "/device":
		return DeviceEndpoint
	case path == "/par":
		return PushedEndpoint
	case path == "/token":
		return TokenEndpoint
	case path == "/revoke":
		return RevocationEndpoint
	case path == oauthMetadata || path == openIDMetadata:
		return MetadataEndpoint
	case path == "/jwks":
		return KeysEndpoint
	case path == "/login":
		return LoginPage
	case path == "/api" || strings.HasPrefix(path, "/api/"):
		return APIEndpoint
	}
	return ""
}

// drawnKey is the context key of a fault that was chosen before the request
// reached ServeHTTP.
type drawnKey struct{}

type drawn struct{ fault Fault }

func (s *Server) draw(ep Endpoint, r *http.Request) Fault {
	switch ep {
	case TokenEndpoint:
		return s.Token.draw(r)
	case RevocationEndpoint:
		return s.Revocation.draw(r)
	case APIEndpoint:
		return s.API.draw(r)
	case AuthorizationEndpoint:
		return s.Authorization.draw(r)
	case DeviceEndpoint:
		return s.Device.draw(r)
	case PushedEndpoint:
		return s.Pushed.draw(r)
	case MetadataEndpoint:
		return s.Metadata.draw(r)
	case KeysEndpoint:
		return s.Keys.draw(r)
	}
	return Fault{}
}
