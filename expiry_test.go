package freshtoken

import (
	"math"
	"testing"
	"time"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// Suspend, clocks set back and forward, records from another clock: whatever
// the two clocks say, a dead token is never taken for a live one for longer
// than its lifetime of running time, and a live one never causes a storm.
func TestAge(t *testing.T) {
	const lifetime = time.Hour
	for _, tt := range []struct {
		name    string
		wall    time.Duration // wall clock now, since the token's stamp
		elapsed time.Duration // monotonic, since it was asked for or read
		want    time.Duration
		expired bool
	}{
		{"R6749-5.1-clock just issued", 0, 0, 0, false},
		{"R6749-5.1-clock both agree", 59 * time.Minute, 59 * time.Minute, 59 * time.Minute, false},
		{"both agree that it is over", time.Hour, time.Hour, time.Hour, true},
		{"suspended: the monotonic clock stood still", 3 * time.Hour, time.Minute, 3 * time.Hour, true},
		{"clock set back a day after issue", -day + 10*time.Minute, 10 * time.Minute, 10 * time.Minute, false},
		{"clock set back a day, lifetime over", -day + 2*time.Hour, 2 * time.Hour, 2 * time.Hour, true},
		{"clock set forward a year", year, time.Minute, year, true},
		{"record stamped a year ahead, just read", -year, 0, 0, false},
		{"record stamped a year ahead, read a lifetime ago", -year + time.Hour, time.Hour, time.Hour, true},
		{"record stamped a year behind", year, 0, year, true},
		{"read from a store half-way", 30 * time.Minute, 0, 30 * time.Minute, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			issued := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			got := age(issued.UnixNano(), issued.Add(tt.wall).UnixNano(), tt.elapsed)
			if got != tt.want || (got >= lifetime) != tt.expired {
				t.Errorf("age is %v (expired: %v), want %v (%v)", got, got >= lifetime, tt.want, tt.expired)
			}
		})
	}
}

func TestRefreshAge(t *testing.T) {
	for _, tt := range []struct {
		name                 string
		lifetime, lead, hint time.Duration
		jitter               float64
		want                 time.Duration
	}{
		{"unknown lifetime: when it is rejected", 0, 0, 0, 0, never},
		{"unknown lifetime, whatever the lead", 0, time.Minute, 0, 0, never},
		{"five minutes before", time.Hour, 0, 0, 0, 55 * time.Minute},
		{"MGR-window a fifth of a short life", 5 * time.Second, 0, 0, 0, 4 * time.Second},
		{"MGR-window the program's lead is half the life at most", 5 * time.Second, time.Minute, 0, 0, 2500 * time.Millisecond},
		{"the program's lead", time.Hour, 10 * time.Minute, 0, 0, 50 * time.Minute},
		{"the program's lead comes before the hint", time.Hour, 10 * time.Minute, time.Minute, 0, 50 * time.Minute},
		{"the server's hint", 24 * time.Hour, 0, 12 * time.Hour, 0, 12 * time.Hour},
		{"a hint past expiry is none", time.Hour, 0, 2 * time.Hour, 0, 55 * time.Minute},
		{"MGR-window jitter is a tenth of the lead at most", time.Hour, 0, 0, 0.999, 55*time.Minute + 29970*time.Millisecond},
		{"the shortest life", minLifetime, 0, 0, 0, 800 * time.Millisecond},
		{"the longest life", maxLifetime, 0, 0, 0, maxLifetime - 5*time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := refreshAge(tt.lifetime, tt.lead, tt.hint, tt.jitter); got != tt.want {
				t.Errorf("due at %v, want %v", got, tt.want)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	for n, longest := range map[int]time.Duration{0: time.Second, 1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second,
		6: 32 * time.Second, 7: time.Minute, 8: time.Minute, math.MaxInt32: time.Minute} {
		if got := backoff(n, 0); got != longest/10 {
			t.Errorf("failure %d: shortest pause %v, want %v", n, got, longest/10)
		}
		if got := backoff(n, 0.999999); got > longest || got < longest*99/100 {
			t.Errorf("failure %d: longest pause %v, want just under %v", n, got, longest)
		}
	}
}

func TestRemaining(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name        string
		from, until time.Duration // relative to now
		want        time.Duration
	}{
		{"half over", -10 * time.Second, 10 * time.Second, 10 * time.Second},
		{"over", -10 * time.Second, -time.Second, 0},
		{"written by a clock that is ahead", time.Hour, time.Hour + time.Minute, 0},
		{"longer than anything we write", -time.Second, 10 * year, 0},
		{"a long Retry-After", -time.Second, maxRetryAfter - time.Second, maxRetryAfter - time.Second},
		{"ends before it begins", -time.Second, -time.Minute, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := remaining(now.Add(tt.from), now.Add(tt.until), now); got != tt.want {
				t.Errorf("%v is left, want %v", got, tt.want)
			}
		})
	}
}

func TestRefill(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name     string
		left     int
		ago      time.Duration // since the last change
		lifetime time.Duration
		want     int
		wait     time.Duration
	}{
		{"empty", 0, 0, time.Hour, 0, time.Minute},
		{"one after a minute", 0, 90 * time.Second, time.Hour, 1, 30 * time.Second},
		{"never more than the burst", 3, 24 * time.Hour, time.Hour, forcedBurst, time.Minute},
		{"short-lived tokens refill it sooner", 0, 3 * time.Second, 4 * time.Second, 1, time.Second},
		{"but not more than once a second", 0, time.Second, time.Second, 1, time.Second},
		{"unknown lifetime", 0, 30 * time.Second, 0, 0, 30 * time.Second},
		{"clock set back", 2, -day, time.Hour, 2, time.Minute},
		{"clock set forward", 0, 200 * year, time.Hour, forcedBurst, time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, wait := refill(&forced{Left: tt.left, At: now.Add(-tt.ago)}, now, tt.lifetime)
			if got.Left != tt.want || wait != tt.wait {
				t.Errorf("%d left, next in %v; want %d, %v", got.Left, wait, tt.want, tt.wait)
			}
		})
	}
}
