package measure

import (
	"context"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/freshtoken/freshtoken/bench/peers"
)

// Outage is a token endpoint that answers 503 with Retry-After: 2, after 20 ms:
// once for 10 s while the access token lives, when an ideal library shows no
// error; and once for 16 s, the last 5 of them after the token has expired, when
// it fails in those only, and at once. Both begin when a token may be replaced,
// 11 s before it expires. All libraries run at once, through both.
//
// The token lives for 44 s, because azcore replaces none within 30 s of the last
// time.
var Outage = Measure{
	Name: "outage",
	Doc:  "the token endpoint is out of order for 10 s, and for 16 s",
	Run:  outage,
}

// outageAnswer is how long a token endpoint that is out of order takes to say so.
const outageAnswer = 20 * time.Millisecond

// An outagePlan is one outage. Times count from the login.
type outagePlan struct {
	name       string // in front of the values
	life, lead time.Duration
	from, to   time.Duration
	retry      time.Duration // Retry-After
	callers    int
	think      time.Duration
	after      time.Duration // how long to wait for a library to settle
}

func outagePlans(smoke bool) []outagePlan {
	const callers, think = 50, 50 * time.Millisecond
	if smoke {
		return []outagePlan{
			{"10s", 4 * time.Second, 2 * time.Second, 2 * time.Second, 3500 * time.Millisecond, time.Second, callers, think, 3 * time.Second},
			{"16s", 4 * time.Second, 2 * time.Second, 2 * time.Second, 5 * time.Second, time.Second, callers, think, 3 * time.Second},
		}
	}
	return []outagePlan{
		{"10s", 44 * time.Second, 11 * time.Second, 33 * time.Second, 43 * time.Second, 2 * time.Second, callers, think, 12 * time.Second},
		{"16s", 44 * time.Second, 11 * time.Second, 33 * time.Second, 49 * time.Second, 2 * time.Second, callers, think, 12 * time.Second},
	}
}

func outage(ctx context.Context, o Options) ([]Result, error) {
	return atOnce(ctx, "outage", o, 3*time.Minute, func(ctx context.Context, _ int, p peers.Peer) (Result, error) {
		var parts []func() (Result, error)
		for _, plan := range outagePlans(o.Smoke) {
			parts = append(parts, func() (Result, error) { return plan.run(ctx, p) })
		}
		r, err := together(parts...)
		if err == nil && r.Values["10s.calls.count"] == 0 {
			r.Note = "did not ask in the shorter outage: refreshes once the token has expired"
		}
		return r, err
	})
}

func (plan outagePlan) run(ctx context.Context, p peers.Peer) (Result, error) {
	w := newWorld(plan.life)
	login := time.Now()
	rt, closeAll, err := w.open(p, plan.lead)
	if err != nil {
		return Result{}, err
	}
	defer closeAll()
	if err := warmUp(ctx, rt); err != nil {
		return Result{}, err
	}
	from, to := login.Add(plan.from), login.Add(plan.to)
	w.fail(from, to, plan.retry)
	if err := pause(ctx, time.Until(from)); err != nil { // before, nothing happens
		return Result{}, err
	}
	running, stop := context.WithDeadline(ctx, to.Add(plan.after))
	defer stop()
	all := load(running, from, plan.callers, plan.think, rt)
	return plan.result(all, w.log(), from, to), nil
}

// result says what came of the outage. The requests' times count from its
// beginning.
func (plan outagePlan) result(all []request, calls []call, from, to time.Time) Result {
	length := to.Sub(from).Seconds()
	var slowest, slowestError float32
	settled := 0.0
	alive := 0
	for _, r := range all {
		slowest = max(slowest, r.took)
		if r.status == http.StatusOK {
			continue
		}
		slowestError = max(slowestError, r.took)
		settled = max(settled, float64(r.at)+float64(r.took)/1000-length)
		if float64(r.at) < (plan.life - plan.from).Seconds() {
			alive++
		}
	}
	failed, _ := failures(all)
	v := map[string]float64{
		"requests.count":     float64(len(all)),
		"errors.count":       float64(failed),
		"errors.alive.count": float64(alive), // while the token lived
		"slowest.ms":         float64(slowest),
		"slowest error.ms":   float64(slowestError),
		"settled.s":          settled, // the last error, after the end; 0: none since then
	}
	points := []Point{}
	asked, refused, early := 0, 0, 0
	seconds := make([]float64, int(math.Ceil(length))+1)
	var last call
	for _, c := range calls {
		if c.arrived.Before(from) {
			continue
		}
		x := c.arrived.Sub(from).Seconds()
		asked++
		points = append(points, Point{X: x, Y: float64(asked)})
		if last.status == http.StatusServiceUnavailable && c.arrived.Sub(last.answered) < plan.retry-time.Millisecond {
			early++
		}
		last = c
		if c.status == http.StatusServiceUnavailable {
			refused++
			seconds[int(x)]++
		} else if _, ok := v["refreshed.s"]; !ok && c.status == http.StatusOK && x >= length {
			v["refreshed.s"] = x - length // the next good refresh, after the end
		}
	}
	v["calls.count"], v["early.count"] = float64(refused), float64(early)
	v["peak.count"] = slices.Max(seconds) // calls in one second
	named := Result{Values: map[string]float64{}, Series: map[string][]Point{plan.name + ".calls": points}}
	for name, value := range v {
		named.Values[plan.name+"."+name] = value
	}
	return named
}
