package interop_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// keyringEnv allows tests to use the keyring of the environment:
// "gnome-keyring" is set by internal/keyringtest/with-gnome-keyring, "system"
// may be set on a machine that is thrown away.
const keyringEnv = "FRESHTOKEN_KEYRING_TEST"

// A sharedStore is one that several processes can open in the same place.
type sharedStore struct {
	name    string
	keyring bool // whether it takes a keyring
	at      func(dir string) (freshtoken.Store, error)
}

var sharedStores = []sharedStore{
	{"sealed files", false, func(dir string) (freshtoken.Store, error) {
		return storage.NewFile(filepath.Join(dir, "sessions"), storage.KeyFile(filepath.Join(dir, "key")))
	}},
	{"sealed files and their key in the keyring", true, func(dir string) (freshtoken.Store, error) {
		key := keyring.NewKey(serviceAt(dir), keyring.Options{LockDir: dir})
		return storage.NewFile(filepath.Join(dir, "sessions"), key)
	}},
	{"the keyring", true, func(dir string) (freshtoken.Store, error) {
		return keyring.NewStore(serviceAt(dir), keyring.Options{LockDir: dir})
	}},
}

// serviceAt is a name in the keyring that belongs to a directory.
func serviceAt(dir string) string {
	d := sha256.Sum256([]byte(dir))
	return "freshtoken-interop-" + hex.EncodeToString(d[:8])
}

// dir returns the place for a new store, or skips the test.
func (st sharedStore) dir(t *testing.T) string {
	t.Helper()
	if mode := os.Getenv(keyringEnv); st.keyring && mode != "gnome-keyring" && mode != "system" {
		t.Skipf("uses a real keyring: run the tests with internal/keyringtest/with-gnome-keyring, or set %s=system on a machine to be thrown away", keyringEnv)
	}
	return canary.Dir(t, "key")
}

func (st sharedStore) open(t *testing.T, dir string) freshtoken.Store {
	t.Helper()
	store, err := st.at(dir)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// childEnv makes the test binary a child process. It reads its order from its
// standard input, since there are secrets in it.
const childEnv = "FRESHTOKEN_INTEROP_CHILD"

// An order says what a child is to do.
type order struct {
	Site  site
	Store string // the name of a sharedStore
	Dir   string
	First string // the refresh token of the login
}

// A child reports once it has a token, and again when it ends.
type report struct {
	Calls      int
	Failure    string // of a call to the API
	NoSession  bool   // whether it was told that nobody is logged in any more
	Generation uint64
}

func TestMain(m *testing.M) {
	canary.MarkRandom()
	if os.Getenv(childEnv) != "" {
		if err := work(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(finish(m.Run()))
}

// work is the life of a child: it calls the API until its standard input ends,
// a call fails or nobody is logged in any more.
func work() error {
	var o order
	if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
		return err
	}
	src, err := o.source()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	out := json.NewEncoder(os.Stdout)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	client := o.Site.client(src)
	var r report
	for ctx.Err() == nil && r.Failure == "" && !r.NoSession {
		// A call that has begun is let finish.
		if err := call(context.Background(), client, o.Site.APIs[0]); err != nil {
			_, terr := src.Token(context.Background())
			if r.NoSession = errors.Is(terr, freshtoken.ErrNoSession); !r.NoSession {
				r.Failure = fmt.Sprintf("%v; then Token: %v", err, terr)
			}
			break
		}
		if r.Calls++; r.Calls == 1 {
			out.Encode(r)
		}
		<-tick.C
	}
	r.Generation = src.Status().Generation
	if err := src.Close(); err != nil {
		return err
	}
	return out.Encode(r)
}

// source is what a program does at its start.
func (o order) source() (*freshtoken.Source, error) {
	var store freshtoken.Store
	for _, st := range sharedStores {
		if st.name == o.Store {
			var err error
			if store, err = st.at(o.Dir); err != nil {
				return nil, err
			}
		}
	}
	src, err := freshtoken.New(o.Site.config(store))
	if err != nil {
		return nil, err
	}
	return src, src.SetToken(context.Background(), &oauth2.Token{RefreshToken: o.First})
}

// A process is a running child.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	out    *json.Decoder
	stderr strings.Builder
}

// start starts a child. It is ended with the test.
func (o order) start(t *testing.T) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(exe)}
	p.cmd.Env = append(os.Environ(), childEnv+"=1")
	p.cmd.Stderr = &p.stderr
	canary.Command(t, p.cmd)
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = json.NewDecoder(bufio.NewReader(stdout))
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(2*patience, func() { p.cmd.Process.Kill() })
	t.Cleanup(func() {
		timer.Stop()
		p.cmd.Process.Kill() // harmless where it has ended
		p.cmd.Wait()
		canary.Clean(t, "the standard error of a child process", []byte(p.stderr.String()))
	})
	if err := json.NewEncoder(stdin).Encode(o); err != nil {
		t.Fatal(err)
	}
	return p
}

// report waits for what the child says next.
func (p *process) report(t *testing.T) (r report) {
	t.Helper()
	if err := p.out.Decode(&r); err != nil {
		p.cmd.Process.Kill()
		p.cmd.Wait()
		t.Fatalf("a child process ended early: %v\n%s", err, &p.stderr)
	}
	if r.Failure != "" {
		t.Errorf("a child process: %s", r.Failure)
	}
	return r
}

// finish waits for the end of the child.
func (p *process) finish(t *testing.T) {
	t.Helper()
	p.stdin.Close()
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("a child process: %v\n%s", err, &p.stderr)
	}
}

// shareByEight has eight processes call the API over some rotations of one
// session.
func (s *server) shareByEight(x site, st sharedStore, first string, rotations int) {
	s.t.Helper()
	dir, before := st.dir(s.t), s.counts().Refreshes
	o := order{Site: x, Store: st.name, Dir: dir, First: first}
	processes := make([]*process, 8)
	for i := range processes {
		processes[i] = o.start(s.t)
	}
	for _, p := range processes {
		p.report(s.t)
	}
	s.rotated(s.t.Context(), before+rotations)
	calls := 0
	for _, p := range processes {
		p.stdin.Close()
	}
	for _, p := range processes {
		r := p.report(s.t)
		calls += r.Calls
		if r.NoSession {
			s.t.Error("a child process was told that nobody is logged in")
		}
		p.finish(s.t)
	}
	c := s.wantWhole()
	s.wantStored(x.config(st.open(s.t, dir)), c.Refreshes-before)
	s.t.Logf("%d calls, %d refreshes, %d answers of 401", calls, c.Refreshes-before, c.APIRejected)
}

func TestEightProcessesOneSession(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, st := range sharedStores {
		t.Run(st.name, func(t *testing.T) {
			s.in(t).shareByEight(s.site(basic), st, s.mint(basic).RefreshToken, rotations)
		})
	}
}

func TestOtherProcessesNoticeLogout(t *testing.T) {
	s := startServer(t, func(o *serverOptions) { o.AccessLifetime = 3600 })
	st := sharedStores[0]
	dir := st.dir(t)
	f := s.mint(public)
	o := order{Site: s.site(public), Store: st.name, Dir: dir, First: f.RefreshToken}
	processes := []*process{o.start(t), o.start(t)}
	for _, p := range processes {
		p.report(t)
	}
	src := s.source(s.config(public, st.open(t, dir)))
	if err := src.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if r := p.report(t); !r.NoSession {
			t.Error("a process ended without being told that nobody is logged in")
		}
		p.finish(t)
	}
	if c := s.counts(); c.Reuses != 0 || c.InvalidGrants != 0 || c.FamiliesKilled != 1 {
		t.Errorf("got %+v, want a family killed by the revocation alone", c)
	}
}
