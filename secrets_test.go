package freshtoken_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
)

// spill is everything that a value shows of itself, by any verb and encoder.
func spill(values ...any) string {
	var b bytes.Buffer
	text, object := slog.New(slog.NewTextHandler(&b, nil)), slog.New(slog.NewJSONHandler(&b, nil))
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&b, verb+"\n", v)
		}
		fmt.Fprintln(&b, v, []any{v}, map[string]any{"v": v}, struct{ V any }{v})
		if data, err := json.Marshal(v); err == nil {
			b.Write(data)
		}
		text.Info("x", "v", v)
		object.Info("x", "v", v)
	}
	return b.String()
}

// secrets is a RoundTripper that learns every secret that passes by.
type secrets struct {
	base http.RoundTripper

	mu  sync.Mutex // guards all
	all map[string]bool
}

var secretMember = regexp.MustCompile(`"(?:access|refresh)_token"\s*:\s*"([^"]{6,})"`)

func (s *secrets) learn(values ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range values {
		if len(v) < 6 {
			continue
		}
		s.all[v] = true
		s.all[fmt.Sprintf("%x", v)] = true
		s.all[base64.StdEncoding.EncodeToString([]byte(v))] = true
	}
}

func (s *secrets) RoundTrip(req *http.Request) (*http.Response, error) {
	s.learn(req.Header.Get("Authorization"))
	resp, err := s.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	_, err = body.ReadFrom(http.MaxBytesReader(nil, resp.Body, 1<<16))
	for _, m := range secretMember.FindAllSubmatch(body.Bytes(), -1) {
		s.learn(string(m[1]))
	}
	resp.Body = &tail{Buffer: &body, err: err, rest: resp.Body}
	return resp, nil
}

// ST-redact: no secret in any value or error of this package, in any form.
func TestNothingShowsASecret(t *testing.T) {
	all := [][]oauthtest.Fault{oauthtest.BadAnswers(), oauthtest.ClientRefusals(), oauthtest.DeadGrants(), oauthtest.LostAnswers(),
		oauthtest.OddAnswers(), oauthtest.OddRefusals(), oauthtest.Outages()}
	for _, faults := range all {
		for _, fault := range faults {
			inBubble(t, "ST-redact "+fault.Name, func(t *testing.T) {
				const clientSecret, passphrase = "hush-client-secret", "hush-passphrase"
				w := newWorld(t, oauthtest.Options{ClientSecret: clientSecret, AccessLifetime: lifetime})
				known := &secrets{base: w.as.Transport(), all: make(map[string]bool)}
				known.learn(clientSecret, passphrase)
				w.store = storage.NewMemory()
				var shown strings.Builder
				var mu sync.Mutex
				show := func(values ...any) {
					mu.Lock()
					defer mu.Unlock()
					shown.WriteString(spill(values...))
				}
				cfg := w.config()
				cfg.HTTPClient = &http.Client{Transport: known}
				cfg.RevocationURL = w.as.RevocationURL()
				cfg.OnEvent = func(e freshtoken.Event) { show(e, &e) }
				cfg.OnAttempt = func(a freshtoken.Attempt) { show(a, &a) }
				src, err := freshtoken.New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				tok := w.login(src)
				known.learn(tok.AccessToken, tok.RefreshToken)
				client := w.client(src)
				look := func() {
					show(cfg, &cfg, src, src.Status(), client, client.Transport, src.Client("https://a.test"))
				}
				look()
				w.as.Token.Next(fault, fault)
				time.Sleep(lifetime)
				for range 3 {
					_, err := src.Token(t.Context())
					show(err)
					resp, err := client.Get(w.as.APIURL("x"))
					show(err)
					if err == nil {
						resp.Body.Close()
					}
					_, err = src.Refresh(t.Context(), nil)
					show(err)
					look()
					time.Sleep(time.Minute)
				}
				_, err = client.Get("https://elsewhere.test/")
				show(err)
				w.as.Revocation.Next(fault)
				show(src.Logout(t.Context()))
				show(src.Close())
				look()
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				for secret := range known.all {
					if i := strings.Index(shown.String(), secret); i >= 0 {
						t.Fatalf("a secret is shown: …%s…", shown.String()[max(0, i-200):i])
					}
				}
			})
		}
	}
}

// The root package imports the standard library, x/oauth2 and x/sync alone, and
// so does what it uses of this module.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Skipf("go list does not run here: %v", err)
	}
	for path := range strings.FieldsSeq(string(out)) {
		const module = "github.com/freshtoken/freshtoken"
		ours := path == module || strings.HasPrefix(path, module+"/internal/")
		if !ours && !strings.HasPrefix(path, "golang.org/x/oauth2") && !strings.HasPrefix(path, "golang.org/x/sync/") {
			t.Errorf("the root package depends on %s", path)
		}
	}
}

// tail is a body that has been read in part.
type tail struct {
	*bytes.Buffer
	err  error
	rest interface{ Close() error }
}

func (t *tail) Read(p []byte) (int, error) {
	n, err := t.Buffer.Read(p)
	if err != nil && t.err != nil {
		err = t.err
	}
	return n, err
}

func (t *tail) Close() error { return t.rest.Close() }
