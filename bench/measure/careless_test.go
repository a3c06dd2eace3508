package measure_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken/bench/measure"
	"github.com/freshtoken/freshtoken/bench/peers"
	"golang.org/x/oauth2"
)

// careless does all wrong that the measures look for: each caller who finds the
// token expired refreshes by itself, in its own context, and whatever the answer
// of an API is, it is the caller's.
var careless = peers.Peer{Name: "careless", Open: func(s peers.Setup) (*peers.Session, error) {
	var mu sync.Mutex
	tok := s.Token
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, s.HTTP)
	return &peers.Session{Token: func(caller context.Context) (string, error) {
		mu.Lock()
		old := tok
		mu.Unlock()
		if time.Now().Before(old.Expiry) {
			return old.AccessToken, nil
		}
		ctx, cancel := context.WithCancel(ctx)
		defer context.AfterFunc(caller, cancel)()
		defer cancel()
		newer, err := s.OAuth2.TokenSource(ctx, &oauth2.Token{RefreshToken: old.RefreshToken}).Token()
		if err != nil {
			return "", err
		}
		mu.Lock()
		defer mu.Unlock()
		tok = newer
		return newer.AccessToken, nil
	}}, nil
}}

// The measures must be able to tell a bad library from a good one.
func TestCareless(t *testing.T) {
	run := func(m measure.Measure, check func(t *testing.T, r measure.Result)) {
		t.Run(m.Name, func(t *testing.T) { check(t, inBubble(t, m, careless)[0]) })
	}
	run(measure.Boundary, func(t *testing.T, r measure.Result) {
		want(t, r, "calls.count", 100, 200)
		want(t, r, "stalled.count", 200, 200)
		want(t, r, "max.ms", 500, 500)
		want(t, r, "p99.9.ms", 400, 500)
		if !strings.Contains(r.Note, "once the token has expired") {
			t.Errorf("note: %q", r.Note)
		}
	})
	run(measure.Wake, func(t *testing.T, r measure.Result) {
		want(t, r, "calls.count", 200, 200)
		want(t, r, "stalled.count", 200, 200)
		want(t, r, "errors.count", 0, 0) // that server takes a refresh token twice
	})
	run(measure.Storm, func(t *testing.T, r measure.Result) {
		want(t, r, "caught.count", 1000, 1000)
		want(t, r, "failing.count", 1000, 1000)
		want(t, r, "unauthorized.count", 2000, 1e6)
		wantWord(t, r, "all served", "no")
	})
	run(measure.Outage, func(t *testing.T, r measure.Result) {
		want(t, r, "10s.calls.count", 0, 0) // it has no early window, and passes this by
		want(t, r, "16s.calls.count", 1000, 5000)
		want(t, r, "16s.early.count", 1000, 5000)
		want(t, r, "16s.peak.count", 200, 1000)
		want(t, r, "16s.settled.s", 0, 0.1)
	})
	run(measure.Cancel, func(t *testing.T, r measure.Result) {
		want(t, r, "initiator.ms", 50, 50)
		want(t, r, "calls.count", 2, 2)
		wantWord(t, r, "refresh survived", "no")
		wantWord(t, r, "other caller", "error")
		wantWord(t, r, "family survived", "no")
	})
	run(measure.Redirects, func(t *testing.T, r measure.Result) {
		for _, from := range []string{"302 to another host", "307 to another host", "307 to another port", "307 from the token endpoint"} {
			wantWord(t, r, from, "LEAK")
		}
	})
}

// A library that cannot be set up, and one that does not come back, are told of,
// and hold nothing up.
func TestBrokenPeers(t *testing.T) {
	refuses := peers.Peer{Name: "refuses", Open: func(peers.Setup) (*peers.Session, error) { return nil, errors.New("out of order") }}
	synctest.Test(t, func(t *testing.T) {
		for _, m := range []measure.Measure{measure.Boundary, measure.Wake, measure.Storm, measure.Outage, measure.Cancel, measure.Redirects} {
			release := make(chan struct{})
			hangs := peers.Peer{Name: "hangs", Open: func(peers.Setup) (*peers.Session, error) {
				return &peers.Session{Transport: hanging(release)}, nil
			}}
			results, err := m.Run(t.Context(), measure.Options{Peers: []peers.Peer{refuses, hangs}, Rounds: 1, Smoke: true, Logf: t.Logf})
			close(release)
			synctest.Wait()
			if err != nil || len(results) < 2 {
				t.Fatalf("%s: %d results, %v", m.Name, len(results), err)
			}
			if note := results[0].Note; note != "out of order" {
				t.Errorf("%s: the note on a library that cannot be set up is %q", m.Name, note)
			}
			if note := results[1].Note; !strings.Contains(note, "left behind") {
				t.Errorf("%s: the note on a library that does not come back is %q", m.Name, note)
			}
		}
	})
}

// hanging is a transport that answers nothing until it is released.
type hanging <-chan struct{}

func (h hanging) RoundTrip(*http.Request) (*http.Response, error) {
	<-h
	return nil, errors.New("released")
}
