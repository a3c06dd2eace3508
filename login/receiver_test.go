package login_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// The listener answers the browser of this machine, at the address of the login.
func TestListener(t *testing.T) {
	as := oauthtest.New(oauthtest.Options{})
	plain := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	u := userOf(t, as)
	l := u.loopback()
	l.Prompt.Browse = func(_ context.Context, address string) error {
		a, err := url.Parse(address)
		if err != nil {
			return err
		}
		state := a.Query().Get("state")
		back, err := url.Parse(a.Query().Get("redirect_uri"))
		if err != nil {
			return err
		}
		if ip := net.ParseIP(back.Hostname()); ip == nil || !ip.IsLoopback() || back.Port() == "" || back.Path != "/callback" {
			t.Errorf("R8252-7.3: the redirect URI is %s", back)
		}
		answer := "?code=evil&state=" + url.QueryEscape(state)
		for name, c := range map[string]struct {
			url, host string
			want      int
		}{
			"R8252-8.10 a favicon":              {"http://" + back.Host + "/favicon.ico", "", http.StatusNotFound},
			"R8252-8.10 another path":           {"http://" + back.Host + "/callback/" + answer, "", http.StatusNotFound},
			"R8252-8.10 an encoded path":        {"http://" + back.Host + "/%63allback" + answer, "", http.StatusNotFound},
			"R8252-8.3 a name that points here": {back.String() + answer, "rebound.example:" + back.Port(), http.StatusMisdirectedRequest},
			"R8252-8.3 a host without port":     {back.String() + answer, "127.0.0.1", http.StatusMisdirectedRequest},
			"R8252-8.3 localhost":               {back.String() + answer, "localhost:" + back.Port(), http.StatusMisdirectedRequest},
			"a query that is none":              {back.String() + answer + "&%zz", "", http.StatusBadRequest},
		} {
			t.Run(name, func(t *testing.T) {
				if p := get(plain, c.url, c.host); p.status != c.want || p.header.Get("Cache-Control") != "no-store" {
					t.Errorf("got %d, want %d (%v)", p.status, c.want, p.err)
				}
			})
		}
		resp, err := plain.PostForm(back.String()+answer, nil)
		if err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("a POST: got %v, error %v", resp, err)
		} else {
			resp.Body.Close()
		}
		for _, ip := range otherAddresses(t) {
			c, err := net.DialTimeout("tcp", net.JoinHostPort(ip, back.Port()), short)
			if err == nil {
				c.Close()
				t.Errorf("R8252-8.3: the listener is reachable at %s", ip)
			}
		}
		u.visits.Go(func() { u.visit(address) })
		return nil
	}
	if _, err := login.Ensure(t.Context(), source(t, config(as)), l); err != nil {
		t.Fatal(err)
	}
	t.Run("R6749-3.1.2.5 the last page loads nothing and tells nobody where it is", func(t *testing.T) {
		p := u.last()
		for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"} {
			if got := p.header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if csp := p.header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "script-src") {
			t.Errorf("the policy is %q", csp)
		}
		for _, third := range []string{"http://", "https://", "//", "<script", "@import", "url("} {
			if strings.Contains(p.body, third) {
				t.Errorf("the page has %q in it", third)
			}
		}
	})
}

// otherAddresses are those of this machine that are not loopback.
func otherAddresses(t *testing.T) (ips []string) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && n.IP.To4() != nil {
			ips = append(ips, n.IP.String())
		}
	}
	return ips
}

func TestRedirectURIs(t *testing.T) {
	for _, redirect := range []string{"http://127.0.0.1/callback", "http://127.0.0.1/cb/", "http://127.0.0.1", "http://[::1]/callback", "http://localhost/callback"} {
		t.Run("R6749-4.1.3 "+redirect, func(t *testing.T) {
			if strings.Contains(redirect, "::1") {
				l, err := net.Listen("tcp", "[::1]:0")
				if err != nil {
					t.Skipf("this machine has no IPv6: run it on one that has (%v)", err)
				}
				l.Close()
			}
			as := oauthtest.New(oauthtest.Options{RedirectURIs: registered(redirect)})
			u := userOf(t, as)
			cfg := config(as)
			cfg.OAuth2.RedirectURL = redirect
			if strings.Contains(redirect, "localhost") {
				if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil { // the server knows it with its port
					l.Close()
					cfg.OAuth2.RedirectURL = "http://localhost:" + portOf(l) + "/callback"
					as = oauthtest.New(oauthtest.Options{RedirectURIs: []string{cfg.OAuth2.RedirectURL}})
					u = userOf(t, as)
					cfg.OAuth2.Endpoint, cfg.HTTPClient = as.OAuth2().Endpoint, as.Client()
				}
			}
			if _, err := login.Ensure(t.Context(), source(t, cfg), u.loopback()); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("R8252-7.3 a port that is taken", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		as := oauthtest.New(oauthtest.Options{})
		u := userOf(t, as)
		cfg := config(as)
		cfg.OAuth2.RedirectURL = "http://127.0.0.1:" + portOf(l) + "/callback"
		_, err = login.Ensure(t.Context(), source(t, cfg), u.loopback())
		wantErr(t, err, login.ErrListen)
		if !strings.Contains(err.Error(), portOf(l)) || len(u.addresses) > 0 {
			t.Errorf("got error %v, addresses %v", err, u.addresses)
		}
	})
	for _, bad := range []string{"https://127.0.0.1/callback", "http://192.0.2.1/callback", "http://example.com/", "myapp:/callback", "http://127.0.0.1/callback?x=1", "http://127.0.0.1/#", "urn:ietf:wg:oauth:2.0:oob", "::"} {
		t.Run("R8252-8.3 "+bad, func(t *testing.T) {
			as := oauthtest.New(oauthtest.Options{})
			u := userOf(t, as)
			cfg := config(as)
			cfg.OAuth2.RedirectURL = bad
			if _, err := login.Ensure(t.Context(), source(t, cfg), u.loopback()); err == nil || len(u.addresses) > 0 {
				t.Errorf("got error %v, addresses %v", err, u.addresses)
			}
		})
	}
}

func portOf(l net.Listener) string {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// registered is how a server knows a redirect URI.
func registered(redirect string) []string {
	if redirect == "http://127.0.0.1" {
		return []string{"http://127.0.0.1/"}
	}
	return []string{redirect}
}

func TestGivingUp(t *testing.T) {
	t.Run("R8252-8.3 the listener ends with the context", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		var back string
		l := login.Loopback{Prompt: login.Prompt{Browse: func(_ context.Context, address string) error {
			a, err := url.Parse(address)
			back = a.Query().Get("redirect_uri")
			cancel()
			return err
		}}}
		src := source(t, config(as))
		_, err := login.Ensure(ctx, src, l)
		wantErr(t, err, context.Canceled)
		if err := src.Close(); err != nil { // the login has ended by then
			t.Error(err)
		}
		gone(t, back)
	})
	t.Run("R8252-8.3 and if the person cannot be asked", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		broken := errors.New("no display")
		var back string
		l := login.Loopback{Prompt: login.Prompt{Browse: func(_ context.Context, address string) error {
			a, _ := url.Parse(address)
			back = a.Query().Get("redirect_uri")
			return broken
		}}}
		_, err := login.Ensure(t.Context(), source(t, config(as)), l)
		wantErr(t, err, broken)
		gone(t, back)
	})
	t.Run("R8252-8.3 and if what asks the person ends the goroutine", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		back := make(chan string, 2)
		exit := func(_ context.Context, address string) error {
			a, _ := url.Parse(address)
			back <- a.Query().Get("redirect_uri") + a.Query().Get("post_logout_redirect_uri")
			runtime.Goexit()
			return nil
		}
		l := login.Loopback{Prompt: login.Prompt{Browse: exit}}
		if _, err := login.Ensure(t.Context(), source(t, config(as)), l); err == nil {
			t.Error("no error")
		}
		gone(t, <-back)
		b := login.BrowserLogout{URL: "https://as.test/logout", RedirectURL: "http://127.0.0.1/bye", Prompt: login.Prompt{Browse: exit}}
		var wg sync.WaitGroup
		wg.Go(func() { b.Logout(t.Context(), config(as), "") })
		wg.Wait()
		gone(t, <-back)
	})
	t.Run("R8252-5 without a terminal and a Prompt nothing is begun", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		for _, flow := range []freshtoken.Authenticator{login.Loopback{}, login.Device{}, login.Auto{}} {
			_, err := login.Ensure(t.Context(), source(t, config(as)), flow)
			wantErr(t, err, login.ErrNotInteractive)
		}
		if n := len(as.Log()); n != 0 {
			t.Errorf("%d requests", n)
		}
	})
	t.Run("endpoints that are missing or unsafe", func(t *testing.T) {
		for _, edit := range []func(*freshtoken.Config){
			func(c *freshtoken.Config) { c.OAuth2.Endpoint.AuthURL = "" },
			func(c *freshtoken.Config) { c.OAuth2.Endpoint.AuthURL = "http://example.com/authorize" },
			func(c *freshtoken.Config) { c.OAuth2.Endpoint.AuthURL = "javascript:alert(1)" },
			func(c *freshtoken.Config) { c.OAuth2.Endpoint.AuthURL = "https://example.com/#x" },
		} {
			as := oauthtest.New(oauthtest.Options{})
			u := userOf(t, as)
			cfg := config(as)
			edit(&cfg)
			if _, err := login.Ensure(t.Context(), source(t, cfg), u.loopback()); err == nil || len(u.addresses) > 0 {
				t.Errorf("got error %v, addresses %v", err, u.addresses)
			}
		}
	})
}

// A Prompt may stay as long as it likes.
func TestPromptsThatStay(t *testing.T) {
	t.Run("until it has read the last page", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		l := login.Loopback{Timeout: patience, Prompt: login.Prompt{Browse: func(_ context.Context, address string) error {
			if p := get(as.Browser(), address, ""); p.status != http.StatusOK || !strings.Contains(p.body, "You are logged in") {
				return fmt.Errorf("the person sees %+v", p)
			}
			return nil
		}}}
		if _, err := login.Ensure(t.Context(), source(t, config(as)), l); err != nil {
			t.Error(err)
		}
	})
	t.Run("until the login ends", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		ended := make(chan struct{})
		l := login.Loopback{Timeout: short, Prompt: login.Prompt{Browse: func(ctx context.Context, _ string) error {
			<-ctx.Done()
			close(ended)
			return ctx.Err()
		}}}
		_, err := login.Ensure(t.Context(), source(t, config(as)), l)
		wantErr(t, err, login.ErrTimeout)
		<-ended
	})
	t.Run("for ever", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		release := make(chan struct{})
		defer close(release)
		l := login.Loopback{Timeout: short, Prompt: login.Prompt{Browse: func(context.Context, string) error { <-release; return nil }}}
		_, err := login.Ensure(t.Context(), source(t, config(as)), l)
		wantErr(t, err, login.ErrTimeout)
	})
	inBubble(t, "with a code", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		d := login.Device{Prompt: login.Prompt{Show: func(ctx context.Context, c login.Code) error {
			as.ApproveDevice(c.Code, "alice")
			<-ctx.Done() // a window that shows it
			return nil
		}}}
		if _, err := login.Ensure(t.Context(), source(t, config(as)), d); err != nil {
			t.Error(err)
		}
	})
	inBubble(t, "unless it fails", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		broken := errors.New("no window")
		d := login.Device{Prompt: login.Prompt{Show: func(context.Context, login.Code) error { return broken }}}
		_, err := login.Ensure(t.Context(), source(t, config(as)), d)
		wantErr(t, err, broken)
		if n := len(polls(as)); n != 0 {
			t.Errorf("%d polls", n)
		}
	})
}

// Many logins at once: each gets its own answer, and what it was for.
func TestTwelveLogins(t *testing.T) {
	as := oauthtest.New(oauthtest.Options{})
	before := runtime.NumGoroutine()
	var mu sync.Mutex // guards tokens and backs
	tokens, backs := make(map[string]bool), make(map[string]bool)
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			u := userOf(t, as)
			cfg := config(as)
			cfg.Session = fmt.Sprint("account ", i)
			src := source(t, cfg)
			l := u.loopback()
			if i == 7 { // whose browser is closed half-way
				l.Timeout = short
				l.Prompt.Browse = func(_ context.Context, address string) error {
					u.addresses = append(u.addresses, address)
					u.visits.Go(func() {
						half := *u.http
						half.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
						get(&half, address, "")
					})
					return nil
				}
			}
			tok, err := login.Ensure(t.Context(), src, l)
			mu.Lock()
			defer mu.Unlock()
			back := u.asked().Get("redirect_uri")
			if backs[back] {
				t.Errorf("two logins share %s", back)
			}
			backs[back] = true
			if i == 7 {
				wantErr(t, err, login.ErrTimeout)
				return
			}
			if err != nil || !as.AccessAlive(tok.AccessToken) || tokens[tok.AccessToken] {
				t.Errorf("login %d: error %v", i, err)
				return
			}
			tokens[tok.AccessToken] = true
			src.Close()
		})
	}
	wg.Wait()
	for back := range backs {
		gone(t, back)
	}
	if n := tokenRequests(as); n != 11 {
		t.Errorf("%d token requests, want 11", n)
	}
	settled(t, before)
}

// settled fails the test if goroutines stay that were not there before.
func settled(t *testing.T, before int) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for runtime.NumGoroutine() > before {
		select {
		case <-tick.C:
		case <-deadline.C:
			buf := make([]byte, 1<<20)
			t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
			return
		}
	}
}

// Browsers write some addresses in another way, and would not come back to these.
func TestRedirectURIsThatBrowsersRewrite(t *testing.T) {
	for _, redirect := range []string{"http://[::ffff:127.0.0.1]/callback", "http://127.0.0.1/a/../callback", "http://127.0.0.1/./callback", "http://127.0.0.1/%2e%2E/callback"} {
		as := oauthtest.New(oauthtest.Options{RedirectURIs: []string{redirect}})
		u := userOf(t, as)
		cfg := config(as)
		cfg.OAuth2.RedirectURL = redirect
		if _, err := login.Ensure(t.Context(), source(t, cfg), u.loopback()); err == nil || len(u.addresses) > 0 {
			t.Errorf("%s: a browser was opened; %v", redirect, err)
		}
	}
}
