package measure_test

import (
	"testing"

	"github.com/freshtoken/freshtoken/bench/measure"
)

// While the token lives no caller sees an error, and the endpoint is asked five
// times in ten seconds at most, as it has asked for. Once the token has expired,
// callers are told at once, but for the one or two who come as it is asked.
func TestOutage(t *testing.T) {
	onFakeTime(t, measure.Outage, func(t *testing.T, r measure.Result) {
		want(t, r, "10s.calls.count", 1, 5)
		want(t, r, "16s.calls.count", 1, 8)
		for _, plan := range []string{"10s", "16s"} {
			want(t, r, plan+".errors.alive.count", 0, 0)
			want(t, r, plan+".early.count", 0, 0)
			want(t, r, plan+".peak.count", 1, 1)
			want(t, r, plan+".slowest.ms", 0, 20)
			if len(r.Series[plan+".calls"]) == 0 {
				t.Errorf("no points of %s.calls", plan)
			}
		}
		want(t, r, "16s.errors.count", 1, 9100) // 50 callers, 20 requests/s each, in 5 s and in 4 s until they ask again
	})
}
