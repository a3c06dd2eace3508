package oauthtest

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// The part of an exchange that carries the answer.

// pipeSize is how much of an answer may be on its way: about what a socket
// buffers.
const pipeSize = 64 << 10

func (x *exchange) Header() http.Header { return x.header }

func (x *exchange) WriteHeader(status int) {
	if x.status == 0 && status >= 200 {
		x.status = status
	}
}

func (x *exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	if x.bodiless() {
		return len(p), nil
	}
	x.written += int64(len(p))
	if len(x.held)+len(p) <= pipeSize {
		x.held = append(x.held, p...)
		return len(p), nil
	}
	if err := x.FlushError(); err != nil {
		return 0, err
	}
	return x.out.write(p)
}

func (x *exchange) bodiless() bool {
	return x.req.Method == http.MethodHead || x.status == http.StatusNoContent || x.status == http.StatusNotModified
}

// Flush makes what was written visible to the client.
func (x *exchange) Flush() { x.FlushError() }

// FlushError is Flush for http.ResponseController.
func (x *exchange) FlushError() error {
	if x.out == nil {
		x.makeResponse(false, 0)
		x.publish()
	}
	held := x.held
	x.held = nil
	_, err := x.out.write(held)
	return err
}

// finish ends the answer. done is called just before the client can see the
// end, and not at all if the client has gone.
func (x *exchange) finish(done func()) {
	if x.out != nil && x.out.ended() {
		return
	}
	held, fresh := x.held, x.out == nil
	x.held = nil
	if fresh {
		x.makeResponse(true, len(held))
	}
	if x.resp.ContentLength > x.written && !x.bodiless() {
		x.out.end(io.ErrUnexpectedEOF, held, nil) // less than the handler promised
	} else {
		x.out.end(io.EOF, held, done)
	}
	if fresh {
		x.publish()
	}
}

func (x *exchange) publish() {
	if x.trace != nil && x.trace.GotFirstResponseByte != nil {
		x.trace.GotFirstResponseByte()
	}
	close(x.ready)
}

// makeResponse freezes the header. A handler that is at its end without having
// flushed gets a Content-Length, as from net/http.
func (x *exchange) makeResponse(last bool, length int) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	h := x.header.Clone()
	if last && h.Get("Content-Length") == "" && !x.bodiless() {
		h.Set("Content-Length", strconv.Itoa(length))
	}
	size := int64(-1)
	if n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		size = n
	}
	x.out = &pipe{
		ctx: x.req.Context(), server: x.serverCtx, hangUp: x.cancel,
		more: make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
	x.resp = &http.Response{
		Status:     strconv.Itoa(x.status) + " " + http.StatusText(x.status),
		StatusCode: x.status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: x.out, ContentLength: size, Request: x.req,
	}
	if x.req.URL.Scheme == "https" {
		x.resp.TLS = tlsState()
	}
}

// A pipe carries an answer's body. It holds up to pipeSize bytes; a writer
// waits for room, a reader for bytes.
type pipe struct {
	ctx    context.Context // the client's
	server context.Context // done when the client has gone
	hangUp func()          // ends server

	mu     sync.Mutex // guards buf, off, err and closed; never held while blocking
	buf    []byte     // reused, not regrown: a long stream makes no garbage
	off    int        // what lies before has been read
	err    error      // what follows buf; nil: the writer is not done
	closed bool       // by the reader

	more, room chan struct{} // one pending signal each
}

func (p *pipe) Read(b []byte) (int, error) {
	for {
		if p.ctx.Err() != nil {
			return 0, context.Cause(p.ctx)
		}
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return 0, http.ErrBodyReadAfterClose
		}
		if p.off < len(p.buf) {
			n := copy(b, p.buf[p.off:])
			p.off += n
			p.mu.Unlock()
			signal(p.room)
			return n, nil
		}
		err := p.err
		p.mu.Unlock()
		if err != nil {
			return 0, err
		}
		select {
		case <-p.more:
		case <-p.ctx.Done():
		}
	}
}

// Close tells the server that the client has gone, unless the answer is whole.
func (p *pipe) Close() error {
	p.mu.Lock()
	p.closed = true
	p.buf, p.off = nil, 0
	p.mu.Unlock()
	p.hangUp()
	signal(p.more)
	return nil
}

func (p *pipe) write(b []byte) (int, error) {
	total := 0
	for len(b) > 0 {
		if p.server.Err() != nil {
			return total, io.ErrClosedPipe
		}
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return total, io.ErrClosedPipe
		}
		p.compact()
		n := min(len(b), max(pipeSize-len(p.buf), 0))
		p.buf = append(p.buf, b[:n]...)
		p.mu.Unlock()
		b, total = b[n:], total+n
		if n > 0 {
			signal(p.more)
			continue
		}
		select {
		case <-p.room:
		case <-p.server.Done():
		}
	}
	return total, nil
}

// end appends the last bytes and what follows them.
func (p *pipe) end(err error, last []byte, done func()) {
	p.mu.Lock()
	if p.err == nil {
		if done != nil && !p.closed && p.server.Err() == nil && p.ctx.Err() == nil {
			done()
		}
		p.compact()
		p.buf = append(p.buf, last...)
		p.err = err
	}
	p.mu.Unlock()
	signal(p.more)
}

// compact moves what is unread to the front. It is called with mu held.
func (p *pipe) compact() {
	if p.off > 0 {
		p.buf = p.buf[:copy(p.buf, p.buf[p.off:])]
		p.off = 0
	}
}

func (p *pipe) ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err != nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
