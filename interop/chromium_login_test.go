//go:build !js

package interop_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/discovery"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/storage"
)

// Everything that has a user log in, with the browser that users have.
func TestChromium(t *testing.T) {
	c := startChromium(t)
	t.Run("success", c.testSuccess)
	t.Run("R6749-4.1.2-once reload", c.testReload)
	t.Run("denied", c.testDenied)
	t.Run("R8252-8.10 favicon", c.testFavicon)
	t.Run("R8252-8.3 closed half-way", c.testClosed)
	t.Run("twelve at once", c.testTwelve)
	t.Run("RPL-1 logout", c.testLogout)
}

func (c *chromium) server(t *testing.T) *server {
	t.Helper()
	return startServer(t, func(o *serverOptions) { o.AccessLifetime = 3600 })
}

func (c *chromium) testSuccess(t *testing.T) {
	s, p := c.server(t), c.tab(t)
	src := s.source(s.config(public, storage.NewMemory()))
	if _, err := login.Ensure(t.Context(), src, visit(p.visit).loopback()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"Sign in", "Consent", loggedIn.title}; !slices.Equal(p.pages, want) {
		t.Errorf("the user sees the pages %q, want %q", p.pages, want)
	}
	p.wantPage(t, loggedIn)
	p.wantQuiet(t, s)
	p.wantLegible(t, loggedIn.name)
	wantGone(t, p)
	if err := call(t.Context(), src.Client(s.issuer), s.api()); err != nil {
		t.Error(err)
	}
	s.wantWhole()
}

func (c *chromium) testReload(t *testing.T) {
	s, p := c.server(t), c.tab(t)
	src := s.source(s.config(public, storage.NewMemory()))
	if _, err := login.Ensure(t.Context(), src, visit(p.visit).loopback()); err != nil {
		t.Fatal(err)
	}
	wantGone(t, p)
	// So the browser finds nobody there, and shows a page of its own.
	if err := p.do(chromedp.Reload()); err != nil && !errors.Is(err, chromedp.ErrPageLoad) {
		t.Fatal(err)
	}
	if n := p.asked(p.back().Path); n != 2 {
		t.Errorf("the browser has asked for the last page %d times, want twice", n)
	}
	if n := s.wantWhole().TokenRequests; n != 1 {
		t.Errorf("%d requests to the token endpoint, want 1", n)
	}
	if _, err := src.Refresh(t.Context(), nil); err != nil {
		t.Errorf("Refresh after the reload: %v", err)
	}
}

// asked is how often the tab has asked for a path.
func (p *tab) asked(path string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, request := range p.requests {
		if u, err := url.Parse(request); err == nil && u.Path == path {
			n++
		}
	}
	return n
}

func (c *chromium) testDenied(t *testing.T) {
	s, p := c.server(t), c.tab(t)
	p.decision = "deny"
	src := s.source(s.config(public, storage.NewMemory()))
	if _, err := login.Ensure(t.Context(), src, visit(p.visit).loopback()); !errors.Is(err, login.ErrDenied) {
		t.Fatalf("got error %v, want ErrDenied", err)
	}
	p.wantPage(t, notIn)
	p.wantQuiet(t, s)
	p.wantLegible(t, notIn.name)
	wantGone(t, p)
	if n := s.counts().TokenRequests; n != 0 {
		t.Errorf("%d requests to the token endpoint, want none", n)
	}
}

// A browser may ask for an icon before the login, in the middle of it, or never.
func (c *chromium) testFavicon(t *testing.T) {
	s := c.server(t)
	watcher := newWatcher(t)
	p := c.tab(t, func(params *target.CreateBrowserContextParams) {
		params.ProxyServer, params.ProxyBypassList = watcher.address, "<-loopback>"
	})
	src := s.source(s.config(public, storage.NewMemory()))
	early := c.tab(t)
	var both visit = func(ctx context.Context, address string) error {
		p.address = address
		if err := early.open("http://" + p.back().Host + "/favicon.ico"); err != nil {
			return err
		}
		return p.visit(ctx, address)
	}
	if _, err := login.Ensure(t.Context(), src, both.loopback()); err != nil {
		t.Fatal(err)
	}
	early.wantPage(t, notFound)
	early.wantLegible(t, notFound.name)
	p.wantPage(t, loggedIn)
	wantGone(t, p)
	s.wantWhole()
	seen := watcher.requests()
	if !slices.Contains(seen, p.back().String()) {
		t.Errorf("the browser has come back unseen: %q", seen)
	}
	for _, asked := range seen {
		switch u, err := url.Parse(asked); {
		case err != nil || u.Host != p.back().Host && !strings.HasPrefix(asked, s.issuer+"/"):
			t.Errorf("the browser has sent a request elsewhere: %s", asked)
		case u.Path == "/favicon.ico":
			t.Logf("the browser has asked for an icon, the server: %v, the program: %v", u.Host != p.back().Host, u.Host == p.back().Host)
		}
	}
}

// A watcher is a proxy that sees what a browser does, that of which its tabs do
// not tell included. It lets requests through to this machine alone.
type watcher struct {
	address string

	mu   sync.Mutex // guards seen
	seen []string
}

func newWatcher(t *testing.T) *watcher {
	w := new(watcher)
	transport := &http.Transport{DisableKeepAlives: true}
	through := &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, Transport: transport}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		w.mu.Lock()
		w.seen = append(w.seen, withoutQuery(req.URL))
		w.mu.Unlock()
		if req.URL.Hostname() != "127.0.0.1" || req.Method == http.MethodConnect {
			http.Error(rw, "not from here", http.StatusForbidden)
			return
		}
		through.ServeHTTP(rw, req)
	}))
	t.Cleanup(server.Close)
	w.address = server.URL
	return w
}

func (w *watcher) requests() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.seen)
}

func withoutQuery(u *url.URL) string {
	bare := *u
	bare.RawQuery = ""
	return bare.String()
}

// The user closes the tab when the server asks for a password.
func (c *chromium) testClosed(t *testing.T) {
	s, p := c.server(t), c.tab(t)
	src := s.source(s.config(public, storage.NewMemory()))
	if _, err := login.Ensure(t.Context(), src, givingUp(p, func() error { return nil })); !errors.Is(err, login.ErrTimeout) || !errors.Is(err, freshtoken.ErrNoSession) {
		t.Fatalf("got error %v, want ErrTimeout and ErrNoSession", err)
	}
	wantGone(t, p)
	if n := s.counts().TokenRequests; n != 0 {
		t.Errorf("%d requests to the token endpoint, want none", n)
	}
	again := c.tab(t)
	if _, err := login.Ensure(t.Context(), src, visit(again.visit).loopback()); err != nil {
		t.Errorf("the next login: %v", err)
	}
}

// givingUp is a login whose user waits on the server's first page for
// something, and then closes the tab. The program waits for a moment only.
func givingUp(p *tab, wait func() error) freshtoken.Authenticator {
	browse := func(_ context.Context, address string) error {
		if err := p.open(address); err != nil {
			return err
		}
		defer p.close()
		return wait()
	}
	return login.Loopback{Prompt: login.Prompt{Browse: browse}, Timeout: 3 * time.Second}
}

// wantGone fails the test if the listener is still there that the tab was to come
// back to.
func wantGone(t *testing.T, p *tab) {
	t.Helper()
	back := *p.back()
	if back.Port() == "" {
		t.Fatalf("the program has the browser come back to %q", back.String())
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Get(back.String())
	if err != nil {
		return
	}
	defer resp.Body.Close()
	// The port may be another program's by now.
	if text, err := io.ReadAll(resp.Body); err == nil && strings.Contains(string(text), notFound.text) {
		t.Errorf("the listener at %s is still there", back.Host)
	}
}

// A program may log out a user at the server, too.
func (c *chromium) testLogout(t *testing.T) {
	s, p := c.server(t), c.tab(t)
	cfg := s.config(public, storage.NewMemory())
	m, err := discovery.Configure(t.Context(), &cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.EndSession = visit(p.visit).logout(m.EndSessionEndpoint, "http://127.0.0.1/bye")
	first := s.source(cfg)
	other := cfg
	other.Session = "another"
	for _, step := range []struct {
		src  *freshtoken.Source
		want []string
	}{
		{first, []string{"Sign in", "Consent", loggedIn.title}},
		{s.source(other), []string{"Consent", loggedIn.title}}, // the server knows the browser
		{nil, []string{"Log out", loggedOut.title}},            // the logout
		{first, []string{"Sign in", "Consent", loggedIn.title}},
	} {
		if step.src != nil {
			_, err = login.Ensure(t.Context(), step.src, visit(p.visit).loopback())
		} else {
			err = first.Logout(t.Context())
		}
		if err != nil || !slices.Equal(p.pages, step.want) {
			t.Fatalf("the user sees the pages %q, with error %v, want %q", p.pages, err, step.want)
		}
		if step.src == nil {
			p.wantPage(t, loggedOut)
			p.wantLegible(t, loggedOut.name)
		}
		wantGone(t, p)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, complaint := range p.complaints {
		t.Errorf("the browser complains: %s", complaint)
	}
}
