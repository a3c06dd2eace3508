package interop_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
)

var update = flag.Bool("update", false, "write the table of README.md anew, from what this run has shown")

// results are the cells of the table in README.md.
var results = table{cells: make(map[[2]string]string)}

type table struct {
	mu    sync.Mutex           // guards cells
	cells map[[2]string]string // by the names of property and server
}

func (b *table) record(property, server, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cells[[2]string{property, server}] = text
}

const (
	readme     = "README.md"
	tableBegin = "<!-- What follows was written by `go test -update`. -->\n"
	tableEnd   = "<!-- The end of what `go test -update` writes. -->\n"
)

// finish compares the table in README.md with what was shown, or updates it, when
// the tests have ended. Only a run of everything is compared. It returns the exit
// status of the test binary.
func finish(status int) int {
	if dir, err := scratch(); err == nil {
		os.RemoveAll(dir)
	}
	whole := len(results.cells) == len(properties)*len(kinds)
	if status != 0 || !whole && !*update {
		return status
	}
	if err := results.settle(); err != nil {
		fmt.Fprintln(os.Stderr, "the table of README.md:", err)
		return 1
	}
	return status
}

// settle makes README.md show the cells, with -update, or fails if it does not.
func (b *table) settle() error {
	data, err := os.ReadFile(readme)
	if err != nil {
		return err
	}
	// A checkout on Windows may have lines that end otherwise.
	text := strings.ReplaceAll(string(data), "\r\n", "\n")
	head, rest, ok := strings.Cut(text, tableBegin)
	old, tail, closed := strings.Cut(rest, tableEnd)
	if !ok || !closed {
		return errors.New("its markers are missing")
	}
	written, err := b.render(old)
	if err != nil {
		return err
	}
	if written == old {
		return nil
	}
	if !*update {
		return fmt.Errorf("it is not what was shown; if that is as it should be, run `go test -update`:\n%s", difference(old, written))
	}
	return os.WriteFile(readme, []byte(head+tableBegin+written+tableEnd+tail), 0o644)
}

// render writes the table. What was not shown is kept as it was.
func (b *table) render(old string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := parseTable(old)
	var out strings.Builder
	out.WriteString("| |")
	for _, k := range kinds {
		version, err := k.version()
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, " %s %s |", k.name, version)
	}
	out.WriteString("\n|" + strings.Repeat("---|", len(kinds)+1) + "\n")
	for _, p := range properties {
		fmt.Fprintf(&out, "| %s |", p.name)
		for _, k := range kinds {
			at := [2]string{p.name, k.name}
			text, shown := b.cells[at]
			if !shown {
				text = kept[at]
			}
			if text == "" {
				text = "not shown yet"
			}
			fmt.Fprintf(&out, " %s |", strings.ReplaceAll(text, "|", `\|`))
		}
		out.WriteString("\n")
	}
	return out.String(), nil
}

// parseTable reads the cells of a table that render has written.
func parseTable(text string) map[[2]string]string {
	cells := make(map[[2]string]string)
	var names []string
	for i, line := range strings.Split(text, "\n") {
		parts := strings.Split(strings.Trim(line, "|"), " | ")
		for j := range parts {
			parts[j] = strings.TrimSpace(parts[j])
		}
		switch {
		case i == 0:
			for _, title := range parts {
				name, _, _ := strings.Cut(title, " ")
				names = append(names, strings.TrimSpace(name))
			}
		case len(parts) == len(names):
			for j := 1; j < len(parts); j++ {
				cells[[2]string{parts[0], names[j]}] = parts[j]
			}
		}
	}
	return cells
}

// difference shows the lines that differ.
func difference(old, written string) string {
	var out strings.Builder
	was, is := strings.Split(old, "\n"), strings.Split(written, "\n")
	for i := range max(len(was), len(is)) {
		var before, after string
		if i < len(was) {
			before = was[i]
		}
		if i < len(is) {
			after = is[i]
		}
		if before != after {
			fmt.Fprintf(&out, "- %s\n+ %s\n", before, after)
		}
	}
	return out.String()
}
