package freshtoken_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// Logout in every state that a session can be in.

// wantGone fails the test unless the session is over, for these programs and
// for one that starts now, and stays so. The store works.
func (w *world) wantGone(programs ...*freshtoken.Source) {
	w.t.Helper()
	posts := w.posts()
	programs = append(programs, w.source())
	for range 5 {
		for i, src := range programs {
			if _, err := src.Token(w.t.Context()); !errors.Is(err, freshtoken.ErrNoSession) {
				w.t.Errorf("program %d of %d got %v, want %v", i+1, len(programs), err, freshtoken.ErrNoSession)
			}
		}
		time.Sleep(2 * time.Minute)
	}
	if got := w.stored(); got != "" && !strings.Contains(got, `"logged_out":true`) || strings.Contains(got, `"access_token"`) || strings.Contains(got, `"refresh_token"`) {
		w.t.Errorf("the store has %s", got)
	}
	w.wantPosts(posts)
}

// A logoutState is what a session can be like when Logout comes.
type logoutState struct {
	enter func(t *testing.T, w *world, f *faulty, src *freshtoken.Source) // with a session of a minute
	want  error                                                           // of Logout
	heal  func(*faulty)                                                   // nil: the store works
	// revoked: what the session had is dead at the server. kept: Logout did nothing.
	revoked, kept bool
}

var errDown = errors.New("the store is down")

func logoutStates() map[string]logoutState {
	works := func(f *faulty) { f.load, f.save, f.lock = nil, nil, nil }
	ask := func(src *freshtoken.Source) { src.Token(context.Background()) }
	state := func(d time.Duration, faults ...oauthtest.Fault) func(*testing.T, *world, *faulty, *freshtoken.Source) {
		return func(_ *testing.T, w *world, _ *faulty, src *freshtoken.Source) {
			time.Sleep(d)
			w.as.Token.Next(faults...)
			ask(src)
		}
	}
	// during has a refresh under way, which f holds up, or a fault of the server.
	during := func(hold func(*faulty, func() error), fault func(func(context.Context) error) oauthtest.Fault) func(*testing.T, *world, *faulty, *freshtoken.Source) {
		return func(t *testing.T, w *world, f *faulty, src *freshtoken.Source) {
			time.Sleep(lifetime)
			gate := oauthtest.NewGate()
			if fault != nil {
				w.as.Token.Next(fault(gate.Hold))
			} else {
				f.set(func(f *faulty) { hold(f, func() error { return gate.Hold(context.Background()) }) })
			}
			go ask(src)
			<-gate.Arrived()
			time.AfterFunc(5*time.Second, func() {
				f.set(works)
				gate.Open()
			})
		}
	}
	second := func(set func(*faulty, func() error)) func(*faulty, func() error) {
		return func(f *faulty, hold func() error) {
			n := 0
			set(f, func() error {
				if n++; n == 2 {
					return hold()
				}
				return nil
			})
		}
	}
	save := func(f *faulty, hook func() error) { f.save = hook }
	failing := func(fail func(*faulty)) func(*testing.T, *world, *faulty, *freshtoken.Source) {
		return func(t *testing.T, _ *world, f *faulty, _ *freshtoken.Source) { f.set(fail) }
	}
	return map[string]logoutState{
		"fresh":                        {enter: state(0), revoked: true},
		"due":                          {enter: func(*testing.T, *world, *faulty, *freshtoken.Source) { time.Sleep(55 * time.Second) }, revoked: true},
		"expired":                      {enter: func(*testing.T, *world, *faulty, *freshtoken.Source) { time.Sleep(lifetime) }, revoked: true},
		"refreshed":                    {enter: state(lifetime), revoked: true},
		"ended by the server":          {enter: state(lifetime, oauthtest.InvalidGrant())},
		"ended in unclear words":       {enter: state(lifetime, oauthtest.Error(400, "token_expired")), revoked: true},
		"paused after a failure":       {enter: state(lifetime, oauthtest.Unavailable("600")), revoked: true},
		"paused after a lost answer":   {enter: state(lifetime, oauthtest.LoseAnswer(), oauthtest.Unavailable("600"))},
		"paused while the token lives": {enter: state(55*time.Second, oauthtest.Unavailable("600")), revoked: true},
		"rejected": {revoked: true, enter: func(t *testing.T, w *world, _ *faulty, src *freshtoken.Source) {
			w.as.Token.Next(oauthtest.Unavailable("600"))
			src.Refresh(t.Context(), w.token(src))
		}},
		"refreshing, about to mark":             {revoked: true, enter: during(func(f *faulty, h func() error) { f.load = h }, nil)},
		"refreshing, before the request":        {revoked: true, enter: during(save, nil)},
		"refreshing, during the request":        {revoked: true, enter: during(nil, func(h func(context.Context) error) oauthtest.Fault { return oauthtest.Fault{Before: h} })},
		"refreshing, the answer on its way":     {revoked: true, enter: during(nil, func(h func(context.Context) error) oauthtest.Fault { return oauthtest.Fault{AfterCommit: h} })},
		"refreshing, while the answer is saved": {revoked: true, enter: during(second(save), nil)},
		"tokens that cannot be saved": {want: freshtoken.ErrStore, heal: works, revoked: true, enter: func(t *testing.T, w *world, f *faulty, src *freshtoken.Source) {
			time.Sleep(lifetime)
			f.set(afterMark)
			w.usable(src)
		}},
		"tokens that could not be saved before": {revoked: true, enter: func(t *testing.T, w *world, f *faulty, src *freshtoken.Source) {
			time.Sleep(lifetime)
			f.set(afterMark)
			w.usable(src)
			f.set(works)
		}},
		"a login that could not be saved": {want: freshtoken.ErrStore, heal: works, revoked: true, enter: func(t *testing.T, w *world, f *faulty, src *freshtoken.Source) {
			f.set(func(f *faulty) { f.save = func() error { return errDown } })
			src.SetToken(t.Context(), w.as.Login("alice"))
		}},
		"a login that was never locked": {want: freshtoken.ErrStore, heal: works, revoked: true, enter: func(t *testing.T, w *world, f *faulty, src *freshtoken.Source) {
			f.set(func(f *faulty) { f.lock = func() error { return errDown } })
			src.SetToken(t.Context(), w.as.Login("alice"))
		}},
		"the store cannot be written": {want: freshtoken.ErrStore, heal: works, revoked: true, enter: failing(func(f *faulty) { f.save = func() error { return errDown } })},
		"the store cannot be read":    {want: freshtoken.ErrStore, heal: works, revoked: true, enter: failing(func(f *faulty) { f.load = func() error { return errDown } })},
		"the store cannot be locked":  {want: freshtoken.ErrStore, heal: works, revoked: true, enter: failing(func(f *faulty) { f.lock = func() error { return errDown } })},
		"another process holds the lock": {want: freshtoken.ErrLocked, kept: true, enter: func(t *testing.T, w *world, f *faulty, _ *freshtoken.Source) {
			unlock, err := f.Store.Lock(t.Context(), freshtoken.StoreKey(w.config()))
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(2*time.Minute, func() { unlock() })
		}},
		"refreshed by another process": {revoked: true, enter: func(t *testing.T, w *world, _ *faulty, _ *freshtoken.Source) {
			time.Sleep(lifetime)
			w.usable(w.source())
		}},
		"logged out by another process": {revoked: true, enter: func(t *testing.T, w *world, _ *faulty, _ *freshtoken.Source) {
			if err := w.source(revoking(w)).Logout(t.Context()); err != nil {
				t.Fatal(err)
			}
		}},
		"removed from the store": {enter: func(t *testing.T, w *world, f *faulty, _ *freshtoken.Source) {
			f.Delete(t.Context(), freshtoken.StoreKey(w.config()))
		}},
	}
}

func TestLogoutInEveryState(t *testing.T) {
	for name, state := range logoutStates() {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
			f := w.faults()
			src := w.loggedIn(revoking(w))
			state.enter(t, w, f, src)
			wantErr(t, src.Logout(t.Context()), state.want)
			if state.kept {
				time.Sleep(2 * time.Minute)
				w.usable(src)
				if err := src.Logout(t.Context()); err != nil {
					t.Errorf("the second Logout: %v", err)
				}
			}
			if _, err := src.Token(t.Context()); err == nil {
				t.Error("there is a token after Logout")
			}
			if state.heal != nil {
				time.Sleep(20 * time.Second)
				f.set(state.heal)
				time.Sleep(2 * time.Minute)
			}
			w.wantGone(src)
			alive := 0
			for _, e := range w.as.LogOf(oauthtest.RevocationEndpoint) {
				if e.Outcome == oauthtest.Revoked {
					alive++
				}
			}
			if state.revoked && alive != 1 {
				t.Errorf("%d sessions were revoked, want 1", alive)
			}
			requests := w.as.Stats().RevocationRequests
			if err := src.Logout(t.Context()); err != nil {
				t.Errorf("once more: %v", err)
			}
			w.wantRevocations(requests)
			if err := src.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if s := w.as.Stats(); s.Reuses != 0 && name != "paused after a lost answer" {
				t.Errorf("a spent refresh token was sent: %+v", s)
			}
			w.login(w.source()) // which brings back another one
		})
	}
	inBubble(t, "absent", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.source(revoking(w))
		for range 2 {
			if err := src.Logout(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if got := w.stored(); got != "" {
			t.Errorf("the store has %s", got)
		}
		w.wantRevocations(0)
		w.wantGone(src)
	})
	inBubble(t, "unknown, and stored", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		w.loggedIn().Close()
		src := w.source(revoking(w))
		if err := src.Logout(t.Context()); err != nil {
			t.Error(err)
		}
		w.wantRevocations(1)
		w.wantGone(src)
	})
	inBubble(t, "unknown, and the store is down: it can be repeated", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		w.loggedIn().Close()
		f := w.faults()
		f.set(func(f *faulty) { f.lock = failing(errDown) })
		src := w.source(revoking(w))
		wantErr(t, src.Logout(t.Context()), freshtoken.ErrStore)
		f.set(func(f *faulty) { f.lock = nil })
		if err := src.Logout(t.Context()); err != nil {
			t.Error(err)
		}
		w.wantGone(src)
	})
	inBubble(t, "closed", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn()
		src.Close()
		wantErr(t, src.Logout(t.Context()), freshtoken.ErrClosed)
		w.usable(w.source())
	})
	inBubble(t, "without a Store", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn(revoking(w), func(c *freshtoken.Config) { c.Store = nil })
		if err := src.Logout(t.Context()); err != nil {
			t.Error(err)
		}
		w.wantRevocations(1)
		w.wantGone(src)
	})
}

// What is damaged is not overwritten; what is in memory ends all the same.
func TestLogoutOfADamagedStore(t *testing.T) {
	for name, inUse := range map[string]bool{"in use": true, "not looked at yet": false} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{})
			f := w.faults()
			src := w.loggedIn(revoking(w))
			if !inUse {
				src.Close()
				src = w.source(revoking(w))
			}
			_, before := f.counts()
			f.set(func(f *faulty) { f.load = failing(corrupt{}) })
			err := src.Logout(t.Context())
			wantErr(t, err, freshtoken.ErrStore)
			wantErr(t, err, freshtoken.ErrSessionEnded)
			time.Sleep(time.Hour)
			loads, saves := f.counts()
			if _, err := src.Token(t.Context()); err == nil {
				t.Error("the session is in use")
			}
			if saves != before || loads > 20 {
				t.Errorf("%d saves, %d loads in an hour", saves-before, loads)
			}
			if want := map[bool]int{true: 1}[inUse]; w.as.Stats().Revocations != want {
				t.Errorf("%d revocations, want %d", w.as.Stats().Revocations, want)
			}
			w.login(src) // sets it aside
			f.set(func(f *faulty) { f.load = nil })
			w.usable(src)
		})
	}
}

func TestLogout(t *testing.T) {
	inBubble(t, "at once from everywhere revokes once", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		programs := []*freshtoken.Source{w.loggedIn(revoking(w)), w.source(revoking(w)), w.source(revoking(w))}
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				if err := programs[i%3].Logout(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		w.wantRevocations(1)
		w.wantGone(programs...)
	})
	inBubble(t, "other processes notice at their next refresh, and a late one brings nothing back", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		var events recorder
		src, other := w.loggedIn(), w.source(func(c *freshtoken.Config) { c.OnEvent = events.receive })
		w.usable(other)
		if err := src.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lifetime)
		_, err := other.Token(t.Context())
		wantErr(t, err, freshtoken.ErrNoSession)
		synctest.Wait()
		if events.count(freshtoken.EventLoggedOut) != 1 {
			t.Error("no event")
		}
		w.wantPosts(0)
		w.wantGone(src, other)
	})
	inBubble(t, "another process's refresh in flight brings nothing back", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		src, other := w.loggedIn(revoking(w)), w.source()
		w.usable(other)
		time.Sleep(lifetime)
		w.as.Token.Next(oauthtest.Fault{AfterDelay: 5 * time.Second})
		go other.Token(t.Context())
		time.Sleep(time.Second)
		if err := src.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := w.as.Stats().Revocations; n != 1 {
			t.Errorf("%d sessions were revoked, want 1", n)
		}
		time.Sleep(lifetime)
		w.wantGone(src, other)
	})
	inBubble(t, "waits its turn no longer than its context", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		w.as.Token.Next(oauthtest.Fault{AfterDelay: 5 * time.Second})
		go src.Token(t.Context())
		time.Sleep(time.Second)
		wantErr(t, src.Logout(soon(t, time.Second)), context.DeadlineExceeded)
		time.Sleep(10 * time.Second)
		w.usable(src) // it did not take place
	})
	inBubble(t, "a save that hangs: the session is over, and the note follows", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		f := w.faults()
		src := w.loggedIn(revoking(w))
		time.Sleep(lifetime)
		release, n := make(chan struct{}), 0
		f.set(func(f *faulty) {
			f.save = func() error {
				if n++; n == 2 { // the answer
					<-release
				}
				return nil
			}
		})
		w.usable(src)
		wantErr(t, src.Logout(t.Context()), freshtoken.ErrStore)
		_, err := src.Token(t.Context())
		wantErr(t, err, freshtoken.ErrNoSession)
		close(release)
		time.Sleep(2 * time.Minute)
		w.wantGone(src)
	})
	inBubble(t, "a login elsewhere that yields the same refresh token is another session", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{Rotation: oauthtest.NoRotation})
		src, other := w.source(), w.source()
		tok := w.login(src)
		if err := src.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		again := &oauth2.Token{AccessToken: w.as.Login("alice").AccessToken, RefreshToken: tok.RefreshToken}
		if err := other.SetToken(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			time.Sleep(time.Minute)
			if w.token(src).AccessToken != again.AccessToken || w.token(other).AccessToken != again.AccessToken {
				t.Error("the new session is not in use")
			}
		}
	})
}

func TestLogoutInTheBrowser(t *testing.T) {
	errBrowser := errors.New("no browser")
	// ender keeps what Config.EndSession is called with.
	ender := func(hints *[]string, err error) func(*freshtoken.Config) {
		return func(c *freshtoken.Config) {
			c.EndSession = func(_ context.Context, cfg freshtoken.Config, idToken string) error {
				if cfg.OAuth2.ClientID != "client" {
					t.Error("it was not given the Config")
				}
				*hints = append(*hints, idToken)
				return err
			}
		}
	}
	inBubble(t, "RPL-1 it is given the login's ID token, once", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		var hints []string
		src := w.source(ender(&hints, nil))
		tok := w.as.Login("alice").WithExtra(map[string]any{"id_token": "the.id.token"})
		if err := src.SetToken(t.Context(), tok); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := src.Logout(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if len(hints) != 1 || hints[0] != "the.id.token" {
			t.Errorf("called with %q", hints)
		}
		w.wantGone(src)
	})
	inBubble(t, "its failure is told, and the session is over all the same", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		var hints []string
		src := w.loggedIn(ender(&hints, errBrowser))
		err := src.Logout(t.Context())
		wantErr(t, err, errBrowser)
		wantErr(t, err, freshtoken.ErrNotRevoked)
		w.wantGone(src)
	})
	inBubble(t, "also beside another failure, and of Forget", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		w.as.Revocation.Next(oauthtest.Status(400))
		var hints []string
		cfg := w.config()
		cfg.RevocationURL = w.as.RevocationURL()
		ender(&hints, errBrowser)(&cfg)
		all, err := freshtoken.NewSources(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer all.Close()
		src, err := all.Get("")
		if err != nil {
			t.Fatal(err)
		}
		w.login(src)
		err = all.Forget(t.Context(), "")
		wantErr(t, err, freshtoken.ErrNotRevoked)
		wantErr(t, err, errBrowser)
		if len(hints) != 1 || w.stored() != "" {
			t.Errorf("called %d times; the store has %q", len(hints), w.stored())
		}
	})
	inBubble(t, "not when nobody was logged in", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		var hints []string
		src := w.source(ender(&hints, errBrowser))
		src.Authenticate(t.Context(), &person{as: w.as, err: errDeclined}) // leaves a placeholder
		if err := src.Logout(t.Context()); err != nil || len(hints) > 0 {
			t.Errorf("got error %v, called %d times", err, len(hints))
		}
	})
}
