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
