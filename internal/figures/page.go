package figures

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Read reads the figures that tests have recorded. Of figures with one name the
// last counts.
func Read(in io.Reader) (map[string]string, error) {
	all := make(map[string]string)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var f Figure
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil || f.Name == "" {
			return nil, fmt.Errorf("line %d is no figure: %v", n, err)
		}
		all[f.Name] = f.Value
	}
	return all, lines.Err()
}

// NotMeasured stands in a page for a figure that the run does not have.
const NotMeasured = "**not measured in this run**"

var figure = regexp.MustCompile(`\{\{([^{}]*)\}\}`)

// Fill fills figures into a text, and returns the names of those that are missing.
func Fill(text string, all map[string]string) (filled string, missing []string) {
	filled = figure.ReplaceAllStringFunc(text, func(place string) string {
		name := strings.TrimSpace(strings.Trim(place, "{}"))
		value, ok := all[name]
		if !ok {
			missing = append(missing, name)
			return NotMeasured
		}
		return strings.Join(strings.Fields(value), " ")
	})
	slices.Sort(missing)
	return filled, slices.Compact(missing)
}

// order is how the parts of the page follow on each other. Others come behind.
var order = []string{"model", "processes", "kill", "disks", "keyrings", "networks", "hostile", "leaks", "soak"}

// Text puts the page together: the head, and the parts in dir, one file each.
func Text(head, dir string) (string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.md"))
	if err != nil || len(paths) == 0 {
		return "", fmt.Errorf("there is no part of the page in %s", dir)
	}
	rank := func(path string) int {
		if i := slices.Index(order, strings.TrimSuffix(filepath.Base(path), ".md")); i >= 0 {
			return i
		}
		return len(order)
	}
	slices.SortStableFunc(paths, func(a, b string) int { return rank(a) - rank(b) })
	text := strings.TrimSpace(head) + "\n"
	for _, path := range paths {
		part, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		text += "\n" + strings.TrimSpace(string(part)) + "\n"
	}
	return text, nil
}

// Check reports whether a page has been made of text: figures may differ, and
// none may be missing.
func Check(page, text string) error {
	if strings.Contains(page, NotMeasured) {
		return fmt.Errorf("a figure is missing")
	}
	places := figure.FindAllStringIndex(text, -1)
	rest, from := page, 0
	for i := range len(places) + 1 {
		to := len(text)
		if i < len(places) {
			to = places[i][0]
		}
		literal := text[from:to]
		at := strings.Index(rest, literal)
		if at < 0 || i == 0 && at > 0 || strings.Contains(rest[:at], "\n") || i == len(places) && at+len(literal) != len(rest) {
			return fmt.Errorf("it was not made of the parts as they are, near %q", firstLine(literal))
		}
		rest = rest[at+len(literal):]
		if i < len(places) {
			from = places[i][1]
		}
	}
	return nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
