package measure_test

import (
	"testing"

	"github.com/freshtoken/freshtoken/bench/measure"
)

// Nobody sees a 401, the token endpoint is asked once, and every body arrives
// whole, at the latest after a rejection, a refresh and an answer.
func TestStorm(t *testing.T) {
	onFakeTime(t, measure.Storm, func(t *testing.T, r measure.Result) {
		want(t, r, "calls.count", 1, 1)
		want(t, r, "rejected.count", 1, 1000)
		for _, none := range []string{"caught.count", "unauthorized.count", "errors.count", "damaged.count", "failing.count"} {
			want(t, r, none, 0, 0)
		}
		want(t, r, "served.s", 0.3, 0.65)
		wantWord(t, r, "all served", "yes")
	})
}

// Whoever gives up does so on time, and neither the refresh nor the session is
// lost by it.
func TestCancel(t *testing.T) {
	onFakeTime(t, measure.Cancel, func(t *testing.T, r measure.Result) {
		want(t, r, "waiter.ms", 50, 50)
		want(t, r, "initiator.ms", 50, 50)
		want(t, r, "other.ms", 2000, 5000)
		want(t, r, "calls.count", 1, 1)
		wantWord(t, r, "refresh survived", "yes")
		wantWord(t, r, "other caller", "success")
		wantWord(t, r, "next request", "success")
		wantWord(t, r, "family survived", "yes")
	})
}

// No redirect brings a token to another place.
func TestRedirects(t *testing.T) {
	onFakeTime(t, measure.Redirects, func(t *testing.T, r measure.Result) {
		for _, from := range []string{"302 to another host", "307 to another host", "307 to another port"} {
			wantWord(t, r, from, "safe")
		}
		wantWord(t, r, "307 from the token endpoint", "safe: not followed")
	})
}
