package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/internal/mark"
	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// clientSecret is one that a search for leaks finds.
var clientSecret = mark.Weave(mark.ClientSecret, "app's secret")

// home is a person's home, where a program has left a token.json.
type home struct {
	t        *testing.T
	dir      string
	srv      *oauthtest.Server
	keyFlags []string
	out      bytes.Buffer
}

func newHome(t *testing.T) *home {
	h := &home{t: t, dir: canary.Dir(t, "secret.txt", "token.json", "key"), srv: oauthtest.New(oauthtest.Options{ClientID: "app", ClientSecret: clientSecret})}
	t.Cleanup(h.srv.Start())
	for _, name := range []string{"HOME", "XDG_STATE_HOME", "LocalAppData"} {
		t.Setenv(name, h.dir)
	}
	h.write("secret.txt", []byte(clientSecret+"\n"))
	h.keyFlags = []string{"-key-file", filepath.Join(h.dir, "key")}
	return h
}

func (h *home) path(name string) string { return filepath.Join(h.dir, name) }

func (h *home) write(name string, data []byte) {
	h.t.Helper()
	if err := os.WriteFile(h.path(name), data, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// login leaves a token.json as a Go quickstart does. Its access token expired
// an hour ago.
func (h *home) login(subject string) *oauth2.Token {
	h.t.Helper()
	tok := h.srv.Login(subject)
	h.srv.RevokeAccess(tok.AccessToken)
	data, err := json.Marshal(&oauth2.Token{AccessToken: tok.AccessToken, TokenType: "Bearer",
		RefreshToken: tok.RefreshToken, Expiry: time.Now().Add(-time.Hour)})
	if err != nil {
		h.t.Fatal(err)
	}
	h.write("token.json", data)
	return tok
}

func (h *home) run() error {
	h.out.Reset()
	args := append([]string{"-client-id", "app", "-client-secret-file", h.path("secret.txt"), "-token-url", h.srv.TokenURL(),
		"-api", h.srv.APIURL("me")}, h.keyFlags...)
	err := run(h.t.Context(), append(args, h.path("token.json")), &h.out)
	canary.Clean(h.t, "the output", h.out.Bytes())
	canary.Shown(h.t, "an error", err)
	return err
}

func (h *home) want(texts ...string) {
	h.t.Helper()
	for _, text := range texts {
		if !strings.Contains(h.out.String(), text) {
			h.t.Errorf("the output does not say %q:\n%s", text, h.out.String())
		}
	}
}

// left reports whether the file is as it was.
func (h *home) left() bool {
	_, err := os.Lstat(h.path("token.json"))
	return !errors.Is(err, fs.ErrNotExist)
}

func TestMigrate(t *testing.T) {
	h := newHome(t)
	tok := h.login("alice")
	if err := h.run(); err != nil {
		t.Fatal(err)
	}
	h.want("is in the sealed store now", "answered 200", `"subject":"alice"`, `"generation":2`)
	if h.left() {
		t.Error("the plaintext file is still there")
	}
	h.wantSealed(tok)

	if err := h.run(); err != nil {
		t.Fatal(err)
	}
	h.want("There is no", "The session in the store is used", `"subject":"alice"`)
	if s := h.srv.Stats(); s.Refreshes != 1 || s.Reuses+s.APIUnauthorized > 0 {
		t.Errorf("the server saw %+v, want one refresh and nothing refused", s)
	}
}

// wantSealed checks that files keep the session, and that none shows it.
func (h *home) wantSealed(tok *oauth2.Token) {
	h.t.Helper()
	sealed := 0
	err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, text := range []string{tok.RefreshToken, tok.AccessToken, "refresh"} {
			if bytes.Contains(data, []byte(text)) {
				h.t.Errorf("%s shows the session", path)
			}
		}
		if filepath.Ext(path) == ".session" {
			sealed++
		}
		return err
	})
	if err != nil {
		h.t.Error(err)
	}
	if sealed != 1 {
		h.t.Errorf("%d sealed files, want 1", sealed)
	}
}

// Whatever cannot be taken over is left as it is.
func TestRefused(t *testing.T) {
	h := newHome(t)
	if err := h.run(); !errors.Is(err, freshtoken.ErrNoSession) {
		t.Errorf("without a file and a session: %v, want ErrNoSession", err)
	}
	h.write("token.json", []byte("no token"))
	if err := h.run(); !errors.Is(err, freshtoken.ErrBadToken) || !h.left() {
		t.Errorf("with a file of something else: %v, want ErrBadToken", err)
	}
	h.login("alice")
	if err := h.run(); err != nil {
		t.Fatal(err)
	}
	h.login("bob")
	if err := h.run(); !errors.Is(err, freshtoken.ErrSessionExists) || !h.left() {
		t.Errorf("with another session in the store: %v, want ErrSessionExists", err)
	}
	if err := run(t.Context(), []string{"-client-id", "app"}, &h.out); err == nil || !strings.Contains(err.Error(), "the path of a token.json") {
		t.Errorf("without arguments: %v", err)
	}
}

// Without a keyring nothing is taken over, rather than stored elsewhere.
func TestNoKeyring(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("cannot take the keyring away on this system")
	}
	h := newHome(t)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+h.path("none"))
	h.keyFlags = nil
	h.login("alice")
	if err := h.run(); !errors.Is(err, keyring.ErrUnavailable) || !h.left() {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}
