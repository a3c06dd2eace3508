//go:build !js

package interop_test

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// A chromium is a running Chromium without windows. Where programs cannot be started,
// which is js, there is none.
type chromium struct{ ctx context.Context }

// startChromium starts a Chromium with an empty profile, which ends with the
// test, and leaves no process behind.
func startChromium(t *testing.T) *chromium {
	t.Helper()
	var bin string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			bin = path
			break
		}
	}
	if bin == "" {
		t.Skip("Chromium is not installed: run `apt-get install chromium`, or what your system has in its place")
	}
	dir := t.TempDir()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(bin),
		chromedp.UserDataDir(filepath.Join(dir, "profile")),
		chromedp.Env("HOME="+dir, "TMPDIR="+dir, "XDG_CONFIG_HOME="+dir, "XDG_CACHE_HOME="+dir),
		// As root there is no sandbox, and in a container often none for anybody.
		chromedp.NoSandbox,
		chromedp.Flag("headless", "new"), // the browser that people have, and not a smaller one
		chromedp.Flag("disable-gpu", true),
		// What it does on its own account needs a network, and is none of ours.
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-features", "Translate,AutofillServerCommunication"),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
	)
	started, release := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, kill := chromedp.NewContext(started)
	t.Cleanup(func() {
		bounded, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if err := chromedp.Cancel(bounded); err != nil {
			t.Errorf("Chromium does not end well: %v", err)
		}
		kill()
		release()
		wantNoProcessOf(t, dir)
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("%s does not start: %v", bin, err)
	}
	return &chromium{ctx}
}

// wantNoProcessOf fails the test if processes stay that work in dir, and ends
// them.
func wantNoProcessOf(t *testing.T, dir string) {
	t.Helper()
	if !eventually(t, func() bool { return len(processesOf(dir)) == 0 }) {
		for _, p := range processesOf(dir) {
			t.Errorf("process %d of Chromium was left behind", p.Pid)
			p.Kill()
		}
	}
}

// processesOf are those that name dir in their arguments or their environment;
// none where there is no /proc.
func processesOf(dir string) (found []*os.Process) {
	paths, _ := filepath.Glob("/proc/[0-9]*")
	for _, path := range paths {
		args, _ := os.ReadFile(path + "/cmdline")
		env, _ := os.ReadFile(path + "/environ")
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(path), "%d", &pid); err != nil || pid == os.Getpid() {
			continue
		}
		if bytes.Contains(args, []byte(dir)) || bytes.Contains(env, []byte(dir)) {
			if p, err := os.FindProcess(pid); err == nil {
				found = append(found, p)
			}
		}
	}
	return found
}

// eventually waits until something is so, and reports whether it has become so.
func eventually(t *testing.T, so func() bool) bool {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-deadline:
			return so()
		}
	}
	return true
}

// A tab is a user at a tab of Chromium, with cookies of its own: one who signs
// in and agrees to whatever a page asks.
type tab struct {
	ctx      context.Context
	close    func()
	user     string
	decision string // what the user says to the server's question

	address string   // that the program has had opened
	pages   []string // the titles of those that were shown since

	mu         sync.Mutex // guards what follows
	requests   []string   // their URLs
	complaints []string   // warnings and errors that the browser's console shows
}

// tab opens a tab, which is closed with the test. Its user is alice.
func (c *chromium) tab(t *testing.T, options ...chromedp.CreateBrowserContextOption) *tab {
	t.Helper()
	p := &tab{user: "alice", decision: "allow"}
	ctx, cancel := chromedp.NewContext(c.ctx, chromedp.WithNewBrowserContext(options...), chromedp.WithListener(p.listen))
	p.ctx, p.close = ctx, sync.OnceFunc(cancel)
	t.Cleanup(p.close)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("Chromium opens no tab: %v", err)
	}
	return p
}

// listen keeps what the tab tells.
func (p *tab) listen(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		p.requests = append(p.requests, e.Request.URL)
	case *runtime.EventExceptionThrown:
		p.complaints = append(p.complaints, e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		p.complaints = append(p.complaints, fmt.Sprint("the page calls console.", e.Type))
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelWarning || e.Entry.Level == log.EntryLevelError {
			at, _, _ := strings.Cut(e.Entry.URL, "?") // which may have a code
			p.complaints = append(p.complaints, fmt.Sprintf("%s: %s (%s)", e.Entry.Source, e.Entry.Text, at))
		}
	}
}

// do takes steps that may wait for the browser.
func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) error {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	return chromedp.Do(ctx, steps...)
}

// visit opens the address that a program has given, and does what the server's
// pages ask until the browser comes back to the program, and its page is shown.
func (p *tab) visit(_ context.Context, address string) error {
	if err := p.open(address); err != nil {
		return err
	}
	return p.goOn()
}

// open opens an address.
func (p *tab) open(address string) error {
	p.address, p.pages = address, nil
	return p.do(chromedp.Navigate(address))
}

// goOn goes on from where open has come.
func (p *tab) goOn() error {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	server, err := url.Parse(p.address)
	if err != nil {
		return err
	}
	for range 10 {
		location, err := chromedp.Run(ctx, chromedp.Location())
		if err != nil {
			return err
		}
		title, err := chromedp.Run(ctx, chromedp.Title())
		if err != nil {
			return err
		}
		p.pages = append(p.pages, title)
		here, err := url.Parse(location)
		if err != nil || here.Host != server.Host {
			return err
		}
		steps, err := p.answer(title)
		if err != nil {
			return err
		}
		if _, err := chromedp.RunResponse(ctx, steps...); err != nil {
			return fmt.Errorf("after the page %q: %w", title, err)
		}
	}
	return fmt.Errorf("the pages have no end: %q", p.pages)
}

// answer is what the user does with a page of the server's.
func (p *tab) answer(title string) ([]chromedp.Action[chromedp.Void], error) {
	button := chromedp.CSS(`button`)
	switch title {
	case "Sign in":
		return []chromedp.Action[chromedp.Void]{
			chromedp.SendKeys(chromedp.CSS(`input[name="username"]`), p.user),
			chromedp.SendKeys(chromedp.CSS(`input[name="password"]`), "wonderland"),
			chromedp.Click(button),
		}, nil
	case "Consent":
		button = chromedp.CSS(`button[value="` + p.decision + `"]`)
	case "Log out":
	default:
		return nil, fmt.Errorf("the server shows a page %q", title)
	}
	return []chromedp.Action[chromedp.Void]{chromedp.Click(button)}, nil
}

// back is where the program has the browser come back to.
func (p *tab) back() *url.URL {
	u, err := url.Parse(p.address)
	if err != nil {
		return &url.URL{}
	}
	q := u.Query()
	to, err := url.Parse(q.Get("redirect_uri") + q.Get("post_logout_redirect_uri"))
	if err != nil {
		return &url.URL{}
	}
	return to
}
