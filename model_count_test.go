package freshtoken_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/figures"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// modelCounts is what has happened in many histories: a kind of event that never
// occurs proves nothing.
type modelCounts struct {
	mu sync.Mutex // guards n
	n  map[string]int
}

// modelEvents are the kinds of events that must occur in a thousand histories.
var modelEvents = []string{"refreshes", "narrow", "crashes", "restarts", "logouts", "forgets", "logins", "imports",
	"wrong-clocks", "foreign-times", "grace", "old-access-killed", "backups", "backups-behind", "backups-overruled", "forks", "forks-landed",
	"late-save", "late-load", "late-lock", "late-dead",
	"asked", "asked-succeeded", "asked-failed", "asked-left", "asked-by-order"}

func (m *modelCounts) add(h *modelHistory) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, n := range h.count() {
		m.n[name] += n
	}
}

// count is what happened in one history.
func (h *modelHistory) count() map[string]int {
	n := map[string]int{"histories": 1, "refreshes": h.Stats.Refreshes, "grace": h.Stats.GraceUses, "restarts": len(h.Boots),
		"calls": len(h.Calls), "shown": len(h.Events) + len(h.Idle), "backups-overruled": h.overruled()}
	for i := range h.Sends {
		if h.Sends[i].Outcome == oauthtest.Reuse {
			n["lost by "+h.whyLost(i)]++
		}
		if h.Sends[i].Proc == 0 {
			n["forks"]++
		}
		if h.Sends[i].Scope != "" && h.Sends[i].received() {
			n["narrow"]++
		}
	}
	for _, v := range h.Saves {
		switch v.By {
		case "backup":
			n["backups"]++
			if v.Was.ID == v.Is.ID && v.Is.alive() && v.Is.Generation < v.Was.Generation {
				n["backups-behind"]++
			}
		case "fork":
			n["forks-landed"]++
		}
	}
	h.countCalls(n)
	h.countTrouble(n)
	return n
}

func (h *modelHistory) countCalls(n map[string]int) {
	for _, c := range h.Calls {
		if c.Err != nil {
			n["shown"]++
		}
		switch {
		case c.Forget:
			n["forgets"]++
		case c.loggedOut():
			n["logouts"]++
		case c.Kind == "login" && c.Err == nil:
			n["logins"]++
		case errors.Is(c.Err, freshtoken.ErrSessionExists):
			n["imports-refused"]++
		}
	}
	for _, m := range h.Imports {
		if m.Gone {
			n["imports"]++
		}
	}
	for _, a := range h.Asks {
		n["asked"]++
		n["asked-"+a.Result]++
		if a.Ordered {
			n["asked-by-order"]++
		}
	}
}

func (h *modelHistory) countTrouble(n map[string]int) {
	for _, d := range h.Deaths {
		if d.Crash {
			n["crashes"]++
		}
	}
	for _, b := range h.Boots {
		if b.Skew != 0 {
			n["wrong-clocks"]++
		}
	}
	for _, l := range h.Lates {
		switch {
		case l.Dead:
			n["late-dead"]++
		case l.GivenUp:
			n["late-"+l.Op]++
		}
	}
	writer := [modelAccounts]int{}
	events := h.Saves
	for _, l := range h.Loads { // times that a clock wrote which disagrees
		for len(events) > 0 && events[0].When.Seq < l.When.Seq {
			writer[events[0].Account] = events[0].Proc
			events = events[1:]
		}
		if h.skew(writer[l.Account]) != h.skew(l.Proc) {
			n["foreign-times"]++
		}
	}
	if h.Server.KillOldAccess {
		for _, s := range h.Signs {
			if s.Status == 401 && h.outdated(&s) {
				n["old-access-killed"]++
			}
		}
	}
}

// outdated reports whether a refresh had brought a newer access token when s was
// signed.
func (h *modelHistory) outdated(s *modelSign) bool {
	return slices.ContainsFunc(h.Sends, func(b modelSend) bool {
		return b.Outcome == oauthtest.Granted && b.family() == familyOf(s.Access) && b.Gen > generationOf(s.Access) && b.From.Seq < s.To.Seq
	})
}

// overruled counts the old records that were put back and replaced by a process
// that knew better.
func (h *modelHistory) overruled() (n int) {
	for i, v := range h.Saves {
		if v.By != "backup" {
			continue
		}
		next := slices.IndexFunc(h.Saves[i+1:], func(w modelSave) bool { return w.Account == v.Account })
		if next < 0 {
			continue
		}
		if w := h.Saves[i+1+next]; w.By == "" && w.Is.ID == v.Is.ID && v.Is.alive() && (w.Is.Generation > v.Is.Generation || w.Is.LoggedOut) {
			n++
		}
	}
	return n
}

// record checks that everything has occurred, and keeps the figures.
func (m *modelCounts) record(t *testing.T, prefix string, took time.Duration) {
	t.Helper()
	if m.n["histories"] < 1000 {
		return
	}
	for _, name := range modelEvents {
		if m.n[name] == 0 {
			t.Errorf("%s have not occurred in %d histories", name, m.n["histories"])
		}
	}
	var causes []string
	lost := 0
	for _, name := range slices.Sorted(maps.Keys(m.n)) {
		if cause, ok := strings.CutPrefix(name, "lost by "); ok && cause != "" {
			causes = append(causes, fmt.Sprintf("%s %d", cause, m.n[name]))
			lost += m.n[name]
			continue
		}
		figures.Record(t, prefix+"."+name, fmt.Sprint(m.n[name]))
	}
	figures.Record(t, prefix+".avoidable", fmt.Sprint(m.n["lost by "]))
	figures.Record(t, prefix+".unavoidable", fmt.Sprint(lost))
	figures.Record(t, prefix+".causes", strings.Join(causes, ", "))
	figures.Record(t, prefix+".time", took.Round(time.Second).String())
}
