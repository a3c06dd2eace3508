package freshtoken_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/internal/mark"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// clientSecret is one that a search for leaks finds.
var clientSecret = mark.Weave(mark.ClientSecret, "s3cret")

// world is a server, a store and the programs that share them.
type world struct {
	t     *testing.T
	as    *oauthtest.Server
	store freshtoken.Store
}

func newWorld(t *testing.T, o oauthtest.Options) *world {
	t.Helper()
	return &world{t: t, as: oauthtest.New(o), store: storage.NewMemory()}
}

// config is how a program of this world is set up.
func (w *world) config() freshtoken.Config {
	return freshtoken.Config{OAuth2: w.as.OAuth2(), Store: w.store, HTTPClient: &http.Client{Transport: w.guarded(w.as.Transport(), w.as.BaseURL())}}
}

// guarded fails the test if a secret is sent to anybody but these origins.
func (w *world) guarded(base http.RoundTripper, origins ...string) http.RoundTripper {
	return canary.Guard(w.t, base, origins...)
}

// source starts a program. It is closed with the test, which fails if a secret is
// in an event.
func (w *world) source(edits ...func(*freshtoken.Config)) *freshtoken.Source {
	w.t.Helper()
	cfg := w.config()
	for _, edit := range edits {
		edit(&cfg)
	}
	receive := cfg.OnEvent
	cfg.OnEvent = func(e freshtoken.Event) {
		canary.Shown(w.t, "an event", e)
		if receive != nil {
			receive(e)
		}
	}
	src, err := freshtoken.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { src.Close() })
	return src
}

// login starts a session of alice.
func (w *world) login(src *freshtoken.Source) *oauth2.Token {
	w.t.Helper()
	tok := w.as.Login("alice")
	if err := src.SetToken(context.Background(), tok); err != nil {
		w.t.Fatal(err)
	}
	return tok
}

// loggedIn is source and login together.
func (w *world) loggedIn(edits ...func(*freshtoken.Config)) *freshtoken.Source {
	w.t.Helper()
	src := w.source(edits...)
	w.login(src)
	return src
}

// client sends requests to the API through a Transport.
func (w *world) client(src *freshtoken.Source, edits ...func(*freshtoken.Transport)) *http.Client {
	t := &freshtoken.Transport{Source: src, Base: w.as.Transport(), Origins: []string{w.as.BaseURL()}}
	for _, edit := range edits {
		edit(t)
	}
	if !t.AnyOrigin {
		t.Base = w.guarded(t.Base, t.Origins...)
	}
	return &http.Client{Transport: t}
}

// posts are the requests that reached the token endpoint.
func (w *world) posts() int { return w.as.Stats().TokenRequests }

func (w *world) wantPosts(want int) {
	w.t.Helper()
	if got := w.posts(); got != want {
		w.t.Errorf("the token endpoint got %d requests, want %d", got, want)
	}
}

// token asks for one that must be had.
func (w *world) token(src *freshtoken.Source) *oauth2.Token {
	w.t.Helper()
	tok, err := src.Token(w.t.Context())
	if err != nil {
		w.t.Fatalf("Token: %v", err)
	}
	return tok
}

// usable fails the test unless the server accepts what src has.
func (w *world) usable(src *freshtoken.Source) {
	w.t.Helper()
	if tok := w.token(src); !w.as.AccessAlive(tok.AccessToken) {
		w.t.Errorf("the access token is not alive at the server")
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	canary.Shown(t, "an error", err)
	if !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
	}
}

func refreshError(t *testing.T, err error) *freshtoken.RefreshError {
	t.Helper()
	canary.Shown(t, "an error", err)
	e := new(freshtoken.RefreshError)
	if !errors.As(err, &e) {
		t.Fatalf("got error %v, want a *RefreshError", err)
	}
	return e
}

// recorder collects events.
type recorder struct {
	mu     sync.Mutex // guards events
	events []freshtoken.Event
}

func (r *recorder) receive(e freshtoken.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) count(kind freshtoken.EventKind) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// faulty is a Store whose calls a test can make fail or hang.
type faulty struct {
	freshtoken.Store

	mu    sync.Mutex // guards what follows
	load  func() error
	save  func() error
	lock  func() error
	saves int
	loads int
}

func (f *faulty) set(edit func(*faulty)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	edit(f)
}

func (f *faulty) hook(pick func(*faulty) func() error) error {
	f.mu.Lock()
	h := pick(f)
	f.mu.Unlock()
	if h == nil {
		return nil
	}
	return h()
}

func (f *faulty) Load(ctx context.Context, key string) ([]byte, error) {
	if err := f.hook(func(f *faulty) func() error { f.loads++; return f.load }); err != nil {
		return nil, err
	}
	return f.Store.Load(ctx, key)
}

func (f *faulty) Save(ctx context.Context, key string, value []byte) error {
	if err := f.hook(func(f *faulty) func() error { f.saves++; return f.save }); err != nil {
		return err
	}
	return f.Store.Save(ctx, key, value)
}

func (f *faulty) Lock(ctx context.Context, key string) (func() error, error) {
	if err := f.hook(func(f *faulty) func() error { return f.lock }); err != nil {
		return nil, err
	}
	return f.Store.Lock(ctx, key)
}

func (f *faulty) counts() (loads, saves int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.loads, f.saves
}

// faults puts a faulty store between the world's programs and its store.
func (w *world) faults() *faulty {
	f := &faulty{Store: w.store}
	w.store = f
	return f
}

// afterMark makes all saves fail but the next one, which writes the mark.
func afterMark(f *faulty) {
	marks := 0
	f.save = func() error {
		if marks++; marks > 1 {
			return errDisk
		}
		return nil
	}
}

func failing(err error) func() error { return func() error { return err } }

// soon is a context that ends after a while of the bubble's time.
func soon(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// stored is the record in the store, as text.
func (w *world) stored() string {
	w.t.Helper()
	m := w.store
	if f, ok := m.(*faulty); ok {
		m = f.Store
	}
	data, err := m.Load(context.Background(), freshtoken.StoreKey(w.config()))
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return string(data)
}

// quiet is for servers whose complaints a test provokes.
var quiet = log.New(io.Discard, "", 0)

// shiftTimes moves the times in a record. A bubble has one clock; a process
// whose clock is wrong by d is one that reads and writes times that are. The
// difference stays for as long as the process lives.
func shiftTimes(value []byte, d time.Duration) []byte {
	if d == 0 || value == nil {
		return value
	}
	return recordTime.ReplaceAllFunc(value, func(at []byte) []byte {
		var t time.Time
		if err := t.UnmarshalJSON(at); err != nil {
			panic(err)
		}
		at, err := t.Add(d).MarshalJSON()
		if err != nil {
			panic(err)
		}
		return at
	})
}

var recordTime = regexp.MustCompile(`"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z"`)
