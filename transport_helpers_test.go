package freshtoken_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// rtBubble is a subtest on fake time.
func rtBubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// rtWire is a base that keeps what is sent.
type rtWire struct {
	base http.RoundTripper

	mu   sync.Mutex // guards sent
	sent []sentRequest
	idle int // calls of CloseIdleConnections
}

type sentRequest struct {
	url         string
	credentials []string // all values of Authorization, however it is spelt
	header      http.Header
}

func (w *rtWire) RoundTrip(req *http.Request) (*http.Response, error) {
	s := sentRequest{url: req.URL.String(), header: req.Header.Clone()}
	for name, values := range req.Header {
		if strings.EqualFold(name, "Authorization") {
			s.credentials = append(s.credentials, values...)
		}
	}
	w.mu.Lock()
	w.sent = append(w.sent, s)
	w.mu.Unlock()
	return w.base.RoundTrip(req)
}

func (w *rtWire) CloseIdleConnections() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.idle++
}

func (w *rtWire) requests() []sentRequest {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.sent)
}

// hops tells, for each request that was sent, where to and with what.
func (w *rtWire) hops() (out []string) {
	for _, s := range w.requests() {
		out = append(out, strings.Join(append([]string{s.url}, s.credentials...), " "))
	}
	return out
}

// rtAnswers is a base that answers without a network.
type rtAnswers func(*http.Request) *http.Response

func (f rtAnswers) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		req.Body.Close()
	}
	return f(req), nil
}

func answerOf(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
}

// wired returns a transport of the world whose base keeps what is sent.
func (w *world) wired(src *freshtoken.Source, edits ...func(*freshtoken.Transport)) (*freshtoken.Transport, *rtWire) {
	spy := &rtWire{base: w.as.Transport()}
	t := &freshtoken.Transport{Source: src, Base: spy, Origins: []string{w.as.BaseURL()}}
	for _, edit := range edits {
		edit(t)
	}
	if !t.AnyOrigin {
		spy.base = w.guarded(spy.base, t.Origins...)
	}
	return t, spy
}

// countedBody is a request body that counts its closes.
type countedBody struct {
	io.Reader

	mu     sync.Mutex // guards closes
	closes int
}

func bodyOf(text string) *countedBody { return &countedBody{Reader: strings.NewReader(text)} }

func (b *countedBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closes++
	return nil
}

func (b *countedBody) closed() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closes
}

func rtRequest(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// posting is a POST that states its body's checksum.
func posting(t *testing.T, url string, body []byte) *http.Request {
	req := rtRequest(t, http.MethodPost, url, bytes.NewReader(body))
	sum := sha256.Sum256(body)
	req.Header.Set(oauthtest.ChecksumHeader, hex.EncodeToString(sum[:]))
	return req
}

// rtFinish reads and closes an answer.
func rtFinish(t *testing.T, resp *http.Response, err error) (status int, body string) {
	t.Helper()
	if err != nil {
		t.Errorf("no answer: %v", err)
		return 0, ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("the answer's body: %v", err)
	}
	return resp.StatusCode, string(b)
}

// rtGet sends a GET that must be answered.
func rtGet(t *testing.T, client *http.Client, url string) (status int) {
	t.Helper()
	resp, err := client.Do(rtRequest(t, http.MethodGet, url, nil))
	status, _ = rtFinish(t, resp, err)
	return status
}

func rtWant[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// revoke makes the API reject what src has.
func (w *world) revoke(src *freshtoken.Source) string {
	w.t.Helper()
	tok := w.token(src).AccessToken
	w.as.RevokeAccess(tok)
	return tok
}
