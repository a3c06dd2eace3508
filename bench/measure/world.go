package measure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
)

// Where the world's places are.
const (
	tokenURL  = "https://auth.example/token"
	apiOrigin = "https://api.example"
	apiURL    = apiOrigin + "/things"
)

// sumHeader is where a caller states the checksum of a request's body.
const sumHeader = "X-Body-Sum"

// A world is an authorization server and an API that trusts it, both in memory,
// so that nothing but the library at work takes time that the world has not been
// told to take. Its server counts an access token's life from the moment a
// refresh arrives, as servers do, and rotates refresh tokens.
//
// What stands above mu is set while nobody sends a request.
type world struct {
	// answer is how long the token endpoint takes to answer. What it does, it
	// has done before.
	answer time.Duration

	// strict ends the session when a refresh token is shown twice.
	strict bool

	// pace, if not nil, says how long the API takes for its n-th request. It
	// looks at the token before.
	pace func(n int) time.Duration

	mu       sync.RWMutex
	life     time.Duration        // of the access tokens to be issued
	n        int                  // tokens issued so far
	access   map[string]time.Time // when the live access tokens expire
	refresh  map[string]bool      // the refresh tokens, and whether they are spent
	dead     bool                 // the session was ended
	down     [2]time.Time         // the endpoint is out of order between these
	retry    time.Duration        // what it asks for meanwhile
	calls    []call               // of the token endpoint
	requests int                  // to the API
	rejected int                  // of them answered with 401
	damaged  int                  // of them with a body that was not the one sent
}

// A call is one request to the token endpoint.
type call struct {
	arrived, answered time.Time // answered is zero as long as it is not, or if nobody waited
	status            int
}

func newWorld(life time.Duration) *world {
	return &world{life: life, access: map[string]time.Time{}, refresh: map[string]bool{}}
}

// login begins the session.
func (w *world) login() *oauth2.Token {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	access, refresh := w.issue(now)
	return &oauth2.Token{AccessToken: access, RefreshToken: refresh, TokenType: "Bearer",
		Expiry: now.Add(w.life), ExpiresIn: int64(w.life / time.Second)}
}

// issue makes the next pair of tokens. w.mu is held.
func (w *world) issue(now time.Time) (access, refresh string) {
	w.n++
	access, refresh = fmt.Sprintf("access-token-%d", w.n), fmt.Sprintf("refresh-token-%d", w.n)
	w.access[access], w.refresh[refresh] = now.Add(w.life), false
	return access, refresh
}

// issueFor sets how long the tokens live that are issued from now on.
func (w *world) issueFor(life time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.life = life
}

// revoke has the API reject all access tokens there are.
func (w *world) revoke() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.access)
}

// fail has the token endpoint answer 503 from one moment to another, and ask
// for a pause.
func (w *world) fail(from, to time.Time, retry time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down, w.retry = [2]time.Time{from, to}, retry
}

// log returns the calls of the token endpoint so far, in order of arrival.
func (w *world) log() []call {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return append([]call(nil), w.calls...)
}

// counts returns how many 401s the API has sent, and how many bodies it got that
// were damaged.
func (w *world) counts() (rejected, damaged int) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.rejected, w.damaged
}

// survived reports whether the session can go on.
func (w *world) survived() bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return !w.dead
}

// roundTrip makes an http.RoundTripper of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// respond answers a request without a body.
func respond(req *http.Request, status int) *http.Response {
	return &http.Response{Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: http.NoBody, Request: req}
}

// respondJSON answers a request of the token endpoint.
func respondJSON(req *http.Request, status int, value any) *http.Response {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err) // maps of strings and numbers
	}
	resp := respond(req, status)
	resp.Header.Set("Content-Type", "application/json")
	resp.ContentLength = int64(len(data))
	resp.Body = io.NopCloser(strings.NewReader(string(data)))
	return resp
}

// token is the token endpoint, for a client's Transport.
func (w *world) token(req *http.Request) (*http.Response, error) {
	form, err := readForm(req)
	if err != nil {
		return nil, err
	}
	resp, i, takes := w.decide(req, form)
	if err := pause(req.Context(), takes); err != nil {
		return nil, err // what was done is done
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls[i].answered = time.Now()
	return resp, nil
}

// decide does what a call of the token endpoint asks for, if it can be done, and
// returns the answer, the call's number, and how long the answer takes.
func (w *world) decide(req *http.Request, form url.Values) (*http.Response, int, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	i, takes := len(w.calls), w.answer
	w.calls = append(w.calls, call{arrived: now})
	var resp *http.Response
	shown := form.Get("refresh_token")
	spent, known := w.refresh[shown]
	if w.strict && spent {
		w.dead = true
		clear(w.access)
	}
	switch {
	case !now.Before(w.down[0]) && now.Before(w.down[1]):
		resp = respond(req, http.StatusServiceUnavailable)
		resp.Header.Set("Retry-After", fmt.Sprint(int(w.retry/time.Second)))
		takes = outageAnswer
	case form.Get("grant_type") != "refresh_token":
		resp = respondJSON(req, http.StatusBadRequest, map[string]any{"error": "unsupported_grant_type"})
	case w.dead || !known:
		resp = respondJSON(req, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
	default:
		w.refresh[shown] = true
		access, refresh := w.issue(now)
		resp = respondJSON(req, http.StatusOK, map[string]any{"access_token": access, "token_type": "Bearer",
			"expires_in": int(w.life / time.Second), "refresh_token": refresh})
	}
	w.calls[i].status = resp.StatusCode
	return resp, i, takes
}

func readForm(req *http.Request) (url.Values, error) {
	if req.Body == nil {
		return nil, errors.New("a request to the token endpoint without a body")
	}
	defer req.Body.Close()
	data, err := io.ReadAll(io.LimitReader(req.Body, 64<<10))
	if err != nil {
		return nil, err
	}
	return url.ParseQuery(string(data))
}

// api is the API, for the base of a library's transport.
func (w *world) api(req *http.Request) (*http.Response, error) {
	intact, err := readBody(req)
	if err != nil {
		return nil, err
	}
	bearer, _ := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	if w.pace == nil {
		w.mu.RLock()
		live := time.Now().Before(w.access[bearer])
		w.mu.RUnlock()
		if live {
			return respond(req, http.StatusOK), nil
		}
	}
	w.mu.Lock()
	w.requests++
	n := w.requests
	live := time.Now().Before(w.access[bearer])
	if !live {
		w.rejected++
	}
	if !intact {
		w.damaged++
	}
	w.mu.Unlock()
	if w.pace != nil {
		if err := pause(req.Context(), w.pace(n)); err != nil {
			return nil, err
		}
	}
	if live {
		return respond(req, http.StatusOK), nil
	}
	resp := respond(req, http.StatusUnauthorized)
	resp.Header.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	return resp, nil
}

// readBody reports whether a request has the body that its header says.
func readBody(req *http.Request) (intact bool, err error) {
	if req.Body == nil || req.Body == http.NoBody {
		return req.Header.Get(sumHeader) == "", nil
	}
	defer req.Body.Close()
	h := crc32.NewIEEE()
	if _, err := io.Copy(h, req.Body); err != nil {
		return false, err
	}
	return req.Header.Get(sumHeader) == fmt.Sprint(h.Sum32()), nil
}

// pause waits for d, or until ctx ends, and then returns its error.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
