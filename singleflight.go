package freshtoken

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/singleflight"
)

// One refresh at a time, however many goroutines ask.
//
// A caller who finds no fresh token joins a flight, or starts it. The flight
// runs in a goroutine of its own and belongs to the Source: it has its own
// deadlines and goes on when the caller that started it leaves, because the
// refresh token may be spent already. Each caller waits on its own context.
//
// There are three kinds of flight, which take turns (Source.turn). A due flight
// is optional: the token is still good, and if another process holds the
// session lock, that process is refreshing it. A need flight serves callers who
// have no usable token, and waits for the lock. A save flight saves what could
// not be saved before. A flight begins by looking whether its predecessor has
// left it anything to do, so joining the wrong one costs a round and never a
// refresh.
type reason string

const (
	reasonDue  reason = "due"
	reasonNeed reason = "need"
	reasonSave reason = "save"
)

const (
	// dueWait is how long the caller elected to refresh a token that is due
	// waits, before it goes on with the token.
	dueWait = 2 * time.Second

	// rounds is how many flights one caller waits for. The first may have
	// been another's, the second may end with an unknown outcome, which
	// deserves one prompt retry.
	rounds = 4
)

// fly joins the flight for the given reason, or starts it.
func (s *Source) fly(why reason) <-chan singleflight.Result {
	return s.flights.DoChan(string(why), func() (any, error) {
		if !s.begin() {
			return nil, ErrClosed
		}
		defer s.end()
		s.turn <- struct{}{}
		defer func() { <-s.turn }()
		return nil, s.observed(why)
	})
}

// detached runs an operation in its turn, in a goroutine of its own. If ctx
// ends while it waits for its turn, it does not take place.
func (s *Source) detached(ctx context.Context, operation func() error) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	if !s.begin() {
		return ErrClosed
	}
	done := make(chan error, 1)
	go func() {
		defer s.end()
		select {
		case s.turn <- struct{}{}:
			defer func() { <-s.turn }()
			done <- operation()
		case <-ctx.Done():
			done <- contextError(ctx)
		}
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return contextError(ctx)
	}
}

// wait returns a view with a usable token, or the reason why there is none.
func (s *Source) wait(ctx context.Context) (*view, error) {
	for range rounds {
		now := time.Now()
		v := s.current.Load()
		switch {
		case v.usable(now) && v.age(now) < v.freshUntil:
			return v, nil
		case v.usable(now):
			if v = s.tend(ctx, v); v.usable(time.Now()) {
				return v, nil
			}
			continue
		case v.refuses(now):
			return nil, v.err
		}
		err := s.join(ctx)
		if err == nil || ctx.Err() == nil && s.current.Load().usable(time.Now()) {
			continue // the rejection that the flight was to answer is not believed: the token goes on
		}
		if !retryPromptly(ctx, err) {
			return nil, err
		}
	}
	return nil, &RefreshError{class: classTransient, Temporary: true, Err: errors.New("every new token was rejected, or had expired on arrival")}
}

// join waits for a need flight, as long as ctx allows.
func (s *Source) join(ctx context.Context) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	select {
	case r := <-s.fly(reasonNeed):
		return r.Err
	case <-ctx.Done():
		return contextError(ctx)
	}
}

// tend sees to a token that is due and valid. One caller is elected to do so;
// for all others, and for whoever comes later, the token stays good until the
// flight has ended or the token has expired. It returns the view there is then.
func (s *Source) tend(ctx context.Context, v *view) *view {
	elected := &view{facts: v.facts}
	elected.freshUntil = v.expire
	if !s.current.CompareAndSwap(v, elected) {
		return s.current.Load()
	}
	landed := s.fly(reasonDue)
	if !s.cfg.Background {
		patience := time.NewTimer(dueWait)
		defer patience.Stop()
		select {
		case <-landed:
		case <-patience.C:
		case <-ctx.Done():
		}
	}
	return s.current.Load()
}

// retryPromptly reports whether err is a first refresh with an unknown outcome,
// after having waited until it is time for the second.
func retryPromptly(ctx context.Context, err error) bool {
	failed := new(RefreshError)
	if !errors.As(err, &failed) || !failed.promptly {
		return false
	}
	pause := time.NewTimer(failed.RetryAfter)
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// renew returns a view whose token is another than the one an API has
// rejected.
func (s *Source) renew(ctx context.Context, rejected string) (*view, error) {
	for range 2 { // the first flight may have been under way before the rejection
		before := s.current.Load()
		if err := s.reject(rejected); err != nil {
			return nil, err
		}
		v, err := s.wait(ctx)
		if err != nil {
			return nil, err
		}
		if v.token.AccessToken != rejected {
			return v, nil
		}
		if before != nil && v.id == before.id && v.issued != before.issued {
			return nil, &RefreshError{class: classRefused, Err: errors.New(
				"the API rejects the token, and the server issues the same one again: check the token's audience and scope")}
		}
	}
	return nil, &RefreshError{class: classTransient, Temporary: true, Err: errors.New("there is no newer token yet")}
}

// reject takes the token out of use if it is the current one. While rejections
// are not believed, it says so.
func (s *Source) reject(token string) error {
	for {
		now := time.Now()
		v := s.current.Load()
		if !v.usable(now) || v.token.AccessToken != token {
			return nil
		}
		if now.Before(v.overBudget) {
			return overBudget(v.overBudget.Sub(now))
		}
		dead := &view{facts: v.facts}
		dead.rejected, dead.freshUntil = true, 0
		if s.current.CompareAndSwap(v, dead) {
			s.emit(EventRejected, s.superseded(v))
			return nil
		}
	}
}

// overBudget is what a rejection gets that is not believed for the time d.
func overBudget(d time.Duration) *RefreshError {
	return &RefreshError{class: classRefused, RetryAfter: d, Err: errors.New(
		"the API rejects new tokens, too: check the token's audience and scope (Config.RefreshParams), and the API's clock")}
}

// schedule sets the timer for a session that is kept fresh in the background.
// s.mu is held.
func (s *Source) schedule(v *view) {
	if s.target != "" {
		return // nobody may need what it is for any more
	}
	stop(&s.timer)
	if !s.cfg.Background {
		return
	}
	now := time.Now()
	switch {
	case v.usable(now) && min(v.due, v.warn) != never:
		s.timer = time.AfterFunc(max(min(v.due, v.warn)-v.age(now), 0), s.wake)
	case !v.wake.IsZero():
		s.timer = time.AfterFunc(max(v.wake.Sub(now), 0), s.wake)
	}
}

// wake starts the flight for which it is time. The token may have expired by
// now: a refresh can be put off until then, and a timer comes late after sleep.
func (s *Source) wake() {
	if s.current.Load().usable(time.Now()) {
		s.fly(reasonDue)
		return
	}
	s.fly(reasonNeed)
}

func stop(t **time.Timer) {
	if *t != nil {
		(*t).Stop()
		*t = nil
	}
}
