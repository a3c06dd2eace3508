package main

import (
	"flag"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken/bench/measure"
	"github.com/freshtoken/freshtoken/bench/peers"
)

var update = flag.Bool("update", false, "write testdata anew")

var libraries = []peers.Peer{peers.Freshtoken, peers.FreshtokenBackground, peers.XOAuth2}

// The page and the pictures of bench/run.json are those in docs.
func TestStoredRun(t *testing.T) {
	run, err := measure.Read("../run.json")
	if err != nil {
		t.Fatal(err)
	}
	files, wrong := report(run, peers.All())
	if wrong != nil {
		t.Error(wrong)
	}
	if err := compare("../../docs", files); err != nil {
		t.Error(err)
	}
}

// With -artifacts, the files can be looked at.
func TestPageOfSample(t *testing.T) {
	files, err := report(sample(), libraries)
	if err != nil {
		t.Error(err)
	}
	if err := write(t.ArtifactDir(), files); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/performance.md"
	if *update {
		if err := os.WriteFile(golden, files["performance.md"], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(string(files["performance.md"]), "\n")
	for i, line := range strings.Split(strings.ReplaceAll(string(want), "\r\n", "\n"), "\n") {
		if i >= len(got) || got[i] != line {
			t.Fatalf("line %d of the page is\n%s\nwant\n%s\nIf it is meant to be so: go test ./report -update", i+1, slices.Concat(got, make([]string, i+1))[i], line)
		}
	}
	for i := range tables {
		if text := tables[i].markdown(nil); text != notMeasured {
			t.Errorf("without results, the table %s is %q", tables[i].name, text)
		}
	}
}

// change returns the sample with one of its results changed.
func change(name, peer string, f func(*measure.Result)) measure.Run {
	run := sample()
	for i := range run.Results {
		if run.Results[i].Measure == name && run.Results[i].Peer == peer {
			f(&run.Results[i])
		}
	}
	return run
}

func TestNothingIsLostSilently(t *testing.T) {
	for name, c := range map[string]struct {
		run  measure.Run
		want []string
	}{
		"a value":   {change("storm", "azcore", func(r *measure.Result) { r.Values["new.count"] = 1 }), []string{"storm", "azcore", `"new.count"`}},
		"a word":    {change("cancel", "azcore", func(r *measure.Result) { r.Words["mood"] = "bad" }), []string{"cancel", "azcore", `"mood"`}},
		"a series":  {change("boundary", "azcore", func(r *measure.Result) { r.Series["mood"] = nil }), []string{"boundary", "azcore", `"mood"`}},
		"a measure": {change("wake", "azcore", func(r *measure.Result) { r.Measure = "sleep" }), []string{"sleep"}},
		"a value with another name": {change("accounts", byDefault, func(r *measure.Result) {
			delete(r.Values, "open.ms")
			r.Values["opening.ms"] = 1
		}), []string{"accounts", `"opening.ms"`}},
		"a value that nobody has": {without(sample(), func(r measure.Result) bool {
			return r.Measure == "save" && r.Peer != "floor: bare" && delete2(r.Values, "load.ns")
		}), []string{"save", `"load.ns"`}},
		"a measure that was left out": {without(sample(), func(r measure.Result) bool { return r.Measure == "storm" }), []string{"measure storm"}},
		"a picture":                   {without(sample(), func(r measure.Result) bool { return r.Measure == "boundary" }), []string{"picture latency"}},
	} {
		files, err := report(c.run, libraries)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error does not name %s: %v", name, want, err)
			}
		}
		if len(files["performance.md"]) == 0 {
			t.Errorf("%s: there is no page", name)
		}
	}
}

// delete2 deletes a value, and keeps the result.
func delete2(values map[string]float64, name string) bool {
	delete(values, name)
	return false
}

func TestMissedTargets(t *testing.T) {
	had := maps.Clone(reasons)
	defer func() { reasons = had }()
	set := func(v string, x float64) func(*measure.Result) {
		return func(r *measure.Result) { r.Values[v] = x }
	}
	for name, c := range map[string]struct {
		target, want string
		run          measure.Run
	}{
		"a ratio":           {"token.ns", "| serial 1.01×, on 1 processor 1.01×, on 2 1.32×, on 8 1.01× | **missed** by 20 %", change("token", byDefault, set("p2.floor.ratio", 1.32))},
		"the worst":         {"roundtrip.ns", "**missed** by 50 %", change("roundtrip", byDefault, func(r *measure.Result) { r.Values["0.floor.ratio"], r.Values["5.floor.ratio"] = 1.65, 1.2 })},
		"a count":           {"storm.calls", "| 3 | **missed** by 2", change("storm", byDefault, set("calls.count", 3))},
		"allocations":       {"roundtrip.allocs", "5 6 of 5, 20 6 of 6 | **missed** by 1", change("roundtrip", byDefault, set("5.allocs", 6))},
		"a limit of 0":      {"processes.failed", "| 7 | **missed** by 7", change("processes", byDefault, set("failed.count", 7))},
		"a time":            {"cancel.deadline", "who began 150 ms | **missed** by 50 %", change("cancel", byDefault, set("initiator.ms", 150))},
		"a word":            {"cancel.survives", "session family survived: no | **missed** by family survived: no", change("cancel", byDefault, func(r *measure.Result) { r.Words["family survived"] = "no" })},
		"one of many words": {"redirects", "**missed** by 307 to another port: LEAK", change("redirects", byDefault, func(r *measure.Result) { r.Words["307 to another port"] = "LEAK" })},
	} {
		reasons = map[string]string{}
		text, err := targetTable(c.run.Results)
		if err == nil || !strings.Contains(err.Error(), c.target) || !strings.Contains(err.Error(), "reason") {
			t.Errorf("%s: without a reason the error is %v", name, err)
		}
		if !strings.Contains(text, c.want) {
			t.Errorf("%s: the table does not have %q:\n%s", name, c.want, text)
		}
		reasons[c.target] = "It is the moon."
		text, err = targetTable(c.run.Results)
		if err != nil || !strings.Contains(text, c.want+" <sup>1</sup> |\n") || !strings.HasSuffix(text, "\n<sup>1</sup> It is the moon.\n") {
			t.Errorf("%s: with a reason: %v\n%s", name, err, text)
		}
		if text, err := targetTable(sample().Results); err != nil || strings.Contains(text, "missed") || strings.Contains(text, "moon") {
			t.Errorf("%s: the sample misses a target: %v\n%s", name, err, text)
		}
	}
	// What would be shown as the limit is not called missed.
	if _, err := targetTable(change("token", byDefault, set("p1.floor.ratio", 1.104)).Results); err != nil {
		t.Error(err)
	}
	run := without(sample(), func(r measure.Result) bool { return r.Measure == "storm" && r.Peer == byDefault })
	if text, err := targetTable(run.Results); err == nil || !strings.Contains(text, "| n/a | **not measured** |") {
		t.Errorf("a target that was not measured: %v\n%s", err, text)
	}
}

// What targets look at, tables show.
func TestTargetsNameValues(t *testing.T) {
	names := make(map[string]bool)
	for _, target := range targets {
		if names[target.name] {
			t.Errorf("two targets are called %s", target.name)
		}
		names[target.name] = true
		for _, c := range target.checks {
			shown := c.value == "" || c.word == "" && slices.Contains(leftOut[c.measure], c.value)
			for _, table := range tables {
				for _, col := range table.columns {
					shown = shown || table.measure == c.measure && slices.Contains(namesIn(col.cell), c.value)
				}
			}
			if !shown {
				t.Errorf("%s: no table of %s has %q", target.name, c.measure, c.value)
			}
		}
	}
	for name := range reasons {
		if !names[name] {
			t.Errorf("there is a reason for %q, which is no target", name)
		}
	}
}

func TestCell(t *testing.T) {
	r := measure.Result{Values: map[string]float64{"a.ns": 5, "a.ratio": 1}, Words: map[string]string{"w": "a | b"}}
	for cell, want := range map[string]string{
		"{a.ns}": "5.00 ns", "{b.ns}": missing, "{a.ns}[ ({a.ratio})]": "5.00 ns (1.00×)", "{a.ns}[ ({a.ratio}, {b.ratio})]": "5.00 ns",
		"{a.ns} of {b.ns}": "5.00 ns of n/a", "{b.ns}[; {a.ns}]": "n/a; 5.00 ns", "{b.ns}[; {c.ns}]": missing, "[{b.ns}]": missing, "{w}": `a \| b`,
	} {
		if got := (column{"", cell}).show(r); got != want {
			t.Errorf("%s: got %q, want %q", cell, got, want)
		}
	}
}

func TestFormat(t *testing.T) {
	for _, c := range []struct {
		name string
		v    float64
		want string
	}{
		{"a.ns", 2.819, "2.82 ns"}, {"a.ns", 999.96, "1000 ns"}, {"a.ns", 38, "38.0 ns"}, {"a.ns", 4658, "4.66 µs"},
		{"a.ms", 0.0022, "2.20 µs"}, {"a.ms", 502, "502 ms"}, {"a.ms", 5030, "5.03 s"}, {"a.s", 0, "0"}, {"a.s", 0.019, "19.0 ms"},
		{"5.bytes", 1264, "1,264 B"}, {"a.bytes", 3.4e6, "3.24 MiB"}, {"a.bytes", 10240, "10.0 KiB"},
		{"a.ratio", 1.104, "1.10×"}, {"a.ratio", 897, "897×"}, {"a.ratio", 0.034, "0.03×"}, {"a.count", 24110, "24,110"}, {"a.count", 0.5, "0.50"},
		{"a.allocs", 4, "4"}, {"a.count", -123456, "-123,456"}, {"a", 3.14159, "3.14"},
	} {
		if got := format(c.name, c.v); got != c.want {
			t.Errorf("%s %v: got %q, want %q", c.name, c.v, got, c.want)
		}
	}
}

func TestCheckSeesAnyDifference(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(t.TempDir(), "run.json")
	if err := sample().Write(path); err != nil {
		t.Fatal(err)
	}
	if err := run(dir, true, []string{path}); err == nil {
		t.Error("there is no page, and nobody minds")
	}
	if err := run(dir, false, []string{path}); err != nil {
		t.Fatal(err)
	}
	if err := run(dir, true, []string{path}); err != nil {
		t.Error(err)
	}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(name, append(slices.Clone(data), ' '), 0o600); err != nil {
			return err
		}
		if err := run(dir, true, []string{path}); err == nil || !strings.Contains(err.Error(), filepath.Base(name)) {
			t.Errorf("%s was changed: %v", name, err)
		}
		return os.WriteFile(name, data, 0o600)
	})
	if err != nil {
		t.Error(err)
	}
	for _, args := range [][]string{nil, {path, path}, {path + "x"}} {
		if err := run(dir, true, args); err == nil {
			t.Errorf("no error with %q", args)
		}
	}
}

func TestRound(t *testing.T) {
	for v, want := range map[float64]float64{0.1 + 0.2: 0.3, -0.25: -0.25, -0.0004: 0, 1.9996: 2} {
		if got := round(v); math.Abs(got-want) > 1e-12 {
			t.Errorf("%v: got %v", v, got)
		}
	}
}
