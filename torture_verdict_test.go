//go:build linux || darwin

package freshtoken_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken/internal/figures"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// What the histories of TestTorture come to, by the server's log and by what
// the programs have told.

// A loss is a session that the server has ended.
type loss struct {
	family int
	id     string
	cause  lossCause
	text   string
	narrow bool // the answer that was never stored had a token for a Target

	// veiled says that the session has been refreshed since with two tokens
	// after the one that was shown again: by then nobody thinks of a late
	// request.
	veiled bool
}

type lossCause string

const (
	// lossUnsaved: the server granted a refresh, and its answer was not stored
	// when the program that had asked was killed.
	lossUnsaved lossCause = "committed, and never durable"

	// lossLate: the server got to the request of a killed program only when the
	// next program had been granted its own with the same token.
	lossLate lossCause = "the request of a killed program, granted or refused late"

	lossAvoidable lossCause = "avoidable"
)

// mourn finds out why the session has ended, and starts another.
func (h *torture) mourn() {
	h.t.Helper()
	l, dead := h.explain()
	if !dead {
		// A program told of the end of the last session, and had just read this
		// one.
		h.mu.Lock()
		delete(h.ended, h.id)
		h.mu.Unlock()
		return
	}
	h.losses = append(h.losses, l)
	if l.cause == lossAvoidable {
		h.t.Errorf("avoidable: %s", l.text)
	} else {
		h.t.Logf("loss %d, %s: %s", len(h.losses), l.cause, l.text)
	}
	h.logIn()
}

// explain says why the session has ended, if it has. A token that was shown
// twice has ended it: the first time it was granted.
func (h *torture) explain() (l loss, dead bool) {
	l = loss{family: h.family, id: h.id, cause: lossAvoidable}
	log := h.as.LogOf(oauthtest.TokenEndpoint)
	i := slices.IndexFunc(log, func(e oauthtest.Entry) bool { return e.Family == h.family && e.Outcome == oauthtest.Reuse })
	if i < 0 {
		return l, false
	}
	second := log[i]
	i = slices.IndexFunc(log, func(e oauthtest.Entry) bool {
		return e.Outcome == oauthtest.Granted && e.Presented == second.Presented
	})
	if i < 0 {
		l.text = "the server ended the family over a token that it had not spent"
		return l, true
	}
	first := log[i]
	switch {
	case h.lost(first):
		l.cause, l.narrow = lossUnsaved, first.Scope == "read"
	case h.late(second):
		l.cause, l.veiled = lossLate, h.newest(h.family) > second.Generation+1
	}
	l.text = fmt.Sprintf("family %d, generation %d: granted to %s; shown again by %s", h.family, first.Generation, h.describe(first), h.describe(second))
	return l, true
}

// lost reports whether what the server has granted was never stored, because
// the program was killed.
func (h *torture) lost(e oauthtest.Entry) bool {
	p := h.sender(e)
	if p == nil || !p.wasKilled() {
		return false
	}
	<-p.over // it has told everything
	return !p.saved(h.id, e.NewGeneration)
}

// late reports whether a request took effect when its program was dead.
func (h *torture) late(e oauthtest.Entry) bool {
	p := h.sender(e)
	return p != nil && p.wasKilled() && e.Decided.After(p.killed)
}

// describe tells a request from the server's log.
func (h *torture) describe(e oauthtest.Entry) string {
	at := func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return t.Sub(h.started).Round(time.Microsecond).String()
	}
	text := fmt.Sprintf("request %s (log entry %d, decided at %s, answer written %s", e.Fault, e.ID, at(e.Decided), at(e.AnswerWritten))
	if p := h.sender(e); p != nil && p.wasKilled() {
		text += ", program killed at " + at(p.killed)
	}
	return text + ")"
}

// killedIn is how far a killed program had come.
func (h *torture) killedIn(p *target, requests map[string]oauthtest.Entry) phase {
	in, request := p.phase, 0 // it is over: nobody changes that
	for _, t := range p.told() {
		if t.Step == stepPosts {
			request = t.Request
		}
	}
	if in != phasePosting && in != phaseAnswered {
		return in
	}
	e := requests[requestName(p.name, request)]
	switch {
	case in == phaseAnswered && e.Outcome != oauthtest.Granted:
		return phaseUncommitted
	case in == phaseAnswered:
		return phaseUnsaved
	case e.Outcome == oauthtest.Granted && !e.AnswerWritten.IsZero() && e.AnswerWritten.Before(p.killed):
		return phaseUnsaved
	case e.Outcome == oauthtest.Granted && e.Decided.Before(p.killed):
		return phaseCommitted
	}
	return phaseUncommitted
}

// kills counts the programs that were killed, and how far they had come.
func (h *torture) kills() (kills int, byPhase map[phase]int) {
	requests := make(map[string]oauthtest.Entry)
	for _, e := range h.as.LogOf(oauthtest.TokenEndpoint) {
		requests[e.Fault] = e
	}
	byPhase = make(map[phase]int)
	for _, p := range h.all {
		if p.wasKilled() {
			kills++
			byPhase[h.killedIn(p, requests)]++
		}
	}
	return kills, byPhase
}

// judge checks what can only be seen at the end, and records the figures.
func (h *torture) judge(prefix string) {
	h.t.Helper()
	if *tortureLong {
		prefix = strings.Replace(prefix, ".", ".long-", 1)
	}
	kinds := h.checkErrors()
	h.checkLocks()
	kills, byPhase := h.kills()
	causes := make(map[lossCause]int)
	for _, l := range h.losses {
		causes[l.cause]++
	}
	if *tortureDuration >= 20*time.Second && (h.figures.overrun == 0 || kills == 0 || h.as.Stats().Refreshes == 0) {
		h.t.Errorf("%d stops longer than the server waits, %d kills, %d refreshes: this is no torture", h.figures.overrun, kills, h.as.Stats().Refreshes)
	}
	record := func(name string, value any) { figures.Record(h.t, prefix+name, fmt.Sprint(value)) }
	h.judgeTargets(record)
	record("time", time.Since(h.started).Round(time.Second))
	record("seed", h.seed)
	record("starts", len(h.all))
	record("peak", h.figures.peak)
	record("kills", kills)
	for _, p := range []struct {
		name  string
		phase phase
	}{{"starting", phaseStarting}, {"idle", phaseIdle}, {"waiting", phaseWaiting}, {"before", phaseBefore}, {"uncommitted", phaseUncommitted},
		{"committed", phaseCommitted}, {"unsaved", phaseUnsaved}, {"saved", phaseSaved}} {
		record("kills-"+p.name, byPhase[p.phase])
	}
	record("left", h.figures.left)
	record("stops", h.figures.stops)
	record("stops-holding", h.figures.held)
	record("stops-server", h.figures.overrun)
	record("stops-library", h.figures.longer)
	record("refreshes", h.as.Stats().Refreshes)
	record("avoidable", causes[lossAvoidable])
	record("unavoidable", causes[lossUnsaved])
	record("unavoidable-late", causes[lossLate])
	blocked, unblocked := h.longestWait()
	record("wait", unblocked)
	record("wait-stopped", blocked)
	record("locked", kinds[kindLocked])
	recoveries := h.recoveries()
	if n := len(recoveries); n > 0 {
		slices.Sort(recoveries)
		record("recoveries", n)
		record("recovery-median", recoveries[n/2].Round(100*time.Microsecond))
		record("recovery-worst", recoveries[n-1].Round(100*time.Microsecond))
	}
}

// checkErrors fails the test if a program has met an error that it had no reason
// to meet, or one that does not say what has happened. It counts them by kind.
func (h *torture) checkErrors() map[string]int {
	h.t.Helper()
	telling := make(map[string]bool) // sessions whose end has to be explained
	for _, l := range h.losses {
		telling[l.id] = !l.veiled
	}
	kinds := make(map[string]int)
	for _, p := range h.all {
		for _, t := range p.told() {
			if t.Kind == "" {
				continue
			}
			kinds[t.Kind]++
			switch {
			case t.Kind == kindEnded && telling[t.ID] && !t.Interrupted:
				h.t.Errorf("program %s: the error does not tell of the interruption: %s", p.name, t.Error)
			case t.Kind == kindOther, t.Kind == kindUnsaved, t.Kind == kindLocked && !*tortureLong:
				h.t.Errorf("program %s: %s", p.name, t.Error)
			}
		}
	}
	h.t.Logf("errors of programs, by kind: %v", kinds)
	return kinds
}

// checkLocks fails the test if two programs had the session lock at a time.
func (h *torture) checkLocks() {
	h.t.Helper()
	type hold struct {
		span
		program string
	}
	var all []hold
	for _, p := range h.all {
		for _, s := range p.holds() {
			all = append(all, hold{s, p.name})
		}
	}
	slices.SortFunc(all, func(a, b hold) int { return cmp.Compare(a.from, b.from) })
	for i := range all {
		if i > 0 && all[i].from < all[i-1].to {
			h.t.Errorf("programs %s and %s had the lock at the same time", all[i-1].program, all[i].program)
		}
	}
	h.t.Logf("the lock was held %d times, by one program at a time", len(all))
}

// longestWait is the longest that a program, which was not stopped meanwhile,
// has waited for the lock until it had it; and the longest of those waits in
// which no program stood still that had it.
func (h *torture) longestWait() (all, unblocked time.Duration) {
	var blocks []span
	for _, p := range h.all {
		blocks = append(blocks, p.blocks()...)
	}
	for _, p := range h.all {
		for _, w := range p.waits() {
			if p.wasStopped(w.from, w.to) {
				continue
			}
			d := time.Duration(w.to - w.from).Round(time.Millisecond)
			all = max(all, d)
			if !slices.ContainsFunc(blocks, func(b span) bool { return b.overlaps(w.from, w.to) }) {
				unblocked = max(unblocked, d)
			}
		}
	}
	return all, unblocked
}

// recoveries are the times from the kill of a program that had the lock until
// another one had it, where that was waiting for it all the while.
func (h *torture) recoveries() (list []time.Duration) {
	type wait struct {
		span
		p *target
	}
	var waits []wait
	for _, p := range h.all {
		for _, w := range p.waits() {
			waits = append(waits, wait{w, p})
		}
	}
	for _, p := range h.all {
		if !p.wasKilled() || !p.phase.holding() {
			continue
		}
		next := wait{span: span{to: 1<<63 - 1}}
		for _, w := range waits { // the first that had it afterwards
			if w.to > p.killedAt && w.to < next.to {
				next = w
			}
		}
		if next.p != nil && next.from < p.killedAt && !next.p.wasStopped(p.killedAt, next.to) {
			list = append(list, time.Duration(next.to-p.killedAt))
		}
	}
	return list
}
