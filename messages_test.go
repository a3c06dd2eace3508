package freshtoken_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/discovery"
	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/internal/mark"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// What a program prints that does log.Fatal(err) and no more, when things go
// wrong as they do: each failure is staged, and its message is the one that the
// README has for it. What the message cannot do without is judged there, by
// people; here, what a machine can see.

// failures are the rows of the README's table, by their first column.
var failures = []struct {
	what  string
	stage func(t *testing.T) string
}{
	{"no keyring: a server, a container, ssh", noSessionBus},
	{"no keyring: a desktop without one", noSecretService},
	{"the keyring is locked", keyringLocked},
	{"no network, or a wrong issuer, at the first start", offlineStart},
	{"a wrong passphrase", wrongPassphrase},
	{"no network, and the access token has expired", offline},
	{"the server is down, and the access token has expired", serverDown},
	{"no network, at a login", offlineLogin},
	{"nobody finishes the login in the browser", browserClosed},
	{"a wrong redirect URI: the browser shows the server's error page", wrongRedirectURI},
	{"nobody enters the code in time", codeExpired},
	{"the session was revoked at the server", revoked},
	{"a wrong client secret, at a refresh", wrongSecret},
	{"a wrong client secret, at a login", wrongSecretLogin},
	{"the disk is full, at a refresh", diskFull},
	{"the disk is full, at a login", diskFullLogin},
	{"the disk is read-only", readOnly},
	{"the directory of the sessions is not writable", notWritable},
	{"another process hangs in a refresh", processHangs},
	{"another process waits for somebody to log in", processLogsIn},
	{"a request to an address that is not listed", unlistedOrigin},
}

func TestMessages(t *testing.T) {
	if task := os.Getenv(messageEnv); task != "" {
		messageProgram(task)
		return
	}
	rows := messageRows(t)
	for _, f := range failures {
		t.Run(f.what, func(t *testing.T) {
			text := f.stage(t)
			wantMessage(t, text)
			row, ok := rows[f.what]
			if !ok || !row.MatchString(text) {
				t.Errorf("the README should have this row, with variable parts as <...>:\n| %s | `%s` |", f.what, text)
			}
		})
		delete(rows, f.what)
	}
	for what := range rows {
		t.Errorf("nothing stages the README's %q", what)
	}
}

var (
	messageRow  = regexp.MustCompile("(?m)^\\| ([^|]+) \\| `([^`|]+)` \\|")
	messageVary = regexp.MustCompile(`<[a-z' ]+>`)
	notWords    = regexp.MustCompile(`"[^"]*"|/\S*`)
	packageName = regexp.MustCompile(`\b(freshtoken|storage|keyring|login|discovery): `)
	goNoise     = regexp.MustCompile(`%!|&\{|0x[0-9a-f]{4}|<nil>|context (canceled|deadline)|\d+m0s|\bdial (tcp|udp)|\b(EOF|errno)\b`)
)

// messageRows returns the table's messages as patterns.
func messageRows(t *testing.T) map[string]*regexp.Regexp {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## When it fails\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := make(map[string]*regexp.Regexp)
	for _, m := range messageRow.FindAllStringSubmatch(section, -1) {
		var fixed []string
		for _, part := range messageVary.Split(m[2], -1) {
			fixed = append(fixed, regexp.QuoteMeta(part))
		}
		rows[m[1]] = regexp.MustCompile("^" + strings.Join(fixed, ".+") + "$")
	}
	return rows
}

// saidTwice returns four words that a text has more than once, not counting
// addresses and paths.
func saidTwice(text string) string {
	said := make(map[string]bool)
	text = notWords.ReplaceAllString(text, "")
	all := strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && r != '\'' })
	for i := range len(all) - 3 {
		four := strings.Join(all[i:i+4], " ")
		if said[four] {
			return four
		}
		said[four] = true
	}
	return ""
}

// wantMessage checks what any message must be.
func wantMessage(t *testing.T, text string) {
	t.Helper()
	if n := len(packageName.FindAllString(text, -1)); n != 1 {
		t.Errorf("%d names of packages, want one", n)
	}
	if found := goNoise.FindString(text); found != "" {
		t.Errorf("no user knows what %q is", found)
	}
	if again := saidTwice(text); again != "" {
		t.Errorf("it says %q twice", again)
	}
	if strings.Contains(text, "\n") || strings.Contains(text, messageSecret) || len(text) > 500 {
		t.Error("it has several lines, a secret, or is long")
	}
}

var messageSecret = mark.Weave(mark.Value, "hush-hush")

// failed is the text of an error that there must be.
func failed(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		t.Fatal("nothing failed")
	}
	return err.Error()
}

// messageConfig is the client of a server that nobody reaches.
func messageConfig() freshtoken.Config {
	return freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "myapp", Endpoint: oauth2.Endpoint{
		TokenURL: "https://auth.example.com/token", DeviceAuthURL: "https://auth.example.com/device"}}}
}

// stale is a session whose access token has expired.
func stale() *oauth2.Token {
	return &oauth2.Token{AccessToken: messageSecret, RefreshToken: messageSecret, Expiry: time.Now().Add(-time.Minute)}
}

// askToken starts a session with tok, if that is not nil, and asks for a token.
func askToken(t *testing.T, cfg freshtoken.Config, tok *oauth2.Token) string {
	t.Helper()
	src := messageSource(t, cfg)
	if tok != nil {
		if err := src.SetToken(t.Context(), tok); err != nil {
			t.Fatal(err)
		}
	}
	_, err := src.Token(t.Context())
	return failed(t, err)
}

func messageSource(t *testing.T, cfg freshtoken.Config) *freshtoken.Source {
	t.Helper()
	src, err := freshtoken.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

// ensure has somebody log in.
func ensure(t *testing.T, cfg freshtoken.Config, flow freshtoken.Authenticator) string {
	t.Helper()
	_, err := login.Ensure(t.Context(), messageSource(t, cfg), flow)
	return failed(t, err)
}

// ---- Keyrings ----

func noSessionBus(t *testing.T) string {
	needSecretService(t)
	return messageProcess(t, "first "+canary.Dir(t))
}

func noSecretService(t *testing.T) string {
	return messageProcess(t, "first "+canary.Dir(t), secretService(t, "none")...)
}

// keyringLocked has a session in a sealed file, whose key is in the keyring.
func keyringLocked(t *testing.T) string {
	wrapper := secretService(t, "locked")
	dir := canary.Dir(t)
	store, err := storage.NewFile(filepath.Join(dir, "sessions"), keyringLike{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := messageConfig()
	cfg.Store = store
	if err := messageSource(t, cfg).SetToken(t.Context(), stale()); err != nil {
		t.Fatal(err)
	}
	return messageProcess(t, "keyring "+dir, wrapper...)
}

// keyringLike is a key that seals as one in the keyring does.
type keyringLike struct{}

func (keyringLike) Get(context.Context, []byte) ([]byte, error) { return make([]byte, 32), nil }
func (keyringLike) New(context.Context) (key, params []byte, err error) {
	return make([]byte, 32), nil, nil
}

func needSecretService(t *testing.T) {
	switch runtime.GOOS {
	case "linux", "netbsd", "openbsd":
	default:
		t.Skip("the keyring of this system is not the Secret Service")
	}
}

// secretService is a command that runs another one on a bus of its own, with a
// Secret Service that misbehaves.
func secretService(t *testing.T, mode string) []string {
	needSecretService(t)
	wrapper := []string{"sh", "internal/keyringtest/with-secret-service", mode}
	if out, err := exec.Command(wrapper[0], append(wrapper[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("takes a session bus, which internal/keyringtest/run has: %v\n%s", err, out)
	}
	return wrapper
}

func wrongPassphrase(t *testing.T) string {
	dir := canary.Dir(t)
	cfg := messageConfig()
	for i, passphrase := range []string{mark.Weave(mark.Passphrase, "correct horse"), mark.Weave(mark.Passphrase, "battery staple")} {
		store, err := storage.NewFile(dir, storage.Passphrase(func() ([]byte, error) { return []byte(passphrase), nil }))
		if err != nil {
			needFileLocks(t, err)
		}
		cfg.Store = store
		if i == 0 {
			if err := messageSource(t, cfg).SetToken(t.Context(), stale()); err != nil {
				t.Fatal(err)
			}
		}
	}
	return askToken(t, cfg, nil)
}

func needFileLocks(t *testing.T, err error) {
	t.Helper()
	if runtime.GOOS == "js" {
		t.Skipf("this system has no file locks: %v", err)
	}
	t.Fatal(err)
}

// ---- The network ----

// noNetwork is a client on a machine whose resolver reaches nobody.
func noNetwork() *http.Client {
	resolver := &net.Resolver{PreferGo: true, Dial: func(_ context.Context, network, _ string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
	}}
	return &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{Resolver: resolver}).DialContext}}
}

func offline(t *testing.T) string {
	cfg := messageConfig()
	cfg.HTTPClient = noNetwork()
	return askToken(t, cfg, stale())
}

func offlineStart(t *testing.T) string {
	cfg := messageConfig()
	cfg.Issuer, cfg.HTTPClient, cfg.Store = "https://auth.example.com", noNetwork(), storage.NewMemory()
	_, err := discovery.Configure(t.Context(), &cfg)
	return failed(t, err)
}

func offlineLogin(t *testing.T) string {
	cfg := messageConfig()
	cfg.HTTPClient = noNetwork()
	return ensure(t, cfg, login.Device{Prompt: login.Prompt{Show: func(context.Context, login.Code) error { return nil }}})
}

func serverDown(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := messageConfig()
	cfg.OAuth2.Endpoint.TokenURL = "http://" + l.Addr().String() + "/token"
	l.Close() // now nobody listens there
	return askToken(t, cfg, stale())
}

// ---- The server ----

// browse has a browser visit the address to the end. What it shows there is for
// people.
func browse(w *world) login.Prompt {
	return login.Prompt{Browse: func(_ context.Context, address string) error {
		go func() {
			if resp, err := w.as.Browser().Get(address); err == nil {
				resp.Body.Close()
			}
		}()
		return nil
	}}
}

func browserClosed(t *testing.T) string {
	w := newWorld(t, oauthtest.Options{})
	closed := login.Prompt{Browse: func(context.Context, string) error { return nil }}
	return ensure(t, w.config(), login.Loopback{Prompt: closed, Timeout: time.Millisecond})
}

func wrongRedirectURI(t *testing.T) string {
	w := newWorld(t, oauthtest.Options{RedirectURIs: []string{"http://127.0.0.1/oauth/done"}})
	shown := 0
	prompt := login.Prompt{Browse: func(_ context.Context, address string) error {
		resp, err := w.as.Browser().Get(address)
		if err == nil {
			resp.Body.Close()
			shown = resp.StatusCode
		}
		return err
	}}
	text := ensure(t, w.config(), login.Loopback{Prompt: prompt, Timeout: time.Millisecond})
	if shown != http.StatusBadRequest {
		t.Errorf("the browser shows a page of status %d, not the server's complaint", shown)
	}
	return text
}

func codeExpired(t *testing.T) (text string) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{DeviceLifetime: 299 * time.Second}) // ends between two polls
		text = ensure(t, w.config(), login.Device{Prompt: login.Prompt{Show: func(context.Context, login.Code) error { return nil }}})
	})
	return text
}

func revoked(t *testing.T) (text string) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
		src := w.source()
		w.as.RevokeFamily(w.login(src).RefreshToken)
		time.Sleep(time.Hour)
		_, err := src.Token(t.Context())
		text = failed(t, err)
	})
	return text
}

func wrongSecret(t *testing.T) (text string) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{ClientSecret: "right", AccessLifetime: time.Minute})
		src := w.source(func(c *freshtoken.Config) { c.OAuth2.ClientSecret = messageSecret })
		w.login(src)
		time.Sleep(time.Hour)
		_, err := src.Token(t.Context())
		text = failed(t, err)
	})
	return text
}

func wrongSecretLogin(t *testing.T) string {
	w := newWorld(t, oauthtest.Options{ClientSecret: "right"})
	cfg := w.config()
	cfg.OAuth2.ClientSecret = messageSecret
	return ensure(t, cfg, login.Loopback{Prompt: browse(w), Timeout: procPatience})
}

func unlistedOrigin(t *testing.T) string {
	w := newWorld(t, oauthtest.Options{})
	_, err := w.loggedIn().Client("https://api.example.com").Get("https://files.example.com/report")
	return failed(t, err)
}
