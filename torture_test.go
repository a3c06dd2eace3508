//go:build linux || darwin

package freshtoken_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/oauthtest"
)

var (
	tortureDuration  = flag.Duration("torture.duration", 5*time.Second, "how long TestTorture goes on for each store")
	tortureProcesses = flag.Int("torture.processes", 8, "how many processes it has at most at a time")
	tortureSeed      = flag.Uint64("torture.seed", 0, "what it does and when, as far as the test decides; 0 chooses")
	tortureLong      = flag.Bool("torture.long", false, "it also stops processes for longer than anything in the library waits")
)

const (
	// serverWaits is how long the server waits for a client, in whatever state
	// a connection is.
	serverWaits = 2 * time.Second

	// longestWait is the longest that the library waits: for the lock.
	longestWait = time.Minute
)

// Processes that share one session are started, killed, stopped and continued
// at random, and where it hurts most. The session survives all of that, with one
// exception, which the server's log has to name: the server had granted a
// refresh, and who had asked for it was killed before the answer was stored.
func TestTorture(t *testing.T) {
	for _, store := range []struct {
		name, figures string
		place         func(t *testing.T) procPlace
		certificates  bool
	}{
		{"files", "files", procPlaces[0].place, false},
		{"files, over mutual TLS", "mtls", procPlaces[0].place, true},
		{"files, their key in the keyring", "sealed", func(t *testing.T) procPlace {
			return procPlace{Dir: canary.Dir(t), SealedBy: keyringService(t)}
		}, false},
		{"keyring", "keyring", procPlaces[1].place, false},
	} {
		t.Run(store.name, func(t *testing.T) {
			var client *clientCert
			if store.certificates {
				client = newClientCert(t)
			}
			h := newTorture(t, store.place(t), client)
			h.run()
			h.finish()
			h.judge("processes." + store.figures + ".")
		})
	}
}

// torture is a server, a session, and those who use it.
type torture struct {
	*procWorld
	rnd     *rand.Rand // of the goroutine that runs the test
	seed    uint64
	started time.Time
	jobs    sync.WaitGroup
	over    chan struct{} // closed when all that are stopped are to go on

	// The session that is stored: the login at the server and the record's ID.
	family int
	id     string
	losses []loss

	revoked map[string]bool // access tokens that the test has revoked
	known   knownTarget     // what was in the store when it was looked at last

	mu      sync.Mutex // guards what follows
	all     []*target
	named   map[string]*target
	aims    []aim
	ended   map[string]bool // sessions that a program has told to be over
	figures tortureCounts
}

// tortureCounts is what is counted while it happens.
type tortureCounts struct {
	peak                   int // programs at one time
	stops, overrun, longer int // stops; longer than the server waits; than the library does
	held                   int // of a program that had the lock
	targets                int // living tokens for a Target that were seen in the store
	left                   int // programs that ended by themselves
}

// An aim is what is to be done to the next program that comes to a phase.
type aim struct {
	at    phase
	delay time.Duration
	do    func(*target)
}

// newTorture starts a server; one that wants certificates, if client is not nil.
func newTorture(t *testing.T, place procPlace, client *clientCert) *torture {
	seed := *tortureSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("the seed is %d: -torture.seed=%d does the same again, as far as the system lets it", seed, seed)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := oauthtest.Options{BaseURL: "http://" + l.Addr().String(), AccessLifetime: time.Second}
	if client != nil {
		o.BaseURL, o.ClientAuth = "https://"+l.Addr().String(), client.server()
		l = tls.NewListener(l, askingFor(t))
	}
	as := oauthtest.New(o)
	server := &http.Server{Handler: as, ReadTimeout: serverWaits, WriteTimeout: serverWaits, IdleTimeout: serverWaits, ErrorLog: quiet}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(l)
	}()
	t.Cleanup(func() { server.Close(); <-served })
	store, err := place.open()
	if err != nil {
		t.Fatal(err)
	}
	w := &procWorld{t: t, as: as, store: store,
		setup: procSetup{TokenURL: as.TokenURL(), API: as.APIURL("work"), Origin: as.BaseURL(), Place: place, Lead: time.Second / 2}}
	if client != nil {
		w.show(client)
	}
	h := &torture{procWorld: w, seed: seed, rnd: rand.New(rand.NewPCG(seed, 1)), started: time.Now(), over: make(chan struct{}),
		named: make(map[string]*target), ended: make(map[string]bool), revoked: make(map[string]bool)}
	delays := rand.New(rand.NewPCG(seed, 2))
	as.Token.Func(func(r *http.Request, _ int) oauthtest.Fault {
		f := oauthtest.Fault{Name: r.Header.Get(programHeader)}
		switch delays.IntN(4) { // as a server does that has other clients, too
		case 0:
			f.Delay = time.Duration(delays.IntN(100)) * time.Millisecond
		case 1:
			f.AfterDelay = time.Duration(delays.IntN(100)) * time.Millisecond
		}
		return f
	})
	h.logIn()
	return h
}

// logIn starts a session, from this process. Whoever has the lock may be
// stopped.
func (h *torture) logIn() {
	h.t.Helper()
	src, err := freshtoken.New(h.config())
	if err != nil {
		h.t.Fatal(err)
	}
	tok := h.as.Login("alice", "read", "write")
	for range 3 {
		if err = src.SetToken(h.t.Context(), tok); !errors.Is(err, freshtoken.ErrLocked) {
			break
		}
	}
	if err != nil {
		h.t.Fatal(err)
	}
	if err := src.Close(); err != nil {
		h.t.Fatal(err)
	}
	h.family, h.id = h.as.Stats().Logins, h.record().ID
}

// run does what the test is about.
func (h *torture) run() {
	deadline := time.After(*tortureDuration)
	nextLong, nextOverrun := time.Now().Add(15*time.Second), time.Now()
	goal := *tortureProcesses
	for {
		select {
		case <-deadline:
			return
		case <-time.After(time.Duration(20+h.rnd.IntN(80)) * time.Millisecond):
		}
		if h.hasEnded(h.id) {
			h.mourn()
		}
		h.checkTargets()
		if *tortureLong && time.Now().After(nextLong) {
			nextLong = time.Now().Add(3 * time.Minute)
			h.aimAt(aim{at: h.oneOf(phasePosting, phasePosting, phaseBefore, phaseAnswered), do: func(p *target) {
				h.stopSpared(p, longestWait+10*time.Second)
			}})
		}
		if time.Now().After(nextOverrun) { // once for certain, beside those that come at random
			nextOverrun = time.Now().Add(10 * time.Second)
			h.aimAt(aim{at: phasePosting, do: func(p *target) { h.stopSpared(p, serverWaits+time.Second) }})
		}
		running := h.running()
		switch n := h.rnd.IntN(100); {
		case n < 4:
			goal = 2 + h.rnd.IntN(*tortureProcesses-1)
		case n < 8: // all at once
			for range *tortureProcesses - len(running) {
				h.start()
			}
		case len(running) < 2 || n < 50 && len(running) < goal:
			h.start()
		case n < 60:
			h.kill(running[h.rnd.IntN(len(running))])
		case n < 68:
			h.aimAt(aim{at: h.anyPhase(), delay: time.Duration(h.rnd.IntN(2)*h.rnd.IntN(60)) * time.Millisecond, do: h.kill})
		case n < 80:
			h.stop(running[h.rnd.IntN(len(running))], h.pause(), nil)
		case n < 86:
			d := h.pause()
			h.aimAt(aim{at: h.anyPhase(), do: func(p *target) { h.stop(p, d, nil) }})
		case n < 92:
			running[h.rnd.IntN(len(running))].leave()
		default: // who uses it finds out, and has to refresh
			h.revoke()
		}
	}
}

// anyPhase is one that lasts for moments only. What comes at any time comes
// to the others.
func (h *torture) anyPhase() phase {
	return h.oneOf(phaseWaiting, phaseBefore, phasePosting, phasePosting, phaseAnswered, phaseSaved)
}

func (h *torture) oneOf(list ...phase) phase { return list[h.rnd.IntN(len(list))] }

// pause is how long a program is to stand still.
func (h *torture) pause() time.Duration {
	if h.rnd.IntN(8) == 0 {
		return serverWaits + time.Duration(100+h.rnd.IntN(2000))*time.Millisecond
	}
	return time.Duration(h.rnd.IntN(500)) * time.Millisecond
}

func (h *torture) running() (list []*target) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.all {
		if !p.isOver() && !p.wasKilled() {
			list = append(list, p)
		}
	}
	h.figures.peak = max(h.figures.peak, len(list))
	return list
}

// start starts a program: a service, or a command that soon ends.
func (h *torture) start() {
	h.t.Helper()
	setup := tortureSetup{Seed: h.rnd.Uint64(), Background: h.rnd.IntN(3) == 0, Narrow: 50 * h.rnd.IntN(2)}
	if h.rnd.IntN(4) == 0 {
		setup.Turns = 1 + h.rnd.IntN(5)
	}
	h.startAs(setup)
}

func (h *torture) startAs(setup tortureSetup) *target {
	h.t.Helper()
	setup.procSetup, setup.Program = h.setup, strconv.Itoa(len(h.all)+1)
	p := launch(h.t, setup, h.heard)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, p)
	h.named[p.name] = p
	return p
}

func (h *torture) kill(p *target) { p.kill() }

// stopSpared has a program stand still for so long. It and some others, who are
// to see what comes of it, are spared until then.
func (h *torture) stopSpared(p *target, d time.Duration) {
	spared := append(h.running(), p)
	spared = spared[max(len(spared)-4, 0):]
	spare := func(on bool) {
		for _, p := range spared {
			p.spare(on)
		}
	}
	spare(true)
	h.stop(p, d, func() { spare(false) })
}

// stop has a program stand still for so long, and then calls after, if that is
// not nil.
func (h *torture) stop(p *target, d time.Duration, after func()) {
	in, ok := p.stop()
	h.jobs.Go(func() {
		if after != nil {
			defer after()
		}
		if !ok {
			return
		}
		select {
		case <-time.After(d):
		case <-h.over:
		case <-p.over:
		}
		d := p.resume()
		h.mu.Lock()
		defer h.mu.Unlock()
		h.figures.stops++
		if d > serverWaits {
			h.figures.overrun++
		}
		if d > longestWait {
			h.figures.longer++
		}
		if in.holding() {
			h.figures.held++
		}
	})
}

// aimAt has something done later. There are never many of these.
func (h *torture) aimAt(a aim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.aims = append(h.aims, a)
	if len(h.aims) > 4 {
		h.aims = h.aims[1:]
	}
}

// heard is told each step of each program.
func (h *torture) heard(p *target, tr trace, now phase) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if tr.Step == stepFailed && tr.Kind == kindEnded {
		h.ended[tr.ID] = true
	}
	if tr.Step == stepClosed {
		h.figures.left++
	}
	for i, a := range h.aims {
		if a.at == now && now != phaseIdle {
			h.aims = append(h.aims[:i:i], h.aims[i+1:]...)
			h.jobs.Go(func() {
				if a.delay > 0 {
					<-time.After(a.delay)
				}
				a.do(p)
			})
			return
		}
	}
}

func (h *torture) hasEnded(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended[id]
}

// finish ends all programs, half of them by a kill, and sees that a fresh one
// can go on.
func (h *torture) finish() {
	h.t.Helper()
	h.mu.Lock()
	h.aims = nil
	h.mu.Unlock()
	close(h.over)
	h.jobs.Wait()
	for i, p := range h.running() {
		if i%2 == 0 {
			h.kill(p)
		} else {
			p.leave()
		}
	}
	for _, p := range h.all {
		select {
		case <-p.over:
			p.checkExit(h.t)
		case <-time.After(procPatience):
			h.t.Errorf("program %s does not end", p.name)
		}
	}
	if h.hasEnded(h.id) {
		h.mourn()
	}
	if h.fresh(); h.hasEnded(h.id) { // the last kill was one too many
		h.mourn()
		h.fresh()
	}
	if r := h.record(); !h.as.Alive(r.RefreshToken) || r.Generation != h.newest(h.family) {
		h.t.Errorf("generation %d is stored, alive: %v; the server's newest is %d", r.Generation, h.as.Alive(r.RefreshToken), h.newest(h.family))
	}
	h.checkNewest()
}

// fresh has new programs refresh, one of them for a Target, which must go well
// unless the session has ended.
func (h *torture) fresh() {
	h.t.Helper()
	h.shift(-2 * time.Hour)
	h.freshOf(0)
	if !h.hasEnded(h.id) {
		h.edit(func(all map[string]json.RawMessage) { delete(all, "derived") })
		h.known = knownTarget{}
		h.freshOf(100)
	}
}

func (h *torture) freshOf(narrow int) {
	h.t.Helper()
	before := h.record().Generation
	p := h.startAs(tortureSetup{Turns: 1, Narrow: narrow})
	select {
	case <-p.over:
	case <-time.After(procPatience):
		h.t.Fatal("a fresh program does not end")
	}
	p.checkExit(h.t)
	if h.hasEnded(h.id) {
		return
	}
	if now := h.record().Generation; now != before+1 {
		h.t.Errorf("a fresh program has left generation %d, and found %d: %+v", now, before, p.told())
	}
}

// sender returns the program that has sent a request; nil if none of them has.
func (h *torture) sender(e oauthtest.Entry) *target {
	name, _, _ := strings.Cut(e.Fault, ".")
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.named[name]
}
