package measure_test

import (
	"testing"

	"github.com/freshtoken/freshtoken/bench/measure"
)

// An account that nobody uses has no goroutine, not even where it is kept fresh
// in the background: there it has a timer.
func TestIdleAccountsHaveNoGoroutine(t *testing.T) {
	results := makeShort(t, measure.Accounts)
	if len(results) != 4 {
		t.Errorf("there are %d results", len(results))
	}
	for _, r := range results {
		wantValues(t, r, map[string]float64{"goroutines.count": 0})
	}
}
