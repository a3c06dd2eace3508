package interop_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/ory/fosite"
)

// startFosite starts fosite with access tokens that live for so many seconds.
func startFosite(t *testing.T, accessLifetime int) *subject {
	return fositeUnder(t, accessLifetime, policy{Idle: 24 * time.Hour})
}

func fositeUnder(t *testing.T, accessLifetime int, p policy) *subject {
	t.Helper()
	s := startFositeServer(t, fositeLives{time.Duration(accessLifetime) * time.Second, p.Idle})
	x := &subject{server: &server{t: t, issuer: s.issuer}, ways: []way{byCode, byPassword}}
	x.under = func(p policy) *subject { return fositeUnder(t, accessLifetime, p) }
	x.app = site{Client: public, Scopes: []string{"openid", "offline_access", "api"},
		Token: s.issuer + "/token", Auth: s.issuer + "/authorize", Revocation: s.issuer + "/revoke",
		APIs: []api{{URL: s.issuer + "/api/call"}}}
	return x
}

// With fosite, the access token dies with the refresh that replaces it, also for
// those who have just sent it. Both ends are in this process, for the race
// detector.
func TestFositeRotationUnderLoad(t *testing.T) {
	t.Parallel()
	x := startFosite(t, 3)
	src, _ := x.session(x.login())
	client := x.app.client(src)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				// A call that has begun is let finish.
				if err := call(context.WithoutCancel(ctx), client, x.app.APIs[0]); err != nil {
					t.Error(err)
					return
				}
				<-tick.C
			}
		})
	}
	x.rotated(t.Context(), 4)
	cancel()
	wg.Wait()
	c := x.wantWhole()
	if n := src.Status().Generation; n != uint64(c.Refreshes)+1 {
		t.Errorf("generation %d after %d refreshes", n, c.Refreshes)
	}
	t.Logf("%d calls, %d refreshes, %d answers of 401", c.API, c.Refreshes, c.APIRejected)
}

// What the lock of fositeServer is for. Two requests that show the same refresh
// token, and of which the second is looked at before the first is answered, both
// get tokens; and the refresh token of the first answer is dead on arrival. The
// memory store's steps are called one after the other here: no luck is needed.
func TestFositeStoreHasTwoWinners(t *testing.T) {
	t.Parallel()
	s := startFositeServer(t, fositeLives{time.Hour, time.Hour})
	x := &subject{server: &server{t: t, issuer: s.issuer}, ways: []way{byPassword}}
	x.app = site{Client: public, Scopes: []string{"offline_access", "api"}, Token: s.issuer + "/token"}
	first := x.login().RefreshToken

	ask := func(refreshToken string) (fosite.AccessRequester, error) {
		form := url.Values{"grant_type": {"refresh_token"}, "client_id": {public.ID}, "refresh_token": {refreshToken}}
		r := httptest.NewRequest("POST", "/token", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return s.NewAccessRequest(t.Context(), r, s.session(""))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var asked [2]fosite.AccessRequester
	for i := range asked {
		var err error
		if asked[i], err = ask(first); err != nil {
			t.Fatal(err)
		}
	}
	var won [2]string
	for i, request := range asked {
		answer, err := s.NewAccessResponse(t.Context(), request)
		if err != nil {
			t.Fatalf("request %d is refused: %v; if the store has become atomic, the lock can go", i+1, err)
		}
		won[i] = answer.GetExtra("refresh_token").(string)
	}
	if _, err := ask(won[0]); !errors.Is(err, fosite.ErrInactiveToken) {
		t.Errorf("the first winner's refresh token: got error %v, want that it was used already", err)
	}
	if _, err := ask(won[1]); !errors.Is(err, fosite.ErrInvalidGrant) {
		t.Errorf("the second winner's, after that: got error %v, want that its family is dead", err)
	}
}

// Revoking a spent refresh token is no way to end a session with fosite: it says
// yes, and the session goes on. Logout sends the newest one, also when another
// process has refreshed meanwhile.
func TestFositeRevokesByTheNewestToken(t *testing.T) {
	t.Parallel()
	x := startFosite(t, 3600)
	tok := x.login()
	src, listener := x.session(tok)
	x.refreshed(src)
	resp, err := http.PostForm(x.app.Revocation, url.Values{"token": {tok.RefreshToken}, "client_id": {public.ID}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("revoking a spent refresh token: %s", resp.Status)
	}
	x.refreshed(src) // it goes on
	newest := listener.refreshToken()
	if err := src.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := src.Token(t.Context()); !errors.Is(err, freshtoken.ErrNoSession) {
		t.Errorf("after Logout: got error %v, want ErrNoSession", err)
	}
	if said := x.spend(newest); said != "400 invalid_grant" {
		t.Errorf("after Logout, the server answers %s to the refresh token", said)
	}
}
