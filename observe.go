package freshtoken

import (
	"encoding/json"
	"errors"
	"log/slog"
	"time"
)

// An Attempt is one pass along the path that every refresh takes, with what each
// step of it cost: for metrics and traces. It holds no secret and may be logged
// as it is. The receiver may keep it.
//
// A pass that finds at once that there is nothing to do is none. What SetToken,
// Logout and logins do with the store is none either.
type Attempt struct {
	Session    string        // Config.Session
	Target     string        // what the access token is for (Source.For); empty for the session's own
	Reason     string        // "due": the token is still good; "need": somebody has none; "save": tokens could not be saved before
	Outcome    Outcome       // what it has come to
	Generation uint64        // of the session thereafter: counts its refreshes; zero if there is no session
	Start      time.Time     // when it had its turn in this program
	Duration   time.Duration // from then to the end of the last step
	Steps      []Step        // in the order in which they were begun; none overlap
	Err        error         // why, for OutcomeFailed and OutcomeBusy; what Token would say
}

// An Outcome is what an Attempt has come to.
type Outcome string

// The outcomes of attempts.
const (
	OutcomeRefreshed Outcome = "refreshed" // the server issued new tokens
	OutcomeAdopted   Outcome = "adopted"   // what another process, or an earlier run, has stored will do
	OutcomeUnchanged Outcome = "unchanged" // it is not time yet, or saving was all there was to do
	OutcomeBusy      Outcome = "busy"      // another process kept the session locked
	OutcomeFailed    Outcome = "failed"    // Err tells why; a token that is still good stays in use
)

// A Step is a part of an Attempt that may take its time.
type Step struct {
	Kind     StepKind
	Start    time.Time
	Duration time.Duration
	Failed   bool // why, if that matters, is the Attempt's Err
}

// A StepKind says what is done in a Step.
type StepKind string

// The kinds of steps.
const (
	StepLock    StepKind = "lock"    // waiting for the session lock; not if it was kept since the last attempt
	StepLoad    StepKind = "load"    // reading the store
	StepMark    StepKind = "mark"    // noting in the store that the refresh token is about to be spent
	StepRequest StepKind = "request" // asking the server, or Config.Refresher
	StepSave    StepKind = "save"    // writing the store otherwise: new tokens, or why there are none
	StepUnlock  StepKind = "unlock"  // giving the session lock back
)

// MarshalJSON implements json.Marshaler, with the error as its text.
func (a Attempt) MarshalJSON() ([]byte, error) {
	type plain Attempt
	shown := struct {
		plain
		Err string `json:",omitempty"`
	}{plain: plain(a)}
	if a.Err != nil {
		shown.Err = a.Err.Error()
	}
	return json.Marshal(shown)
}

// LogValue implements slog.LogValuer, with the error as its text, and what all
// steps of a kind took together.
func (a Attempt) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("session", a.Session),
		slog.String("reason", a.Reason),
		slog.String("outcome", string(a.Outcome)),
		slog.Uint64("generation", a.Generation),
		slog.Duration("duration", a.Duration),
	}
	if a.Target != "" {
		attrs = append(attrs, slog.String("target", a.Target))
	}
	for _, kind := range []StepKind{StepLock, StepLoad, StepMark, StepRequest, StepSave, StepUnlock} {
		if d, ok := a.took(kind); ok {
			attrs = append(attrs, slog.Duration(string(kind), d))
		}
	}
	if a.Err != nil {
		attrs = append(attrs, slog.String("error", a.Err.Error()))
	}
	return slog.GroupValue(attrs...)
}

func (a Attempt) took(kind StepKind) (d time.Duration, ok bool) {
	for _, st := range a.Steps {
		if st.Kind == kind {
			d, ok = d+st.Duration, true
		}
	}
	return d, ok
}

// observed is flight, with an account of it for Config.OnAttempt.
func (s *Source) observed(why reason) error {
	if s.cfg.OnAttempt == nil {
		return s.flight(why)
	}
	a := &Attempt{Session: s.cfg.Session, Target: s.target, Reason: string(why), Outcome: OutcomeUnchanged, Start: time.Now()}
	s.inTurn.observed = a
	err := s.flight(why)
	s.inTurn.observed = nil
	if len(a.Steps) == 0 {
		return err
	}
	last := a.Steps[len(a.Steps)-1]
	a.Duration = last.Start.Add(last.Duration).Sub(a.Start)
	a.Generation, a.Err = s.Status().Generation, public(err)
	switch {
	case errors.Is(err, ErrLocked):
		a.Outcome = OutcomeBusy
	case s.begins && errors.Is(err, ErrNoSession): // it is begun now: see tellBeginning
		a.Err = nil
	case err != nil:
		a.Outcome = OutcomeFailed
	}
	s.events.add(func() { s.cfg.OnAttempt(*a) })
	return err
}

// step begins a step of the attempt under way, if one is observed; what it
// returns ends it. The turn is held.
func (s *Source) step(kind StepKind) (end func(error)) {
	a := s.inTurn.observed
	if a == nil {
		return func(error) {}
	}
	start := time.Now()
	return func(err error) {
		a.Steps = append(a.Steps, Step{Kind: kind, Start: start, Duration: time.Since(start), Failed: err != nil})
	}
}

// outcome says what the attempt under way has come to, unless it still fails. The
// turn is held.
func (s *Source) outcome(o Outcome) {
	if a := s.inTurn.observed; a != nil {
		a.Outcome = o
	}
}
