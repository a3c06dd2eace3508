package measure

import (
	"context"
	"fmt"
	"net/http"
)

// RoundTrip is what a transport adds to a request: a GET with a token that is
// valid, over a base that answers at once.
var RoundTrip = Measure{
	Name: "roundtrip",
	Doc:  "RoundTrip over a base that does nothing, with 0, 5 and 20 headers",
	Run:  runRoundTrip,
}

func runRoundTrip(ctx context.Context, o Options) ([]Result, error) {
	results, transports := floorTransports()
	for _, p := range o.Peers {
		r := Result{Measure: "roundtrip", Peer: p.Name}
		setup := hotSetup()
		s, err := p.Open(setup)
		if err != nil {
			r.Note = err.Error()
		} else {
			defer end(s)
			if s.Transport == nil {
				r.Note = "no transport: around the token stands what its users write"
			}
			transports[p.Name] = s.RoundTripper(setup.Base)
		}
		results = append(results, r)
	}
	h := &hot{options: o, floor: floorCopy}
	failed := new(failure)
	for _, headers := range []int{0, 5, 20} {
		var subjects []subject
		for _, r := range results {
			if rt := transports[r.Peer]; rt != nil {
				subjects = append(subjects, roundTripSubject(r.Peer, rt, headers, failed))
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		prefix := fmt.Sprintf("%d.", headers)
		h.count(prefix, subjects)
		h.time(prefix, 0, subjects)
		h.time(prefix+"p2.", 2, subjects)
	}
	return h.fill(results), failed.get()
}

// floorTransports returns the floors, and an empty result for each.
func floorTransports() ([]Result, map[string]http.RoundTripper) {
	tok := hotToken()
	header := "Bearer " + tok.AccessToken
	cp, tm := &copying{base: bare{}}, &timed{copying: copying{base: bare{}}, expiry: tok.Expiry}
	cp.value.Store(&[]string{header})
	tm.value.Store(&[]string{header})
	transports := map[string]http.RoundTripper{floorBare: bare{}, floorCopy: cp, floorTimed: tm, floorStatic: static{bare{}, header}}
	var results []Result
	for _, name := range []string{floorBare, floorCopy, floorTimed, floorStatic} {
		results = append(results, Result{Measure: "roundtrip", Peer: name})
	}
	return results, transports
}

func roundTripSubject(name string, rt http.RoundTripper, headers int, failed *failure) subject {
	return subject{name, func() func(int) {
		req, err := http.NewRequest(http.MethodGet, hotOrigin+"/v1/things?page=1", nil)
		if err != nil {
			failed.set(err)
			return func(int) {}
		}
		for i := range headers {
			req.Header.Set(fmt.Sprintf("X-Header-%d", i), "value")
		}
		return func(n int) {
			for range n {
				resp, err := rt.RoundTrip(req)
				if err != nil {
					failed.set(fmt.Errorf("%s: %w", name, err))
					return
				}
				resp.Body.Close()
			}
		}
	}}
}
