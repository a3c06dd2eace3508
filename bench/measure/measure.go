// Package measure has what is measured: each measure sets the libraries to the
// same work, in the same run, and says what came of it in numbers.
package measure

import (
	"context"
	"math"
	"runtime"
	"slices"
	"time"

	"github.com/freshtoken/freshtoken/bench/peers"
)

// A Result is what one library, or a floor, has shown in one measure.
type Result struct {
	Measure string // "token"
	Peer    string // a peer's name, or "floor: ..."

	// Values are the numbers, by name. What they are measured in is the last
	// part of the name: "serial.ns", "serial.floor.ratio", "5.allocs",
	// "p99.ms", "stalled.count".
	Values map[string]float64 `json:",omitempty"`

	// Words are answers that are no number: "survived": "yes".
	Words map[string]string `json:",omitempty"`

	// Series are the points of pictures: seconds since the start, and a value.
	Series map[string][]Point `json:",omitempty"`

	// Note says why something is missing, or special.
	Note string `json:",omitempty"`
}

// A Point is one of a series.
type Point struct{ X, Y float64 }

// A Run is what the report is made of.
type Run struct {
	Date, Go, System, CPU string
	CPUs                  int
	Command               string
	Modules               map[string]string // versions, by path
	Results               []Result
}

// Options say how thorough a run is.
type Options struct {
	Peers []peers.Peer

	// Rounds is how often each thing is timed, one after the other in turns.
	// Medians are reported.
	Rounds int

	// Smoke makes each measure as short as it can be while its counts and
	// allocations still hold; its times mean nothing.
	Smoke bool

	// Logf tells how it goes.
	Logf func(format string, args ...any)
}

// A Measure is one thing to measure.
type Measure struct {
	Name string // as in Result.Measure, and on the command line
	Doc  string // one line
	Run  func(context.Context, Options) ([]Result, error)
}

// All returns the measures in the order in which they are run.
func All() []Measure {
	return []Measure{
		Save,
		ColdStart,
		Processes,
		Accounts,
		Boundary,
		Wake,
		Storm,
		Outage,
		Cancel,
		Redirects,
		Token,
		RoundTrip,
	}
}

// Ballast allocates a live heap of 64 MiB. A benchmark with a tiny one measures
// how often the garbage collector runs. Keep what is returned alive.
func Ballast() []byte {
	b := make([]byte, 64<<20)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	return b
}

// Interleave times each function in turns, so that what disturbs the machine
// disturbs all of them. A function is called with a number of iterations, which
// is chosen so that it takes about as long as each; what is returned are the
// nanoseconds of one iteration, by function and round.
func Interleave(rounds int, each time.Duration, fns ...func(n int)) [][]float64 {
	ns := make([]int, len(fns))
	for i, f := range fns {
		ns[i] = iterations(each, f)
	}
	out := make([][]float64, len(fns))
	for range rounds {
		for i, f := range fns {
			runtime.GC()
			start := time.Now()
			f(ns[i])
			out[i] = append(out[i], float64(time.Since(start))/float64(ns[i]))
		}
	}
	return out
}

// iterations is how many take about as long as each. A busy machine holds up a
// try now and then, so that the fastest of three counts.
func iterations(each time.Duration, f func(n int)) int {
	for n := 1; ; n *= 4 {
		took := time.Duration(math.MaxInt64)
		for range 3 {
			start := time.Now()
			f(n)
			took = min(took, time.Since(start))
		}
		if took >= each/4 || n >= 1<<30 {
			return max(1, int(float64(n)*float64(each)/float64(max(took, 1))))
		}
	}
}

// Median returns the middle one, or the mean of the two in the middle. It
// returns 0 for none.
func Median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Ratio returns the median of a to b, round by round.
func Ratio(a, b []float64) float64 {
	r := make([]float64, min(len(a), len(b)))
	for i := range r {
		r[i] = a[i] / b[i]
	}
	return Median(r)
}
