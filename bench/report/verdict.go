package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/freshtoken/freshtoken/bench/measure"
)

const notMeasured = "**Not measured in this run.**\n"

// A verdict is what a run says about a target.
type verdict struct {
	measured string
	missed   string // by how much; empty: it is not
	lacking  bool   // the run does not say
}

func (v verdict) markdown() string {
	switch {
	case v.lacking:
		return "**not measured**"
	case v.missed != "":
		return "**missed** by " + v.missed
	}
	return "met"
}

// judge looks at all checks of a target. It is missed by the worst of them.
func (t target) judge(results []measure.Result) verdict {
	var out verdict
	var shown []string
	worst := 0.0
	for _, c := range t.checks {
		text, over, by := c.judge(results)
		if text == "" {
			out.lacking = true
			text = missing
		}
		if c.label != "" {
			text = c.label + " " + text
		}
		shown = append(shown, text)
		if over > worst {
			worst, out.missed = over, by
		}
	}
	out.measured = strings.Join(shown, ", ")
	return out
}

// judge says what was measured, how far it is over the limit, for comparison,
// and that in words. There is no text if the run does not say.
func (c check) judge(results []measure.Result) (text string, over float64, by string) {
	r, ok := find(results, c.measure, c.peer)
	if !ok {
		return "", 0, ""
	}
	if c.word != "" {
		return c.judgeWord(r)
	}
	v, ok := r.Values[c.value]
	if !ok {
		return "", 0, ""
	}
	limit := c.limit
	if c.other != "" {
		o, _ := find(results, c.measure, c.other)
		if limit, ok = o.Values[c.value]; !ok {
			return "", 0, ""
		}
	}
	text = format(c.value, v)
	if c.other != "" {
		text += " of " + format(c.value, limit)
	}
	// What is shown as the limit is within it.
	if v <= limit || format(c.value, v) == format(c.value, limit) {
		return text, 0, ""
	}
	if limit == 0 || unit(c.value) == "count" || unit(c.value) == "allocs" {
		return text, v - limit, format(c.value, v-limit)
	}
	return text, v/limit - 1, fmt.Sprintf("%.0f %%", max(1, 100*(v/limit-1)))
}

func (c check) judgeWord(r measure.Result) (text string, over float64, by string) {
	words := r.Words
	if c.value != "" {
		words = map[string]string{}
		if w, ok := r.Words[c.value]; ok {
			words[c.value] = w
		}
	}
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(words)) {
		text = words[name]
		if !strings.HasPrefix(text, c.word) {
			wrong = append(wrong, name+": "+text)
		}
	}
	if len(wrong) > 0 {
		text = strings.Join(wrong, ", ")
		return text, float64(len(wrong)), text
	}
	return text, 0, ""
}

// targetTable shows all targets. The error names those that are missed without
// a reason, and those about which the run does not say anything.
func targetTable(results []measure.Result) (string, error) {
	var b strings.Builder
	var errs []error
	var foot notes
	b.WriteString("| what | at most | measured | |\n|---|---|---|---|\n")
	for _, t := range targets {
		v := t.judge(results)
		mark := ""
		switch {
		case v.lacking:
			errs = append(errs, fmt.Errorf("the target %s is not measured in this run", t.name))
		case v.missed != "" && reasons[t.name] == "":
			errs = append(errs, fmt.Errorf("the target %s is missed by %s: give the reason in targets.go", t.name, v.missed))
		case v.missed != "":
			mark = foot.mark(reasons[t.name])
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s%s |\n", t.what, t.limit, escape(v.measured), escape(v.markdown()), mark)
	}
	return b.String() + foot.markdown(), errors.Join(errs...)
}
