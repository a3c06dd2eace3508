package freshtoken_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// What one Source of a session learns takes from another no pause, and tells it
// nothing that is not so.
func TestForPauses(t *testing.T) {
	inBubble(t, "the first token for a Target, while the store neither takes nor tells anything", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		f := w.faults()
		src := w.scoped()
		f.set(afterMark)
		if _, err := src.Refresh(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		f.set(func(f *faulty) { f.load, f.save = failing(errDisk), failing(errDisk) })
		w.usable(w.target(src, reading))
		f.set(func(f *faulty) { f.load, f.save = nil, nil })
		time.Sleep(2 * time.Minute)
		if st := src.Status(); !st.Persisted || st.Generation != 3 {
			t.Errorf("%+v", st)
		}
	})
	inBubble(t, "more Targets than the store keeps", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped()
		for range 5 {
			for n := range 40 {
				w.usable(w.target(src, freshtoken.Target{Resources: []string{fmt.Sprintf("https://api%d.test", n)}}))
				time.Sleep(time.Second)
			}
		}
		w.wantPosts(40)
	})
}
