package measure_test

import (
	"testing"

	"github.com/freshtoken/freshtoken/bench/measure"
)

// There is one call a refresh, and one request that waits for it, that of the
// elected caller; with Background, none.
func TestBoundary(t *testing.T) {
	onFakeTime(t, measure.Boundary, func(t *testing.T, r measure.Result) {
		stalled, slowest := 1.0, 500.0
		if isBackground(r) {
			stalled, slowest = 0, 0
		}
		want(t, r, "refreshes.count", 3, 3)
		want(t, r, "calls.count", 1, 1)
		want(t, r, "stalled.count", stalled, stalled)
		want(t, r, "max.ms", slowest, slowest)
		want(t, r, "p99.9.ms", 0, 0)
		want(t, r, "errors.count", 0, 0)
		want(t, r, "age.s", 35, 36) // of 40, 5 before the end, less a tenth of that
		want(t, r, "requests.count", 200*10*123, 200*10*124)
		if n := len(r.Series["latency"]); n < 299 {
			t.Errorf("%d points of the picture, want one of each 10 ms", n)
		}
	})
}

// By default all who wake up together wait for one refresh. With Background it
// has been made meanwhile.
func TestWake(t *testing.T) {
	onFakeTime(t, measure.Wake, func(t *testing.T, r measure.Result) {
		stalled, slowest, calls, idle := 200.0, 500.0, 1.0, 0.0
		if isBackground(r) {
			stalled, slowest, calls, idle = 0, 0, 0, 1
		}
		want(t, r, "stalled.count", stalled, stalled)
		want(t, r, "slowest.ms", slowest, slowest)
		want(t, r, "calls.count", calls, calls)
		want(t, r, "idle.calls.count", idle, idle+1)
		want(t, r, "errors.count", 0, 0)
	})
}
