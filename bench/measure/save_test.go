package measure_test

import (
	"testing"

	"github.com/freshtoken/freshtoken/bench/measure"
)

// A refresh writes to the disk twice, under one lock: a mark before the refresh
// token is sent, and what came back.
func TestRefreshWritesTwice(t *testing.T) {
	results := makeShort(t, measure.Save)
	wantValues(t, results["freshtoken"], map[string]float64{"refresh.writes.count": 2, "refresh.locks.count": 1})
	for _, name := range []string{"freshtoken", "freshtoken, passphrase"} {
		for _, v := range []string{"save.floor.ratio", "load.floor.ratio", "idtoken.save.floor.ratio", "idtoken.load.floor.ratio"} {
			if results[name].Values[v] <= 0 {
				t.Errorf("%s has no %s", name, v)
			}
		}
	}
}
