package conformance

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// A Run is what came of tests.
type Run struct {
	results map[test]string // "pass", "skip" or "fail"
	order   []test
	Failed  bool // a test, or a package that did not build
}

type test struct{ pkg, name string }

// event is a line of go test -json; see go doc test2json.
type event struct {
	Action, Package, ImportPath, Test, Output string
}

// Read reads what go test -json prints, of one run or of several, and writes to
// log what go test without -json would: how each package went, and all that a
// test has printed which failed.
func Read(in io.Reader, log io.Writer) (*Run, error) {
	r := &Run{results: make(map[test]string)}
	output := make(map[test][]string)
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if err != nil && err != io.EOF {
			return nil, err
		}
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil || e.Action == "" { // the go command itself
				fmt.Fprint(log, line)
			} else {
				r.take(e, output, log)
			}
		}
		if err == io.EOF {
			return r, nil
		}
	}
}

// take takes an event. What a test prints is kept until it is known whether
// anybody wants to read it.
func (r *Run) take(e event, output map[test][]string, log io.Writer) {
	at := test{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(log, e.Output)
	case "output":
		output[at] = append(output[at], e.Output)
	case "pass", "skip":
		r.record(at, e.Action)
		if e.Test == "" {
			printResult(output[at], log)
			for of := range output { // whoever ended before
				if of.pkg == e.Package {
					delete(output, of)
				}
			}
		}
		delete(output, at)
	case "fail", "build-fail":
		r.Failed = true
		r.record(at, "fail")
		if e.Test != "" {
			break // with its package, in order
		}
		for _, of := range r.order {
			if of.pkg == e.Package && of.name != "" && r.results[of] == "fail" {
				fmt.Fprint(log, strings.Join(output[of], ""))
				delete(output, of)
			}
		}
		for of, text := range output { // what was running when it ended, and the package's own
			if of.pkg == e.Package {
				fmt.Fprint(log, strings.Join(text, ""))
				delete(output, of)
			}
		}
	}
}

// printResult prints the line that begins with ok, or with a question mark.
func printResult(output []string, log io.Writer) {
	for _, line := range output {
		if strings.HasPrefix(line, "ok ") || strings.HasPrefix(line, "? ") || strings.Contains(line, "no test files") {
			fmt.Fprint(log, line)
		}
	}
}

func (r *Run) record(at test, result string) {
	if at.pkg == "" {
		return
	}
	if _, again := r.results[at]; !again {
		r.order = append(r.order, at)
	}
	r.results[at] = result
}

// parent returns the name of the test of which at is a subtest, and "" if it is
// none. A slash in a name proves nothing: subtests are called as they like.
func (r *Run) parent(at test) string {
	for i := len(at.name) - 1; i > 0; i-- {
		if _, ok := r.results[test{at.pkg, at.name[:i]}]; ok && at.name[i] == '/' {
			return at.name[:i]
		}
	}
	return ""
}
