package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/internal/mark"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// The processes of the example are the test binary, started anew.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-child" {
		main()
	}
	os.Exit(m.Run())
}

// clientSecret is one that a search for leaks finds.
var clientSecret = mark.Weave(mark.ClientSecret, "app's secret")

// output is what a run prints. When a word turns up, it calls a function.
type output struct {
	mu   sync.Mutex // guards text and call
	text bytes.Buffer
	word string
	call func()
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	if o.call != nil && strings.Contains(o.text.String(), o.word) {
		o.call()
		o.call = nil
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (o *output) want(t *testing.T, texts ...string) {
	t.Helper()
	canary.Clean(t, "the output", []byte(o.String()))
	for _, text := range texts {
		if !strings.Contains(o.String(), text) {
			t.Errorf("the output does not say %q", text)
		}
	}
	if t.Failed() {
		t.Logf("the output:\n%s", o)
	}
}

func TestDemonstration(t *testing.T) {
	out := &output{}
	if code := run(t.Context(), []string{"-duration", "3s", "-processes", "3"}, out, out); code != exitOK {
		t.Errorf("exit status %d, want 0", code)
	}
	out.want(t, "3 programs that share the session", "the API revokes the access token", "Summary",
		"0  lost", "Nothing was lost")
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out := &output{word: "programs that share the session", call: cancel}
	if code := run(ctx, []string{"-duration", "3s", "-processes", "2"}, out, out); code != exitInterrupted {
		t.Errorf("exit status %d, want %d", code, exitInterrupted)
	}
	out.want(t, "Summary", "Nothing was lost", "Interrupted.")
}

// A server that this program has not started, with a secret and a session that
// another program began.
func TestRealServer(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{ClientID: "app", ClientSecret: clientSecret, KillOldAccess: true})
	defer srv.Start()()
	tok := srv.Login("alice")
	dir := canary.Dir(t, "secret", "refresh", "key")
	secret, refresh := filepath.Join(dir, "secret"), filepath.Join(dir, "refresh")
	for path, text := range map[string]string{secret: clientSecret + "\n", refresh: tok.RefreshToken + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"-token-url", srv.TokenURL(), "-client-id", "app", "-client-secret-file", secret, "-api", srv.APIURL("me"),
		"-dir", filepath.Join(dir, "state"), "-duration", "2s", "-processes", "2"}
	out := &output{}
	if code := run(t.Context(), append(args, "-refresh-token-file", refresh), out, out); code != exitOK {
		t.Errorf("exit status %d, want 0", code)
	}
	// The next run finds the session in the store.
	if code := run(t.Context(), args, out, out); code != exitOK {
		t.Errorf("the second run: exit status %d, want 0", code)
	}
	out.want(t, "another program asks for a new access token", "Nothing was lost")
	for _, e := range srv.LogOf(oauthtest.APIEndpoint) {
		if e.Method != "GET" {
			t.Errorf("a real API got a %s request", e.Method)
		}
	}
	if s := srv.Stats(); s.Reuses+s.BadRequests+s.BadClients > 0 || s.Refreshes < 4 {
		t.Errorf("the server saw %+v", s)
	}
}

func TestNoSession(t *testing.T) {
	out := &output{}
	code := run(t.Context(), []string{"-token-url", "https://as.invalid/token", "-client-id", "x", "-api", "https://api.invalid/", "-dir", t.TempDir()}, out, out)
	if code != exitLost {
		t.Errorf("exit status %d, want %d", code, exitLost)
	}
	out.want(t, "give -refresh-token-file")
}

// What is lost must be noticed.
func TestLost(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{})
	defer srv.Start()()
	refresh := filepath.Join(t.TempDir(), "refresh")
	if err := os.WriteFile(refresh, []byte(srv.Login("alice").RefreshToken), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-token-url", srv.TokenURL(), "-client-id", "client", "-api", srv.APIURL("me"), "-refresh-token-file", refresh,
		"-dir", t.TempDir(), "-duration", "900ms", "-processes", "1"}
	srv.API.Always(oauthtest.Status(500))
	out := &output{}
	if code := run(t.Context(), args, out, out); code != exitLost {
		t.Errorf("exit status %d, want %d", code, exitLost)
	}
	out.want(t, "LOST: ", "the API answered 500")

	srv.Token.Always(oauthtest.InvalidGrant())
	srv.API.Clear()
	out = &output{}
	if code := run(t.Context(), append(args, "-dir", t.TempDir()), out, out); code != exitLost {
		t.Errorf("with a dead refresh token: exit status %d, want %d", code, exitLost)
	}
	out.want(t, "log in again")
}

func TestFlags(t *testing.T) {
	real := []string{"-token-url", "https://as.example/token"}
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"no such flag", []string{"-frobnicate"}, "-frobnicate"},
		{"argument", []string{"now"}, `unexpected argument "now"`},
		{"store", []string{"-store", "paper"}, "use file or keyring"},
		{"duration", []string{"-duration", "-1s"}, "positive"},
		{"no duration", []string{"-duration", "long"}, "duration"},
		{"processes", []string{"-processes", "0"}, "1 to 64"},
		{"real flags alone", []string{"-client-id", "x"}, "-token-url"},
		{"no client", real, "-client-id is missing"},
		{"no API", append(real[:2:2], "-client-id", "x"), "-api is missing"},
		{"bad API", append(real[:2:2], "-client-id", "x", "-api", "api.example"), "absolute address"},
		{"no directory", append(real[:2:2], "-client-id", "x", "-api", "https://api.example"), "-dir is missing"},
		{"directory of a keyring", []string{"-store", "keyring", "-dir", "x"}, "-dir is for -store file"},
		{"no secret", append(real[:2:2], "-client-id", "x", "-api", "https://api.example", "-dir", t.TempDir(),
			"-client-secret-file", filepath.Join(t.TempDir(), "none")), "none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := &output{}
			if code := run(t.Context(), tt.args, out, out); code != exitUsage {
				t.Errorf("exit status %d, want %d", code, exitUsage)
			}
			out.want(t, tt.want, "quickstart: ")
		})
	}
	out := &output{}
	if code := run(t.Context(), []string{"-h"}, out, out); code != exitOK {
		t.Errorf("-h: exit status %d, want 0", code)
	}
	out.want(t, "-token-url", "-duration")
	if strings.Contains(out.String(), "-child") {
		t.Error("-h lists a flag that is not for humans")
	}
}

// Numbers are made to be read.
func TestColumn(t *testing.T) {
	for n, want := range map[int]string{0: "     0", 999: "   999", 1000: " 1,000", 1234567: "1,234,567"} {
		if got := column(n, 6); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

// On a terminal a line is replaced, and what is said between leaves no rest of
// it.
func TestProgressInPlace(t *testing.T) {
	out := &output{}
	a := &account{out: out, live: true, start: time.Now()}
	a.progress(tally{Gets: 5}, false)
	a.say("said")
	lines := strings.Split(out.String(), "\r")
	if len(lines) != 3 || strings.TrimSpace(lines[1]) != "" || len(lines[1]) != len(lines[0]) || lines[2] != "said\n" {
		t.Errorf("got %q", out)
	}
}
