package otel

import (
	"context"
	"errors"

	"github.com/freshtoken/freshtoken"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// scope names the instrumentation, as OpenTelemetry wants it.
const scope = "github.com/freshtoken/freshtoken/otel"

// Options say where spans and measurements go, and what may be in them. The zero
// value is ready for use.
type Options struct {
	// TracerProvider gets the spans. Nil: the global one.
	TracerProvider trace.TracerProvider

	// MeterProvider gets the measurements. Nil: the global one.
	MeterProvider metric.MeterProvider

	// SessionName adds Config.Session, as freshtoken.session, to spans and
	// measurements. False: it is left out, because it often names a person, and
	// each makes series of its own.
	SessionName bool

	// ErrorText gives spans the text of errors, as the description of their
	// status. It holds no secret, but the server's words, and names of hosts and
	// of directories. False: error.type alone tells.
	ErrorText bool
}

// Instrument has the Source that is made of cfg tell OpenTelemetry what happens
// to its session. Call it before freshtoken.New, once. The functions that
// cfg.OnEvent and cfg.OnAttempt already have are called first. An error is one of
// the MeterProvider, and leaves cfg as it was.
func Instrument(cfg *freshtoken.Config, o Options) error {
	if o.TracerProvider == nil {
		o.TracerProvider = otel.GetTracerProvider()
	}
	if o.MeterProvider == nil {
		o.MeterProvider = otel.GetMeterProvider()
	}
	a := &adapter{tracer: o.TracerProvider.Tracer(scope), errorText: o.ErrorText, sessionName: o.SessionName}
	if err := a.measure(o.MeterProvider.Meter(scope)); err != nil {
		return err
	}
	cfg.OnEvent = after(cfg.OnEvent, a.event)
	cfg.OnAttempt = after(cfg.OnAttempt, a.attempt)
	return nil
}

// after calls one function, if there is one, and then the other.
func after[T any](first, then func(T)) func(T) {
	if first == nil {
		return then
	}
	return func(v T) {
		first(v)
		then(v)
	}
}

type adapter struct {
	tracer                 trace.Tracer
	errorText, sessionName bool

	refreshes, events metric.Int64Counter
	duration, step    metric.Float64Histogram
}

// buckets are for a local file as well as for a lock that is waited for for a
// minute, in seconds.
var buckets = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}

func (a *adapter) measure(m metric.Meter) error {
	errs := make([]error, 4)
	a.refreshes, errs[0] = m.Int64Counter("freshtoken.refreshes", metric.WithUnit("{attempt}"),
		metric.WithDescription("Attempts to refresh, adopt or save the session, by what they came to."))
	a.duration, errs[1] = m.Float64Histogram("freshtoken.refresh.duration", metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(buckets...),
		metric.WithDescription("What an attempt took, the wait for the session lock included."))
	a.step, errs[2] = m.Float64Histogram("freshtoken.refresh.step.duration", metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(buckets...),
		metric.WithDescription("What the steps of an attempt took: lock is the wait for the session lock."))
	a.events, errs[3] = m.Int64Counter("freshtoken.events", metric.WithUnit("{event}"),
		metric.WithDescription("What happened to the session: replays, rejections, adoptions and the rest."))
	return errors.Join(errs...)
}

// event counts an event.
func (a *adapter) event(e freshtoken.Event) {
	a.events.Add(context.Background(), 1, metric.WithAttributes(
		a.named(e.Session, attribute.String("freshtoken.event", string(e.Kind)))...))
}

// attempt makes a trace of an attempt, and measures it. The attempt is over: what
// a span needs is all there, and nobody waits.
func (a *adapter) attempt(at freshtoken.Attempt) {
	attrs := a.named(at.Session, attribute.String("freshtoken.reason", at.Reason), attribute.String("freshtoken.outcome", string(at.Outcome)))
	if at.Target != "" {
		attrs = append(attrs, attribute.String("freshtoken.target", at.Target))
	}
	failed := at.Outcome == freshtoken.OutcomeFailed
	if at.Err != nil {
		attrs = append(attrs, attribute.String("error.type", errorType(at.Err)))
	}
	ctx, span := a.tracer.Start(context.Background(), "freshtoken.refresh", trace.WithNewRoot(), trace.WithTimestamp(at.Start),
		trace.WithAttributes(append([]attribute.KeyValue{attribute.Int64("freshtoken.generation", int64(at.Generation))}, attrs...)...))
	for _, st := range at.Steps {
		a.child(ctx, st, at.Err)
	}
	if failed {
		span.SetStatus(codes.Error, a.text(at.Err))
	}
	span.End(trace.WithTimestamp(at.Start.Add(at.Duration)))

	// ctx leads from a measurement to the trace, for exemplars.
	set := metric.WithAttributeSet(attribute.NewSet(attrs...))
	a.refreshes.Add(ctx, 1, set)
	a.duration.Record(ctx, at.Duration.Seconds(), set)
	for _, st := range at.Steps {
		a.step.Record(ctx, st.Duration.Seconds(), metric.WithAttributes(a.named(at.Session,
			attribute.String("freshtoken.step", string(st.Kind)), attribute.Bool("freshtoken.step.failed", st.Failed))...))
	}
}

// child makes the span of a step. err is why the attempt failed, if it did.
func (a *adapter) child(ctx context.Context, st freshtoken.Step, err error) {
	kind := trace.SpanKindInternal
	if st.Kind == freshtoken.StepRequest {
		kind = trace.SpanKindClient
	}
	_, span := a.tracer.Start(ctx, "freshtoken.refresh."+string(st.Kind), trace.WithTimestamp(st.Start), trace.WithSpanKind(kind))
	if st.Failed {
		span.SetStatus(codes.Error, "")
	}
	refused := new(freshtoken.RefreshError)
	if st.Kind == freshtoken.StepRequest && st.Failed && errors.As(err, &refused) {
		if refused.Status != 0 {
			span.SetAttributes(attribute.Int("http.response.status_code", refused.Status))
		}
		if refused.Code != "" {
			span.SetAttributes(attribute.String("freshtoken.error.code", refused.Code))
		}
	}
	span.End(trace.WithTimestamp(st.Start.Add(st.Duration)))
}

func (a *adapter) named(session string, attrs ...attribute.KeyValue) []attribute.KeyValue {
	if a.sessionName {
		attrs = append(attrs, attribute.String("freshtoken.session", session))
	}
	return attrs
}

func (a *adapter) text(err error) string {
	if err == nil || !a.errorText {
		return ""
	}
	return err.Error()
}

// errorType is the kind of an error, of which there are few: an error code of a
// server would be a label that somebody else chooses.
func errorType(err error) string {
	for _, known := range []struct {
		err  error
		name string
	}{
		{freshtoken.ErrNotGranted, "not_granted"},
		{freshtoken.ErrSessionEnded, "session_ended"},
		{freshtoken.ErrNoSession, "no_session"},
		{freshtoken.ErrLocked, "locked"},
		{freshtoken.ErrStore, "store"},
		{freshtoken.ErrMismatch, "mismatch"},
		{freshtoken.ErrBadToken, "bad_token"},
		{freshtoken.ErrClosed, "closed"},
	} {
		if errors.Is(err, known.err) {
			return known.name
		}
	}
	failed := new(freshtoken.RefreshError)
	switch {
	case !errors.As(err, &failed):
		return "_OTHER"
	case failed.OutcomeUnknown:
		return "outcome_unknown"
	case failed.Temporary:
		return "temporary"
	default:
		return "refused"
	}
}
