package endpoint

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
)

// A body is the form of one request. It is handed out once, because it holds
// what a server may not see twice, and it remembers whether it was.
//
// HTTP transports repeat requests by themselves: net/http does so where HTTP/2
// streams are reset with REFUSED_STREAM and with PROTOCOL_ERROR, which says
// nothing about what the server has done, and after some GOAWAYs. A transport
// may try another connection as long as nobody has read the form, for then
// nobody has sent it, and not afterwards.
type body struct {
	form string

	mu    sync.Mutex // guards what follows
	taken bool       // somebody has read of it
	ended bool       // nobody may any more
}

var (
	errTaken = errors.New("the request was broken off, and is not sent again")
	errEnded = errors.New("the request is over")
)

// over lets a transport have the form anew, as far as it may have it.
// http.Client is not told: it would ask at each redirect, before it asks whether
// to follow.
func (b *body) over(next http.RoundTripper) http.RoundTripper {
	if next == nil {
		next = http.DefaultTransport
	}
	return sender(func(req *http.Request) (*http.Response, error) {
		again := *req
		again.GetBody = b.reader
		return next.RoundTrip(&again)
	})
}

type sender func(*http.Request) (*http.Response, error)

func (s sender) RoundTrip(req *http.Request) (*http.Response, error) { return s(req) }

// reader returns the form from its beginning.
func (b *body) reader() (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.taken || b.ended {
		return nil, errTaken
	}
	return &bodyReader{body: b, rest: strings.NewReader(b.form)}, nil
}

// end reports whether anybody has read of the form. From now on nobody does:
// some transports return before they have let go of the request.
func (b *body) end() (taken bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	return b.taken
}

type bodyReader struct {
	body   *body
	rest   *strings.Reader // guarded by body.mu
	closed bool            // guarded by body.mu
}

func (r *bodyReader) Read(p []byte) (int, error) {
	r.body.mu.Lock()
	defer r.body.mu.Unlock()
	if r.closed || r.body.ended {
		return 0, errEnded
	}
	n, err := r.rest.Read(p)
	r.body.taken = r.body.taken || n > 0
	return n, err
}

func (r *bodyReader) Close() error {
	r.body.mu.Lock()
	defer r.body.mu.Unlock()
	r.closed = true
	return nil
}
