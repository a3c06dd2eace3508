//go:build !js

package interop_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"runtime"
	"sync"
	"testing"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/login"
)

// The users of the servers.
var users = []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "mallory", "niaj"}

// One program has twelve users log in at the same time, in one browser. One of
// them does not.
func (c *chromium) testTwelve(t *testing.T) {
	s := c.server(t)
	before := settled(t)
	t.Run("logins", func(t *testing.T) { c.twelve(t, s.in(t)) }) // and all that belongs to it ends
	if !eventually(t, func() bool { return goroutines() <= before }) {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines, %d before\n%s", goroutines(), before, stacks[:runtime.Stack(stacks, true)])
	}
}

// goroutines counts them, without those of connections that are kept for later.
func goroutines() int {
	http.DefaultClient.CloseIdleConnections()
	return runtime.NumGoroutine()
}

// settled is the number of goroutines when it has stopped changing: what earlier
// tests have ended may take a moment.
func settled(t *testing.T) int {
	t.Helper()
	last, same := goroutines(), 0
	eventually(t, func() bool {
		n := goroutines()
		if same++; n != last {
			last, same = n, 0
		}
		return same == 10
	})
	return last
}

func (c *chromium) twelve(t *testing.T, s *server) {
	const quitter = 5
	store := sharedStores[0].open(t, sharedStores[0].dir(t))
	tabs, sources, errs := make([]*tab, len(users)), make([]*freshtoken.Source, len(users)), make([]error, len(users))
	for i, user := range users {
		tabs[i] = c.tab(t)
		tabs[i].user = user
		cfg := s.config(public, store)
		cfg.Session = user
		sources[i] = s.source(cfg)
	}
	all := newMeeting(len(users))
	var logins sync.WaitGroup
	for i, p := range tabs {
		var together visit = func(ctx context.Context, address string) error {
			if err := p.open(address); err != nil {
				return err
			}
			if err := all.wait(ctx); err != nil {
				return err
			}
			return p.goOn()
		}
		flow := together.loopback()
		if i == quitter {
			flow = givingUp(p, func() error { return all.wait(t.Context()) })
		}
		logins.Go(func() {
			if _, errs[i] = login.Ensure(t.Context(), sources[i], flow); errs[i] != nil && i != quitter {
				all.failed()
			}
		})
	}
	logins.Wait()
	families := make(map[string]string)
	for i, user := range users {
		wantGone(t, tabs[i])
		if i == quitter {
			if !errors.Is(errs[i], login.ErrTimeout) {
				t.Errorf("%s, who has closed the tab: got error %v, want ErrTimeout", user, errs[i])
			}
			continue
		}
		if errs[i] != nil {
			t.Errorf("%s: %v", user, errs[i])
			continue
		}
		tabs[i].wantPage(t, loggedIn)
		tabs[i].wantQuiet(t, s)
		family := s.wantOwn(sources[i], user)
		if other, taken := families[family]; taken {
			t.Errorf("%s has the session of %s", user, other)
		}
		families[family] = user
	}
	if n := s.wantWhole(); n.Refreshes != len(users)-1 || n.TokenRequests != 2*(len(users)-1) {
		t.Errorf("got %+v, want one login and one refresh for each who stays", n)
	}
}

// wantOwn fails the test unless a session is the user's, and stays in its family
// when it is refreshed. It returns the server's name for that.
func (s *server) wantOwn(src *freshtoken.Source, user string) (family string) {
	s.t.Helper()
	tok := s.token(src)
	newer, err := src.Refresh(s.t.Context(), tok)
	if err != nil {
		s.t.Errorf("%s: %v", user, err)
		return ""
	}
	var first, then struct{ User, Family string }
	s.control("whose", url.Values{"token": {tok.AccessToken}}, &first)
	s.control("whose", url.Values{"token": {newer.AccessToken}}, &then)
	if first.User != user || first != then || first.Family == "" {
		s.t.Errorf("the tokens of %s belong to %+v, after a refresh to %+v", user, first, then)
	}
	return first.Family
}

// A meeting is where several wait for each other.
type meeting struct {
	mu      sync.Mutex // guards missing
	missing int
	full    chan struct{} // closed when all are there
	failed  func()        // calls it off, because somebody will not come
	called  <-chan struct{}
}

func newMeeting(n int) *meeting {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	return &meeting{missing: n, full: make(chan struct{}), failed: cancel, called: ctx.Done()}
}

// wait returns when all are there.
func (m *meeting) wait(ctx context.Context) error {
	m.mu.Lock()
	if m.missing--; m.missing == 0 {
		close(m.full)
	}
	m.mu.Unlock()
	select {
	case <-m.full:
		return nil
	case <-m.called:
		select {
		case <-m.full: // it was called off later
			return nil
		default:
			return errors.New("somebody did not come")
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
