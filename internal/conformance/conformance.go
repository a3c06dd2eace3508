// Package conformance knows the requirements on an OAuth client that freshtoken
// is measured by, and which tests cover them: a test that covers an item carries
// the item's ID in its name. It makes docs/conformance.md of what go test -json
// prints.
package conformance

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
)

//go:embed items.tsv
var itemList string

// An Item is a requirement.
type Item struct {
	ID       string // "R8414-3.3", as tests have it in their names
	Level    string // of the requirement: MUST, SHOULD NOT
	Section  string // of the specification
	Priority string // P0: the session; P1: logins; P2: beyond
	Built    bool
	Text     string // what it asks for, in short
	Group    string // under which heading it stands
}

// Items returns all items, in the order of the page.
func Items() ([]Item, error) { return parseItems(itemList) }

func parseItems(list string) (items []Item, err error) {
	group, seen := "", make(map[string]bool)
	for n, line := range strings.Split(list, "\n") {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			group = name
			continue
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 6 || f[4] != "built" && f[4] != "not" || seen[f[0]] || group == "" || idPattern.FindString(f[0]) != f[0] {
			return nil, fmt.Errorf("items.tsv:%d: not an item, or one that there is already: %q", n+1, line)
		}
		seen[f[0]] = true
		items = append(items, Item{ID: f[0], Level: f[1], Section: f[2], Priority: f[3], Built: f[4] == "built", Text: f[5], Group: group})
	}
	return items, nil
}

// idPattern finds what looks like the ID of an item. The last part, behind a
// hyphen, belongs to some IDs and not to others.
var idPattern = regexp.MustCompile(`\b(?:GO|R\d+(?:bis)?|MGR|ST|RTX|RPL|BROWSER|MCP|OIDC|FAPI2|ASVS)-[A-Za-z0-9]+(?:\.[A-Za-z0-9]+)*(?:-[A-Za-z0-9]+)*`)

// idsIn returns the IDs in a part of a test's name, and what looks like an ID and
// is none.
func idsIn(part string, known map[string]Item) (ids, unknown []string) {
	for _, found := range idPattern.FindAllString(strings.ReplaceAll(part, "_", " "), -1) {
		id := found
		for known[id].ID == "" {
			i := strings.LastIndexByte(id, '-')
			if i < 0 {
				break
			}
			id = id[:i]
		}
		if known[id].ID == "" {
			unknown = append(unknown, found)
		} else {
			ids = append(ids, id)
		}
	}
	return ids, unknown
}
