package canary

import (
	"bytes"
	"crypto/rand"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/freshtoken/freshtoken/internal/mark"
)

// What follows watches whole suites, by the marks of their secrets: nothing has
// to be learnt, and nothing is kept.

// MarkRandom has this process mark what it draws as 32 random bytes: keys,
// verifiers, and the salts of sealed values. It is for TestMain.
func MarkRandom() { rand.Reader = marking{rand.Reader} }

type marking struct{ io.Reader }

func (m marking) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	if len(p) == 32 {
		for _, at := range []int{0, 16} {
			copy(p[at:], mark.Sign)
			p[at+len(mark.Sign)] = byte(mark.Random)
		}
	}
	return n, err
}

// Clean fails the test if a marked secret is in a text. The text is not printed.
func Clean(t testing.TB, where string, text []byte) {
	t.Helper()
	for _, what := range mark.In(text) {
		t.Errorf("%s: %s is in it", where, what)
	}
}

// Shown fails the test if values show a marked secret, by any verb or encoder.
func Shown(t testing.TB, where string, values ...any) {
	t.Helper()
	Clean(t, where, []byte(Spill(values...)))
}

// Command fails the test if a marked secret is in the arguments or in the
// environment of a program that is to be started.
func Command(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	Clean(t, "the arguments of a process", []byte(strings.Join(cmd.Args, "\x00")))
	Clean(t, "the environment of a process", []byte(strings.Join(cmd.Environ(), "\x00")))
}

// Dir is t.TempDir, searched when the test is over, names and files. Plain are
// the names of files that are meant to hold secrets: keys, passphrases, and
// token files to be imported.
func Dir(t testing.TB, plain ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil { // whatever the umask
		t.Fatal(err)
	}
	t.Cleanup(func() { Search(t, dir, plain...) })
	return dir
}

// Search fails the test for each file below dir whose name or content has a
// marked secret. 32 random bytes that are as they are do not count, since the
// salt of each sealed value is such.
func Search(t testing.TB, dir string, plain ...string) {
	t.Helper()
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it has gone meanwhile, or is not ours to read
		}
		name := strings.TrimPrefix(path, dir)
		Clean(t, "the name of a file", []byte(name))
		if !d.Type().IsRegular() || slices.Contains(plain, d.Name()) {
			return nil
		}
		salt := []byte(mark.Sign + string(rune(mark.Random)))
		Clean(t, "the file "+string(mark.Hide([]byte(name))), bytes.ReplaceAll(start(path), salt, nil))
		return nil
	})
}

// start is as much of a file as is of interest: some are huge.
func start(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, 4<<20))
	return data
}

// Guard watches requests on their way to base. Secrets may be in the body and in
// the Authorization of a request to one of the origins, and nowhere else.
func Guard(t testing.TB, base http.RoundTripper, origins ...string) http.RoundTripper {
	g := &guard{t: t, base: base}
	for _, origin := range origins {
		if u, err := url.Parse(origin); err == nil {
			g.origins = append(g.origins, originOf(u))
		}
	}
	return g
}

// originOf is an origin as all its spellings are compared.
func originOf(u *url.URL) string {
	host := strings.ToLower(u.Host)
	if u.Port() == map[string]string{"http": "80", "https": "443"}[u.Scheme] {
		host = strings.TrimSuffix(host, ":"+u.Port())
	}
	return u.Scheme + "://" + host
}

type guard struct {
	t       testing.TB
	base    http.RoundTripper
	origins []string
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	g.t.Helper()
	host := originOf(req.URL)
	trusted := slices.Contains(g.origins, host)
	Clean(g.t, "the address of a request", []byte(req.URL.String()))
	for name, values := range req.Header {
		if !trusted || name != "Authorization" {
			Clean(g.t, "the header "+name+" of a request to "+host, []byte(strings.Join(values, "\n")))
		}
	}
	if !trusted && req.Body != nil && req.Body != http.NoBody {
		req = req.Clone(req.Context())
		req.Body = &watchedBody{ReadCloser: req.Body, g: g, host: host}
	}
	return g.base.RoundTrip(req)
}

// CloseIdleConnections passes the call on.
func (g *guard) CloseIdleConnections() {
	if base, ok := g.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// watchedBody is searched when it is closed, as far as it was read.
type watchedBody struct {
	io.ReadCloser
	g    *guard
	host string

	mu   sync.Mutex // guards read
	read bytes.Buffer
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read.Write(p[:n])
	return n, err
}

func (b *watchedBody) Close() error {
	b.mu.Lock()
	Clean(b.g.t, "the body of a request to "+b.host, b.read.Bytes())
	b.read.Reset()
	b.mu.Unlock()
	return b.ReadCloser.Close()
}
