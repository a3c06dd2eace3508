package measure_test

import (
	"os"
	"testing"

	"github.com/freshtoken/freshtoken/bench/measure"
	"github.com/freshtoken/freshtoken/bench/peers"
)

// The processes of a measure are this program again.
func TestMain(m *testing.M) {
	measure.Child()
	os.Exit(m.Run())
}

// makeShort makes a measure as short as it can be.
func makeShort(t *testing.T, m measure.Measure, some ...peers.Peer) map[string]measure.Result {
	t.Helper()
	results, err := m.Run(t.Context(), measure.Options{Peers: some, Rounds: 1, Smoke: true, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	byPeer := make(map[string]measure.Result)
	for _, r := range results {
		if r.Measure != m.Name {
			t.Errorf("a result of the measure %q is called %q", m.Name, r.Measure)
		}
		byPeer[r.Peer] = r
	}
	return byPeer
}

// wantValues fails the test unless a result has these values.
func wantValues(t *testing.T, r measure.Result, want map[string]float64) {
	t.Helper()
	for name, v := range want {
		if got, ok := r.Values[name]; !ok || got != v {
			t.Errorf("%s: %s is %v (there: %v), want %v", r.Peer, name, got, ok, v)
		}
	}
}
