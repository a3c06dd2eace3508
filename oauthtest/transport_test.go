package oauthtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken/oauthtest"
)

// A watchedBody counts how often it is closed and whether it was read.
type watchedBody struct {
	io.Reader
	mu     sync.Mutex // guards closes and reads
	closes int
	reads  int
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	b.reads++
	b.mu.Unlock()
	return b.Reader.Read(p)
}

func (b *watchedBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closes++
	return nil
}

func (b *watchedBody) counts() (closes, reads int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closes, b.reads
}

func TestTransportClosesTheBody(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tt := range map[string]struct {
		fault  oauthtest.Fault
		url    string
		ctx    context.Context
		header string
		length int64
		expect bool
		unread bool
		fails  bool
	}{
		"answered":            {length: 4},
		"unknown length":      {length: -1},
		"large":               {length: 1 << 20},
		"expects to be asked": {fault: oauthtest.Unauthorized(), length: 4, expect: true, unread: true},
		"dropped":             {fault: oauthtest.Drop(), length: -1, unread: true, fails: true},
		"refused early":       {fault: oauthtest.Unauthorized(), length: -1, unread: true},
		"unsent":              {fault: oauthtest.Refuse(), length: 4, unread: true, fails: true},
		"unknown host":        {url: "https://nowhere.test/api/x", length: 4, unread: true, fails: true},
		"unknown scheme":      {url: "ftp://oauth.test/api/x", length: 4, unread: true, fails: true},
		"canceled before":     {ctx: canceled, length: 4, unread: true, fails: true},
		"bad header":          {header: "a\r\nb: c", length: 4, unread: true, fails: true},
		"wrong length":        {length: 5, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := oauthtest.New(oauthtest.Options{})
				srv.API.Next(tt.fault)
				text := "text"
				if tt.length == 1<<20 {
					text = strings.Repeat("x", 1<<20)
				}
				body := &watchedBody{Reader: strings.NewReader(text)}
				req := apiRequest(t, srv, "x", srv.Login("alice").AccessToken)
				req.Method, req.Body, req.ContentLength = "POST", body, tt.length
				if tt.url != "" {
					req.URL.Host, req.URL.Scheme = strings.Split(tt.url, "/")[2], strings.Split(tt.url, ":")[0]
				}
				if tt.ctx != nil {
					req = req.WithContext(tt.ctx)
				}
				if tt.expect {
					req.Header.Set("Expect", "100-continue")
				}
				if tt.header != "" {
					req.Header.Set("X-Odd", tt.header)
				}
				resp, err := srv.Transport().RoundTrip(req)
				if (err != nil) != tt.fails || (resp == nil) != tt.fails {
					t.Fatalf("%v, %v", resp, err)
				}
				if err == nil {
					resp.Body.Close()
				}
				synctest.Wait() // net/http too may close the body after it returned
				if closes, reads := body.counts(); closes != 1 || (reads == 0) != tt.unread {
					t.Fatalf("closed %d times, read %d times", closes, reads)
				}
			})
		})
	}
}

func TestTransportErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		var op *net.OpError
		var dns *net.DNSError
		_, err := srv.Client().Get("https://nowhere.test/")
		if !errors.As(err, &op) || op.Op != "dial" || !errors.As(err, &dns) || !dns.IsNotFound || dns.Name != "nowhere.test" {
			t.Fatalf("unknown host: %v", err)
		}
		srv.API.Next(oauthtest.Drop())
		_, err = srv.Client().Get(srv.APIURL("x"))
		if !errors.As(err, &op) || op.Op != "read" {
			t.Fatalf("dropped connection: %v", err)
		}
		cause := errors.New("the cause")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if _, err := srv.Transport().RoundTrip(apiRequest(t, srv, "x", "").WithContext(ctx)); err != cause {
			t.Fatalf("canceled: %v", err)
		}
		req := apiRequest(t, srv, "x", "secret\n")
		if _, err := srv.Transport().RoundTrip(req); err == nil || strings.Contains(err.Error(), "secret") {
			t.Fatalf("bad header: %v", err)
		}
	})
}

func TestTransportCancelWhileReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		gone := make(chan error, 1)
		srv.Handle("stream.test", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "first")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			_, err := io.WriteString(w, strings.Repeat("x", 1<<20))
			gone <- err
		}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "GET", "https://stream.test", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		start := time.Now()
		b, err := io.ReadAll(resp.Body)
		if string(b) != "first" || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Fatalf("%q %v after %v", b, err, time.Since(start))
		}
		if err := <-gone; err == nil {
			t.Fatal("the server could write to a client that has gone")
		}
	})
}

// A server that goes on regardless must not keep its client.
func TestTransportCancelWhileTheServerHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		release := make(chan struct{})
		defer close(release)
		srv.Handle("hang.test", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/flushed" {
				w.(http.Flusher).Flush()
			}
			<-release
		}))
		for _, path := range []string{"/", "/flushed"} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "GET", "https://hang.test"+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if _, err := do(srv.Client(), req); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
				t.Fatalf("%s: %v after %v", path, err, time.Since(start))
			}
		}
	})
}

func TestTransportCloseWhileWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		gone := make(chan error, 1)
		srv.Handle("stream.test:8443", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, err := w.Write(make([]byte, 1<<20))
			gone <- err
		}))
		resp, err := srv.Client().Get("https://stream.test:8443/")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, resp.Body, 10); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the server waits for room
		resp.Body.Close()
		if err := <-gone; err == nil {
			t.Fatal("the server wrote a whole body to a client that closed it")
		}
		if _, err := resp.Body.Read(make([]byte, 1)); !errors.Is(err, http.ErrBodyReadAfterClose) {
			t.Fatalf("read after close: %v", err)
		}
	})
}

func TestTransportUnblocksARequestBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		pr, pw := io.Pipe() // nobody writes
		defer pw.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		req := apiRequest(t, srv, "x", srv.Login("alice").AccessToken).WithContext(ctx)
		req.Method, req.Body, req.ContentLength = "POST", pr, -1
		if _, err := srv.Transport().RoundTrip(req); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		synctest.Wait()
		if e := last(srv); e.Outcome != oauthtest.DamagedBody || !e.AnswerWritten.IsZero() {
			t.Fatalf("log %+v", e)
		}
	})
}

func TestTransportHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		var op *net.OpError
		get := func(method string, h http.HandlerFunc) (*http.Response, string, error) {
			srv.Handle("Other.test", h)
			req, err := http.NewRequest(method, "http://other.TEST/a%2Fb?c=d", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := srv.Client().Do(req)
			if err != nil {
				return nil, "", err
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			return resp, string(b), err
		}
		resp, body, err := get("GET", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, r.Method, " ", r.Host, " ", r.RequestURI, " ", r.TLS == nil, " ", r.RemoteAddr != "")
		})
		if err != nil || body != "GET other.TEST /a%2Fb?c=d true true" || resp.ContentLength != int64(len(body)) {
			t.Errorf("GET: %q %v", body, err)
		}
		resp, body, err = get("HEAD", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "7")
			fmt.Fprint(w, "content")
		})
		if err != nil || body != "" || resp.ContentLength != 7 {
			t.Errorf("HEAD: %q %v %v", body, resp, err)
		}
		resp, body, err = get("GET", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) })
		if err != nil || body != "" || resp.StatusCode != 204 || resp.Header.Get("Content-Length") != "" {
			t.Errorf("204: %q %v %v", body, resp, err)
		}
		_, body, err = get("GET", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "short")
		})
		if body != "short" || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("less than promised: %q %v", body, err)
		}
		if _, _, err = get("GET", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }); !errors.As(err, &op) {
			t.Errorf("panic: %v", err)
		}
		if _, _, err = get("GET", func(http.ResponseWriter, *http.Request) { runtime.Goexit() }); !errors.As(err, &op) {
			t.Errorf("Goexit: %v", err)
		}
		_, body, err = get("GET", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
		if body != "half" || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("panic after flush: %q %v", body, err)
		}
	})
}

func TestTransportFollowsRedirectsOnlyAsAClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		var got []string
		srv.Handle("evil.test", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			got = append(got, r.Method+" "+string(b))
		}))
		for _, status := range []int{301, 302, 303, 307, 308} {
			srv.Token.Next(oauthtest.Redirect(status, "https://evil.test/"))
			req := formRequest(t, srv.TokenURL(), refreshForm("x"))
			resp, err := srv.Transport().RoundTrip(req)
			if err != nil || resp.StatusCode != status || resp.Header.Get("Location") != "https://evil.test/" || len(got) != 0 {
				t.Fatalf("%d: %v %v %v", status, resp, err, got)
			}
			resp.Body.Close()
		}
		srv.Token.Next(oauthtest.Redirect(307, "https://evil.test/"))
		if r, err := do(srv.Client(), formRequest(t, srv.TokenURL(), refreshForm("x"))); err != nil || r.status != 200 {
			t.Fatal(err)
		}
		if len(got) != 1 || !strings.HasPrefix(got[0], "POST client_id=client&") {
			t.Fatalf("a client that follows a 307 sends its body on: %q", got)
		}
	})
}

func TestTransportTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		var events []string
		trace := &httptrace.ClientTrace{
			GetConn:              func(hostPort string) { events = append(events, "GetConn "+hostPort) },
			GotConn:              func(httptrace.GotConnInfo) { events = append(events, "GotConn") },
			WroteHeaders:         func() { events = append(events, "WroteHeaders") },
			WroteRequest:         func(i httptrace.WroteRequestInfo) { events = append(events, fmt.Sprint("WroteRequest ", i.Err)) },
			GotFirstResponseByte: func() { events = append(events, "GotFirstResponseByte") },
		}
		ctx := httptrace.WithClientTrace(t.Context(), trace)
		const sent = "GetConn oauth.test:443, GotConn, WroteHeaders, WroteRequest <nil>"
		for _, tt := range []struct {
			fault oauthtest.Fault
			want  string
		}{
			{oauthtest.Fault{}, sent + ", GotFirstResponseByte"},
			{oauthtest.Refuse(), "GetConn oauth.test:443"},
			{oauthtest.Drop(), sent},
			{oauthtest.LoseAnswer(), sent},
		} {
			events = nil
			srv.Token.Next(tt.fault)
			do(srv.Client(), formRequest(t, srv.TokenURL(), refreshForm(srv.Login("a").RefreshToken)).WithContext(ctx))
			if got := strings.Join(events, ", "); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.fault.Name, got, tt.want)
			}
		}
		events = nil
		req, err := http.NewRequestWithContext(ctx, "POST", srv.APIURL("x"), bytes.NewReader(make([]byte, 1<<20)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+srv.Login("a").AccessToken)
		if r, err := do(srv.Client(), req); err != nil || r.status != 200 || !slices.Contains(events, "WroteRequest <nil>") {
			t.Errorf("large body: %v %v", err, events)
		}
	})
}

// The request that a client reuses must not change under it.
func TestTransportLeavesTheRequestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		srv.Handle("other.test", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("X-Mine", "changed")
			r.URL.Path = "/changed"
		}))
		req, err := http.NewRequest("GET", "https://other.test/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Mine", "as it was")
		resp, err := srv.Transport().RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if req.Header.Get("X-Mine") != "as it was" || req.URL.Path != "/x" || resp.Request != req {
			t.Fatal("the transport changed the caller's request")
		}
	})
}
