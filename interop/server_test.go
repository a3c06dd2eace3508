package interop_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/mark"
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
	Audience        string   `json:"audience,omitempty"` // of access tokens, which are JWTs then
	RequirePushed   bool     `json:"requirePushed"`      // authorization requests (RFC 9126)
}

// A client is one that the server knows.
type client struct {
	ID           string   `json:"client_id"`
	Secret       string   `json:"client_secret,omitempty"`
	Method       string   `json:"token_endpoint_auth_method"`
	RedirectURIs []string `json:"redirect_uris,omitempty"` // nil: that of a native program
}

// The clients of every server. The characters are those that differ between
// HTTP Basic done right, HTTP Basic without the form-encoding of RFC 6749
// section 2.3.1, and the body.
var (
	public = client{ID: "public", Method: "none"}
	basic  = client{ID: "odd id/+%:=&", Secret: mark.Weave(mark.ClientSecret, `s3cr+t %41/&=:~"?`), Method: "client_secret_basic"}
	post   = client{ID: "posted id/+%:=&", Secret: mark.Weave(mark.ClientSecret, `p0st+ed %41/&=:~"?`), Method: "client_secret_post"}
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
	var said struct{ Issuer string }
	if err := json.Unmarshal(launch(t, "oidcprovider", arg), &said); err != nil {
		t.Fatal(err)
	}
	return &server{t: t, issuer: said.Issuer}
}

// site is what a program knows of the server.
func (s *server) site(c client) site {
	return site{Issuer: s.issuer, Client: c, Scopes: []string{"openid", "offline_access", "api"},
		Token: s.issuer + "/token", Auth: s.issuer + "/auth", Device: s.issuer + "/device/auth", Revocation: s.issuer + "/token/revocation",
		APIs: []api{s.api(), {Name: "userinfo", URL: s.issuer + "/me", ReadOnly: true}}}
}

func (s *server) api() api { return api{Name: "API", URL: s.issuer + "/api/call"} }

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
	tok, err := s.site(c).refresh(refreshToken)
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

// config is how a program is set up for this server.
func (s *server) config(c client, store freshtoken.Store) freshtoken.Config {
	return s.site(c).config(store)
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
