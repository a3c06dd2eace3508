package freshtoken_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// watcher collects attempts.
type watcher struct {
	mu  sync.Mutex // guards all
	all []freshtoken.Attempt
}

func (w *watcher) watch(c *freshtoken.Config) {
	c.OnAttempt = func(a freshtoken.Attempt) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.all = append(w.all, a)
	}
}

// take returns what has been collected since.
func (w *watcher) take() []freshtoken.Attempt {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.all
	w.all = nil
	return all
}

// told is an attempt in short: what it came to, and its steps.
func told(a freshtoken.Attempt) string {
	s := a.Reason + " " + string(a.Outcome) + ":"
	for _, st := range a.Steps {
		s += " " + string(st.Kind)
		if st.Failed {
			s += "!"
		}
	}
	return s
}

func (w *watcher) want(t *testing.T, want ...string) []freshtoken.Attempt {
	t.Helper()
	all := w.take()
	got := make([]string, len(all))
	for i, a := range all {
		got[i] = told(a)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got attempts\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	return all
}

// slow makes each call of the store take a time of its own.
func slow(d time.Duration) func() error {
	return func() error { time.Sleep(d); return nil }
}

// tardy sends each request after five seconds.
type tardy struct{ http.RoundTripper }

func (l tardy) RoundTrip(req *http.Request) (*http.Response, error) {
	time.Sleep(5 * time.Second)
	return l.RoundTripper.RoundTrip(req)
}

func TestAttempts(t *testing.T) {
	const whole = "need refreshed: lock load mark request save unlock"
	inBubble(t, "a refresh has its steps, and each has its time", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		f := w.faults()
		var seen watcher
		src := w.loggedIn(seen.watch, func(c *freshtoken.Config) {
			c.HTTPClient = &http.Client{Transport: tardy{w.as.Transport()}}
		})
		f.set(func(f *faulty) {
			f.lock, f.load, f.save = slow(3*time.Second), slow(2*time.Second), slow(time.Second)
		})
		time.Sleep(lifetime)
		w.token(src)
		all := seen.want(t, whole)
		if len(all) != 1 {
			return
		}
		a := all[0]
		at := a.Start
		for i, want := range []time.Duration{3, 2, 1, 5, 1, 0} {
			if st := a.Steps[i]; st.Duration != want*time.Second || !st.Start.Equal(at) {
				t.Errorf("%s took %v from %v, want %v from %v", st.Kind, st.Duration, st.Start, want*time.Second, at)
			}
			at = at.Add(want * time.Second)
		}
		if a.Duration != 12*time.Second || a.Generation != 2 || a.Err != nil || a.Session != "default" {
			t.Errorf("got %+v, want 12s in all, and generation 2", a)
		}
		if src.Token(t.Context()); len(seen.take()) != 0 {
			t.Error("a token that is valid made an attempt")
		}
	})
	inBubble(t, "the session of an earlier run is adopted, and so is a newer one of another program", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		one := w.loggedIn()
		var seen watcher
		other := w.source(seen.watch)
		w.token(other)
		seen.want(t, "need adopted: load")
		tok := w.token(one)
		if _, err := one.Refresh(t.Context(), tok); err != nil {
			t.Fatal(err)
		}
		if _, err := other.Refresh(t.Context(), tok); err != nil {
			t.Fatal(err)
		}
		seen.want(t, "need adopted: lock load unlock")
		w.wantPosts(1)
	})
	inBubble(t, "a refusal, a disk that is full before or after, a lock that another keeps", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		f := w.faults()
		var seen watcher
		src := w.loggedIn(seen.watch)
		time.Sleep(lifetime)
		f.set(func(f *faulty) { f.save = failing(errDisk) })
		_, err := src.Token(t.Context())
		wantErr(t, err, freshtoken.ErrStore)
		if all := seen.want(t, "need failed: lock load mark! unlock"); len(all) == 1 && all[0].Err.Error() != err.Error() {
			t.Errorf("the attempt says %v, and Token %v", all[0].Err, err)
		}
		time.Sleep(time.Minute)
		f.set(afterMark)
		w.token(src)
		seen.want(t, "need refreshed: lock load mark request save!")
		f.set(func(f *faulty) { f.save = nil })
		time.Sleep(time.Minute) // the lock was kept
		seen.want(t, "save unchanged: load save unlock")

		unlock, err := w.store.Lock(t.Context(), freshtoken.StoreKey(w.config()))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(lifetime)
		_, err = src.Token(t.Context())
		wantErr(t, err, freshtoken.ErrLocked)
		if all := seen.want(t, "need busy: lock!"); len(all) == 1 && all[0].Duration != time.Minute {
			t.Errorf("it waited %v for the lock, want a minute", all[0].Duration)
		}
		unlock()
		time.Sleep(time.Minute)
		w.as.Token.Next(oauthtest.InvalidGrant())
		_, err = src.Token(t.Context())
		wantErr(t, err, freshtoken.ErrSessionEnded)
		seen.want(t, "need failed: lock load mark request! load save unlock")
	})
}

// Whoever is told may use the Source: nothing is locked.
func TestAttemptsAreToldWithNothingLocked(t *testing.T) {
	inBubble(t, "the receiver refreshes", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		var src *freshtoken.Source
		var kinds []string
		errs := make(chan error, 1)
		src = w.loggedIn(func(c *freshtoken.Config) {
			c.OnEvent = func(e freshtoken.Event) { kinds = append(kinds, string(e.Kind)) }
			c.OnAttempt = func(a freshtoken.Attempt) {
				kinds = append(kinds, "attempt")
				if a.Generation == 2 {
					_, err := src.Refresh(t.Context(), nil)
					errs <- err
				}
			}
		})
		time.Sleep(lifetime)
		w.token(src)
		if err := <-errs; err != nil {
			t.Error(err)
		}
		if err := src.Close(); err != nil { // waits for all that is to be told
			t.Error(err)
		}
		if got, want := strings.Join(kinds, " "), "logged_in refreshed attempt rejected refreshed attempt"; got != want {
			t.Errorf("told %s, want %s", got, want)
		}
		w.wantPosts(2)
	})
}

func TestAttemptsAreLogged(t *testing.T) {
	a := freshtoken.Attempt{Session: "alice", Reason: "due", Outcome: freshtoken.OutcomeFailed, Duration: time.Second, Err: errDisk,
		Steps: []freshtoken.Step{{Kind: freshtoken.StepLoad, Duration: 1}, {Kind: freshtoken.StepLoad, Duration: 2}}}
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "a", a)
	want := fmt.Sprintf("a.session=alice a.reason=due a.outcome=failed a.generation=0 a.duration=1s a.load=3ns a.error=%q\n", errDisk)
	if _, got, _ := strings.Cut(out.String(), "msg=x "); got != want {
		t.Errorf("slog says\n%swant\n%s", got, want)
	}
	data, err := json.Marshal(a)
	if err != nil || !strings.Contains(string(data), fmt.Sprintf(`"Err":%q`, errDisk)) {
		t.Errorf("JSON is %s, %v", data, err)
	}
}
