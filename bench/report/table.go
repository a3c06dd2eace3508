package main

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/freshtoken/freshtoken/bench/measure"
)

var (
	valueName    = regexp.MustCompile(`\{([^{}]+)\}`)
	optionalPart = regexp.MustCompile(`\[([^\[\]]+)\]`)
)

const missing = "n/a"

// find returns a peer's result in a measure.
func find(results []measure.Result, name, peer string) (measure.Result, bool) {
	i := slices.IndexFunc(results, func(r measure.Result) bool { return r.Measure == name && r.Peer == peer })
	if i < 0 {
		return measure.Result{}, false
	}
	return results[i], true
}

// of returns the results of a measure as tables show them: floors and controls
// come first.
func of(results []measure.Result, name string) []measure.Result {
	var first, then []measure.Result
	for _, r := range results {
		switch {
		case r.Measure != name:
		case isFloor(r.Peer):
			first = append(first, r)
		default:
			then = append(then, r)
		}
	}
	return append(first, then...)
}

func isFloor(peer string) bool {
	return strings.HasPrefix(peer, "floor: ") || strings.HasPrefix(peer, "control")
}

func isOurs(peer string) bool { return strings.HasPrefix(peer, "freshtoken") }

// markdown shows a table, with notes below it.
func (t table) markdown(results []measure.Result) string {
	var b strings.Builder
	rows := of(results, t.measure)
	if len(rows) == 0 {
		return notMeasured
	}
	b.WriteString("| |")
	for _, c := range t.columns {
		fmt.Fprintf(&b, " %s |", c.heading)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(t.columns)) + "\n")
	var foot notes
	for _, r := range rows {
		name, mark := escape(r.Peer), foot.mark(r.Note)
		if isOurs(r.Peer) {
			name = "**" + name + "**"
		}
		cells := make([]string, len(t.columns))
		noted := false
		for i, c := range t.columns {
			cells[i] = c.show(r)
			if cells[i] == missing {
				cells[i] += mark
				noted = true
			}
		}
		if !noted {
			name += mark
		}
		fmt.Fprintf(&b, "| %s | %s |\n", name, strings.Join(cells, " | "))
	}
	return b.String() + foot.markdown()
}

// show fills a cell. A cell without any of its values is missing.
func (c column) show(r measure.Result) string {
	cell := optionalPart.ReplaceAllStringFunc(c.cell, func(part string) string {
		if slices.ContainsFunc(namesIn(part), func(name string) bool { return !has(r, name) }) {
			return ""
		}
		return strings.Trim(part, "[]")
	})
	if !slices.ContainsFunc(namesIn(cell), func(name string) bool { return has(r, name) }) {
		return missing
	}
	return valueName.ReplaceAllStringFunc(cell, func(place string) string {
		name := strings.Trim(place, "{}")
		if v, ok := r.Values[name]; ok {
			return format(name, v)
		}
		if w, ok := r.Words[name]; ok {
			return escape(w)
		}
		return missing
	})
}

func escape(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`)
}

// notes are the footnotes of a table.
type notes []string

// mark returns the mark of a note, which is the same for the same note, and
// empty for none.
func (n *notes) mark(note string) string {
	if note == "" {
		return ""
	}
	i := slices.Index(*n, note)
	if i < 0 {
		i = len(*n)
		*n = append(*n, note)
	}
	return fmt.Sprintf(" <sup>%d</sup>", i+1)
}

func (n notes) markdown() string {
	var b strings.Builder
	for i, note := range n {
		if i == 0 {
			b.WriteString("\n")
		} else {
			b.WriteString("<br>\n")
		}
		fmt.Fprintf(&b, "<sup>%d</sup> %s", i+1, escape(note))
	}
	if len(n) > 0 {
		b.WriteString("\n")
	}
	return b.String()
}

func has(r measure.Result, name string) bool {
	_, value := r.Values[name]
	_, word := r.Words[name]
	return value || word
}

// namesIn returns the values that a cell shows.
func namesIn(cell string) []string {
	var all []string
	for _, m := range valueName.FindAllStringSubmatch(cell, -1) {
		all = append(all, m[1])
	}
	return all
}

// unshown says which values of a run nobody would see, and which of those that
// are to be shown it lacks: a value that was renamed is both.
func unshown(results []measure.Result) error {
	var errs []error
	shown := make(map[string][]string)
	for _, t := range tables {
		rows := of(results, t.measure)
		for _, c := range t.columns {
			shown[t.measure] = append(shown[t.measure], namesIn(c.cell)...)
			for _, name := range namesIn(optionalPart.ReplaceAllString(c.cell, "")) {
				if len(rows) > 0 && !slices.ContainsFunc(rows, func(r measure.Result) bool { return has(r, name) }) {
					errs = append(errs, fmt.Errorf("%s: no result has %q, which the column %q shows", t.measure, name, c.heading))
				}
			}
		}
	}
	for _, r := range results {
		known, ok := shown[r.Measure]
		if !ok {
			errs = append(errs, fmt.Errorf("%s: no table shows this measure", r.Measure))
			shown[r.Measure] = nil
			continue
		}
		known = append(slices.Clone(known), leftOut[r.Measure]...)
		for _, name := range append(slices.Sorted(maps.Keys(r.Values)), slices.Sorted(maps.Keys(r.Words))...) {
			if !slices.Contains(known, name) {
				errs = append(errs, fmt.Errorf("%s: %s: no table shows %q, and it is not left out", r.Measure, r.Peer, name))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(r.Series)) {
			if !slices.Contains(drawn[r.Measure], name) {
				errs = append(errs, fmt.Errorf("%s: %s: no picture shows the series %q", r.Measure, r.Peer, name))
			}
		}
	}
	return errors.Join(errs...)
}
