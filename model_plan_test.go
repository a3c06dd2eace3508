package freshtoken_test

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/freshtoken/freshtoken/oauthtest"
)

// modelAccounts and modelSlots are how many sessions share the server and the
// store, and how many programs run at a time.
const (
	modelAccounts = 2
	modelSlots    = 3
)

// modelMode says what a run may meet. The less it may, the more is demanded.
type modelMode struct {
	Outages  bool // failures of the token endpoint after which nothing is spent
	Lost     bool // answers that get lost or are unusable
	Refusals bool // refusals of good refresh tokens, and of the client
	Odd      bool // odd but good answers
	Disk     bool // a store that fails, hangs or lies
	Crashes  bool
	Admin    bool // the server ends sessions; programs hand in old tokens
	API      bool // an API that rejects good tokens
	Clocks   bool // processes whose wall clocks disagree
	Backups  bool // older records that are put back
	Forks    bool // a program that knows no lock and refreshes, too
	Late     bool // calls to the store that take effect after they were given up
	Logins   bool // logins by an Authenticator

	// Targets: callers also want another access token of the session. That is no
	// trouble.
	Targets bool
}

func (m modelMode) calm() bool {
	m.Targets = false
	return m == modelMode{}
}

// disk reports whether calls to the store may go wrong.
func (m modelMode) disk() bool { return m.Disk || m.Late }

// modelPlan is a run before it begins: a function of its seed alone.
type modelPlan struct {
	seed   uint64
	mode   modelMode
	server oauthtest.Options
	lead   time.Duration
	revoke bool // Logout revokes
	ask    bool // Config.Reauthenticate is set
	steps  []modelStep
	quiet  time.Duration
	skews  [modelSlots]time.Duration // of the wall clocks at the start

	// kept are the steps that are taken; nil: all are. doctored, for tests of
	// the model itself, says what is broken.
	kept     []int
	doctored string
}

// modelStep is something that happens. What does not apply at its time does not
// happen.
type modelStep struct {
	at            time.Duration
	do            string
	slot, account int
	n             int           // callers
	deadline      time.Duration // zero: none
	flag          bool
	token         []classed
	op            string // of the store
	disk          []diskFault
	api           oauthtest.Fault
	lasts         time.Duration // of a standing fault; what passes before a fork is written
	login         modelLogin
	skew          time.Duration
	narrow        bool // about the access token of another target
}

func newModelPlan(seed uint64) modelPlan {
	r := rand.New(rand.NewPCG(seed, 0x66726573))
	p := modelPlan{seed: seed, mode: pickMode(r), revoke: r.IntN(2) == 0, quiet: 400 * time.Second}
	p.server = oauthtest.Options{
		AccessLifetime: pick(r, 10*time.Second, 30*time.Second, time.Minute, 5*time.Minute, time.Hour),
		KillOldAccess:  r.IntN(4) == 0,
	}
	switch r.IntN(10) {
	case 0:
		p.server.Rotation = pick(r, oauthtest.NoRotation, oauthtest.SameToken, oauthtest.RotateLenient)
	case 1, 2:
		p.server.Grace = pick(r, time.Second, 30*time.Second)
		p.server.GraceMode = pick(r, oauthtest.GraceSame, oauthtest.GraceNew, oauthtest.GraceReplace)
	}
	if r.IntN(4) == 0 {
		p.lead = pick(r, time.Second, time.Minute)
	}
	if p.mode.Clocks {
		for i := range p.skews {
			p.skews[i] = pickSkew(r)
		}
	}
	p.ask = p.mode.Logins && r.IntN(2) == 0
	p.plan(r)
	if p.mode.Clocks { // what one has written down begins for another so much later
		p.quiet += 2 * modelSkew
	}
	p.narrow(rand.New(rand.NewPCG(seed, 0x74617267)))
	return p
}

// narrow has some of the callers want another access token. It has its own
// randomness: what else happens is the same without.
func (p *modelPlan) narrow(r *rand.Rand) {
	if r.IntN(4) != 0 {
		return
	}
	p.mode.Targets = true
	p.server.KillOldAccess = false // or they would take it from each other
	for i := range p.steps {
		switch p.steps[i].do {
		case "token", "get", "post", "refresh", "revoke":
			p.steps[i].narrow = r.IntN(2) == 0
		}
	}
}

// modelSkew is by how much a clock is wrong at most, unless it is by a month.
const modelSkew = 10 * time.Minute

// pickSkew is by how much a clock is wrong.
func pickSkew(r *rand.Rand) time.Duration {
	d := pick(r, 0, time.Second, 20*time.Second, modelSkew, 30*24*time.Hour)
	return d * time.Duration(1-2*r.IntN(2))
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func pickMode(r *rand.Rand) modelMode {
	switch r.IntN(17) {
	case 0, 1:
		return modelMode{}
	case 2:
		return modelMode{Outages: true}
	case 3:
		return modelMode{Disk: true}
	case 4:
		return modelMode{Crashes: true}
	case 5:
		return modelMode{Lost: true, Odd: true}
	case 6:
		return modelMode{API: true, Outages: true}
	case 7:
		return modelMode{Clocks: true}
	case 8:
		return modelMode{Backups: true}
	case 9:
		return modelMode{Forks: true}
	case 10:
		return modelMode{Late: true, Crashes: r.IntN(2) == 0}
	case 11:
		return modelMode{Logins: true}
	}
	on := func() bool { return r.IntN(2) == 0 }
	seldom := func() bool { return r.IntN(4) == 0 }
	return modelMode{Outages: on(), Lost: on(), Refusals: on(), Odd: on(), Disk: on(), Crashes: on(), Admin: on(), API: on(),
		Clocks: seldom(), Backups: seldom(), Forks: seldom(), Late: seldom(), Logins: seldom()}
}

// plan fills in the steps.
func (p *modelPlan) plan(r *rand.Rand) {
	p.steps = []modelStep{{do: "start", slot: 0, flag: r.IntN(3) == 0}, {at: 1, do: "start", slot: 1, flag: r.IntN(3) == 0},
		{at: 2, do: "login"}, {at: 3, do: "login", account: 1}}
	life := p.server.AccessLifetime
	at := time.Millisecond
	for n := 20 + r.IntN(50); n > 0; n-- {
		switch r.IntN(10) {
		case 0, 1, 2, 3, 4: // a burst
			at += time.Duration(r.Int64N(int64(pick(r, time.Millisecond, 100*time.Millisecond, 2*time.Second))))
		case 5, 6, 7:
			at += time.Duration(r.Int64N(int64(life / 2)))
		case 8: // the refresh point and the time up to expiry
			at += life*4/5 + time.Duration(r.Int64N(int64(life/5)))
		case 9:
			at += life + time.Duration(r.Int64N(int64(life)))
		}
		at++ // no two steps at one time
		if r.IntN(25) == 0 {
			at = p.scene(r, at)
			continue
		}
		s := p.step(r)
		s.at = at
		p.steps = append(p.steps, s)
	}
}

// scene appends steps that chance alone would seldom bring together: what
// happens when a token is due, and soon after. It returns the time of the last.
func (p *modelPlan) scene(r *rand.Rand, at time.Duration) time.Duration {
	add := func(after time.Duration, s modelStep) {
		at += 1 + time.Duration(r.Int64N(int64(after)))
		s.at = at
		p.steps = append(p.steps, s)
	}
	a := r.IntN(modelSlots)
	b := (a + 1 + r.IntN(modelSlots-1)) % modelSlots
	slow := func(d time.Duration) []classed { return []classed{{"", oauthtest.Fault{Name: "slow", Delay: d}}} }
	add(1, modelStep{do: "until-due", slot: a})
	switch r.IntN(5) {
	case 3:
		if p.mode.Late { // an answer that is written down when its process may be dead
			add(1, modelStep{do: "disk-fault", op: "save", disk: []diskFault{{}, p.late(r)}[r.IntN(2):]})
			add(time.Millisecond, modelStep{do: "token", slot: a, n: 1})
			if p.mode.Crashes {
				add(time.Second, modelStep{do: "crash", slot: a})
			}
			add(time.Second, modelStep{do: pick(r, "token", "logout", "get"), slot: b, n: 1})
			add(time.Minute, modelStep{do: "token", slot: b, n: 1})
		}
	case 4:
		if p.mode.Backups { // an old record meets those who know better, and somebody who does not
			add(1, modelStep{do: "refresh", slot: a, n: 1})
			add(time.Second, modelStep{do: pick(r, "token", "logout"), slot: b, n: 1})
			add(time.Second, modelStep{do: "restore", n: r.IntN(8)})
			add(time.Second, modelStep{do: "close", slot: b})
			add(time.Second, modelStep{do: "start", slot: b})
			add(p.server.AccessLifetime, modelStep{do: "get", slot: pick(r, a, b), n: 1})
		}
	case 0: // a rejection while another process refreshes what is due
		add(1, modelStep{do: "token-fault", token: slow(time.Second)})
		add(time.Millisecond, modelStep{do: "token", slot: a, n: 1})
		add(50*time.Millisecond, modelStep{do: "token", slot: b, n: 1})
		add(90*time.Millisecond, modelStep{do: "refresh", slot: b, n: 1})
		add(300*time.Millisecond, modelStep{do: "token", slot: b, n: 1})
	case 1: // failures up to expiry, and a store that is slow meanwhile
		if p.mode.Outages {
			add(1, modelStep{do: "token-fault", token: []classed{p.outage(r), {"unknown", oauthtest.Drop()}, {"unknown", oauthtest.Drop()}}})
		}
		if p.mode.Disk {
			add(1, modelStep{do: "disk-fault", op: "save", disk: []diskFault{{}, {}, {}, {"slow", 3 * time.Second}}[r.IntN(4):]})
		}
		for range 8 {
			add(p.server.AccessLifetime/20, modelStep{do: "token", slot: a, n: 1})
		}
	case 2: // everybody at once
		for range 6 {
			add(time.Microsecond, modelStep{do: pick(r, "token", "get", "refresh"), slot: pick(r, a, b), n: 2})
		}
	}
	return at
}

// step makes one step.
func (p *modelPlan) step(r *rand.Rand) modelStep {
	s := modelStep{slot: r.IntN(modelSlots), account: r.IntN(8) / 6, n: 1, flag: r.IntN(3) == 0}
	if r.IntN(4) == 0 {
		s.n = 2 + r.IntN(4)
	}
	if r.IntN(3) == 0 {
		s.deadline = pick(r, time.Millisecond, 30*time.Millisecond, time.Second, 5*time.Second, 35*time.Second)
	}
	switch k := r.IntN(100); {
	case k < 30:
		s.do = "token"
	case k < 48:
		s.do = pick(r, "get", "get", "post")
	case k < 54:
		s.do = "refresh"
	case k < 60:
		s.do = "start"
	case k < 64:
		s.do = "close"
	case k < 66:
		s.do = "login"
	case k < 68:
		s.do = "logout"
	case k < 72:
		s.do = "revoke"
	case k < 73:
		s.do, s.flag = "relogin", true // the token of the login that is there
	case k < 74:
		s.do = "forget"
	case k < 75:
		s.do = "import"
	default:
		p.trouble(r, &s)
	}
	return s
}

// trouble makes a step that the mode allows; a call for a token if there is
// none.
func (p *modelPlan) trouble(r *rand.Rand, s *modelStep) {
	m := p.mode
	var kinds []string
	add := func(on bool, names ...string) {
		if on {
			kinds = append(kinds, names...)
		}
	}
	add(m.Outages || m.Lost || m.Refusals || m.Odd, "token-fault", "token-fault")
	add(m.Outages, "outage", "slow")
	add(m.Disk, "disk-fault", "disk-fault", "disk-down")
	add(m.Crashes, "crash", "crash")
	add(m.API, "api-fault")
	add(m.Admin, "kill", "relogin")
	add(m.Clocks, "clock")
	add(m.Backups, "restore", "restore")
	add(m.Forks, "fork", "fork")
	add(m.Late, "late", "late")
	add(m.Logins, "authenticate", "authenticate", "authenticate", "next-login")
	add(true, "token", "slow-api")
	s.do = pick(r, kinds...)
	switch s.do {
	case "token-fault":
		for range s.n {
			s.token = append(s.token, p.tokenFault(r))
		}
	case "outage":
		s.do, s.token = "standing", []classed{p.outage(r)}
		s.lasts = time.Duration(r.Int64N(int64(2 * p.server.AccessLifetime)))
	case "slow":
		s.do, s.token = "token-fault", []classed{{"", oauthtest.Fault{Name: "slow", Delay: time.Duration(r.Int64N(int64(20 * time.Second)))}}}
	case "disk-fault":
		s.op = pick(r, "load", "save", "save", "save", "lock")
		for range s.n {
			f := diskFault{kind: pick(r, "fail", "landed", "slow", "hang")}
			if f.kind == "slow" || f.kind == "hang" {
				f.wait = time.Duration(r.Int64N(int64(pick(r, time.Second, 9*time.Second, 40*time.Second))))
			}
			s.disk = append(s.disk, f)
		}
	case "disk-down":
		s.lasts = time.Duration(r.Int64N(int64(pick(r, 10*time.Second, 2*time.Minute))))
	case "api-fault":
		s.api = oauthtest.Pick(oauthtest.Rejections(), pick(r, "invalid-token", "bare", "json"))
		s.lasts = time.Duration(r.Int64N(int64(p.server.AccessLifetime)))
	case "slow-api":
		s.api = oauthtest.Fault{Name: "slow", Delay: time.Duration(r.Int64N(int64(3 * time.Second)))}
		s.lasts = time.Duration(r.Int64N(int64(10 * time.Second)))
	default:
		p.alien(r, s)
	}
}

// alien fills in a step of those that come from outside of the library's world.
func (p *modelPlan) alien(r *rand.Rand, s *modelStep) {
	switch s.do {
	case "clock":
		s.skew = pickSkew(r)
	case "restore":
		s.n = r.IntN(pick(r, 3, 30))
	case "fork":
		s.lasts = time.Duration(r.Int64N(int64(pick(r, time.Millisecond, time.Second, p.server.AccessLifetime))))
	case "late":
		s.do, s.op, s.disk = "disk-fault", pick(r, "load", "save", "save", "save", "lock", "delete"), []diskFault{p.late(r)}
	case "authenticate", "next-login":
		s.login.how = pick(r, "succeeds", "succeeds", "succeeds", "fails", "deaf")
		s.login.takes = time.Duration(r.Int64N(int64(pick(r, time.Millisecond, 10*time.Second, 2*time.Minute))))
	}
}

// late returns a call to the store that is given up, and takes effect.
func (p *modelPlan) late(r *rand.Rand) diskFault {
	return diskFault{"late", 12*time.Second + time.Duration(r.Int64N(int64(pick(r, 3*time.Second, 30*time.Second, 2*time.Minute))))}
}

// outage returns a failure after which nothing is spent.
func (p *modelPlan) outage(r *rand.Rand) classed {
	f := pick(r, oauthtest.Outages()...)
	if f.Name == "too-many-requests-decade" {
		if p.server.AccessLifetime < 5*time.Minute {
			f = oauthtest.TooManyRequests("100")
		} else {
			p.quiet = 70 * time.Minute
		}
	}
	switch {
	case f.DropBefore || f.Status >= 500 && f.Status != 503:
		return classed{"unknown", f}
	}
	return classed{"definite", f}
}

func (p *modelPlan) tokenFault(r *rand.Rand) classed {
	var of []func() classed
	if p.mode.Outages {
		of = append(of, func() classed { return p.outage(r) })
	}
	if p.mode.Lost {
		of = append(of, func() classed { return classed{"lost", pick(r, oauthtest.LostAnswers()...)} },
			func() classed {
				return classed{"lost", oauthtest.Fault{Name: "too slow", AfterDelay: 33*time.Second + time.Duration(r.Int64N(int64(time.Minute)))}}
			},
			func() classed {
				bad := slices.DeleteFunc(oauthtest.BadAnswers(), func(f oauthtest.Fault) bool {
					return f.Name == "100-MiB" || f.Name == "endless" || // too slow to do often
						f.Name == "twice-refresh-token" && p.server.Rotation == oauthtest.NoRotation // once, then
				})
				return classed{"bad", pick(r, bad...)}
			})
	}
	if p.mode.Refusals {
		of = append(of, func() classed { return classed{"refused", pick(r, oauthtest.OddRefusals()...)} },
			func() classed { return classed{"config", pick(r, oauthtest.ClientRefusals()...)} })
		if p.mode.Admin {
			of = append(of, func() classed { return classed{"ended", pick(r, oauthtest.DeadGrants()...)} })
		}
	}
	if p.mode.Odd {
		of = append(of, func() classed { return classed{"", pick(r, oauthtest.OddAnswers()...)} })
	}
	return pick(r, of...)()
}
