package freshtoken_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// The model runs random programs against the whole package and checks what
// always holds. A program is made from a seed: processes that share a store and
// a server, their callers, crashes, and everything else that goes wrong. It runs
// on fake time. The checks read a history of what happened, and nothing else.
//
// A seed that fails is run again, with its history, by
//
//	go test -run 'TestModel$' -model.seed=N -model.v .
//
// Steps are taken at times of their own, so that a seed repeats what it did as
// far as goroutines that wake at the same time do not decide.

var (
	modelSeed  = flag.Uint64("model.seed", 0, "run this seed of the model alone")
	modelSeeds = flag.Uint64("model.seeds", 0, "run so many seeds of the model instead of 1000")
	modelFrom  = flag.Uint64("model.from", 1, "begin with this seed of the model")
	modelTell  = flag.Bool("model.v", false, "print the model's histories")
)

// TestModel runs the seeds in shards, each of which takes the next seed that is
// left.
func TestModel(t *testing.T) {
	from, n := *modelFrom, uint64(1000)
	switch {
	case *modelSeed != 0:
		from, n = *modelSeed, 1
	case *modelSeeds != 0:
		n = *modelSeeds
	case testing.Short():
		n = 100
	}
	var next atomic.Uint64
	for shard := range min(n, 4) {
		t.Run(fmt.Sprint("shard ", shard), func(t *testing.T) {
			t.Parallel()
			failures := 0
			for i := next.Add(1) - 1; i < n && failures < 5; i = next.Add(1) - 1 {
				if !runModelSeed(t, from+i) {
					failures++
				}
			}
		})
	}
}

// runModelSeed reports whether a seed passes.
func runModelSeed(t *testing.T, seed uint64) (ok bool) {
	t.Helper()
	var violations []string
	plan := newModelPlan(seed)
	verbose := *modelTell
	defer func() {
		if e := recover(); e != nil { // a deadlock of the bubble, for instance
			violations = append(violations, fmt.Sprint("panic: ", e))
		}
		ok = len(violations) == 0
		if !ok {
			t.Errorf("seed %d (mode %+v, server %+v):\n\t%s\nto repeat: go test -run 'TestModel$' -model.seed=%[1]d -model.v .",
				seed, plan.mode, plan.server, strings.Join(violations, "\n\t"))
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		h := runModel(plan, verbose)
		if verbose {
			fmt.Fprintf(os.Stdout, "seed %d, mode %+v, server %+v, lead %v\n%s\n", seed, plan.mode, plan.server, plan.lead, strings.Join(h.lines, "\n"))
		}
		violations = h.check()
	})
	return
}
