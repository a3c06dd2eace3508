package measure

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/freshtoken/freshtoken/bench/peers"
)

// Cancel is callers who give up during a refresh that takes 5 s, at a server
// that has done its part when the request arrives, and ends the session when it
// sees a refresh token twice. The access token has expired.
//
// The waiter has 50 ms, and comes while another caller's refresh is under way.
// The initiator has 50 ms, and its request starts the refresh; another caller
// comes 20 ms later, and has time. All libraries run at once.
var Cancel = Measure{
	Name: "cancel",
	Doc:  "callers give up while a refresh takes 5 s",
	Run:  cancel,
}

// A cancelPlan says how long things take.
type cancelPlan struct {
	life, answer, deadline time.Duration
}

func cancel(ctx context.Context, o Options) ([]Result, error) {
	plan := cancelPlan{life: 3 * time.Second, answer: 5 * time.Second, deadline: 50 * time.Millisecond}
	if o.Smoke {
		plan.life, plan.answer = 2*time.Second, time.Second
	}
	return atOnce(ctx, "cancel", o, 10*plan.answer, func(ctx context.Context, _ int, p peers.Peer) (Result, error) {
		return together(
			func() (Result, error) { return plan.waiter(ctx, p) },
			func() (Result, error) { return plan.initiator(ctx, p) },
		)
	})
}

// expired opens a library whose token has expired. The next one lives long.
func (plan cancelPlan) expired(ctx context.Context, p peers.Peer) (w *world, rt http.RoundTripper, end func(), err error) {
	w = newWorld(plan.life)
	w.strict, w.answer = true, plan.answer
	rt, end, err = w.open(p, time.Second)
	if err != nil {
		return nil, nil, nil, err
	}
	if err = warmUp(ctx, rt); err == nil {
		w.issueFor(time.Hour)
		err = pause(ctx, plan.life+50*time.Millisecond)
	}
	if err != nil {
		end()
		return nil, nil, nil, err
	}
	return w, rt, end, nil
}

// An asked is what a caller has got.
type asked struct {
	after time.Duration
	good  bool
}

func (a asked) word() string {
	if a.good {
		return "success"
	}
	return "error"
}

// ask sends a request, as a caller who gives up after so long.
func ask(ctx context.Context, rt http.RoundTripper, patience time.Duration) asked {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	start := time.Now()
	resp, err := (&http.Client{Transport: rt}).Do(get(ctx, apiURL))
	a := asked{after: time.Since(start)}
	if err == nil {
		resp.Body.Close()
		a.good = resp.StatusCode == http.StatusOK
	}
	return a
}

func (plan cancelPlan) waiter(ctx context.Context, p peers.Peer) (Result, error) {
	_, rt, end, err := plan.expired(ctx, p)
	if err != nil {
		return Result{}, err
	}
	defer end()
	var wg sync.WaitGroup
	wg.Go(func() { ask(ctx, rt, 3*plan.answer) })
	err = pause(ctx, 200*time.Millisecond)
	waiter := ask(ctx, rt, plan.deadline)
	wg.Wait()
	return Result{Values: map[string]float64{"waiter.ms": millis(waiter.after)}}, err
}

func (plan cancelPlan) initiator(ctx context.Context, p peers.Peer) (Result, error) {
	w, rt, end, err := plan.expired(ctx, p)
	if err != nil {
		return Result{}, err
	}
	defer end()
	var initiator, other asked
	var wg sync.WaitGroup
	wg.Go(func() { initiator = ask(ctx, rt, plan.deadline) })
	err = pause(ctx, 20*time.Millisecond)
	other = ask(ctx, rt, 3*plan.answer)
	wg.Wait()
	calls := w.log()
	if err == nil && len(calls) == 0 {
		err = fmt.Errorf("nobody has asked for a new token")
	}
	if err != nil {
		return Result{}, err
	}
	next := ask(ctx, rt, 3*plan.answer)
	return Result{
		Values: map[string]float64{
			"initiator.ms": millis(initiator.after),
			"other.ms":     millis(other.after),
			"calls.count":  float64(len(calls)),
		},
		Words: map[string]string{
			"refresh survived": yes(!calls[0].answered.IsZero()),
			"other caller":     other.word(),
			"next request":     next.word(),
			"family survived":  yes(w.survived()),
		},
	}, nil
}
