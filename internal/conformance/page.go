package conformance

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Update is the command that makes the page.
const Update = "go test -json ./... | go run ./internal/conformance/report > docs/conformance.md"

const module = "github.com/freshtoken/freshtoken"

//go:embed head.md
var head string

// A covering is what a test says about an item.
type covering struct {
	pkg, top, sub string // names as a reader wants them
	result        string
}

// coverings finds the tests that carry IDs. Of a test and its subtests, the one
// counts that has the ID in its own part of the name.
func coverings(items []Item, run *Run) (of map[string][]covering, unknown []string) {
	known := make(map[string]Item)
	for _, item := range items {
		known[item.ID] = item
	}
	of = make(map[string][]covering)
	for at, result := range run.results {
		parent := run.parent(at)
		ids, odd := idsIn(at.name[len(parent):], known)
		for _, id := range odd {
			unknown = append(unknown, fmt.Sprintf("%s in %s %s", id, at.pkg, at.name))
		}
		above, _ := idsIn(parent, known)
		for _, id := range ids {
			if slices.Contains(above, id) {
				continue
			}
			pkg := cmp.Or(strings.TrimPrefix(strings.TrimPrefix(at.pkg, module), "/"), "freshtoken")
			top, sub, _ := strings.Cut(at.name, "/")
			sub = strings.Join(strings.Fields(strings.ReplaceAll(strings.Replace(sub, id, "", 1), "_", " ")), " ")
			of[id] = append(of[id], covering{pkg, top, strings.Trim(sub, " :,"), result})
		}
	}
	for _, list := range of {
		slices.SortFunc(list, func(a, b covering) int {
			return cmp.Or(cmp.Compare(a.pkg, b.pkg), cmp.Compare(a.top, b.top), cmp.Compare(a.sub, b.sub))
		})
	}
	slices.Sort(unknown)
	return of, unknown
}

// Page makes the page of a run. The error tells of items that no test carries
// though they are built, of those that are tested and not built, and of tests
// that name no item.
func Page(items []Item, run *Run) (string, error) {
	of, unknown := coverings(items, run)
	var wrong []error
	for _, what := range unknown {
		wrong = append(wrong, fmt.Errorf("no item has the ID %s", what))
	}
	var table strings.Builder
	built, tests, group := 0, 0, ""
	for _, item := range items {
		if item.Group != group {
			group = item.Group
			fmt.Fprintf(&table, "\n## %s\n\n| item | level | section | priority | what it asks for | tests | result |\n|---|---|---|---|---|---|---|\n", group)
		}
		list := of[item.ID]
		where, result := "", "not built yet"
		switch {
		case item.Built && len(list) == 0:
			wrong = append(wrong, fmt.Errorf("no test carries the ID %s, which is built", item.ID))
			result = "no test"
		case item.Built:
			built, tests = built+1, tests+len(list)
			where, result = cell(list), verdict(list)
		case len(list) > 0:
			wrong = append(wrong, fmt.Errorf("%s is not built, says items.tsv, and tested, says %s %s", item.ID, list[0].pkg, list[0].top))
		}
		fmt.Fprintf(&table, "| %s | %s | %s | %s | %s | %s | %s |\n", item.ID, item.Level, item.Section, item.Priority, escape(item.Text), where, result)
	}
	summary := strings.NewReplacer("{{items}}", fmt.Sprint(len(items)), "{{built}}", fmt.Sprint(built),
		"{{not}}", fmt.Sprint(len(items)-built), "{{tests}}", fmt.Sprint(tests), "{{update}}", Update)
	return summary.Replace(head) + table.String(), errors.Join(wrong...)
}

// cell lists tests: each with up to three of its subtests.
func cell(list []covering) string {
	type place struct{ pkg, top string }
	subs := make(map[place][]string)
	for _, c := range list {
		at := place{c.pkg, c.top}
		subs[at] = append(subs[at], c.sub)
	}
	var all []string
	for _, at := range slices.SortedFunc(maps.Keys(subs), func(a, b place) int { return cmp.Or(cmp.Compare(a.pkg, b.pkg), cmp.Compare(a.top, b.top)) }) {
		names := slices.DeleteFunc(subs[at], func(s string) bool { return s == "" })
		more := ""
		if len(names) > 3 {
			names, more = names[:2], fmt.Sprintf("; and %d more", len(names)-2)
		}
		text := fmt.Sprintf("%s `%s`", at.pkg, at.top)
		if len(names) > 0 {
			text += ": " + escape(strings.Join(names, "; ")) + more
		}
		all = append(all, text)
	}
	return strings.Join(all, "<br>")
}

func escape(s string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`, "`", "'", "\n", " ").Replace(s)
}

// verdict is the result of several tests.
func verdict(list []covering) string {
	n := make(map[string]int)
	for _, c := range list {
		n[c.result]++
	}
	switch {
	case n["fail"] > 0:
		return "failed"
	case n["skip"] == len(list):
		return "skipped"
	case n["skip"] > 0:
		return fmt.Sprintf("passed, %d skipped", n["skip"])
	}
	return "passed"
}

var results = regexp.MustCompile(`(?m)\| (failed|skipped|passed(, \d+ skipped)?) \|$`)

// Check compares a page with what the run would make of it, but for the results.
func Check(page, want string) error {
	got, fresh := lines(page), lines(want)
	for i := range max(len(got), len(fresh)) {
		a, b := at(got, i), at(fresh, i)
		if a != b {
			return fmt.Errorf("docs/conformance.md, line %d, is not what the tests say: run\n\n    %s\n\nit has:  %s\nnow it is: %s", i+1, Update, a, b)
		}
	}
	return nil
}

func lines(page string) []string {
	return strings.Split(strings.TrimSpace(results.ReplaceAllString(page, "|")), "\n")
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}
