package measure

import (
	"context"
	"sync"
	"time"

	"github.com/freshtoken/freshtoken/bench/peers"
)

// Boundary is a steady load while tokens are replaced. All libraries run at
// once, each with a world of its own, and so do two controls that never refresh:
// what the machine does to one it does to all, and a run is long enough for a
// tail. They begin one after the other, so that they do not refresh at the same
// moments. The second control tells how far two of the same are apart.
//
// A token lives for 40 s and may be replaced 5 s before its end: azcore does not
// do so within 30 s of the last time. What a caller cannot send while it waits
// is not made up for, so the percentiles flatter whoever stalls.
var Boundary = Measure{
	Name: "boundary",
	Doc:  "2,000 requests/s, while tokens are replaced and the token endpoint takes 500 ms",
	Run:  boundary,
}

const endpointTime = 500 * time.Millisecond

// boundaryPlan is how a run of Boundary goes.
type boundaryPlan struct {
	callers    int
	think      time.Duration
	life, lead time.Duration
	refreshes  int
	stagger    time.Duration
}

func (p boundaryPlan) length() time.Duration {
	return time.Duration(p.refreshes)*(p.life+endpointTime) + 2*time.Second
}

func boundary(ctx context.Context, o Options) ([]Result, error) {
	plan := boundaryPlan{callers: 200, think: 100 * time.Millisecond, life: 40 * time.Second, lead: 5 * time.Second,
		refreshes: 3, stagger: 2500 * time.Millisecond}
	if o.Smoke {
		plan.callers, plan.life, plan.lead, plan.refreshes, plan.stagger = 50, 3*time.Second, time.Second, 1, 100*time.Millisecond
	}
	start := time.Now()
	whole := plan.length() + time.Duration(len(o.Peers))*plan.stagger
	controlled, end := context.WithTimeout(ctx, whole+10*time.Second)
	defer end()
	var controls [2][]request
	var wg sync.WaitGroup
	for i := range controls {
		wg.Go(func() { controls[i] = load(controlled, start, plan.callers, plan.think, control()) })
	}
	sides := make([]side, len(o.Peers))
	results, err := atOnce(ctx, "boundary", o, whole+30*time.Second, func(ctx context.Context, i int, p peers.Peer) (Result, error) {
		if err := pause(ctx, time.Duration(i)*plan.stagger); err != nil {
			return Result{}, err
		}
		var err error
		sides[i], err = plan.run(ctx, start, p)
		return sides[i].result(plan), err
	})
	end()
	wg.Wait()
	if err != nil {
		return nil, err
	}
	for i, s := range sides {
		if results[i].Values != nil {
			s.compare(results[i].Values, controls[0])
		}
	}
	return append(results, boundaryControls(controls, sides)...), nil
}

// A side is what one library has done.
type side struct {
	requests []request
	from, to float64   // when, in seconds since the start of all
	issued   float64   // when the login's token was
	calls    []float64 // when they came
	answered []float64 // when those were that were
}

func (plan boundaryPlan) run(ctx context.Context, start time.Time, p peers.Peer) (side, error) {
	w := newWorld(plan.life)
	w.answer = endpointTime
	issued := time.Since(start).Seconds()
	rt, closeAll, err := w.open(p, plan.lead)
	if err != nil {
		return side{}, err
	}
	defer closeAll()
	if err := warmUp(ctx, rt); err != nil {
		return side{}, err
	}
	began := time.Now()
	running, stop := context.WithTimeout(ctx, plan.length())
	defer stop()
	s := side{from: began.Sub(start).Seconds(), issued: issued, requests: load(running, start, plan.callers, plan.think, rt)}
	s.to = s.from + plan.length().Seconds()
	for _, c := range w.log() {
		s.calls = append(s.calls, c.arrived.Sub(start).Seconds())
		if !c.answered.IsZero() {
			s.answered = append(s.answered, c.answered.Sub(start).Seconds())
		}
	}
	return s, nil
}

// refreshes returns when the refreshes began, and how old the token was by then.
// Calls while one is under way belong to that.
func (s side) refreshes() (began, ages []float64) {
	issued := s.issued
	for _, at := range s.calls {
		if n := len(began); n == 0 || at-began[n-1] > endpointTime.Seconds() {
			began, ages = append(began, at), append(ages, at-issued)
		}
		issued = at
	}
	return began, ages
}

func (s side) result(plan boundaryPlan) Result {
	if len(s.requests) == 0 {
		return Result{}
	}
	refreshes, ages := s.refreshes()
	n := float64(max(len(refreshes), 1))
	r := Result{Values: latencies(s.requests)}
	failed, unauthorized := failures(s.requests)
	r.Values["errors.count"] = float64(failed)
	r.Values["unauthorized.count"] = float64(unauthorized)
	r.Values["refreshes.count"] = float64(len(refreshes))
	r.Values["stalled.count"] = float64(countWaiting(s.requests, s.answered)) / n
	r.Values["calls.count"] = float64(len(s.calls)) / n
	if len(refreshes) == 0 {
		r.Note = "did not refresh"
		return r
	}
	age := Median(ages)
	r.Values["age.s"] = age
	if age > (plan.life - 50*time.Millisecond).Seconds() {
		r.Note = "refreshes once the token has expired"
	}
	r.Series = map[string][]Point{"latency": around(s.requests, refreshes[len(refreshes)/2])}
	return r
}

// latencies are the percentiles of requests.
func latencies(all []request) map[string]float64 {
	sorted := sortedTimes(all)
	return map[string]float64{
		"p50.ms":         quantile(sorted, 0.5),
		"p99.ms":         quantile(sorted, 0.99),
		"p99.9.ms":       quantile(sorted, 0.999),
		"max.ms":         quantile(sorted, 1),
		"slow.count":     float64(countSlow(all)), // whatever the reason
		"requests.count": float64(len(sorted)),
	}
}

// compare sets the library's tail beside that of a control at the same time.
func (s side) compare(values map[string]float64, control []request) {
	var meanwhile []request
	for _, r := range control {
		if at := float64(r.at); s.from <= at && at < s.to {
			meanwhile = append(meanwhile, r)
		}
	}
	setRatio(values, "p99.9.control.ratio", values["p99.9.ms"], quantile(sortedTimes(meanwhile), 0.999))
}

// around returns the slowest request of each slot around a moment, in
// milliseconds over seconds from that moment. A slot without a request is left
// out: all callers were waiting.
func around(all []request, moment float64) []Point {
	const before, after, slot = 1.0, 2.0, 0.010
	slots := make([]float64, int((before+after)/slot))
	for i := range slots {
		slots[i] = -1
	}
	for _, r := range all {
		x := float64(r.at) - moment + before
		if i := int(x / slot); x >= 0 && i < len(slots) {
			slots[i] = max(slots[i], float64(r.took))
		}
	}
	var points []Point
	for i, y := range slots {
		if y >= 0 {
			points = append(points, Point{X: (float64(i)+0.5)*slot - before, Y: y})
		}
	}
	return points
}

// boundaryControls are the results of those that never refresh.
func boundaryControls(controls [2][]request, sides []side) []Result {
	var results []Result
	for i, all := range controls {
		r := Result{Measure: "boundary", Peer: "control: never refreshes", Values: latencies(all)}
		if i > 0 {
			r.Peer = "control, once more"
		}
		failed, _ := failures(all)
		r.Values["errors.count"] = float64(failed)
		setRatio(r.Values, "p99.9.control.ratio", r.Values["p99.9.ms"], quantile(sortedTimes(controls[0]), 0.999))
		for _, s := range sides {
			if refreshes, _ := s.refreshes(); len(refreshes) > 0 { // the same moment as in the first library's picture
				r.Series = map[string][]Point{"latency": around(all, refreshes[len(refreshes)/2])}
				break
			}
		}
		results = append(results, r)
	}
	return results
}
