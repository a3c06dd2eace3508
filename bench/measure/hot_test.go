package measure_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken/bench/measure"
	"github.com/freshtoken/freshtoken/bench/peers"
)

// smoke makes a measure as short as can be.
func smoke(t *testing.T, m measure.Measure) map[string]measure.Result {
	t.Helper()
	results, err := m.Run(t.Context(), measure.Options{Peers: peers.All(), Rounds: 1, Smoke: true, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]measure.Result{}
	for _, r := range results {
		if r.Measure != m.Name {
			t.Errorf("a result of %q among those of %q", r.Measure, m.Name)
		}
		if _, twice := by[r.Peer]; twice {
			t.Errorf("two results for %s", r.Peer)
		}
		by[r.Peer] = r
	}
	return by
}

// slack is how many bytes per call others may allocate while calls are counted.
const slack = 8

// ours are the peers that are this library.
var ours = []peers.Peer{peers.Freshtoken, peers.FreshtokenBackground}

// everyPeer demands of each peer a result with these values, or a note why
// there is none.
func everyPeer(t *testing.T, results map[string]measure.Result, values ...string) {
	t.Helper()
	for _, p := range peers.All() {
		r, ok := results[p.Name]
		if !ok {
			t.Errorf("%s: no result", p.Name)
			continue
		}
		if len(r.Values) == 0 {
			if r.Note == "" {
				t.Errorf("%s: neither values nor a note", p.Name)
			}
			continue
		}
		for _, name := range values {
			if _, ok := r.Values[name]; !ok {
				t.Errorf("%s: no value %s", p.Name, name)
			}
		}
	}
}

func TestTokenDoesNotAllocate(t *testing.T) {
	results := smoke(t, measure.Token)
	var values []string
	for _, mode := range []string{"serial", "p1", "p2", "p8"} {
		values = append(values, mode+".ns", mode+".xoauth2.ratio", mode+".floor.ratio")
	}
	everyPeer(t, results, append(values, "serial.allocs", "serial.bytes")...)
	if raceDetector {
		t.Skip("the race detector allocates: run without -race")
	}
	for _, p := range ours {
		if v := results[p.Name].Values; v["serial.allocs"] != 0 || v["serial.bytes"] > slack {
			t.Errorf("%s: Token allocates %v times, %v bytes", p.Name, v["serial.allocs"], v["serial.bytes"])
		}
	}
}

func TestRoundTripAllocatesNoMoreThanAShallowCopy(t *testing.T) {
	results := smoke(t, measure.RoundTrip)
	var values []string
	for _, headers := range []int{0, 5, 20} {
		for _, name := range strings.Fields("ns xoauth2.ratio floor.ratio allocs bytes p2.ns p2.xoauth2.ratio p2.floor.ratio") {
			values = append(values, fmt.Sprintf("%d.%s", headers, name))
		}
	}
	everyPeer(t, results, values...)
	if raceDetector {
		t.Skip("the race detector allocates: run without -race")
	}
	floor, ok := results["floor: atomic token, shallow copy"]
	if !ok {
		t.Fatal("the floor is missing")
	}
	for _, p := range ours {
		v, least := results[p.Name].Values, floor.Values
		for _, h := range []string{"0", "5", "20"} {
			if got, want := v[h+".allocs"], least[h+".allocs"]; got > want || want == 0 {
				t.Errorf("%s, %s headers: %v allocations, a copy of the request takes %v", p.Name, h, got, want)
			}
			if got, want := v[h+".bytes"], least[h+".bytes"]; got > want+slack || want == 0 {
				t.Errorf("%s, %s headers: %v bytes, a copy of the request takes %v", p.Name, h, got, want)
			}
		}
	}
}
