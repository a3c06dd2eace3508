package main

// A target is what the library is built to reach.
type target struct {
	name   string // for reasons
	what   string
	limit  string // as it is shown
	checks []check
}

// A check is a value, or a word, that a target is about.
type check struct {
	label         string // says which one it is, if a target has several
	measure, peer string
	value         string
	limit         float64 // the value may be as high
	other         string  // ... or as high as that of this peer
	word          string  // not empty: the word must begin with this. With an empty value, all words of the result
}

const (
	byDefault  = "freshtoken"
	background = "freshtoken, Background"
	shallow    = "floor: atomic token, shallow copy"
	keyFile    = "freshtoken, key file"
)

var targets = []target{
	{"token.ns", "`Token()`, to an atomic load and `time.Now`", "1.10×", []check{
		{"serial", "token", byDefault, "serial.floor.ratio", 1.10, "", ""},
		{"on 1 processor", "token", byDefault, "p1.floor.ratio", 1.10, "", ""},
		{"on 2", "token", byDefault, "p2.floor.ratio", 1.10, "", ""},
		{"on 8", "token", byDefault, "p8.floor.ratio", 1.10, "", ""},
	}},
	{"token.allocs", "`Token()`, allocations", "0", []check{
		{"", "token", byDefault, "serial.allocs", 0, "", ""},
	}},
	{"roundtrip.ns", "`RoundTrip`, to an atomic token over a shallow copy", "1.10×", []check{
		{"no header", "roundtrip", byDefault, "0.floor.ratio", 1.10, "", ""},
		{"5", "roundtrip", byDefault, "5.floor.ratio", 1.10, "", ""},
		{"20", "roundtrip", byDefault, "20.floor.ratio", 1.10, "", ""},
	}},
	{"roundtrip.allocs", "`RoundTrip`, allocations", "those of the shallow copy", []check{
		{"no header", "roundtrip", byDefault, "0.allocs", 0, shallow, ""},
		{"5", "roundtrip", byDefault, "5.allocs", 0, shallow, ""},
		{"20", "roundtrip", byDefault, "20.allocs", 0, shallow, ""},
	}},
	{"boundary.background", "expiry, `Background`: stalled requests", "0", []check{
		{"", "boundary", background, "stalled.count", 0, "", ""},
		{"after idling", "wake", background, "stalled.count", 0, "", ""},
	}},
	{"boundary.tail", "expiry, `Background`: p99.9 to the control's", "1.10×", []check{
		{"", "boundary", background, "p99.9.control.ratio", 1.10, "", ""},
		{"after idling", "wake", background, "p99.9.control.ratio", 1.10, "", ""},
	}},
	{"boundary.default", "expiry, by default: stalled requests a refresh", "1", []check{
		{"", "boundary", byDefault, "stalled.count", 1, "", ""},
	}},
	{"boundary.calls", "expiry: calls to the token endpoint a refresh", "1", []check{
		{"by default", "boundary", byDefault, "calls.count", 1, "", ""},
		{"`Background`", "boundary", background, "calls.count", 1, "", ""},
	}},
	{"storm.401", "1,000 rejected requests: callers that see a 401", "0", []check{
		{"", "storm", byDefault, "caught.count", 0, "", ""},
	}},
	{"storm.calls", "1,000 rejected requests: calls to the token endpoint", "1", []check{
		{"", "storm", byDefault, "calls.count", 1, "", ""},
	}},
	{"outage.errors", "outage: errors while the token lives", "0", []check{
		{"10 s", "outage", byDefault, "10s.errors.alive.count", 0, "", ""},
		{"16 s", "outage", byDefault, "16s.errors.alive.count", 0, "", ""},
	}},
	{"outage.calls", "outage of 10 s: calls to the token endpoint", "5", []check{
		{"", "outage", byDefault, "10s.calls.count", 5, "", ""},
	}},
	{"outage.retry", "outage: calls earlier than `Retry-After` says", "0", []check{
		{"10 s", "outage", byDefault, "10s.early.count", 0, "", ""},
		{"16 s", "outage", byDefault, "16s.early.count", 0, "", ""},
	}},
	{"outage.late", "outage beyond expiry: the slowest error", "100 ms", []check{
		{"", "outage", byDefault, "16s.slowest error.ms", 100, "", ""},
	}},
	{"cancel.deadline", "callers with a deadline of 50 ms in a refresh of 5 s return after", "100 ms", []check{
		{"who waits", "cancel", byDefault, "waiter.ms", 100, "", ""},
		{"who began", "cancel", byDefault, "initiator.ms", 100, "", ""},
	}},
	{"cancel.survives", "what is left when the caller that began it gives up", "all", []check{
		{"refresh", "cancel", byDefault, "refresh survived", 0, "", "yes"},
		{"session", "cancel", byDefault, "family survived", 0, "", "yes"},
	}},
	{"processes.grant", "eight processes: `invalid_grant`", "0", []check{
		{"", "processes", byDefault, "invalid_grant.count", 0, "", ""},
	}},
	{"processes.failed", "eight processes: calls that failed", "0", []check{
		{"", "processes", byDefault, "failed.count", 0, "", ""},
	}},
	{"redirects", "redirects", "safe", []check{
		{"", "redirects", byDefault, "", 0, "", "safe"},
	}},
	{"save", "a save, to the bare durable write", "1.30×", []check{
		{"", "save", byDefault, "save.floor.ratio", 1.30, "", ""},
		{"with an ID token", "save", byDefault, "idtoken.save.floor.ratio", 1.30, "", ""},
	}},
	{"load", "a load, to reading and decrypting the bytes", "2.00×", []check{
		{"", "save", byDefault, "load.floor.ratio", 2, "", ""},
		{"with an ID token", "save", byDefault, "idtoken.load.floor.ratio", 2, "", ""},
	}},
	{"coldstart", "a cold start with a key file, to the plaintext program", "1.15×", []check{
		{"", "coldstart", keyFile, "plaintext.ratio", 1.15, "", ""},
	}},
}

// reasons says why a target is missed, by the target's name. It is shown if the
// target is missed, and a target that is missed without one is an error.
var reasons = map[string]string{
	"roundtrip.ns": "Without headers there is little to copy, and the floor reads no clock. A look at it, without which nobody knows whether the token is still good, costs the floor more than the allowance: see the row with time.Now. With headers, copying them for less than the floor does makes up for it.",
}
