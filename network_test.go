package freshtoken_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"testing"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// Without flags a share of the bytes is cut, each in one of the ways.
var (
	networkStride = flag.Int("network.stride", 7, "cut at each n-th byte of a connection")
	networkAll    = flag.Bool("network.all", false, "cut in all ways at each byte, not in one of them")
)

// A network is a strict server, a session that needs a refresh, and what lies
// between the two.
type network struct {
	t     *testing.T
	as    *oauthtest.Server
	store *journal
	seen  recorder

	// by is the way that each attempt takes; the last one serves all others.
	by       []http.RoundTripper
	tokenURL string

	narrow bool        // what is asked for is an access token of a Target, while the session's own is good
	client *clientCert // that the client has to show; nil: none

	login    *oauth2.Token
	attempts int // requests that the library has made. The flight holds it; read when none is under way.
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	as := oauthtest.New(oauthtest.Options{})
	return &network{t: t, as: as, store: &journal{Store: storage.NewMemory()}, tokenURL: as.TokenURL()}
}

// attemptHeader numbers the requests that the library makes. What a transport
// repeats by itself keeps its number.
const attemptHeader = "X-Attempt"

// RoundTrip implements http.RoundTripper for the client of the token endpoint.
func (n *network) RoundTrip(req *http.Request) (*http.Response, error) {
	way := n.by[min(n.attempts, len(n.by)-1)]
	n.attempts++
	req = req.Clone(req.Context())
	req.Header.Set(attemptHeader, strconv.Itoa(n.attempts))
	return way.RoundTrip(req)
}

// inMemory takes a request to the server without any network.
type inMemory struct{ as *oauthtest.Server }

// direct takes a request of n's client to its server without any network.
func (n *network) direct() http.RoundTripper {
	if n.client == nil {
		return inMemory{n.as}
	}
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		req = req.Clone(req.Context())
		u, err := url.Parse(n.as.TokenURL())
		if err != nil {
			return nil, err
		}
		req.URL, req.Host = u, u.Host
		return n.client.transport(n.as).RoundTrip(req)
	})
}

func (m inMemory) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	u, err := url.Parse(m.as.TokenURL())
	if err != nil {
		return nil, err
	}
	req.URL, req.Host = u, u.Host
	return m.as.Transport().RoundTrip(req)
}

// An outcome is what the library has made of the first attempt of a refresh, and
// of what came then.
type outcome struct {
	class string
	first *freshtoken.RefreshError // of the first attempt; nil: it succeeded
	saved savedRecord              // after the first attempt
	err   error                    // of the whole call
	tok   *oauth2.Token
	next  error // of the call after that, if err was not the end
}

// What the library can make of an attempt.
const (
	unsent   = "unsent"   // the refresh token was not sent
	unknown  = "unknown"  // it may have been spent
	done     = "done"     // the answer is used
	salvaged = "salvaged" // the refresh token of a broken answer is used
	refused  = "refused"  // there was a whole answer, which says no
)

// noPause takes the randomness out of the pause after a failure, and the pause
// with it: see backoff.
func noPause() float64 { return -1.0 / 9 }

// refresh has a new program refresh the session of a new login.
func (n *network) refresh() outcome {
	n.t.Helper()
	o := n.as.OAuth2()
	o.Endpoint.TokenURL = n.tokenURL
	cfg := freshtoken.Config{OAuth2: o, Store: n.store, HTTPClient: &http.Client{Transport: n}, OnEvent: n.seen.receive}
	if n.client != nil {
		cfg.ClientAuth = n.client.auth
	}
	src, err := freshtoken.NewWithRandom(cfg, noPause)
	if err != nil {
		n.t.Fatal(err)
	}
	defer src.Close()
	n.login = n.as.Login("alice", "read", "write")
	begin := &oauth2.Token{RefreshToken: n.login.RefreshToken}
	if n.narrow {
		begin = n.login
	}
	if err := src.SetToken(context.Background(), begin); err != nil {
		n.t.Fatal(err)
	}
	if n.narrow {
		if src, err = src.For(reading); err != nil {
			n.t.Fatal(err)
		}
	}
	var out outcome
	out.tok, out.err = src.Token(n.t.Context())
	if out.err != nil && !errors.Is(out.err, freshtoken.ErrSessionEnded) {
		out.tok, out.next = src.Token(n.t.Context())
	}
	if err := src.Close(); err != nil { // delivers the events, too
		n.t.Error(err)
	}
	out.first = n.seen.firstFailure()
	out.saved = n.store.afterMark(n.t)
	out.class = out.classify(n.login.RefreshToken)
	return out
}

func (o *outcome) classify(sent string) string {
	switch {
	case o.first == nil:
		return done
	case o.first.OutcomeUnknown:
		return unknown
	case o.saved.RefreshToken != sent:
		return salvaged
	case o.first.Status != 0:
		return refused
	}
	return unsent
}

// check compares what the library has made of an attempt with what the server
// has made of it: committed says whether the refresh token was spent.
func (n *network) check(o outcome, committed bool) {
	n.t.Helper()
	fail := func(format string, args ...any) {
		n.t.Helper()
		n.t.Errorf("%s, committed=%v: "+format+"\nfirst attempt: %v\ncall: %v\nnext: %v", append(append([]any{o.class, committed}, args...), o.first, o.err, o.next)...)
	}
	if marked := o.saved.Mark != nil; marked != (o.class == unknown) {
		fail("the record has a mark: %v", marked)
	}
	if o.class != done && (!o.first.Temporary && o.class != refused || errors.Is(o.first, freshtoken.ErrSessionEnded)) {
		fail("%#v", o.first)
	}
	switch {
	case (o.class == unsent || o.class == refused) && committed:
		fail("the refresh token was spent")
	case (o.class == done || o.class == salvaged) && !committed:
		fail("the refresh token was not spent")
	case o.class == unknown && committed:
		e := new(freshtoken.RefreshError)
		if !errors.As(o.err, &e) || !errors.Is(o.err, freshtoken.ErrSessionEnded) || e.Interrupted.IsZero() {
			fail("the session has not ended by an interruption")
		}
		return
	case o.tok == nil || !n.as.AccessAlive(o.tok.AccessToken):
		fail("the session does not go on")
	}
	if s := n.as.Stats(); s.Reuses != 0 {
		fail("a spent refresh token was shown")
	}
	if last := n.store.last(n.t); last.Mark != nil || !n.as.Alive(last.RefreshToken) {
		fail("the record at the end is not that of a live session")
	}
}

// firstFailure is that of the first attempt that failed.
func (r *recorder) firstFailure() *freshtoken.RefreshError {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ev := range r.events {
		e := new(freshtoken.RefreshError)
		switch {
		case ev.Kind == freshtoken.EventRefreshed:
			return nil
		case errors.As(ev.Err, &e):
			return e
		}
	}
	return nil
}

// A journal is a Store that remembers what was saved.
type journal struct {
	freshtoken.Store

	mu    sync.Mutex // guards saves
	saves [][]byte
}

func (j *journal) Save(ctx context.Context, key string, value []byte) error {
	j.mu.Lock()
	j.saves = append(j.saves, value)
	j.mu.Unlock()
	return j.Store.Save(ctx, key, value)
}

// A savedRecord is what the tests look at in a record.
type savedRecord struct {
	RefreshToken string          `json:"refresh_token"`
	AccessToken  string          `json:"access_token"`
	Generation   int             `json:"generation"`
	Mark         json.RawMessage `json:"mark"`
	Padding      string          `json:"padding"`
	Derived      map[string]struct {
		AccessToken string `json:"access_token"`
	} `json:"derived"`
}

func readRecord(t *testing.T, data []byte) (r savedRecord) {
	t.Helper()
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// afterMark is what was saved when the first attempt was over.
func (j *journal) afterMark(t *testing.T) savedRecord {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	marked := false
	for _, data := range j.saves {
		r := readRecord(t, data)
		if marked {
			return r
		}
		marked = r.Padding != ""
	}
	t.Fatal("nothing was saved after the first attempt")
	return savedRecord{}
}

func (j *journal) last(t *testing.T) savedRecord {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	return readRecord(t, j.saves[len(j.saves)-1])
}
