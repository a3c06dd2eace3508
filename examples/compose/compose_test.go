package compose_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/examples/compose"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/hashicorp/go-retryablehttp"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

const lifetime = time.Minute

// wire sees what is sent, and where to.
type wire struct {
	base http.RoundTripper

	mu       sync.Mutex // guards what follows
	problems []string
	traces   []string      // the traceparent of each request
	late     time.Duration // how long the next request takes
}

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	w.mu.Lock()
	auth := req.Header.Values("Authorization")
	if strings.HasPrefix(req.URL.Path, "/api/") && (len(auth) != 1 || !strings.HasPrefix(auth[0], "Bearer ") || strings.Contains(auth[0], ",")) {
		w.problems = append(w.problems, fmt.Sprintf("%d credentials", len(auth)))
	}
	if len(auth) > 0 && req.URL.Host != "oauth.test" {
		w.problems = append(w.problems, "a token for "+req.URL.Host)
	}
	if n := len(req.Header.Values("Traceparent")); n > 1 {
		w.problems = append(w.problems, fmt.Sprintf("%d traceparents", n))
	}
	w.traces = append(w.traces, req.Header.Get("Traceparent"))
	late := w.late
	w.late = 0
	w.mu.Unlock()
	time.Sleep(late)
	return w.base.RoundTrip(req)
}

// world is a server, a session and a client that is composed.
type world struct {
	t     *testing.T
	srv   *oauthtest.Server
	src   *freshtoken.Source
	wire  *wire
	spans *tracetest.InMemoryExporter
	send  sender
}

// A sender sends a body, []byte or an io.Reader, to an address of the API, and
// returns the status and body of the answer.
type sender func(ctx context.Context, url string, body any) (int, []byte, error)

// plain sends with a client of net/http.
func plain(c *http.Client) sender {
	return func(ctx context.Context, url string, body any) (int, []byte, error) {
		r, ok := body.(io.Reader)
		if !ok {
			r = bytes.NewReader(body.([]byte))
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, r)
		if err != nil {
			return 0, nil, err
		}
		return answer(c.Do(req))
	}
}

func answer(resp *http.Response, err error) (int, []byte, error) {
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, data, err
}

type composition struct {
	name string
	make func(t *freshtoken.Transport, o []otelhttp.Option) sender
}

var compositions = []composition{
	{"the Transport alone", func(t *freshtoken.Transport, _ []otelhttp.Option) sender {
		return plain(&http.Client{Transport: t})
	}},
	{"otelhttp outside", func(t *freshtoken.Transport, o []otelhttp.Option) sender { return plain(compose.TraceOutside(t, o...)) }},
	{"otelhttp inside", func(t *freshtoken.Transport, o []otelhttp.Option) sender { return plain(compose.TraceInside(t, o...)) }},
	{"retryablehttp outside", func(t *freshtoken.Transport, _ []otelhttp.Option) sender {
		c := compose.RetryOutside(t)
		return func(ctx context.Context, url string, body any) (int, []byte, error) {
			req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodPut, url, body)
			if err != nil {
				return 0, nil, err
			}
			return answer(c.Do(req))
		}
	}},
	{"retryablehttp inside", func(t *freshtoken.Transport, _ []otelhttp.Option) sender { return plain(compose.RetryInside(t)) }},
	{"resty outside", func(t *freshtoken.Transport, _ []otelhttp.Option) sender {
		c := compose.RestyOutside(t)
		return func(ctx context.Context, url string, body any) (int, []byte, error) {
			resp, err := c.R().SetContext(ctx).SetBody(body).Put(url)
			if err != nil {
				return 0, nil, err
			}
			return resp.StatusCode(), resp.Body(), nil
		}
	}},
	{"resty inside", func(t *freshtoken.Transport, _ []otelhttp.Option) sender { return plain(compose.RestyInside(t)) }},
}

func newWorld(t *testing.T, c composition) *world {
	t.Helper()
	w := &world{t: t, srv: oauthtest.New(oauthtest.Options{AccessLifetime: lifetime}), spans: tracetest.NewInMemoryExporter()}
	src, err := freshtoken.New(freshtoken.Config{OAuth2: w.srv.OAuth2(), HTTPClient: w.srv.Client()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	w.src = src
	if err := src.SetToken(t.Context(), w.srv.Login("alice")); err != nil {
		t.Fatal(err)
	}
	w.wire = &wire{base: w.srv.Transport()}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(w.spans))
	w.send = c.make(&freshtoken.Transport{Source: src, Base: w.wire, Origins: []string{w.srv.BaseURL()}},
		[]otelhttp.Option{otelhttp.WithTracerProvider(provider), otelhttp.WithPropagators(propagation.TraceContext{})})
	return w
}

// revoke has the API reject the token that is in use.
func (w *world) revoke() string {
	w.t.Helper()
	tok, err := w.src.Token(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	w.srv.RevokeAccess(tok.AccessToken)
	return tok.AccessToken
}

// A scene is something that happens to a request.
type scene struct {
	name   string
	before func(*world)
	status int // 0: there is an error
	once   bool
}

var scenes = []scene{
	{"valid token", func(*world) {}, 200, false},
	{"rejected token", func(w *world) { w.revoke() }, 200, false},
	{"API says 503 once", func(w *world) { w.srv.API.Next(oauthtest.Unavailable("")) }, 200, false},
	{"503, then the token is rejected", func(w *world) {
		w.srv.API.Func(func(r *http.Request, n int) oauthtest.Fault {
			if n > 1 {
				return oauthtest.Fault{}
			}
			w.srv.RevokeAccess(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
			return oauthtest.Unavailable("")
		})
	}, 200, false},
	{"503 so late that the token has expired", func(w *world) {
		w.wire.late = lifetime + time.Second
		w.srv.API.Next(oauthtest.Unavailable(""))
	}, 200, false},
	{"rejected token, and a body that can be read once", func(w *world) { w.revoke() }, 200, true},
	{"API rejects any token", func(w *world) { w.srv.API.Always(oauthtest.Unauthorized("Bearer error=\"invalid_token\"")) }, 401, false},
	{"expired, and the session has ended", func(w *world) {
		time.Sleep(lifetime)
		w.srv.Token.Next(oauthtest.InvalidGrant())
	}, 0, false},
}

// play sends one request in a scene, and says what came to the API and to the
// token endpoint.
func play(t *testing.T, c composition, s scene) (counts string) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, c)
		s.before(w)
		body := bytes.Repeat([]byte("precious"), 1000)
		var sent any = body
		if s.once {
			sent = io.LimitReader(bytes.NewReader(body), int64(len(body)))
		}
		start := time.Now()
		status, data, err := w.send(t.Context(), w.srv.APIURL("things"), sent)
		if s.status == 0 && time.Since(start) != 0 {
			t.Errorf("it was tried again for %v, though only a login helps", time.Since(start))
		}
		retries := !strings.HasPrefix(c.name, "otelhttp") && !strings.HasPrefix(c.name, "the")
		want := s.status
		if strings.Contains(s.name, "503") && !retries {
			want = 503
		}
		if s.once && !strings.HasSuffix(c.name, "outside") || s.once && strings.HasPrefix(c.name, "otelhttp") {
			want = 401
		}
		if status != want || (err != nil) != (want == 0) {
			t.Errorf("status %d, error %v, want status %d", status, err, want)
		}
		var got struct{ Length int }
		if json.Unmarshal(data, &got); status == 200 && got.Length != len(body) {
			t.Errorf("the API got %d bytes of %d: %s", got.Length, len(body), data)
		}
		stats := w.srv.Stats()
		if stats.DamagedBodies != 0 || stats.Reuses != 0 || len(w.wire.problems) != 0 {
			t.Errorf("%d damaged bodies, %d refresh tokens sent twice, %v", stats.DamagedBodies, stats.Reuses, w.wire.problems)
		}
		counts = fmt.Sprintf("%d / %d", stats.APIRequests, stats.TokenRequests)
		if status != s.status {
			counts += fmt.Sprintf(", %d", status)
		}
	})
	return counts
}

// The README has the counts that these compositions have.
func TestCompositions(t *testing.T) {
	table := "| |"
	for _, s := range scenes {
		table += " " + s.name + " |"
	}
	table += "\n|---|" + strings.Repeat("---|", len(scenes)) + "\n"
	for _, c := range compositions {
		table += "| " + c.name + " |"
		for _, s := range scenes {
			t.Run(c.name+": "+s.name, func(t *testing.T) { table += " " + play(t, c, s) + " |" })
		}
		table += "\n"
	}
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), table) {
		t.Errorf("README.md should have this table:\n%s", table)
	}
}

// Outside, a request is one span, whatever it takes; inside, it is one for each
// time that it is sent.
func TestSpansOfAReplay(t *testing.T) {
	for name, want := range map[string]string{
		"otelhttp outside": "HTTP PUT 200, 1 trace",
		"otelhttp inside":  "HTTP PUT 401, HTTP PUT 200, 2 traces",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, named(t, name))
				w.revoke()
				if status, _, err := w.send(t.Context(), w.srv.APIURL("things"), []byte("x")); status != 200 || err != nil {
					t.Fatal(status, err)
				}
				got, traces := "", make(map[string]bool)
				for _, span := range w.spans.GetSpans() {
					got += span.Name
					for _, kv := range span.Attributes {
						if kv.Key == "http.response.status_code" {
							got += " " + kv.Value.String() + ", "
						}
					}
				}
				for _, parent := range w.wire.traces {
					traces[parent] = true
				}
				got += fmt.Sprintf("%d trace%s", len(traces), "s"[:min(len(traces)-1, 1)])
				if got != want || traces[""] {
					t.Errorf("got %s, want %s; traceparents %v", got, want, w.wire.traces)
				}
			})
		})
	}
}

func named(t *testing.T, name string) composition {
	for _, c := range compositions {
		if c.name == name {
			return c
		}
	}
	t.Fatalf("there is no composition %q", name)
	return composition{}
}

// net/http lets subdomains have the credential of a request that is redirected
// there. No composition does.
func TestRedirects(t *testing.T) {
	const elsewhere = "files.oauth.test"
	for _, c := range compositions {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, c)
				reached := 0
				w.srv.Handle(elsewhere, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
				w.srv.API.Next(oauthtest.Redirect(http.StatusTemporaryRedirect, "https://"+elsewhere+"/x"))
				status, _, err := w.send(t.Context(), w.srv.APIURL("things"), []byte("x"))
				if status != 200 || err != nil || reached != 1 || len(w.wire.problems) != 0 {
					t.Errorf("status %d, error %v, %d requests to %s, %v", status, err, reached, elsewhere, w.wire.problems)
				}
			})
		})
	}
}

// Why no client that retries belongs below the Source, as Config.HTTPClient: it
// sends the refresh token again by itself, whatever became of the first time.
func TestRetryingClientOfTheSourceSpendsTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{AccessLifetime: lifetime})
		retry := retryablehttp.NewClient()
		retry.HTTPClient, retry.Logger = srv.Client(), nil
		for name, c := range map[string]*http.Client{"retryablehttp": retry.StandardClient(), "none": srv.Client(),
			"otelhttp": {Transport: otelhttp.NewTransport(srv.Transport())}} {
			src, err := freshtoken.New(freshtoken.Config{OAuth2: srv.OAuth2(), HTTPClient: c})
			if err != nil {
				t.Fatal(err)
			}
			if err := src.SetToken(t.Context(), srv.Login("alice")); err != nil {
				t.Fatal(err)
			}
			before := srv.Stats()
			srv.Token.Next(oauthtest.Unavailable(""))
			_, err = src.Refresh(t.Context(), nil)
			if posts := srv.Stats().TokenRequests - before.TokenRequests; (posts == 1) != (name != "retryablehttp") {
				t.Errorf("%s: %d requests for one refresh, error %v", name, posts, err)
			}
			src.Close()
		}
	})
}
