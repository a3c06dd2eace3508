package freshtoken_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The model runs random programs against the whole package and checks what
// always holds. A program is made from a seed: processes that share a store and
// a server, their callers, crashes, and everything else that goes wrong. It runs
// on fake time. The checks read a history of what happened, and nothing else.
//
// A seed that fails is shrunk, and what is left is printed with the command that
// runs it again. A whole seed is run, with its history, by
//
//	go test -run 'TestModel$' -model.seed=N -model.v .
//
// Steps are taken at times of their own, so that a seed repeats what it did as
// far as goroutines that wake at the same time do not decide.

var (
	modelSeed  = flag.Uint64("model.seed", 0, "run this seed of the model alone")
	modelSeeds = flag.Uint64("model.seeds", 0, "run so many seeds of the model instead of 1000")
	modelFrom  = flag.Uint64("model.from", 1, "begin with this seed of the model")
	modelKept  = flag.String("model.steps", "", "with model.seed, take these steps alone: 0-3,7")
	modelLong  = flag.Duration("model.long", 0, "run a million seeds of the model, or what this time allows (use -timeout 0)")
	modelTell  = flag.Bool("model.v", false, "print the model's histories")
)

// TestModel runs the seeds in shards, each of which takes the next seed that is
// left.
func TestModel(t *testing.T) {
	from, n, start, name := *modelFrom, uint64(1000), time.Now(), "model"
	end := start.Add(24 * time.Hour)
	switch {
	case *modelSeed != 0:
		from, n = *modelSeed, 1
	case *modelLong != 0:
		n, end, name = 1_000_000, start.Add(*modelLong), "model.long"
	case *modelSeeds != 0:
		n = *modelSeeds
	case testing.Short():
		n = 100
	}
	counts := &modelCounts{n: map[string]int{}}
	var next atomic.Uint64
	t.Run("shards", func(t *testing.T) {
		for shard := range min(n, 4) {
			t.Run(fmt.Sprint(shard), func(t *testing.T) {
				t.Parallel()
				m := modelRunner{t: t, dir: t.TempDir(), counts: counts, verbose: *modelTell}
				failures := 0
				for i := next.Add(1) - 1; i < n && failures < 5 && time.Now().Before(end); i = next.Add(1) - 1 {
					if !m.seed(from + i) {
						failures++
					}
					if (i+1)%10_000 == 0 {
						t.Logf("%d histories in %v", i+1, time.Since(start).Round(time.Second))
					}
				}
			})
		}
	})
	counts.record(t, name, time.Since(start))
}

// modelRunner runs plans.
type modelRunner struct {
	t       *testing.T
	dir     string
	counts  *modelCounts // nil: nobody counts
	verbose bool
	also    func(*modelHistory) []string // a check of a test of the model itself
}

// seed runs a seed, and reports whether it passes.
func (m modelRunner) seed(seed uint64) bool {
	m.t.Helper()
	plan := newModelPlan(seed)
	if *modelKept != "" {
		kept, err := parseSteps(*modelKept)
		if err != nil {
			m.t.Fatal(err)
		}
		plan = plan.keep(kept)
	}
	violations := m.run(plan)
	if len(violations) == 0 {
		return true
	}
	m.counts, m.verbose = nil, false
	m.t.Errorf("seed %d (mode %+v, server %+v):\n\t%s\nto repeat: %s", seed, plan.mode, plan.server,
		strings.Join(violations, "\n\t"), plan.command())
	if plan.kept == nil {
		less, runs := shrink(plan, invariantOf(violations[0]), m.run)
		m.t.Logf("%d of the %d steps are enough to break %q, as %d runs have shown:\n%sto repeat: %s",
			len(less.kept), len(plan.steps), invariantOf(violations[0]), runs, less.list(), less.command())
	}
	return false
}

// run returns what a run of a plan has violated.
func (m modelRunner) run(plan modelPlan) (violations []string) {
	m.t.Helper()
	defer func() {
		if e := recover(); e != nil { // a deadlock of the bubble, for instance
			violations = append(violations, fmt.Sprint("panic: ", e))
		}
	}()
	synctest.Test(m.t, func(t *testing.T) {
		h := runModel(plan, m.dir, m.verbose)
		if m.verbose {
			fmt.Fprintf(os.Stdout, "seed %d, mode %+v, server %+v, lead %v\n%s\n", plan.seed, plan.mode, plan.server, plan.lead, strings.Join(h.lines, "\n"))
		}
		violations = h.check()
		if m.also != nil {
			violations = append(violations, m.also(h)...)
		}
		if m.counts != nil {
			m.counts.add(h)
		}
	})
	return violations
}
