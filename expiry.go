package freshtoken

import (
	"math"
	"time"
)

// When to refresh. Everything here is a pure function of its arguments, so
// that clocks that stop, jump or disagree can be tested in tables.

const (
	// A refresh is due this long before expiry, or a share of the lifetime
	// before, whichever is shorter: long enough to survive a short outage of
	// the token endpoint, short enough not to waste short-lived tokens.
	maxLead   = 5 * time.Minute
	leadShare = 5

	// No lifetime counts as less than minLifetime, and one of zero or less as
	// staleLifetime. Such a token is stale on arrival, if the server means what
	// it says, but must not make every request refresh.
	minLifetime   = time.Second
	staleLifetime = 10 * time.Second

	// maxLifetime keeps nonsense such as an expires_in of 1e18 from
	// overflowing. Nobody waits that long.
	maxLifetime = 100 * 365 * 24 * time.Hour

	// The first and the longest pause after a failed refresh.
	minBackoff = time.Second
	maxBackoff = time.Minute

	// maxRetryAfter bounds what a Retry-After can ask for.
	maxRetryAfter = time.Hour

	// never is an age that no token reaches.
	never = time.Duration(math.MaxInt64)
)

// age returns how old a token is at least. Two clocks tell: the wall clock,
// which others can set and which counts while the machine sleeps, and the
// monotonic clock, which nobody can set but which may stop in sleep and knows
// nothing of the time before the program started. Both can only make a token
// look too young (or, for a wall clock set forward, too old, which costs one
// refresh), so the larger answer counts.
//
// issued and now are wall-clock readings in nanoseconds; elapsed is monotonic,
// from the moment the token was asked for or, for a token read from a store,
// from the moment it was read. A token issued in the future is as old as the
// monotonic clock says.
func age(issued, now int64, elapsed time.Duration) time.Duration {
	return max(time.Duration(now-issued), elapsed)
}

// clampLifetime returns a lifetime the rest of this file can count with.
func clampLifetime(d time.Duration) time.Duration {
	if d <= 0 {
		return staleLifetime
	}
	return min(max(d, minLifetime), maxLifetime)
}

// refreshAge returns the age at which a token of the given lifetime is due for
// a refresh. A lifetime of zero is unknown: such a token is used until it is
// rejected. lead is the program's wish (zero: none), hint the server's
// (refresh_in; zero: none). jitter in [0, 1) differs from process to process,
// so that processes that share a session do not all come at once; it moves the
// refresh towards expiry by up to a tenth of the lead.
func refreshAge(lifetime, lead, hint time.Duration, jitter float64) time.Duration {
	switch {
	case lifetime <= 0:
		return never
	case lead > 0:
		lead = min(lead, lifetime/2)
	case hint > 0 && hint < lifetime:
		lead = lifetime - hint
	default:
		lead = min(lifetime/leadShare, maxLead)
	}
	return lifetime - lead + time.Duration(jitter*float64(lead)/10)
}

// backoff returns how long to pause after the n-th failure in a row (n counts
// from 1), with full jitter from rnd in [0, 1) over all but the first tenth.
func backoff(n int, rnd float64) time.Duration {
	d := maxBackoff
	if n < 7 {
		d = min(minBackoff<<max(n-1, 0), maxBackoff)
	}
	return d/10 + time.Duration(rnd*float64(d-d/10))
}

// heed returns d, a pause of our own choice, or what is near that and no shorter than
// what the server has asked for; zero: it has not.
func heed(d, retryAfter time.Duration) time.Duration {
	if retryAfter <= 0 {
		return d
	}
	return min(max(d, retryAfter), 2*retryAfter)
}

// remaining returns how much of a pause that another process wrote down is
// left. Wall clocks differ and jump: a pause that begins in the future, or that
// is longer than any we would write, is not believed.
func remaining(from, until, now time.Time) time.Duration {
	length := until.Sub(from)
	if now.Before(from) || length > maxRetryAfter+maxBackoff {
		return 0
	}
	return max(until.Sub(now), 0)
}

// The budget for forced refreshes: those that only the API's rejection asked
// for. It keeps an API that rejects good tokens from turning every request into
// a refresh.
const (
	forcedBurst  = 5
	forcedRefill = time.Minute // one more after this long, or after half a lifetime
)

// refill returns the budget as it is at now, and how long until it grows. A nil
// one has not been touched yet.
func refill(old *forced, now time.Time, lifetime time.Duration) (forced, time.Duration) {
	f := forced{Left: forcedBurst, At: now}
	if old != nil {
		f = *old
	}
	every := forcedRefill
	if lifetime > 0 {
		every = max(min(every, lifetime/2), time.Second)
	}
	gone := now.Sub(f.At)
	if gone < 0 { // the clock was set back, or another machine's is ahead
		f.At, gone = now, 0
	}
	n := min(gone/every, forcedBurst)
	f.Left += int(n)
	f.At = f.At.Add(n * every)
	if f.Left >= forcedBurst {
		f.Left, f.At = forcedBurst, now
	}
	return f, f.At.Add(every).Sub(now)
}
