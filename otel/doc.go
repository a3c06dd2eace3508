// Package otel tells OpenTelemetry what happens to a session of freshtoken: a
// trace of each refresh, counters, and histograms of what it took. It is a module
// of its own, so that nobody else has OpenTelemetry among their dependencies.
//
//	cfg := freshtoken.Config{…}
//	if err := otel.Instrument(&cfg, otel.Options{}); err != nil {
//		return err
//	}
//	src, err := freshtoken.New(cfg)
//
// A request that finds a valid token costs what it did without: it makes no
// attempt, and so there is nothing to tell. The rest is told once it is over, with
// nothing locked, by the goroutine that delivers events.
//
// # Traces
//
// Each [freshtoken.Attempt] is a trace of its own, because it belongs to none of
// the callers who wait for it:
//
//	freshtoken.refresh            freshtoken.reason, .outcome, .generation, .target; error.type
//	  freshtoken.refresh.lock     waiting for the session lock
//	  freshtoken.refresh.load     reading the store
//	  freshtoken.refresh.mark     noting that the refresh token is about to be spent
//	  freshtoken.refresh.request  asking the server; http.response.status_code and
//	                              freshtoken.error.code if it refuses
//	  freshtoken.refresh.save     writing what it answered
//	  freshtoken.refresh.unlock   giving the lock back
//
// Only the steps that were taken are there: who adopts what another process has
// stored makes no request. A Config.HTTPClient over otelhttp makes a trace of its
// own of the request.
//
// # Metrics
//
//	freshtoken.refreshes              counter    attempts, by freshtoken.reason, freshtoken.outcome, error.type
//	freshtoken.refresh.duration       histogram  seconds, by the same
//	freshtoken.refresh.step.duration  histogram  seconds, by freshtoken.step: lock is the wait for the
//	                                             session lock; and freshtoken.step.failed
//	freshtoken.events                 counter    by freshtoken.event, an EventKind: replayed, rejected,
//	                                             adopted, over_budget, not_persisted, session_ended, …
//
// # What is not in it
//
// No token, no secret and no identifier of a client. What may name a person, the
// name of the session and the text of errors, is left out unless Options ask for
// it. The values of error.type are few: session_ended, no_session, locked, store,
// mismatch, bad_token, closed, outcome_unknown, temporary, refused and _OTHER.
package otel
