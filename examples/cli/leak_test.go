package main

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/internal/figures"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// A watch is a server, and a stranger, that watch the processes of a person.
type watch struct {
	*home
	c        *canary.Canary
	stranger string
	ran      int // processes

	mu  sync.Mutex // guards pid
	pid int        // of the process that runs, or 0
}

// watched has a home whose server a canary watches.
func watched(t *testing.T) *watch {
	h := newHome(t)
	w := &watch{home: h, c: canary.New()}
	w.c.Secret("the passphrase", passphrase)
	serve := func(handler func(base string) http.Handler) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		base := "http://" + l.Addr().String()
		server := httptest.NewUnstartedServer(handler(base))
		server.Listener.Close()
		server.Listener = l
		server.Start()
		t.Cleanup(server.Close)
		return base
	}
	serve(func(base string) http.Handler {
		h.srv = oauthtest.New(oauthtest.Options{BaseURL: base, PollInterval: time.Second})
		return w.c.Handler(base, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			w.look() // while the process waits for its answer
			h.srv.ServeHTTP(rw, r)
		}))
	})
	w.stranger = serve(func(base string) http.Handler { return w.c.Handler(base, http.NotFoundHandler()) })
	w.c.Server(h.srv.TokenURL(), h.srv.DeviceAuthURL(), h.srv.RevocationURL(), h.srv.AuthURL(), h.srv.BaseURL()+"/api/", "")
	return w
}

// look keeps what the process leaves for others to see.
func (w *watch) look() {
	w.mu.Lock()
	pid := w.pid
	w.mu.Unlock()
	if pid != 0 {
		w.c.Process(pid)
	}
	w.c.Files(filepath.Join(w.dir, app))
}

// process runs the program, and keeps what it prints. hurt, if not nil, is told
// that it runs.
func (w *watch) process(hurt func(cmd *exec.Cmd), args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), program, append(args, "-passphrase-file", w.passphrase)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	w.mu.Lock()
	err := cmd.Start()
	if err == nil {
		w.pid = cmd.Process.Pid
	}
	w.mu.Unlock()
	if err != nil {
		w.t.Fatal(err)
	}
	if hurt != nil {
		hurt(cmd)
	}
	cmd.Wait()
	w.mu.Lock()
	w.pid = 0
	w.mu.Unlock()
	w.c.Text("what "+args[0]+" prints", out.Bytes())
	w.look()
	w.ran++
	return out.String()
}

// No secret in what processes print, nor in their arguments, environment, files,
// and requests to others; not even of one that dies with all its goroutines on
// the screen.
func TestNothingLeaks(t *testing.T) {
	w := watched(t)
	w.home.login("alice", w.loginArgs()...)
	t.Run("ST-redact processes and what they leave", func(t *testing.T) {
		w.process(nil, "whoami")
		w.shift("default")
		w.process(nil, "whoami") // refreshes
		for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect} {
			w.srv.API.Next(oauthtest.Redirect(status, w.stranger+"/x"))
			w.process(nil, "whoami")
		}
		w.process(nil, "accounts")
	})
	if runtime.GOOS != "windows" {
		t.Run("ST-redact a process that dies with a trace", func(t *testing.T) {
			gate := oauthtest.NewGate()
			w.shift("default")
			w.srv.Token.Next(oauthtest.Fault{Before: gate.Hold})
			out := w.process(func(cmd *exec.Cmd) {
				<-gate.Arrived() // in mid-refresh, with the refresh token in its memory
				cmd.Process.Signal(syscall.SIGQUIT)
				cmd.Process.Wait()
				gate.Open()
			}, "whoami")
			want(t, out, "SIGQUIT", "goroutine ")
			w.process(nil, "whoami")
		})
	}
	w.process(nil, "logout")
	if n := w.c.Kinds(); n["the member refresh_token"] < 2 || n["an access token"]+n["the member access_token"] < 2 || n["the parameter code_verifier"] == 0 {
		t.Errorf("the canary knows secrets of the kinds %v", n)
	}
	w.c.Check(t)
	figures.Record(t, "leaks.processes", strconv.Itoa(w.ran))
}
