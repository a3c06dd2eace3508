package measure

import (
	"context"
	"fmt"

	"github.com/freshtoken/freshtoken/bench/peers"
)

// Token is the time that a valid token takes: from one goroutine, and from 64
// on each of 1, 2 and 8 processors.
var Token = Measure{
	Name: "token",
	Doc:  "Token() while the token is valid, from one goroutine and from many",
	Run:  runToken,
}

func runToken(ctx context.Context, o Options) ([]Result, error) {
	l := newLoaded(hotToken())
	failed := new(failure)
	results := []Result{{Measure: "token", Peer: floorLoad}, {Measure: "token", Peer: floorClock}}
	subjects := []subject{tokenSubject(floorLoad, l.load, failed), tokenSubject(floorClock, l.loadInTime, failed)}
	for _, p := range o.Peers {
		r := Result{Measure: "token", Peer: p.Name}
		s, err := p.Open(hotSetup())
		switch {
		case err != nil:
			r.Note = err.Error()
		case s.Token == nil:
			r.Note = "no token function beside its transport"
		default:
			subjects = append(subjects, tokenSubject(p.Name, s.Token, failed))
		}
		if err == nil {
			defer end(s)
		}
		results = append(results, r)
	}
	h := &hot{options: o, floor: floorClock}
	h.count("serial.", subjects)
	for _, mode := range []struct {
		prefix string
		procs  int
	}{{"serial.", 0}, {"p1.", 1}, {"p2.", 2}, {"p8.", 8}} {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h.time(mode.prefix, mode.procs, subjects)
	}
	return h.fill(results), failed.get()
}

func tokenSubject(name string, token func(context.Context) (string, error), failed *failure) subject {
	ctx := context.Background()
	return subject{name, func() func(int) {
		return func(n int) {
			for range n {
				if _, err := token(ctx); err != nil {
					failed.set(fmt.Errorf("%s: %w", name, err))
					return
				}
			}
		}
	}}
}

func end(s *peers.Session) {
	if s.Close != nil {
		s.Close()
	}
}
