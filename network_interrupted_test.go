package freshtoken_test

import (
	"errors"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// An answer gets lost, and then the network is down, or the server busy: what
// ends the session is the lost answer all the same, and the error says so.
func TestNetworkInterruptionIsRemembered(t *testing.T) {
	between := append(oauthtest.Outages(), oauthtest.Refuse())
	between = append(between, oauthtest.ClientRefusals()...)
	for _, fault := range append(between, oauthtest.OddRefusals()...) {
		inBubble(t, "R9110-9.2.2-rt a lost answer, then "+fault.Name, func(t *testing.T) {
			w, src := expired(t, oauthtest.Options{})
			w.as.Token.Next(oauthtest.LoseAnswer(), fault)
			var err error
			for range 10 {
				if _, err = src.Token(t.Context()); errors.Is(err, freshtoken.ErrSessionEnded) && !refreshError(t, err).Uncertain {
					break
				}
				time.Sleep(time.Hour) // the longest pause that a server can ask for
			}
			if e := refreshError(t, err); !errors.Is(err, freshtoken.ErrSessionEnded) || e.Interrupted.IsZero() {
				t.Errorf("got %v, want an end that tells of the interruption", err)
			}
		})
	}
}

// An answer gets lost, and the next one brings a refresh token and nothing else: the
// request that was lost may still have been about the one before.
func TestNetworkInterruptionBeforeAnUnusableAnswer(t *testing.T) {
	inBubble(t, "R9110-9.2.2-rt a lost answer, then one without an access token", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{Grace: 10 * time.Minute})
		w.as.Token.Next(oauthtest.LoseAnswer(), oauthtest.OmitMember("access_token"))
		if _, err := src.Token(t.Context()); err == nil {
			t.Fatal("a token")
		}
		w.as.Token.Always(oauthtest.InvalidGrant())
		time.Sleep(5 * time.Minute)
		_, err := src.Token(t.Context())
		if wantErr(t, err, freshtoken.ErrSessionEnded); refreshError(t, err).Interrupted.IsZero() {
			t.Errorf("got %v, want an end that tells of the interruption", err)
		}
	})
}

// A refusal that breaks off has not given its reason yet.
func TestNetworkBrokenRefusals(t *testing.T) {
	const whole = `{"error":"invalid_grant"}`
	inBubble(t, "R6749-5.2-class every byte of a refusal", func(t *testing.T) {
		for at := -1; at < len(whole); at++ {
			w, src := expired(t, oauthtest.Options{})
			fault := oauthtest.JSON(400, whole)
			if fault.Truncate = at; at == 0 {
				continue // means nothing; -1 is before the first byte
			}
			for range 4 {
				w.as.Token.Next(fault)
			}
			var err error
			for range 4 {
				_, err = src.Token(t.Context())
				if e := refreshError(t, err); at < len(`{"error":"invalid_grant"`) && (!e.Temporary || e.OutcomeUnknown || errors.Is(err, freshtoken.ErrSessionEnded)) {
					t.Fatalf("after %d bytes: %#v", at, e)
				}
				time.Sleep(time.Minute)
			}
			if at >= len(`{"error":"invalid_grant"`) {
				wantErr(t, err, freshtoken.ErrSessionEnded)
				continue
			}
			w.usable(src)
		}
	})
}
