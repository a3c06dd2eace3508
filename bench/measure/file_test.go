package measure_test

import (
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/freshtoken/freshtoken/bench/measure"
)

func TestRunIsReadAsItWasWritten(t *testing.T) {
	run := measure.Run{Date: "2026-03-01", CPUs: 2, Modules: map[string]string{"m": "v1"}, Results: []measure.Result{
		{Measure: "token", Peer: "a", Values: map[string]float64{"serial.ns": 1.0 / 3}, Words: map[string]string{"w": "null\n}"}},
		{Measure: "token", Peer: "b", Note: "nothing", Series: map[string][]measure.Point{"s": {{X: -0.25, Y: 1234}, {X: 1.001, Y: 0.5}}}},
	}}
	for _, results := range [][]measure.Result{run.Results, nil} {
		run.Results = results
		name := filepath.Join(t.TempDir(), "run.json")
		if err := run.Write(name); err != nil {
			t.Fatal(err)
		}
		got, err := measure.Read(name)
		if len(results) == 0 {
			got.Results = nil
		}
		if err != nil || !reflect.DeepEqual(got, run) {
			t.Errorf("got %+v, %v, want %+v", got, err, run)
		}
	}
}

func TestPointsAreWrittenShort(t *testing.T) {
	for want, p := range map[string]measure.Point{
		"[0.3333,66.67]": {X: 1.0 / 3, Y: 200.0 / 3},
		"[0,712]":        {X: -0.00001, Y: 712},
		"[-0.5,0]":       {X: -0.5},
	} {
		data, err := p.MarshalJSON()
		if err != nil || string(data) != want {
			t.Errorf("%v: got %s, %v, want %s", p, data, err, want)
		}
	}
	for _, bad := range []measure.Point{{X: math.NaN()}, {Y: math.Inf(1)}} {
		if data, err := bad.MarshalJSON(); err == nil {
			t.Errorf("%v was written as %s", bad, data)
		}
	}
}

func TestLongSeriesAreThinned(t *testing.T) {
	var all []measure.Point
	for i := range 10679 {
		all = append(all, measure.Point{X: float64(i), Y: float64(i % 1000)})
	}
	name := filepath.Join(t.TempDir(), "run.json")
	run := measure.Run{Results: []measure.Result{{Series: map[string][]measure.Point{"long": all, "short": all[:400]}}}}
	if err := run.Write(name); err != nil {
		t.Fatal(err)
	}
	got, err := measure.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	long, short := got.Results[0].Series["long"], got.Results[0].Series["short"]
	if len(long) != 400 || long[0] != all[0] || long[399] != all[len(all)-1] || !reflect.DeepEqual(short, all[:400]) {
		t.Errorf("%d and %d points, from %v to %v", len(long), len(short), long[0], long[len(long)-1])
	}
	for i := range long[1:] {
		if d := long[i+1].X - long[i].X; d < 26 || d > 27 {
			t.Errorf("a step of %v", d)
		}
	}
	if n := len(run.Results[0].Series["long"]); n != len(all) {
		t.Errorf("the run itself was thinned to %d points", n)
	}
}

func TestReadRefusesWhatItDoesNotKnow(t *testing.T) {
	name := filepath.Join(t.TempDir(), "run.json")
	for _, text := range []string{`{"Date":"","Colour":"blue"}`, `{"Results":[{"Measure":"token","Vlaues":{}}]}`, `[]`, ``} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if run, err := measure.Read(name); err == nil {
			t.Errorf("%q was read as %+v", text, run)
		}
	}
}
