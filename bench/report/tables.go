package main

// A table shows values of one measure, a row for each peer. The measures and
// their values are named here, in targets.go, and in the files of the pictures,
// and nowhere else.
type table struct {
	name    string // as page.md calls it
	measure string
	columns []column
}

// A column shows a cell for each peer: a text with the names of values, or of
// words, in braces. What stands in brackets is left out where a value is missing;
// the others, some result has to have.
type column struct{ heading, cell string }

var tables = []table{
	{"token", "token", []column{
		{"serial", "{serial.ns}[ ({serial.floor.ratio}, {serial.xoauth2.ratio})]"},
		{"1 processor", "{p1.ns}[ ({p1.floor.ratio}, {p1.xoauth2.ratio})]"},
		{"2 processors", "{p2.ns}[ ({p2.floor.ratio}, {p2.xoauth2.ratio})]"},
		{"8 processors", "{p8.ns}[ ({p8.floor.ratio}, {p8.xoauth2.ratio})]"},
		{"memory", "{serial.bytes}, {serial.allocs}"},
	}},
	{"roundtrip", "roundtrip", []column{
		{"no header", "{0.ns}[ ({0.floor.ratio}, {0.xoauth2.ratio})]"},
		{"memory", "{0.bytes}, {0.allocs}"},
		{"5 headers", "{5.ns}[ ({5.floor.ratio}, {5.xoauth2.ratio})]"},
		{"memory", "{5.bytes}, {5.allocs}"},
		{"20 headers", "{20.ns}[ ({20.floor.ratio}, {20.xoauth2.ratio})]"},
		{"memory", "{20.bytes}, {20.allocs}"},
	}},
	{"roundtrip.p2", "roundtrip", []column{
		{"no header", "{0.p2.ns}[ ({0.p2.floor.ratio}, {0.p2.xoauth2.ratio})]"},
		{"5 headers", "{5.p2.ns}[ ({5.p2.floor.ratio}, {5.p2.xoauth2.ratio})]"},
		{"20 headers", "{20.p2.ns}[ ({20.p2.floor.ratio}, {20.p2.xoauth2.ratio})]"},
	}},
	{"boundary", "boundary", []column{
		{"median", "{p50.ms}"},
		{"p99", "{p99.ms}"},
		{"p99.9", "{p99.9.ms}"},
		{"p99.9 to the control's", "{p99.9.control.ratio}"},
		{"slowest", "{max.ms}"},
		{"over 100 ms", "{slow.count}"},
		{"stalled a refresh", "{stalled.count}"},
		{"calls a refresh", "{calls.count}"},
		{"errors", "{errors.count}"},
		{"refreshed when so old", "{age.s}"},
	}},
	{"wake", "wake", []column{
		{"p99.9", "{p99.9.ms}"},
		{"p99.9 to the control's", "{p99.9.control.ratio}"},
		{"slowest", "{slowest.ms}"},
		{"stalled", "{stalled.count}"},
		{"calls while idle", "{idle.calls.count}"},
		{"calls then", "{calls.count}"},
		{"errors", "{errors.count}"},
	}},
	{"storm", "storm", []column{
		{"callers that got a 401", "{caught.count}"},
		{"401s that they got", "{unauthorized.count}"},
		{"other errors", "{errors.count}"},
		{"calls", "{calls.count}"},
		{"401s that the API sent", "{rejected.count}"},
		{"damaged bodies", "{damaged.count}"},
		{"all served after", "{served.s}"},
	}},
	{"outage.10s", "outage", []column{
		{"errors while the token lives", "{10s.errors.alive.count}"},
		{"errors", "{10s.errors.count} of {10s.requests.count}"},
		{"calls", "{10s.calls.count}"},
		{"of them too early", "{10s.early.count}"},
		{"most calls in a second", "{10s.peak.count}"},
		{"slowest request", "{10s.slowest.ms}"},
		{"last error, after the end", "{10s.settled.s}"},
		{"next refresh, after the end", "{10s.refreshed.s}"},
	}},
	{"outage.16s", "outage", []column{
		{"errors", "{16s.errors.count} of {16s.requests.count}"},
		{"calls", "{16s.calls.count}"},
		{"of them too early", "{16s.early.count}"},
		{"most calls in a second", "{16s.peak.count}"},
		{"slowest error", "{16s.slowest error.ms}"},
		{"last error, after the end", "{16s.settled.s}"},
		{"next refresh, after the end", "{16s.refreshed.s}"},
	}},
	{"cancel", "cancel", []column{
		{"who waits returns after", "{waiter.ms}"},
		{"who began it returns after", "{initiator.ms}"},
		{"the refresh survived", "{refresh survived}"},
		{"the other caller got", "{other caller} after {other.ms}"},
		{"calls", "{calls.count}"},
		{"next request", "{next request}"},
		{"the session survived", "{family survived}"},
	}},
	{"processes", "processes", []column{
		{"rotations", "{rotations.count}"},
		{"refresh tokens sent twice", "{reuses.count}"},
		{"`invalid_grant`", "{invalid_grant.count}"},
		{"calls that failed", "{failed.count} of {calls.count}"},
		{"the session survived", "{family}"},
	}},
	{"redirects", "redirects", []column{
		{"302 to another host", "{302 to another host}"},
		{"307 to another host", "{307 to another host}"},
		{"307 to another port", "{307 to another port}"},
		{"307 from the token endpoint", "{307 from the token endpoint}"},
	}},
	{"save", "save", []column{
		{"save", "{save.ns}[ ({save.floor.ratio})]"},
		{"load", "{load.ns}[ ({load.floor.ratio})]"},
		{"save with an ID token", "{idtoken.save.ns}[ ({idtoken.save.floor.ratio})]"},
		{"load with an ID token", "{idtoken.load.ns}[ ({idtoken.load.floor.ratio})]"},
		{"a whole refresh", "{refresh.ns} ({refresh.floor.ratio})"},
		{"its writes", "{refresh.writes.count}"},
		{"bytes", "{save.bytes}[; {idtoken.save.bytes}]"},
		{"file system", "[{file system}]"},
	}},
	{"coldstart", "coldstart", []column{
		{"first request answered", "{ms} ({plaintext.ratio})"},
		{"exit", "{exit.ms} ({exit.plaintext.ratio})"},
		{"calls to the token endpoint", "{calls.count}"},
		{"size of the program", "{binary.bytes}"},
	}},
	{"accounts", "accounts", []column{
		{"heap of each", "{heap.bytes}"},
		{"goroutines of each", "{goroutines.count}"},
		{"opening all", "{open.ms}"},
		{"a token", "{token.ns}"},
	}},
}

// leftOut are the values that no table shows, by measure.
var leftOut = map[string][]string{
	// How much was done, and errors of one kind among all.
	"boundary": {"requests.count", "refreshes.count", "unauthorized.count"},
	// One request of each round: p99.9 says more.
	"wake": {"slowest.control.ms", "slowest.control.ratio"},
	// Where not all were served, a note says how many.
	"storm": {"all served", "failing.count"},
	// All errors are shown; and of the slowest, the one that counts there.
	"outage": {"16s.errors.alive.count", "10s.slowest error.ms", "16s.slowest.ms"},
	// They are for the tests.
	"save": {"save.allocs", "load.allocs", "idtoken.save.allocs", "idtoken.load.allocs", "refresh.locks.count"},
	// As for save.
	"coldstart": {"file system"},
	"accounts":  {"file system"},
}

// drawn are the series that pictures show, by measure.
var drawn = map[string][]string{
	"boundary":  {latencySeries},
	"outage":    {"10s.calls", outageSeries}, // the shorter one is the beginning of the longer
	"processes": processSeries,
}
