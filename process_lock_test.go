package freshtoken_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// While another process refreshes, the server has the old access token die. A
// program that has just found out that the lock is taken must not go on with
// that token, but wait for the new one.
func TestRejectedWhileAnotherProcessRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
		src := w.source()
		tok := w.login(src)
		client := w.client(src)
		get := func(result chan<- int) {
			resp, err := client.Get(w.as.APIURL("x"))
			if err != nil {
				t.Error(err)
				result <- 0
				return
			}
			resp.Body.Close()
			result <- resp.StatusCode
		}

		time.Sleep(55 * time.Second) // due
		unlock, err := w.store.Lock(t.Context(), freshtoken.StoreKey(w.config()))
		if err != nil {
			t.Fatal(err)
		}
		w.as.RevokeAccess(tok.AccessToken)
		const callers = 12
		result := make(chan int, callers)
		for range callers { // some find the token due, some rejected, some come later
			go get(result)
			time.Sleep(20 * time.Millisecond)
		}
		synctest.Wait()
		if len(result) > 0 {
			t.Errorf("%d callers were served before there was a new token", len(result))
		}
		if err := unlock(); err != nil {
			t.Fatal(err)
		}
		for range callers {
			if status := <-result; status != http.StatusOK {
				t.Errorf("a caller got %d", status)
			}
		}
		w.wantPosts(1)
	})
}
