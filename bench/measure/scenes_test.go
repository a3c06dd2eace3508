package measure_test

import (
	"testing"
	"testing/synctest"

	"github.com/freshtoken/freshtoken/bench/measure"
	"github.com/freshtoken/freshtoken/bench/peers"
)

// freshtokens are this library, both ways.
func freshtokens() []peers.Peer { return []peers.Peer{peers.Freshtoken, peers.FreshtokenBackground} }

// onFakeTime makes a measure of this library in a bubble, whole and not for smoke,
// and has each result checked.
func onFakeTime(t *testing.T, m measure.Measure, check func(t *testing.T, r measure.Result)) {
	t.Helper()
	results := inBubble(t, m, freshtokens()...)
	for i, p := range freshtokens() {
		t.Run(p.Name, func(t *testing.T) {
			if r := results[i]; r.Values == nil && r.Words == nil {
				t.Fatalf("nothing was measured: %s", r.Note)
			}
			check(t, results[i])
		})
	}
}

// inBubble makes a measure in a bubble: there its minutes pass at once, and
// nothing but the world takes time. Libraries that wait at a mutex while they
// refresh cannot be run there, because time stands still meanwhile.
func inBubble(t *testing.T, m measure.Measure, all ...peers.Peer) (results []measure.Result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var err error
		if results, err = m.Run(t.Context(), measure.Options{Peers: all, Rounds: 3, Logf: t.Logf}); err != nil {
			t.Fatal(err)
		}
	})
	for i, p := range all {
		if i >= len(results) || results[i].Measure != m.Name || results[i].Peer != p.Name {
			t.Fatalf("no result of %s in its place", p.Name)
		}
	}
	return results
}

// isBackground reports whether a result is that of the library with Background.
func isBackground(r measure.Result) bool { return r.Peer == peers.FreshtokenBackground.Name }

// want checks one of the values.
func want(t *testing.T, r measure.Result, name string, least, most float64) {
	t.Helper()
	got, ok := r.Values[name]
	if !ok || got < least || got > most {
		t.Errorf("%s: %v (there: %t), want %v to %v", name, got, ok, least, most)
	}
}

// wantWord checks one of the words.
func wantWord(t *testing.T, r measure.Result, name, word string) {
	t.Helper()
	if got := r.Words[name]; got != word {
		t.Errorf("%s: %q, want %q", name, got, word)
	}
}
