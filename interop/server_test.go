package interop_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"golang.org/x/oauth2"
)

// patience is how long a test waits for what must happen; nothing is measured
// by it.
const patience = 2 * time.Minute

// serverOptions configure oidc-provider. Lifetimes are in seconds.
type serverOptions struct {
	AccessLifetime  int      `json:"accessLifetime"`
	RefreshLifetime int      `json:"refreshLifetime"`
	Rotate          bool     `json:"rotate"`
	Clients         []client `json:"clients"`
}

// A client is one that the server knows.
type client struct {
	ID     string `json:"client_id"`
	Secret string `json:"client_secret,omitempty"`
	Method string `json:"token_endpoint_auth_method"`
}

// The clients of every server. The characters are those that differ between
// HTTP Basic done right, HTTP Basic without the form-encoding of RFC 6749
// section 2.3.1, and the body.
var (
	public = client{ID: "public", Method: "none"}
	basic  = client{ID: "odd id/+%:=&", Secret: `s3cr+t %41/&=:~"?`, Method: "client_secret_basic"}
	post   = client{ID: "posted id/+%:=&", Secret: `p0st+ed %41/&=:~"?`, Method: "client_secret_post"}
)

// style is the setting that fits the client.
func (c client) style() oauth2.AuthStyle {
	if c.Method == "client_secret_basic" {
		return oauth2.AuthStyleInHeader
	}
	return oauth2.AuthStyleInParams
}

// counts are what the server has seen.
type counts struct {
	TokenRequests, Refreshes, InvalidGrants, Reuses, InvalidClients, Revocations, FamiliesKilled, API, APIRejected int
}

// A server is a running oidc-provider, with tokens of its own.
type server struct {
	t      *testing.T
	issuer string
}

// startServer starts a server that ends with the test: access tokens live for
// three seconds, refresh tokens rotate, and a spent one kills the family.
func startServer(t *testing.T, edits ...func(*serverOptions)) *server {
	t.Helper()
	o := serverOptions{AccessLifetime: 3, RefreshLifetime: 3600, Rotate: true, Clients: []client{public, basic, post}}
	for _, edit := range edits {
		edit(&o)
	}
	arg, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("Node.js is not installed: install Node.js 22 or later, then run `npm ci --ignore-scripts` in interop/oidcprovider")
	}
	if _, err := os.Stat(filepath.Join("oidcprovider", "node_modules", "oidc-provider")); err != nil {
		t.Skip("npm's oidc-provider is not installed: run `npm ci --ignore-scripts` in interop/oidcprovider")
	}
	cmd := exec.Command(node, "server.mjs", string(arg))
	cmd.Dir = "oidcprovider"
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close() // ends it
		timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer timer.Stop()
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("oidc-provider: %v\n%s", err, &stderr)
		}
	})
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	var said struct{ Issuer string }
	if err := errors.Join(err, json.Unmarshal(line, &said)); err != nil {
		cmd.Process.Kill()
		t.Fatalf("oidc-provider did not start: %v", err)
	}
	return &server{t: t, issuer: said.Issuer}
}

// in returns the server for the use of a subtest.
func (s *server) in(t *testing.T) *server { return &server{t: t, issuer: s.issuer} }

// control opens a back door.
func (s *server) control(name string, query url.Values, answer any) {
	s.t.Helper()
	resp, err := http.Get(s.issuer + "/control/" + name + "?" + query.Encode())
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		s.t.Fatalf("/control/%s: %s", name, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) counts() (c counts) {
	s.t.Helper()
	s.control("counts", nil, &c)
	return c
}

// A family is what a login has brought about at the server.
type family struct {
	RefreshToken string // the first one
	Family       string // the server's name for it
}

// mint makes a family without a browser.
func (s *server) mint(c client) (f family) {
	s.t.Helper()
	s.control("mint", url.Values{"client_id": {c.ID}}, &f)
	return f
}

// end withdraws the user's consent, as on the account page of a server.
func (s *server) end(f family) {
	s.t.Helper()
	s.control("end", url.Values{"family": {f.Family}}, new(struct{}))
}

// reject makes the API refuse an access token from now on.
func (s *server) reject(tok *oauth2.Token) {
	s.t.Helper()
	s.control("reject", url.Values{"token": {tok.AccessToken}}, new(struct{}))
}

// grant sends a refresh_token grant as any program would, past the library.
// code is the server's error code, "" with a token.
func (s *server) grant(c client, refreshToken string) (tok *oauth2.Token, code string) {
	s.t.Helper()
	tok, err := s.oauth2(c).TokenSource(context.Background(), &oauth2.Token{RefreshToken: refreshToken}).Token()
	if e := new(oauth2.RetrieveError); errors.As(err, &e) {
		return nil, e.ErrorCode
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return tok, ""
}

// accepts reports whether the API takes an access token.
func (s *server) accepts(accessToken string) bool {
	s.t.Helper()
	req, err := http.NewRequest("GET", s.issuer+"/api/accepts", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+accessToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func (s *server) oauth2(c client) *oauth2.Config {
	return &oauth2.Config{ClientID: c.ID, ClientSecret: c.Secret, Endpoint: oauth2.Endpoint{TokenURL: s.issuer + "/token", AuthStyle: c.style()}}
}

// config is how a program is set up for this server.
func (s *server) config(c client, store freshtoken.Store) freshtoken.Config {
	return freshtoken.Config{OAuth2: s.oauth2(c), Store: store, Issuer: s.issuer, RevocationURL: s.issuer + "/token/revocation"}
}

// source returns a Source that is closed with the test.
func (s *server) source(cfg freshtoken.Config) *freshtoken.Source {
	s.t.Helper()
	src, err := freshtoken.New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := src.Close(); err != nil {
			s.t.Errorf("Close: %v", err)
		}
	})
	return src
}

// signIn starts a session with the refresh token of a family.
func (s *server) signIn(src *freshtoken.Source, f family) {
	s.t.Helper()
	if err := src.SetToken(s.t.Context(), &oauth2.Token{RefreshToken: f.RefreshToken}); err != nil {
		s.t.Fatal(err)
	}
}

// token is a token that must be had.
func (s *server) token(src *freshtoken.Source) *oauth2.Token {
	s.t.Helper()
	tok, err := src.Token(s.t.Context())
	if err != nil {
		s.t.Fatalf("Token: %v", err)
	}
	return tok
}

// call sends a request to the API, and says what was wrong with the answer.
func call(ctx context.Context, client *http.Client, issuer, body string) error {
	req, err := http.NewRequestWithContext(ctx, "POST", issuer+"/api/call", strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var answer struct{ Received string }
	if resp.StatusCode != http.StatusOK || json.Unmarshal(data, &answer) != nil || answer.Received != body {
		return errors.New("the API answered " + resp.Status + ": " + string(data))
	}
	return nil
}

// wantWhole fails the test unless nothing was refused that a well-behaved client
// would not have sent.
func (s *server) wantWhole() counts {
	s.t.Helper()
	c := s.counts()
	if c.InvalidGrants != 0 || c.Reuses != 0 || c.FamiliesKilled != 0 || c.InvalidClients != 0 {
		s.t.Errorf("the server refused something: %+v", c)
	}
	return c
}
