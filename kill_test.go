package freshtoken_test

import (
	"context"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/oauthtest"
)

var killN = flag.Int("kill.n", 24, "how many processes TestKill kills")

// A fate is what a kill may do to a session.
type fate string

const (
	survives fate = "survives"
	lost     fate = "lost" // the server has committed what is not stored yet: nothing can help
	either   fate = "either"
)

// A killPlan says when to kill a process that has been told to refresh.
type killPlan struct {
	name  string
	hold  holdPoint                           // where the process stands still
	fault func(hold holdFunc) oauthtest.Fault // where the server holds its request; nil: nowhere
	await func(*killing)                      // nil: until it stands still
	fate  fate
}

type holdFunc = func(context.Context) error

func holdCommitted(hold holdFunc) oauthtest.Fault { return oauthtest.Fault{AfterCommit: hold} }

// killPlans are done in turn. Of 15, six are certain to kill between the
// request and the rename that makes its answer durable, and two of these after
// the answer has been read.
var killPlans = func() []killPlan {
	sent := killPlan{name: "request sent", fate: survives,
		fault: func(hold holdFunc) oauthtest.Fault { return oauthtest.Fault{Before: hold} }}
	committed := killPlan{name: "committed", fate: lost,
		fault: holdCommitted}
	answered := killPlan{name: string(holdAnswered), hold: holdAnswered, fate: lost}
	at := func(p holdPoint) killPlan { return killPlan{name: string(p), hold: p, fate: survives} }
	return []killPlan{
		at(holdLocked), sent, at(holdBeforeMark), committed, answered, at(holdAfterMark),
		{name: "while the answer is saved", hold: tellSaving, await: (*killing).awaitTemp, fate: either},
		{name: "answer's last byte", await: (*killing).awaitAnswer, fate: either},
		at(holdSaved), sent, committed, answered, at(holdUnlocked),
		{name: "while the answer is saved", hold: tellSaving, await: (*killing).awaitTemp, fate: either},
		{name: "any moment", await: (*killing).awaitAnything, fate: either},
	}
}()

// Where a kill landed, as the server's log and the disk show.
var landings = []string{
	"nothing marked, nothing sent",
	"marked, nothing sent",
	"sent, not committed",
	"committed, not answered",
	"answered, not written",
	"answered, written, not renamed",
	"renamed, perhaps not unlocked",
}

const (
	landedUnmarked = iota
	landedMarked
	landedSent
	landedCommitted
	landedAnswered
	landedWritten
	landedRenamed
)

// Processes are killed at every point of a refresh. What is stored is always
// whole and hinders nobody, and the session survives, unless the server had
// spent the refresh token and its successor was not durable yet. Then the next
// start says so, and a login starts over.
func TestKill(t *testing.T) {
	k := &killing{t: t, procWorld: newProcWorld(t, oauthtest.Options{}, procPlace{})}
	k.campaign(*killN)
}

// campaign kills that many processes, by the plans in turn. It returns how many
// sessions have ended.
func (k *killing) campaign(kills int) (ended int) {
	k.t.Helper()
	k.login()
	histogram := make([]int, len(landings))
	for i := range kills {
		plan := killPlans[i%len(killPlans)]
		k.strike(plan)
		landed := k.recover()
		histogram[landed]++
		switch {
		case plan.fate == survives && k.ended:
			k.t.Errorf("kill %d (%s): the session ended, and had no reason to", i+1, plan.name)
		case plan.fate == lost && !k.ended:
			k.t.Errorf("kill %d (%s): the session survived, which it cannot: the test does not kill where it means to", i+1, plan.name)
		}
		if k.ended {
			ended++
		}
		if k.t.Failed() {
			k.t.Fatalf("after kill %d of %d, by the plan %q, which landed at: %s", i+1, kills, plan.name, landings[landed])
		}
	}
	k.next.finish()
	k.sweep()

	for i, name := range landings {
		k.t.Logf("%4d  %s", histogram[i], name)
	}
	inFlight, answered := 0, histogram[landedAnswered]+histogram[landedWritten]
	for _, n := range histogram[landedSent : landedWritten+1] {
		inFlight += n
	}
	k.t.Logf("%d kills: %d between the request and the rename, %d of them after the answer's last byte; %d sessions ended, each after a commit that the server's log shows",
		kills, inFlight, answered, ended)
	if kills >= len(killPlans) && (inFlight*3 < kills || answered*10 < kills) {
		k.t.Error("too few kills landed where it hurts")
	}
	return ended
}

// The program that finds what a killed one has left may be killed as well. That
// the refresh token may be spent is remembered until somebody has found out.
func TestKillTwice(t *testing.T) {
	killTwice(t, "", holdSaved, holdAnswered, holdUnlocked) // a refused refresh does not come there
}

// killTwice does so by each of the plans but for those that hold somewhere.
func killTwice(t *testing.T, scope string, but ...holdPoint) {
	done := make(map[string]bool)
	for _, plan := range killPlans {
		if done[plan.name] || plan.await != nil || slices.Contains(but, plan.hold) {
			continue
		}
		done[plan.name] = true
		t.Run(plan.name, func(t *testing.T) {
			k := &killing{t: t, procWorld: newProcWorld(t, oauthtest.Options{}, procPlace{}), scope: scope}
			k.login()
			k.strike(killPlan{name: "committed", fault: holdCommitted})
			first := k.record()
			if first.Mark == nil {
				t.Fatal("the first kill has left no mark")
			}
			k.victim = k.start(procOrder{})
			k.attack(plan)
			if second := k.record(); second.Mark == nil || second.Mark.Digest != first.Mark.Digest || second.Mark.At != first.Mark.At {
				t.Errorf("the first kill left the mark %+v, the second %+v", first.Mark, second.Mark)
			}
			if k.recover(); !k.ended {
				t.Error("the session survived, which it cannot")
			}
			k.next.finish()
		})
	}
}

// killing is one process after the other on a stored session.
type killing struct {
	*procWorld
	t *testing.T

	scope  string // of the Target that tokens are for; empty: they are the session's own
	victim *proc
	next   *proc // the program that has found what the last one left; nil at first
	ended  bool  // whether it found that the session had ended

	seen    int             // entries of the server's log before the victim's refresh
	temps   map[string]bool // temporary files before that
	before  procRecord      // what was stored before that
	stopped bool            // the victim has come to the end of its refresh
}

// strike kills a program that refreshes a whole session.
func (k *killing) strike(plan killPlan) {
	k.t.Helper()
	if k.victim = k.next; k.victim == nil {
		k.victim = k.start(procOrder{})
	}
	k.spoil()
	k.before, k.temps, k.seen, k.stopped = k.record(), k.tempFiles(), len(k.as.Log()), false
	k.attack(plan)
}

// attack has the victim refresh and kills it as planned.
func (k *killing) attack(plan killPlan) {
	k.t.Helper()
	if r := k.victim.do(procOrder{Do: procOpen, Hold: plan.hold}); r.Failed > 0 {
		k.t.Fatalf("opening the session again: %s", r.Error)
	}
	gate, left := oauthtest.NewGate(), make(chan struct{}) // it stays closed: the request leaves it when its client is gone
	if plan.fault != nil {
		k.as.Token.Next(plan.fault(func(ctx context.Context) error {
			defer close(left)
			return gate.Hold(ctx)
		}))
	}
	k.victim.order(procOrder{Do: procToken, Scope: k.scope})
	switch {
	case plan.fault != nil:
		k.receive("the request does not arrive", gate.Arrived())
	case plan.await != nil:
		plan.await(k)
	default:
		k.victim.await(procHeld)
	}
	k.victim.kill()
	if plan.fault != nil {
		k.receive("the server does not notice that its client is dead", left)
	}
	k.settle()
}

func (k *killing) receive(otherwise string, c <-chan struct{}) {
	k.t.Helper()
	select {
	case <-c:
	case <-time.After(procPatience):
		k.t.Fatal(otherwise)
	}
}

// done reports whether the victim has come to the end of its refresh, so that
// there is nothing more to wait for.
func (k *killing) done() bool {
	select {
	case _, ok := <-k.victim.reports:
		if !ok {
			k.t.Fatalf("the program ended by itself: %s", &k.victim.errors)
		}
		k.stopped = true
	default:
	}
	return k.stopped
}

// spin waits for something that lasts microseconds.
func (k *killing) spin(until func() bool) {
	k.t.Helper()
	for deadline := time.Now().Add(procPatience); !until(); runtime.Gosched() {
		if time.Now().After(deadline) {
			k.t.Fatal("nothing happens")
		}
	}
}

// awaitTemp waits for the temporary file that is to become the session's.
func (k *killing) awaitTemp() {
	k.victim.await(procSaving)
	k.spin(func() bool { return len(k.newTemps()) > 0 || k.done() })
}

// awaitAnswer waits until the server has written the last byte of its answer,
// and a moment longer.
func (k *killing) awaitAnswer() {
	k.spin(func() bool { return k.answered() || k.done() })
	until := time.Now().Add(rand.N(2 * time.Millisecond))
	k.spin(func() bool { return time.Now().After(until) })
}

// awaitAnything waits for some milliseconds, which is as long as a refresh
// takes.
func (k *killing) awaitAnything() {
	until := time.Now().Add(rand.N(15 * time.Millisecond))
	k.spin(func() bool { return time.Now().After(until) })
}

// settle waits until the server has done with what the victim has sent. What
// came before a new connection has been accepted before it.
func (k *killing) settle() {
	k.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: k.setup.trust()}}
	resp, err := client.Get(k.as.LoginURL())
	if err != nil {
		k.t.Fatal(err)
	}
	resp.Body.Close()
	eventually(k.t, "the server still works on what a dead process has sent", func() bool {
		for _, e := range k.as.LogAfter(k.seen) {
			if e.Outcome == oauthtest.Pending {
				return false
			}
		}
		return true
	})
}

// refresh is the victim's request, as the server saw it.
func (k *killing) refresh() (e oauthtest.Entry, sent bool) {
	for _, e := range k.as.LogAfter(k.seen) {
		if e.Endpoint == oauthtest.TokenEndpoint {
			return e, true
		}
	}
	return oauthtest.Entry{}, false
}

func (k *killing) answered() bool {
	e, _ := k.refresh()
	return !e.AnswerWritten.IsZero()
}

func (k *killing) tempFiles() map[string]bool {
	k.t.Helper()
	files, err := filepath.Glob(filepath.Join(k.setup.Place.sessions(), "*.tmp-*"))
	if err != nil {
		k.t.Fatal(err)
	}
	set := make(map[string]bool)
	for _, f := range files {
		set[f] = true
	}
	return set
}

// newTemps are the session's temporary files that were not there before.
func (k *killing) newTemps() (list []string) {
	for f := range k.tempFiles() {
		if !k.temps[f] && !strings.HasPrefix(filepath.Base(f), "probe.") {
			list = append(list, f)
		}
	}
	return list
}

// recover looks at what the victim has left, and starts the next program,
// which has to cope with it. It returns where the kill landed.
func (k *killing) recover() (landed int) {
	k.t.Helper()
	e, sent := k.refresh()
	found := k.record() // whole, or the test ends here
	landed = k.landed(e, sent, found)
	k.checkTargets(found, found.Generation > k.before.Generation)
	if found.ID != k.before.ID || found.Ended != nil || found.Generation < k.before.Generation || found.Generation > k.before.Generation+1 {
		k.t.Fatalf("generation %d of %s was stored, now it is generation %d of %s", k.before.Generation, k.before.ID, found.Generation, found.ID)
	}
	k.edit(func(map[string]json.RawMessage) {}) // the lock is free

	k.next = k.start(procOrder{})
	r := k.next.do(procOrder{Do: procToken, Scope: k.scope})
	if k.ended = r.Ended > 0; k.ended {
		k.proveLoss(found, r)
		if r := k.next.do(procOrder{Do: procLogin, Token: k.as.Login("alice", "read", "write")}); r.Failed > 0 {
			k.t.Errorf("a login after the end: %s", r.Error)
		}
	} else if k.checkTargets(k.record(), true); r.Failed > 0 {
		k.t.Errorf("the next start: %s", r.Error)
	}
	if now := k.record(); !k.as.Alive(now.RefreshToken) {
		k.t.Errorf("after the next start, generation %d is stored, and not alive at the server", now.Generation)
	}
	return landed
}

// landed says how far the victim had come.
func (k *killing) landed(e oauthtest.Entry, sent bool, found procRecord) int {
	switch {
	case found.Generation > k.before.Generation:
		return landedRenamed
	case e.Outcome == oauthtest.Granted && !e.AnswerWritten.IsZero() && len(k.newTemps()) > 0:
		return landedWritten
	case e.Outcome == oauthtest.Granted && !e.AnswerWritten.IsZero():
		return landedAnswered
	case e.Outcome == oauthtest.Granted:
		return landedCommitted
	case sent:
		return landedSent
	case found.Mark != nil:
		return landedMarked
	default:
		return landedUnmarked
	}
}

// proveLoss checks that a session that has ended could not be saved: the server
// had granted a refresh with the token that is still stored. And that the
// program says what has happened.
func (k *killing) proveLoss(found procRecord, r procReport) {
	k.t.Helper()
	granted := 0
	for _, e := range k.as.LogAfter(k.seen) {
		if e.Endpoint == oauthtest.TokenEndpoint && e.Outcome == oauthtest.Granted &&
			e.Presented == oauthtest.Fingerprint(found.RefreshToken) && e.NewGeneration == found.Generation+1 {
			granted++
		}
	}
	if granted != 1 {
		k.t.Errorf("the session ended, but the server has not spent the stored token: %s", r.Error)
	}
	if !r.Interrupted || !strings.Contains(r.Error, "an earlier refresh was interrupted at") {
		k.t.Errorf("the error does not tell of the interruption: %s", r.Error)
	}
	if !strings.Contains(r.Error, "log in again") {
		k.t.Errorf("the error does not tell what to do: %s", r.Error)
	}
}

// sweep checks that what killed processes left goes away in time.
func (k *killing) sweep() {
	k.t.Helper()
	long := time.Now().Add(-24 * time.Hour)
	left := k.tempFiles()
	for f := range left {
		if err := os.Chtimes(f, long, long); err != nil {
			k.t.Error(err)
		}
	}
	if _, err := k.setup.Place.open(); err != nil {
		k.t.Fatal(err)
	}
	if rest := k.tempFiles(); len(rest) > 0 {
		k.t.Errorf("%d of %d temporary files of killed processes are still there: %v", len(rest), len(left), rest)
	}
	k.t.Logf("killed processes left %d temporary files, which were swept", len(left))
}
