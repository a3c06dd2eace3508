package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gokeyring "github.com/zalando/go-keyring"
	"golang.org/x/oauth2"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/figures"
	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
)

// A session over a keyring that misbehaves for a while, against a strict
// server.

// trouble is a keyring that can be made to misbehave, and to stop it.
type trouble struct {
	begin, end func()
	deaf       bool // what it does not keep, it forgets: nobody can tell that there was a session
}

// program is one process with a session.
type program struct {
	*freshtoken.Source
	persisted chan struct{} // gets a value when what could not be saved is saved
}

func startProgram(t *testing.T, srv *oauthtest.Server, store freshtoken.Store) *program {
	t.Helper()
	p := &program{persisted: make(chan struct{}, 100)}
	src, err := freshtoken.New(freshtoken.Config{OAuth2: srv.OAuth2(), Store: store, HTTPClient: srv.Client(),
		OnEvent: func(e freshtoken.Event) {
			if e.Kind == freshtoken.EventPersisted {
				p.persisted <- struct{}{}
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	p.Source = src
	return p
}

// sessionSurvives has a session refreshed before, during and after the trouble,
// which begins once between two refreshes, and once when the server has just
// issued new tokens. open opens the store as another process would; elapse lets
// time pass in which a program does nothing.
func sessionSurvives(t *testing.T, tr trouble, open func() freshtoken.Store, elapse func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	srv := oauthtest.New(oauthtest.Options{AccessLifetime: 24 * time.Hour})
	p := startProgram(t, srv, open())
	if err := p.SetToken(ctx, srv.Login("alice")); err != nil {
		t.Fatalf("SetToken: %v", err)
	}
	current := func() *oauth2.Token {
		t.Helper()
		for try := 0; ; try++ {
			tok, err := p.Token(ctx)
			if err == nil && srv.AccessAlive(tok.AccessToken) {
				return tok
			}
			if err == nil {
				_, err = p.Refresh(ctx, tok)
			}
			if try == 200 {
				t.Fatalf("the session has not recovered: %v", err)
			}
			elapse()
		}
	}

	// Between two refreshes: nothing may be spent that cannot be kept.
	tr.begin()
	old := current()
	srv.RevokeAccess(old.AccessToken)
	for range 3 {
		_, err := p.Refresh(ctx, old)
		wantsStoreTrouble(t, "Refresh", err, tr)
		elapse()
	}
	other := startProgram(t, srv, open())
	_, err := other.Token(ctx)
	wantsStoreTrouble(t, "Token of another program", err, tr)
	tr.end()
	current()
	other.Close()

	// In the middle of a refresh: what the server has issued is used, and kept
	// as soon as that can be.
	struck := false
	srv.Token.Next(oauthtest.Fault{AfterCommit: func(context.Context) error { struck = true; tr.begin(); return nil }})
	old = current()
	srv.RevokeAccess(old.AccessToken)
	tok, err := p.Refresh(ctx, old)
	for try := 0; err != nil && !struck && try < 200; try++ { // it is not up again yet
		elapse()
		tok, err = p.Refresh(ctx, old)
	}
	if err != nil || !srv.AccessAlive(tok.AccessToken) {
		t.Fatalf("what the server had issued was lost: %v", err)
	}
	tr.end()
	for try := 0; !p.Status().Persisted; try++ {
		if try == 200 {
			t.Fatalf("it was not saved: %v", p.Status().LastError)
		}
		elapse()
	}
	if err := p.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}

	// Another program goes on with it.
	p = startProgram(t, srv, open())
	old = current()
	srv.RevokeAccess(old.AccessToken)
	current()
	if err := p.Close(); err != nil {
		t.Errorf("Close of the other program: %v", err)
	}
	if s := srv.Stats(); s.Reuses != 0 || s.FamilyKills != 0 || s.InvalidGrants != 0 || s.Logins != 1 {
		t.Errorf("the server has seen %+v", s)
	}
}

// wantsStoreTrouble fails the test if an error of a session in trouble says
// that there is no session.
func wantsStoreTrouble(t *testing.T, what string, err error, tr trouble) {
	t.Helper()
	if err == nil || tr.deaf && errors.Is(err, freshtoken.ErrNoSession) {
		return
	}
	if errors.Is(err, freshtoken.ErrNoSession) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s takes trouble for the absence of a session: %v", what, err)
	}
	if !errors.Is(err, freshtoken.ErrStore) && !errors.Is(err, freshtoken.ErrLocked) {
		t.Errorf("%s: %v, want an error that matches ErrStore", what, err)
	}
}

// hook is what a fake does instead of a call.
type hook = func(c fakeCall, do func() (string, error)) (string, error)

// troubles are the ways in which a keyring misbehaves, by how that looks
// through go-keyring. A hook gets a channel that is closed when it is over.
var troubles = map[string]func(f *fake, over <-chan struct{}) hook{
	"it is locked": func(*fake, <-chan struct{}) hook {
		return func(fakeCall, func() (string, error)) (string, error) {
			return "", keyring.NewFailure(keyring.ErrLocked, nil)
		}
	},
	"all fails": func(*fake, <-chan struct{}) hook { return down },
	"writes fail": func(*fake, <-chan struct{}) hook {
		return func(c fakeCall, do func() (string, error)) (string, error) {
			if c.op != "get" {
				return "", errDown
			}
			return do()
		}
	},
	"writes are dismissed": func(*fake, <-chan struct{}) hook {
		return func(c fakeCall, do func() (string, error)) (string, error) {
			if c.op != "get" {
				return "", nil
			}
			return do()
		}
	},
	"it hangs":    func(_ *fake, over <-chan struct{}) hook { return hang(over, always) },
	"writes hang": func(_ *fake, over <-chan struct{}) hook { return hang(over, writing) },
	"it hangs up": func(_ *fake, over <-chan struct{}) hook {
		return func(fakeCall, func() (string, error)) (string, error) { <-over; return "", errDown }
	},
	"it answers late": func(*fake, <-chan struct{}) hook {
		return func(_ fakeCall, do func() (string, error)) (string, error) {
			time.Sleep(5 * time.Second)
			return do()
		}
	},
	"late, and then in vain": func(*fake, <-chan struct{}) hook {
		return func(fakeCall, func() (string, error)) (string, error) {
			time.Sleep(5 * time.Second)
			return "", errDown
		}
	},
	"its client panics": func(*fake, <-chan struct{}) hook {
		return func(fakeCall, func() (string, error)) (string, error) { panic("client") }
	},
	"wrong values":      func(*fake, <-chan struct{}) hook { return reading(func(string) string { return "hello" }) },
	"empty values":      func(*fake, <-chan struct{}) hook { return reading(func(string) string { return "" }) },
	"values cut short":  func(*fake, <-chan struct{}) hook { return reading(func(s string) string { return s[:len(s)/2] }) },
	"values of another": func(f *fake, _ <-chan struct{}) hook { return reading(func(s string) string { return f.otherThan(s) }) },
	"old values": func(f *fake, _ <-chan struct{}) hook {
		before := f.copy().items
		return func(c fakeCall, do func() (string, error)) (string, error) {
			text, err := do()
			for name, old := range before {
				if c.op == "get" && err == nil && strings.HasSuffix(name, ":"+c.account) {
					text = old
				}
			}
			return text, err
		}
	},
	"it has forgotten": func(*fake, <-chan struct{}) hook {
		return func(c fakeCall, do func() (string, error)) (string, error) {
			if c.op == "get" {
				return "", gokeyring.ErrNotFound
			}
			return do()
		}
	},
	"at random": func(*fake, <-chan struct{}) hook {
		n := 0
		return func(c fakeCall, do func() (string, error)) (string, error) {
			switch n++; n % 5 {
			case 0:
				return "", errDown
			case 1:
				time.Sleep(4 * time.Second)
			case 2:
				return "hello", nil
			case 3:
				do()
				return "", errDown
			}
			return do()
		}
	},
}

// reading returns a hook that changes what is read.
func reading(change func(string) string) hook {
	return func(c fakeCall, do func() (string, error)) (string, error) {
		text, err := do()
		if c.op == "get" && err == nil {
			text = change(text)
		}
		return text, err
	}
}

// otherThan returns the text of another item than that with this text.
func (f *fake) otherThan(text string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, other := range f.items {
		if other != text {
			return other
		}
	}
	return ""
}

// A session survives each of them, over a Store as over a File whose key is in
// the keyring; no token is lost, no spent one is shown, nobody is told that
// there is no session.
func TestSessionInTrouble(t *testing.T) {
	n := 0
	for name, misbehave := range troubles {
		for _, kind := range []string{"Store", "File"} {
			n++
			t.Run(name+", "+kind, func(t *testing.T) {
				locks, files := t.TempDir(), t.TempDir()
				synctest.Test(t, func(t *testing.T) {
					f, over := newFake(), make(chan struct{})
					f.items["app:somebody else's"] = "of another program"
					open := func() freshtoken.Store {
						gate, options := keyring.NewGate(f, nil), keyring.Options{LockDir: locks}
						if kind == "Store" {
							s, err := gate.NewStore(limit, "app", options)
							if err != nil {
								t.Fatal(err)
							}
							return s
						}
						s, err := storage.NewFile(files, gate.NewKey("app", options))
						if err != nil {
							t.Fatal(err)
						}
						return s
					}
					tr := trouble{
						begin: func() { over = make(chan struct{}); f.setHook(misbehave(f, over)) },
						end:   func() { f.setHook(nil); close(over) },
						deaf:  name == "it has forgotten",
					}
					sessionSurvives(t, tr, open, func() { time.Sleep(20 * time.Second) })
					time.Sleep(2 * time.Hour) // whatever hung has come back
					if n := len(f.accounts()); n != 2 {
						t.Errorf("%d items are left: %v", n, f.accounts())
					}
				})
			})
		}
	}
	figures.Record(t, "keyrings.troubles", fmt.Sprint(n))
}
