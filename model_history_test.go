package freshtoken_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// modelHistory is what happened in one run. The checks read nothing else.
type modelHistory struct {
	Seed    uint64
	Mode    modelMode
	Server  oauthtest.Options
	Start   time.Time
	Calls   []modelCall
	Sends   []modelSend // Sends[i] has the number i+1
	Signs   []modelSign
	Saves   []modelSave
	Deaths  []modelDeath
	Events  []modelEvent
	Faults  []modelFaultAt
	Entries []oauthtest.Entry
	Origins map[int]int // account by family
	End     [modelAccounts]modelEnd
	Idle    []modelIdle
	Loads   []modelLoad
	Lates   []modelLate
	Asks    []*modelAsk
	Imports []modelImport
	Boots   []modelBoot
	Stats   oauthtest.Stats

	doctored string // what is broken, on purpose

	mu      sync.Mutex // guards all above while the run lasts
	verbose bool
	lines   []string
	seq     int
}

// A moment is a place in the history: the bubble's time, and an order among
// what happens at the same time.
type moment struct {
	At  time.Time
	Seq int
}

// modelCall is one call of a caller.
type modelCall struct {
	Proc, Account int
	Kind          string // "token", "refresh", "get", "post", "login", "logout" or "close"
	From, To      moment
	Deadline      time.Time // zero: none
	Err           error
	Access        string // the token that was handed out
	Expiry        time.Time
	Given         string // what the caller handed in: a rejected access token, a login's refresh token
	Status        int    // of the API's answer
	OneShot       bool   // the body cannot be had again
	Lost          bool   // its process died before it returned
	Final         bool   // made when all was quiet
	Forget        bool   // a "logout" by Sources.Forget
	Tries         int    // how often the request was sent
	Alive         bool   // the server accepted Access when it was handed out
	Brought       bool   // no call: a login that an Authenticator brought, until it is in the store
}

// modelSend is one request to the token endpoint, as its client sees it. Process
// 0 is a program that knows no lock.
type modelSend struct {
	Proc, Account int
	Refresh       string
	Scope         string // of another target; empty: the session's own
	From, To      moment
	Status        int
	Failed        bool // no answer
	Class         string
	Fault         string
	RetryAfter    time.Duration

	Outcome oauthtest.Outcome // what the server made of it
	Gen     int               // of the refresh token it issued
	Decided time.Time
}

// modelSign is one request to the API.
type modelSign struct {
	Proc, Account int
	Access        string
	From, To      moment
	Status        int
	Replay        bool // the second time: what the API says then changes nothing
}

// errModelUnsaved is the end of a login that has not got into the store.
var errModelUnsaved = errors.New("this login was not saved")

// modelSave is one save or removal that landed.
type modelSave struct {
	Proc, Account int
	When          moment
	Was, Is       modelRecord
	By            string // if it was no living process's Source: "ghost", "backup" or "fork"
}

// modelLoad is one look into the store.
type modelLoad struct {
	Proc, Account int
	Read, When    moment // when the store had it, and when it was returned
	Is            modelRecord
	Late          bool // nobody waits for it any more
}

// modelLate is a late call to the store when it takes effect.
type modelLate struct {
	Proc    int
	Op      string
	GivenUp bool
	Dead    bool // its process is
}

// modelAsk is one time that a person was asked to log in.
type modelAsk struct {
	Proc, Account int
	From, To      moment
	Ordered       bool   // by Config.Reauthenticate
	Result        string // "succeeded", "failed" or "left"
	Given         string // the refresh token of the login
}

// modelImport is a plaintext file that a program was to take over.
type modelImport struct {
	Proc, Account int
	path, Given   string
	Err           error
	Lost          bool // its process died meanwhile
	Gone          bool // the file is, in the end
}

// modelBoot is the start of a process.
type modelBoot struct {
	Proc int
	When moment
	Skew time.Duration
}

// modelDeath is the end of a process: by a crash, or by its exit after Close.
type modelDeath struct {
	Proc  int
	When  moment
	Crash bool
	Loose bool // an exit after a Close that failed
}

type modelEvent struct {
	Proc, Account int
	Kind          freshtoken.EventKind
	At            time.Time
	Event         freshtoken.Event // the whole of it
}

type modelFaultAt struct {
	Proc int
	At   time.Time
}

// modelEnd is an account after the quiet period: before the last round of calls
// and after it.
type modelEnd struct {
	Living bool // the store held a refresh token that the server accepted
	Record modelRecord
	Alive  bool // the server accepts what the store holds
}

// modelIdle is a Source with Background after the quiet period, in which nobody
// called it.
type modelIdle struct {
	Proc, Account int
	Status        freshtoken.Status
	At            time.Time
	Kept          bool // its last error, if any, is one that it goes on after
}

// modelRecord is what the store holds for an account.
type modelRecord struct {
	Exists, Ended, LoggedOut bool
	ID, Access, Refresh      string
	Narrow                   string // the access token of another target
	Generation               uint64
}

func (r modelRecord) alive() bool { return r.Exists && !r.Ended }

func (r modelRecord) family() int {
	if r.Refresh != "" {
		return familyOf(r.Refresh)
	}
	return familyOf(r.Access)
}

// parseModelRecord reads what is stored; nil: nothing is. What is there while
// somebody logs in for the first time is nothing, too.
func parseModelRecord(data []byte) modelRecord {
	if data == nil {
		return modelRecord{}
	}
	var raw struct {
		ID         string
		Generation uint64
		Access     string `json:"access_token"`
		Refresh    string `json:"refresh_token"`
		Derived    map[string]struct {
			Access string `json:"access_token"`
		}
		Ended *struct {
			LoggedOut bool `json:"logged_out"`
			Never     bool
		}
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		panic(err)
	}
	if raw.Ended != nil && raw.Ended.Never {
		return modelRecord{}
	}
	r := modelRecord{Exists: true, ID: raw.ID, Access: raw.Access, Refresh: raw.Refresh, Generation: raw.Generation, Narrow: raw.Derived["scope=read"].Access}
	if raw.Ended != nil {
		r.Ended, r.LoggedOut = true, raw.Ended.LoggedOut
	}
	return r
}

// familyOf and generationOf read what oauthtest writes into its tokens; zero if
// it is no token of its.
func familyOf(token string) int     { return tokenPart(token, 1) }
func generationOf(token string) int { return tokenPart(token, 2) }

func tokenPart(token string, i int) int {
	parts := strings.Split(token, "-")
	if len(parts) != 4 {
		return 0
	}
	n, _ := strconv.Atoi(parts[i])
	return n
}

func short(token string) string {
	if i := strings.LastIndexByte(token, '-'); i > 0 {
		return token[:i]
	}
	return token
}

func (r modelRecord) String() string {
	switch {
	case !r.Exists:
		return "nothing"
	case r.LoggedOut:
		return "a logout"
	case r.Ended:
		return "an end"
	}
	return fmt.Sprintf("generation %d %s %s", r.Generation, short(r.Access), short(r.Refresh))
}

// The methods below are for the run.

func (h *modelHistory) now() moment {
	h.seq++
	return moment{time.Now(), h.seq}
}

func (h *modelHistory) line(format string, args ...any) {
	if h.verbose {
		h.lines = append(h.lines, fmt.Sprintf("%14v  %s", time.Since(h.Start), fmt.Sprintf(format, args...)))
	}
}

func (h *modelHistory) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.line(format, args...)
}

func (h *modelHistory) moment() moment {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now()
}

func (h *modelHistory) called(c modelCall) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.To = h.now()
	h.Calls = append(h.Calls, c)
	h.line("p%d/%d %s(%s) of %v: %s %d %v", c.Proc, c.Account, c.Kind, short(c.Given), c.From.At.Sub(h.Start), short(c.Access), c.Status, c.Err)
}

func (h *modelHistory) sends(s modelSend) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.From = h.now()
	h.Sends = append(h.Sends, s)
	h.line("p%d/%d sends %s as #%d %s", s.Proc, s.Account, short(s.Refresh), len(h.Sends), s.Scope)
	return len(h.Sends)
}

func (h *modelHistory) sent(id, status int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.Sends[id-1]
	s.To, s.Status, s.Failed = h.now(), status, err != nil
	h.line("p%d/%d #%d answered %d %v (%s %s)", s.Proc, s.Account, id, status, err, s.Class, s.Fault)
}

func (h *modelHistory) drawn(id int, c classed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.Sends[id-1]
	s.Class, s.Fault = c.class, c.fault.Name
	if n, err := strconv.Atoi(c.fault.RetryAfter); err == nil {
		s.RetryAfter = min(time.Duration(n)*time.Second, time.Hour)
	}
}

func (h *modelHistory) signs(s modelSign) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.From = h.now()
	h.Signs = append(h.Signs, s)
	return len(h.Signs)
}

func (h *modelHistory) signed(id, status int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.Signs[id-1]
	s.To, s.Status = h.now(), status
	h.line("p%d/%d API of %v with %s answered %d %v", s.Proc, s.Account, s.From.At.Sub(h.Start), short(s.Access), status, err)
}

func (h *modelHistory) saved(s modelSave) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.When = h.now()
	h.Saves = append(h.Saves, s)
	h.line("p%d/%d saved %v %s", s.Proc, s.Account, s.Is, s.By)
}

func (h *modelHistory) loaded(l modelLoad) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l.When = h.now()
	h.Loads = append(h.Loads, l)
}

func (h *modelHistory) lands(l modelLate) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Lates = append(h.Lates, l)
	h.line("p%d's late %s, given up %v, dead %v", l.Proc, l.Op, l.GivenUp, l.Dead)
}

func (h *modelHistory) boots(b modelBoot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b.When = h.now()
	h.Boots = append(h.Boots, b)
}

func (h *modelHistory) begins(a *modelAsk) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a.From = h.now()
	h.Asks = append(h.Asks, a)
	h.line("p%d/%d asks somebody to log in", a.Proc, a.Account)
}

func (h *modelHistory) answers(a *modelAsk, result, given string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a.To, a.Result, a.Given = h.now(), result, given
	h.line("p%d/%d login %s %s", a.Proc, a.Account, result, short(given))
}

// origin takes note of a login at the server.
func (h *modelHistory) origin(refresh string, account int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Origins[familyOf(refresh)] = account
}

// foreign reports whether a request is not the library's.
func (h *modelHistory) foreign(id int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.Sends[id-1].Proc == 0
}

func (h *modelHistory) dies(d modelDeath) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d.When = h.now()
	h.Deaths = append(h.Deaths, d)
	h.line("p%d dies, crash %v", d.Proc, d.Crash)
}

func (h *modelHistory) event(e modelEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Events = append(h.Events, e)
	h.line("p%d/%d event %s of %v", e.Proc, e.Account, e.Kind, e.At.Sub(h.Start))
}

func (h *modelHistory) diskFault(proc int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Faults = append(h.Faults, modelFaultAt{proc, time.Now()})
}

// join adds to the sends what the server's log knows of them, and to the calls
// the logins that an Authenticator brought, which last until they are saved.
func (h *modelHistory) join() {
	for _, a := range h.Asks {
		if a.Given == "" {
			continue
		}
		c := modelCall{Proc: a.Proc, Account: a.Account, Kind: "login", From: a.To, To: h.now(), Given: a.Given, Err: errModelUnsaved, Brought: true}
		for _, v := range h.Saves {
			if v.Proc == a.Proc && v.By == "" && v.Is.family() == familyOf(a.Given) {
				c.To, c.Err = v.When, nil
				break
			}
		}
		h.Calls = append(h.Calls, c)
	}
	for _, e := range h.Entries {
		_, n, ok := strings.Cut(e.Fault, "#")
		id, _ := strconv.Atoi(n)
		if !ok || e.Endpoint != oauthtest.TokenEndpoint || id < 1 || id > len(h.Sends) {
			continue
		}
		s := &h.Sends[id-1]
		s.Outcome, s.Gen, s.Decided = e.Outcome, e.NewGeneration, e.Decided
	}
}
