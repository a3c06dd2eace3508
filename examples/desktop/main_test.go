package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// A desk is a screen, an authorization server, and what the program keeps.
type desk struct {
	*screen
	as    *oauthtest.Server
	stop  func() // ends the authorization server
	dir   string
	store *storage.File
	key   *ring
	// asked gets the address of each login.
	asked chan string
	away  atomic.Bool // nobody sits in front of the browser

	stopped chan error // what run has returned
	before  state      // without the program
}

// A ring is a keyring that may be locked.
type ring struct {
	storage.Key
	locked atomic.Bool
}

func (r *ring) Get(ctx context.Context, params []byte) ([]byte, error) {
	if r.locked.Load() {
		return nil, keyring.ErrLocked
	}
	return r.Key.Get(ctx, params)
}

func newDesk(t *testing.T, o oauthtest.Options) *desk {
	t.Helper()
	d := &desk{screen: newScreen(t), asked: make(chan string, 8)}
	o.IDTokens = "RS256"
	d.as = oauthtest.New(o)
	d.stop = d.as.Start()
	t.Cleanup(d.stop)
	d.key = &ring{Key: storage.KeyFile(filepath.Join(t.TempDir(), "key"))}
	d.dir = t.TempDir()
	d.restarts(t)
	return d
}

// restarts has the store know no key, as in a new process.
func (d *desk) restarts(t *testing.T) {
	t.Helper()
	var err error
	if d.store, err = storage.NewFile(d.dir, d.key); err != nil {
		t.Fatal(err)
	}
}

// browse is the browser of a person who approves.
func (d *desk) browse(ctx context.Context, address string) error {
	d.asked <- address
	if d.away.Load() {
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := d.as.Browser().Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// starts has somebody start the program.
func (d *desk) starts(t *testing.T) {
	t.Helper()
	d.window = 0
	d.before = now()
	cfg := freshtoken.Config{Issuer: d.as.BaseURL(), Store: d.store, HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		OAuth2: &oauth2.Config{ClientID: "client", Scopes: []string{"openid", "profile"}}}
	ctx, cancel := context.WithCancel(context.Background())
	d.stopped = make(chan error, 1)
	go func(stopped chan<- error) { stopped <- run(ctx, d.display, cfg, d.browse) }(d.stopped)
	t.Cleanup(cancel)
}

// ends waits for the program to end, and for nothing of it to be left.
func (d *desk) ends(t *testing.T) error {
	t.Helper()
	select {
	case err := <-d.stopped:
		http.DefaultClient.CloseIdleConnections()
		d.before.returns(t)
		return err
	case <-time.After(patience):
		t.Fatal("the program does not end")
	}
	return nil
}

// closed closes the window, which ends the program well.
func (d *desk) closed(t *testing.T) {
	t.Helper()
	d.closes(t)
	if err := d.ends(t); err != nil {
		t.Errorf("the program ended with %v", err)
	}
}

// A state is what a process holds.
type state struct {
	goroutines int
	sockets    int
	children   string
}

func now() state {
	s := state{goroutines: runtime.NumGoroutine()}
	files, _ := filepath.Glob("/proc/self/fd/*")
	for _, f := range files {
		if to, err := os.Readlink(f); err == nil && strings.HasPrefix(to, "socket:") {
			s.sockets++
		}
	}
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, l := range lists {
		pids, _ := os.ReadFile(l)
		s.children += string(pids)
	}
	return s
}

// returns waits until the process holds no more than s. What the server of the test
// has for a connection that was closed ends a moment later.
func (s state) returns(t *testing.T) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		is := now()
		if is.goroutines <= s.goroutines && is.sockets <= s.sockets && len(is.children) <= len(s.children) {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			stacks := make([]byte, 1<<20)
			t.Fatalf("%+v, and before the program %+v:\n%s", is, s, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

var (
	nobody = view{headline: "Nobody is signed in", action: signIn}
	alice  = view{headline: "Signed in as alice", action: signOut}
)

func TestSignInAndOut(t *testing.T) {
	d := newDesk(t, oauthtest.Options{})
	d.starts(t)
	d.shows(t, nobody)
	d.click(t)
	d.shows(t, alice)
	d.closed(t)

	d.starts(t) // again, and the session is still there
	d.shows(t, alice)
	if n := d.as.Stats().CodeLogins; n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
	d.click(t)
	d.shows(t, nobody)
	if n := d.as.Stats().Revocations; n == 0 {
		t.Error("the tokens are alive")
	}
	d.closed(t)
}

func TestSessionIsKeptAliveInTheBackground(t *testing.T) {
	d := newDesk(t, oauthtest.Options{AccessLifetime: 2 * time.Second})
	d.starts(t)
	d.shows(t, nobody)
	d.click(t)
	d.shows(t, alice)
	// Nobody does anything.
	d.until(t, "two refreshes", func() bool { return d.as.Stats().Refreshes >= 2 })
	d.shows(t, alice)
	d.closed(t)
}

func TestServerEndsTheSession(t *testing.T) {
	d := newDesk(t, oauthtest.Options{AccessLifetime: 2 * time.Second})
	d.starts(t)
	d.shows(t, nobody)
	d.click(t)
	d.shows(t, alice)
	d.as.Token.Always(oauthtest.InvalidGrant())
	d.shows(t, view{"Nobody is signed in", "Your session has ended. Sign in again.", signIn})
	d.closed(t)
}

func TestCancelledSignIn(t *testing.T) {
	d := newDesk(t, oauthtest.Options{})
	d.away.Store(true)
	d.starts(t)
	d.shows(t, nobody)
	d.click(t)
	d.shows(t, view{"Signing in", "Go on in your browser.", cancel})
	back := callback(t, <-d.asked)
	d.click(t)
	d.shows(t, nobody)
	if conn, err := net.Dial("tcp", back); err == nil {
		t.Error("the login's listener is still there")
		conn.Close()
	}
	d.away.Store(false)
	d.click(t)
	d.shows(t, alice)
	d.closed(t)
}

// callback is where a login listens.
func callback(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	back, err := url.Parse(u.Query().Get("redirect_uri"))
	if err != nil {
		t.Fatal(err)
	}
	return back.Host
}

func TestWindowClosedDuringSignIn(t *testing.T) {
	d := newDesk(t, oauthtest.Options{})
	d.away.Store(true)
	d.starts(t)
	d.shows(t, nobody)
	d.click(t)
	back := callback(t, <-d.asked)
	d.closed(t)
	if conn, err := net.Dial("tcp", back); err == nil {
		t.Error("the login's listener is still there")
		conn.Close()
	}
}

func TestRefusedSignIn(t *testing.T) {
	d := newDesk(t, oauthtest.Options{})
	d.as.Authorization.Next(oauthtest.Deny("access_denied"))
	d.starts(t)
	d.shows(t, nobody)
	d.click(t)
	d.shows(t, view{"Nobody is signed in", "The server says that the sign-in was refused.", signIn})
	d.closed(t)
}

func TestLockedKeyring(t *testing.T) {
	d := newDesk(t, oauthtest.Options{})
	d.starts(t)
	d.shows(t, nobody)
	d.click(t)
	d.shows(t, alice)
	d.closed(t)

	d.key.locked.Store(true)
	d.restarts(t)
	d.starts(t)
	d.shows(t, view{"It is not known who is signed in", "Your keyring is locked. Unlock it, and try again.", tryAgain})
	d.key.locked.Store(false)
	d.click(t)
	d.shows(t, alice)
	d.closed(t)
}

func TestServerThatIsAway(t *testing.T) {
	d := newDesk(t, oauthtest.Options{})
	d.as.Metadata.Always(oauthtest.Unavailable("1"))
	d.starts(t)
	d.shows(t, view{"It is not known who is signed in", "The server cannot be reached at the moment.", tryAgain})
	d.closed(t)
}

func TestScreenIsLost(t *testing.T) {
	d := newDesk(t, oauthtest.Options{})
	d.starts(t)
	d.shows(t, nobody)
	d.kill()
	if err := d.ends(t); !errors.Is(err, errScreen) {
		t.Errorf("got %v, want errScreen", err)
	}
}

func TestNoScreen(t *testing.T) {
	if err := run(t.Context(), "", freshtoken.Config{}, nil); err == nil {
		t.Error("a window without a screen")
	}
}

func TestCloseEndsTheSource(t *testing.T) {
	as := oauthtest.New(oauthtest.Options{})
	t.Cleanup(as.Start())
	store := storage.NewMemory()
	cfg := freshtoken.Config{Issuer: as.BaseURL(), Store: store, OAuth2: &oauth2.Config{ClientID: "client", Scopes: []string{"openid"}}}
	changed := make(chan struct{}, 1)
	a := newAccount(cfg, nil, func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	for a.view() != nobody {
		select {
		case <-changed:
		case <-time.After(patience):
			t.Fatalf("waited in vain: %+v", a.view())
		}
	}
	if err := a.close(); err != nil {
		t.Error(err)
	}
	if _, err := a.src.Token(t.Context()); !errors.Is(err, freshtoken.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	a.do(signIn)
	if v := a.view(); v != nobody {
		t.Errorf("something began after the end: %+v", v)
	}
}
