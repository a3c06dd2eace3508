package freshtoken_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken/oauthtest"
)

// A token that has expired stays so for a process whose clock is behind, and to
// which it seems to be issued in the future, if another process brings a new
// refresh token, and no new access token.
func TestExpiredTokenOfASlowClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const behind = 10 * time.Minute
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
		exact := w.loggedIn()
		seen := func() { w.restore(string(shiftTimes([]byte(w.stored()), behind))) }
		seen()
		slow := w.source()
		tok := w.token(slow)
		time.Sleep(time.Minute)
		w.restore(string(shiftTimes([]byte(w.stored()), -behind)))
		w.as.Token.Next(oauthtest.SetMember("token_type", `"mac"`))
		if _, err := exact.Token(t.Context()); err == nil {
			t.Fatal("the answer was of use")
		}
		time.Sleep(2 * time.Second)
		seen()
		if got := w.token(slow); got.AccessToken == tok.AccessToken {
			t.Error("a token is handed out that was known to have expired")
		}
		w.usable(slow)
		if s := w.as.Stats(); s.Reuses != 0 {
			t.Error("the spent refresh token was used again")
		}
	})
}
