package oauthtest

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// A call is one request on its way through the server.
type call struct {
	s        *Server
	w        http.ResponseWriter
	r        *http.Request
	endpoint Endpoint
	fault    Fault
	client   string // the client that was authenticated
	entry    *Entry // in s.entries; written under s.mu
	body     []byte // of a form, up to maxForm+1 bytes
	bodyErr  error
	left     bool // no longer counted in s.busy; guarded by s.mu
}

// serve takes the request through the stages that Fault describes.
func (c *call) serve() {
	c.arrive()
	defer c.leave()
	ctx, f := c.r.Context(), &c.fault

	switch c.endpoint {
	case TokenEndpoint, RevocationEndpoint, DeviceEndpoint, PushedEndpoint:
		// Whatever holds the request holds one that has arrived whole. It is
		// only now that net/http notices a client that goes away.
		c.body, c.bodyErr = io.ReadAll(io.LimitReader(c.r.Body, maxForm+1))
	}
	if !c.wait(f.Delay) || f.Before != nil && f.Before(ctx) != nil || f.DropBefore || f.Unsent {
		c.dropUnprocessed()
	}
	a := c.answer()
	if !c.wait(f.AfterDelay) || f.AfterCommit != nil && f.AfterCommit(ctx) != nil || f.DropAfter {
		c.drop()
	}
	if f.RetryAfter != "" {
		a.Header.Set("Retry-After", f.RetryAfter)
	}
	c.write(&a)
}

// answer processes the request, unless a canned answer stands instead.
func (c *call) answer() Answer {
	f := &c.fault
	if f.Status != 0 && !f.Process && !f.OnlyRefused {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		c.entry.Outcome = Canned
		c.s.stats.Canned++
		return f.canned()
	}
	var a Answer
	switch c.endpoint {
	case TokenEndpoint:
		a = c.token()
	case RevocationEndpoint:
		a = c.revoke()
	case APIEndpoint:
		a = c.api()
	case AuthorizationEndpoint:
		a = c.authorization()
	case DeviceEndpoint:
		a = c.device()
	case PushedEndpoint:
		a = c.pushed()
	case MetadataEndpoint:
		a = c.metadata()
	case KeysEndpoint:
		a = c.keys()
	default:
		a = c.login()
	}
	if f.OnlyRefused && !c.entry.refused() {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		c.fault, c.entry.Fault = Fault{}, ""
		return a
	}
	if f.Status != 0 {
		return f.canned()
	}
	if f.Edit != nil && (f.OnlyRefused || a.Status/100 == 2 || c.entry.sentBack()) {
		f.Edit(&a)
	}
	if f.Stream != nil {
		a.Stream = f.Stream
	}
	return a
}

// refused reports whether the token was the reason of a refusal. Only the
// call's own goroutine may ask without the lock.
func (e *Entry) refused() bool {
	switch e.Outcome {
	case Reuse, FamilyDead, Expired, Mismatch, InvalidToken, WrongAudience:
		return true
	case UnknownToken:
		return e.Endpoint == TokenEndpoint
	}
	return false
}

// sentBack reports whether a browser was sent back to the client with the
// outcome of a login. As for refused, only the call's own goroutine may ask.
func (e *Entry) sentBack() bool {
	return e.Endpoint == AuthorizationEndpoint && (e.Outcome == CodeIssued || e.Outcome == Denied)
}

func (f *Fault) canned() Answer {
	h := f.Header.Clone()
	if h == nil {
		h = http.Header{}
	}
	return Answer{Status: f.Status, Header: h, Raw: []byte(f.Body), Stream: f.Stream}
}

func (c *call) arrive() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.entry = c.s.newEntry(c.endpoint, c.r, &c.fault)
	switch c.endpoint {
	case TokenEndpoint:
		c.s.stats.TokenRequests++
		c.s.busy++
		c.s.stats.PeakTokenRequests = max(c.s.stats.PeakTokenRequests, c.s.busy)
	case RevocationEndpoint:
		c.s.stats.RevocationRequests++
	case APIEndpoint:
		c.s.stats.APIRequests++
	case AuthorizationEndpoint:
		c.s.stats.AuthorizationRequests++
	case DeviceEndpoint:
		c.s.stats.DeviceRequests++
	case PushedEndpoint:
		c.s.stats.PushedRequests++
	case MetadataEndpoint:
		c.s.stats.MetadataRequests++
	}
}

func (c *call) leave() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.uncount()
	if c.entry.AnswerWritten.IsZero() && !c.entry.Dropped {
		c.s.stats.AnswersNotWritten++
	}
}

// uncount ends the request's part in PeakTokenRequests. It comes before the
// client can know of the end, so that requests which follow each other never
// count as concurrent. It is called with s.mu held.
func (c *call) uncount() {
	if c.endpoint == TokenEndpoint && !c.left {
		c.left = true
		c.s.busy--
	}
}

// newEntry is called with s.mu held.
func (s *Server) newEntry(ep Endpoint, r *http.Request, f *Fault) *Entry {
	e := &Entry{
		ID: len(s.entries) + 1, Endpoint: ep, Method: r.Method, Path: r.URL.Path,
		Arrived: time.Now(), Outcome: Pending, Fault: f.Name,
	}
	s.entries = append(s.entries, e)
	return e
}

// decide notes an outcome as the next one in the order of effects. It is called
// with s.mu held.
func (c *call) decide(o Outcome) {
	c.s.order++
	c.entry.Order = c.s.order
	c.entry.Decided = time.Now()
	c.entry.Outcome = o
}

// refuse notes a request that breaks a rule. It is called with s.mu held.
func (c *call) refuse(o Outcome, detail string) {
	c.decide(o)
	c.entry.Detail = detail
	if o == BadRequest {
		c.s.stats.BadRequests++
	}
}

// wait passes the time d. It does not end with the request's context: see
// Fault.Delay. It reports false if the listener was stopped meanwhile.
func (c *call) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	stop, _ := c.r.Context().Value(stopKey{}).(<-chan struct{})
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-stop:
		return false
	}
}

func (c *call) dropUnprocessed() {
	c.s.mu.Lock()
	c.entry.Outcome = DroppedBefore
	c.s.mu.Unlock()
	c.drop()
}

// drop ends the connection without an answer: by a reset where there is a
// socket, by net/http's own means elsewhere. It does not return.
func (c *call) drop() {
	c.s.mu.Lock()
	c.entry.Dropped = true
	c.s.stats.Dropped++
	c.uncount()
	c.s.mu.Unlock()
	if conn, _, err := http.NewResponseController(c.w).Hijack(); err == nil {
		under := conn
		if over, ok := conn.(*tls.Conn); ok {
			under = over.NetConn()
		}
		if tcp, ok := under.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		conn.Close()
	}
	panic(http.ErrAbortHandler)
}

// A finisher can end an answer and report it in one step that nobody can
// observe half done. The in-memory transport's writer is one.
type finisher interface {
	finish(done func())
}

// write sends a. The answer comes by pointer, and not only because it is large:
// a value of this size lies on the stack at the very place where the frame of
// serve ends, and a panic keeps a pointer to that place while serve's deferred
// call runs. The collector then takes a value that is long dead for a live one,
// and stops the program with "found pointer to free object" (seen with Go 1.26).
func (c *call) write(a *Answer) {
	body := a.body()
	h := c.w.Header()
	for k, v := range a.Header {
		h[k] = v
	}
	c.s.mu.Lock()
	c.entry.Status = a.Status
	c.s.mu.Unlock()
	if a.Stream == nil {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	c.w.WriteHeader(a.Status)
	out := io.Writer(c.w)
	if n := c.fault.Truncate; n != 0 {
		out = &truncator{w: c.w, left: max(n, 0)}
	}
	_, err := out.Write(body)
	if err == nil && a.Stream != nil {
		fw := flushWriter{out, http.NewResponseController(c.w)}
		if _, err = fw.Write(nil); err == nil { // the header does not wait for the stream
			err = a.Stream(c.r.Context(), fw)
		}
	}
	switch {
	case errors.Is(err, errTruncated):
		c.s.mu.Lock()
		c.entry.Dropped = true
		c.s.stats.Dropped++
		c.uncount()
		c.s.mu.Unlock()
		http.NewResponseController(c.w).Flush()
		panic(http.ErrAbortHandler)
	case err != nil:
		panic(http.ErrAbortHandler)
	}
	c.finish()
}

// finish hands the last bytes to the connection. On a socket the time is noted
// first and withdrawn if the write fails: a client that has the whole answer
// finds it noted.
func (c *call) finish() {
	if f, ok := c.w.(finisher); ok {
		f.finish(func() { c.written(time.Now()) })
		return
	}
	c.written(time.Now())
	if err := http.NewResponseController(c.w).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		c.written(time.Time{})
	}
}

func (c *call) written(t time.Time) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.entry.AnswerWritten = t
	c.uncount()
}

var errTruncated = errors.New("oauthtest: answer truncated by a fault")

type truncator struct {
	w    io.Writer
	left int
}

func (t *truncator) Write(p []byte) (int, error) {
	if len(p) < t.left {
		n, err := t.w.Write(p)
		t.left -= n
		return n, err
	}
	n, err := t.w.Write(p[:t.left])
	t.left -= n
	if err == nil {
		err = errTruncated
	}
	return n, err
}

// A flushWriter sends every write at once, so that a stream arrives as it is
// made.
type flushWriter struct {
	io.Writer
	rc *http.ResponseController
}

func (f flushWriter) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	if err != nil {
		return n, err
	}
	if err := f.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return n, err
	}
	return n, nil
}

// sleep is for streams: it passes d unless the client goes away.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
