package freshtoken_test

import (
	"encoding/json"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// Programs in processes of their own, on one stored session.

const processes = 8

// procPlaces are the stores that processes can share.
var procPlaces = []struct {
	name  string
	place func(t *testing.T) procPlace
}{
	{"files", func(t *testing.T) procPlace { return procPlace{Dir: canary.Dir(t, "key")} }},
	{"keyring", func(t *testing.T) procPlace { return procPlace{Dir: canary.Dir(t, "key"), Keyring: keyringService(t)} }},
}

// keyringService returns a service of the OS keyring that nobody has used.
func keyringService(t *testing.T) string {
	t.Helper()
	if mode := os.Getenv("FRESHTOKEN_KEYRING_TEST"); mode != "1" && mode != "gnome-keyring" {
		t.Skip("touches the OS keyring: run it under internal/keyringtest/with-gnome-keyring, or set FRESHTOKEN_KEYRING_TEST=1 where the keyring is a test's")
	}
	return "freshtoken-test-" + strconv.FormatInt(time.Now().UnixNano(), 36)
}

// Eight processes refresh one session every two seconds, and make requests all
// the while. No refresh token is sent twice, and no caller notices anything.
func TestProcesses(t *testing.T) {
	for _, store := range procPlaces {
		for _, server := range []struct {
			name string
			o    oauthtest.Options
		}{
			{"strict", oauthtest.Options{}},
			{"strict, old access tokens die", oauthtest.Options{KillOldAccess: true}},
		} {
			t.Run(store.name+"/"+server.name, func(t *testing.T) { testProcesses(t, store.place(t), server.o) })
		}
	}
}

func testProcesses(t *testing.T, place procPlace, o oauthtest.Options) {
	t.Parallel() // it waits more than it works
	o.AccessLifetime = 3 * time.Second
	w := newProcWorld(t, o, place)
	w.setup.Lead = time.Second // due after two seconds
	all := w.startAll(processes)
	start := time.Now()
	w.login()
	for _, p := range all {
		p.order(procOrder{Do: procWork, Goroutines: 4})
	}
	<-time.After(*processDuration) // real processes need real time
	want := int(*processDuration / (4 * time.Second))
	eventually(t, "refreshes", func() bool { return w.as.Stats().Refreshes >= want })
	served := 0
	reports := orderAllStop(all)
	took := time.Since(start)
	for _, r := range reports {
		served += r.Served
		if r.Rejected+r.Broken > 0 {
			t.Errorf("of one program's requests %d got a 401 and %d failed: %s", r.Rejected, r.Broken, r.Trouble)
		}
		if r.Served == 0 {
			t.Error("a program had no request served")
		}
	}
	finishAll(all)
	w.wantAlive()
	s := w.as.Stats()
	if most := int(took/(2*time.Second)) + 1; s.Refreshes > most {
		t.Errorf("%d refreshes in %v, want one every two seconds", s.Refreshes, took)
	}
	t.Logf("%d programs, %d requests, %d refreshes", len(all), served, s.Refreshes)
}

func orderAllStop(all []*proc) []procReport {
	for _, p := range all {
		p.t.Helper()
		p.order(procOrder{Do: procStop})
	}
	return awaitAll(all, procWork)
}

// While the token endpoint is down and the access token lives, no caller
// notices, and the processes ask together as often as one.
func TestProcessesOutage(t *testing.T) {
	t.Parallel()
	w := newProcWorld(t, oauthtest.Options{AccessLifetime: 10 * time.Minute}, procPlace{})
	w.setup.Lead = time.Hour // half the lifetime
	w.login()
	w.shift(-6 * time.Minute) // due, and good for four minutes
	w.as.Token.Always(oauthtest.Unavailable("2"))
	all := w.startAll(processes)
	for _, p := range all {
		p.order(procOrder{Do: procWork, Goroutines: 2})
	}
	<-time.After(*processDuration)
	eventually(t, "attempts", func() bool { return w.as.Stats().TokenRequests >= 2 })
	for _, r := range orderAllStop(all) {
		if r.Rejected+r.Broken > 0 || r.Served == 0 {
			t.Errorf("of one program's requests %d were served, %d got a 401 and %d failed: %s", r.Served, r.Rejected, r.Broken, r.Trouble)
		}
	}
	attempts := w.as.LogOf(oauthtest.TokenEndpoint)
	for i, e := range attempts[1:] {
		if gap := e.Arrived.Sub(attempts[i].Arrived); gap < 2*time.Second {
			t.Errorf("the server asked for 2s of peace, the next attempt of all %d processes came after %v", len(all), gap)
		}
	}
	if s := w.as.Stats(); s.PeakTokenRequests > 1 || s.Reuses > 0 {
		t.Errorf("the server saw %+v", s)
	}

	// The outage ends, the access token dies, and the session goes on.
	w.as.Token.Clear()
	before := w.as.Stats().TokenRequests
	w.shift(-time.Hour)
	finishAll(all)
	if r := w.start(procOrder{}).do(procOrder{Do: procHeal}); r.Failed > 0 {
		t.Errorf("after the outage: %s", r.Error)
	}
	if got := w.as.Stats().TokenRequests - before; got != 1 {
		t.Errorf("after the outage the server was asked %d times, want once", got)
	}
	if r := w.record(); !w.as.Alive(r.RefreshToken) {
		t.Error("the stored session is not alive at the server")
	}
}

// The server ends the session: one request finds out for all. A login in
// another process reaches all that run.
func TestProcessesSessionEnds(t *testing.T) {
	const goroutines = 5
	w := newProcWorld(t, oauthtest.Options{}, procPlace{})
	tok := w.login()
	all := w.startAll(4)
	for _, r := range orderAll(all, procOrder{Do: procToken}) {
		if r.Failed > 0 {
			t.Fatalf("before the end: %s", r.Error)
		}
	}
	finishAll(all)
	all = w.startAll(4) // in whose memory there is no token
	w.as.RevokeFamily(tok.RefreshToken)
	w.shift(-2 * time.Hour)
	for _, r := range orderAll(all, procOrder{Do: procToken, Goroutines: goroutines}) {
		if r.Ended != goroutines {
			t.Errorf("%d of %d callers got ErrSessionEnded: %s", r.Ended, goroutines, r.Error)
		}
	}
	w.wantPosts(1)

	login := w.start(procOrder{})
	if r := login.do(procOrder{Do: procLogin, Token: w.as.Login("alice")}); r.Failed > 0 {
		t.Fatalf("SetToken: %s", r.Error)
	}
	for _, r := range orderAll(all, procOrder{Do: procHeal}) {
		if r.Failed > 0 {
			t.Errorf("a running program did not notice the login: %s", r.Error)
		}
	}
	for _, p := range all {
		p.order(procOrder{Do: procWork, Goroutines: 2})
	}
	eventually(t, "requests", func() bool { return w.as.Stats().APIServed >= 50 })
	for _, r := range orderAllStop(all) {
		if r.Rejected+r.Broken > 0 || r.Served == 0 {
			t.Errorf("after the login: %+v", r)
		}
	}
	w.wantPosts(1)
	finishAll(append(all, login))
}

// Processes that start together with an expired token.
func TestProcessesExpired(t *testing.T) {
	t.Run("MGR-xproc one refresh for eight processes", func(t *testing.T) {
		w := newProcWorld(t, oauthtest.Options{}, procPlace{})
		w.login()
		w.shift(-2 * time.Hour)
		all := w.startAll(processes)
		wantTokens(t, orderAll(all, procOrder{Do: procToken, Goroutines: 3}), 2)
		finishAll(all)
		w.wantPosts(1)
		w.wantAlive()
	})

	for _, hold := range []holdPoint{holdLocked, holdAfterMark} {
		t.Run("MGR-xproc the lock of a killed process is recovered, "+string(hold), func(t *testing.T) {
			w := newProcWorld(t, oauthtest.Options{}, procPlace{})
			w.login()
			w.shift(-2 * time.Hour)
			holder := w.start(procOrder{Hold: hold})
			holder.order(procOrder{Do: procToken})
			holder.await(procHeld)
			all := w.startAll(processes - 1)
			for _, p := range all {
				p.order(procOrder{Do: procToken, Goroutines: 3})
			}
			holder.kill()
			wantTokens(t, awaitAll(all, procToken), 2)
			finishAll(all)
			w.wantPosts(1)
			w.wantAlive()
		})
	}
}

func wantTokens(t *testing.T, reports []procReport, generation uint64) {
	t.Helper()
	for _, r := range reports {
		if r.Failed > 0 {
			t.Errorf("%d callers got no token: %s", r.Failed, r.Error)
		}
		if r.Generation != generation {
			t.Errorf("a program uses generation %d, want %d", r.Generation, generation)
		}
	}
}

// Records that a machine with another idea of the time has left.
func TestProcessesClock(t *testing.T) {
	const year = 365 * 24 * time.Hour
	const goroutines = 4
	for _, tt := range []struct {
		name  string
		shift time.Duration
		dead  bool // the access token has died at the server
	}{
		{"a year ahead", year, false},
		{"a year ahead, the token is dead", year, true},
		{"a year behind", -year, false},
		{"a year behind, the token is dead", -year, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newProcWorld(t, oauthtest.Options{}, procPlace{})
			tok := w.login()
			w.shift(tt.shift)
			if tt.dead {
				w.as.RevokeAccess(tok.AccessToken)
			}
			all := w.startAll(4)
			for _, p := range all {
				p.order(procOrder{Do: procWork, Goroutines: goroutines})
			}
			eventually(t, "requests", func() bool { return w.as.Stats().APIServed >= 200 })
			for _, r := range orderAllStop(all) {
				if r.Rejected+r.Broken > 0 || r.Served == 0 {
					t.Errorf("of one program's requests %d were served, %d got a 401 and %d failed: %s", r.Served, r.Rejected, r.Broken, r.Trouble)
				}
			}
			finishAll(all)
			want := 1
			if tt.shift > 0 && !tt.dead {
				want = 0 // as good as any token
			}
			w.wantPosts(want)
			w.wantAlive()
			// Each goroutine may have been on its way with the dead token
			// when its program learned that it is dead, but only once.
			if s := w.as.Stats(); s.APIUnauthorized > len(all)*goroutines {
				t.Errorf("the API rejected %d requests of %d goroutines: the dead token was sent again", s.APIUnauthorized, len(all)*goroutines)
			}
		})
	}

	// Whoever wrote "not before" had another clock: nobody waits for it.
	for _, shift := range []time.Duration{year, -year} {
		t.Run("a pause, "+shift.String()+" off", func(t *testing.T) {
			w := newProcWorld(t, oauthtest.Options{}, procPlace{})
			w.login()
			w.shift(-2 * time.Hour)
			from := time.Now().Add(shift).UTC()
			w.edit(func(all map[string]json.RawMessage) {
				all["pause"] = jsonText(t, map[string]any{"from": from, "until": from.Add(time.Minute), "failures": 1, "class": "transient"})
			})
			all := w.startAll(4)
			wantTokens(t, orderAll(all, procOrder{Do: procToken}), 2)
			finishAll(all)
			w.wantPosts(1)
			w.wantAlive()
		})
	}
}
