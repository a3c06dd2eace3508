package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/oauthtest"
)

// The service is the test binary, started anew.
func TestMain(m *testing.M) {
	if os.Getenv("FRESHTOKEN_TEST_SERVICE") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const secret = "the service's secret"

// service is one that runs.
type service struct {
	t    *testing.T
	srv  *oauthtest.Server
	cmd  *exec.Cmd
	out  *bufio.Scanner
	errs journal
}

// journal is what a service logs. stopping is closed when it says that it stops.
type journal struct {
	mu       sync.Mutex // guards text
	text     bytes.Buffer
	stopping chan struct{}
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text.Write(p)
	if bytes.Contains(p, []byte("msg=stopping")) { // a log writes whole lines
		close(j.stopping)
	}
	return len(p), nil
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func start(t *testing.T) *service {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("no process can send another one a signal on Windows")
	}
	s := &service{t: t, srv: oauthtest.New(oauthtest.Options{ClientID: "service", ClientSecret: secret, AccessLifetime: time.Second})}
	t.Cleanup(s.srv.Start())
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.CommandContext(t.Context(), program, "-token-url", s.srv.TokenURL(), "-client-id", "service",
		"-client-secret-file", file, "-api", s.srv.APIURL("jobs"), "-every", "10ms")
	s.cmd.Env = append(os.Environ(), "FRESHTOKEN_TEST_SERVICE=1")
	s.errs.stopping = make(chan struct{})
	s.cmd.Stderr = &s.errs
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		if t.Failed() {
			t.Logf("the service said:\n%s", &s.errs)
		}
	})
	s.out = bufio.NewScanner(out)
	return s
}

// until reads what the service prints until something is so. Each line has to
// tell of a success.
func (s *service) until(what string, is func(oauthtest.Stats) bool) {
	s.t.Helper()
	for range 10_000 {
		if !s.out.Scan() {
			s.t.Fatalf("the service has ended before %s: %v", what, s.out.Err())
		}
		if !strings.HasPrefix(s.out.Text(), "200 OK") {
			s.t.Fatalf("before %s, the service printed %q", what, s.out.Text())
		}
		if is(s.srv.Stats()) {
			return
		}
	}
	s.t.Fatalf("after 10,000 requests, not yet: %s", what)
}

func TestService(t *testing.T) {
	s := start(t)
	s.until("the first request", func(oauthtest.Stats) bool { return true })
	s.until("two refreshes in the background", func(st oauthtest.Stats) bool { return st.ClientCredentials >= 3 })
	s.srv.API.Next(oauthtest.Unauthorized(`Bearer error="invalid_token"`))
	before := s.srv.Stats().ClientCredentials
	s.until("a token that was rejected is replaced", func(st oauthtest.Stats) bool {
		return s.srv.API.Queued() == 0 && st.ClientCredentials > before
	})

	// SIGTERM while the API takes its time.
	gate := oauthtest.NewGate()
	defer gate.Open()
	s.srv.API.Next(oauthtest.Fault{Before: gate.Hold})
	<-gate.Arrived()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-s.errs.stopping
	calls := s.srv.Stats().APIRequests
	gate.Open()
	rest, err := io.ReadAll(restOf(s.out))
	if err != nil || !strings.HasSuffix(string(rest), "bytes\n") {
		t.Errorf("the request that was under way has not ended well: %q, %v", rest, err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("the service ended with %v, want status 0", err)
	}
	if n := s.srv.Stats().APIRequests; n != calls {
		t.Errorf("%d requests after SIGTERM", n-calls)
	}
	if said := s.errs.String(); strings.Contains(said, secret) || !strings.Contains(said, "event.kind=refreshed") || !strings.Contains(said, "msg=stopped") {
		t.Errorf("the log is not as it should be:\n%s", said)
	}
	if n := s.srv.Stats().BadClients; n != 0 {
		t.Errorf("%d requests were not the client's", n)
	}
}

// restOf reads what a Scanner has left, line by line.
func restOf(s *bufio.Scanner) io.Reader {
	var all bytes.Buffer
	for s.Scan() {
		all.WriteString(s.Text() + "\n")
	}
	return &all
}

func TestFlags(t *testing.T) {
	err := run(t.Context(), []string{"-client-id", "service"}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "give -token-url") {
		t.Errorf("got %v, want to be told what is missing", err)
	}
}
