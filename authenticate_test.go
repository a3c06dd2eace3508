package freshtoken_test

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// person is an Authenticator: somebody who takes a while, and may fail.
type person struct {
	as         *oauthtest.Server
	time       time.Duration
	accessOnly bool // the login brings no refresh token

	mu              sync.Mutex // guards what follows
	err             error
	calls, now, max int
	given           freshtoken.Config
	ended           int // logins that were given up
	elsewhere       int
}

func (p *person) Elsewhere(context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.elsewhere++
}

func (p *person) Authenticate(ctx context.Context, cfg freshtoken.Config) (*oauth2.Token, error) {
	p.mu.Lock()
	p.calls++
	p.now++
	p.max = max(p.max, p.now)
	p.given = cfg
	err := p.err
	p.mu.Unlock()
	defer func() { p.mu.Lock(); p.now--; p.mu.Unlock() }()
	select {
	case <-time.After(p.time):
	case <-ctx.Done():
		time.Sleep(time.Second) // it takes a moment to close a window
		p.mu.Lock()
		p.ended++
		p.mu.Unlock()
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	tok := p.as.Login("alice")
	if p.accessOnly {
		tok.RefreshToken = ""
	}
	return tok, nil
}

func (p *person) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

func (p *person) want(t *testing.T, calls int) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls != calls || p.max > 1 {
		t.Errorf("somebody was asked %d times, %d at once; want %d, one at a time", p.calls, p.max, calls)
	}
}

var errDeclined = errors.New("declined")

func TestAuthenticate(t *testing.T) {
	inBubble(t, "one login, whoever waits", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as, time: time.Minute}
		src := w.source()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if tok, err := src.Authenticate(t.Context(), p); err != nil || !w.as.AccessAlive(tok.AccessToken) {
					t.Errorf("got error %v", err)
				}
			})
		}
		wg.Wait()
		if _, err := src.Authenticate(t.Context(), p); err != nil {
			t.Error(err)
		}
		p.want(t, 1)
		if st := src.Status(); st.State != freshtoken.StateAlive || !st.Persisted {
			t.Errorf("status %+v", st)
		}
		if p.given.OAuth2.ClientID != w.config().OAuth2.ClientID || p.given.Session != "default" {
			t.Error("the Authenticator was not given the Source's Config")
		}
	})
	inBubble(t, "one login over all programs that share a store", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as, time: 3 * time.Minute}
		var wg sync.WaitGroup
		for range 4 {
			src := w.source()
			wg.Go(func() {
				if _, err := src.Authenticate(t.Context(), p); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		p.want(t, 1)
		w.wantPosts(0)
	})
	inBubble(t, "a login of another program that takes too long is ErrLocked", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as, time: time.Hour}
		go w.source().Authenticate(t.Context(), p)
		synctest.Wait()
		r := &recorder{}
		_, err := w.source(func(c *freshtoken.Config) { c.OnEvent = r.receive }).Authenticate(t.Context(), p)
		wantErr(t, err, freshtoken.ErrLocked)
		p.want(t, 1)
		if n := r.count(freshtoken.EventLoginElsewhere); n != 1 || p.elsewhere != 1 {
			t.Errorf("%d events tell of the other login, and the Authenticator was told %d times", n, p.elsewhere)
		}
		// The session's own lock is free meanwhile.
		w.loggedIn()
	})
	inBubble(t, "an ended session is replaced", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
		src := w.loggedIn()
		w.as.Token.Next(oauthtest.DeadGrants()[0])
		time.Sleep(time.Hour)
		p := &person{as: w.as, time: time.Minute}
		if _, err := src.Authenticate(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		p.want(t, 1)
		w.usable(src)
	})
	inBubble(t, "an answer that is not clear asks for a login, too, and the next time for none", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
		src := w.loggedIn()
		w.as.Token.Next(oauthtest.Error(400, "bad_refresh_token"))
		time.Sleep(time.Hour)
		p := &person{as: w.as}
		if _, err := src.Authenticate(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		p.want(t, 1)
		w.usable(src)
		w.usable(w.source())
	})
	inBubble(t, "a damaged session is set aside by the login", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		w.store.Save(t.Context(), freshtoken.StoreKey(w.config()), []byte("{"))
		src := w.source()
		p := &person{as: w.as}
		if _, err := src.Authenticate(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		w.usable(w.source())
	})
	inBubble(t, "no session without a refresh token outlives its access token unasked", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
		src := w.source()
		tok := w.as.Login("alice")
		tok.RefreshToken = ""
		if err := src.SetToken(t.Context(), tok); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		p := &person{as: w.as}
		if _, err := src.Authenticate(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		p.want(t, 1)
	})
}

func TestAuthenticateGivesUp(t *testing.T) {
	inBubble(t, "with the last who waits, and the next begins when it has ended", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as, time: time.Minute}
		src := w.source()
		first, leave := context.WithCancel(t.Context())
		second, leaveToo := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for _, ctx := range []context.Context{first, second} {
			wg.Go(func() {
				_, err := src.Authenticate(ctx, p)
				wantErr(t, err, context.Canceled)
			})
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		if p.ended != 0 {
			t.Error("a login was given up that somebody waits for")
		}
		leaveToo()
		wg.Wait()
		if _, err := src.Authenticate(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		p.want(t, 2)
		if p.ended != 1 {
			t.Errorf("%d logins given up, want 1", p.ended)
		}
	})
	inBubble(t, "with the Source", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as, time: time.Hour}
		src := w.source()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := src.Authenticate(t.Context(), p); err == nil {
				t.Error("no error")
			}
		})
		synctest.Wait()
		if err := src.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if p.ended != 1 {
			t.Error("the login outlived the Source")
		}
		_, err := src.Authenticate(t.Context(), p)
		wantErr(t, err, freshtoken.ErrClosed)
	})
	inBubble(t, "with the Source, which does not wait for an Authenticator that hangs", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.source()
		key := make(chan struct{}) // that nobody presses
		defer close(key)
		_, err := src.Authenticate(soon(t, time.Second), freshtoken.AuthenticatorFunc(
			func(context.Context, freshtoken.Config) (*oauth2.Token, error) { <-key; return nil, errDeclined }))
		wantErr(t, err, context.DeadlineExceeded)
		start := time.Now()
		if err := src.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("Close took %v", d)
		}
	})
	inBubble(t, "and says why the login failed, beside why there was one", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
		p := &person{as: w.as, err: errDeclined}
		src := w.source()
		_, err := src.Authenticate(t.Context(), p)
		wantErr(t, err, freshtoken.ErrNoSession)
		wantErr(t, err, errDeclined)
		_, err = src.Authenticate(t.Context(), p) // who asks again is asked again
		wantErr(t, err, errDeclined)
		p.want(t, 2)
		_, err = src.Authenticate(t.Context(), freshtoken.AuthenticatorFunc(
			func(context.Context, freshtoken.Config) (*oauth2.Token, error) { runtime.Goexit(); return nil, nil }))
		if err == nil {
			t.Error("no error of an Authenticator that ends its goroutine")
		}
		wantErr(t, err, freshtoken.ErrNoSession)
		if _, err = src.Authenticate(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "Authenticator") {
			t.Errorf("got error %v without an Authenticator", err)
		}
		_, err = src.Authenticate(t.Context(), freshtoken.AuthenticatorFunc(
			func(context.Context, freshtoken.Config) (*oauth2.Token, error) { return nil, nil }))
		wantErr(t, err, freshtoken.ErrNoSession)
		_, err = src.Authenticate(t.Context(), freshtoken.AuthenticatorFunc(
			func(context.Context, freshtoken.Config) (*oauth2.Token, error) {
				return &oauth2.Token{AccessToken: "at", TokenType: "mac"}, nil
			}))
		wantErr(t, err, freshtoken.ErrBadToken)
		wantErr(t, err, freshtoken.ErrNoSession)
	})
}

// Nobody is sent to a browser for a session that cannot be kept.
func TestAuthenticateChecksTheStoreFirst(t *testing.T) {
	for name, fail := range map[string]func(*faulty){
		"it cannot be read":    func(f *faulty) { f.load = failing(errors.New("keyring is locked")) },
		"it cannot be written": func(f *faulty) { f.save = failing(errDisk) },
		"it cannot be locked":  func(f *faulty) { f.lock = failing(errors.New("read-only directory")) },
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{})
			f := w.faults()
			f.set(fail)
			p := &person{as: w.as}
			src := w.source()
			_, err := src.Authenticate(t.Context(), p)
			wantErr(t, err, freshtoken.ErrStore)
			p.want(t, 0)
			f.set(func(f *faulty) { f.load, f.save, f.lock = nil, nil, nil })
			time.Sleep(2 * time.Second)
			if _, err := src.Authenticate(t.Context(), p); err != nil {
				t.Error(err)
			}
		})
	}
	inBubble(t, "what the check leaves behind is no session", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as, err: errDeclined}
		w.source().Authenticate(t.Context(), p)
		if len(w.stored()) < 4<<10 {
			t.Errorf("the store has %d bytes, less than a session may take", len(w.stored()))
		}
		src := w.source()
		_, err := src.Token(t.Context())
		wantErr(t, err, freshtoken.ErrNoSession)
		if st := src.Status(); st.State != freshtoken.StateAbsent {
			t.Errorf("the state is %q", st.State)
		}
		if strings.Contains(err.Error(), "logged out") {
			t.Errorf("nobody has logged out: %v", err)
		}
		if err := src.Logout(t.Context()); err != nil {
			t.Error(err)
		}
		p.fail(nil)
		if _, err := src.Authenticate(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		w.usable(w.source())
	})
	inBubble(t, "the store fails after the login: the session lives in memory", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		f := w.faults()
		p := &person{as: w.as, time: time.Minute}
		src := w.source()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := src.Authenticate(t.Context(), p); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		f.set(func(f *faulty) { f.save = failing(errDisk) })
		wg.Wait()
		if st := src.Status(); st.Persisted || st.State != freshtoken.StateAlive {
			t.Errorf("status %+v", st)
		}
		f.set(func(f *faulty) { f.save = nil })
		time.Sleep(time.Minute)
		w.usable(w.source())
	})
}

func TestReauthenticate(t *testing.T) {
	with := func(p *person) func(*freshtoken.Config) {
		return func(c *freshtoken.Config) { c.Reauthenticate = p }
	}
	inBubble(t, "who needs a token waits for the login, whatever way it asks", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as, time: time.Minute}
		src := w.source(with(p))
		var wg sync.WaitGroup
		wg.Go(func() { w.usable(src) })
		wg.Go(func() {
			if _, err := src.Refresh(t.Context(), nil); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			resp, err := w.client(src).Get(w.as.APIURL("x"))
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
		wg.Wait()
		p.want(t, 1)
	})
	inBubble(t, "nothing is newer than the token of the login: Refresh does not refresh it", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as, time: time.Minute}
		if _, err := w.source(with(p)).Refresh(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		p.want(t, 1)
		w.wantPosts(0)
	})
	inBubble(t, "nor has it somebody log in twice, where a login brings an access token alone", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as, time: time.Minute, accessOnly: true}
		if _, err := w.source(with(p)).Refresh(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		p.want(t, 1)
	})
	inBubble(t, "it goes on when nobody waits", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as, time: time.Minute}
		src := w.source(with(p))
		for range 4 { // clients with a short patience
			_, err := src.Token(soon(t, 10*time.Second))
			wantErr(t, err, context.DeadlineExceeded)
		}
		time.Sleep(30 * time.Second)
		w.usable(src)
		p.want(t, 1)
	})
	inBubble(t, "R9470-8 who declines is left alone for a minute", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as, err: errDeclined}
		src := w.source(with(p))
		for range 59 {
			_, err := src.Token(t.Context())
			wantErr(t, err, errDeclined)
			wantErr(t, err, freshtoken.ErrNoSession)
			time.Sleep(time.Second)
		}
		p.want(t, 1)
		p.fail(nil)
		time.Sleep(2 * time.Second)
		w.usable(src)
		p.want(t, 2)
	})
	inBubble(t, "R9470-8 and no failure of another login shortens that minute", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as, err: errDeclined}
		src := w.source(with(p))
		_, err := src.Token(t.Context())
		wantErr(t, err, errDeclined)
		time.Sleep(10 * time.Second)
		_, err = src.Authenticate(t.Context(), p) // who asks for it is asked
		wantErr(t, err, errDeclined)
		p.want(t, 2)
		_, err = src.Authenticate(soon(t, time.Second), &person{as: w.as, time: time.Hour}) // given up
		wantErr(t, err, context.DeadlineExceeded)
		_, err = src.Token(t.Context())
		wantErr(t, err, errDeclined)
		p.want(t, 2)
	})
	inBubble(t, "no login for what a login does not heal", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
		p := &person{as: w.as}
		src := w.loggedIn(with(p))
		time.Sleep(time.Hour)
		w.as.Token.Always(oauthtest.Unavailable("5"))
		if _, err := src.Token(t.Context()); !refreshError(t, err).Temporary {
			t.Error(err)
		}
		p.want(t, 0)
	})
	inBubble(t, "a rejected request is not sent again under another login", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as}
		src := w.loggedIn(with(p))
		client := w.client(src)
		w.as.RevokeFamily(w.token(src).AccessToken)
		resp, err := client.Get(w.as.APIURL("x"))
		if err != nil || resp.StatusCode != http.StatusUnauthorized {
			t.Fatalf("got %v, error %v, want the API's own answer", resp, err)
		}
		resp.Body.Close()
		p.want(t, 0)
		resp, err = client.Get(w.as.APIURL("x"))
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("got %v, error %v after the login", resp, err)
		}
		resp.Body.Close()
		p.want(t, 1)
	})
	inBubble(t, "a login elsewhere while somebody is asked", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as, time: time.Minute}
		src := w.source(with(p))
		var wg sync.WaitGroup
		wg.Go(func() { w.usable(src) })
		time.Sleep(time.Second)
		w.loggedIn().Close()
		wg.Wait()
		w.usable(src)
		w.usable(w.source())
	})
}

// Callers who learn at the same time that the session is over have one person
// asked, even if that one declines before the others have looked.
func TestReauthenticateOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		var asked atomic.Int32
		src := w.source(func(c *freshtoken.Config) {
			c.Reauthenticate = freshtoken.AuthenticatorFunc(func(context.Context, freshtoken.Config) (*oauth2.Token, error) {
				asked.Add(1)
				return nil, errors.New("not now")
			})
		})
		if err := src.SetToken(t.Context(), w.as.Login("alice", "read")); err != nil {
			t.Fatal(err)
		}
		w.as.Token.Next(oauthtest.LoseAnswer()) // each asks again after its own pause
		narrow := w.target(src, reading)
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if _, err := narrow.Token(t.Context()); err == nil {
					t.Error("there is a token")
				}
			})
		}
		all.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("somebody was asked %d times", n)
		}
	})
}
