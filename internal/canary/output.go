package canary

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/freshtoken/freshtoken/internal/mark"
)

// Output copies what programs print from in to out, line by line, and searches
// it for marked secrets, which it does not copy. It says in which lines there
// were some, and in which tests, if the lines are of go test -json.
func Output(in io.Reader, out io.Writer) (lines int, leaks []string, err error) {
	r := bufio.NewReader(in)
	for err == nil {
		var line []byte
		line, err = r.ReadBytes('\n')
		if len(line) > 0 {
			lines++
		}
		if found := mark.In(line); len(found) > 0 {
			leaks = append(leaks, fmt.Sprintf("line %d%s: %s is in it", lines, testOf(line), strings.Join(found, " and ")))
			line = mark.Hide(line)
		}
		if _, werr := out.Write(line); werr != nil {
			return lines, leaks, werr
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return lines, leaks, err
}

// testOf names the test that a line is of, if it says so.
func testOf(line []byte) string {
	var event struct{ Package, Test string }
	if json.Unmarshal(line, &event) != nil || event.Package == "" {
		return ""
	}
	return strings.TrimRight(fmt.Sprintf(", of %s %s", event.Package, event.Test), " ")
}
