package freshtoken_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/mark"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// decentHistory is one in which account 0 logs in and refreshes once, by process
// 1; process 2 adopts the tokens, and account 1 has no session.
func decentHistory() *modelHistory {
	h := &modelHistory{Start: time.Unix(0, 0), Origins: map[int]int{1: 0, 2: 0, 3: 1}, Server: oauthtest.Options{AccessLifetime: time.Minute}}
	first := modelRecord{Exists: true, Access: "at-1-1-x", Refresh: "rt-1-1-x", ID: "one", Generation: 1}
	second := modelRecord{Exists: true, Access: "at-1-2-x", Refresh: "rt-1-2-x", ID: "one", Generation: 2}
	h.Boots = []modelBoot{{Proc: 1}, {Proc: 2}}
	h.Calls = []modelCall{
		{Proc: 1, Kind: "login", Given: "rt-1-1-x", From: when(10), To: when(12)},
		{Proc: 1, Kind: "token", From: when(60), To: when(64), Access: "at-1-2-x", Expiry: when(120).At, Alive: true},
		{Proc: 2, Kind: "token", From: when(100), To: when(101), Access: "at-1-2-x", Alive: true, Final: true},
		{Proc: 2, Account: 1, Kind: "token", From: when(102), To: when(103), Err: freshtoken.ErrNoSession, Final: true},
	}
	h.Saves = []modelSave{{Proc: 1, When: when(11), Is: first}, {Proc: 1, When: when(63), Was: first, Is: second}}
	h.Sends = []modelSend{{Proc: 1, Refresh: "rt-1-1-x", From: when(61), To: when(62), Status: 200,
		Outcome: oauthtest.Granted, Gen: 2, Decided: when(61).At}}
	h.Signs = []modelSign{{Proc: 1, Access: "at-1-2-x", From: when(65), To: when(66), Status: 200}}
	h.Entries = []oauthtest.Entry{{Endpoint: oauthtest.TokenEndpoint, Outcome: oauthtest.Granted, Family: 1, Generation: 1, NewGeneration: 2}}
	h.End[0] = modelEnd{Living: true, Record: second, Alive: true}
	return h
}

// askBesideALogin has process 1 see that the store takes a session of account 1,
// be handed in a login, and ask somebody to log in.
func (h *modelHistory) askBesideALogin(asked moment) {
	in := modelRecord{Exists: true, Access: "at-3-1-x", Refresh: "rt-3-1-x", ID: "three", Generation: 1}
	h.Mode.Logins = true
	h.Saves = append(h.Saves, modelSave{Proc: 1, Account: 1, When: moment{when(80).At, 81}}, modelSave{Proc: 1, Account: 1, When: moment{when(80).At, 83}, Is: in})
	h.Calls = append(h.Calls, modelCall{Proc: 1, Account: 1, Kind: "login", Given: "rt-3-1-x", From: moment{when(80).At, 82}, To: when(85)})
	h.Calls[3].Access, h.Calls[3].Err, h.Calls[3].Alive = "at-3-1-x", nil, true
	h.End[1] = modelEnd{Living: true, Record: in, Alive: true}
	h.Asks = append(h.Asks, &modelAsk{Proc: 1, Account: 1, From: asked, To: when(90), Result: "failed"})
}

// when is a moment so many seconds after the start.
func when(s int) moment { return moment{time.Unix(int64(s), 0), s} }

// A check that cannot fail proves nothing: each invariant is broken here, and
// has to be reported.
func TestModelChecksFail(t *testing.T) {
	resend := func(h *modelHistory, proc, at int) *modelSend {
		h.Sends = append(h.Sends, modelSend{Proc: proc, Refresh: "rt-1-1-x", From: when(at), To: when(at + 1), Status: 400, Outcome: oauthtest.Reuse})
		return &h.Sends[0]
	}
	logout := func(h *modelHistory) {
		h.Calls = append(h.Calls, modelCall{Proc: 1, Kind: "logout", From: when(70), To: when(72)})
		h.Saves = append(h.Saves, modelSave{Proc: 1, When: when(71), Was: h.Saves[1].Is, Is: modelRecord{Exists: true, Ended: true, LoggedOut: true}})
		h.End[0] = modelEnd{Record: h.Saves[2].Is}
		h.Calls[2].Access, h.Calls[2].Err = "", freshtoken.ErrNoSession
	}
	// unsaved leaves what process 1 got out of the store, closes it without at
	// 70, and has process 2 send the spent token at 80.
	unsaved := func(h *modelHistory) (closing *modelCall) {
		resend(h, 2, 80)
		h.Saves = h.Saves[:1]
		h.Calls = append(h.Calls, modelCall{Proc: 1, Kind: "close", From: when(68), To: when(70), Err: freshtoken.ErrNotPersisted})
		h.Mode.Disk = true
		return &h.Calls[len(h.Calls)-1]
	}
	// ghost has process 1 die at 67, and its save land at 76, after process 2 has
	// looked at the time that is given, and before it saves what it saw.
	ghost := func(h *modelHistory, looked int) {
		resend(h, 2, 80)
		h.Deaths = []modelDeath{{Proc: 1, When: when(67), Crash: true}}
		h.Saves[1].When, h.Saves[1].By = when(76), "ghost"
		h.Saves = append(h.Saves, modelSave{Proc: 2, When: when(78), Was: h.Saves[1].Is, Is: h.Saves[0].Is})
		h.Loads = []modelLoad{{Proc: 2, Read: when(looked), When: when(77), Is: h.Saves[0].Is}}
		h.Mode.Late, h.Mode.Crashes = true, true
	}
	// reuse has process 1 hand out a token again that was rejected at 67, and that
	// somebody put back. ended is when it saw that the session was over.
	reuse := func(h *modelHistory, ended, restored int) {
		h.Mode.Backups = true
		h.Loads = append(h.Loads, modelLoad{Proc: 1, When: when(ended), Is: modelRecord{Exists: true, Ended: true, ID: "one", Generation: 2}})
		h.Saves = append(h.Saves, modelSave{When: when(restored), Is: h.Saves[1].Is, By: "backup"})
		h.Calls = append(h.Calls, modelCall{Proc: 1, Kind: "refresh", Given: "at-1-2-x", From: when(67), To: when(68), Err: errors.New("no")},
			modelCall{Proc: 1, Kind: "token", From: when(90), To: when(91), Access: "at-1-2-x"})
	}
	// again has process 1 save the record of a session that had ended, after a
	// login that could not be saved.
	again := func(h *modelHistory, proc int, given string) {
		h.Mode.Backups = true
		h.Loads = append(h.Loads, modelLoad{Proc: 1, When: when(70), Is: modelRecord{Exists: true, Ended: true, ID: "one", Generation: 2}})
		h.Calls = append(h.Calls, modelCall{Proc: proc, Kind: "login", Given: given, From: when(80), To: when(81), Err: freshtoken.ErrNotPersisted})
		h.Saves = append(h.Saves, modelSave{When: when(75), Is: h.Saves[0].Is, By: "backup"}, modelSave{Proc: 1, When: when(85), Is: h.Saves[0].Is})
	}
	// fork has a program without the lock write, at 75, a newer token in a record of
	// a generation, over what process 1 has stored. Process 2 knew the token that
	// process 1 spent in a record of three refreshes when it looked, and sends it.
	fork := func(h *modelHistory, generation uint64, looked int) {
		h.Mode.Forks = true
		known := h.Saves[0].Is
		known.Generation = 3
		forked := modelRecord{Exists: true, Access: "at-1-3-x", Refresh: "rt-1-3-x", ID: "one", Generation: generation}
		h.Loads = append(h.Loads, modelLoad{Proc: 2, Read: when(looked), When: when(looked), Is: known}, modelLoad{Proc: 2, Read: when(77), When: when(77), Is: forked})
		h.Saves = append(h.Saves, modelSave{When: when(75), Was: h.Saves[1].Is, Is: forked, By: "fork"}, modelSave{Proc: 2, When: when(79), Was: forked, Is: known})
		resend(h, 2, 80)
		h.Sends[1].Outcome = oauthtest.Granted
	}
	// aside has the server refuse a token for another target, and then the same
	// process send it again, as scope says.
	aside := func(h *modelHistory, class, scope string) {
		h.Mode.Targets, h.Mode.Refusals = true, true
		h.Sends = append(h.Sends, modelSend{Proc: 1, Refresh: "rt-1-2-x", Scope: "read", From: when(80), To: moment{when(81).At, 82}, Class: class, Status: 400, Outcome: oauthtest.Canned},
			modelSend{Proc: 1, Refresh: "rt-1-2-x", Scope: scope, From: moment{when(81).At, 83}, To: when(84), Status: 400, Outcome: oauthtest.FamilyDead})
		h.End[0] = modelEnd{Record: modelRecord{Exists: true, Ended: true}}
		h.Calls[2].Access, h.Calls[2].Err = "", freshtoken.ErrSessionEnded
	}
	// goBack has process 1 save an older record that was put back, after another
	// login that could not be saved.
	goBack := func(h *modelHistory) {
		h.Mode.Backups = true
		h.Calls = append(h.Calls, modelCall{Proc: 1, Kind: "login", Given: "rt-2-1-x", From: when(80), To: when(81), Err: freshtoken.ErrNotPersisted})
		h.Saves = append(h.Saves, modelSave{When: when(75), Is: h.Saves[0].Is, By: "backup"}, modelSave{Proc: 1, When: when(85), Is: h.Saves[0].Is})
	}
	for _, tt := range []struct {
		name   string
		want   string // the invariant; empty: all is well
		doctor func(*modelHistory)
	}{
		{"nothing", "", func(*modelHistory) {}},
		{"a logout", "", logout},
		{"a token is sent again after it was spent", "spent once", func(h *modelHistory) { resend(h, 2, 80) }},
		{"a token is sent again after a loss", "", func(h *modelHistory) {
			resend(h, 2, 80).Class = "lost"
			h.Mode.Lost = true
			h.Saves = append(h.Saves, modelSave{Proc: 2, When: when(79), Is: h.Saves[0].Is})
		}},
		{"a token is sent again after a crash, though its successor was saved", "spent once", func(h *modelHistory) {
			h.Deaths = []modelDeath{{Proc: 1, When: when(70), Crash: true}}
			resend(h, 2, 80)
		}},
		{"a token is sent again after it was refused", "spent once", func(h *modelHistory) {
			resend(h, 1, 80)
			h.Sends = append(h.Sends, h.Sends[1])
			h.Sends[2].From, h.Sends[2].To = when(90), when(91)
		}},
		{"a token is sent again after a Close that could not save its successor", "", func(h *modelHistory) { unsaved(h) }},
		{"a token is sent again, and Close said that its successor was saved", "spent once", func(h *modelHistory) { unsaved(h).Err = nil }},
		{"a token is sent again after the Close of another account", "spent once", func(h *modelHistory) { unsaved(h).Account = 1 }},
		{"a token is sent again before the Close that could not save its successor", "lost", func(h *modelHistory) {
			c := unsaved(h)
			c.From, c.To = when(81), when(82)
		}},
		{"a token is sent again while Close still tries to save its successor", "spent once", func(h *modelHistory) { unsaved(h).To = when(90) }},
		{"a token is sent again, and its successor was written too late", "", func(h *modelHistory) { ghost(h, 70) }},
		{"a token is sent again, though its successor was written late, and seen", "spent once", func(h *modelHistory) {
			ghost(h, 70)
			h.Loads = append(h.Loads, modelLoad{Proc: 2, Read: when(77), When: when(77), Is: h.Saves[1].Is})
		}},
		{"a successor that was written late is overwritten by who had not looked", "lost", func(h *modelHistory) { ghost(h, 60) }},
		{"a token is sent again by who knew more refreshes than a fork tells of", "", func(h *modelHistory) { fork(h, 2, 20) }},
		{"a token is sent again by who knew as many refreshes as a fork tells of", "spent once", func(h *modelHistory) { fork(h, 3, 20) }},
		{"a token is sent again by who knew fewer refreshes than a fork tells of", "spent once", func(h *modelHistory) { fork(h, 4, 20) }},
		{"a token is sent again beside a fork by who did not know it", "spent once", func(h *modelHistory) { fork(h, 2, 90) }},
		{"a token is sent again beside a fork of another session", "spent once", func(h *modelHistory) { fork(h, 2, 20); h.Saves[2].Is.ID = "two" }},
		{"a token is sent again before a fork", "spent once", func(h *modelHistory) { fork(h, 2, 20); h.Saves[2].When = when(81) }},
		{"a token is sent again, and a fork was before it was spent", "spent once", func(h *modelHistory) { fork(h, 2, 20); h.Saves[2].When = when(50) }},
		{"a token is sent again, and somebody else than a fork wrote fewer refreshes", "spent once", func(h *modelHistory) { fork(h, 2, 20); h.Saves[2].By = "ghost" }},
		{"a target is refused, and the session's own token, too", "", func(h *modelHistory) { aside(h, "ended", "") }},
		{"a target is refused, and asked for again", "spent once", func(h *modelHistory) { aside(h, "ended", "read") }},
		{"a target is refused, the store fails, and it is asked for again", "", func(h *modelHistory) {
			aside(h, "ended", "read")
			h.Faults, h.Mode.Disk = []modelFaultAt{{1, when(81).At}}, true
		}},
		{"a target is refused, the store of another process fails, and it is asked for again", "spent once", func(h *modelHistory) {
			aside(h, "ended", "read")
			h.Faults, h.Mode.Disk = []modelFaultAt{{2, when(81).At}}, true
		}},
		{"a target is refused after the store has failed, and asked for again", "spent once", func(h *modelHistory) {
			aside(h, "ended", "read")
			h.Faults, h.Mode.Disk = []modelFaultAt{{1, when(79).At}}, true
		}},
		{"a target is refused in other words, and the session's own token, too", "", func(h *modelHistory) { aside(h, "refused", "") }},
		{"a target is refused in other words, and asked for again at once", "budget", func(h *modelHistory) { aside(h, "refused", "read") }},
		{"the answer for a target is lost, and the session's own token asked for at once", "budget", func(h *modelHistory) { aside(h, "lost", "") }},
		{"another account's token for a target is saved", "accounts", func(h *modelHistory) { h.Saves[1].Is.Narrow = "at-3-1-x" }},
		{"a token for a target signs after a 401", "known dead", func(h *modelHistory) {
			h.Signs = append(h.Signs, modelSign{Proc: 1, Access: "at-1-3-x", From: when(50), To: when(51), Status: 401}, modelSign{Proc: 1, Access: "at-1-3-x", From: when(52), To: when(53), Status: 401})
		}},
		{"a session dies of reuse", "lost", func(h *modelHistory) { resend(h, 2, 80) }},
		{"a session ends and nobody refused it", "lost", func(h *modelHistory) {
			h.End[0] = modelEnd{Record: modelRecord{Exists: true, Ended: true}}
		}},
		{"a session is logged out by nobody", "lost", func(h *modelHistory) { logout(h); h.Calls[4].Kind = "token" }},
		{"a session vanishes", "lost", func(h *modelHistory) { h.End[0] = modelEnd{} }},
		{"an older login wins", "lost", func(h *modelHistory) {
			h.Calls = append(h.Calls, modelCall{Proc: 2, Kind: "login", Given: "rt-2-1-x", From: when(20), To: when(21)})
		}},
		{"the store has an old generation", "quiet", func(h *modelHistory) { h.End[0].Record = h.Saves[0].Is }},
		{"the store has dead tokens", "quiet", func(h *modelHistory) { h.End[0].Alive = false }},
		{"a process serves a dead token", "quiet", func(h *modelHistory) { h.Calls[2].Alive = false }},
		{"a process fails", "quiet", func(h *modelHistory) { h.Calls[2].Err = freshtoken.ErrLocked }},
		{"a process serves a session that is over", "quiet", func(h *modelHistory) { logout(h); h.Calls[2].Err = nil }},
		{"the background sleeps", "quiet", func(h *modelHistory) {
			h.Idle = []modelIdle{{Proc: 1, At: when(200).At, Kept: true, Status: freshtoken.Status{State: freshtoken.StateAlive, Expiry: when(120).At}}}
		}},
		{"an expired token is handed out", "known dead", func(h *modelHistory) { h.Calls[1].Expiry = h.Calls[1].To.At }},
		{"a rejected token is handed out", "known dead", func(h *modelHistory) {
			h.Calls = append(h.Calls, modelCall{Proc: 1, Kind: "refresh", Given: "at-1-2-x", From: when(62), To: when(63), Err: errors.New("no")})
		}},
		{"a rejected token is handed out, since nobody believes it", "", func(h *modelHistory) {
			h.Calls = append(h.Calls, modelCall{Proc: 1, Kind: "refresh", Given: "at-1-2-x", From: when(62), To: when(63), Err: errors.New("no")})
			h.Events = []modelEvent{{Proc: 1, Kind: freshtoken.EventOverBudget, At: when(63).At}}
			h.Mode.API = true
		}},
		{"a rejected token is put back, after the end of its session", "", func(h *modelHistory) { reuse(h, 70, 80) }},
		{"a token is rejected after the end of its session, and put back", "", func(h *modelHistory) { reuse(h, 66, 80) }},
		{"a rejected token is put back before the end of its session", "known dead", func(h *modelHistory) { reuse(h, 66, 65) }},
		{"a rejected token is put back, and its session has not ended", "known dead", func(h *modelHistory) { reuse(h, 95, 80) }},
		{"a rejected token is handed out after the end of its session, and another is put back", "known dead", func(h *modelHistory) {
			reuse(h, 70, 80)
			h.Saves[2].Is = h.Saves[0].Is
		}},
		{"a rejected token is handed out after the end of its session, and another is put back, and overruled", "", func(h *modelHistory) {
			reuse(h, 70, 80)
			h.Saves[2].Is = h.Saves[0].Is
			h.Saves = append(h.Saves, modelSave{Proc: 2, When: when(85), Was: h.Saves[0].Is, Is: h.Saves[1].Is})
		}},
		{"a token signs after a 401", "known dead", func(h *modelHistory) {
			h.Signs = append(h.Signs, modelSign{Proc: 1, Access: "at-1-2-x", From: when(50), To: when(51), Status: 401})
		}},
		{"an expired token signs", "known dead", func(h *modelHistory) { h.Signs[0].From = when(121) }},
		{"tokens are saved after a logout", "logged out", func(h *modelHistory) {
			logout(h)
			h.Saves = append(h.Saves, modelSave{Proc: 2, When: when(80), Was: h.Saves[2].Is, Is: h.Saves[1].Is})
		}},
		{"a refresh succeeds after a logout", "logged out", func(h *modelHistory) {
			logout(h)
			h.Sends = append(h.Sends, modelSend{Proc: 2, Refresh: "rt-1-2-x", From: when(80), To: when(81), Outcome: oauthtest.Granted, Gen: 3})
		}},
		{"a token is handed out after a logout", "logged out", func(h *modelHistory) {
			logout(h)
			h.Calls = append(h.Calls, modelCall{Proc: 1, Kind: "token", From: when(80), To: when(81), Access: "at-1-2-x"})
		}},
		{"a logout does nothing", "logged out", func(h *modelHistory) { logout(h); h.Saves = h.Saves[:2] }},
		{"another account's token is handed out", "accounts", func(h *modelHistory) { h.Calls[1].Access = "at-3-1-x" }},
		{"another account's token signs", "accounts", func(h *modelHistory) { h.Signs[0].Access = "at-3-1-x" }},
		{"another account's token is sent", "accounts", func(h *modelHistory) { h.Sends[0].Account = 1 }},
		{"another account's token is saved", "accounts", func(h *modelHistory) { h.Saves[1].Account = 1 }},
		{"a token is made up", "accounts", func(h *modelHistory) { h.Calls[1].Access = "evil" }},
		{"a deadline passes", "deadlines", func(h *modelHistory) { h.Calls[1].Deadline = when(63).At }},
		{"a call takes for ever", "deadlines", func(h *modelHistory) { h.Calls[1].From = when(-400) }},
		{"a login that an Authenticator brought is never saved", "", func(h *modelHistory) {
			h.Saves = append(h.Saves, modelSave{Proc: 1, Account: 1, When: when(70)})
			h.Asks = []*modelAsk{{Proc: 1, Account: 1, From: moment{when(70).At, 71}, To: when(80), Result: "succeeded", Given: "rt-3-1-x"}}
			h.seq = 200
			h.join()
		}},
		{"a login takes for ever", "deadlines", func(h *modelHistory) { h.Calls[0].From, h.Calls[0].To = when(-500), when(12) }},
		{"two requests overlap", "budget", func(h *modelHistory) { resend(h, 2, 62); h.Sends[0].To = when(65) }},
		{"Retry-After is ignored", "budget", func(h *modelHistory) {
			s := resend(h, 2, 80)
			s.Class, s.Status, s.Outcome, s.RetryAfter = "definite", 503, oauthtest.Canned, time.Minute
		}},
		{"a failure is not followed by a pause", "budget", func(h *modelHistory) {
			s := resend(h, 2, 62)
			s.Class, s.Status, s.Outcome, s.To = "definite", 503, oauthtest.Canned, moment{when(62).At, 61}
		}},
		{"every request refreshes", "budget", func(h *modelHistory) {
			for range 20 {
				h.Sends = append(h.Sends, h.Sends[0])
			}
		}},
		{"a request is malformed", "protocol", func(h *modelHistory) { h.Entries[0].Outcome = oauthtest.BadRequest }},
		{"a body is damaged", "protocol", func(h *modelHistory) { h.Entries[0].Outcome = oauthtest.DamagedBody }},
		{"somebody notices something", "calm", func(h *modelHistory) { h.Calls[1].Err = freshtoken.ErrLocked }},
		{"a deadline is used up before it is over", "calm", func(h *modelHistory) {
			h.Calls[1].Err, h.Calls[1].Deadline = context.DeadlineExceeded, when(70).At
		}},
		{"a token is sent that is not marked", "written ahead", func(h *modelHistory) { h.Saves = h.Saves[1:] }},
		{"an older record is written over a newer one", "never back", func(h *modelHistory) {
			h.Saves = append(h.Saves, modelSave{Proc: 1, When: when(80), Is: h.Saves[0].Is})
		}},
		{"a newer record is read and overwritten", "never back", func(h *modelHistory) {
			h.Loads = []modelLoad{{Proc: 2, When: when(80), Is: h.Saves[1].Is}}
			h.Saves = append(h.Saves, modelSave{Proc: 2, When: when(81), Is: h.Saves[0].Is})
		}},
		{"a backup is overruled", "", func(h *modelHistory) {
			h.Saves = append(h.Saves, modelSave{When: when(80), Is: h.Saves[0].Is, By: "backup"}, modelSave{Proc: 1, When: when(82), Is: h.Saves[1].Is})
			h.Loads = []modelLoad{{Proc: 1, When: when(81), Is: h.Saves[0].Is}}
		}},
		{"a backup undoes a logout for who knows of it", "never back", func(h *modelHistory) {
			logout(h)
			h.Saves[2].Is.ID = "one"
			h.Saves = append(h.Saves, modelSave{When: when(80), Is: h.Saves[1].Is, By: "backup"}, modelSave{Proc: 1, When: when(82), Is: h.Saves[1].Is})
		}},
		{"a backup undoes a logout for who knows of it, after another session", "never back", func(h *modelHistory) {
			logout(h)
			h.Saves[2].Is.ID = "one"
			next := modelRecord{Exists: true, Access: "at-2-1-x", Refresh: "rt-2-1-x", ID: "two", Generation: 1}
			h.Saves = append(h.Saves, modelSave{Proc: 1, When: when(75), Is: next}, modelSave{When: when(80), Is: h.Saves[1].Is, By: "backup"}, modelSave{Proc: 1, When: when(82), Is: h.Saves[1].Is})
		}},
		{"a backup's token is handed out by who has logged out, after another session", "logged out", func(h *modelHistory) {
			logout(h)
			next := modelRecord{Exists: true, Access: "at-2-1-x", Refresh: "rt-2-1-x", ID: "two", Generation: 1}
			h.Saves = append(h.Saves, modelSave{Proc: 1, When: when(75), Is: next}, modelSave{When: when(80), Is: h.Saves[1].Is, By: "backup"})
			h.Calls = append(h.Calls, modelCall{Proc: 1, Kind: "token", From: when(81), To: when(82), Access: "at-1-2-x"})
		}},
		{"a backup of another login with the same token is taken up", "", func(h *modelHistory) {
			logout(h)
			h.Mode.Backups = true
			first := h.Saves[1].Is
			first.ID = "before"
			h.Saves = append(h.Saves, modelSave{When: when(80), Is: first, By: "backup"})
			h.Calls = append(h.Calls, modelCall{Proc: 1, Kind: "token", From: when(81), To: when(82), Access: "at-1-2-x"})
		}},
		{"an older record is written after a login that was not saved", "never back", func(h *modelHistory) { goBack(h) }},
		{"an older record is written, since clocks say that the login is older", "", func(h *modelHistory) { goBack(h); h.Mode.Clocks = true }},
		{"a backup is taken up after the end of its session", "never back", func(h *modelHistory) { again(h, 1, "rt-2-1-x") }},
		{"a backup is taken up by who has handed in its token since", "", func(h *modelHistory) { again(h, 1, "rt-1-1-x") }},
		{"a backup of a refreshed session is taken up by who has handed in the token that it began with", "", func(h *modelHistory) {
			again(h, 1, "rt-1-1-x")
			h.Saves[2].Is, h.Saves[3].Is = h.Saves[1].Is, h.Saves[1].Is
		}},
		{"a backup is taken up by who has handed in a later token", "never back", func(h *modelHistory) { again(h, 1, "rt-1-2-x") }},
		{"an older record is written by who has had another login, and then handed in its token", "", func(h *modelHistory) {
			goBack(h)
			h.Calls = append(h.Calls, modelCall{Proc: 1, Kind: "login", Given: "rt-1-1-x", From: when(82), To: when(83), Err: freshtoken.ErrNotPersisted})
		}},
		{"an older record is written by who has handed in its token, and had no other login", "never back", func(h *modelHistory) {
			goBack(h)
			h.Calls[len(h.Calls)-1].Given = "rt-1-1-x"
		}},
		{"a backup is taken up since somebody else has handed in its token", "never back", func(h *modelHistory) { again(h, 2, "rt-1-1-x") }},
		{"a backup kills a session", "", func(h *modelHistory) {
			h.Saves = append(h.Saves, modelSave{When: when(75), Is: h.Saves[0].Is, By: "backup"}, modelSave{Proc: 2, When: when(79), Is: h.Saves[0].Is})
			resend(h, 2, 80)
			h.Mode.Backups = true
		}},
		{"a grace period is let pass while somebody waits", "in time", func(h *modelHistory) {
			resend(h, 1, 110).Class = "lost"
			h.Calls[1].To = when(112)
			h.Server.Grace = 30 * time.Second
		}},
		{"two are asked to log in", "logins", func(h *modelHistory) {
			h.Asks = []*modelAsk{{Proc: 1, Account: 1, From: when(20), To: when(30)}, {Proc: 2, Account: 1, From: when(25), To: when(30)}}
			for _, a := range h.Asks {
				h.Saves = append(h.Saves, modelSave{Proc: a.Proc, Account: 1, When: moment{a.From.At, a.From.Seq - 1}})
			}
		}},
		{"somebody is asked to log in though nobody knows whether the store works", "logins", func(h *modelHistory) {
			h.Asks = []*modelAsk{{Proc: 1, Account: 1, From: when(20), To: when(30)}}
		}},
		{"somebody is asked to log in who is", "logins", func(h *modelHistory) {
			h.Asks = []*modelAsk{{Proc: 1, From: moment{when(63).At, 64}, To: when(70)}}
		}},
		{"somebody is asked to log in who has just done so", "", func(h *modelHistory) { h.askBesideALogin(moment{when(80).At, 84}) }},
		{"somebody is asked to log in who did so a second ago", "logins", func(h *modelHistory) { h.askBesideALogin(moment{when(81).At, 84}) }},
		{"somebody is asked again at once", "logins", func(h *modelHistory) {
			for _, s := range []int{20, 25} {
				h.Saves = append(h.Saves, modelSave{Proc: 1, Account: 1, When: when(s - 1)})
				h.Asks = append(h.Asks, &modelAsk{Proc: 1, Account: 1, From: when(s), To: when(s + 1), Ordered: true, Result: "failed"})
			}
		}},
		{"a file is removed that nobody has saved", "imports", func(h *modelHistory) {
			h.Imports = []modelImport{{Proc: 1, Given: "rt-2-1-x", Gone: true}}
		}},
		{"an imported file stays", "imports", func(h *modelHistory) { h.Imports = []modelImport{{Proc: 1, Given: "rt-1-1-x"}} }},
		{"a caller sees a 401", "calm", func(h *modelHistory) {
			h.Calls = append(h.Calls, modelCall{Proc: 1, Kind: "get", From: when(90), To: when(92), Status: 401, Tries: 1})
		}},
		{"an error shows a token", "leaks", func(h *modelHistory) {
			h.Calls = append(h.Calls, modelCall{Proc: 1, Kind: "token", From: when(90), To: when(92), Err: fmt.Errorf("no: %w", errors.New(mark.New(mark.AccessToken)))})
		}},
		{"an event shows a token", "leaks", func(h *modelHistory) {
			h.Events = []modelEvent{{Proc: 1, Event: freshtoken.Event{Err: errors.New(mark.New(mark.RefreshToken))}}}
		}},
		{"a caller sees a 401, for the Source is closed meanwhile", "", func(h *modelHistory) {
			h.Calls = append(h.Calls, modelCall{Proc: 1, Kind: "get", From: when(90), To: when(92), Status: 401, Tries: 1},
				modelCall{Proc: 1, Kind: "close", From: when(91), To: when(93)})
		}},
		{"a caller sees a 401 though another Source is closed, or this one before", "calm", func(h *modelHistory) {
			h.Calls = append(h.Calls, modelCall{Proc: 1, Kind: "get", From: when(90), To: when(92), Status: 401, Tries: 1},
				modelCall{Proc: 1, Kind: "close", From: when(89), To: when(93)},
				modelCall{Proc: 1, Account: 1, Kind: "close", From: when(91), To: when(93)})
		}},
		{"the server refuses something", "calm", func(h *modelHistory) { h.Entries[0].Outcome = oauthtest.Expired }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := decentHistory()
			tt.doctor(h)
			got := h.check()
			named := false
			for _, line := range got {
				named = named || strings.HasPrefix(line, tt.want+": ")
			}
			if tt.want == "" && len(got) > 0 || tt.want != "" && !named {
				t.Errorf("want %q reported, got %q", tt.want, got)
			}
		})
	}
}

// A load counts for as long as the Source waits for it, a second longer than its
// context lasts.
func TestModelAwaited(t *testing.T) {
	for _, tt := range []struct {
		after, takes time.Duration // the context ends, the load takes
		want         bool
	}{{time.Hour, time.Minute, true}, {time.Minute, time.Minute + modelHang - 1, true}, {time.Minute, time.Minute + modelHang, false}, {0, 0, true}, {0, time.Minute, false}} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), tt.after)
			defer cancel()
			awaited := modelAwaited(ctx)
			time.Sleep(tt.takes)
			synctest.Wait()
			if got := awaited(); got != tt.want {
				t.Errorf("%+v: got %v", tt, got)
			}
		})
	}
}
