package freshtoken_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/oauthtest"
)

// What a killed program has sent cannot be called back. If the server gets to it
// only when the next program has been granted its own refresh, it sees a token
// twice, and ends the session. Nobody can help that, but the error says what
// has happened.
func TestKillLate(t *testing.T) {
	w := newProcWorld(t, oauthtest.Options{}, procPlace{})
	w.login()
	w.shift(-2 * time.Hour)
	victim := w.start(procOrder{})
	arrived, late := make(chan struct{}), make(chan struct{})
	goOn := sync.OnceFunc(func() { close(late) })
	t.Cleanup(goOn)
	w.as.Token.Next(oauthtest.Fault{Before: func(context.Context) error {
		close(arrived)
		<-late
		return nil
	}})
	victim.order(procOrder{Do: procToken})
	select {
	case <-arrived:
	case <-time.After(procPatience):
		t.Fatal("the request does not arrive")
	}
	victim.kill()

	next := w.start(procOrder{})
	if r := next.do(procOrder{Do: procToken}); r.Failed > 0 || r.Generation != 2 {
		t.Fatalf("the next start: generation %d, %s", r.Generation, r.Error)
	}
	next.finish()
	goOn()
	eventually(t, "the late request", func() bool { return w.as.Stats().FamilyKills == 1 })

	w.shift(-2 * time.Hour)
	for range 2 { // who asks the server, and who reads what became of it
		last := w.start(procOrder{})
		r := last.do(procOrder{Do: procToken})
		if r.Ended != 1 || !r.Interrupted {
			t.Errorf("ended: %v, interrupted: %v: %s", r.Ended == 1, r.Interrupted, r.Error)
		}
		last.finish()
	}
}

// Once a refresh has been granted after that, nothing is left of it.
func TestKillIsForgotten(t *testing.T) {
	k := &killing{t: t, procWorld: newProcWorld(t, oauthtest.Options{}, procPlace{})}
	k.login()
	k.strike(killPlan{name: "marked", hold: holdAfterMark})
	for range 2 {
		p := k.start(procOrder{})
		if r := p.do(procOrder{Do: procToken}); r.Failed > 0 {
			t.Fatal(r.Error)
		}
		p.finish()
		k.shift(-2 * time.Hour)
	}
	k.as.RevokeFamily(k.record().RefreshToken)
	p := k.start(procOrder{})
	if r := p.do(procOrder{Do: procToken}); r.Ended != 1 || r.Interrupted {
		t.Errorf("ended: %v, interrupted: %v: %s", r.Ended == 1, r.Interrupted, r.Error)
	}
	p.finish()
}
