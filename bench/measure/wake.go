package measure

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/freshtoken/freshtoken/bench/peers"
)

// Wake is what becomes of callers who all come at once, with 20 requests each,
// after the token has expired while nobody asked. Before each time, or after it,
// as many come to a control that never refreshes. All libraries run at once, and
// wake up one after the other.
var Wake = Measure{
	Name: "wake",
	Doc:  "200 goroutines ask at once, after idling until the token has expired",
	Run:  wake,
}

func wake(ctx context.Context, o Options) ([]Result, error) {
	plan := wakePlan{callers: 200, life: 4 * time.Second, lead: time.Second, rounds: min(max(o.Rounds, 1), 9)}
	if o.Smoke {
		plan.life, plan.rounds = 2*time.Second, 1
	}
	whole := time.Duration(plan.rounds)*(plan.life+20*time.Second) + time.Duration(len(o.Peers))*wakeApart
	return atOnce(ctx, "wake", o, whole, func(ctx context.Context, i int, p peers.Peer) (Result, error) {
		if err := pause(ctx, time.Duration(i)*wakeApart); err != nil {
			return Result{}, err
		}
		return plan.run(ctx, p)
	})
}

// wakeApart is how far apart libraries wake up.
const wakeApart = 150 * time.Millisecond

// wakePlan is how a run of Wake goes.
type wakePlan struct {
	callers    int
	life, lead time.Duration
	rounds     int
}

func (plan wakePlan) run(ctx context.Context, p peers.Peer) (Result, error) {
	w := newWorld(plan.life)
	w.answer = endpointTime
	rt, end, err := w.open(p, plan.lead)
	if err != nil {
		return Result{}, err
	}
	defer end()
	if err := warmUp(ctx, rt); err != nil {
		return Result{}, err
	}
	never := control()
	var requests, beside []request
	var slowest, slowestBeside, stalled, errs, calls, idle []float64
	for round := range plan.rounds {
		before := len(w.log())
		if err := pause(ctx, plan.life+endpointTime); err != nil {
			return Result{}, err
		}
		var other []request
		if round%2 == 0 {
			other = burst(plan.callers, never)
		}
		asleep := len(w.log())
		all := burst(plan.callers, rt)
		awake := len(w.log())
		if round%2 != 0 {
			other = burst(plan.callers, never)
		}
		failed, _ := failures(all)
		requests, beside = append(requests, all...), append(beside, other...)
		slowest = append(slowest, quantile(sortedTimes(all), 1))
		slowestBeside = append(slowestBeside, quantile(sortedTimes(other), 1))
		stalled = append(stalled, float64(countSlow(all)))
		errs = append(errs, float64(failed))
		idle = append(idle, float64(asleep-before))
		calls = append(calls, float64(awake-asleep))
	}
	r := Result{Values: map[string]float64{
		"slowest.ms":         Median(slowest),
		"slowest.control.ms": Median(slowestBeside),
		"p99.9.ms":           quantile(sortedTimes(requests), 0.999), // of all rounds
		"stalled.count":      Median(stalled),
		"errors.count":       slices.Max(errs),
		"calls.count":        Median(calls),
		"idle.calls.count":   Median(idle),
	}}
	setRatio(r.Values, "p99.9.control.ratio", r.Values["p99.9.ms"], quantile(sortedTimes(beside), 0.999))
	if slices.Min(slowestBeside) > 0 {
		r.Values["slowest.control.ratio"] = Ratio(slowest, slowestBeside)
	}
	if Median(idle) > 0 {
		r.Note = fmt.Sprintf("keeps the session fresh by itself: calls in %v of idling: %.0f", plan.life+endpointTime, Median(idle))
	}
	return r, nil
}

// burst has n callers begin at once. Each sends 20 requests, one after the other.
func burst(n int, rt http.RoundTripper) []request {
	const each = 20
	all := make([]request, n*each)
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for mine := range slices.Chunk(all, each) {
		wg.Go(func() {
			req := get(context.Background(), apiURL)
			<-begin
			for i := range mine {
				start := time.Now()
				mine[i].status = send(rt, req)
				mine[i].took = millis32(time.Since(start))
			}
		})
	}
	close(begin)
	wg.Wait()
	return all
}
