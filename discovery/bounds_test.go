package discovery_test

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken/discovery"
)

var quiet = log.New(io.Discard, "", 0)

func TestSize(t *testing.T) {
	head := `{"issuer": "https://as.test", "` + canary + `": "`
	full := head + strings.Repeat("x", discovery.MaxDocument-len(head)-2) + `"}`
	serve := func(t *testing.T, body string) error {
		web := newWeb(t)
		web.host("as.test", map[string]http.Handler{oauthForm: page{body: body}, openidForm: page{body: doc("https://as.test")}})
		_, err := discovery.Fetch(t.Context(), web.client(), "https://as.test")
		web.wantAsked("https://as.test" + oauthForm)
		return err
	}
	t.Run("R8414-3.2: a document of 1 MiB is read", func(t *testing.T) {
		if err := serve(t, full); err != nil {
			t.Error(err)
		}
	})
	t.Run("R8414-3.2: one byte more is too much", func(t *testing.T) {
		wantError(t, serve(t, full+" "), discovery.ErrInvalid, "more than 1048576 bytes")
	})
}

// chunk is a piece of JSON that may be repeated for ever.
var chunk = []byte(strings.Repeat(" ", 64<<10))

// endless answers with a JSON document without an end, or with 1 GiB of it.
// sent counts the chunks.
func endless(sent *atomic.Int64, pack bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		var out io.Writer = w
		if pack {
			if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				return
			}
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			defer z.Close()
			out = z
		}
		for range 1 << 14 {
			if _, err := out.Write(chunk); err != nil || r.Context().Err() != nil {
				return
			}
			sent.Add(1)
		}
	}
}

func TestEndlessDocuments(t *testing.T) {
	for name, pack := range map[string]bool{"plain": false, "compressed": true} {
		t.Run("R8414-3.2: an endless document is cut off, "+name, func(t *testing.T) {
			var sent atomic.Int64
			srv := tlsServer(t, endless(&sent, pack))
			client := srv.Client()
			var read atomic.Int64
			client.Transport = counting{client.Transport, &read}
			_, err := discovery.Fetch(t.Context(), client, srv.URL)
			wantError(t, err, discovery.ErrInvalid, "more than 1048576 bytes")
			srv.Close() // waits for the handler
			if n := read.Load(); n > discovery.MaxDocument+1 {
				t.Errorf("read %d bytes after decompression", n)
			}
			if n := sent.Load(); n == 0 || n == 1<<14 {
				t.Errorf("%d chunks were sent", n)
			}
		})
	}
}

// counting counts what is read of bodies.
type counting struct {
	http.RoundTripper
	n *atomic.Int64
}

func (c counting) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = countingBody{resp.Body, c.n}
	}
	return resp, err
}

type countingBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c countingBody) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// trickle sends a byte every second for an hour.
func trickle(w http.ResponseWriter, r *http.Request) {
	page{body: "{"}.ServeHTTP(w, r)
	for range 3600 {
		w.Write([]byte(" "))
		w.(http.Flusher).Flush()
		select {
		case <-time.After(time.Second):
		case <-r.Context().Done():
			return
		}
	}
}

// slow answers 404 after d.
func slow(d time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(d):
			http.NotFound(w, r)
		case <-r.Context().Done():
		}
	}
}

func TestTime(t *testing.T) {
	for name, test := range map[string]struct {
		pages map[string]http.Handler
		limit time.Duration // of the caller
		took  time.Duration
	}{
		"a body that trickles":              {pages: map[string]http.Handler{oauthForm + "/t1": http.HandlerFunc(trickle)}, took: discovery.TimeLimit},
		"no answer":                         {pages: map[string]http.Handler{oauthForm + "/t1": slow(time.Hour)}, took: discovery.TimeLimit},
		"three slow answers":                {pages: map[string]http.Handler{oauthForm + "/t1": slow(4 * time.Second), openidForm + "/t1": slow(4 * time.Second), "/t1" + openidForm: slow(4 * time.Second)}, took: discovery.TimeLimit},
		"no answer, to a hasty caller":      {pages: map[string]http.Handler{oauthForm + "/t1": slow(time.Hour)}, limit: 3 * time.Second, took: 3 * time.Second},
		"no answer, to a patient caller":    {pages: map[string]http.Handler{oauthForm + "/t1": slow(time.Hour)}, limit: time.Hour, took: discovery.TimeLimit},
		"a body that trickles, to a hasty:": {pages: map[string]http.Handler{oauthForm + "/t1": http.HandlerFunc(trickle)}, limit: 3 * time.Second, took: 3 * time.Second},
	} {
		t.Run("R8414-3.2: in time, "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				web := newWeb(t)
				web.host("as.test", test.pages)
				ctx := t.Context()
				if test.limit > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.limit)
					defer cancel()
				}
				start := time.Now()
				_, err := discovery.Fetch(ctx, web.client(), "https://as.test/t1")
				wantError(t, err, discovery.ErrUnavailable, "try again later")
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v is not the deadline's", err)
				}
				if took := time.Since(start); took != test.took {
					t.Errorf("took %v, want %v", took, test.took)
				}
			})
		})
	}
	t.Run("R8414-3.2: a caller who gives up hears no advice", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			web := newWeb(t)
			web.host("as.test", map[string]http.Handler{oauthForm: slow(time.Hour)})
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			_, err := discovery.Fetch(ctx, web.client(), "https://as.test")
			wantError(t, err, context.Canceled)
		})
	})
	t.Run("R8414-3.2: the client's own time limit holds", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			web := newWeb(t)
			web.host("as.test", map[string]http.Handler{oauthForm: slow(time.Hour)})
			client := web.client()
			client.Timeout = 2 * time.Second
			start := time.Now()
			_, err := discovery.Fetch(t.Context(), client, "https://as.test")
			wantError(t, err, discovery.ErrUnavailable, "try again later")
			if took := time.Since(start); took != client.Timeout {
				t.Errorf("took %v", took)
			}
		})
	})
}

// The trickle of a real server ends with the caller's context, too.
func TestTrickleOverSockets(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page{body: "{"}.ServeHTTP(w, r)
		w.(http.Flusher).Flush()
		cancel()
		<-r.Context().Done()
	}))
	t.Cleanup(srv.Close)
	_, err := discovery.Fetch(ctx, srv.Client(), srv.URL)
	wantError(t, err, context.Canceled)
}
