// Package canary finds secrets where they do not belong. A Canary learns every
// secret of a run, some by being told, most by watching the requests between a
// program and its servers; it keeps all that the program shows of itself, and
// searches that at the end, for whole secrets and for pieces, plain and encoded.
//
// Whole suites are watched by the marks of their secrets instead (see package
// mark), while they run and by what they print: Clean and its relatives, Output.
package canary

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// piece is how many bytes of a secret are as good as all of it: 60 random bits
// of a token in base32.
const piece = 12

// minSecret is the shortest secret that can be told from chance.
const minSecret = 6

// A Canary watches one run. It is safe for concurrent use.
type Canary struct {
	mu      sync.Mutex        // guards what follows
	secrets map[string]string // and what each is
	shown   []sight
	seen    map[[sha256.Size]byte]bool
	writers []*writer
	servers []server
	foreign int // requests to hosts that are no server's
	files   int
}

// sight is something that anybody might see.
type sight struct {
	where string
	text  []byte
}

// New returns a Canary that knows no secret.
func New() *Canary {
	return &Canary{secrets: make(map[string]string), seen: make(map[[sha256.Size]byte]bool)}
}

// Secret tells a secret, and what it is.
func (c *Canary) Secret(kind, value string) {
	if len(value) < minSecret {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.secrets[value]; !ok {
		c.secrets[value] = kind
	}
}

// Kinds counts the secrets that are known, by kind.
func (c *Canary) Kinds() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := make(map[string]int)
	for _, kind := range c.secrets {
		n[kind]++
	}
	return n
}

// Counts are how many different texts and files were kept, and how many requests
// went to strangers.
func (c *Canary) Counts() (texts, files, foreign int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.shown), c.files, c.foreign
}

// Text keeps a text that can be seen in some place.
func (c *Canary) Text(where string, text []byte) {
	sum := sha256.Sum256(text)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.seen[sum] {
		c.seen[sum] = true
		c.shown = append(c.shown, sight{where, bytes.Clone(text)})
	}
}

// Shown keeps everything that values show of themselves, by any verb and encoder.
func (c *Canary) Shown(where string, values ...any) { c.Text(where, []byte(Spill(values...))) }

// Spill is everything that values show of themselves.
func Spill(values ...any) string {
	var b bytes.Buffer
	text, object := slog.New(slog.NewTextHandler(&b, nil)), slog.New(slog.NewJSONHandler(&b, nil))
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
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

// Writer keeps what is written to it: a log, or the output of a process.
func (c *Canary) Writer(where string) io.Writer {
	w := &writer{where: where}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writers = append(c.writers, w)
	return w
}

// writer keeps everything in one piece, lest a secret be parted.
type writer struct {
	where string
	mu    sync.Mutex // guards all
	all   []byte
}

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, p...)
	return len(p), nil
}

func (w *writer) text() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(w.all)
}

// Files keeps the names and the bytes of all files below dir: also of those that
// are there for a moment.
func (c *Canary) Files(dir string) {
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it has gone meanwhile
		}
		c.Text("the name "+path, []byte(strings.TrimPrefix(path, dir)))
		if !d.Type().IsRegular() {
			return nil
		}
		if data, err := os.ReadFile(path); err == nil {
			c.Text("the file "+path, data)
			c.mu.Lock()
			c.files++
			c.mu.Unlock()
		}
		return nil
	})
}

// Process keeps the arguments and the environment of a process, where the system
// shows them.
func (c *Canary) Process(pid int) {
	for _, what := range []string{"cmdline", "environ"} {
		if data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, what)); err == nil {
			c.Text("the "+what+" of a process", data)
		}
	}
}

// Check fails the test for every place in which a secret can be seen. What was
// seen is not printed.
func (c *Canary) Check(t testing.TB) {
	t.Helper()
	for _, leak := range c.Leaks() {
		t.Error(leak)
	}
}

// Leaks describes the places in which a secret can be seen.
func (c *Canary) Leaks() (all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := newNeedles(c.secrets)
	shown := slices.Clone(c.shown)
	for _, w := range c.writers {
		shown = append(shown, sight{w.where, w.text()})
	}
	for _, s := range shown {
		for _, kind := range n.in(s.text) {
			all = append(all, fmt.Sprintf("%s: %s is in it", s.where, kind))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// needles are what is searched for: pieces, by their length.
type needles map[int]map[string]string

func newNeedles(secrets map[string]string) needles {
	n := make(needles)
	for secret, kind := range secrets {
		n.add(secret, kind, piece)
		n.add(url.QueryEscape(secret), kind, piece)
		n.add(hex.EncodeToString([]byte(secret)), kind+", in hex,", 2*piece)
		n.add(strings.ToUpper(hex.EncodeToString([]byte(secret))), kind+", in hex,", 2*piece)
		for skip := range 3 { // base64 has three ways to begin
			if len(secret) <= skip+3 {
				continue
			}
			data := []byte(secret)[skip:]
			data = data[:len(data)/3*3]
			n.add(base64.StdEncoding.EncodeToString(data), kind+", in base64,", piece/3*4)
			n.add(base64.URLEncoding.EncodeToString(data), kind+", in base64,", piece/3*4)
		}
		decimal := strings.Trim(fmt.Sprint([]byte(secret)), "[]")
		n.add(decimal, kind+", in numbers,", 3*piece)
	}
	return n
}

// add adds all pieces of a text that have some length, or the text if it is
// shorter.
func (n needles) add(text, kind string, length int) {
	length = min(length, len(text))
	if n[length] == nil {
		n[length] = make(map[string]string)
	}
	for i := range len(text) - length + 1 {
		n[length][text[i:i+length]] = kind
	}
}

// in returns the kinds of secrets that are in a text.
func (n needles) in(text []byte) (kinds []string) {
	for length, pieces := range n {
		for i := 0; i+length <= len(text); i++ {
			if kind, ok := pieces[string(text[i:i+length])]; ok && !slices.Contains(kinds, kind) {
				kinds = append(kinds, kind)
			}
		}
	}
	return kinds
}
