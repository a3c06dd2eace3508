package login_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cli/browser"
	"github.com/freshtoken/freshtoken/login"
)

// The opener of the system gets the address as it is, and nobody sees what it
// prints.
func TestOpenBrowser(t *testing.T) {
	bin := t.TempDir()
	got := filepath.Join(bin, "got")
	t.Setenv("PATH", bin)
	const address = "https://as.example/authorize?a=$(id)&b=1;c=*&d=%20~"

	if err := login.OpenBrowser(address); err == nil || !strings.Contains(err.Error(), "by hand") {
		t.Errorf("BROWSER-1: without a browser: error %v", err)
	}
	script := "#!/bin/sh\nprintf '%s|' \"$#\" \"$@\" >'" + got + ".new'\n/bin/mv '" + got + ".new' '" + got + "'\n"
	if err := os.WriteFile(filepath.Join(bin, "xdg-open"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := login.OpenBrowser(address); err != nil {
		t.Error(err)
	}
	if want := "1|" + address + "|"; written(t, got) != want {
		t.Errorf("BROWSER-1: the opener was given %q, want %q", written(t, got), want)
	}
	if browser.Stdout != nil || browser.Stderr != nil {
		t.Error("BROWSER-1: what the opener prints goes to the program's output")
	}
}

// written waits for a file, which another process writes.
func written(t *testing.T, name string) string {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		data, err := os.ReadFile(name)
		if err == nil {
			return string(data)
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal(err)
		}
	}
}
