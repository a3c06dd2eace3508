package freshtoken_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
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
	kind string        // "fail", "landed" (takes effect, then fails), "slow", "hang" (ignores its context) or "late" (and its process's death, too)
	wait time.Duration // for the last three
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
	past [modelAccounts][][]byte // all that was ever stored
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

// begin lets a call meet its fault. land says whether it takes effect, late
// that it does so whatever has happened meanwhile.
func (s modelStore) begin(ctx context.Context, op string) (land, late bool, err error) {
	f := s.d.draw(op)
	if f.kind != "" {
		s.d.h.note("p%d %s meets %s %v", s.p.id, op, f.kind, f.wait)
		s.d.h.diskFault(s.p.id)
	}
	late = f.kind == "late"
	if f.wait > 0 {
		alarm := time.NewTimer(f.wait)
		defer alarm.Stop()
		var given, dead <-chan struct{}
		if f.kind == "slow" {
			given = ctx.Done()
		}
		if !late {
			dead = s.p.dead.Done()
		}
		select {
		case <-alarm.C:
		case <-given:
			return false, false, ctx.Err()
		case <-dead:
		}
		if late {
			s.d.h.lands(modelLate{s.p.id, op, ctx.Err() != nil, s.p.dead.Err() != nil})
		}
	}
	switch {
	case s.p.dead.Err() != nil:
		return late && op == "save", late, errModelDead
	case f.kind == "landed":
		return true, false, errModelDisk
	case f.kind == "fail":
		return false, false, errModelDisk
	}
	return true, late, nil
}

func (s modelStore) Load(ctx context.Context, key string) ([]byte, error) {
	awaited := modelAwaited(ctx)
	value, read, failed := s.d.read(key)
	_, late, err := s.begin(ctx, "load")
	if err != nil {
		return nil, err
	}
	if !late { // otherwise it is what was there when it was asked for
		value, read, failed = s.d.read(key)
	}
	if failed == nil || errors.Is(failed, fs.ErrNotExist) {
		s.d.h.loaded(modelLoad{Proc: s.p.id, Account: s.d.keys[key], Read: read, Is: parseModelRecord(value), Late: !awaited()})
	}
	return shiftTimes(value, -s.p.skew), failed
}

// modelHang is for how long a call is waited for when its context has ended.
const modelHang = time.Second

// modelAwaited begins a call with ctx, and returns what tells, once, whether
// somebody still waits for it.
func modelAwaited(ctx context.Context) func() bool {
	ended := make(chan time.Time, 1)
	stop := context.AfterFunc(ctx, func() { ended <- time.Now() })
	return func() bool { return stop() || time.Since(<-ended) < modelHang }
}

func (s modelStore) Save(ctx context.Context, key string, value []byte) error {
	land, _, err := s.begin(ctx, "save")
	if !land {
		return err
	}
	by := ""
	if s.p.dead.Err() != nil {
		if by = "ghost"; !errors.Is(err, errModelDead) {
			return errModelDead
		}
	}
	s.d.write(s.p.id, key, shiftTimes(value, s.p.skew), by)
	return err
}

func (s modelStore) Delete(ctx context.Context, key string) error {
	land, _, err := s.begin(ctx, "delete")
	if land {
		s.d.write(s.p.id, key, nil, "")
	}
	return err
}

// read returns what is stored, and when.
func (d *modelDisk) read(key string) ([]byte, moment, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	value, err := d.inner.Load(context.Background(), key)
	return value, d.h.moment(), err
}

// write changes what is stored; nil: nothing is any more. by says who does if it
// is not the Source of a living process.
func (d *modelDisk) write(proc int, key string, value []byte, by string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if value == nil {
		d.inner.Delete(context.Background(), key)
	} else {
		d.inner.Save(context.Background(), key, value)
	}
	account := d.keys[key]
	is := parseModelRecord(value)
	d.h.saved(modelSave{Proc: proc, Account: account, Was: d.now[account], Is: is, By: by})
	d.now[account] = is
	if value != nil {
		d.past[account] = append(d.past[account], value)
	}
}

func (s modelStore) Lock(ctx context.Context, key string) (func() error, error) {
	_, late, err := s.begin(ctx, "lock")
	if err != nil {
		return nil, err
	}
	if s.d.h.doctored == "no lock" {
		return func() error { return nil }, nil
	}
	if late {
		ctx = context.Background()
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
	skew       time.Duration   // of its wall clock
	dead       context.Context // done when it has crashed or exited
	cut        context.CancelFunc
	sources    [modelAccounts]*modelSource
	narrow     [modelAccounts]*modelSource // nil: nobody wants one

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
	id := n.h.sends(modelSend{Proc: n.p.id, Account: n.account, Refresh: form.Get("refresh_token"), Scope: form.Get("scope")})
	r.Header.Set(modelSendHeader, strconv.Itoa(id))
	return func(status int, err error) { n.h.sent(id, status, err) }
}

// sign writes down a request to the API.
func (n modelNet) sign(r *http.Request) func(int, error) {
	s := modelSign{Proc: n.p.id, Account: n.account, Access: strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")}
	if tries, ok := r.Context().Value(modelTriesKey{}).(*int); ok {
		*tries++ // the caller's
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
	id, _ := strconv.Atoi(r.Header.Get(modelSendHeader))
	if f.h.foreign(id) {
		return oauthtest.Fault{Name: "#" + strconv.Itoa(id)} // nothing happens to the other program
	}
	c := f.standing
	if len(f.queue) > 0 {
		c, f.queue = f.queue[0], f.queue[1:]
	}
	f.h.drawn(id, c)
	c.fault.Name += "#" + strconv.Itoa(id)
	return c.fault
}

func (f *modelFaults) resource(*http.Request, int) oauthtest.Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.api
}
