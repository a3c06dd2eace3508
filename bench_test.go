package freshtoken_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// What the ways cost that a program takes all the time, beside the least that
// they could cost (floor) and beside golang.org/x/oauth2. To see what a change
// does to them:
//
//	go test -run '^$' -bench . -benchtime 0.2s -count 10 . > old    (new, with the change)
//	benchstat old new
//
// To set the libraries side by side: benchstat -col /impl new.

func benchConfig() freshtoken.Config {
	return freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "client", Endpoint: oauth2.Endpoint{TokenURL: "https://oauth.test/token"}}}
}

// longLived is the token of a login; it is valid for the next hour.
func longLived() *oauth2.Token {
	return &oauth2.Token{AccessToken: "access", TokenType: "Bearer", RefreshToken: "refresh", ExpiresIn: 3600, Expiry: time.Now().Add(time.Hour)}
}

// freshSource is a Source whose token is valid for the next hour.
func freshSource(tb testing.TB, edits ...func(*freshtoken.Config)) *freshtoken.Source {
	tb.Helper()
	cfg := benchConfig()
	for _, edit := range edits {
		edit(&cfg)
	}
	src, err := freshtoken.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { src.Close() })
	if err := src.SetToken(context.Background(), longLived()); err != nil {
		tb.Fatal(err)
	}
	return src
}

// noBase answers every request with nothing.
type noBase struct{}

func (noBase) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

// copying is the least a signing transport can do: it copies the request and
// its header, and adds a field that is ready made.
type copying struct {
	base   http.RoundTripper
	header atomic.Pointer[[]string]
}

func (c *copying) RoundTrip(req *http.Request) (*http.Response, error) {
	r := new(http.Request)
	*r = *req
	r.Header = make(http.Header, len(req.Header)+1)
	maps.Copy(r.Header, req.Header)
	r.Header["Authorization"] = *c.header.Load()
	return c.base.RoundTrip(r)
}

func newCopying() *copying {
	c := &copying{base: noBase{}}
	c.header.Store(&[]string{"Bearer access"})
	return c
}

func withHeaders(tb testing.TB, n int) *http.Request {
	tb.Helper()
	req, err := http.NewRequest(http.MethodGet, "https://api.test/v1/things?page=1", nil)
	if err != nil {
		tb.Fatal(err)
	}
	for i := range n {
		req.Header.Set(fmt.Sprintf("X-Header-%d", i), "value")
	}
	return req
}

// ballast is the heap of a program that does something: beside a tiny one, the
// garbage collector runs all the time, and is what a benchmark measures.
var ballast = sync.OnceValue(func() []byte {
	b := make([]byte, 64<<20)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	return b
})

// benchmarks runs f one after the other, and on one, two and eight processors.
func benchmarks(b *testing.B, name string, f func() error) {
	live := ballast()
	b.Run(name+"/mode=serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := f(); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, procs := range []int{1, 2, 8} {
		b.Run(fmt.Sprintf("%s/mode=parallel/procs=%d", name, procs), func(b *testing.B) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := f(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
	runtime.KeepAlive(live)
}

func TestTokenDoesNotAllocate(t *testing.T) {
	src, ctx := freshSource(t), context.Background()
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := src.Token(ctx); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("Token allocates %v times", n)
	}
}

func TestRoundTripAllocatesACopyOfTheRequest(t *testing.T) {
	rt := &freshtoken.Transport{Source: freshSource(t), Base: noBase{}, Origins: []string{"https://api.test"}}
	for headers := range 40 {
		req := withHeaders(t, headers)
		measure := func(rt http.RoundTripper) float64 {
			return testing.AllocsPerRun(100, func() {
				if _, err := rt.RoundTrip(req); err != nil {
					t.Fatal(err)
				}
			})
		}
		got, least := measure(rt), measure(newCopying())
		if got > least {
			t.Errorf("%d headers: %v allocations, a copy of the request takes %v", headers, got, least)
		}
	}
}

func BenchmarkToken(b *testing.B) {
	ctx := context.Background()
	src := freshSource(b)
	background := freshSource(b, func(c *freshtoken.Config) { c.Background = true })
	peer := oauth2.ReuseTokenSource(longLived(), nil)
	var tok atomic.Pointer[oauth2.Token]
	tok.Store(longLived())

	benchmarks(b, "impl=freshtoken", func() error { _, err := src.Token(ctx); return err })
	benchmarks(b, "impl=background", func() error { _, err := background.Token(ctx); return err })
	benchmarks(b, "impl=x-oauth2", func() error { _, err := peer.Token(); return err })
	benchmarks(b, "impl=floor", func() error { // an atomic load and a look at the clock
		if !time.Now().Before(tok.Load().Expiry) {
			return context.DeadlineExceeded
		}
		return nil
	})
}

func BenchmarkRoundTrip(b *testing.B) {
	ours := &freshtoken.Transport{Source: freshSource(b), Base: noBase{}, Origins: []string{"https://api.test"}}
	peer := &oauth2.Transport{Source: oauth2.ReuseTokenSource(longLived(), nil), Base: noBase{}}
	for _, headers := range []int{0, 5, 20} {
		for _, c := range []struct {
			name string
			rt   http.RoundTripper
		}{
			{"freshtoken", ours},
			{"x-oauth2", peer},
			{"floor", newCopying()},
			{"bare", noBase{}},
		} {
			req := withHeaders(b, headers) // nobody changes it
			benchmarks(b, fmt.Sprintf("impl=%s/headers=%d", c.name, headers), func() error {
				_, err := c.rt.RoundTrip(req)
				return err
			})
		}
	}
}

// The rules of a Transport, and requests that do not get the token.
func BenchmarkRules(b *testing.B) {
	src := freshSource(b)
	several := make([]string, 10)
	for i := range several {
		several[i] = fmt.Sprintf("https://api%d.test", i)
	}
	for _, c := range []struct {
		name string
		url  string
		rt   *freshtoken.Transport
	}{
		{"listed/origins=1", "https://api.test/", &freshtoken.Transport{Origins: []string{"https://api.test"}}},
		{"listed/origins=10", "https://api9.test/", &freshtoken.Transport{Origins: several}},
		{"otherwise-spelt/origins=10", "https://API9.test:443/", &freshtoken.Transport{Origins: several}},
		{"any", "https://api.test/", &freshtoken.Transport{AnyOrigin: true}},
		{"unlisted", "https://other.test/", &freshtoken.Transport{Origins: several, PassUnlisted: true}},
		{"endpoint", "https://oauth.test/token", &freshtoken.Transport{Origins: several}},
	} {
		b.Run("rule="+c.name, func(b *testing.B) {
			live := ballast()
			rt := c.rt
			rt.Source, rt.Base = src, noBase{}
			req := withHeaders(b, 5)
			var err error
			if req.URL, err = url.Parse(c.url); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := rt.RoundTrip(req); err != nil {
					b.Fatal(err)
				}
			}
			runtime.KeepAlive(live)
		})
	}
}

// A program with a thousand accounts looks one up for each request.
func BenchmarkSources(b *testing.B) {
	all, err := freshtoken.NewSources(benchConfig())
	if err != nil {
		b.Fatal(err)
	}
	defer all.Close()
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("account-%d", i)
		if _, err := all.Get(names[i]); err != nil {
			b.Fatal(err)
		}
	}
	var n atomic.Uint32
	benchmarks(b, "op=get", func() error {
		_, err := all.Get(names[n.Add(1)%uint32(len(names))])
		return err
	})
}

// What a login and the start of a program cost beside what the store takes; for
// that, see the benchmarks of package storage.
func BenchmarkSession(b *testing.B) {
	ctx, live := context.Background(), ballast()
	cfg := benchConfig()
	cfg.Store = storage.NewMemory()
	src := freshSource(b, func(c *freshtoken.Config) { *c = cfg })
	b.Run("op=save", func(b *testing.B) {
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			tok := longLived()
			tok.RefreshToken = fmt.Sprintf("refresh-%d", n) // what is stored already is not stored again
			if err := src.SetToken(ctx, tok); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("op=load", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			src, err := freshtoken.New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := src.Token(ctx); err != nil {
				b.Fatal(err)
			}
			src.Close()
		}
	})
	runtime.KeepAlive(live)
}
