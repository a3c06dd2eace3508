package canary_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/internal/figures"
	"github.com/freshtoken/freshtoken/internal/mark"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// plantEnv makes the test binary a program, or a suite, that shows a secret in
// the way that its value says.
const plantEnv = "FRESHTOKEN_TEST_PLANT"

// planted are those ways. Each is given a refresh token.
var planted = map[string]func(token string){
	"log":         func(token string) { log.Printf("refreshing with %s", token) },
	"slog":        func(token string) { slog.Error("refresh", "form", url.Values{"refresh_token": {token}}) },
	"output":      func(token string) { fmt.Println(token[:20]) },
	"bytes":       func(token string) { fmt.Println([]byte(token)) },
	"panic":       func(token string) { panic("what token is " + token) },
	"other panic": func(token string) { go panic(errors.New(token)); select {} },
	"a key":       func(string) { key := make([]byte, 32); rand.Read(key); fmt.Printf("%x\n", key) },
	"a verifier":  func(string) { os.Stderr.WriteString(oauth2.GenerateVerifier()) },
	"nothing":     func(string) { fmt.Println("at your service") },
}

func TestMain(m *testing.M) {
	canary.MarkRandom()
	if plant := planted[os.Getenv(plantEnv)]; plant != nil {
		plant(oauthtest.New(oauthtest.Options{}).Login("alice").RefreshToken)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestPlanted is the suite.
func TestPlanted(t *testing.T) {
	token := oauthtest.New(oauthtest.Options{}).Login("alice").AccessToken
	switch os.Getenv(plantEnv) {
	case "a test's error":
		t.Errorf("got %v", &url.Error{Op: "Get", URL: "https://api.test/?access_token=" + token, Err: errors.New("no")})
	case "a test's log":
		t.Log(token)
	}
}

// Whatever a program or a suite prints, in whatever way, it is searched, and is
// passed on without the secrets.
func TestOutput(t *testing.T) {
	n := 0
	for _, how := range append(slices.Collect(maps.Keys(planted)), "a test's error", "a test's log") {
		t.Run(how, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.v", "-test.run=^TestPlanted$")
			cmd.Env = append(os.Environ(), plantEnv+"="+how, "GORACE=atexit_sleep_ms=0")
			said, err := cmd.CombinedOutput()
			if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
				t.Skipf("no process can be started here: %v", err)
			}
			var passed bytes.Buffer
			lines, leaks, err := canary.Output(bytes.NewReader(said), &passed)
			if err != nil || lines == 0 || len(leaks) > 0 != (how != "nothing") {
				t.Errorf("%d lines, error %v, leaks %q", lines, err, leaks)
			}
			if found := mark.In(passed.Bytes()); len(found) > 0 || bytes.Count(said, []byte("\n")) != bytes.Count(passed.Bytes(), []byte("\n")) {
				t.Errorf("%q is in what is passed on, which has %d lines of %d", found, bytes.Count(passed.Bytes(), []byte("\n")), lines)
			}
			n += len(leaks)
		})
	}
	if n < len(planted) {
		t.Errorf("found %d leaks", n)
	}
}

// What is found is named by its line and its test, and is not shown.
func TestOutputOfGoTest(t *testing.T) {
	secret := mark.New(mark.Code)
	in := `{"Action":"output","Package":"p","Test":"TestX/y","Output":"the code is ` + secret + `\n"}`
	var out strings.Builder
	lines, leaks, err := canary.Output(strings.NewReader("one\n"+in), &out)
	if want := []string{"line 2, of p TestX/y: a code is in it"}; lines != 2 || err != nil || !slices.Equal(leaks, want) {
		t.Errorf("%d lines, error %v, leaks %q, want %q", lines, err, leaks, want)
	}
	if want := "one\n" + strings.Replace(in, secret, "[a secret]", 1); out.String() != want {
		t.Errorf("passed on: %q, want %q", out.String(), want)
	}
}

// A plot is a test that is meant to fail.
type plot struct {
	testing.TB
	leaks []string
	ends  []func()
}

func (p *plot) Helper() {}
func (p *plot) Errorf(format string, args ...any) {
	p.leaks = append(p.leaks, fmt.Sprintf(format, args...))
}
func (p *plot) Cleanup(f func()) { p.ends = append(p.ends, f) }

func (p *plot) end() {
	for _, f := range p.ends {
		f()
	}
}

// sentBody tells when it is closed, which may be after its request was answered.
type sentBody struct {
	io.Reader
	once   sync.Once
	closed chan struct{}
}

func (b *sentBody) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

// What tests watch while they run: each place, with a secret and without.
func TestWatches(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{})
	srv.Handle("elsewhere.test", http.NotFoundHandler())
	write := func(t testing.TB, name, text string) {
		if err := os.WriteFile(filepath.Join(canary.Dir(t, "key"), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(t testing.TB, address, header, value, body string) {
		req, err := http.NewRequest(http.MethodPost, address, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		sent := &sentBody{Reader: req.Body, closed: make(chan struct{})}
		if body != "" {
			req.Body = sent
		} else {
			sent.Close()
		}
		req.Header.Set(header, value)
		resp, err := canary.Guard(t, srv.Transport(), srv.BaseURL()).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		<-sent.closed
	}
	places := map[string]func(t testing.TB, secret string){
		"an error":    func(t testing.TB, s string) { canary.Shown(t, "x", fmt.Errorf("no: %w", errors.New(s))) },
		"a value":     func(t testing.TB, s string) { canary.Shown(t, "x", struct{ b []byte }{[]byte(s)}) },
		"a file":      func(t testing.TB, s string) { write(t, "x.session", s) },
		"a name":      func(t testing.TB, s string) { write(t, s, "x") },
		"arguments":   func(t testing.TB, s string) { canary.Command(t, exec.Command("x", "-token="+s)) },
		"environment": func(t testing.TB, s string) { canary.Command(t, &exec.Cmd{Path: "x", Env: []string{"TOKEN=" + s}}) },
		"a query":     func(t testing.TB, s string) { ask(t, srv.TokenURL()+"?token="+s, "X", "y", "") },
		"a header":    func(t testing.TB, s string) { ask(t, srv.APIURL("x"), "Referer", s, "") },
		"a stranger":  func(t testing.TB, s string) { ask(t, "https://elsewhere.test/token", "X", "y", "refresh_token="+s) },
		"http":        func(t testing.TB, s string) { ask(t, "http://elsewhere.test/", "Authorization", "Bearer "+s, "") },
	}
	for name, place := range places {
		t.Run(name, func(t *testing.T) {
			secret := srv.Login("alice").RefreshToken
			bad, good := &plot{TB: t}, &plot{TB: t}
			place(bad, secret)
			place(good, "nothing")
			bad.end()
			good.end()
			if len(bad.leaks) == 0 || strings.Contains(fmt.Sprint(bad.leaks), mark.Sign) || len(good.leaks) > 0 {
				t.Errorf("with a secret: %q; without: %q", bad.leaks, good.leaks)
			}
		})
	}
	t.Run("where secrets belong", func(t *testing.T) {
		p, secret := &plot{TB: t}, mark.New(mark.Random)
		write(p, "key", secret)
		write(p, "x.session", "header"+mark.Sign+"k, a salt")
		ask(p, "https://OAUTH.test:443/token", "Authorization", "Basic "+secret, secret)
		canary.Command(p, exec.Command("x"))
		p.end()
		if len(p.leaks) > 0 {
			t.Errorf("found %q", p.leaks)
		}
	})
	figures.Record(t, "leaks.planted", fmt.Sprint(len(planted)-1+2+len(places)))
}
