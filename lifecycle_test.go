package freshtoken_test

import (
	"context"
	"errors"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

func TestClose(t *testing.T) {
	inBubble(t, "waits for a refresh and its save", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		w.as.Token.Next(oauthtest.Fault{AfterDelay: 5 * time.Second})
		got := make(chan error, 1)
		go func() {
			_, err := src.Token(t.Context())
			got <- err
		}()
		time.Sleep(time.Second)
		if err := src.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-got; err != nil && !errors.Is(err, freshtoken.ErrClosed) {
			t.Error(err)
		}
		w.usable(w.source())
		w.wantPosts(1)
	})
	inBubble(t, "ends the wait for a lock", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		unlock, _ := w.store.Lock(t.Context(), freshtoken.StoreKey(w.config()))
		defer unlock()
		got := make(chan error, 1)
		go func() {
			_, err := src.Token(t.Context())
			got <- err
		}()
		time.Sleep(time.Second)
		start := time.Now()
		if err := src.Close(); err != nil || time.Since(start) != 0 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		wantErr(t, <-got, freshtoken.ErrClosed)
	})
	inBubble(t, "every method says so afterwards", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn()
		client := w.client(src)
		tok := w.token(src)
		for range 2 {
			if err := src.Close(); err != nil {
				t.Fatal(err)
			}
		}
		_, err := src.Token(t.Context())
		wantErr(t, err, freshtoken.ErrClosed)
		_, err = src.Refresh(t.Context(), tok)
		wantErr(t, err, freshtoken.ErrClosed)
		_, err = src.Refresh(t.Context(), nil)
		wantErr(t, err, freshtoken.ErrClosed)
		_, err = src.TokenSource(t.Context()).Token()
		wantErr(t, err, freshtoken.ErrClosed)
		wantErr(t, src.SetToken(t.Context(), w.as.Login("alice")), freshtoken.ErrClosed)
		wantErr(t, src.Logout(t.Context()), freshtoken.ErrClosed)
		_, err = client.Get(w.as.APIURL("x"))
		wantErr(t, err, freshtoken.ErrClosed)
	})
	inBubble(t, "gives up on a store that never returns", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		f := w.faults()
		src.Close()
		release := make(chan struct{})
		defer close(release)
		src = w.source()
		f.set(func(f *faulty) { f.save = func() error { <-release; return nil } })
		src.Token(t.Context())
		start := time.Now()
		wantErr(t, src.Close(), freshtoken.ErrNotPersisted)
		if d := time.Since(start); d > 2*time.Minute {
			t.Errorf("after %v", d)
		}
	})
	t.Run("Goroutines: none while idle, none after Close", func(t *testing.T) {
		count := func() int { // of this package's goroutines, whatever else the process does
			buf := make([]byte, 1<<20)
			return strings.Count(string(buf[:runtime.Stack(buf, true)]), "freshtoken.(*Source)")
		}
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
			var events recorder
			src := w.loggedIn(func(c *freshtoken.Config) { c.OnEvent = events.receive })
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() { w.usable(src) })
			}
			wg.Wait()
			time.Sleep(lifetime)
			w.usable(src)
			synctest.Wait()
			if n := count(); n != 0 {
				t.Errorf("%d goroutines while idle", n)
			}
			src.Close()
			background := w.source(func(c *freshtoken.Config) { c.Background = true })
			w.usable(background)
			time.Sleep(10 * lifetime)
			synctest.Wait()
			if n := count(); n != 0 {
				t.Errorf("%d goroutines while idle, with Background", n)
			}
			background.Close()
			before := w.posts()
			time.Sleep(10 * lifetime)
			w.wantPosts(before)
		})
	})
}

func TestEvents(t *testing.T) {
	inBubble(t, "a receiver may use the Source", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		var src *freshtoken.Source
		var mu sync.Mutex
		var kinds []freshtoken.EventKind
		src = w.source(func(c *freshtoken.Config) {
			c.OnEvent = func(e freshtoken.Event) {
				src.Token(context.Background())
				src.Status()
				if e.Kind == freshtoken.EventSessionEnded {
					src.Logout(context.Background())
				}
				mu.Lock()
				defer mu.Unlock()
				kinds = append(kinds, e.Kind)
			}
		})
		w.login(src)
		time.Sleep(lifetime)
		w.usable(src)
		time.Sleep(lifetime)
		w.as.Token.Always(oauthtest.InvalidGrant())
		src.Token(t.Context())
		time.Sleep(time.Second)
		synctest.Wait()
		want := []freshtoken.EventKind{"logged_in", "refreshed", "session_ended", "logged_out"}
		if len(kinds) != len(want) {
			t.Fatalf("got %v, want %v", kinds, want)
		}
		for i := range want {
			if kinds[i] != want[i] {
				t.Fatalf("got %v, want %v", kinds, want)
			}
		}
	})
}

func TestConfigErrors(t *testing.T) {
	good := func() freshtoken.Config {
		return freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "client", ClientSecret: "hush", Endpoint: oauth2.Endpoint{TokenURL: "https://as.test/token"}}}
	}
	for name, tt := range map[string]struct {
		edit func(*freshtoken.Config)
		want string
	}{
		"nothing":                           {func(c *freshtoken.Config) { *c = freshtoken.Config{} }, "OAuth2 is nil"},
		"no TokenURL":                       {func(c *freshtoken.Config) { c.OAuth2.Endpoint.TokenURL = "" }, "TokenURL is empty"},
		"no ClientID":                       {func(c *freshtoken.Config) { c.OAuth2.ClientID = "" }, "ClientID is empty"},
		"no Issuer to be":                   {func(c *freshtoken.Config) { c.RequireIss = true }, "Issuer is empty"},
		"negative Lead":                     {func(c *freshtoken.Config) { c.Lead = -time.Second }, "Lead is negative"},
		"relative TokenURL":                 {func(c *freshtoken.Config) { c.OAuth2.Endpoint.TokenURL = "/token" }, "absolute"},
		"http TokenURL":                     {func(c *freshtoken.Config) { c.OAuth2.Endpoint.TokenURL = "http://as.test/token" }, "InsecureHTTP"},
		"ftp TokenURL":                      {func(c *freshtoken.Config) { c.OAuth2.Endpoint.TokenURL = "ftp://as.test/token" }, "use https"},
		"password in it":                    {func(c *freshtoken.Config) { c.OAuth2.Endpoint.TokenURL = "https://a:hush@as.test/token" }, "password"},
		"http revocation":                   {func(c *freshtoken.Config) { c.RevocationURL = "http://as.test/revoke" }, "RevocationURL"},
		"R9126-4: http for pushed requests": {func(c *freshtoken.Config) { c.PushedAuthorizationURL = "http://as.test/par" }, "PushedAuthorizationURL"},
		"R9126-4: a fragment there":         {func(c *freshtoken.Config) { c.PushedAuthorizationURL = "https://as.test/par#x" }, "PushedAuthorizationURL"},
		"name not UTF-8":                    {func(c *freshtoken.Config) { c.Session = "\xff" }, "UTF-8"},
		"TokenURL not UTF-8":                {func(c *freshtoken.Config) { c.OAuth2.Endpoint.TokenURL = "https://as.test/\xff" }, "UTF-8"},
		"Issuer not UTF-8":                  {func(c *freshtoken.Config) { c.Issuer = "https://as.test/\xff" }, "UTF-8"},
		"ClientID not UTF-8":                {func(c *freshtoken.Config) { c.OAuth2.ClientID = "\xff" }, "UTF-8"},
		"nobody to bind to": {func(c *freshtoken.Config) {
			c.OAuth2.Endpoint.TokenURL, c.Store = "", newWorld(t, oauthtest.Options{}).store
			c.Refresher = freshtoken.RefresherFunc(nil)
		}, "Issuer is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good()
			tt.edit(&cfg)
			_, err := freshtoken.New(cfg)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "freshtoken: ") || strings.Contains(err.Error(), "hush") {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
	for _, ok := range []string{"https://as.test/token", "http://127.0.0.1:8080/token", "http://[::1]/token", "http://localhost/token"} {
		cfg := good()
		cfg.OAuth2.Endpoint.TokenURL = ok
		if _, err := freshtoken.New(cfg); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
	inBubble(t, "tokens that cannot be used", func(t *testing.T) {
		src := newWorld(t, oauthtest.Options{}).source()
		for _, tok := range []*oauth2.Token{nil, {}, {AccessToken: "a\r\nb"}, {AccessToken: "a", TokenType: "mac"}, {RefreshToken: "a\x00"}} {
			wantErr(t, src.SetToken(t.Context(), tok), freshtoken.ErrBadToken)
		}
		_, err := src.Token(t.Context())
		wantErr(t, err, freshtoken.ErrNoSession)
	})
}

// New copies the Config: what the program does with its own later changes nothing,
// and needs no care.
func TestConfigIsCopied(t *testing.T) {
	given := make(chan freshtoken.Config, 1)
	own := &oauth2.Config{ClientID: "client", Endpoint: oauth2.Endpoint{TokenURL: "https://as.test/token"}, Scopes: []string{"read"}}
	cfg := freshtoken.Config{OAuth2: own, RefreshParams: url.Values{"resource": {"https://a.test"}}, LoginParams: url.Values{"prompt": {"login"}}}
	for name, start := range map[string]func() (*freshtoken.Source, error){
		"New": func() (*freshtoken.Source, error) { return freshtoken.New(cfg) },
		"NewSources": func() (*freshtoken.Source, error) {
			all, err := freshtoken.NewSources(cfg)
			if err != nil {
				return nil, err
			}
			return all.Get("alice")
		},
	} {
		t.Run(name, func(t *testing.T) {
			src, err := start()
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			before := []string{own.Scopes[0], cfg.RefreshParams.Get("resource"), cfg.LoginParams.Get("prompt")}
			go src.Authenticate(t.Context(), freshtoken.AuthenticatorFunc(func(_ context.Context, cfg freshtoken.Config) (*oauth2.Token, error) {
				given <- cfg
				return nil, errDeclined
			}))
			own.Scopes[0] = "other " + name
			for _, params := range []url.Values{cfg.RefreshParams, cfg.LoginParams} {
				for _, values := range params {
					values[0] = "other " + name
				}
				params.Set("more", name)
			}
			got := <-given
			if after := []string{got.OAuth2.Scopes[0], got.RefreshParams.Get("resource"), got.LoginParams.Get("prompt")}; !slices.Equal(before, after) {
				t.Errorf("%q have become %q", before, after)
			}
			if got.RefreshParams.Get("more") == name || got.LoginParams.Get("more") == name {
				t.Error("there are more parameters")
			}
		})
	}
}

func TestCloseDeliversEvents(t *testing.T) {
	inBubble(t, "before it returns", func(t *testing.T) {
		w, seen := newWorld(t, oauthtest.Options{}), 0
		src := w.loggedIn(func(c *freshtoken.Config) {
			c.OnEvent = func(freshtoken.Event) { time.Sleep(100 * time.Millisecond); seen++ }
		})
		src.Logout(t.Context())
		src.Close()
		if seen != 2 {
			t.Errorf("%d events, want 2", seen)
		}
	})
	inBubble(t, "though a receiver calls it", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		var src *freshtoken.Source
		closed := make(chan error, 1)
		src = w.source(func(c *freshtoken.Config) {
			c.OnEvent = func(freshtoken.Event) { closed <- src.Close() }
		})
		w.login(src)
		start := time.Now()
		if err := <-closed; err != nil || time.Since(start) > time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// A Logout that the store was not told of, or that somebody undid there, and then
// the token of the login again: the stored session has begun with it, and is
// newer, and goes on. The spent token stays unspent.
func TestLoginHandedInAgainAfterLogout(t *testing.T) {
	// again hands the token in, and sees that all programs have the session.
	again := func(t *testing.T, w *world, tok *oauth2.Token, src *freshtoken.Source, others ...*freshtoken.Source) {
		t.Helper()
		if err := src.SetToken(t.Context(), tok); err != nil || !src.Status().Persisted {
			t.Fatalf("got %v, persisted %v", err, src.Status().Persisted)
		}
		for range 3 {
			for _, src := range append(others, src, w.source()) {
				wantAlive(t, w, src)
			}
			time.Sleep(lifetime)
		}
	}
	down := func(f *faulty) { f.lock = failing(errDisk) }
	up := func(f *faulty) { f.lock = nil }
	inBubble(t, "the store was down, and the session had been refreshed here", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		f := w.faults()
		src := w.source()
		tok := w.login(src)
		time.Sleep(lifetime)
		w.usable(src)
		f.set(down)
		wantErr(t, src.Logout(t.Context()), freshtoken.ErrStore)
		f.set(up)
		again(t, w, tok, src)
	})
	inBubble(t, "the store was down, and the session is refreshed elsewhere", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		other := w.source()
		f := w.faults()
		src := w.source()
		tok := w.login(src)
		f.set(down)
		wantErr(t, src.Logout(t.Context()), freshtoken.ErrStore)
		time.Sleep(lifetime)
		w.usable(other)
		f.set(up)
		again(t, w, tok, src, other)
	})
	inBubble(t, "the store is down when it is handed in, too", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		other := w.source()
		f := w.faults()
		src := w.source()
		tok := w.login(src)
		f.set(down)
		wantErr(t, src.Logout(t.Context()), freshtoken.ErrStore)
		time.Sleep(lifetime)
		w.usable(other)
		wantErr(t, src.SetToken(t.Context(), tok), freshtoken.ErrNotPersisted)
		f.set(up)
		for range 3 {
			time.Sleep(lifetime) // saves are tried again
			for _, src := range []*freshtoken.Source{src, other, w.source()} {
				wantAlive(t, w, src)
			}
		}
	})
	inBubble(t, "another program has still to write its Logout down", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		src := w.source()
		tok := w.login(src)
		time.Sleep(lifetime)
		w.usable(src)
		f := w.faults()
		late, later := w.source(), w.source()
		w.token(late)
		w.token(later)
		f.set(down)
		wantErr(t, late.Logout(t.Context()), freshtoken.ErrStore)
		wantErr(t, later.Logout(t.Context()), freshtoken.ErrStore)
		time.Sleep(10 * time.Minute) // the next attempt is a while off
		f.set(up)
		again(t, w, tok, late, later, src)
	})
	inBubble(t, "a backup has been put back", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		src := w.source()
		tok := w.login(src)
		time.Sleep(lifetime)
		w.usable(src)
		backup := w.stored()
		if err := src.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.restore(backup)
		again(t, w, tok, src)
	})
}
