package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/internal/mark"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/openid"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// passphrase is what the sessions of all tests are sealed with.
var passphrase = mark.Weave(mark.Passphrase, "correct horse")

// program is the example, built once for all tests.
var program string

func TestMain(m *testing.M) {
	canary.MarkRandom()
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "freshtoken-cli-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "cli.exe")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// home is a person's home for the time of a test, without a keyring and a
// display, and a server where the person has accounts.
type home struct {
	t          *testing.T
	dir        string
	srv        *oauthtest.Server
	passphrase string // a file
}

func newHome(t *testing.T) *home {
	h := &home{t: t, dir: canary.Dir(t, "passphrase", "wrong"), srv: oauthtest.New(oauthtest.Options{PollInterval: time.Second})}
	t.Cleanup(h.srv.Start())
	h.passphrase = h.write("passphrase", passphrase+"\n")
	for _, name := range []string{"HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "LocalAppData", "AppData"} {
		t.Setenv(name, h.dir)
	}
	for _, name := range []string{"DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"} {
		t.Setenv(name, "")
	}
	return h
}

func (h *home) write(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// loginArgs are the arguments of a first login, with the key of a passphrase.
func (h *home) loginArgs(more ...string) []string {
	return append([]string{"login", "-issuer", h.srv.BaseURL(), "-client-id", "client", "-api", h.srv.APIURL("me"),
		"-key", "passphrase", "-passphrase-file", h.passphrase}, more...)
}

// login has subject log in by the browser, in this process, because a browser
// is what the program lacks in a test.
func (h *home) login(subject string, args ...string) {
	h.t.Helper()
	h.srv.ApproveAs(subject)
	var out bytes.Buffer
	if err := run(h.t.Context(), args, login.Prompt{Browse: h.browse}, &out); err != nil {
		h.t.Fatalf("login: %v", err)
	}
	want(h.t, out.String(), "is logged in")
}

// browse opens the address as a browser would.
func (h *home) browse(_ context.Context, address string) error {
	go func() {
		if resp, err := h.srv.Browser().Get(address); err == nil {
			resp.Body.Close()
		}
	}()
	return nil
}

// run runs the program as a process, without a terminal, and returns what it
// prints.
func (h *home) run(args ...string) (out string, ok bool) {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), program, args...)
	canary.Command(h.t, cmd)
	text, err := cmd.CombinedOutput()
	canary.Clean(h.t, fmt.Sprintf("the output of %q", args), text)
	if exit := new(exec.ExitError); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		h.t.Errorf("%v: %v; want exit status 0 or 1", args, err)
	}
	return string(text), err == nil
}

// works runs the program with the passphrase and wants success.
func (h *home) works(command string, args ...string) string {
	h.t.Helper()
	out, ok := h.run(append([]string{command, "-passphrase-file", h.passphrase}, args...)...)
	if !ok {
		h.t.Errorf("%s %v: %s", command, args, out)
	}
	return out
}

// fails runs the program and wants it to say what is wrong.
func (h *home) fails(texts []string, args ...string) {
	h.t.Helper()
	out, ok := h.run(args...)
	if ok {
		h.t.Errorf("%v: it succeeded: %s", args, out)
	}
	want(h.t, out, texts...)
}

func want(t *testing.T, out string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("the output does not say %q:\n%s", text, out)
		}
	}
}

func TestLogin(t *testing.T) {
	h := newHome(t)
	h.login("alice", h.loginArgs()...)
	want(t, h.works("whoami"), `"subject":"alice"`)

	t.Run("a second one asks nobody", func(t *testing.T) {
		want(t, h.works("login"), `"default" is logged in`)
		if n := h.srv.Stats().AuthorizationRequests; n != 1 {
			t.Errorf("%d authorization requests, want 1", n)
		}
	})
	t.Run("an API that says no", func(t *testing.T) {
		h.fails([]string{"answered 403"}, "whoami", "-passphrase-file", h.passphrase, "-api", h.srv.APIURL("me?scope=admin"))
	})
}

func TestLoginOnAnotherDevice(t *testing.T) {
	h := newHome(t)
	show := func(_ context.Context, c login.Code) error {
		if !h.srv.ApproveDevice(c.Code, "bob") {
			return errors.New("no login waits for this code")
		}
		return nil
	}
	browse := func(context.Context, string) error { return errors.New("it opens a browser") }
	var out bytes.Buffer
	if err := run(t.Context(), h.loginArgs("-device"), login.Prompt{Browse: browse, Show: show}, &out); err != nil {
		t.Fatal(err)
	}
	want(t, h.works("whoami"), `"subject":"bob"`)
}

// A server that has a userinfo endpoint says who has logged in. No other server
// is told what the one before was told.
func TestUserinfo(t *testing.T) {
	h := newHome(t)
	h.srv.Metadata.Always(oauthtest.AddMember("userinfo_endpoint", strconv.Quote(h.srv.APIURL("userinfo"))))
	h.login("alice", h.loginArgs("-api", "")...)
	want(t, h.works("whoami"), `"subject":"alice"`, "/api/userinfo")
	h.works("login", "-api", h.srv.APIURL("me"))
	want(t, h.works("whoami"), `"subject":"alice"`, "/api/me")

	other := oauthtest.New(oauthtest.Options{})
	defer other.Start()()
	first := h.srv
	h.srv = other
	h.login("carol", "login", "-issuer", other.BaseURL(), "-passphrase-file", h.passphrase)
	before := first.Stats().APIRequests
	h.fails([]string{"no address to ask"}, "whoami", "-passphrase-file", h.passphrase)
	if n := first.Stats().APIRequests; n != before {
		t.Error("one server's token went to another's API")
	}
}

// A server that does OpenID Connect says at the login who it was, and is not asked
// again.
func TestWhoami(t *testing.T) {
	h := newHome(t)
	h.srv = oauthtest.New(oauthtest.Options{IDTokens: "ES256"})
	t.Cleanup(h.srv.Start())
	h.login("alice", h.loginArgs("-api", "", "-scope", "openid email")...)
	before := len(h.srv.Log())
	want(t, h.works("whoami"), `"sub":"alice"`, `"email":"alice@example.com"`)
	if n := len(h.srv.Log()); n != before {
		t.Errorf("the server was asked %d times", n-before)
	}
	h.srv.Token.Next(oauthtest.SetClaim("aud", `"other"`))
	err := run(t.Context(), h.loginArgs("-account", "second"), login.Prompt{Browse: h.browse}, new(bytes.Buffer))
	if !errors.Is(err, openid.ErrAudience) {
		t.Errorf("got error %v", err)
	}
}

// shift makes the session of an account one whose access token has expired.
func (h *home) shift(account string) {
	h.t.Helper()
	key := storage.Passphrase(func() ([]byte, error) { return []byte(passphrase), nil })
	store, err := storage.NewAppFile(app, key)
	if err != nil {
		h.t.Fatal(err)
	}
	src, err := freshtoken.New(freshtoken.Config{OAuth2: h.srv.OAuth2(), Issuer: h.srv.BaseURL(), Session: account, Store: store})
	if err != nil {
		h.t.Fatal(err)
	}
	tok := h.srv.Login("alice")
	h.srv.RevokeAccess(tok.AccessToken)
	old := &oauth2.Token{AccessToken: tok.AccessToken, TokenType: "Bearer", RefreshToken: tok.RefreshToken, Expiry: time.Now().Add(-time.Hour)}
	if err := errors.Join(src.SetToken(h.t.Context(), old), src.Close()); err != nil {
		h.t.Fatal(err)
	}
}

func TestExpired(t *testing.T) {
	h := newHome(t)
	h.login("alice", h.loginArgs()...)
	h.shift("default")
	want(t, h.works("whoami"), `"subject":"alice"`, `"generation":2`)
	want(t, h.works("whoami"), `"generation":2`)
	if s := h.srv.Stats(); s.Refreshes != 1 || s.APIUnauthorized != 0 {
		t.Errorf("the server saw %+v, want one refresh and no token refused", s)
	}
}

func TestAccounts(t *testing.T) {
	h := newHome(t)
	h.login("alice", h.loginArgs()...)
	h.login("bob", "login", "-account", "work", "-passphrase-file", h.passphrase)
	if out := h.works("accounts"); out != "default\talive\nwork\talive\n" {
		t.Errorf("the accounts are %q", out)
	}
	want(t, h.works("whoami"), `"subject":"alice"`)
	want(t, h.works("whoami", "-account", "work"), `"subject":"bob"`)

	want(t, h.works("logout", "-account", "work"), `"work" is logged out`)
	if out := h.works("accounts"); out != "default\talive\n" {
		t.Errorf("after one logout the accounts are %q", out)
	}
	want(t, h.works("whoami"), `"subject":"alice"`)
	h.fails([]string{"nobody is logged in", "cli login -account work"}, "whoami", "-account", "work", "-passphrase-file", h.passphrase)
	if n := h.srv.Stats().Revocations; n == 0 {
		t.Error("the server still takes the tokens of an account that is logged out")
	}
	h.works("logout")
	want(t, h.works("accounts"), "Nobody is logged in.")
}

func TestWrongPassphrase(t *testing.T) {
	h := newHome(t)
	h.login("alice", h.loginArgs()...)
	wrong := h.write("wrong", mark.Weave(mark.Passphrase, "incorrect horse"))
	for _, command := range []string{"whoami", "login", "logout", "accounts"} {
		h.fails([]string{storage.ErrWrongKey.Error()}, command, "-passphrase-file", wrong)
	}
	want(t, h.works("whoami"), `"subject":"alice"`)
}

func TestNoTerminal(t *testing.T) {
	h := newHome(t)
	h.fails([]string{login.ErrNotInteractive.Error(), "run the program in one"}, h.loginArgs()...)
	h.fails([]string{login.ErrNotInteractive.Error(), "run the program in one"}, h.loginArgs("-device")...)
	h.fails([]string{"standard input is no terminal", "give -passphrase-file"}, "whoami")
	if s := h.srv.Stats(); s.AuthorizationRequests+s.DeviceRequests > 0 {
		t.Errorf("the server saw %+v, want no login to begin", s)
	}
}

// A keyring that is not there is no reason to take another key, unless the
// person says so.
func TestNoKeyring(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("cannot take the keyring away on this system")
	}
	h := newHome(t)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+filepath.Join(h.dir, "none"))
	h.fails([]string{"no keyring is available", "-key passphrase"}, "login", "-issuer", h.srv.BaseURL(), "-client-id", "client")
	h.login("alice", h.loginArgs()...)
	h.fails([]string{"sealed with -key passphrase"}, "whoami", "-key", "keyring")
}

func TestRealKeyring(t *testing.T) {
	if os.Getenv("FRESHTOKEN_KEYRING_TEST") != "gnome-keyring" {
		t.Skip("uses a keyring: run it in internal/keyringtest/with-gnome-keyring")
	}
	h := newHome(t)
	h.login("alice", "login", "-issuer", h.srv.BaseURL(), "-client-id", "client", "-api", h.srv.APIURL("me"))
	if out, ok := h.run("whoami"); !ok || !strings.Contains(out, `"subject":"alice"`) {
		t.Errorf("with the key in the keyring: %s", out)
	}
	h.fails([]string{"sealed with -key keyring"}, "whoami", "-key", "passphrase")
}

func TestGivenUp(t *testing.T) {
	h := newHome(t)
	ctx, interrupt := context.WithCancel(t.Context())
	browse := func(context.Context, string) error { interrupt(); return nil } // who then does nothing
	if err := run(ctx, h.loginArgs(), login.Prompt{Browse: browse}, &bytes.Buffer{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	h.fails([]string{"nobody is logged in"}, "whoami", "-passphrase-file", h.passphrase)
	h.login("alice", h.loginArgs()...)
}

func TestUsage(t *testing.T) {
	h := newHome(t)
	h.fails([]string{"login", "whoami", "logout", "accounts"})
	h.fails([]string{"login", "whoami", "logout", "accounts"}, "frobnicate")
	h.fails([]string{"cli login -issuer"}, "whoami")
	h.fails([]string{`unexpected argument "now"`}, "login", "now")
	h.fails([]string{"neither keyring nor passphrase"}, h.loginArgs("-key", "paper")...)
	h.fails([]string{"no address to ask"}, "whoami", "-issuer", h.srv.BaseURL(), "-client-id", "client",
		"-key", "passphrase", "-passphrase-file", h.passphrase)
}
