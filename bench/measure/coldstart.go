package measure

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// ColdStart measures how long a command line takes from the start of its process
// until its first request has been answered. Its token is valid.
var ColdStart = Measure{
	Name: "coldstart",
	Doc:  "from the start of a process to the first authorised request answered",
	Run:  coldStart,
}

// programs is where the programs are, by their last elements.
const programs = "github.com/freshtoken/freshtoken/bench/coldstart/"

// programTime bounds the life of one process.
const programTime = 30 * time.Second

func coldStart(ctx context.Context, o Options) ([]Result, error) {
	d, remove, err := newDisk()
	if err != nil {
		return nil, err
	}
	defer remove()
	server := newGreeter()
	defer server.Close()
	all := []*command{
		{name: "plaintext", peer: "plaintext file"},
		{name: "freshtoken", peer: "freshtoken, key file"},
		{name: "keyring", peer: "freshtoken, key in the keyring"},
	}
	for _, c := range all {
		if err := c.prepare(ctx, d, server); err != nil {
			return nil, err
		}
	}
	rounds, often := 2*o.Rounds, 9
	if o.Smoke {
		rounds, often = 1, 1
	}
	for range rounds {
		for range often {
			for _, c := range all {
				if err := c.run(ctx, server); err != nil {
					return nil, err
				}
			}
		}
		for _, c := range all {
			c.answer.endRound()
			c.exit.endRound()
		}
	}
	var results []Result
	for _, c := range all {
		results = append(results, c.result(d, all[0], server))
	}
	return results, nil
}

const greeting = "hello\n"

// A greeter is an API on a loopback port that wants one token, and a token
// endpoint that has none to give.
type greeter struct {
	*httptest.Server
	token    string
	answered chan time.Time // one for each good request
	asked    atomic.Int32   // requests to the token endpoint
}

func newGreeter() *greeter {
	g := &greeter{token: strings.Repeat("a", 900), answered: make(chan time.Time, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("/token", func(w http.ResponseWriter, _ *http.Request) {
		g.asked.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	mux.HandleFunc("/me", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+g.token {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		io.WriteString(w, greeting)
		select {
		case g.answered <- time.Now():
		default: // nobody wants to know
		}
	})
	g.Server = httptest.NewServer(mux)
	return g
}

// A command is one of the programs, and what was timed of it.
type command struct {
	name, peer string
	note       string // why it is not run; empty if it is

	path   string
	args   []string
	size   float64   // of the binary, in bytes
	answer stopwatch // until the answer, in ms
	exit   stopwatch // until the end of the process, in ms
}

// A stopwatch has the times of this round, and the medians of those before.
type stopwatch struct{ round, medians []float64 }

func (s *stopwatch) endRound() {
	s.medians = append(s.medians, Median(s.round))
	s.round = nil
}

// prepare builds the program and gives it a session.
func (c *command) prepare(ctx context.Context, d disk, g *greeter) error {
	if c.name == "keyring" {
		if c.note = noKeyring(ctx); c.note != "" {
			return nil
		}
	}
	dir := filepath.Join(d.path, c.name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	c.path = filepath.Join(dir, "program")
	if runtime.GOOS == "windows" {
		c.path += ".exe"
	}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", c.path, programs+c.name).CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	info, err := os.Stat(c.path)
	if err != nil {
		return err
	}
	c.size = float64(info.Size())
	c.args = []string{"-dir", dir, "-token-url", g.URL + "/token", "-origin", g.URL}
	return c.logIn(ctx, dir, g)
}

// noKeyring says why there is no keyring to measure with. Nothing of a bench
// belongs into the keyring of a person.
func noKeyring(ctx context.Context) string {
	if os.Getenv("FRESHTOKEN_KEYRING_TEST") == "" {
		return "not run: it needs a keyring of its own: run internal/keyringtest/with-gnome-keyring go -C bench run ."
	}
	if err := keyring.Probe(ctx); err != nil {
		return "not run: " + err.Error()
	}
	return ""
}

// logIn stores the session that the program will find.
func (c *command) logIn(ctx context.Context, dir string, g *greeter) error {
	tok := &oauth2.Token{AccessToken: g.token, RefreshToken: strings.Repeat("r", 64), TokenType: "Bearer", Expiry: time.Now().Add(24 * time.Hour)}
	var key storage.Key
	switch c.name {
	case "plaintext":
		data, err := json.Marshal(tok)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, "token.json"), data, 0o600)
	case "keyring":
		key = keyring.NewKey("freshtoken-bench", keyring.Options{LockDir: dir})
	default:
		key = storage.KeyFile(filepath.Join(dir, "key"))
	}
	store, err := storage.NewFile(filepath.Join(dir, "sessions"), key)
	if err != nil {
		return err
	}
	src, err := freshtoken.New(freshtoken.Config{Store: store,
		OAuth2: &oauth2.Config{ClientID: "client", Endpoint: oauth2.Endpoint{TokenURL: g.URL + "/token"}}})
	if err != nil {
		return err
	}
	defer src.Close()
	return src.SetToken(ctx, tok)
}

// run runs the program once.
func (c *command) run(ctx context.Context, g *greeter) error {
	if c.note != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, programTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.path, c.args...)
	start := time.Now()
	out, err := cmd.CombinedOutput()
	exit := time.Since(start)
	if err != nil || string(out) != greeting {
		return fmt.Errorf("%s: %v: %q", c.name, err, out)
	}
	c.answer.round = append(c.answer.round, milliseconds((<-g.answered).Sub(start)))
	c.exit.round = append(c.exit.round, milliseconds(exit))
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (c *command) result(d disk, plaintext *command, g *greeter) Result {
	if c.note != "" {
		return Result{Measure: "coldstart", Peer: c.peer, Note: c.note}
	}
	return Result{Measure: "coldstart", Peer: c.peer, Words: d.words(), Values: map[string]float64{
		"ms":                   Median(c.answer.medians),
		"plaintext.ratio":      Ratio(c.answer.medians, plaintext.answer.medians),
		"exit.ms":              Median(c.exit.medians),
		"exit.plaintext.ratio": Ratio(c.exit.medians, plaintext.exit.medians),
		"binary.bytes":         c.size,
		"calls.count":          float64(g.asked.Load()), // of the token endpoint, by all programs
	}}
}
