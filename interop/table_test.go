package interop_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
)

var update = flag.Bool("update", false, "write the tables of README.md anew, from what this run has shown")

// A table is one of README.md, between two markers.
type table struct {
	begin, end string
	layout     func() (layout, error)
	mu         sync.Mutex           // guards cells
	cells      map[[2]string]string // by the names of row and column
}

// A layout is what a table has around its cells.
type layout struct {
	corner  string
	columns []column
	rows    []string
}

// A column has a name, and a title that begins with it.
type column struct{ name, title string }

// results are the cells of the table of servers.
var results = table{
	begin:  "<!-- What follows was written by `go test -update`. -->\n",
	end:    "<!-- The end of what `go test -update` writes. -->\n",
	cells:  make(map[[2]string]string),
	layout: serversLayout,
}

func serversLayout() (l layout, err error) {
	for _, k := range kinds {
		version, err := k.version()
		if err != nil {
			return layout{}, err
		}
		l.columns = append(l.columns, column{k.name, k.name + " " + version})
	}
	for _, p := range properties {
		l.rows = append(l.rows, p.name)
	}
	return l, nil
}

func (b *table) record(row, column, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cells[[2]string{row, column}] = text
}

const readme = "README.md"

// finish compares the tables in README.md with what was shown, or updates them,
// when the tests have ended. Only what has shown all of a table is compared. It
// returns the exit status of the test binary.
func finish(status int) int {
	if dir, err := scratch(); err == nil {
		os.RemoveAll(dir)
	}
	if status != 0 {
		return status
	}
	for _, b := range []*table{&results, &authResults} {
		if err := b.settle(); err != nil {
			fmt.Fprintln(os.Stderr, "a table of README.md:", err)
			status = 1
		}
	}
	return status
}

// settle makes README.md show the cells, with -update, or fails if it does not.
func (b *table) settle() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, err := b.layout()
	if err != nil {
		return err
	}
	if len(b.cells) != len(l.rows)*len(l.columns) && !*update {
		return nil
	}
	data, err := os.ReadFile(readme)
	if err != nil {
		return err
	}
	// A checkout on Windows may have lines that end otherwise.
	text := strings.ReplaceAll(string(data), "\r\n", "\n")
	head, rest, ok := strings.Cut(text, b.begin)
	old, tail, closed := strings.Cut(rest, b.end)
	if !ok || !closed {
		return errors.New("its markers are missing")
	}
	written := b.render(l, old)
	if written == old {
		return nil
	}
	if !*update {
		return fmt.Errorf("it is not what was shown; if that is as it should be, run `go test -update`:\n%s", difference(old, written))
	}
	return os.WriteFile(readme, []byte(head+b.begin+written+b.end+tail), 0o644)
}

// render writes the table. What was not shown is kept as it was.
func (b *table) render(l layout, old string) string {
	kept := parseTable(old, l.columns)
	var out strings.Builder
	fmt.Fprintf(&out, "| %s|", pad(l.corner))
	for _, c := range l.columns {
		fmt.Fprintf(&out, " %s |", c.title)
	}
	out.WriteString("\n|" + strings.Repeat("---|", len(l.columns)+1) + "\n")
	for _, row := range l.rows {
		fmt.Fprintf(&out, "| %s |", row)
		for _, c := range l.columns {
			at := [2]string{row, c.name}
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
	return out.String()
}

// pad ends a text that is not empty with a space.
func pad(text string) string {
	if text == "" {
		return ""
	}
	return text + " "
}

// parseTable reads the cells of a table that render has written.
func parseTable(text string, columns []column) map[[2]string]string {
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
				names = append(names, nameOf(title, columns))
			}
		case len(parts) == len(names):
			for j := 1; j < len(parts); j++ {
				cells[[2]string{parts[0], names[j]}] = parts[j]
			}
		}
	}
	return cells
}

// nameOf is the name of a column by its title, in which a version may be another
// one by now; "" if it is none of the table's.
func nameOf(title string, columns []column) string {
	for _, c := range columns {
		if title == c.title || strings.HasPrefix(title, c.name+" ") && c.title != c.name {
			return c.name
		}
	}
	return ""
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
