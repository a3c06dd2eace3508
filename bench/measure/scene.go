package measure

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/freshtoken/freshtoken/bench/peers"
	"golang.org/x/oauth2"
)

// slow is from when on a request counts as slow: by itself it takes no time, and
// the shortest refresh that it could wait for half a second.
const slow = 100 * time.Millisecond

// open sets a library up in a world with the token of a login. end ends it.
func (w *world) open(p peers.Peer, lead time.Duration) (rt http.RoundTripper, end func(), err error) {
	return w.openOver(p, lead, roundTrip(w.token), roundTrip(w.api))
}

// openOver is open with other ways to the token endpoint and the API.
func (w *world) openOver(p peers.Peer, lead time.Duration, token, api http.RoundTripper) (rt http.RoundTripper, end func(), err error) {
	s := peers.Setup{
		OAuth2: &oauth2.Config{ClientID: "bench", Endpoint: oauth2.Endpoint{TokenURL: tokenURL, AuthStyle: oauth2.AuthStyleInParams}},
		HTTP:   &http.Client{Transport: token},
		Base:   api,
		Origin: apiOrigin,
		Token:  w.login(),
		Lead:   lead,
	}
	session, err := p.Open(s)
	if err != nil {
		return nil, nil, err
	}
	end = func() {
		if session.Close != nil {
			session.Close()
		}
	}
	if session.Transport != nil {
		return session.Transport, end, nil
	}
	return tokenTransport(session.Token, api), end, nil
}

// tokenTransport is what programs write around a function that returns a token.
func tokenTransport(token func(context.Context) (string, error), base http.RoundTripper) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		tok, err := token(req.Context())
		if err != nil {
			if req.Body != nil {
				req.Body.Close()
			}
			return nil, err
		}
		r := req.Clone(req.Context())
		r.Header.Set("Authorization", "Bearer "+tok)
		return base.RoundTrip(r)
	})
}

// control is a transport that never refreshes: its token lives for ever.
func control() http.RoundTripper {
	w := newWorld(24 * time.Hour)
	tok := w.login().AccessToken
	return tokenTransport(func(context.Context) (string, error) { return tok, nil }, roundTrip(w.api))
}

// A scene is what one library does in a measure. What it returns lacks the names
// only. An error becomes the result's note.
type scene func(ctx context.Context, i int, p peers.Peer) (Result, error)

// atOnce plays a scene with all libraries at the same time, each in a world of
// its own. A library that takes longer than limit is left behind.
func atOnce(ctx context.Context, name string, o Options, limit time.Duration, s scene) ([]Result, error) {
	results := make([]Result, len(o.Peers))
	var wg sync.WaitGroup
	for i, p := range o.Peers {
		wg.Go(func() { results[i] = play(ctx, name, i, p, limit, s) })
	}
	wg.Wait()
	return results, ctx.Err()
}

// inTurns is atOnce with one library after the other, as often as rounds says.
// The values are medians of the rounds; the rest is that of the last.
func inTurns(ctx context.Context, name string, o Options, rounds int, limit time.Duration, s scene) ([]Result, error) {
	all := make([][]Result, len(o.Peers))
	for range rounds {
		for i, p := range o.Peers {
			all[i] = append(all[i], play(ctx, name, i, p, limit, s))
		}
	}
	results := make([]Result, len(o.Peers))
	for i, of := range all {
		results[i] = medians(of)
	}
	return results, ctx.Err()
}

// medians merges the results of several rounds.
func medians(rounds []Result) Result {
	r := rounds[len(rounds)-1]
	for name := range r.Values {
		var all []float64
		for _, one := range rounds {
			if v, ok := one.Values[name]; ok {
				all = append(all, v)
			}
		}
		r.Values[name] = Median(all)
	}
	return r
}

// play plays a scene with one library.
func play(ctx context.Context, name string, i int, p peers.Peer, limit time.Duration, s scene) Result {
	done := make(chan Result, 1)
	go func() {
		r, err := s(ctx, i, p)
		if err != nil {
			r.Note = err.Error()
		}
		done <- r
	}()
	patience := time.NewTimer(limit)
	defer patience.Stop()
	var r Result
	select {
	case r = <-done:
	case <-patience.C:
		r.Note = fmt.Sprintf("had not ended after %v, and was left behind", limit)
	}
	r.Measure, r.Peer = name, p.Name
	return r
}

// together plays the parts of a scene at the same time, and merges what they
// return. An error is the first part's that has one.
func together(parts ...func() (Result, error)) (Result, error) {
	results, errs := make([]Result, len(parts)), make([]error, len(parts))
	var wg sync.WaitGroup
	for i, part := range parts {
		wg.Go(func() { results[i], errs[i] = part() })
	}
	wg.Wait()
	whole := Result{Values: map[string]float64{}, Words: map[string]string{}, Series: map[string][]Point{}}
	for _, r := range results {
		maps.Copy(whole.Values, r.Values)
		maps.Copy(whole.Words, r.Words)
		maps.Copy(whole.Series, r.Series)
	}
	for _, err := range errs {
		if err != nil {
			return Result{}, err
		}
	}
	return whole, nil
}

// A request is what is kept of one that load has sent.
type request struct {
	at     float32 // when it began, in seconds since the load did
	took   float32 // milliseconds
	status int16   // 0: an error instead of an answer
}

// load sends requests until ctx ends: each of n goroutines one, then it thinks,
// then the next. at counts from start.
func load(ctx context.Context, start time.Time, n int, think time.Duration, rt http.RoundTripper) []request {
	size := 16
	if end, ok := ctx.Deadline(); ok {
		size += int(time.Until(end) / think)
	}
	each := make([][]request, n)
	var wg sync.WaitGroup
	for i := range n {
		each[i] = make([]request, 0, size)
		wg.Go(func() {
			req := get(context.WithoutCancel(ctx), apiURL)
			next := think * time.Duration(i) / time.Duration(n)
			for pause(ctx, next) == nil {
				begin := time.Now()
				status := send(rt, req)
				took := time.Since(begin)
				each[i] = append(each[i], request{float32(begin.Sub(start).Seconds()), millis32(took), status})
				next = think
			}
		})
	}
	wg.Wait()
	return slices.Concat(each...)
}

// get makes a request without a body.
func get(ctx context.Context, url string) *http.Request {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		panic(err) // the addresses are constants
	}
	return req
}

// send sends a request and returns the status of the answer, or 0.
func send(rt http.RoundTripper, req *http.Request) int16 {
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return int16(resp.StatusCode)
}

// warmUp sends one request, after which a library knows its token.
func warmUp(ctx context.Context, rt http.RoundTripper) error {
	if status := send(rt, get(ctx, apiURL)); status != http.StatusOK {
		return fmt.Errorf("the first request failed: status %d", status)
	}
	return nil
}

func millis(d time.Duration) float64   { return float64(d) / float64(time.Millisecond) }
func millis32(d time.Duration) float32 { return float32(millis(d)) }

// failures counts the requests that were not answered well, and of them those
// that were answered with 401.
func failures(all []request) (failed, unauthorized int) {
	for _, r := range all {
		if r.status != http.StatusOK {
			failed++
		}
		if r.status == http.StatusUnauthorized {
			unauthorized++
		}
	}
	return failed, unauthorized
}

// sortedTimes returns how long requests took, in milliseconds, the shortest
// first.
func sortedTimes(all []request) []float32 {
	times := make([]float32, len(all))
	for i, r := range all {
		times[i] = r.took
	}
	slices.Sort(times)
	return times
}

// quantile returns the time that the share q of sorted times does not exceed.
func quantile(sorted []float32, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)])
}

// countSlow counts the requests that took so long as only a refresh, or a
// disturbance of the machine, makes them take.
func countSlow(all []request) int {
	n := 0
	for _, r := range all {
		if r.took > millis32(slow) {
			n++
		}
	}
	return n
}

// countWaiting counts the slow requests that were waiting when one of the calls
// was answered, in seconds since the load began: disturbances seldom come just
// then.
func countWaiting(all []request, answered []float64) int {
	const precision = 0.001 // of request.at, and more
	n := 0
	for _, r := range all {
		from, to := float64(r.at), float64(r.at)+float64(r.took)/1000+precision
		if r.took > millis32(slow) && slices.ContainsFunc(answered, func(at float64) bool { return from < at && at <= to }) {
			n++
		}
	}
	return n
}

// setRatio sets a value to a/b, unless that is none: on fake time nothing takes
// any.
func setRatio(values map[string]float64, name string, a, b float64) {
	if b > 0 {
		values[name] = a / b
	}
}

// yes says it in a word.
func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
