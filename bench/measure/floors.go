package measure

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
)

// The floors are the least that the work can cost on the machine: what a
// library does, without the library.
const (
	floorLoad   = "floor: atomic load"
	floorClock  = "floor: atomic load + time.Now"
	floorBare   = "floor: bare"
	floorCopy   = "floor: atomic token, shallow copy"
	floorTimed  = "floor: atomic token + time.Now, shallow copy"
	floorStatic = "floor: static header, Request.Clone"
)

// A loaded is a token in an atomic pointer.
type loaded struct{ token atomic.Pointer[oauth2.Token] }

func newLoaded(tok *oauth2.Token) *loaded {
	l := new(loaded)
	l.token.Store(tok)
	return l
}

// load looks at nothing.
func (l *loaded) load(context.Context) (string, error) { return l.token.Load().AccessToken, nil }

var errExpired = errors.New("measure: the token of the floor has expired")

// loadInTime looks at the clock.
func (l *loaded) loadInTime(context.Context) (string, error) {
	if tok := l.token.Load(); time.Now().Before(tok.Expiry) {
		return tok.AccessToken, nil
	}
	return "", errExpired
}

// bare answers every request with a fresh response that holds nothing. It is
// the base of all that is measured, and the floor of one that does not sign.
type bare struct{}

func (bare) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

// copying is the least that a transport can do which signs with a token that may
// change, and keeps its hands off the caller's request: it copies the request
// and the map of its header, and adds a field that is ready made.
type copying struct {
	base  http.RoundTripper
	value atomic.Pointer[[]string]
}

func (c *copying) RoundTrip(req *http.Request) (*http.Response, error) {
	r := new(http.Request)
	*r = *req
	r.Header = make(http.Header, len(req.Header)+1)
	maps.Copy(r.Header, req.Header)
	r.Header["Authorization"] = *c.value.Load()
	return c.base.RoundTrip(r)
}

// timed is copying that also looks at the clock, as a transport must whose token
// expires.
type timed struct {
	copying
	expiry time.Time
}

func (t *timed) RoundTrip(req *http.Request) (*http.Response, error) {
	if !time.Now().Before(t.expiry) {
		return nil, errExpired
	}
	return t.copying.RoundTrip(req)
}

// static is what a program writes that has a token for good.
type static struct {
	base  http.RoundTripper
	value string
}

func (s static) RoundTrip(req *http.Request) (*http.Response, error) {
	r := req.Clone(req.Context())
	r.Header.Set("Authorization", s.value)
	return s.base.RoundTrip(r)
}
