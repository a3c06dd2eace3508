package freshtoken_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/internal/figures"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// One session for a long time: nothing is lost, and nothing grows.

var soakReal = flag.Duration("soak.real", 0, "run TestSoakReal for this time, over sockets and files (use -timeout 0)")

// soak is a session that is used for a long time.
type soak struct {
	t     *testing.T
	as    *soakServer
	base  string // of the server
	net   http.RoundTripper
	store freshtoken.Store

	calls, failed atomic.Int64
	starts        int
	marks         []soakMark
}

// soakMark is what a process needs at one time.
type soakMark struct {
	heap              uint64 // bytes that are reachable
	goroutines, files int    // files: descriptors; 0 where nobody tells
	refreshes         int
}

// Thirty days of five-minute tokens: eight callers twice a minute, an outage and a
// revoked token every day, and every day a new process that takes over while the
// old one still runs.
func TestSoak(t *testing.T) {
	days := 30
	if testing.Short() {
		days = 6
	}
	synctest.Test(t, func(t *testing.T) {
		s := &soak{t: t, as: &soakServer{life: 5 * time.Minute}, base: "https://oauth.test", store: storage.NewMemory()}
		s.net = s.as
		start := time.Now()
		src := s.start(false)
		if err := src.SetToken(t.Context(), s.as.login()); err != nil {
			t.Fatal(err)
		}
		for day := range days {
			s.day(day, src, day%2 == 1)
			next := s.start(day%2 == 0)
			s.use(next)
			if err := src.Close(); err != nil {
				t.Errorf("day %d: %v", day, err)
			}
			src = next
			synctest.Wait()
			s.mark()
		}
		s.use(src)
		rtWant(t, "simulated time", time.Since(start).Round(time.Hour), time.Duration(days)*24*time.Hour)
		if err := src.Close(); err != nil {
			t.Error(err)
		}
		s.whole(days)
		s.flat(2, 0, 256<<10)
		if days == 30 {
			s.record("soak")
			figures.Record(t, "soak.days", fmt.Sprint(days))
		}
	})
}

// start starts a process.
func (s *soak) start(background bool) *freshtoken.Source {
	s.t.Helper()
	s.starts++
	src, err := freshtoken.New(freshtoken.Config{Store: s.store, Background: background, HTTPClient: &http.Client{Transport: s.net},
		OAuth2: &oauth2.Config{ClientID: "client", Endpoint: oauth2.Endpoint{TokenURL: s.base + "/token"}}})
	if err != nil {
		s.t.Fatal(err)
	}
	return src
}

// day has callers use the session for a day. The outage comes when a refresh is
// due, and is over long before the token is.
func (s *soak) day(n int, src *freshtoken.Source, background bool) {
	client := s.client(src)
	before := s.as.seen()
	outage, rejection := 120*(n%23), 120*(n%23)+60
	for half := range 2 * 24 * 60 {
		switch due := time.Until(src.Status().RefreshAt); {
		case half < outage:
		case background: // the refresh comes before the callers
			outage = never
			time.AfterFunc(max(due-5*time.Second, 0), s.outage)
		case due <= 0:
			outage = never
			s.outage()
		}
		if half == rejection {
			s.as.set(func() { s.as.revoked = true })
			s.get(client)
		}
		if half%20 == 0 {
			s.get(client)
		}
		s.use(src)
		time.Sleep(30 * time.Second)
	}
	after := s.as.seen()
	if after.Down == before.Down {
		s.t.Errorf("nobody has noticed the outage on day %d", n)
	}
	if got := after.Refreshes - before.Refreshes; got < 24*60*60/300-2 || got > 24*60*60/240+3 {
		s.t.Errorf("%d refreshes on day %d", got, n)
	}
}

const never = 1 << 30

func (s *soak) outage() {
	s.as.set(func() { s.as.down = true })
	time.AfterFunc(12*time.Second, func() { s.as.set(func() { s.as.down = false }) })
}

func (s *soak) client(src *freshtoken.Source) *http.Client {
	return &http.Client{Transport: &freshtoken.Transport{Source: src, Base: s.net, Origins: []string{s.base}}}
}

// use has eight callers ask for a token.
func (s *soak) use(src *freshtoken.Source) {
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			_, err := src.Token(context.Background())
			s.called(err)
		})
	}
	all.Wait()
}

func (s *soak) get(client *http.Client) {
	resp, err := client.Get(s.base + "/api/x")
	if err == nil {
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("status %d", resp.StatusCode)
		}
	}
	s.called(err)
}

func (s *soak) called(err error) {
	s.calls.Add(1)
	if err != nil && s.failed.Add(1) < 10 {
		s.t.Errorf("a caller got %v", err)
	}
}

// mark measures what is there.
func (s *soak) mark() {
	runtime.GC()
	runtime.GC() // what finalizers have let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, _ := os.ReadDir("/proc/self/fd")
	s.marks = append(s.marks, soakMark{m.HeapAlloc, runtime.NumGoroutine(), len(files), s.as.seen().Refreshes})
}

// whole fails the test if anything was lost.
func (s *soak) whole(outages int) {
	s.t.Helper()
	got := s.as.seen()
	rtWant(s.t, "spent tokens that were shown", got.Reuses, 0)
	rtWant(s.t, "refresh tokens that were refused", got.Refused, 0)
	rtWant(s.t, "calls that failed", s.failed.Load(), 0)
	if got.Down > 8*outages {
		s.t.Errorf("%d requests during %d outages", got.Down, outages)
	}
}

// flat fails the test if it grows.
func (s *soak) flat(goroutines, files int, heap uint64) {
	s.t.Helper()
	if early, late, ok := grows(s.marks, goroutines, files, heap); !ok {
		s.t.Errorf("it grows: %+v in the first third, %+v in the last", early, late)
	}
}

// grows compares what was needed at most in the first third of the time with the
// last. ok says that it is no more than what is allowed.
func grows(marks []soakMark, goroutines, files int, heap uint64) (early, late soakMark, ok bool) {
	third := len(marks) / 3
	early, late = most(marks[:third]), most(marks[len(marks)-third:])
	return early, late, third > 0 && late.goroutines <= early.goroutines+goroutines && late.files <= early.files+files && late.heap <= early.heap+heap
}

// A leak of a goroutine, a file or some memory a day is seen.
func TestSoakSeesLeaks(t *testing.T) {
	for name, leak := range map[string]soakMark{"nothing": {}, "goroutine": {goroutines: 1}, "file": {files: 1}, "memory": {heap: 20 << 10}} {
		var marks []soakMark
		for day := range 30 {
			marks = append(marks, soakMark{heap: 300<<10 + uint64(day)*leak.heap, goroutines: 4 + day*leak.goroutines, files: 10 + day*leak.files})
		}
		if _, _, ok := grows(marks, 2, 0, 256<<10); ok != (name == "nothing") {
			t.Errorf("%s: reported as flat: %v", name, ok)
		}
	}
}

func most(marks []soakMark) (m soakMark) {
	for _, k := range marks {
		m.heap, m.goroutines, m.files = max(m.heap, k.heap), max(m.goroutines, k.goroutines), max(m.files, k.files)
	}
	return m
}

func (s *soak) record(prefix string) {
	early, late, _ := grows(s.marks, 0, 0, 0)
	stats := s.as.seen()
	for _, f := range []struct {
		name  string
		value any
	}{
		{"calls", s.calls.Load()}, {"failed", s.failed.Load()}, {"refreshes", stats.Refreshes}, {"reuses", stats.Reuses}, {"processes", s.starts},
		{"served", stats.Served}, {"unauthorized", stats.Unauthorized}, {"refused", stats.Down},
		{"goroutines", fmt.Sprintf("%d, then %d", early.goroutines, late.goroutines)},
		{"files", fmt.Sprintf("%d, then %d", early.files, late.files)},
		{"heap", fmt.Sprintf("%d KiB, then %d KiB", early.heap>>10, late.heap>>10)},
	} {
		figures.Record(s.t, prefix+"."+f.name, fmt.Sprint(f.value))
	}
}

// TestSoakReal is for a machine that has time: the same over sockets and sealed
// files, with tokens of two seconds and callers who never rest. It is run by
// hand:
//
//	go test -run TestSoakReal -soak.real=1h -timeout 0 -v .
func TestSoakReal(t *testing.T) {
	if *soakReal == 0 {
		return // there is nothing to see in an instant
	}
	s := &soak{t: t, as: &soakServer{life: 2 * time.Second}, net: http.DefaultTransport.(*http.Transport).Clone()}
	server := httptest.NewServer(s.as)
	defer server.Close()
	s.base = server.URL
	dir := canary.Dir(t, "key")
	store, err := storage.NewFile(filepath.Join(dir, "sessions"), storage.KeyFile(filepath.Join(dir, "key")))
	if err != nil {
		t.Fatal(err)
	}
	s.store = store
	first := s.start(true)
	if err := first.SetToken(t.Context(), s.as.login()); err != nil {
		t.Fatal(err)
	}
	sources := []*freshtoken.Source{first, s.start(false), s.start(true)}
	ctx, cancel := context.WithTimeout(t.Context(), *soakReal)
	defer cancel()
	every := min(max(*soakReal/60, 100*time.Millisecond), time.Minute)
	for ctx.Err() == nil {
		s.load(ctx, sources, every)
		oldest := sources[0] // one process after the other is replaced
		sources = append(slices.Clone(sources[1:]), s.start(s.starts%2 == 0))
		if err := oldest.Close(); err != nil {
			t.Error(err)
		}
		s.net.(*http.Transport).CloseIdleConnections()
		s.mark()
	}
	for _, src := range sources {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	}
	s.whole(0)
	s.flat(20, 10, 2<<20)
	s.record("soak.real")
	figures.Record(t, "soak.real.time", soakReal.String())
}

// load has sixteen callers use the sources for a while, as fast as they can.
func (s *soak) load(ctx context.Context, sources []*freshtoken.Source, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var all sync.WaitGroup
	for i := range 16 {
		src := sources[i%len(sources)]
		client := s.client(src)
		all.Go(func() {
			for ctx.Err() == nil {
				_, err := src.Token(context.Background())
				s.called(err)
				s.get(client)
			}
		})
	}
	all.Wait()
}
