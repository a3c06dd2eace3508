package freshtoken_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

var processDuration = flag.Duration("process.duration", 4*time.Second, "how long the processes of TestProcesses work")

// procPatience guards against hangs. Nothing depends on it while all is well.
const procPatience = 90 * time.Second

// procWorld is a server on a loopback port, and a place where the programs that
// use it keep their session.
type procWorld struct {
	t     *testing.T
	as    *oauthtest.Server
	setup procSetup
	store freshtoken.Store

	client *clientCert // that the programs show; nil: none
}

func newProcWorld(t *testing.T, o oauthtest.Options, place procPlace) *procWorld {
	t.Helper()
	as := oauthtest.New(o)
	t.Cleanup(as.Start())
	return worldOf(t, as, place)
}

// worldOf is a world of a server that listens already.
func worldOf(t *testing.T, as *oauthtest.Server, place procPlace) *procWorld {
	t.Helper()
	if place.Dir == "" {
		place.Dir = canary.Dir(t, "key")
	}
	store, err := place.open()
	if err != nil {
		t.Fatal(err)
	}
	return &procWorld{t: t, as: as, store: store,
		setup: procSetup{TokenURL: as.TokenURL(), AuthURL: as.AuthURL(), API: as.APIURL("work"), Origin: as.BaseURL(), Place: place}}
}

func (w *procWorld) config() freshtoken.Config {
	return freshtoken.Config{OAuth2: w.as.OAuth2(), Store: w.store}
}

// login starts a session, as a program that then ends.
func (w *procWorld) login() *oauth2.Token {
	w.t.Helper()
	tok := w.as.Login("alice", "read", "write")
	src, err := freshtoken.New(w.config())
	if err != nil {
		w.t.Fatal(err)
	}
	if err := src.SetToken(w.t.Context(), tok); err != nil {
		w.t.Fatal(err)
	}
	if err := src.Close(); err != nil {
		w.t.Fatal(err)
	}
	return tok
}

// procRecord is what the tests know of a stored record.
type procRecord struct {
	ID           string                     `json:"id"`
	Generation   int                        `json:"generation"`
	RefreshToken string                     `json:"refresh_token"`
	AccessToken  string                     `json:"access_token"`
	Ended        *json.RawMessage           `json:"ended"`
	Mark         *procMark                  `json:"mark"`
	Derived      map[string]procAccess      `json:"derived"`
	all          map[string]json.RawMessage // with whatever else there is
}

// procAccess is an access token for a Target.
type procAccess struct {
	AccessToken string        `json:"access_token"`
	Issued      time.Time     `json:"issued"`
	Lifetime    time.Duration `json:"lifetime_ns"`
	Thumbprint  string        `json:"thumbprint"`
}

type procMark struct {
	Digest string
	At     time.Time
}

// record reads the stored session. It must be there, and whole.
func (w *procWorld) record() procRecord {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), procPatience)
	defer cancel()
	data, err := w.store.Load(ctx, freshtoken.StoreKey(w.config()))
	if err != nil {
		w.t.Fatalf("the stored session cannot be read: %v", err)
	}
	var r procRecord
	if err := json.Unmarshal(data, &r); err != nil {
		w.t.Fatalf("the stored session is no JSON: %v", err)
	}
	if err := json.Unmarshal(data, &r.all); err != nil {
		w.t.Fatal(err)
	}
	return r
}

// edit changes members of the stored record, under the session lock. That the
// lock can be had shows that no dead process holds it.
func (w *procWorld) edit(change func(map[string]json.RawMessage)) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), procPatience)
	defer cancel()
	key := freshtoken.StoreKey(w.config())
	unlock, err := w.store.Lock(ctx, key)
	if err != nil {
		w.t.Fatalf("the session's lock cannot be had: %v", err)
	}
	all := w.record().all
	change(all)
	data, err := json.Marshal(all)
	if err == nil {
		err = w.store.Save(ctx, key, data)
	}
	if uerr := unlock(); err == nil {
		err = uerr
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// shift moves the time at which the stored access token was issued.
func (w *procWorld) shift(d time.Duration) {
	w.t.Helper()
	w.edit(func(all map[string]json.RawMessage) {
		all["issued"] = jsonText(w.t, time.Now().Add(d).UTC())
	})
}

func jsonText(t *testing.T, v any) json.RawMessage {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// newest is the newest generation of the family that the server has issued.
func (w *procWorld) newest(family int) int {
	newest := 1
	for _, e := range w.as.LogOf(oauthtest.TokenEndpoint) {
		if e.Family == family {
			newest = max(newest, e.NewGeneration)
		}
	}
	return newest
}

// wantAlive fails the test unless what is stored is what the server has issued
// last, and no refresh token has been sent twice.
func (w *procWorld) wantAlive() {
	w.t.Helper()
	sent := make(map[string]int)
	for _, e := range w.as.LogOf(oauthtest.TokenEndpoint) {
		if sent[e.Presented]++; sent[e.Presented] > 1 {
			w.t.Errorf("the refresh token of generation %d was sent %d times", e.Generation, sent[e.Presented])
		}
	}
	if s := w.as.Stats(); s.Reuses+s.FamilyKills+s.InvalidGrants+s.BadRequests+s.DamagedBodies > 0 || s.PeakTokenRequests > 1 {
		w.t.Errorf("the server saw %+v", s)
	}
	if r := w.record(); !w.as.Alive(r.RefreshToken) {
		w.t.Errorf("the stored session, generation %d, is not alive at the server, whose newest is %d", r.Generation, w.newest(1))
	} else if newest := w.newest(1); r.Generation != newest {
		w.t.Errorf("generation %d is stored, the server's newest is %d", r.Generation, newest)
	}
}

// wantPosts fails the test unless the token endpoint got that many requests.
func (w *procWorld) wantPosts(want int) {
	w.t.Helper()
	if got := w.as.Stats().TokenRequests; got != want {
		w.t.Errorf("the token endpoint got %d requests, want %d", got, want)
	}
}

// eventually waits for what another process is about to do.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.After(procPatience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: nothing for %v", what, procPatience)
		}
	}
}

// A proc is a program in a process of its own, seen from outside.
type proc struct {
	t       *testing.T
	cmd     *exec.Cmd
	stdin   io.Closer
	orders  *json.Encoder
	reports chan procReport // closed at its end
	errors  bytes.Buffer    // its standard error; complete once it has been waited for
	wait    func() error
}

// start starts a program. It is killed with the test, if it has not ended.
func (w *procWorld) start(o procOrder) *proc {
	w.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	p := &proc{t: w.t, cmd: exec.Command(exe), reports: make(chan procReport, 64)}
	p.cmd.Env = append(os.Environ(), procEnv+"=1")
	if os.Getenv("GORACE") == "" {
		p.cmd.Env = append(p.cmd.Env, "GORACE=atexit_sleep_ms=0")
	}
	p.cmd.Stderr = &p.errors
	canary.Command(w.t, p.cmd)
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	p.stdin, p.orders = stdin, json.NewEncoder(stdin)
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	read := make(chan struct{})
	p.wait = sync.OnceValue(func() error {
		<-read
		return p.cmd.Wait()
	})
	w.t.Cleanup(p.kill)
	go func() {
		defer close(read)
		defer close(p.reports)
		for dec := json.NewDecoder(stdout); ; {
			var r procReport
			if dec.Decode(&r) != nil {
				return
			}
			canary.Shown(w.t, "what a program reports", r)
			p.reports <- r
		}
	}()
	if err := p.orders.Encode(w.setup); err != nil {
		w.t.Fatal(err)
	}
	o.Do = procOpen
	if r := p.do(o); r.Failed > 0 {
		w.t.Fatalf("a program could not open the session: %s", r.Error)
	}
	return p
}

// startAll starts n programs.
func (w *procWorld) startAll(n int) []*proc {
	w.t.Helper()
	all := make([]*proc, n)
	for i := range all {
		all[i] = w.start(procOrder{})
	}
	return all
}

func (p *proc) order(o procOrder) {
	p.t.Helper()
	if err := p.orders.Encode(o); err != nil {
		p.kill()
		p.t.Fatalf("a program does not take orders: %v: %s", err, &p.errors)
	}
}

// await waits for a report.
func (p *proc) await(did string) procReport {
	p.t.Helper()
	patience := time.NewTimer(procPatience)
	defer patience.Stop()
	select {
	case r, ok := <-p.reports:
		if !ok {
			p.kill()
			p.t.Fatalf("a program ended before it could report %q: %s", did, &p.errors)
		}
		if r.Did != did {
			p.t.Fatalf("a program reports %q, want %q", r.Did, did)
		}
		return r
	case <-patience.C:
		p.t.Fatalf("a program has nothing to report for %v, want %q", procPatience, did)
	}
	panic("unreachable")
}

func (p *proc) do(o procOrder) procReport {
	p.t.Helper()
	p.order(o)
	return p.await(o.Do)
}

// kill ends the process as kill -9 does, and waits for its end.
func (p *proc) kill() {
	p.cmd.Process.Kill()
	p.wait()
	p.stdin.Close()
	canary.Clean(p.t, "the standard error of a program", p.errors.Bytes())
}

// finish closes the session and ends the program. Data races it has found are
// an exit status.
func (p *proc) finish() {
	p.t.Helper()
	if r := p.do(procOrder{Do: procClose}); r.Failed > 0 {
		p.t.Errorf("Close: %s", r.Error)
	}
	p.stdin.Close()
	if err := p.wait(); err != nil {
		p.t.Errorf("a program failed: %v: %s", err, &p.errors)
	}
	if strings.Contains(p.errors.String(), "DATA RACE") {
		p.t.Errorf("a program has a data race: %s", &p.errors)
	}
}

// orderAll gives all the same order, at the same time, and collects what they
// report.
func orderAll(all []*proc, o procOrder) []procReport {
	for _, p := range all {
		p.t.Helper()
		p.order(o)
	}
	return awaitAll(all, o.Do)
}

func awaitAll(all []*proc, did string) []procReport {
	reports := make([]procReport, len(all))
	for i, p := range all {
		p.t.Helper()
		reports[i] = p.await(did)
	}
	return reports
}

func finishAll(all []*proc) {
	for _, p := range all {
		p.t.Helper()
		p.finish()
	}
}
