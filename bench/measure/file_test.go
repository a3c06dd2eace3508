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
