package otel_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/otel"
	"github.com/freshtoken/freshtoken/storage"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

const lifetime = time.Minute

// bench is a program that is watched, and what its SDK has in memory.
type bench struct {
	t     *testing.T
	srv   *oauthtest.Server
	store freshtoken.Store
	spans *tracetest.InMemoryExporter
	meter *metric.ManualReader
	src   *freshtoken.Source
}

// begin starts the program, with a session of alice.
func begin(t *testing.T, o otel.Options, edits ...func(*freshtoken.Config)) *bench {
	t.Helper()
	b := &bench{t: t, srv: oauthtest.New(oauthtest.Options{AccessLifetime: lifetime}), store: storage.NewMemory(),
		spans: tracetest.NewInMemoryExporter(), meter: metric.NewManualReader()}
	o.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSyncer(b.spans))
	o.MeterProvider = metric.NewMeterProvider(metric.WithReader(b.meter))
	cfg := b.config()
	for _, edit := range edits {
		edit(&cfg)
	}
	if err := otel.Instrument(&cfg, o); err != nil {
		t.Fatal(err)
	}
	b.src = b.open(cfg)
	if err := b.src.SetToken(t.Context(), b.srv.Login("alice")); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) config() freshtoken.Config {
	return freshtoken.Config{OAuth2: b.srv.OAuth2(), HTTPClient: b.srv.Client(), Store: b.store, Session: "alice@example.com"}
}

func (b *bench) open(cfg freshtoken.Config) *freshtoken.Source {
	b.t.Helper()
	src, err := freshtoken.New(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { src.Close() })
	return src
}

// get sends a request to the API, and returns the status of the answer.
func (b *bench) get() int {
	b.t.Helper()
	client := &http.Client{Transport: &freshtoken.Transport{Source: b.src, Base: b.srv.Transport(), Origins: []string{b.srv.BaseURL()}}}
	resp, err := client.Get(b.srv.APIURL("me"))
	if err != nil {
		b.t.Error(err)
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// trees returns the traces that were made since: each root with its children.
func (b *bench) trees() (trees [][]tracetest.SpanStub) {
	synctest.Wait()
	all := b.spans.GetSpans()
	b.spans.Reset()
	for _, root := range all {
		if root.Parent.IsValid() {
			continue
		}
		tree := []tracetest.SpanStub{root}
		for _, s := range all {
			if s.Parent.SpanID() == root.SpanContext.SpanID() && s.SpanContext.TraceID() == root.SpanContext.TraceID() {
				tree = append(tree, s)
			}
		}
		slices.SortStableFunc(tree[1:], func(x, y tracetest.SpanStub) int { return x.StartTime.Compare(y.StartTime) })
		trees = append(trees, tree)
	}
	return trees
}

// sums returns what has been measured: for each instrument and set of attributes
// the count, and for histograms the sum in seconds.
func (b *bench) sums() map[string]string {
	b.t.Helper()
	synctest.Wait()
	var rm metricdata.ResourceMetrics
	if err := b.meter.Collect(context.Background(), &rm); err != nil {
		b.t.Fatal(err)
	}
	sums := make(map[string]string)
	name := func(m metricdata.Metrics, set attribute.Set) string {
		return m.Name + " " + strings.ReplaceAll(set.Encoded(attribute.DefaultEncoder()), "freshtoken.", "")
	}
	for _, scope := range rm.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					sums[name(m, p.Attributes)] = fmt.Sprint(p.Value)
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					sums[name(m, p.Attributes)] = fmt.Sprintf("%d: %gs", p.Count, p.Sum)
				}
			}
		}
	}
	return sums
}

func (b *bench) wantSums(want map[string]string) {
	b.t.Helper()
	got := b.sums()
	for name, value := range want {
		if got[name] != value {
			b.t.Errorf("%s is %q, want %q; there are\n%v", name, got[name], value, got)
		}
	}
}

// attrs returns the attributes of a span, as text.
func attrs(s tracetest.SpanStub) string {
	set := attribute.NewSet(s.Attributes...)
	return strings.ReplaceAll(set.Encoded(attribute.DefaultEncoder()), "freshtoken.", "")
}

// shape is a trace in short.
func shape(tree []tracetest.SpanStub) string {
	names := make([]string, len(tree))
	for i, s := range tree {
		names[i] = strings.TrimPrefix(s.Name, "freshtoken.refresh.")
	}
	return strings.Join(names, " ")
}

// tardy sends each request after some seconds.
type tardy struct{ http.RoundTripper }

func (l tardy) RoundTrip(req *http.Request) (*http.Response, error) {
	time.Sleep(5 * time.Second)
	return l.RoundTripper.RoundTrip(req)
}

func TestTraceOfARefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, otel.Options{}, func(c *freshtoken.Config) { c.HTTPClient.Transport = tardy{c.HTTPClient.Transport} })
		time.Sleep(lifetime)
		unlock := b.lock()
		time.AfterFunc(7*time.Second, func() { unlock() })
		if got := b.get(); got != http.StatusOK {
			t.Fatalf("status %d", got)
		}
		trees := b.trees()
		if len(trees) != 1 || shape(trees[0]) != "freshtoken.refresh lock load mark request save unlock" {
			t.Fatalf("got %d traces, the last %s", len(trees), shape(trees[len(trees)-1]))
		}
		root, lock, request := trees[0][0], trees[0][1], trees[0][4]
		if got, want := attrs(root), "generation=2,outcome=refreshed,reason=need"; got != want {
			t.Errorf("the attributes are %s, want %s", got, want)
		}
		if took(root) != 12*time.Second || took(lock) != 7*time.Second || took(request) != 5*time.Second || !request.EndTime.Equal(root.EndTime) {
			t.Errorf("the refresh took %v, the lock %v, the request %v; want 12, 7 and 5 seconds", took(root), took(lock), took(request))
		}
		if request.SpanKind != trace.SpanKindClient || root.Status.Code != codes.Unset {
			t.Errorf("the request is of kind %v, and the status %v", request.SpanKind, root.Status)
		}
		b.wantSums(map[string]string{
			"freshtoken.refreshes outcome=refreshed,reason=need":              "1",
			"freshtoken.refresh.duration outcome=refreshed,reason=need":       "1: 12s",
			"freshtoken.refresh.step.duration step=lock,step.failed=false":    "1: 7s",
			"freshtoken.refresh.step.duration step=request,step.failed=false": "1: 5s",
			"freshtoken.events event=refreshed":                               "1",
		})
	})
}

func took(s tracetest.SpanStub) time.Duration { return s.EndTime.Sub(s.StartTime) }

// lock takes the session lock, as another process would.
func (b *bench) lock() (unlock func() error) {
	b.t.Helper()
	keys, err := b.store.(freshtoken.Lister).List(b.t.Context())
	if err != nil || len(keys) != 1 {
		b.t.Fatal(keys, err)
	}
	if unlock, err = b.store.Lock(b.t.Context(), keys[0]); err != nil {
		b.t.Fatal(err)
	}
	return unlock
}

func TestReplayRejectionAndAdoption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, otel.Options{})
		tok, err := b.src.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b.srv.RevokeAccess(tok.AccessToken)
		if got := b.get(); got != http.StatusOK {
			t.Errorf("status %d", got)
		}
		time.Sleep(lifetime / 2)
		other := b.open(b.config())
		if _, err := other.Refresh(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lifetime/2 - time.Second)
		if got := b.get(); got != http.StatusOK {
			t.Errorf("status %d", got)
		}
		trees := b.trees()
		if len(trees) != 2 || shape(trees[1]) != "freshtoken.refresh lock load unlock" {
			t.Fatalf("got %d traces, the last %s", len(trees), shape(trees[len(trees)-1]))
		}
		b.wantSums(map[string]string{
			"freshtoken.events event=rejected":                   "1",
			"freshtoken.events event=replayed":                   "1",
			"freshtoken.events event=adopted":                    "1",
			"freshtoken.refreshes outcome=refreshed,reason=need": "1",
			"freshtoken.refreshes outcome=adopted,reason=due":    "1",
		})
	})
}

func TestFailures(t *testing.T) {
	for _, c := range []struct {
		fault              oauthtest.Fault
		root, request, err string
	}{
		{oauthtest.InvalidGrant(), "error.type=session_ended,generation=1,outcome=failed,reason=need", "error.code=invalid_grant,http.response.status_code=400", "the session has ended"},
		{oauthtest.Unavailable("10"), "error.type=temporary,generation=1,outcome=failed,reason=need", "http.response.status_code=503", "try again"},
		{oauthtest.Error(401, "invalid_client"), "error.type=refused,generation=1,outcome=failed,reason=need", "error.code=invalid_client,http.response.status_code=401", "client ID"},
		{oauthtest.Refuse(), "error.type=temporary,generation=1,outcome=failed,reason=need", "", "cannot reach"},
	} {
		for _, text := range []bool{false, true} {
			t.Run(fmt.Sprint(c.fault.Name, " text=", text), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { fails(t, c.fault, text, c.root, c.request, c.err) })
			})
		}
	}
}

func fails(t *testing.T, fault oauthtest.Fault, text bool, wantRoot, wantRequest, wantText string) {
	b := begin(t, otel.Options{ErrorText: text})
	b.srv.Token.Next(fault)
	time.Sleep(lifetime)
	if _, err := b.src.Token(t.Context()); err == nil {
		t.Fatal("there was no error")
	}
	trees := b.trees()
	if len(trees) != 1 || len(trees[0]) < 5 {
		t.Fatalf("got %v", trees)
	}
	root, request := trees[0][0], trees[0][4]
	if attrs(root) != wantRoot || attrs(request) != wantRequest {
		t.Errorf("got %s\nand %s\nwant %s\nand %s", attrs(root), attrs(request), wantRoot, wantRequest)
	}
	if root.Status.Code != codes.Error || request.Status.Code != codes.Error || !text && root.Status.Description != "" ||
		text && !strings.Contains(root.Status.Description, wantText) {
		t.Errorf("the status is %v, of the request %v", root.Status, request.Status)
	}
}

// A token for a Target tells what it is for, and one that is not granted that.
func TestTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, otel.Options{})
		mail, err := b.src.For(freshtoken.Target{Resources: []string{"https://mail.test"}})
		if err != nil {
			t.Fatal(err)
		}
		b.srv.Token.Next(oauthtest.Error(400, "invalid_target"))
		if _, err := mail.Token(t.Context()); !errors.Is(err, freshtoken.ErrNotGranted) {
			t.Fatalf("got %v", err)
		}
		time.Sleep(5 * time.Minute)
		if _, err := mail.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		const about = ",target=resource\\=https%3A%2F%2Fmail.test"
		b.wantSums(map[string]string{
			"freshtoken.refreshes error.type=not_granted,outcome=failed,reason=need" + about: "1",
			"freshtoken.refreshes outcome=refreshed,reason=need" + about:                     "1",
		})
	})
}

// Neither a secret nor, unless it is asked for, the name of a session leaves.
func TestNothingTellsWhoseSessionItIs(t *testing.T) {
	for _, named := range []bool{false, true} {
		t.Run(fmt.Sprint("SessionName: ", named), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := begin(t, otel.Options{SessionName: named, ErrorText: true})
				secret, err := b.src.Token(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				b.get()
				time.Sleep(lifetime)
				b.srv.Token.Next(oauthtest.InvalidGrant())
				b.src.Token(t.Context())
				shown := fmt.Sprintf("%+v %+v", b.trees(), b.sums())
				if strings.Contains(shown, secret.AccessToken) {
					t.Error("the token is in what is exported")
				}
				if got := strings.Contains(shown, "alice"); got != named {
					t.Errorf("the name is there: %v", got)
				}
				if !strings.Contains(shown, "outcome=failed") {
					t.Error("nothing is exported")
				}
			})
		})
	}
}

// Hooks that the program has are called first, and still called.
func TestInstrumentKeepsHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events, attempts int
		b := begin(t, otel.Options{}, func(c *freshtoken.Config) {
			c.OnEvent = func(freshtoken.Event) { events++ }
			c.OnAttempt = func(freshtoken.Attempt) { attempts++ }
		})
		time.Sleep(lifetime)
		b.get()
		if synctest.Wait(); events != 2 || attempts != 1 || len(b.trees()) != 1 {
			t.Errorf("%d events, %d attempts, want 2 and 1", events, attempts)
		}
	})
}
