package freshtoken_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

func TestForget(t *testing.T) {
	revoking := func(w *world) func(*freshtoken.Config) {
		return func(c *freshtoken.Config) { c.RevocationURL = w.as.RevocationURL() }
	}
	// set up two accounts, of which alice will be forgotten.
	two := func(t *testing.T) (*world, *indexed, *freshtoken.Sources, *freshtoken.Source) {
		t.Helper()
		w, l, _ := accounts(t, oauthtest.Options{AccessLifetime: lifetime})
		all := w.sources(revoking(w))
		w.account(all, "bob")
		alice, _ := w.account(all, "alice")
		return w, l, all, alice
	}
	gone := func(t *testing.T, w *world, l *indexed, all *freshtoken.Sources, alice *freshtoken.Source) {
		t.Helper()
		for range 5 {
			if l.has(t, "alice") {
				t.Fatal("the name is in the store")
			}
			_, err := alice.Token(t.Context())
			wantErr(t, err, freshtoken.ErrClosed)
			_, err = w.get(all, "alice").Token(t.Context())
			wantErr(t, err, freshtoken.ErrNoSession)
			time.Sleep(2 * time.Minute)
		}
		w.usable(w.get(all, "bob"))
		if list, err := all.List(t.Context()); err != nil || names(list) != "bob" {
			t.Errorf("got %q, %v", names(list), err)
		}
	}
	inBubble(t, "revokes, and leaves nothing behind", func(t *testing.T) {
		w, l, all, alice := two(t)
		if err := all.Forget(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		w.wantRevocations(1)
		gone(t, w, l, all, alice)
		again, _ := w.account(all, "alice")
		w.usable(again)
	})
	inBubble(t, "again, and what never was, is no error", func(t *testing.T) {
		w, l, all, alice := two(t)
		for range 3 {
			for _, name := range []string{"alice", "never was", ""} {
				if err := all.Forget(t.Context(), name); err != nil {
					t.Errorf("%q: %v", name, err)
				}
			}
		}
		w.wantRevocations(1)
		gone(t, w, l, all, alice)
	})
	inBubble(t, "what Logout has left, too", func(t *testing.T) {
		w, l, all, alice := two(t)
		alice.Logout(t.Context())
		if err := all.Forget(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		w.wantRevocations(1)
		gone(t, w, l, all, alice)
	})
	inBubble(t, "R7009-2.2.1 though the server does not revoke", func(t *testing.T) {
		w, l, all, alice := two(t)
		w.as.Revocation.Always(oauthtest.Status(500))
		wantErr(t, all.Forget(t.Context(), "alice"), freshtoken.ErrNotRevoked)
		gone(t, w, l, all, alice)
	})
	inBubble(t, "while it is refreshed, here and elsewhere, and used by many", func(t *testing.T) {
		w, l, all, alice := two(t)
		elsewhere := w.get(w.sources(), "alice")
		w.usable(elsewhere)
		time.Sleep(lifetime)
		w.as.Token.Always(oauthtest.Fault{AfterDelay: 5 * time.Second})
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				src := []*freshtoken.Source{alice, elsewhere}[i%2]
				for range 100 {
					src.Token(t.Context())
					time.Sleep(300 * time.Millisecond)
				}
			})
		}
		time.Sleep(time.Second)
		if err := all.Forget(t.Context(), "alice"); err != nil {
			t.Error(err)
		}
		wg.Wait()
		_, err := elsewhere.Token(t.Context())
		for range 2 { // the old token may have some time left
			time.Sleep(lifetime)
			_, err = elsewhere.Token(t.Context())
		}
		wantErr(t, err, freshtoken.ErrNoSession)
		gone(t, w, l, all, alice)
		w.wantRevocations(1)
		if s := w.as.Stats(); s.Reuses != 0 {
			t.Errorf("a spent token was sent: %+v", s)
		}
	})
	inBubble(t, "with tokens that could not be saved", func(t *testing.T) {
		w, l, all, alice := two(t)
		time.Sleep(lifetime)
		l.set(afterMark)
		w.usable(alice)
		if err := all.Forget(t.Context(), "alice"); err != nil {
			t.Errorf("though the store can delete: %v", err)
		}
		l.set(func(f *faulty) { f.save = nil })
		gone(t, w, l, all, alice)
		if s := w.as.Stats(); s.Revocations != 1 {
			t.Errorf("%d revocations", s.Revocations)
		}
	})
	inBubble(t, "at once from everywhere", func(t *testing.T) {
		w, l, all, alice := two(t)
		other := w.sources(revoking(w))
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				if err := []*freshtoken.Sources{all, other}[i%2].Forget(t.Context(), "alice"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		w.wantRevocations(1)
		gone(t, w, l, all, alice)
	})
	inBubble(t, "not while another process holds the lock", func(t *testing.T) {
		w, l, all, alice := two(t)
		cfg := w.config()
		cfg.Session = "alice"
		unlock, err := l.Lock(t.Context(), freshtoken.StoreKey(cfg))
		if err != nil {
			t.Fatal(err)
		}
		wantErr(t, all.Forget(t.Context(), "alice"), freshtoken.ErrLocked)
		unlock()
		if w.get(all, "alice") != alice {
			t.Error("the Source was dropped")
		}
		w.usable(alice)
		if err := all.Forget(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		gone(t, w, l, all, alice)
	})
	inBubble(t, "a store that cannot delete: logged out, and called again it goes on", func(t *testing.T) {
		w, l, all, alice := two(t)
		l.delete = failing(errDown)
		wantErr(t, all.Forget(t.Context(), "alice"), freshtoken.ErrStore)
		_, err := alice.Token(t.Context())
		wantErr(t, err, freshtoken.ErrNoSession)
		if l.has(t, `"access_token":"at-2`) {
			t.Error("the tokens are in the store")
		}
		l.delete = nil
		if err := all.Forget(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		w.wantRevocations(1)
		gone(t, w, l, all, alice)
	})
	inBubble(t, "ST-tamper what is damaged stays", func(t *testing.T) {
		w, l, all, _ := two(t)
		l.set(func(f *faulty) { f.load = failing(corrupt{}) })
		wantErr(t, w.sources().Forget(t.Context(), "alice"), freshtoken.ErrStore)
		wantErr(t, all.Forget(t.Context(), "alice"), freshtoken.ErrStore)
		if !l.has(t, "alice") {
			t.Error("it was removed")
		}
	})
	inBubble(t, "a context that ends leaves nothing half done", func(t *testing.T) {
		w, l, all, alice := two(t)
		w.as.Revocation.Next(oauthtest.Fault{Delay: 5 * time.Second})
		wantErr(t, all.Forget(soon(t, time.Second), "alice"), context.DeadlineExceeded)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		gone(t, w, l, all, alice)
	})
	inBubble(t, "a context whose cause is a Source that was closed", func(t *testing.T) {
		w, l, all, alice := two(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		closed := &closedElsewhere{}
		cancel(fmt.Errorf("another goroutine: %w", closed)) // as a group does when one of its goroutines has failed
		err := all.Forget(ctx, "alice")
		if closed.asked > 10 {
			t.Fatal("it goes round and round")
		}
		wantErr(t, err, context.Canceled)
		wantErr(t, err, freshtoken.ErrClosed)
		if !l.has(t, "alice") {
			t.Error("it took effect")
		}
		w.usable(alice)
	})
	inBubble(t, "ErrClosed of somebody else does not begin it again", func(t *testing.T) {
		w, l, _ := accounts(t, oauthtest.Options{})
		all := w.sources(func(c *freshtoken.Config) {
			c.EndSession = func(context.Context, freshtoken.Config, string) error { return freshtoken.ErrClosed }
		})
		w.account(all, "alice")
		l.set(func(f *faulty) {
			f.load = func() error { f.load = nil; return freshtoken.ErrClosed }
		})
		wantErr(t, all.Forget(t.Context(), "alice"), freshtoken.ErrStore)
		wantErr(t, all.Forget(t.Context(), "alice"), freshtoken.ErrNotRevoked)
		if l.has(t, "alice") {
			t.Error("the name is in the store")
		}
	})
	inBubble(t, "in time, though a login does not notice that it has been ended", func(t *testing.T) {
		w, l, all := accounts(t, oauthtest.Options{})
		alice := w.get(all, "alice")
		left := make(chan struct{})
		go alice.Authenticate(t.Context(), freshtoken.AuthenticatorFunc(func(context.Context, freshtoken.Config) (*oauth2.Token, error) {
			defer close(left)
			time.Sleep(2 * time.Second)
			return nil, errDeclined
		}))
		synctest.Wait()
		start := time.Now()
		if err := all.Forget(soon(t, time.Second), "alice"); err != nil {
			t.Errorf("the session is gone: %v", err)
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("it took %v, and had a second", d)
		}
		if l.has(t, "alice") {
			t.Error("the name is in the store")
		}
		_, err := alice.Token(t.Context())
		wantErr(t, err, freshtoken.ErrClosed)
		if err := all.Close(); err != nil {
			t.Error(err)
		}
		select {
		case <-left:
		default:
			t.Error("Close has not waited for the login")
		}
	})
	inBubble(t, "during Close", func(t *testing.T) {
		w, _, all, _ := two(t)
		w.as.Revocation.Next(oauthtest.Fault{Delay: 5 * time.Second})
		forgot := make(chan error, 1)
		go func() { forgot <- all.Forget(t.Context(), "alice") }()
		time.Sleep(time.Second)
		if err := all.Close(); err != nil {
			t.Error(err)
		}
		if err := <-forgot; err != nil {
			t.Error(err)
		}
	})
}

// closedElsewhere is what a closed Source has returned, until somebody has asked a
// thousand times.
type closedElsewhere struct{ asked int }

func (*closedElsewhere) Error() string { return "closed elsewhere" }

func (c *closedElsewhere) Is(target error) bool {
	c.asked++
	return target == freshtoken.ErrClosed && c.asked < 1000
}

// A name is somebody's address as a rule. It is in the record and the key, and
// does not show on the disk.
func TestNamesDoNotShow(t *testing.T) {
	w := newWorld(t, oauthtest.Options{})
	dir := canary.Dir(t, "key")
	store := fileStore(t, dir)
	w.store = store
	all := w.sources()
	const name = "alice@example.com"
	w.account(all, name)
	cfg := w.config()
	cfg.Session = name
	shown := strings.Join(treeOf(t, dir), "\n")
	damage(t, dir)
	_, err := store.Load(t.Context(), freshtoken.StoreKey(cfg))
	if err == nil {
		t.Fatal("nothing was damaged")
	}
	if shown += err.Error(); strings.Contains(shown, "alice") {
		t.Errorf("the name shows: %s", shown)
	}
}
