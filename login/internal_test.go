package login

import (
	"errors"
	"math"
	"net"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"golang.org/x/oauth2"
)

func TestVerifiers(t *testing.T) {
	cfg := &freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "c", Endpoint: oauth2.Endpoint{AuthURL: "https://a.test/", TokenURL: "https://a.test/t"}}}
	var all []*authorization
	t.Run("R7636-4.1 each login has its own, long and random", func(t *testing.T) {
		allowed := regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`)
		seen := make(map[string]bool)
		for range 10_000 {
			a, err := Loopback{}.begin(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if !allowed.MatchString(a.verifier) || seen[a.verifier] || seen[a.state] || len(a.state) < 26 {
				t.Fatalf("the verifier %q or the state %q", a.verifier, a.state)
			}
			seen[a.verifier], seen[a.state] = true, true
			all = append(all, a)
		}
	})
	t.Run("R7636-4.2 the server is sent their hashes", func(t *testing.T) {
		for _, a := range all {
			if got := a.form.Get("code_challenge"); got != oauth2.S256ChallengeFromVerifier(a.verifier) || a.form.Get("code_verifier") != "" {
				t.Fatalf("the challenge %q", got)
			}
		}
		// RFC 7636 appendix B.
		if got := oauth2.S256ChallengeFromVerifier("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"); got != "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM" {
			t.Errorf("got %q", got)
		}
	})
}

// What the system says must be understood on every system.
func TestListenErrors(t *testing.T) {
	if runtime.GOOS == "plan9" {
		t.Skip("Plan 9 has no numbers for it")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_, _, err = openListeners([]hostname{{"127.0.0.1", []string{"127.0.0.1"}}}, port)
	if !errors.Is(err, errInUse) || !strings.Contains(err.Error(), "taken by another program") {
		t.Errorf("R8252-7.3: a port that is taken: %v", err)
	}
	if _, err := net.Listen("tcp", "192.0.2.1:0"); !errors.Is(err, errNoAddr) { // RFC 5737: nobody has it
		t.Errorf("R8252-7.3: an address that there is not: %v", err)
	}
	listeners, host, err := openListeners([]hostname{{"localhost", []string{"192.0.2.1", "127.0.0.1"}}}, "0")
	if err != nil || len(listeners) != 1 || !strings.HasPrefix(host, "localhost:") {
		t.Errorf("R8252-7.3: a machine without one of two addresses: %q, error %v", host, err)
	}
	for _, l := range listeners {
		l.Close()
	}
}

func TestAddresses(t *testing.T) {
	for address, want := range map[string]bool{
		"https://as.example/authorize?client_id=a%20b&x=1": true,
		"https://as.example:8443/":                         true,
		"http://127.0.0.1:8080/authorize":                  true,
		"http://[::1]:8080/authorize":                      true,
		"http://localhost/authorize":                       true,
		"http://as.example/authorize":                      false,
		"file:///etc/passwd":                               false,
		"javascript:alert(1)":                              false,
		"$(calc)":                                          false,
		"-https://as.example/":                             false,
		"--version":                                        false,
		"//as.example/":                                    false,
		"https:as.example":                                 false,
		"https://":                                         false,
		"https://user:secret@as.example/":                  false,
		"https://as.example/`id`":                          false,
		"https://as.example/ a":                            false,
		"https://as.example/\"":                            false,
		"https://as.example/\x1b[2J":                       false,
		"https://as.example/\n":                            false,
		"https://as.example/ü":                             false,
		"ms-msdt:/id":                                      false,
		"":                                                 false,
	} {
		t.Run("BROWSER-1 "+strconv.Quote(address), func(t *testing.T) {
			err := checkAddress(address)
			if (err == nil) != want {
				t.Errorf("got error %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error shows a password: %v", err)
			}
			if !want && OpenBrowser(address) == nil {
				t.Error("it was opened")
			}
		})
	}
}

func TestMachines(t *testing.T) {
	for _, c := range []struct {
		system string
		env    map[string]string
		want   bool
	}{
		{"linux", nil, false},
		{"linux", map[string]string{"DISPLAY": ":0"}, true},
		{"linux", map[string]string{"WAYLAND_DISPLAY": "wayland-0"}, true},
		{"linux", map[string]string{"SSH_CONNECTION": "a 1 b 2"}, false},
		{"linux", map[string]string{"SSH_CONNECTION": "a 1 b 2", "DISPLAY": "localhost:10.0"}, true},
		{"linux", map[string]string{"WSL_DISTRO_NAME": "Debian"}, true},
		{"freebsd", map[string]string{"DISPLAY": ":0"}, true},
		{"darwin", nil, true},
		{"darwin", map[string]string{"SSH_TTY": "/dev/ttys001"}, false},
		{"windows", nil, true},
		{"windows", map[string]string{"SSH_CONNECTION": "a 1 b 2"}, false},
		{"js", map[string]string{"DISPLAY": ":0"}, false},
	} {
		m := machine{c.system, func(name string) string { return c.env[name] }}
		if got := m.hasBrowser(); got != c.want {
			t.Errorf("R8252-5: %s with %v has a browser: %v", c.system, c.env, got)
		}
	}
	const address = "https://as.test/authorize?client_id=c"
	to := errand{to: "log in", address: address, back: "http://127.0.0.1:4711/callback"}
	here := machine{"linux", func(string) string { return "" }}
	there := machine{"linux", func(name string) string { return map[string]string{"SSH_TTY": "/dev/pts/1"}[name] }}
	for _, text := range []string{here.invitation(to, true), here.invitation(to, false), there.invitation(to, false)} {
		if !strings.Contains(text, address) {
			t.Errorf("R8252-5: the address is not shown: %s", text)
		}
	}
	if text := there.invitation(to, false); !strings.Contains(text, "ssh -N -L 4711:127.0.0.1:4711") {
		t.Errorf("who comes by ssh is not told how to come back: %s", text)
	}
	to.life = time.Minute
	for _, text := range []string{here.invitation(to, true), here.invitation(to, false), there.invitation(to, false)} {
		if !strings.Contains(text, "within 1 minute") {
			t.Errorf("R9126-4: nobody is told that the address expires: %s", text)
		}
	}
}

// The page is to be read by everybody: WCAG 2.2, success criterion 1.4.6 for
// text, 1.4.11 for the sign.
func TestContrast(t *testing.T) {
	text := string(loginPage(nil))
	dark := strings.Index(text, "@media")
	for name, css := range map[string]string{"light": text[:dark], "dark": text[dark:]} {
		color := func(v string) float64 {
			_, rest, ok := strings.Cut(css, v+": #")
			if !ok {
				t.Fatalf("no color %s", v)
			}
			return luminance(t, rest[:6])
		}
		for fore, want := range map[string]float64{"--text": 7, "--soft": 7, "--good": 4.5, "--bad": 4.5} {
			if got := contrast(color(fore), color("--card")); got < want {
				t.Errorf("%s: %s has a contrast of %.1f, want %.1f", name, fore, got, want)
			}
		}
	}
	for _, want := range []string{`<html lang="en">`, `<meta name="viewport"`, `color-scheme`, `<main>`, `<h1>`, `aria-hidden="true"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}

func contrast(a, b float64) float64 { return (max(a, b) + 0.05) / (min(a, b) + 0.05) }

func luminance(t *testing.T, hex string) (sum float64) {
	t.Helper()
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

// Browsers write the host of an address in one way only.
func TestHosts(t *testing.T) {
	for _, c := range []struct {
		name, port, host string
		want             bool
	}{
		{"127.0.0.1", "4711", "127.0.0.1:4711", true},
		{"127.0.0.1", "4711", "127.0.0.1", false},
		{"127.0.0.1", "80", "127.0.0.1", true},
		{"127.0.0.1", "80", "127.0.0.1:80", true},
		{"LOCALHOST", "4711", "localhost:4711", true},
		{"localhost", "80", "localhost", true},
		{"::1", "80", "[::1]", true},
		{"0:0:0:0:0:0:0:1", "4711", "[::1]:4711", true},
		{"127.0.0.1", "4711", "localhost:4711", false},
		{"127.0.0.1", "80", "rebound.example", false},
		{"127.0.0.1", "80", "", false},
	} {
		r := &receiver{host: browserHost(c.name, c.port)}
		if got := r.isAsked(c.host); got != c.want {
			t.Errorf("R8252-8.3: a request for %q at %s port %s: %v", c.host, c.name, c.port, got)
		}
	}
}
