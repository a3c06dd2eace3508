package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/internal/canary"
)

// A terminal is where the program runs with a person in front of it.
type terminal struct {
	t    *testing.T
	keys io.WriteCloser
	out  *bufio.Reader
	seen strings.Builder
	cmd  *exec.Cmd
}

// open runs the program in a terminal. util-linux's script makes one.
func (h *home) open(args ...string) *terminal {
	h.t.Helper()
	script, err := exec.LookPath("script")
	if err == nil {
		err = exec.Command(script, "-qec", "true", os.DevNull).Run()
	}
	if err != nil {
		h.t.Skipf("needs the program script of util-linux to have a terminal: %v", err)
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	h.t.Cleanup(cancel)
	// Without exec a shell between the two gets the Ctrl-C, too.
	command := "exec '" + strings.Join(append([]string{program}, args...), "' '") + "'"
	tty := &terminal{t: h.t, cmd: exec.CommandContext(ctx, script, "-qec", command, filepath.Join(h.dir, "typescript"))}
	out, err := tty.cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	tty.out = bufio.NewReader(out)
	if tty.keys, err = tty.cmd.StdinPipe(); err != nil {
		h.t.Fatal(err)
	}
	canary.Command(h.t, tty.cmd)
	if err := tty.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		tty.keys.Close()
		tty.cmd.Process.Kill() // which has no effect on a program that has ended
		tty.cmd.Wait()
	})
	return tty
}

// await reads until the pattern matches what has come since it last did.
func (tty *terminal) await(pattern string) string {
	tty.t.Helper()
	re := regexp.MustCompile(pattern)
	for {
		b, err := tty.out.ReadByte()
		if err != nil {
			tty.t.Fatalf("the program does not say %q:\n%s", pattern, tty.seen.String())
		}
		tty.seen.WriteByte(b)
		if found := re.FindString(tty.seen.String()); found != "" {
			tty.seen.Reset()
			return found
		}
	}
}

func (tty *terminal) press(keys string) {
	tty.t.Helper()
	if _, err := io.WriteString(tty.keys, keys); err != nil {
		tty.t.Fatal(err)
	}
}

// ends waits for the end of the program, and wants an exit status and some last
// words.
func (tty *terminal) ends(status int, words string) {
	tty.t.Helper()
	rest, err := io.ReadAll(tty.out)
	if err != nil {
		tty.t.Error(err)
	}
	tty.seen.Write(rest)
	tty.cmd.Wait()
	if got := tty.cmd.ProcessState.ExitCode(); got != status {
		tty.t.Errorf("exit status %d, want %d", got, status)
	}
	want(tty.t, tty.seen.String(), words)
}

// withBrowser gives the home a screen, and a browser that nobody looks at.
func (h *home) withBrowser() {
	h.t.Helper()
	bin := filepath.Join(h.dir, "bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "xdg-open"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		h.t.Fatal(err)
	}
	h.t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	h.t.Setenv("DISPLAY", ":0")
}

func TestTerminal(t *testing.T) {
	h := newHome(t)
	args := []string{"login", "-issuer", h.srv.BaseURL(), "-client-id", "client", "-api", h.srv.APIURL("me"), "-key", "passphrase"}
	inTerminal := func(name string, test func(t *testing.T, h home)) {
		t.Run(name, func(t *testing.T) {
			h := *h
			h.t = t
			test(t, h)
		})
	}
	inTerminal("a new passphrase is typed twice", func(t *testing.T, h home) {
		tty := h.open(args...)
		tty.await("Passphrase: ")
		tty.press(passphrase + "\n")
		tty.await("Once more: ")
		tty.press("correct hose\n")
		tty.ends(1, "differ: try again")
	})
	inTerminal("login with the browser", func(t *testing.T, h home) {
		h.withBrowser()
		tty := h.open(args...)
		tty.await("Passphrase: ")
		tty.press(passphrase + "\n")
		tty.await("Once more: ")
		tty.press(passphrase + "\n")
		h.browse(t.Context(), strings.TrimSpace(tty.await(`http://\S+/authorize\?\S+\s`)))
		tty.ends(0, `Account "default" is logged in.`)
	})
	inTerminal("an old passphrase is typed once", func(t *testing.T, h home) {
		tty := h.open("whoami")
		tty.await("Passphrase: ")
		tty.press(passphrase + "\n")
		tty.ends(0, `"subject":"alice"`)
	})
	inTerminal("login on another device, without a browser", func(t *testing.T, h home) {
		tty := h.open("login", "-account", "work", "-passphrase-file", h.passphrase)
		code := strings.TrimSpace(tty.await(`[A-Z]{4}-[A-Z]{4}\s`))
		if !h.srv.ApproveDevice(code, "bob") {
			t.Errorf("no login waits for the code %s", code)
		}
		tty.ends(0, `Account "work" is logged in.`)
	})
	inTerminal("Ctrl-C", func(t *testing.T, h home) {
		h.withBrowser()
		tty := h.open("login", "-account", "third", "-passphrase-file", h.passphrase)
		tty.await(`/authorize\?`)
		tty.press("\x03")
		tty.ends(1, "interrupt")
		if out := h.works("accounts"); out != "default\talive\nwork\talive\n" {
			t.Errorf("the accounts are %q", out)
		}
	})
}
