package oauthtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
)

// Options says what kind of server New makes. The zero value is the strictest
// sensible one: a public client, tokens of an hour, a new refresh token at
// every refresh, and the end of the whole session when a spent one is shown.
type Options struct {
	// BaseURL is scheme and host of the server, without a path. Empty means
	// "https://oauth.test". Start replaces it.
	BaseURL string

	// ClientID names the one client the server knows; empty means "client".
	ClientID string

	// ClientSecret is the client's secret. Empty makes the client public: it
	// sends client_id in the body and nothing else.
	ClientSecret string

	// AccessLifetime is how long an access token serves; 0 means one hour.
	// The answer's expires_in is this, truncated to whole seconds.
	AccessLifetime time.Duration

	// RefreshLifetime is how long a refresh token may wait for its use,
	// counted anew for every token; 0 means without end. If it is set, the
	// answer states it as refresh_token_expires_in.
	RefreshLifetime time.Duration

	// Rotation says what becomes of a refresh token that is used.
	Rotation Rotation

	// Grace is how long after its use a spent refresh token may be shown
	// again with impunity, provided that its successor has not been used.
	// Only Rotate looks at it. 0 means not at all.
	Grace time.Duration

	// GraceMode says what a token shown again within Grace yields.
	GraceMode GraceMode

	// KillOldAccess makes all older access tokens of a session die when a
	// refresh succeeds, whether or not the answer arrives.
	KillOldAccess bool
}

// redacted is Options without its methods and its secret.
func (o Options) redacted() any {
	type plain Options
	if o.ClientSecret != "" {
		o.ClientSecret = "[redacted]"
	}
	return plain(o)
}

// Format implements fmt.Formatter without showing the client secret.
func (o Options) Format(f fmt.State, verb rune) {
	fmt.Fprintf(f, fmt.FormatString(f, verb), o.redacted())
}

// MarshalJSON implements json.Marshaler without showing the client secret.
func (o Options) MarshalJSON() ([]byte, error) { return json.Marshal(o.redacted()) }

// LogValue implements slog.LogValuer without showing the client secret.
func (o Options) LogValue() slog.Value { return slog.AnyValue(o.redacted()) }

// Rotation is what happens to a refresh token when it is used.
type Rotation int

const (
	// Rotate issues a new refresh token at every refresh. Showing a spent
	// one kills its family: every refresh and access token of the session.
	Rotate Rotation = iota
	// RotateLenient issues a new refresh token at every refresh and leaves
	// the old ones alive.
	RotateLenient
	// NoRotation keeps the refresh token and leaves it out of the answer.
	NoRotation
	// SameToken keeps the refresh token and repeats it in the answer.
	SameToken
)

// GraceMode is what a spent refresh token yields within Options.Grace. The
// access token is a new one in every mode.
type GraceMode int

const (
	// GraceSame yields the refresh token that its first use yielded.
	GraceSame GraceMode = iota
	// GraceNew yields another refresh token; the first successor stays alive.
	GraceNew
	// GraceReplace yields another refresh token and withdraws the first
	// successor: showing that one afterwards is reuse.
	GraceReplace
)

// A Server is an authorization server and an API that trusts it. It is an
// http.Handler with four places:
//
//	/token   the token endpoint (RFC 6749)
//	/revoke  the revocation endpoint (RFC 7009)
//	/api/    an API that wants a live Bearer token (RFC 6750)
//	/login   a page of HTML, for APIs that redirect there
//
// All methods are safe for concurrent use. No lock is held while anything
// blocks, and no goroutine outlives its request.
type Server struct {
	// Token, Revocation and API make the three endpoints misbehave.
	Token, Revocation, API Faults

	opt Options

	mu       sync.Mutex // guards all below; never held while blocking
	base     string
	hosts    map[string]http.Handler // in-memory hosts beside the server's own
	own      map[string]bool         // in-memory hosts that are the server's own
	access   map[string]*accessToken
	refresh  map[string]*refreshToken
	families []*family
	entries  []*Entry
	order    int // requests processed so far
	stats    Stats
	busy     int // requests at the token endpoint now
	running  bool
}

var (
	_ http.Handler   = (*Server)(nil)
	_ fmt.Formatter  = (*Server)(nil)
	_ fmt.Formatter  = Options{}
	_ json.Marshaler = Options{}
	_ slog.LogValuer = Options{}
)

// Format implements fmt.Formatter without showing a token.
func (s *Server) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "oauthtest.Server(%s)", s.BaseURL())
}

// New makes a server. It starts no goroutine and listens nowhere: see
// [Server.Client] and [Server.Start]. It panics if BaseURL is no URL of a
// scheme and a host.
func New(o Options) *Server {
	if o.BaseURL == "" {
		o.BaseURL = "https://oauth.test"
	}
	if o.ClientID == "" {
		o.ClientID = "client"
	}
	if o.AccessLifetime == 0 {
		o.AccessLifetime = time.Hour
	}
	s := &Server{
		opt:     o,
		hosts:   map[string]http.Handler{},
		own:     map[string]bool{},
		access:  map[string]*accessToken{},
		refresh: map[string]*refreshToken{},
	}
	s.setBase(o.BaseURL)
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

// Start listens on a free port of 127.0.0.1, serves plain HTTP there, and makes
// that address the server's base URL; the in-memory side goes on working under
// the old and the new address. The returned stop closes the listener and every
// connection and waits until the requests under way have ended; it may be
// called twice. Start panics if it can't listen, or while the server is
// already listening.
func (s *Server) Start() (stop func()) {
	s.mu.Lock()
	if s.running {
		s.mu.Unlock()
		panic("oauthtest: Start called twice; stop the first listener before")
	}
	s.running = true
	s.mu.Unlock()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic("oauthtest: cannot listen on the loopback interface: " + err.Error())
	}
	s.setBase("http://" + l.Addr().String())
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

// BaseURL returns scheme and host of the server, without a trailing slash.
func (s *Server) BaseURL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.base
}

// TokenURL returns the URL of the token endpoint.
func (s *Server) TokenURL() string { return s.BaseURL() + "/token" }

// RevocationURL returns the URL of the revocation endpoint.
func (s *Server) RevocationURL() string { return s.BaseURL() + "/revoke" }

// LoginURL returns the URL of the page that answers 200 with HTML.
func (s *Server) LoginURL() string { return s.BaseURL() + "/login" }

// APIURL returns the URL of a place of the API: path "x" and "/x" give
// <base>/api/x. A query may follow; see the package's documentation for scope.
func (s *Server) APIURL(path string) string {
	return s.BaseURL() + "/api/" + strings.TrimPrefix(path, "/")
}

// OAuth2 returns a configuration for the server's client. A client with a
// secret authenticates by HTTP Basic, a public one by client_id in the body.
func (s *Server) OAuth2() *oauth2.Config {
	style := oauth2.AuthStyleInParams
	if s.opt.ClientSecret != "" {
		style = oauth2.AuthStyleInHeader
	}
	base := s.BaseURL()
	return &oauth2.Config{
		ClientID:     s.opt.ClientID,
		ClientSecret: s.opt.ClientSecret,
		Endpoint: oauth2.Endpoint{
			AuthURL:   base + "/login",
			TokenURL:  base + "/token",
			AuthStyle: style,
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
	case path == "/token":
		return TokenEndpoint
	case path == "/revoke":
		return RevocationEndpoint
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
	}
	return Fault{}
}
