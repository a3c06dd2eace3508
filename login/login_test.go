package login_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

func TestMain(m *testing.M) {
	canary.MarkRandom()
	os.Exit(m.Run())
}

// config is a client of a server, with an empty store.
func config(as *oauthtest.Server) freshtoken.Config {
	o := as.OAuth2()
	return freshtoken.Config{OAuth2: o, Issuer: as.BaseURL(), RequireIss: true, Store: storage.NewMemory(), HTTPClient: as.Client()}
}

func source(t *testing.T, cfg freshtoken.Config) *freshtoken.Source {
	t.Helper()
	cfg.OnEvent = func(e freshtoken.Event) { canary.Shown(t, "an event", e) }
	src, err := freshtoken.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

// A user is a person with a browser. It keeps what it was shown.
type user struct {
	t    *testing.T
	http *http.Client

	mu        sync.Mutex // guards what follows
	addresses []string
	pages     []page
	visits    sync.WaitGroup
}

type page struct {
	status int
	header http.Header
	body   string
	err    error
}

// userOf has a browser that reaches the server. It is closed with the test.
func userOf(t *testing.T, as *oauthtest.Server) *user {
	u := &user{t: t, http: as.Browser()}
	t.Cleanup(u.visits.Wait)
	return u
}

// browse is for Prompt.Browse: the person logs in.
func (u *user) browse(_ context.Context, address string) error {
	u.mu.Lock()
	u.addresses = append(u.addresses, address)
	u.mu.Unlock()
	u.visits.Go(func() { u.visit(address) })
	return nil
}

func (u *user) visit(address string) page {
	p := get(u.http, address, "")
	canary.Shown(u.t, "the last page", p.body, p.header)
	u.mu.Lock()
	u.pages = append(u.pages, p)
	u.mu.Unlock()
	return p
}

// get fetches a page, asking for a host of that name unless it is empty.
func get(client *http.Client, address, host string) (p page) {
	req, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		return page{err: err}
	}
	req.Host = host
	resp, err := client.Do(req)
	if err != nil {
		return page{err: err}
	}
	defer resp.Body.Close()
	var b strings.Builder
	if _, err := copyBounded(&b, resp.Body); err != nil {
		return page{err: err}
	}
	return page{resp.StatusCode, resp.Header, b.String(), nil}
}

// last is the page that the person looks at in the end.
func (u *user) last() page {
	u.visits.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.pages) == 0 {
		return page{err: errors.New("no page")}
	}
	return u.pages[len(u.pages)-1]
}

// asked are the parameters of the authorization request.
func (u *user) asked() url.Values {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.addresses) != 1 {
		u.t.Fatalf("%d addresses were opened, want 1", len(u.addresses))
	}
	a, err := url.Parse(u.addresses[0])
	if err != nil {
		u.t.Fatal(err)
	}
	return a.Query()
}

func (u *user) loopback() login.Loopback {
	return login.Loopback{Prompt: login.Prompt{Browse: u.browse}, Timeout: patience}
}

// patience is how long a test waits for what must happen; nothing is measured
// by it.
const patience = time.Minute

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	canary.Shown(t, "an error", err)
	if !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
	}
}

// gone fails the test unless nothing listens at the redirect URI any more.
func gone(t *testing.T, redirect string) {
	t.Helper()
	if p := get(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, redirect, ""); p.err == nil {
		t.Errorf("the listener at %s is still there and answers %d", redirect, p.status)
	}
}

func tokenRequests(as *oauthtest.Server) int { return as.Stats().TokenRequests }

func TestEnsure(t *testing.T) {
	as := oauthtest.New(oauthtest.Options{})
	u := userOf(t, as)
	cfg := config(as)
	src := source(t, cfg)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			tok, err := login.Ensure(t.Context(), src, u.loopback())
			if err != nil || !as.AccessAlive(tok.AccessToken) {
				t.Errorf("got error %v", err)
			}
		})
	}
	wg.Wait()
	if p := u.last(); p.err != nil || p.status != http.StatusOK || !strings.Contains(p.body, "You are logged in") {
		t.Errorf("the person sees %+v", p)
	}
	gone(t, u.asked().Get("redirect_uri"))
	if tok, err := source(t, cfg).Token(t.Context()); err != nil || !as.AccessAlive(tok.AccessToken) {
		t.Errorf("the session was not stored: %v", err)
	}
	if n := tokenRequests(as); n != 1 {
		t.Errorf("%d token requests, want 1", n)
	}
	if _, err := src.Refresh(t.Context(), nil); err != nil {
		t.Errorf("the session cannot be refreshed: %v", err)
	}
}

func TestReauthenticate(t *testing.T) {
	as := oauthtest.New(oauthtest.Options{})
	u := userOf(t, as)
	cfg := config(as)
	cfg.Reauthenticate = u.loopback()
	src := source(t, cfg)
	client := &http.Client{Transport: &freshtoken.Transport{Source: src, Base: as.Transport(), Origins: []string{as.BaseURL()}}}
	if p := get(client, as.APIURL("hello"), ""); p.status != http.StatusOK {
		t.Errorf("got %+v", p)
	}
}

func TestAuto(t *testing.T) {
	as := oauthtest.New(oauthtest.Options{})
	u := userOf(t, as)
	device := login.Device{Prompt: login.Prompt{Show: func(_ context.Context, c login.Code) error {
		if !as.ApproveDevice(c.Code, "alice") {
			t.Error("the code is not known")
		}
		return nil
	}}}
	for _, c := range []struct {
		name string
		auto login.Auto
		edit func(*oauth2.Endpoint)
		want oauthtest.Endpoint
	}{
		{"a program that opens browsers", login.Auto{Loopback: u.loopback(), Device: device}, func(*oauth2.Endpoint) {}, oauthtest.AuthorizationEndpoint},
		{"a server without the device flow", login.Auto{Loopback: u.loopback(), Device: device}, func(e *oauth2.Endpoint) { e.DeviceAuthURL = "" }, oauthtest.AuthorizationEndpoint},
		{"a server with nothing else", login.Auto{Loopback: u.loopback(), Device: device}, func(e *oauth2.Endpoint) { e.AuthURL = "" }, oauthtest.DeviceEndpoint},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(as.Log())
			cfg := config(as)
			c.edit(&cfg.OAuth2.Endpoint)
			if c.want == oauthtest.DeviceEndpoint && testing.Short() {
				t.Skip("waits for a poll: run without -short")
			}
			if _, err := login.Ensure(t.Context(), source(t, cfg), c.auto); err != nil {
				t.Fatal(err)
			}
			if got := as.Log()[before].Endpoint; got != c.want {
				t.Errorf("the login went to the %s endpoint, want %s", got, c.want)
			}
		})
	}
}
