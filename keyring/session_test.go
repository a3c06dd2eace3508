package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gokeyring "github.com/zalando/go-keyring"
	"golang.org/x/oauth2"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/canary"
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
	deaf       bool // it says that nothing is stored: nobody can know better
}

// program is one process with a session.
type program struct{ *freshtoken.Source }

func startProgram(t *testing.T, srv *oauthtest.Server, store freshtoken.Store) *program {
	t.Helper()
	src, err := freshtoken.New(freshtoken.Config{OAuth2: srv.OAuth2(), Store: store, HTTPClient: srv.Client()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return &program{src}
}

// ordeal is a session that goes through trouble. open opens the store as
// another process would; elapse lets time pass in which a program does nothing.
type ordeal struct {
	trouble
	t      *testing.T
	srv    *oauthtest.Server
	open   func() freshtoken.Store
	elapse func()
}

const ordealTries = 200

// current returns a token that the server accepts, as soon as there is one.
func (o *ordeal) current(p *program) *oauth2.Token {
	o.t.Helper()
	for try := 0; ; try++ {
		tok, err := p.Token(o.t.Context())
		if err == nil && o.srv.AccessAlive(tok.AccessToken) {
			return tok
		}
		if err == nil {
			_, err = p.Refresh(o.t.Context(), tok)
		}
		if try == ordealTries {
			o.t.Fatalf("the session has not recovered: %v", err)
		}
		o.elapse()
	}
}

// betweenRefreshes begins the trouble before a refresh: nothing may be spent
// that cannot be kept.
func (o *ordeal) betweenRefreshes(p *program) {
	o.t.Helper()
	o.begin()
	old := o.current(p)
	o.srv.RevokeAccess(old.AccessToken)
	for range 3 {
		_, err := p.Refresh(o.t.Context(), old)
		o.wantsTrouble("Refresh", err)
		o.elapse()
	}
	other := startProgram(o.t, o.srv, o.open())
	_, err := other.Token(o.t.Context())
	o.wantsTrouble("Token of another program", err)
	o.end()
	o.current(p)
	other.Close()
}

// inMidRefresh begins it when the server has just issued new tokens: they are
// used, and kept as soon as that can be.
func (o *ordeal) inMidRefresh(p *program) {
	o.t.Helper()
	struck := false
	o.srv.Token.Next(oauthtest.Fault{AfterCommit: func(context.Context) error { struck = true; o.begin(); return nil }})
	old := o.current(p)
	o.srv.RevokeAccess(old.AccessToken)
	tok, err := p.Refresh(o.t.Context(), old)
	for try := 0; err != nil && !struck && try < ordealTries; try++ { // it is not up again yet
		o.elapse()
		tok, err = p.Refresh(o.t.Context(), old)
	}
	if err != nil || !o.srv.AccessAlive(tok.AccessToken) {
		o.t.Fatalf("what the server had issued was lost: %v", err)
	}
	o.end()
	for try := 0; !p.Status().Persisted; try++ {
		if try == ordealTries {
			o.t.Fatalf("it was not saved: %v", p.Status().LastError)
		}
		o.elapse()
	}
}

// run has a session refreshed before, during and after the trouble, and has
// another program go on with it.
func (o *ordeal) run() {
	o.t.Helper()
	o.srv = oauthtest.New(oauthtest.Options{AccessLifetime: 24 * time.Hour})
	p := startProgram(o.t, o.srv, o.open())
	if err := p.SetToken(o.t.Context(), o.srv.Login("alice")); err != nil {
		o.t.Fatalf("SetToken: %v", err)
	}
	o.betweenRefreshes(p)
	o.inMidRefresh(p)
	if err := p.Close(); err != nil {
		o.t.Errorf("Close: %v", err)
	}
	p = startProgram(o.t, o.srv, o.open())
	old := o.current(p)
	o.srv.RevokeAccess(old.AccessToken)
	o.current(p)
	if err := p.Close(); err != nil {
		o.t.Errorf("Close of the other program: %v", err)
	}
	if s := o.srv.Stats(); s.Reuses != 0 || s.FamilyKills != 0 || s.InvalidGrants != 0 || s.Logins != 1 || s.Refreshes < 3 {
		o.t.Errorf("the server has seen %+v", s)
	}
}

// wantsTrouble fails the test if an error of a session in trouble says that
// there is no session.
func (o *ordeal) wantsTrouble(what string, err error) {
	o.t.Helper()
	if err == nil || o.deaf && errors.Is(err, freshtoken.ErrNoSession) {
		return
	}
	if errors.Is(err, freshtoken.ErrNoSession) || errors.Is(err, fs.ErrNotExist) {
		o.t.Errorf("%s takes trouble for the absence of a session: %v", what, err)
	}
	if !errors.Is(err, freshtoken.ErrStore) && !errors.Is(err, freshtoken.ErrLocked) {
		o.t.Errorf("%s: %v, want an error that matches ErrStore", what, err)
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
				locks, files := t.TempDir(), canary.Dir(t)
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
					(&ordeal{trouble: tr, t: t, open: open, elapse: func() { time.Sleep(20 * time.Second) }}).run()
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

// A session that is damaged in the keyring makes room for the next login, and is
// kept aside by the Store, under a Seal too.
func TestDamagedSessionMakesRoom(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		t.Run(fmt.Sprintf("sealed: %v", sealed), func(t *testing.T) {
			f, srv := newFake(), oauthtest.New(oauthtest.Options{})
			under, key := openStore(t, f, t.TempDir()), storage.KeyFile(filepath.Join(t.TempDir(), "key"))
			open := func() freshtoken.Store {
				if sealed {
					return storage.Seal(under, key)
				}
				return under
			}
			one := startProgram(t, srv, open())
			if err := one.SetToken(t.Context(), srv.Login("alice")); err != nil {
				t.Fatal(err)
			}
			one.Close()
			f.edit(func(_, text string) string { return text[:len(text)-4] })
			before := len(f.accounts())
			two := startProgram(t, srv, open())
			if _, err := two.Token(t.Context()); !errors.Is(err, freshtoken.ErrSessionEnded) {
				t.Fatalf("got %v, want ErrSessionEnded", err)
			}
			if err := two.SetToken(t.Context(), srv.Login("alice")); err != nil {
				t.Fatalf("a new login: %v", err)
			}
			two.Close()
			if _, err := startProgram(t, srv, open()).Token(t.Context()); err != nil {
				t.Errorf("the next program: %v", err)
			}
			if n := len(f.accounts()); n <= before {
				t.Errorf("of %d items %d are left, and nothing is set aside", before, n)
			}
		})
	}
}
