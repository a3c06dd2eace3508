package login

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/cli/browser"
	"github.com/freshtoken/freshtoken/internal/endpoint"
	"github.com/freshtoken/freshtoken/internal/words"
	"golang.org/x/term"
)

// A Prompt is how a flow reaches the person who logs in. What is nil is done on
// standard error, if that is a terminal. Each function is called in a goroutine
// of its own, with a context that ends with the login: it may return at once, or
// stay as long as its window is open. An error that it returns ends the login.
type Prompt struct {
	// Browse has the person visit an address in a browser of this machine;
	// OpenBrowser may help. Nil: the system's browser is opened, if there is
	// one, and the address is printed. With Config.PushedAuthorizationURL the
	// address serves once, and as a rule for no more than a minute or two.
	Browse func(ctx context.Context, address string) error

	// Show has the person enter a code on another device. Both the address and
	// the code must be shown (RFC 8628 section 3.3). Nil: they are printed.
	Show func(ctx context.Context, c Code) error

	// Elsewhere tells that another process is having somebody log in, and that
	// this one waits for it. Nil: it is printed, if standard error is a
	// terminal.
	Elsewhere func(ctx context.Context)
}

// A Code is what a person needs to log in on another device.
type Code struct {
	Address  string    // where to enter the code
	Code     string    // what to enter
	Complete string    // an address that has the code in it, for a link or a QR code; empty if the server has none
	Expiry   time.Time // when it is too late
}

// An errand is what a person visits an address for.
type errand struct {
	to      string // log in, or log out
	address string
	back    string        // where the browser comes back to; empty: nowhere
	life    time.Duration // of the address; zero: not known to end
}

// browse has the person go on an errand.
func (p Prompt) browse(ctx context.Context, e errand) error {
	if p.Browse != nil {
		return e.discreet(p.Browse(ctx, e.address))
	}
	m := thisMachine()
	opened := m.hasBrowser() && OpenBrowser(e.address) == nil
	fmt.Fprint(os.Stderr, m.invitation(e, opened))
	return nil
}

// discreet keeps out of an error, which may be nil, what the address has in its
// query: a state, a nonce, an ID token.
func (e errand) discreet(err error) error {
	u, perr := url.Parse(e.address)
	if err == nil || perr != nil {
		return err
	}
	var secrets []string
	for _, name := range []string{"state", "nonce", "id_token_hint", "request_uri"} {
		secrets = append(secrets, u.Query()[name]...)
	}
	if !endpoint.Repeats(err.Error(), secrets...) {
		return err
	}
	short := errors.New(strings.ReplaceAll(err.Error(), e.address, endpoint.WithoutQuery(e.address)))
	return endpoint.Hide(short, secrets...)
}

func (p Prompt) show(ctx context.Context, c Code) error {
	if p.Show != nil {
		return p.Show(ctx, c)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "To log in, open this address on any device:\n\n  %s\n\nand enter the code:\n\n  %s\n\n", c.Address, c.Code)
	if c.Complete != "" {
		fmt.Fprintf(&b, "Or open this one, and compare the code:\n\n  %s\n\n", c.Complete)
	}
	fmt.Fprintf(&b, "The code expires in %.0f minutes.\n", max(time.Until(c.Expiry).Minutes(), 1))
	fmt.Fprint(os.Stderr, b.String())
	return nil
}

func (p Prompt) elsewhere(ctx context.Context) {
	switch {
	case p.Elsewhere != nil:
		p.Elsewhere(ctx)
	case term.IsTerminal(int(os.Stderr.Fd())):
		fmt.Fprintln(os.Stderr, "Another program waits for somebody to log in. This one goes on when that is done.")
	}
}

// An asking is a call of a function of a Prompt.
type asking struct {
	failed chan error    // of one element: its error, if it fails
	done   chan struct{} // closed when it has returned
}

func ask(f func() error) *asking {
	a := &asking{failed: make(chan error, 1), done: make(chan struct{})}
	go func() {
		defer close(a.done)
		err := errExit
		defer func() {
			if err != nil {
				a.failed <- err
			}
		}()
		err = f()
	}()
	return a
}

// errExit is the error of a function that ends its goroutine.
var errExit = errors.New("it has ended without returning")

// leave waits a moment for a function that is about to return. Whoever stays for
// longer does not hold up the login.
func (a *asking) leave() {
	patience := time.NewTimer(closeTime)
	defer patience.Stop()
	select {
	case <-a.done:
	case <-patience.C:
	}
}

// reachable reports whether there is a way to reach a person: a function of the
// program's own, or a terminal.
func reachable(own bool, name string) error {
	if own || term.IsTerminal(int(os.Stderr.Fd())) {
		return nil
	}
	return wrap(ErrNotInteractive, "standard error is no terminal: run the program in one, or give the login a Prompt with %s", name)
}

// machine is what tells whether a browser can be opened here.
type machine struct {
	system string // runtime.GOOS
	env    func(string) string
}

func thisMachine() machine { return machine{runtime.GOOS, os.Getenv} }

// remote reports whether the person sits elsewhere.
func (m machine) remote() bool {
	return m.env("SSH_CONNECTION") != "" || m.env("SSH_TTY") != ""
}

// hasBrowser reports whether a browser that is started here comes up where the
// person sits. Without a display the programs that open one fall back to those
// of the terminal, or hang.
func (m machine) hasBrowser() bool {
	switch m.system {
	case "windows", "darwin":
		return !m.remote()
	case "js", "wasip1", "android", "ios", "plan9":
		return false
	default:
		return m.env("DISPLAY") != "" || m.env("WAYLAND_DISPLAY") != "" || m.env("WSL_DISTRO_NAME") != "" && !m.remote()
	}
}

// invitation is what a terminal shows.
func (m machine) invitation(e errand, opened bool) string {
	within := ""
	if e.life > 0 {
		within = " within " + words.Duration(e.life)
	}
	if opened {
		return fmt.Sprintf("To %s, go on in the browser that has opened, or open this address on this machine%s:\n\n  %s\n\n", e.to, within, e.address)
	}
	s := fmt.Sprintf("To %s, open this address in a browser on this machine%s:\n\n  %s\n\n", e.to, within, e.address)
	if m.remote() {
		if back, err := url.Parse(e.back); err == nil && back.Port() != "" {
			s += fmt.Sprintf("If the browser is on the machine that you come from by ssh, first run there\n\n  ssh -N -L %s:%s <this machine>\n\n",
				back.Port(), back.Host)
		}
	}
	return s
}

// quiet keeps what a browser prints out of the program's own output.
var quiet = sync.OnceFunc(func() { browser.Stdout, browser.Stderr = nil, nil })

// OpenBrowser opens an address in the system's browser, for a Prompt.Browse of a
// program's own. The address must be https, or http to this machine; no other
// program is started by it. OpenBrowser does not wait for the browser: that it
// returns nil does not prove that anybody sees it.
func OpenBrowser(address string) error {
	if err := checkAddress(address); err != nil {
		return err
	}
	quiet()
	failed := make(chan error, 1)
	// It ends with the program that it starts, which as a rule is at once.
	go func() { failed <- browser.OpenURL(address) }()
	patience := time.NewTimer(time.Second)
	defer patience.Stop()
	select {
	case err := <-failed:
		if missing := new(exec.Error); errors.As(err, &missing) {
			return fmt.Errorf("login: no browser was found: open the address by hand: %w", err)
		}
		if err != nil {
			return fmt.Errorf("login: the browser could not be opened: open the address by hand: %w", err)
		}
		return nil
	case <-patience.C:
		return nil
	}
}

// checkAddress checks an address that a browser is to open, or a person. A
// server is not trusted to name a program to run.
func checkAddress(address string) error {
	u, err := url.Parse(address)
	if err != nil || !endpoint.Printable(address) || strings.ContainsAny(address, " \"'`<>\\|^{}") {
		return errors.New("login: an address with characters that no address has was refused")
	}
	if u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !endpoint.IsLoopback(u.Hostname())) {
		return fmt.Errorf("login: the address %q was refused: it must be https, or http to this machine",
			endpoint.Sanitize(endpoint.WithoutQuery(address), 100))
	}
	return nil
}
