package oauthtest

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"
)

// A Fault says how one request goes wrong. The zero value is no fault. Fields
// combine; they act in the order in which they stand here. The functions of
// this package that return a Fault are starting points: set further fields of
// what they return.
type Fault struct {
	// Name appears in the log.
	Name string

	// Unsent makes the in-memory transport fail like a refused connection:
	// the server does not see the request, though the log has it. A real
	// listener cannot do that and treats it as DropBefore.
	Unsent bool

	// Delay passes before anything else. It passes in full, and the request
	// is processed, even if the client has gone: a slow server commits what
	// nobody waits for any more. Only the stop function of Start cuts it, and
	// drops the request.
	Delay time.Duration

	// Before is called before processing: a place to hold the request. At
	// the endpoints for forms the request has arrived whole by then. ctx ends
	// when the client goes away or the listener stops. A non-nil error drops the
	// connection unprocessed.
	Before func(ctx context.Context) error

	// DropBefore drops the connection without processing the request.
	DropBefore bool

	// Status, if not 0, gives a canned answer of Status, Header, Body and
	// Stream. By default it stands instead of any processing.
	Status int
	Header http.Header
	Body   string

	// Stream writes what follows the body. The answer has no Content-Length
	// then. A write fails once the client has gone; Stream must return then.
	// It also follows an answer that is not canned.
	Stream func(ctx context.Context, w io.Writer) error

	// Process makes the server process the request before the canned answer
	// replaces its own: the refresh token or code is spent.
	Process bool

	// OnlyRefused makes the server process the request, and lets the fault
	// go on from here only if the token was refused: invalid_grant (or
	// expired_token) at the token endpoint, a 401 at the API for a token that
	// is not live or for another resource. It changes how a server words its
	// refusal, not what it refuses.
	OnlyRefused bool

	// Deny, if not empty, is the error code with which the authorization
	// endpoint sends the browser back, without a code, although the request
	// is good. Other endpoints do not look at it.
	Deny string

	// Edit changes a successful answer (2xx) of the server after processing,
	// and at the authorization endpoint the redirect that carries a code or
	// that Deny makes; with OnlyRefused it changes a refusal. A canned answer
	// is not edited.
	Edit func(*Answer)

	// AfterDelay passes between processing and answer. Like Delay it passes
	// in full.
	AfterDelay time.Duration

	// AfterCommit is called between processing and answer: a place to hold
	// the answer of a request that has taken effect. A non-nil error drops
	// the connection.
	AfterCommit func(ctx context.Context) error

	// DropAfter drops the connection after processing: the answer is lost.
	DropAfter bool

	// RetryAfter, if not empty, is the answer's Retry-After header.
	RetryAfter string

	// Truncate, if not 0, cuts the answer's body after that many bytes and
	// drops the connection; -1 cuts after the header.
	Truncate int
}

func (f *Fault) none() bool {
	return f.Name == "" && !f.Unsent && f.Delay == 0 && f.Before == nil && !f.DropBefore &&
		f.Status == 0 && f.Stream == nil && f.Deny == "" && f.Edit == nil && f.AfterDelay == 0 &&
		f.AfterCommit == nil && !f.DropAfter && f.RetryAfter == "" && f.Truncate == 0
}

// IfRefused returns the fault with OnlyRefused set.
func (f Fault) IfRefused() Fault {
	f.OnlyRefused = true
	return f
}

// AfterProcessing returns the fault with Process set.
func (f Fault) AfterProcessing() Fault {
	f.Process = true
	return f
}

// Faults decides which requests of one endpoint go wrong, and how. The zero
// value lets all go well. Its methods are safe for concurrent use.
//
// For each request, in order of arrival, the first of these that has a fault
// decides: the queue of Next, the function of Func, the standing fault of
// Always.
type Faults struct {
	mu     sync.Mutex // guards all below
	queue  []Fault
	decide func(*http.Request, int) Fault
	always Fault
	n      int
}

// Next appends to the queue of faults, one for each of the next requests. The
// zero Fault lets its request go well, whatever Func and Always say.
func (q *Faults) Next(f ...Fault) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = append(q.queue, f...)
}

// Always sets the fault of all requests that nothing else decides; the zero
// Fault ends that.
func (q *Faults) Always(f Fault) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.always = f
}

// Func sets a function that decides for each request; nil ends that. n counts
// the endpoint's requests from 1, those before Func included. A zero Fault
// leaves the request to Always. The calls come one at a time, in the order of
// n. decide must not block, read the request's body, or call methods of the same
// Faults.
func (q *Faults) Func(decide func(r *http.Request, n int) Fault) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.decide = decide
}

// Clear ends all faults, those in the queue included.
func (q *Faults) Clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue, q.decide, q.always = nil, nil, Fault{}
}

// Queued returns how many faults of Next no request has met yet.
func (q *Faults) Queued() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue)
}

func (q *Faults) draw(r *http.Request) Fault {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.n++
	if len(q.queue) > 0 {
		f := q.queue[0]
		q.queue[0] = Fault{}
		q.queue = q.queue[1:]
		return f
	}
	if q.decide != nil {
		if f := q.decide(r, q.n); !f.none() {
			return f
		}
	}
	return q.always
}

// A Gate holds requests until it is opened. Its method Hold is made to be a
// Fault's Before or AfterCommit. In a synctest bubble, make it in the bubble.
type Gate struct {
	once    sync.Once
	opened  chan struct{}
	arrived chan struct{} // one element for each request that arrives
}

// NewGate returns a closed gate.
func NewGate() *Gate {
	return &Gate{opened: make(chan struct{}), arrived: make(chan struct{}, 1<<16)}
}

// Hold blocks until the gate is open or ctx is done, and returns the context's
// error in that case.
func (g *Gate) Hold(ctx context.Context) error {
	select {
	case g.arrived <- struct{}{}:
	default: // nobody counts so many
	}
	select {
	case <-g.opened:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Arrived yields one value for each request that has come to the gate.
func (g *Gate) Arrived() <-chan struct{} { return g.arrived }

// Open lets all requests pass, those to come included. It may be called again.
func (g *Gate) Open() { g.once.Do(func() { close(g.opened) }) }
