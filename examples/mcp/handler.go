package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/discovery"
	"github.com/freshtoken/freshtoken/login"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"golang.org/x/oauth2"
)

// options are what a handler needs.
type options struct {
	server   string           // the MCP server's address
	redirect string           // the redirect URI to register
	store    freshtoken.Store // has the session, and the registration
	flow     login.Loopback
	client   *http.Client // talks to authorization servers; nil: http.DefaultClient
}

// A handler is what the SDK asks for tokens, and for help when the MCP server
// answers 401. It stands between the SDK and a Source, which exists only once it is
// known which client this program is at which authorization server.
type handler struct {
	options
	opening sync.Mutex // held by whoever makes a Source

	mu  sync.Mutex // guards what follows
	src *freshtoken.Source
	reg *registration

	failed error // of the last login
	again  time.Time
}

// patience is how long nobody is asked again after a login that failed: the SDK
// answers some failures with another request.
const patience = time.Minute

var _ auth.OAuthHandler = (*handler)(nil)

// open finds the session of an earlier run, if there was one.
func open(ctx context.Context, o options) (*handler, error) {
	u, err := url.Parse(o.server)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && local(u.Hostname())) {
		return nil, fmt.Errorf("%s is not https: whoever listens would have the token", o.server)
	}
	h := &handler{options: o}
	reg, err := h.load(ctx)
	if err != nil || reg == nil {
		return h, err
	}
	_, err = h.use(ctx, reg)
	return h, err
}

func local(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// use makes the Source of a registered client.
func (h *handler) use(ctx context.Context, reg *registration) (*freshtoken.Source, error) {
	cfg := freshtoken.Config{
		Issuer:     reg.Issuer,
		Store:      h.store,
		Session:    h.server, // one server, one session
		HTTPClient: h.client,
		OAuth2: &oauth2.Config{ClientID: reg.ClientID, ClientSecret: reg.ClientSecret, RedirectURL: reg.RedirectURI, Scopes: reg.Scopes,
			Endpoint: oauth2.Endpoint{AuthStyle: reg.AuthStyle}},
		// MCP has each token be for one server (RFC 8707).
		RefreshParams: url.Values{"resource": {reg.Resource}},
	}
	if _, err := discovery.Configure(ctx, &cfg); err != nil {
		return nil, err
	}
	src, err := freshtoken.New(cfg)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	old := h.src
	h.src, h.reg = src, reg
	h.mu.Unlock()
	if old != nil {
		err = old.Close()
	}
	return src, err
}

func (h *handler) current() (*freshtoken.Source, *registration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.src, h.reg
}

// TokenSource is called for each request, with a context that lives as long as the
// connection.
func (h *handler) TokenSource(ctx context.Context) (oauth2.TokenSource, error) {
	src, _ := h.current()
	if src == nil {
		return nil, nil // the request goes without a token, and the 401 leads to Authorize
	}
	return tokens{src.TokenSource(ctx)}, nil
}

// tokens has no token where only a login helps. The SDK then sends the request
// without one, and has the 401 lead to Authorize. It does so by itself where the
// error is an *oauth2.RetrieveError with invalid_grant, as most of a Source are that
// match ErrSessionEnded; but other servers say it in other words, and before the
// first login there is nothing to refuse.
type tokens struct{ oauth2.TokenSource }

func (t tokens) Token() (*oauth2.Token, error) {
	tok, err := t.TokenSource.Token()
	if over(err) || unknownClient(err) {
		return nil, nil
	}
	return tok, err
}

// over tells that only a login helps.
func over(err error) bool {
	return errors.Is(err, freshtoken.ErrNoSession) || errors.Is(err, freshtoken.ErrSessionEnded)
}

// unknownClient tells that the authorization server has forgotten this client, or
// that its secret has expired.
func unknownClient(err error) bool {
	var failed *freshtoken.RefreshError
	return errors.As(err, &failed) && failed.Code == "invalid_client"
}

// Authorize is called for a 401 or 403. If it returns nil, the SDK sends the request
// once again, and takes what comes.
func (h *handler) Authorize(ctx context.Context, req *http.Request, resp *http.Response) error {
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)) // for the connection to serve again
	src, reg := h.current()
	if c, ok := freshtoken.ChallengeFrom(resp); ok && src != nil {
		_, err := login.StepUp(ctx, src, h.way(reg), c) // no refresh brings more scope
		return err
	}
	if resp.StatusCode == http.StatusForbidden {
		return errors.New("the server refuses this to who is logged in")
	}
	// What cannot be read is as good as none: there are other ways to find out.
	challenges, _ := oauthex.ParseWWWAuthenticate(resp.Header.Values("WWW-Authenticate"))
	var err error
	if src != nil {
		if err = renew(ctx, src, req); err == nil {
			return nil
		}
		if !over(err) && !unknownClient(err) {
			return err // the session is as it was: no reason to bother anybody
		}
	}
	if src == nil || unknownClient(err) {
		if src, err = h.register(ctx, reg, challenges); err != nil {
			return err
		}
	}
	return h.login(ctx, src)
}

// login has somebody log in.
func (h *handler) login(ctx context.Context, src *freshtoken.Source) error {
	h.mu.Lock()
	failed, again, reg := h.failed, h.again, h.reg
	h.mu.Unlock()
	if failed != nil && time.Now().Before(again) {
		return failed
	}
	_, err := login.Ensure(ctx, src, h.way(reg))
	if ctx.Err() == nil { // or nobody has waited for it
		h.mu.Lock()
		h.failed, h.again = err, time.Now().Add(patience)
		h.mu.Unlock()
	}
	return err
}

// way is how somebody logs in for a token that is for the MCP server alone.
func (h *handler) way(reg *registration) login.Loopback {
	flow := h.flow
	flow.Params = url.Values{"resource": {reg.Resource}}
	return flow
}

// renew has the session's token replaced, if it is the one that was rejected.
func renew(ctx context.Context, src *freshtoken.Source, req *http.Request) error {
	sent, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	if !ok {
		_, err := src.Token(ctx)
		return err
	}
	_, err := src.Refresh(ctx, &oauth2.Token{AccessToken: sent})
	return err
}

// forget logs out, and has the next run register again.
func (h *handler) forget(ctx context.Context) error {
	var err error
	if src, _ := h.current(); src != nil {
		err = src.Logout(ctx)
	}
	return errors.Join(err, h.store.Delete(ctx, h.key()))
}

// Close ends the Source.
func (h *handler) Close() error {
	src, _ := h.current()
	if src == nil {
		return nil
	}
	return src.Close()
}
