package freshtoken_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"golang.org/x/oauth2"
)

// What the short way costs, beside the least that it could cost.

// freshSource is a Source whose token is valid for the next hour.
func freshSource(tb testing.TB) *freshtoken.Source {
	tb.Helper()
	src, err := freshtoken.New(freshtoken.Config{OAuth2: &oauth2.Config{
		ClientID: "client", Endpoint: oauth2.Endpoint{TokenURL: "https://oauth.test/token"}}})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { src.Close() })
	tok := &oauth2.Token{AccessToken: "access", TokenType: "Bearer", RefreshToken: "refresh", ExpiresIn: 3600}
	if err := src.SetToken(context.Background(), tok); err != nil {
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
	var tok atomic.Pointer[oauth2.Token]
	tok.Store(&oauth2.Token{AccessToken: "access", Expiry: time.Now().Add(24 * time.Hour)})
	for _, c := range []struct {
		name  string
		token func() (*oauth2.Token, error)
	}{
		{"freshtoken", func() (*oauth2.Token, error) { return src.Token(ctx) }},
		{"floor", func() (*oauth2.Token, error) { // an atomic load and a look at the clock
			if v := tok.Load(); time.Now().Before(v.Expiry) {
				return v, nil
			}
			return nil, context.DeadlineExceeded
		}},
	} {
		b.Run("impl="+c.name+"/mode=serial", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.token(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("impl="+c.name+"/mode=parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := c.token(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	ours := &freshtoken.Transport{Source: freshSource(b), Base: noBase{}, Origins: []string{"https://api.test"}}
	for _, headers := range []int{0, 5, 20} {
		for _, c := range []struct {
			name string
			rt   http.RoundTripper
		}{
			{"freshtoken", ours},
			{"floor", newCopying()},
			{"bare", noBase{}},
		} {
			name := fmt.Sprintf("impl=%s/headers=%d", c.name, headers)
			b.Run(name+"/mode=serial", func(b *testing.B) {
				req := withHeaders(b, headers)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := c.rt.RoundTrip(req); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(name+"/mode=parallel", func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					req := withHeaders(b, headers)
					for pb.Next() {
						if _, err := c.rt.RoundTrip(req); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}
