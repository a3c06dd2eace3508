package freshtoken_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/internal/figures"
	"github.com/freshtoken/freshtoken/internal/mark"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// Secrets of a run that the servers do not issue, with the characters that other
// encodings change.
var (
	leakClientSecret = mark.Weave(mark.ClientSecret, "Hush+client%secret/of=the&run")
	leakPassphrase   = mark.Weave(mark.Passphrase, "correct horse & battery staple: 8#qX")
	leakIDToken      = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSIsIm5vbmNlIjoiTEVBSyJ9.c2lnbmF0dXJlLW9mLXRoZS1pZC10b2tlbg"
)

// A life is one program with all its secrets, each of which a canary watches.
type life struct {
	*world
	dir     string
	c       *canary.Canary
	browser *http.Client
	visits  sync.WaitGroup
}

// lead starts a life. Everything that its functions see is kept.
func lead(t *testing.T, store func(c *canary.Canary, dir string) (freshtoken.Store, error)) *life {
	t.Helper()
	dir := t.TempDir()
	l := &life{world: newWorld(t, oauthtest.Options{ClientSecret: leakClientSecret, PollInterval: time.Second}), dir: dir, c: canary.New()}
	l.c.Server(l.as.TokenURL(), l.as.DeviceAuthURL(), l.as.RevocationURL(), l.as.AuthURL(), l.as.BaseURL()+"/api/", "https://idp.test/end")
	l.c.Pushed(l.as.PushedAuthorizationURL())
	for kind, value := range map[string]string{"the client's secret": leakClientSecret, "the passphrase": leakPassphrase, "the ID token": leakIDToken} {
		l.c.Secret(kind, value)
	}
	elsewhere := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusOK) })
	l.as.Handle("elsewhere.test", elsewhere)
	l.as.Handle("idp.test", elsewhere)
	l.browser = l.as.Browser()
	l.browser.Transport = l.c.Transport(l.browser.Transport)
	var err error
	if l.store, err = store(l.c, filepath.Join(dir, "sessions")); errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("a file store needs kernel locks, which this system lacks: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	keep := slog.Default()
	t.Cleanup(func() { slog.SetDefault(keep); log.SetOutput(os.Stderr) })
	slog.SetDefault(slog.New(slog.NewJSONHandler(l.c.Writer("the log"), nil)))
	return l
}

// config is how the life's program is set up: it logs all that it can.
func (l *life) config() freshtoken.Config {
	cfg := l.world.config()
	cfg.HTTPClient = &http.Client{Transport: l.c.Transport(l.as.Transport())}
	cfg.RevocationURL, cfg.Issuer, cfg.RequireIss = l.as.RevocationURL(), l.as.BaseURL(), true
	cfg.EndSession = login.BrowserLogout{URL: "https://idp.test/end", Prompt: l.prompt()}.Logout
	cfg.OnEvent = func(e freshtoken.Event) {
		l.c.Shown("an event", e, &e)
		slog.Info("event", "event", e, "config", cfg)
		l.c.Files(l.dir)
	}
	return cfg
}

func (l *life) source(edits ...func(*freshtoken.Config)) *freshtoken.Source {
	l.t.Helper()
	cfg := l.config()
	for _, edit := range edits {
		edit(&cfg)
	}
	src, err := freshtoken.New(cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { src.Close() })
	return src
}

func (l *life) client(src *freshtoken.Source) *http.Client {
	return &http.Client{Transport: &freshtoken.Transport{Source: src, Base: l.c.Transport(l.as.Transport()), Origins: []string{l.as.BaseURL()}}}
}

// look keeps what can be seen after a step, of which err is the outcome.
func (l *life) look(src *freshtoken.Source, errs ...error) {
	for _, err := range errs {
		l.c.Shown("an error", err)
		slog.Error("failed", "err", err)
		log.Print(err)
		for e := err; e != nil; e = errors.Unwrap(e) {
			l.c.Shown("a cause", e)
		}
		if e := new(oauth2.RetrieveError); errors.As(err, &e) {
			l.c.Shown("a RetrieveError", e, e.Body, e.Response)
		}
	}
	cfg := l.config()
	l.c.Shown("a value", src, src.Status(), cfg, &cfg, l.client(src).Transport)
	l.c.Files(filepath.Join(l.dir, "sessions"))
}

// prompt is a person who does as asked, in a browser that the canary watches.
func (l *life) prompt() login.Prompt {
	return login.Prompt{
		Browse: func(_ context.Context, address string) error {
			l.visits.Go(func() {
				if resp, err := l.browser.Get(address); err == nil {
					page, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
					resp.Body.Close()
					l.c.Text("the last page", page)
				}
			})
			return nil
		},
		Show: func(_ context.Context, code login.Code) error {
			l.c.Shown("what is shown to the person", code)
			l.as.ApproveDevice(code.Code, "alice")
			return nil
		},
	}
}

// get asks the API, or another address, and keeps what comes of it.
func (l *life) get(src *freshtoken.Source, address string) {
	resp, err := l.client(src).Get(address)
	if err == nil {
		resp.Body.Close()
	}
	l.look(src, err)
}

// logIn logs in, in a way.
func (l *life) logIn(src *freshtoken.Source, flow freshtoken.Authenticator) {
	l.t.Helper()
	l.as.Token.Next(oauthtest.AddMember("id_token", strconv.Quote(leakIDToken)))
	if _, err := login.Ensure(l.t.Context(), src, flow); err != nil {
		l.t.Fatal(err)
	}
	l.look(src)
}

// login hands in the token of a login that took place elsewhere.
func (l *life) login(src *freshtoken.Source) *oauth2.Token {
	l.t.Helper()
	tok := l.as.Login("alice")
	l.c.Secret("an access token", tok.AccessToken)
	l.c.Secret("a refresh token", tok.RefreshToken)
	if err := src.SetToken(l.t.Context(), tok); err != nil {
		l.t.Fatal(err)
	}
	return tok
}

// spend refreshes, after the server has been told how to answer.
func (l *life) spend(src *freshtoken.Source, faults ...oauthtest.Fault) {
	l.as.Token.Next(faults...)
	_, err := src.Refresh(l.t.Context(), nil)
	l.look(src, err)
	l.as.Token.Clear()
}

// passphraseStore and keyStore are where the sessions of lives are.
func passphraseStore(_ *canary.Canary, dir string) (freshtoken.Store, error) {
	return storage.NewFile(dir, storage.Passphrase(func() ([]byte, error) { return []byte(leakPassphrase), nil }))
}

func keyStore(t *testing.T) func(*canary.Canary, string) (freshtoken.Store, error) {
	key := filepath.Join(t.TempDir(), "key")
	return func(c *canary.Canary, dir string) (freshtoken.Store, error) {
		store, err := storage.NewFile(dir, storage.KeyFile(key))
		if err != nil {
			return nil, err
		}
		if err := store.Save(t.Context(), "made to have a key", []byte("x")); err != nil {
			return nil, err
		}
		if err := store.Delete(t.Context(), "made to have a key"); err != nil {
			return nil, err
		}
		data, err := os.ReadFile(key)
		c.Secret("the key", string(data))
		return store, err
	}
}

// The whole life of sessions, with all that can go wrong in it.
func TestNothingLeaks(t *testing.T) {
	lives := map[string]func(t *testing.T, l *life){
		"ASVS-10 a login by the browser, and its requests": browserLife,
		"ASVS-10 a login on another device":                deviceLife,
		"ASVS-10 a login whose request is pushed":          pushedLife,
		"ST-redact a server that repeats what it is sent":  echoingLife,
		"ST-redact stores that fail":                       failingLife,
		"ST-redact a session that is taken over":           importedLife,
		"ST-redact accounts":                               accountsLife,
	}
	secrets, texts, files, foreign := 0, 0, 0, 0
	for name, live := range lives {
		t.Run(name, func(t *testing.T) {
			store := keyStore(t)
			if strings.HasPrefix(name, "ASVS") {
				store = passphraseStore // which takes its time
			}
			l := lead(t, store)
			log.SetOutput(l.c.Writer("the log"))
			live(t, l)
			l.visits.Wait()
			l.c.Check(t)
			for _, n := range l.c.Kinds() {
				secrets += n
			}
			a, b, c := l.c.Counts()
			texts, files, foreign = texts+a, files+b, foreign+c
			if b == 0 || len(l.c.Kinds()) < 5 {
				t.Errorf("the canary has seen %d files and secrets of the kinds %v", b, l.c.Kinds())
			}
		})
	}
	figures.Record(t, "leaks.secrets", strconv.Itoa(secrets))
	figures.Record(t, "leaks.texts", strconv.Itoa(texts))
	figures.Record(t, "leaks.files", strconv.Itoa(files))
	figures.Record(t, "leaks.foreign", strconv.Itoa(foreign))
}

func browserLife(t *testing.T, l *life) {
	src := l.source()
	l.logIn(src, login.Loopback{Prompt: l.prompt(), Timeout: time.Minute})
	l.get(src, l.as.APIURL("me"))
	l.as.RevokeAccess(l.token(src).AccessToken)
	l.get(src, l.as.APIURL("me")) // replayed
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, to := range []string{"https://elsewhere.test/x", "http://elsewhere.test/x", "https://oauth.test:444/x", "//elsewhere.test/x"} {
			l.as.API.Next(oauthtest.Redirect(status, to))
			l.get(src, l.as.APIURL("me"))
		}
		l.spend(src, oauthtest.Redirect(status, "https://elsewhere.test/token"))
	}
	l.get(src, "https://elsewhere.test/")
	for _, f := range append(oauthtest.Denials(), oauthtest.Rejections()...) {
		if f.Stream == nil {
			l.as.API.Next(f)
			l.get(src, l.as.APIURL("me"))
		}
	}
	other := l.source() // another process
	l.get(other, l.as.APIURL("me"))
	l.as.Revocation.Next(oauthtest.Redirect(307, "https://elsewhere.test/revoke"))
	l.look(src, src.Logout(t.Context()))
	l.get(other, l.as.APIURL("me"))
	l.look(src, src.Close(), other.Close())
}

func deviceLife(t *testing.T, l *life) {
	src := l.source()
	l.logIn(src, login.Device{Prompt: l.prompt()})
	l.get(src, l.as.APIURL("me"))
	l.as.RevokeFamily(l.token(src).AccessToken)
	l.get(src, l.as.APIURL("me")) // over
	_, err := src.Token(t.Context())
	l.look(src, err)
	for _, fault := range append(oauthtest.BadDeviceAnswers(), oauthtest.Redirect(307, "https://elsewhere.test/device")) {
		if fault.Stream != nil || fault.Name == "endless" {
			continue
		}
		l.as.Device.Next(fault)
		_, err := login.Ensure(t.Context(), src, login.Device{Prompt: l.prompt()})
		l.look(src, err)
	}
	l.as.Device.Clear()
	l.logIn(src, login.Device{Prompt: l.prompt()})
	l.look(src, src.Logout(t.Context()), src.Close())
}

func pushedLife(t *testing.T, l *life) {
	src := l.source(func(cfg *freshtoken.Config) { cfg.PushedAuthorizationURL = l.as.PushedAuthorizationURL() })
	l.logIn(src, login.Loopback{Prompt: l.prompt()})
	l.get(src, l.as.APIURL("me"))
	l.as.RevokeFamily(l.token(src).AccessToken)
	l.get(src, l.as.APIURL("me")) // over
	for _, fault := range oauthtest.BadPushedAnswers() {
		if fault.Name == "endless" {
			continue
		}
		l.as.Pushed.Always(fault)
		_, err := login.Ensure(t.Context(), src, login.Loopback{Prompt: l.prompt()})
		l.look(src, err)
	}
	l.as.Pushed.Clear()
	l.logIn(src, login.Loopback{Prompt: l.prompt()})
	l.look(src, src.Logout(t.Context()), src.Close())
}

// echoingLife is with a server that repeats, in whatever way, what it was sent.
func echoingLife(t *testing.T, l *life) {
	src := l.source()
	ask := func(member string, status int, part func(string) string, secret string) {
		tok := l.login(src) // a session of its own, since a failure is not repeated at once
		if secret == "" {
			secret = tok.RefreshToken
		}
		l.spend(src, oauthtest.JSON(status, `{"error":"strange","`+member+`":"no `+part(secret)+`"}`))
	}
	for _, part := range []func(string) string{
		func(s string) string { return s },
		func(s string) string { return s[:len(s)/2] },
		func(s string) string { return "..." + s[len(s)/2:] },
		func(s string) string { return "(" + s[7:len(s)-3] + ")" },
	} {
		for _, member := range []string{"error", "error_description"} {
			ask(member, 400, part, "")
		}
		ask("error_description", 401, part, leakClientSecret)
	}
	ask("error_description", 500, func(s string) string { return s }, "")
	tok := l.login(src)
	l.as.Revocation.Next(oauthtest.JSON(400, `{"error":"x","error_description":"`+tok.RefreshToken[9:]+`"}`))
	l.look(src, src.Logout(t.Context()), src.Close())
}

func failingLife(t *testing.T, l *life) {
	f := l.faults()
	src := l.source()
	l.login(src)
	f.set(func(f *faulty) { f.lock = failing(errDisk) })
	l.spend(src)
	f.set(func(f *faulty) { f.lock = nil; f.save = failing(errDisk) })
	l.spend(src)
	f.set(func(f *faulty) { afterMark(f) })
	l.spend(src)
	l.look(src, src.SetToken(t.Context(), l.as.Login("bob")))
	l.look(src, src.Close())

	l.store = f.Store
	next := l.source()
	l.login(next)
	found, err := filepath.Glob(filepath.Join(l.dir, "sessions", "*.session"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%d session files, error %v", len(found), err)
	}
	data, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1 // damage
	if err := os.WriteFile(found[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	another := l.source()
	_, err = another.Token(t.Context())
	l.look(another, err)
	l.login(another) // sets it aside
	l.look(another, another.Logout(t.Context()), another.Close(), next.Close())
}

func importedLife(t *testing.T, l *life) {
	src := l.source()
	path := filepath.Join(t.TempDir(), "token.json")
	for _, cut := range []int{0, 30} { // whole, and broken
		tok := l.as.Login("alice")
		l.c.Secret("an imported token", tok.AccessToken)
		l.c.Secret("an imported token", tok.RefreshToken)
		data, err := json.Marshal(map[string]any{"access_token": tok.AccessToken, "refresh_token": tok.RefreshToken, "token_type": "Bearer", "client_secret": leakClientSecret})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data[:len(data)-cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l.look(src, src.Import(t.Context(), path))
		l.look(src, src.Import(t.Context(), path))
	}
	l.spend(src)
	l.logIn(src, login.Device{Prompt: l.prompt()})
	l.look(src, src.Logout(t.Context()), src.Close())
}

func accountsLife(t *testing.T, l *life) {
	all, err := freshtoken.NewSources(l.config())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alice", "bob"} {
		src, err := all.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		l.login(src)
		l.spend(src)
	}
	accounts, err := all.List(t.Context())
	l.c.Shown("the list of accounts", accounts, all)
	src, _ := all.Get("alice")
	l.look(src, err, all.Forget(t.Context(), "bob"))
	l.look(src, all.Close())
}
