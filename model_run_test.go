package freshtoken_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// modelWorld runs one plan.
type modelWorld struct {
	plan   modelPlan
	h      *modelHistory
	as     *oauthtest.Server
	disk   *modelDisk
	faults *modelFaults
	users  sync.WaitGroup

	// What follows belongs to the goroutine that takes the steps.
	slots  [modelSlots]*modelProcess
	all    int
	logins [modelAccounts][]*oauth2.Token
	timers []*time.Timer
	shift  time.Duration // by how much the plan is late
	skews  [modelSlots]time.Duration
	dir    string // for plaintext files

	mu   sync.Mutex                  // guards next
	next [modelAccounts][]modelLogin // what Config.Reauthenticate meets
	over bool                        // nobody logs in any more; guarded by mu
}

// modelSource is one Source of a process, with its users' memory.
type modelSource struct {
	*freshtoken.Source
	p       *modelProcess
	account int
	client  *http.Client

	mu   sync.Mutex // guards last
	last string     // the token that was handed out last
}

// runModel runs a plan in a bubble, with a directory for files.
func runModel(plan modelPlan, dir string, verbose bool) *modelHistory {
	w := &modelWorld{plan: plan, as: oauthtest.New(plan.server), skews: plan.skews, dir: dir}
	w.h = &modelHistory{doctored: plan.doctored, Seed: plan.seed, Mode: plan.mode, Server: plan.server, Start: time.Now(), Origins: map[int]int{}, verbose: verbose}
	w.disk = &modelDisk{h: w.h, inner: storage.NewMemory(), keys: map[string]int{}, next: map[string][]diskFault{}}
	w.faults = &modelFaults{h: w.h}
	w.as.Token.Func(w.faults.token)
	w.as.API.Func(w.faults.resource)
	for account := range modelAccounts {
		w.disk.keys[freshtoken.StoreKey(w.config(account))] = account
	}
	for i, s := range plan.steps {
		if plan.kept != nil && !slices.Contains(plan.kept, i) {
			continue
		}
		time.Sleep(time.Until(w.h.Start.Add(s.at + w.shift)))
		w.take(s)
	}
	w.finish()
	w.h.Entries, w.h.Stats = w.as.Log(), w.as.Stats()
	w.h.join()
	return w.h
}

func (w *modelWorld) config(account int) freshtoken.Config {
	cfg := freshtoken.Config{OAuth2: w.as.OAuth2(), Session: fmt.Sprintf("account %d", account), Lead: w.plan.lead}
	if w.plan.revoke {
		cfg.RevocationURL = w.as.RevocationURL()
	}
	return cfg
}

// boot starts a process.
func (w *modelWorld) boot(slot int, background bool) *modelProcess {
	w.all++
	p := &modelProcess{id: w.all, slot: slot, background: background, skew: w.skews[slot], locks: map[int]func() error{}}
	w.h.boots(modelBoot{Proc: p.id, Skew: p.skew})
	p.dead, p.cut = context.WithCancel(context.Background())
	for account := range modelAccounts {
		cfg := w.config(account)
		cfg.Store = modelStore{w.disk, p}
		cfg.Background = background
		net := modelNet{p, account, w.h, w.as.Transport()}
		cfg.HTTPClient = &http.Client{Transport: net}
		cfg.OnEvent = func(e freshtoken.Event) { w.h.event(modelEvent{p.id, account, e.Kind, e.Time, e}) }
		if w.plan.ask {
			cfg.Reauthenticate = w.ordered(p, account)
		}
		random := rand.New(rand.NewPCG(w.plan.seed, uint64(p.id*modelAccounts+account)))
		src, err := freshtoken.NewWithRandom(cfg, random.Float64)
		if err != nil {
			panic(err)
		}
		p.sources[account] = &modelSource{Source: src, p: p, account: account, client: &http.Client{
			Transport: &freshtoken.Transport{Source: src, Base: net, Origins: []string{w.as.BaseURL()}}}}
		if w.plan.mode.Targets {
			narrow, err := src.For(freshtoken.Target{Scopes: []string{"read"}})
			if err != nil {
				panic(err)
			}
			p.narrow[account] = &modelSource{Source: narrow, p: p, account: account, client: &http.Client{
				Transport: &freshtoken.Transport{Source: narrow, Base: net, Origins: []string{w.as.BaseURL()}}}}
		}
	}
	w.h.note("p%d starts, background %v, its clock is ahead by %v", p.id, background, p.skew)
	return p
}

// take does what a step says.
func (w *modelWorld) take(s modelStep) {
	p := w.slots[s.slot]
	switch s.do {
	case "start":
		if p == nil {
			w.slots[s.slot] = w.boot(s.slot, s.flag)
		}
	case "until-due":
		w.awaitDue(s.account)
	case "token-fault":
		w.faults.set(func() { w.faults.queue = append(w.faults.queue, s.token...) })
	case "standing":
		w.faults.set(func() { w.faults.standing = s.token[0] })
		w.later(s.lasts, func() { w.faults.set(func() { w.faults.standing = classed{} }) })
	case "api-fault", "slow-api":
		w.faults.set(func() { w.faults.api = s.api })
		w.later(s.lasts, func() { w.faults.set(func() { w.faults.api = oauthtest.Fault{} }) })
	case "disk-fault":
		w.disk.mu.Lock()
		w.disk.next[s.op] = append(w.disk.next[s.op], s.disk...)
		w.disk.mu.Unlock()
	case "disk-down":
		w.setDown(true)
		w.later(s.lasts, func() { w.setDown(false) })
	case "revoke":
		if rec := w.disk.record(s.account); s.narrow {
			w.as.RevokeAccess(rec.Narrow)
		} else {
			w.as.RevokeAccess(rec.Access)
		}
	case "clock":
		w.skews[s.slot] = s.skew
		if p != nil {
			w.users.Go(func() { w.exit(p) })
			w.slots[s.slot] = w.boot(s.slot, p.background)
		}
	case "restore":
		w.restore(s)
	case "fork":
		w.users.Go(func() { w.fork(s) })
	case "next-login":
		w.mu.Lock()
		w.next[s.account] = append(w.next[s.account], s.login)
		w.mu.Unlock()
	case "kill":
		w.h.note("the server ends the session %d", s.account)
		w.as.RevokeFamily(w.disk.record(s.account).Refresh)
	default:
		if p != nil {
			w.use(p, s)
		}
	}
}

// awaitDue lets the time pass until a refresh is due for all processes that have
// a token of an account.
func (w *modelWorld) awaitDue(account int) {
	var wait time.Duration
	for _, p := range w.slots {
		if p != nil {
			d := time.Until(p.sources[account].Status().RefreshAt)
			if d < 2*w.plan.server.AccessLifetime { // not those to which odd lifetimes were told
				wait = max(wait, d)
			}
		}
	}
	time.Sleep(wait)
	w.shift += wait
}

func (w *modelWorld) setDown(down bool) {
	w.disk.mu.Lock()
	defer w.disk.mu.Unlock()
	w.disk.down = down
}

func (w *modelWorld) later(d time.Duration, f func()) {
	w.timers = append(w.timers, time.AfterFunc(d, f))
}

// use does what a step says about a process.
func (w *modelWorld) use(p *modelProcess, s modelStep) {
	src := p.sources[s.account]
	logout := func(ctx context.Context, c *modelCall) { c.Err = src.Logout(ctx) }
	switch s.do {
	case "close":
		w.slots[s.slot] = nil
		w.users.Go(func() { w.exit(p) })
	case "crash":
		w.slots[s.slot] = nil
		w.h.dies(modelDeath{Proc: p.id, Crash: true})
		p.die()
		for _, src := range p.sources {
			w.users.Go(func() { src.Close() }) // frees the goroutines, and does nothing else
		}
	case "login":
		tok := w.newLogin(s.account)
		w.logins[s.account] = append(w.logins[s.account], tok)
		w.users.Go(func() { w.login(src, tok, s) })
	case "relogin":
		if tok := w.oldLogin(s); tok != nil {
			w.users.Go(func() { w.login(src, tok, s) })
		}
	case "authenticate":
		for range s.n {
			w.users.Go(func() { w.authenticate(src, s) })
		}
	case "forget":
		w.slots[s.slot] = nil
		w.users.Go(func() { w.forget(src, s); w.exit(p) })
	case "import":
		tok := w.newLogin(s.account)
		w.users.Go(func() { w.takeOver(src, tok, s) })
	case "logout":
		w.users.Go(func() {
			w.call(src, modelCall{Kind: "logout"}, s, logout)
			if s.flag { // insists
				time.Sleep(time.Second)
				w.call(src, modelCall{Kind: "logout"}, modelStep{}, logout)
			}
		})
	default:
		if s.narrow {
			src = p.narrow[s.account]
		}
		for range s.n {
			w.users.Go(func() { w.ask(src, s) })
		}
	}
}

// oldLogin is the token of an earlier login: of the one that is stored, or of
// any.
func (w *modelWorld) oldLogin(s modelStep) *oauth2.Token {
	old := w.logins[s.account]
	if len(old) == 0 { // the plan has been shrunk
		return nil
	}
	if !s.flag && w.plan.mode.Admin {
		return old[s.n%len(old)]
	}
	if rec := w.disk.record(s.account); rec.alive() {
		for _, tok := range old {
			if familyOf(tok.RefreshToken) == rec.family() {
				return tok
			}
		}
	}
	return nil
}

func (w *modelWorld) login(src *modelSource, tok *oauth2.Token, s modelStep) {
	w.call(src, modelCall{Kind: "login", Given: tok.RefreshToken}, s, func(ctx context.Context, c *modelCall) {
		c.Err = src.SetToken(ctx, tok)
	})
}

// call makes a call and writes it down.
func (w *modelWorld) call(src *modelSource, c modelCall, s modelStep, f func(context.Context, *modelCall)) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c.Proc, c.Account, c.From = src.p.id, src.account, w.h.moment()
	if s.deadline > 0 {
		c.Deadline = c.From.At.Add(s.deadline)
		ctx, cancel = context.WithDeadline(ctx, c.Deadline)
		defer cancel()
	}
	f(ctx, &c)
	c.Lost = src.p.dead.Err() != nil
	w.h.called(c)
}

// ask has a user of a process want a token, or something of the API.
func (w *modelWorld) ask(src *modelSource, s modelStep) {
	hand := func(c *modelCall, tok *oauth2.Token, err error) { w.hand(src, c, tok, err) }
	c := modelCall{Kind: s.do, Final: s.do == "final", OneShot: s.do == "post" && s.flag}
	switch s.do {
	case "token", "final":
		c.Kind = "token"
		w.call(src, c, s, func(ctx context.Context, c *modelCall) {
			tok, err := src.Token(ctx)
			hand(c, tok, err)
		})
	case "refresh":
		src.mu.Lock()
		c.Given = src.last
		src.mu.Unlock()
		if c.Given == "" {
			return
		}
		w.call(src, c, s, func(ctx context.Context, c *modelCall) {
			tok, err := src.Refresh(ctx, &oauth2.Token{AccessToken: c.Given})
			hand(c, tok, err)
		})
	default:
		w.call(src, c, s, func(ctx context.Context, c *modelCall) { w.request(ctx, src, c) })
	}
}

// hand gives a token, or the reason why there is none, to a user.
func (w *modelWorld) hand(src *modelSource, c *modelCall, tok *oauth2.Token, err error) {
	if c.Err = err; err != nil {
		return
	}
	c.Access, c.Expiry, c.Alive = tok.AccessToken, tok.Expiry, w.as.AccessAlive(tok.AccessToken)
	src.mu.Lock()
	defer src.mu.Unlock()
	src.last = tok.AccessToken
}

// request sends a request to the API.
func (w *modelWorld) request(ctx context.Context, src *modelSource, c *modelCall) {
	method, text := http.MethodGet, ""
	var body io.Reader
	if c.Kind == "post" {
		method, text = http.MethodPost, strings.Repeat("body", 100)
		body = strings.NewReader(text)
		if c.OneShot {
			body = io.MultiReader(body)
		}
	}
	ctx = context.WithValue(ctx, modelTriesKey{}, &c.Tries)
	req, err := http.NewRequestWithContext(ctx, method, w.as.APIURL("thing"), body)
	if err != nil {
		panic(err)
	}
	if c.Kind == "post" {
		sum := sha256.Sum256([]byte(text))
		req.Header.Set(oauthtest.ChecksumHeader, hex.EncodeToString(sum[:]))
	}
	resp, err := src.client.Do(req)
	if c.Err = err; err != nil {
		return
	}
	c.Status = resp.StatusCode
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

// exit closes a process and ends it.
func (w *modelWorld) exit(p *modelProcess) {
	loose := false
	for _, src := range p.sources {
		w.call(src, modelCall{Kind: "close"}, modelStep{}, func(_ context.Context, c *modelCall) {
			c.Err = src.Close()
			loose = loose || c.Err != nil
		})
	}
	if p.dead.Err() == nil {
		w.h.dies(modelDeath{Proc: p.id, Loose: loose})
		p.die()
	}
}
