//go:build linux || darwin

package freshtoken_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/internal/canary"
)

// A phase is how far a program had come when something was done to it.
type phase string

const (
	phaseStarting phase = "starting"
	phaseIdle     phase = "idle"
	phaseWaiting  phase = "waiting for the lock"
	phaseBefore   phase = "locked, before the request"
	phasePosting  phase = "request under way"
	phaseAnswered phase = "answer read, not saved"
	phaseSaved    phase = "saved, still locked"

	// What phasePosting and phaseAnswered are, by the server's log.
	phaseUncommitted phase = "request under way, nothing committed"
	phaseCommitted   phase = "request under way, committed"
	phaseUnsaved     phase = "answer written, not saved"
)

// holding reports whether the program has the session lock.
func (p phase) holding() bool {
	return p == phaseBefore || p == phasePosting || p == phaseAnswered || p == phaseSaved
}

// after is the phase that follows a step.
func (p phase) after(s step) phase {
	switch s {
	case stepReady, stepLockless, stepUnlocked:
		return phaseIdle
	case stepWants:
		return phaseWaiting
	case stepLocked:
		return phaseBefore
	case stepPosts:
		return phasePosting
	case stepAnswered:
		return phaseAnswered
	case stepSaved:
		if p == phaseAnswered {
			return phaseSaved
		}
	}
	return p
}

// A span is a time, in nanoseconds of monotonic.
type span struct{ from, to int64 }

func (s span) overlaps(from, to int64) bool { return s.from < to && from < s.to }

// A target is a program of TestTorture, seen from outside.
type target struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.Closer
	errors bytes.Buffer  // its standard error; complete once it is over
	over   chan struct{} // closed when it has ended and been waited for
	exit   error         // set before over is closed

	mu       sync.Mutex // guards what follows
	traces   []trace
	phase    phase
	killed   time.Time // when; zero: it was not
	killedAt int64     // the same, in monotonic time
	stops    []span    // the last one ends when it goes on
	stopped  bool
	spared   bool // it is neither to be killed nor to leave
}

// launch starts a program. Its traces are passed to heard, one by one, with the
// phase that begins with each.
func launch(t *testing.T, setup tortureSetup, heard func(*target, trace, phase)) *target {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &target{name: setup.Program, cmd: exec.Command(exe), over: make(chan struct{}), phase: phaseStarting}
	p.cmd.Env = append(os.Environ(), procEnv+"="+tortureMode)
	if os.Getenv("GORACE") == "" {
		p.cmd.Env = append(p.cmd.Env, "GORACE=atexit_sleep_ms=0")
	}
	p.cmd.Stderr = &p.errors
	// In a group of its own, it gets a SIGHUP from the system should the test
	// end in the middle of a stop, in which it cannot see its input end.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	canary.Command(t, p.cmd)
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.spare(false)
		p.kill()
		<-p.over
		canary.Clean(t, "the standard error of a program", p.errors.Bytes())
	})
	go func() {
		defer close(p.over)
		for dec := json.NewDecoder(stdout); ; {
			var tr trace
			if dec.Decode(&tr) != nil {
				break
			}
			canary.Clean(t, "what a program tells", []byte(tr.Error))
			p.mu.Lock()
			p.traces = append(p.traces, tr)
			p.phase = p.phase.after(tr.Step)
			now := p.phase
			p.mu.Unlock()
			heard(p, tr, now)
		}
		p.exit = p.cmd.Wait()
		stdin.Close()
	}()
	if err := json.NewEncoder(stdin).Encode(setup); err != nil {
		t.Fatal(err)
	}
	return p
}

// kill ends the process as kill -9 does. It reports whether it was alive, and
// nobody had killed it before.
func (p *target) kill() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spared || !p.killed.IsZero() || p.cmd.Process.Kill() != nil {
		return false
	}
	p.killed, p.killedAt = time.Now(), monotonic()
	return true
}

// stop stops the process until resume. It reports whether it has, and in which
// phase.
func (p *target) stop() (phase, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped || !p.killed.IsZero() || p.cmd.Process.Signal(syscall.SIGSTOP) != nil {
		return "", false
	}
	p.stopped = true
	p.stops = append(p.stops, span{monotonic(), 1<<63 - 1})
	return p.phase, true
}

// resume has the process go on. It returns how long it has stood still.
func (p *target) resume() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopped {
		return 0
	}
	p.cmd.Process.Signal(syscall.SIGCONT)
	p.stopped = false
	last := &p.stops[len(p.stops)-1]
	last.to = monotonic()
	return time.Duration(last.to - last.from)
}

// leave has the program end by itself.
func (p *target) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.spared {
		p.stdin.Close()
	}
}

func (p *target) spare(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spared = on
}

func (p *target) isOver() bool {
	select {
	case <-p.over:
		return true
	default:
		return false
	}
}

func (p *target) wasKilled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.killed.IsZero()
}

// told returns what the program has told so far.
func (p *target) told() []trace {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.traces)
}

// saved reports whether the program has told that this state is in the store.
func (p *target) saved(id string, generation int) bool {
	return slices.ContainsFunc(p.told(), func(t trace) bool {
		return t.Step == stepSaved && t.ID == id && t.Generation == generation
	})
}

// wasStopped reports whether the program stood still in the meantime.
func (p *target) wasStopped(from, to int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.stops, func(s span) bool { return s.overlaps(from, to) })
}

// checkExit fails the test if a program that was not killed has failed. Data
// races it has found are an exit status.
func (p *target) checkExit(t *testing.T) {
	t.Helper()
	if text := p.errors.String(); strings.Contains(text, "DATA RACE") || !p.wasKilled() && p.exit != nil {
		t.Errorf("program %s failed: %v: %s", p.name, p.exit, text)
	}
}

// holds are the times in which the program had the session lock.
func (p *target) holds() (list []span) {
	from := int64(0)
	for _, t := range p.told() {
		switch t.Step {
		case stepLocked:
			from = t.At
			list = append(list, span{from, from})
		case stepUnlocks:
			list[len(list)-1].to, from = t.At, 0
		default:
			if from != 0 { // it had it at this time, and may have been killed since
				list[len(list)-1].to = t.At
			}
		}
	}
	return list
}

// blocks are the times in which it had the lock and stood still.
func (p *target) blocks() (list []span) {
	holds := p.holds()
	p.mu.Lock()
	stops := slices.Clone(p.stops)
	if !p.killed.IsZero() && p.phase.holding() {
		holds[len(holds)-1].to = p.killedAt
	}
	p.mu.Unlock()
	for _, h := range holds {
		for _, s := range stops {
			if s.overlaps(h.from, h.to) {
				list = append(list, span{max(s.from, h.from), min(s.to, h.to)})
			}
		}
	}
	return list
}

// waits are the times from wanting the lock to having it.
func (p *target) waits() (list []span) {
	from := int64(0)
	for _, t := range p.told() {
		switch t.Step {
		case stepWants:
			from = t.At
		case stepLocked:
			list = append(list, span{from, t.At})
		}
	}
	return list
}
