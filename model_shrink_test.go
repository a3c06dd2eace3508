package freshtoken_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A plan that fails has a lot in it that has nothing to do with it. Shrinking
// leaves out programs, then steps, for as long as the same invariant is broken.
// What is left is told by the seed and the numbers of the steps.

// shrinkRuns bounds how often a plan is run to shrink it.
const shrinkRuns = 400

// shrink returns a plan with fewer steps that breaks the same invariant as p,
// and how often it has run one. fails runs a plan.
func shrink(p modelPlan, invariant string, fails func(modelPlan) []string) (modelPlan, int) {
	runs := 0
	try := func(kept []int) bool {
		for range 2 { // goroutines that wake at the same time may decide
			if runs == shrinkRuns {
				return false
			}
			runs++
			if breaks(fails(p.keep(kept)), invariant) {
				return true
			}
		}
		return false
	}
	kept := p.keptSteps()
	without := func(drop func(n, i int) bool) bool {
		var rest []int
		for n, i := range kept {
			if !drop(n, i) {
				rest = append(rest, i)
			}
		}
		if len(rest) == len(kept) || !try(rest) {
			return false
		}
		kept = rest
		return true
	}
	for slot := range modelSlots {
		without(func(_, i int) bool { return p.steps[i].slot == slot && p.steps[i].ofProcess() })
	}
	for account := range modelAccounts {
		without(func(_, i int) bool { return p.steps[i].account == account })
	}
	for size := max(len(kept)/2, 1); ; size = max(size/2, 1) {
		less := false
		for at := len(kept) - size; at > -size; at -= size {
			less = without(func(n, _ int) bool { return n >= at && n < at+size }) || less
		}
		if size == 1 && !less {
			return p.keep(kept), runs
		}
	}
}

// breaks reports whether an invariant is among what was violated.
func breaks(violations []string, invariant string) bool {
	return slices.ContainsFunc(violations, func(v string) bool { return invariantOf(v) == invariant })
}

func invariantOf(violation string) string {
	name, _, _ := strings.Cut(violation, ":")
	return name
}

// keep returns p with some of its steps.
func (p modelPlan) keep(kept []int) modelPlan {
	p.kept = append([]int{}, kept...)
	return p
}

// keptSteps are the numbers of the steps that are taken.
func (p modelPlan) keptSteps() []int {
	if p.kept != nil {
		return p.kept
	}
	all := make([]int, len(p.steps))
	for i := range all {
		all[i] = i
	}
	return all
}

// ofProcess reports whether a step is something that a process does.
func (s modelStep) ofProcess() bool {
	switch s.do {
	case "token-fault", "standing", "api-fault", "slow-api", "disk-fault", "disk-down", "revoke", "kill", "restore", "fork", "next-login":
		return false
	}
	return true
}

// formatSteps and parseSteps write and read numbers of steps: "0-3,7".
func formatSteps(kept []int) string {
	var parts []string
	for i := 0; i < len(kept); {
		j := i
		for j+1 < len(kept) && kept[j+1] == kept[j]+1 {
			j++
		}
		part := strconv.Itoa(kept[i])
		if j > i {
			part += "-" + strconv.Itoa(kept[j])
		}
		parts = append(parts, part)
		i = j + 1
	}
	return strings.Join(parts, ",")
}

func parseSteps(text string) ([]int, error) {
	kept := []int{}
	if text == "" {
		return kept, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		from, err := strconv.Atoi(first)
		to := from
		if err == nil && isRange {
			to, err = strconv.Atoi(last)
		}
		if err != nil || from < 0 || to < from || to > 10000 {
			return nil, fmt.Errorf("steps are written like 0-3,7, and not like %q", part)
		}
		for i := from; i <= to; i++ {
			kept = append(kept, i)
		}
	}
	return kept, nil
}

// list is what a plan does, one step a line.
func (p modelPlan) list() string {
	var b strings.Builder
	for _, i := range p.keptSteps() {
		fmt.Fprintf(&b, "\t%3d %14v  %v\n", i, p.steps[i].at, p.steps[i])
	}
	return b.String()
}

// String leaves out what a step does not use.
func (s modelStep) String() string {
	b := s.do
	add := func(on bool, format string, args ...any) {
		if on {
			b += " " + fmt.Sprintf(format, args...)
		}
	}
	add(s.ofProcess(), "slot %d", s.slot)
	add(true, "account %d", s.account)
	add(s.n != 0, "n %d", s.n)
	add(s.deadline != 0, "within %v", s.deadline)
	add(s.flag, "flag")
	for _, c := range s.token {
		add(true, "[%s %s]", c.class, c.fault.Name)
	}
	add(s.op != "", "%s", s.op)
	for _, d := range s.disk {
		add(true, "[%s %v]", d.kind, d.wait)
	}
	add(s.lasts != 0, "for %v", s.lasts)
	add(s.login.how != "", "login %s after %v", s.login.how, s.login.takes)
	add(s.do == "clock", "ahead by %v", s.skew)
	return b
}

// command repeats a plan.
func (p modelPlan) command() string {
	steps := ""
	if p.kept != nil {
		steps = " -model.steps=" + formatSteps(p.kept)
	}
	return fmt.Sprintf("go test -run 'TestModel$' -model.seed=%d%s -model.v .", p.seed, steps)
}

// A library without a lock loses sessions: the model finds out, what is left of
// the plan is a fraction of it, and the command that is printed repeats it.
func TestModelShrinks(t *testing.T) {
	m := modelRunner{t: t, dir: t.TempDir()}
	for seed := uint64(1); ; seed++ {
		if seed > 400 {
			t.Fatal("no seed has failed, or none was to be shrunk")
		}
		p := newModelPlan(seed)
		p.doctored = "no lock"
		violations := m.run(p)
		if !breaks(violations, "lost") {
			continue
		}
		less, runs := shrink(p, "lost", m.run)
		t.Logf("%d of %d steps after %d runs:\n%s%s", len(less.kept), len(p.steps), runs, less.list(), less.command())
		if len(less.kept) > 12 || len(less.kept) >= len(p.steps)/2 {
			t.Log("that breaks by chance, and was not to be shrunk: another seed will do better")
			continue
		}
		_, text, _ := strings.Cut(less.command(), "-model.steps=")
		text, _, _ = strings.Cut(text, " ")
		kept, err := parseSteps(text)
		if err != nil || !slices.Equal(kept, less.kept) {
			t.Fatalf("%q is read as %v, %v", text, kept, err)
		}
		again := newModelPlan(seed).keep(kept)
		if v := m.run(again); len(v) > 0 {
			t.Errorf("the library itself breaks it: %q", v)
		}
		again.doctored = "no lock"
		for range 100 { // goroutines that wake at the same time decide
			if breaks(m.run(again), "lost") {
				return
			}
		}
		t.Log("that broke by chance: another seed will do better")
	}
}

// A check that is broken by two certain things: nothing else is left, however
// they are scattered.
func TestModelShrinksToTheEssence(t *testing.T) {
	m := modelRunner{t: t, dir: t.TempDir(), also: func(h *modelHistory) []string {
		n := h.count()
		if n["logouts"] > 0 && n["crashes"] > 0 && h.Saves != nil {
			return []string{"essence: there"}
		}
		return nil
	}}
	for seed := uint64(1); seed < 500; seed++ {
		p := newModelPlan(seed)
		if !breaks(m.run(p), "essence") {
			continue
		}
		less, _ := shrink(p, "essence", m.run)
		t.Logf("of %d steps\n%s", len(p.steps), less.list())
		var did []string
		for _, i := range less.kept {
			did = append(did, p.steps[i].do)
			if breaks(m.run(p.keep(slices.DeleteFunc(slices.Clone(less.kept), func(k int) bool { return k == i }))), "essence") {
				t.Errorf("step %d is not needed", i)
			}
		}
		if len(did) > 5 || !slices.Contains(did, "crash") {
			t.Errorf("what is left is %v", did)
		}
		return
	}
	t.Fatal("no seed has both")
}
