// Package figures collects what tests have measured, for docs/reliability.md.
package figures

import (
	"encoding/json"
	"os"
	"testing"
)

// Env names the file to which figures are appended, one JSON object a line.
// Without it they are only logged.
const Env = "FRESHTOKEN_FIGURES"

// A Figure is something that a test has counted or measured.
type Figure struct {
	Name  string // of the figure: "kills.avoidable"
	Value string
	Test  string // which one has measured it
}

// Record records a figure of a test that has not failed.
func Record(t testing.TB, name, value string) {
	t.Helper()
	t.Logf("%s: %s", name, value)
	path := os.Getenv(Env)
	if path == "" || t.Failed() {
		return
	}
	line, err := json.Marshal(Figure{name, value, t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(append(line, '\n'))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		t.Fatal(err)
	}
}
