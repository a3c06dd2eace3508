package measure

import (
	"errors"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshtoken/freshtoken/bench/peers"
	"golang.org/x/oauth2"
)

// What token and roundtrip share: both time calls that take well below a
// millisecond, on a token that is valid throughout.

// A subject is one thing to time.
type subject struct {
	name string
	loop func() func(n int) // returns what makes n calls in a goroutine of its own
}

// A failure keeps the first error of many goroutines.
type failure struct{ err atomic.Pointer[error] }

func (f *failure) set(err error) { f.err.CompareAndSwap(nil, &err) }

func (f *failure) get() error {
	if p := f.err.Load(); p != nil {
		return *p
	}
	return nil
}

// perProc is how many goroutines share a processor in the parallel modes.
const perProc = 64

// spread has the calls made by many goroutines, each an equal share.
func spread(procs int, loop func() func(n int)) func(n int) {
	var fns []func(int)
	for range procs * perProc {
		fns = append(fns, loop())
	}
	return func(n int) {
		var wg sync.WaitGroup
		for i, f := range fns {
			share := n / len(fns)
			if i < n%len(fns) {
				share++
			}
			if share > 0 {
				wg.Go(func() { f(share) })
			}
		}
		wg.Wait()
	}
}

// allocations returns how often a call allocates, and how many bytes.
func allocations(f func(n int)) (count, bytes float64) {
	const n = 5000
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	f(n / 10) // what is made once is made now
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f(n)
	runtime.ReadMemStats(&after)
	// Whole numbers: what the runtime and others allocate meanwhile is cut off.
	return float64((after.Mallocs - before.Mallocs) / n), float64((after.TotalAlloc - before.TotalAlloc) / n)
}

// pace says how often and for how long each thing is timed. One goroutine is
// timed in short turns, of which many are undisturbed; many goroutines need
// longer ones, as they take a while to start.
func pace(o Options, procs int) (rounds int, each time.Duration) {
	switch {
	case o.Smoke:
		return 1, 100 * time.Microsecond
	case procs == 0:
		return 10 * o.Rounds, time.Millisecond
	}
	return o.Rounds, 20 * time.Millisecond
}

// hotOrigin is where the requests go to, and nowhere in truth.
const hotOrigin = "https://api.test"

// hotSetup is the session that the hot paths use: its token lives for a day, so
// that nobody refreshes, and the network is not there.
func hotSetup() peers.Setup {
	return peers.Setup{
		OAuth2: &oauth2.Config{ClientID: "client", Endpoint: oauth2.Endpoint{
			AuthURL: "https://oauth.test/authorize", TokenURL: "https://oauth.test/token", AuthStyle: oauth2.AuthStyleInParams}},
		HTTP:   &http.Client{Transport: nowhere{}},
		Base:   bare{},
		Origin: hotOrigin,
		Token:  hotToken(),
	}
}

func hotToken() *oauth2.Token {
	return &oauth2.Token{AccessToken: "SlAV32hkKG-an-access-token-of-usual-length", TokenType: "Bearer",
		RefreshToken: "8xLOxBtZp8", Expiry: time.Now().Add(24 * time.Hour)}
}

// nowhere fails every request.
type nowhere struct{}

func (nowhere) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("measure: a request to the token endpoint, though the token is valid")
}

// A hot is a measure of a hot path in the making.
type hot struct {
	options Options
	floor   string // the name of the subject that ratios refer to
	values  map[string]map[string]float64
}

// time makes the subjects' calls in turns. The values' names begin with prefix.
// procs is GOMAXPROCS, with many goroutines to each; 0: one goroutine, and
// GOMAXPROCS as it is.
func (h *hot) time(prefix string, procs int, subjects []subject) {
	fns := make([]func(int), len(subjects))
	for i, s := range subjects {
		if procs == 0 {
			fns[i] = s.loop()
		} else {
			fns[i] = spread(procs, s.loop)
		}
	}
	if procs > 0 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
	}
	rounds, each := pace(h.options, procs)
	times := map[string][]float64{}
	for i, t := range Interleave(rounds, each, fns...) {
		times[subjects[i].name] = t
	}
	for name, t := range times {
		h.set(name, prefix+"ns", Median(t))
		h.set(name, prefix+"floor.ratio", Ratio(t, times[h.floor]))
		if other := times[peers.XOAuth2.Name]; other != nil {
			h.set(name, prefix+"xoauth2.ratio", Ratio(t, other))
		}
	}
}

// count sets how often the subjects' calls allocate, and how much.
func (h *hot) count(prefix string, subjects []subject) {
	for _, s := range subjects {
		n, bytes := allocations(s.loop())
		h.set(s.name, prefix+"allocs", n)
		h.set(s.name, prefix+"bytes", bytes)
	}
}

func (h *hot) set(subject, name string, value float64) {
	if h.values == nil {
		h.values = map[string]map[string]float64{}
	}
	if h.values[subject] == nil {
		h.values[subject] = map[string]float64{}
	}
	h.values[subject][name] = value
}

// fill gives each result its values.
func (h *hot) fill(results []Result) []Result {
	for i := range results {
		results[i].Values = h.values[results[i].Peer]
	}
	return results
}
