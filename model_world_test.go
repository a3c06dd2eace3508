package freshtoken_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
)

// The ground on which the model's processes stand: a disk and a network that
// fail to order, that write down what crosses them, and from which a process can
// be cut off for good, as a crash does.

var (
	errModelDisk = errors.New("the disk fails")
	errModelDead = errors.New("this process is dead")
)

// A diskFault is what goes wrong with one call to the store.
type diskFault struct {
	kind string        // "fail", "landed" (takes effect, then fails), "slow" or "hang" (ignores its context)
	wait time.Duration // for "slow" and "hang"
}

// modelDisk is the store that all processes share.
type modelDisk struct {
	h     *modelHistory
	inner *storage.Memory
	keys  map[string]int // account by key; not changed after the start

	mu   sync.Mutex             // guards what follows, and makes a save and its record one step
	next map[string][]diskFault // for the next calls, by "load", "save" and "lock"
	down bool                   // all calls but unlocks fail
	now  [modelAccounts]modelRecord
}

func (d *modelDisk) draw(op string) diskFault {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.down {
		return diskFault{kind: "fail"}
	}
	q := d.next[op]
	if len(q) == 0 {
		return diskFault{}
	}
	d.next[op] = q[1:]
	return q[0]
}

func (d *modelDisk) record(account int) modelRecord {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now[account]
}

// modelStore is the disk as one process sees it.
type modelStore struct {
	d *modelDisk
	p *modelProcess
}

// begin lets a call meet its fault. land says whether it takes effect.
func (s modelStore) begin(ctx context.Context, op string) (land bool, err error) {
	f := s.d.draw(op)
	if f.kind != "" {
		s.d.h.note("p%d %s meets %s %v", s.p.id, op, f.kind, f.wait)
		s.d.h.diskFault(s.p.id)
	}
	if f.wait > 0 {
		alarm := time.NewTimer(f.wait)
		defer alarm.Stop()
		var given <-chan struct{}
		if f.kind == "slow" {
			given = ctx.Done()
		}
		select {
		case <-alarm.C:
		case <-given:
			return false, ctx.Err()
		case <-s.p.dead.Done():
		}
	}
	switch {
	case s.p.dead.Err() != nil:
		return false, errModelDead
	case f.kind == "landed":
		return true, errModelDisk
	case f.kind == "fail":
		return false, errModelDisk
	}
	return true, nil
}

func (s modelStore) Load(ctx context.Context, key string) ([]byte, error) {
	if _, err := s.begin(ctx, "load"); err != nil {
		return nil, err
	}
	return s.d.inner.Load(context.Background(), key)
}

func (s modelStore) Save(ctx context.Context, key string, value []byte) error {
	land, err := s.begin(ctx, "save")
	if !land {
		return err
	}
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if s.p.dead.Err() != nil {
		return errModelDead
	}
	if err := s.d.inner.Save(context.Background(), key, value); err != nil {
		return err
	}
	account := s.d.keys[key]
	is := parseModelRecord(value)
	s.d.h.saved(modelSave{Proc: s.p.id, Account: account, Was: s.d.now[account], Is: is})
	s.d.now[account] = is
	return err
}

func (s modelStore) Delete(context.Context, string) error { return errors.New("nobody deletes") }

func (s modelStore) Lock(ctx context.Context, key string) (func() error, error) {
	if _, err := s.begin(ctx, "lock"); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.p.dead, cancel)()
	unlock, err := s.d.inner.Lock(ctx, key)
	if err != nil {
		return nil, err
	}
	return s.p.holds(unlock)
}

// modelProcess is one program: a Source for each account, and what connects it
// with the world.
type modelProcess struct {
	id, slot   int
	background bool
	dead       context.Context // done when it has crashed or exited
	cut        context.CancelFunc
	sources    [modelAccounts]*modelSource

	mu    sync.Mutex // guards locks
	locks map[int]func() error
	n     int
}

// holds takes note of a lock, which the process's death frees.
func (p *modelProcess) holds(unlock func() error) (func() error, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead.Err() != nil {
		unlock()
		return nil, errModelDead
	}
	p.n++
	n := p.n
	p.locks[n] = unlock
	return func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if free := p.locks[n]; free != nil {
			delete(p.locks, n)
			return free()
		}
		return errModelDead
	}, nil
}

// die cuts the process off.
func (p *modelProcess) die() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
	for n, free := range p.locks {
		delete(p.locks, n)
		free()
	}
}

// modelNet is the network as one Source and its Transport see it.
type modelNet struct {
	p       *modelProcess
	account int
	h       *modelHistory
	inner   http.RoundTripper
}

const modelSendHeader = "X-Model-Send"

func (n modelNet) RoundTrip(req *http.Request) (*http.Response, error) {
	if n.p.dead.Err() != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, errModelDead
	}
	ctx, cancel := context.WithCancel(req.Context())
	stop := context.AfterFunc(n.p.dead, cancel)
	end := func() { stop(); cancel() }
	r := req.Clone(ctx)
	var done func(status int, err error)
	switch {
	case req.URL.Path == "/token":
		done = n.send(r)
	case strings.HasPrefix(req.URL.Path, "/api/"):
		done = n.sign(r)
	default:
		done = func(int, error) {}
	}
	resp, err := n.inner.RoundTrip(r)
	if err != nil {
		done(0, err)
		end()
		return nil, err
	}
	done(resp.StatusCode, nil)
	resp.Body = modelBody{resp.Body, end}
	resp.Request = req
	return resp, nil
}

// send writes down a request to the token endpoint.
func (n modelNet) send(r *http.Request) func(int, error) {
	raw, _ := io.ReadAll(r.Body)
	r.Body.Close()
	r.Body = io.NopCloser(strings.NewReader(string(raw)))
	form, _ := url.ParseQuery(string(raw))
	id := n.h.sends(modelSend{Proc: n.p.id, Account: n.account, Refresh: form.Get("refresh_token")})
	r.Header.Set(modelSendHeader, strconv.Itoa(id))
	return func(status int, err error) { n.h.sent(id, status, err) }
}

// sign writes down a request to the API.
func (n modelNet) sign(r *http.Request) func(int, error) {
	s := modelSign{Proc: n.p.id, Account: n.account, Access: strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")}
	if tries, ok := r.Context().Value(modelTriesKey{}).(*int); ok {
		*tries++
		s.Replay = *tries > 1
	}
	id := n.h.signs(s)
	return func(status int, err error) { n.h.signed(id, status, err) }
}

// modelTriesKey is the context key of how often a request was sent.
type modelTriesKey struct{}

type modelBody struct {
	io.ReadCloser
	end func()
}

func (b modelBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

// classed is a fault of the token endpoint and what it means.
type classed struct {
	class string // "", "definite", "unknown", "lost", "bad", "ended", "refused" or "config"
	fault oauthtest.Fault
}

// modelFaults makes the endpoints misbehave.
type modelFaults struct {
	h *modelHistory

	mu       sync.Mutex // guards what follows
	queue    []classed  // for the next requests at the token endpoint
	standing classed    // for the others
	api      oauthtest.Fault
}

func (f *modelFaults) set(edit func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	edit()
}

func (f *modelFaults) token(r *http.Request, _ int) oauthtest.Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.standing
	if len(f.queue) > 0 {
		c, f.queue = f.queue[0], f.queue[1:]
	}
	id, _ := strconv.Atoi(r.Header.Get(modelSendHeader))
	f.h.drawn(id, c)
	c.fault.Name += "#" + strconv.Itoa(id)
	return c.fault
}

func (f *modelFaults) resource(*http.Request, int) oauthtest.Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.api
}
