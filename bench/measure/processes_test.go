package measure_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken/bench/measure"
	"github.com/freshtoken/freshtoken/bench/peers"
)

// Eight processes share a session: none of their calls fails, no refresh token
// is shown twice, and the session outlives them.
func TestEightProcessesShareASession(t *testing.T) {
	for peer, r := range makeShort(t, measure.Processes, peers.Freshtoken, peers.FreshtokenBackground) {
		wantValues(t, r, map[string]float64{"reuses.count": 0, "invalid_grant.count": 0, "failed.count": 0})
		if r.Words["family"] != "yes" {
			t.Errorf("%s: the session survived: %q", peer, r.Words["family"])
		}
		if r.Values["rotations.count"] < 1 || r.Values["calls.count"] < 8 {
			t.Errorf("%s: %v rotations and %v calls prove nothing", peer, r.Values["rotations.count"], r.Values["calls.count"])
		}
		if len(r.Series) != 8 {
			t.Errorf("%s: %d series for 8 processes", peer, len(r.Series))
		}
	}
}

func TestProcessesOfAPeerWithoutAStore(t *testing.T) {
	r := makeShort(t, measure.Processes, peers.XOAuth2)["x/oauth2"]
	if r.Note == "" || r.Values != nil {
		t.Errorf("got %+v, want a note alone", r)
	}
}

// A peer that cannot open its session fails the measure, with what it says.
func TestProcessesThatCannotOpenTheSession(t *testing.T) {
	amnesiac := peers.Peer{Name: "no such peer", Stores: true, Open: func(s peers.Setup) (*peers.Session, error) {
		return &peers.Session{}, os.WriteFile(filepath.Join(s.Dir, "session"), nil, 0o600)
	}}
	_, err := measure.Processes.Run(t.Context(), measure.Options{Peers: []peers.Peer{amnesiac}, Smoke: true, Logf: t.Logf})
	if err == nil || !strings.Contains(err.Error(), "no such peer") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = measure.Processes.Run(ctx, measure.Options{Peers: []peers.Peer{peers.Freshtoken}, Smoke: true, Logf: t.Logf})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("once cancelled: got %v", err)
	}
}
