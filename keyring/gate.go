package keyring

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// How long the gate stays shut after a call that did not end well, or the
// check asks nobody. Refusals double the time, because each of them has put a
// prompt before somebody, or may have.
const (
	pauseFirst = 10 * time.Second
	pauseLast  = time.Hour
)

// A program that is stopped in the middle of a call, by a debugger or by job
// control, finds the call's time over when it goes on, and the answer waiting.
// It is told by a timer that comes later than hitch, and gets a while to read
// that answer: or a healthy keyring would be left alone for pauseFirst, and what
// is to be saved with it.
const (
	hitch     = 500 * time.Millisecond
	catchTime = 2 * time.Second
)

// gate is the only way to a keyring. The keyring's calls know no context and
// may never return; through the gate they have a deadline, run one at a time,
// and cannot pile up: while a call that was given up still runs, nothing else
// starts, and after a timeout or a refusal nothing is asked for a while.
type gate struct {
	backend backend
	check   func(ctx context.Context, prompt bool) error // asked before each call

	// confirm is asked where the backend has found nothing, without a prompt.
	// Only if it returns nil is that believed.
	confirm func(ctx context.Context, service, account string) error

	// turn holds a token while a call runs, whether or not anybody still
	// waits for it. A channel, so that waiting for it can be given up.
	turn chan struct{}

	mu      sync.Mutex    // guards the rest
	running *call         // whose turn it is, or nil
	shut    pause         // no call starts
	quiet   pause         // the check asks nobody to unlock; calls start if it passes all the same
	wake    chan struct{} // closed, and replaced, when a call is late
}

// pause is a time in which something is not done again.
type pause struct {
	refusals int       // in a row
	until    time.Time // when it ends
	why      *failure  // what began it
}

// lengthen begins the pause after another refusal.
func (p *pause) lengthen(why *failure) {
	p.until = time.Now().Add(min(pauseFirst<<min(p.refusals, 16), pauseLast))
	p.refusals++
	p.why = why
}

// refuses returns what a call comes to during the pause, or nil after it.
func (p *pause) refuses() error {
	left := time.Until(p.until)
	if left <= 0 {
		return nil
	}
	return &failure{
		kind: p.why.kind,
		text: fmt.Sprintf("not asked again for %v: %s", left.Round(time.Second), p.why.text),
	}
}

func newGate(b backend, check func(context.Context, bool) error, confirm func(context.Context, string, string) error) *gate {
	return &gate{backend: b, check: check, confirm: confirm, turn: make(chan struct{}, 1), wake: make(chan struct{})}
}

// call is one call to the keyring.
type call struct {
	do      func(backend) (string, error)
	writes  string // names what it may change, or ""
	service string // what is called for
	account string
	timeout time.Duration // counted from its start, not from its wait for the turn
	prompt  bool          // whether the check may ask a person to unlock

	timer     *time.Timer
	due       time.Time     // when its time is up; guarded by the gate's mu
	expiry    chan struct{} // closed then
	late      bool          // its time was up before it returned; guarded by the gate's mu
	abandoned bool          // nobody waits for it any more; guarded by the gate's mu
	landed    []func()      // what to do once it has returned; guarded by the gate's mu
}

// answer is what a call came to.
type answer struct {
	text string
	err  error
}

// enter makes one call. The error is nil, errAbsent, a *failure, or that of
// ctx; a call that has not returned when enter does goes on by itself, and
// holds the gate until it returns.
func (g *gate) enter(ctx context.Context, c *call) (string, error) {
	if err := g.takeTurn(ctx); err != nil {
		return "", err
	}
	g.begin(c)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // when the call is late, its check need not go on
	done := make(chan answer, 1)
	go func() {
		text, err := g.run(ctx, c)
		g.land(c, err)
		done <- answer{text, err}
	}()
	select {
	case a := <-done:
		if ctx.Err() != nil && kindOf(a.err) == ErrTimeout {
			return "", ctx.Err() // that is how the check put it
		}
		return a.text, a.err
	case <-ctx.Done():
		g.abandon(c)
		return "", ctx.Err()
	case <-c.expiry:
		g.abandon(c)
		return "", tooLate(c)
	}
}

// takeTurn waits until no other call runs. However long the line, the wait
// ends: each call ahead has its time, and one that exceeds it shuts the gate.
func (g *gate) takeTurn(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		wake, err := g.refuses()
		if err != nil {
			return err
		}
		select {
		case g.turn <- struct{}{}:
			if _, err := g.refuses(); err != nil { // shut in the meantime
				<-g.turn
				return err
			}
			return nil
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// run makes the call if the check lets it. A panic of the backend is a failure
// like others: clients of keyrings have panicked over odd answers, and in a
// goroutine of ours that would end the program.
func (g *gate) run(ctx context.Context, c *call) (text string, err error) {
	defer func() {
		if p := recover(); p != nil {
			text, err = "", fail(nil, fmt.Errorf("its client panicked (%T)", p))
		}
	}()
	if err := g.ask(ctx, c.prompt); err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil { // nobody waits any more: don't begin
		return "", fail(ErrTimeout, err)
	}
	for range 3 {
		text, err = c.do(g.backend)
		if err = classify(err); kindOf(err) == ErrLocked {
			// The check had found it unlocked: somebody was asked and declined.
			g.refused(err)
		}
		if err != errAbsent {
			return text, err
		}
		doubt := g.confirm(ctx, c.service, c.account)
		if doubt == nil {
			return "", errAbsent
		}
		err = doubt
		if !errors.Is(err, errElsewhere) || ctx.Err() != nil {
			break
		}
		// Or it was written only now: look again.
	}
	return "", err
}

// ask makes the check, which may prompt if prompt is set. The person who has
// declined is not asked again and again, but may come back and unlock the
// keyring unasked: so the check is made during the pause, too, without a prompt,
// and once it passes nothing is left of the pause.
func (g *gate) ask(ctx context.Context, prompt bool) error {
	var declined error
	if prompt {
		g.mu.Lock()
		declined = g.quiet.refuses()
		g.mu.Unlock()
	}
	err := g.check(ctx, prompt && declined == nil)
	g.mu.Lock()
	defer g.mu.Unlock()
	var f *failure
	switch {
	case err == nil:
		g.quiet = pause{}
	case kindOf(err) == ErrLocked && declined != nil:
		return declined
	case kindOf(err) == ErrLocked && prompt && errors.As(err, &f):
		g.quiet.lengthen(f)
	}
	return err
}

// begin starts the turn of c, and its time.
func (g *gate) begin(c *call) {
	c.expiry = make(chan struct{})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running = c
	c.due = time.Now().Add(c.timeout)
	c.timer = time.AfterFunc(c.timeout, func() { g.expire(c) })
}

// expire shuts the gate because the time of c is up, and sends away whoever
// waits for it or behind it.
func (g *gate) expire(c *call) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running != c {
		return
	}
	if now := time.Now(); now.Sub(c.due) > hitch {
		again := min(c.timeout, catchTime)
		c.due = now.Add(again)
		c.timer.Reset(again)
		return
	}
	c.late = true
	g.shut.until, g.shut.why = time.Now().Add(pauseFirst), tooLate(c)
	close(c.expiry)
	close(g.wake)
	g.wake = make(chan struct{})
}

// abandon marks a call for which nobody waits any more.
func (g *gate) abandon(c *call) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.abandoned = true
}

func tooLate(c *call) *failure {
	return fail(ErrTimeout, fmt.Errorf("gave up after %v", c.timeout))
}

// land ends the turn of c, which has returned, and does what waited for that.
func (g *gate) land(c *call, err error) {
	g.mu.Lock()
	c.timer.Stop()
	g.running = nil
	landed := c.landed
	if c.late && (err == nil || err == errAbsent) {
		// It works after all, only slowly: somebody has unlocked it.
		g.shut.until = time.Time{}
	}
	g.mu.Unlock()
	for _, f := range landed {
		f()
	}
	<-g.turn
}

// refused shuts the gate because the keyring, or whoever it asked, refused.
func (g *gate) refused(why error) {
	var f *failure
	if !errors.As(why, &f) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut.lengthen(f)
}

// allowed forgets earlier refusals: a change has been seen to work. That the
// check passes would not do, as it had passed before each of them.
func (g *gate) allowed() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut.refusals = 0
}

// refuses returns an error if no call may start now: that of the call which
// shut the gate, or that the last one has not returned. Otherwise it returns
// the channel that is closed when that may have changed.
func (g *gate) refuses() (<-chan struct{}, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running != nil && g.running.late {
		return nil, fail(ErrTimeout, errStuck)
	}
	if err := g.shut.refuses(); err != nil {
		return nil, err
	}
	return g.wake, nil
}

// whenLanded calls f once no abandoned call that may change name runs: now, or
// when the one that does has returned. It reports whether f has been called.
func (g *gate) whenLanded(name string, f func()) bool {
	g.mu.Lock()
	if c := g.running; c != nil && c.abandoned && c.writes == name {
		c.landed = append(c.landed, f)
		g.mu.Unlock()
		return false
	}
	g.mu.Unlock()
	f()
	return true
}

// kindOf returns the kind of a *failure, or nil.
func kindOf(err error) error {
	var f *failure
	if errors.As(err, &f) {
		return f.kind
	}
	return nil
}
