//go:build !js

package interop_test

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	_ "image/png"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// screenshotsEnv may name a directory for the pictures that the tests take of
// the pages, for somebody to look at.
const screenshotsEnv = "FRESHTOKEN_SCREENSHOTS"

// A page is one that the library shows.
type page struct{ name, title, text string }

var (
	loggedIn  = page{"success", "You are logged in", "You can close this window and go back to the program."}
	notIn     = page{"failure", "The login did not work", "You can close this window and go back to the program, which tells why."}
	loggedOut = page{"logout", "You are logged out", "You can close this window."}
	notFound  = page{"refusal", "404 Not Found", "This address only serves to end a login, and this is not the end of one. If you are logging in, go on in the other window."}
)

// evaluate runs a script in the tab.
func evaluate[T any](t *testing.T, p *tab, script string) T {
	t.Helper()
	return run(t, p, chromedp.Evaluate[T](script))
}

func run[T any](t *testing.T, p *tab, action chromedp.Action[T]) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// wantPage fails the test unless the tab shows a page, to the eye and to a screen
// reader.
func (p *tab) wantPage(t *testing.T, want page) {
	t.Helper()
	got := page{want.name, run(t, p, chromedp.Title()), evaluate[string](t, p, `document.querySelector("p")?.innerText ?? ""`)}
	if heading := evaluate[string](t, p, `document.querySelector("h1")?.innerText ?? ""`); got != want || heading != want.title {
		t.Errorf("the page is %+v with the heading %q, want %+v", got, heading, want)
	}
	if lang := evaluate[string](t, p, `document.documentElement.lang`); lang != "en" {
		t.Errorf("the language of the page is %q, want en", lang)
	}
	roles := make(map[string][]string)
	nodes := run(t, p, func(ctx context.Context, target *chromedp.Target) ([]*accessibility.Node, error) {
		all, err := cdp.Call(ctx, target, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
		return all.Nodes, err
	})
	for _, n := range nodes {
		if !n.Ignored && n.Role != nil && n.Name != nil {
			role := string(n.Role.Value)
			roles[role] = append(roles[role], string(n.Name.Value))
		}
	}
	wantNames(t, roles, "heading", want.title)
	wantNames(t, roles, "StaticText", want.title, want.text)
	wantNames(t, roles, "main", "")
	wantNames(t, roles, "image") // the sign repeats the heading
}

// wantNames fails the test unless the nodes of a role have these names. Both are
// JSON in roles.
func wantNames(t *testing.T, roles map[string][]string, role string, names ...string) {
	t.Helper()
	var quoted []string
	for _, name := range names {
		quoted = append(quoted, fmt.Sprintf("%q", name))
	}
	if got := roles[fmt.Sprintf("%q", role)]; fmt.Sprint(got) != fmt.Sprint(quoted) {
		t.Errorf("a screen reader finds %s: %v, want %v", role, got, quoted)
	}
}

// wantQuiet fails the test unless all requests of the tab have gone to the server
// and to the program, and the console is empty.
func (p *tab) wantQuiet(t *testing.T, s *server) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	hosts := make(map[string]int)
	for _, request := range p.requests {
		u, err := url.Parse(request)
		if err != nil {
			t.Fatal(err)
		}
		hosts[u.Scheme+"://"+u.Host]++
	}
	program := "http://" + p.back().Host
	if hosts[s.issuer] == 0 || hosts[program] == 0 || len(hosts) != 2 {
		t.Errorf("the browser has sent requests to %v, want %s and %s alone", hosts, s.issuer, program)
	}
	for _, complaint := range p.complaints {
		t.Errorf("the browser complains: %s", complaint)
	}
}

// screens are those that pages are looked at on.
var screens = []struct {
	name    string
	emulate chromedp.Action[chromedp.Void]
}{
	{"desktop", chromedp.EmulateViewport(1280, 800)},
	{"phone", chromedp.EmulateViewport(320, 568, chromedp.EmulateScale(2), chromedp.EmulateMobile)},
}

// wantLegible fails the test unless a page can be read in light and in dark, and
// on a small screen. It leaves pictures of all.
func (p *tab) wantLegible(t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv(screenshotsEnv)
	if dir == "" {
		dir = t.TempDir()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, screen := range screens {
		luminance := make(map[string]float64)
		for _, scheme := range []string{"light", "dark"} {
			if err := p.do(screen.emulate, prefer(scheme)); err != nil {
				t.Fatal(err)
			}
			if w := evaluate[int](t, p, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); w > 0 {
				t.Errorf("%s, %s: the page is %d pixels wider than the screen", screen.name, scheme, w)
			}
			p.wantContrast(t, "h1", 7)
			p.wantContrast(t, "p", 7)
			p.wantContrast(t, "svg", 3)
			picture := run(t, p, chromedp.CaptureScreenshot())
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s-%s.png", name, screen.name, scheme)), picture, 0o644); err != nil {
				t.Fatal(err)
			}
			luminance[scheme] = cornerLuminance(t, picture)
		}
		if luminance["light"] < 0.7 || luminance["dark"] > 0.1 {
			t.Errorf("%s: the background has the luminance %.2f in light and %.2f in dark", screen.name, luminance["light"], luminance["dark"])
		}
	}
}

// prefer has the browser ask for a colour scheme, as its user may.
func prefer(scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	})
}

// wantContrast fails the test unless an element stands out from the card that it
// is on by a ratio of WCAG (success criteria 1.4.3, 1.4.6 and 1.4.11).
func (p *tab) wantContrast(t *testing.T, selector string, ratio float64) {
	t.Helper()
	front := luminanceOf(t, evaluate[string](t, p, `getComputedStyle(document.querySelector("`+selector+`")).color`))
	back := luminanceOf(t, evaluate[string](t, p, `getComputedStyle(document.querySelector("main")).backgroundColor`))
	if got := (max(front, back) + 0.05) / (min(front, back) + 0.05); got < ratio {
		t.Errorf("%s has the contrast %.1f, want %.0f at least", selector, got, ratio)
	}
}

// luminanceOf is that of a computed colour of CSS.
func luminanceOf(t *testing.T, css string) float64 {
	t.Helper()
	c := color.RGBA{A: 255}
	if _, err := fmt.Sscanf(css, "rgb(%d, %d, %d)", &c.R, &c.G, &c.B); err != nil {
		t.Fatalf("the colour %q: %v", css, err)
	}
	return relativeLuminance(c)
}

// cornerLuminance is that of the corner of a picture.
func cornerLuminance(t *testing.T, picture []byte) float64 {
	t.Helper()
	img, _, err := image.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	return relativeLuminance(img.At(img.Bounds().Min.X+3, img.Bounds().Min.Y+3))
}

// relativeLuminance is WCAG's, from 0 for black to 1 for white.
func relativeLuminance(c color.Color) float64 {
	linear := func(v uint32) float64 {
		s := float64(v) / 0xffff
		if s <= 0.04045 {
			return s / 12.92
		}
		return math.Pow((s+0.055)/1.055, 2.4)
	}
	r, g, b, _ := c.RGBA()
	return 0.2126*linear(r) + 0.7152*linear(g) + 0.0722*linear(b)
}
