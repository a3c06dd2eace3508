package main

import (
	"math"
	"math/rand/v2"
	"strings"

	"github.com/freshtoken/freshtoken/bench/measure"
)

// sample is a run that might have been: its numbers are made up, and in kind
// like those of a real one.
func sample() measure.Run {
	run := measure.Run{
		Date: "2026-03-01", Go: "go1.26.8", System: "linux/amd64", CPU: "A Processor", CPUs: 2, Command: "go run . -o run.json",
		Modules: map[string]string{"golang.org/x/oauth2": "v0.37.0", "github.com/freshtoken/freshtoken": "v0.0.0"},
	}
	for _, part := range [][]measure.Result{
		sampleToken(), sampleRoundTrip(), sampleBoundary(), sampleWake(), sampleStorm(),
		sampleOutage(), sampleCancel(), sampleProcesses(), sampleRest(),
	} {
		run.Results = append(run.Results, part...)
	}
	return run
}

// rows makes results: the peer, and the values of the names, in their order.
func rows(name string, names string, all ...[]any) []measure.Result {
	var out []measure.Result
	for _, row := range all {
		r := measure.Result{Measure: name, Peer: row[0].(string), Values: map[string]float64{}, Words: map[string]string{}}
		for i, n := range strings.Fields(names) {
			n = strings.ReplaceAll(n, "+", " ")
			if i+1 >= len(row) {
				r.Note = "It has nothing of the kind outside its transport."
				break
			}
			switch v := row[i+1].(type) {
			case float64:
				r.Values[n] = v
			case int:
				r.Values[n] = float64(v)
			case string:
				r.Words[n] = v
			}
		}
		out = append(out, r)
	}
	return out
}

func sampleToken() []measure.Result {
	var out []measure.Result
	for _, peer := range []struct {
		name      string
		ns, bytes float64
	}{{"freshtoken", 38.4, 0}, {"freshtoken, Background", 38.2, 0}, {"x/oauth2", 90.3, 0}, {"azcore", 0, 0},
		{"MSAL + extensions cache", 4658, 1264}, {"floor: atomic load", 2.82, 0}, {"floor: atomic load + time.Now", 38, 0}} {
		r := measure.Result{Measure: "token", Peer: peer.name, Values: map[string]float64{}}
		if peer.ns == 0 {
			r.Note = "It has no function beside its transport that returns a token."
		}
		for i, p := range []string{"serial", "p1", "p2", "p8"} {
			if peer.ns > 0 {
				ns := peer.ns / float64(1+i/2)
				r.Values[p+".ns"] = ns
				r.Values[p+".floor.ratio"], r.Values[p+".xoauth2.ratio"] = peer.ns/38, peer.ns/90.3
			}
		}
		if peer.ns > 0 {
			r.Values["serial.bytes"], r.Values["serial.allocs"] = peer.bytes, math.Trunc(peer.bytes/80)
		}
		out = append(out, r)
	}
	return out
}

func sampleRoundTrip() []measure.Result {
	var out []measure.Result
	for _, peer := range []struct {
		name       string
		ns, allocs float64
	}{{"freshtoken", 412, 4}, {"x/oauth2", 785, 7}, {"azcore", 3351, 35}, {"floor: bare", 63.1, 1}, {shallow, 401, 4}} {
		r := measure.Result{Measure: "roundtrip", Peer: peer.name, Values: map[string]float64{}}
		for i, p := range []string{"0", "5", "20"} {
			n := float64(i + 1)
			r.Values[p+".ns"], r.Values[p+".bytes"], r.Values[p+".allocs"] = peer.ns*n, 160*peer.allocs*n, peer.allocs+n-1
			r.Values[p+".p2.ns"] = peer.ns * n / 2
			for _, p := range []string{p, p + ".p2"} {
				r.Values[p+".floor.ratio"], r.Values[p+".xoauth2.ratio"] = peer.ns/401, peer.ns/785
			}
		}
		out = append(out, r)
	}
	return out
}

func sampleBoundary() []measure.Result {
	out := rows("boundary", "p50.ms p99.ms p99.9.ms max.ms stalled.count calls.count errors.count p99.9.control.ratio",
		[]any{"freshtoken", .0022, .024, .561, 502, 1, 1, 0, 1.01},
		[]any{"freshtoken, Background", .0022, .024, .548, 5.1, 0, 1, 0, .99},
		[]any{"x/oauth2", .0024, 460, 498, 505, 200, 1, 0, 897},
		[]any{"google auth", .0028, .049, .793, 5.5, 0, 1, 0, 1.43},
		[]any{"azcore, short tokens", .0089, .219, 489, 503, 200, 1, 0, 881},
		[]any{"azcore", .0099, .053, .419, 502, 1, 1, 0, .75},
		[]any{"k8s client-go", .0029, .136, 488, 503, 200, 1, 2, 879},
		[]any{"aws smithy-go", .0026, .047, .805, 5.5, 0, 1, 0, 1.45},
		[]any{"MSAL + extensions cache", .0045, .347, 505, 525, 200, 3, 0, 910},
		[]any{"x/oauth2 + save-to-file", .0025, .447, 499, 515, 200, 1, 0, 899},
		[]any{"control: never refreshes", .0022, .024, .555, 5.8, 0, 0, 0, 1})
	random := rand.New(rand.NewPCG(1, 2))
	for i := range out {
		var pts []measure.Point
		for x := -0.2475; x < 1; x += 0.005 {
			y := out[i].Values["p99.ms"] * random.Float64() / 100
			switch waits := out[i].Values["stalled.count"]; {
			case waits == 200 && x > 0 && x <= 0.1:
				y = 500 - 1000*x
			case waits == 200 && (x > 0.1 && x < 0.5 || x > 0.5 && math.Mod(x, 0.1) > 0.01):
				continue // and afterwards they come together
			case waits == 1 && x > 0 && x < 0.005:
				y = 500
			}
			pts = append(pts, measure.Point{X: math.Round(x*1e4) / 1e4, Y: math.Round(y*1e4) / 1e4})
		}
		out[i].Values["age.s"], out[i].Values["slow.count"] = 35, 3*out[i].Values["stalled.count"]
		out[i].Series = map[string][]measure.Point{latencySeries: pts}
	}
	return out
}

func sampleWake() []measure.Result {
	return rows("wake", "slowest.ms calls.count errors.count stalled.count p99.9.ms p99.9.control.ratio idle.calls.count",
		[]any{"freshtoken", 502, 1, 0, 200, 1.2, 418, 0}, []any{"freshtoken, Background", 1.2, 0, 0, 0, 1.15, 1.04, 1},
		[]any{"x/oauth2", 502, 1, 0, 200, 1.1, 456, 0}, []any{"azcore", 503, 1, 0, 200, 1.3, 387, 0})
}

func sampleStorm() []measure.Result {
	return rows("storm", "caught.count unauthorized.count errors.count calls.count rejected.count damaged.count served.s",
		[]any{"freshtoken", 0, 0, 0, 1, 1000, 0, .66}, []any{"x/oauth2", 1000, 24110, 0, 0, 24110, 0}, []any{"azcore", 1000, 1000, 0, 5, 1000, 0, .677})
}

func sampleOutage() []measure.Result {
	out := rows("outage", "10s.errors.count 10s.calls.count 10s.peak.count 10s.slowest.ms 10s.settled.s 16s.errors.count 16s.calls.count 16s.peak.count 16s.slowest+error.ms 16s.settled.s",
		[]any{"freshtoken", 0, 5, 1, 2.1, 0, 240, 8, 1, .4, .019},
		[]any{"x/oauth2", 431, 431, 48, 1040, .019, 712, 712, 48, 1050, .45},
		[]any{"azcore", 0, 1, 1, 23.8, 0, 238, 239, 48, 5030, .01},
		[]any{"k8s client-go", 0, 0, 0, 21.5, 0, 237, 237, 48, 1180, .001},
		[]any{"google auth", 1, 1, 1, 21.7, 1, 235, 236, 48, 1080, .001},
		[]any{"aws smithy-go", 0, 408, 46, 4.2, 0, 4015, 671, 46, 44, .005},
		[]any{"MSAL + extensions cache", 6689, 6689, 672, 120, .019, 10678, 10678, 672, 157, .45},
		[]any{"aws ssocreds", 0, 1, 1, 23, .019, 240, 241, 48, 1050, .45},
		[]any{"x/oauth2 + save-to-file", 431, 431, 48, 1040, .019, 712, 708, 48, 1050, .45},
		[]any{"freshtoken, Background", 0, 5, 1, 2.1, 0, 240, 8, 1, .4, .019})
	for i := range out {
		out[i].Values["10s.errors.alive.count"], out[i].Values["16s.errors.alive.count"] = out[i].Values["10s.errors.count"], 0
		total := out[i].Values["16s.calls.count"]
		var pts []measure.Point
		for n := 1.0; n <= total; n++ {
			var x float64
			switch {
			case total < 100:
				x = 2 * (n - 1)
			case total > 500: // from the beginning on
				x = 16 * n / total
			default:
				x = 11 + 5*n/total
			}
			pts = append(pts, measure.Point{X: round(x), Y: n})
		}
		for _, o := range []string{"10s.", "16s."} {
			out[i].Values[o+"requests.count"], out[i].Values[o+"early.count"], out[i].Values[o+"refreshed.s"] = 22777, max(0, total-8), 1.2
		}
		out[i].Series = map[string][]measure.Point{outageSeries: pts}
	}
	return out
}

func sampleCancel() []measure.Result {
	return rows("cancel", "waiter.ms initiator.ms calls.count refresh+survived other+caller other.ms family+survived next+request",
		[]any{"freshtoken", 50.2, 50.3, 1, "yes", "success", 4980, "yes", "success"}, []any{"x/oauth2", 4810, 5010, 1, "yes", "success", 4980, "yes", "success"},
		[]any{"azcore", 4810, 50.3, 2, "no", "error", 5030, "no", "error"})
}

func sampleProcesses() []measure.Result {
	out := rows("processes", "rotations.count reuses.count invalid_grant.count failed.count calls.count family",
		[]any{"freshtoken", 4, 0, 0, 0, 12720, "yes"},
		[]any{"freshtoken, Background", 4, 0, 0, 0, 12722, "yes"},
		[]any{"k8s client-go, kubeconfig", 1, 1, 755, 378, 618, "no"},
		[]any{"MSAL + extensions cache", 1, 1, 2439, 2440, 6431, "no"},
		[]any{"aws ssocreds", 1, 1, 326, 3270, 6088, "no"},
		[]any{"x/oauth2 + save-to-file", 1, 1, 682, 683, 1083, "no"})
	for i := range out {
		out[i].Series = make(map[string][]measure.Point)
		for n, name := range processSeries {
			dies := 0.0
			if n == (3*i)%8 || i == 3 {
				dies = 2.1
			}
			if out[i].Words["family"] == "yes" {
				dies = math.Inf(1)
			}
			var pts []measure.Point
			for x := 0.0; x < 8; x += 0.5 {
				y := 100 * max(0, min(1, 2*(dies-x)))
				pts = append(pts, measure.Point{X: x, Y: math.Round(y)})
			}
			out[i].Series[name] = pts
		}
	}
	return append(out, measure.Result{Measure: "processes", Peer: "google auth", Note: "It stores nothing."})
}

func sampleRest() []measure.Result {
	var out []measure.Result
	for _, r := range []string{"freshtoken safe safe safe safe", "x/oauth2 LEAK LEAK LEAK LEAK"} {
		w := strings.Fields(r)
		out = append(out, measure.Result{Measure: "redirects", Peer: w[0],
			Words: map[string]string{"302 to another host": w[1], "307 to another host": w[2], "307 to another port": w[3], "307 from the token endpoint": w[4]}})
	}
	out = append(out, rows("save", "save.ns save.floor.ratio load.ns load.floor.ratio refresh.ns refresh.floor.ratio refresh.writes.count file+system",
		[]any{"freshtoken", 4.1e6, 1.12, 61e3, 1.4, 8.4e6, 1.21, 2, "ext4"}, []any{"freshtoken, passphrase", 4.2e6, 1.14, 62e3, 1.41},
		[]any{"floor: bare durable write", 3.7e6}, []any{"floor: read and decrypt"})...)
	for i := range out[2:] {
		v := out[2+i].Values
		for _, name := range []string{"save.ns", "save.floor.ratio", "load.ns", "load.floor.ratio"} {
			if x, ok := v[name]; ok {
				v["idtoken."+name] = 1.1 * x
			}
		}
		out[2+i].Note = ""
	}
	out[4].Values["save.bytes"], out[4].Values["idtoken.save.bytes"] = 1586, 4672
	out[5].Values["load.ns"], out[5].Values["idtoken.load.ns"] = 43e3, 47e3
	out = append(out, rows("coldstart", "ms plaintext.ratio exit.ms exit.plaintext.ratio binary.bytes calls.count",
		[]any{"plaintext file", 12.4, 1.0, 12.9, 1.0, 9.1e6, 0}, []any{keyFile, 13.9, 1.12, 14.4, 1.11, 9.9e6, 0},
		[]any{"freshtoken, key in the keyring", 18.2, 1.47, 19.0, 1.48, 10.2e6, 0})...)
	for _, peer := range []string{"freshtoken", "x/oauth2"} {
		out = append(out, rows("accounts", "heap.bytes goroutines.count open.ms token.ns", []any{peer, 3258.4, 0, 41, 55})...)
	}
	return out
}

// without returns a run without some of its results.
func without(run measure.Run, drop func(measure.Result) bool) measure.Run {
	var kept []measure.Result
	for _, r := range run.Results {
		if !drop(r) {
			kept = append(kept, r)
		}
	}
	run.Results = kept
	return run
}
