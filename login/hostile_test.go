package login_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/oauth2"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/endpoint"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// honest and evil are two servers of one client. Evil has the browser sent on to
// honest, with what the client has asked of evil: the mix-up attack.
func honestAndEvil(o oauthtest.Options) (honest, evil *oauthtest.Server) {
	o.BaseURL = "https://honest.test"
	honest = oauthtest.New(o)
	o.BaseURL = "https://evil.test"
	evil = oauthtest.New(o)
	evil.Handle("honest.test", honest)
	evil.Authorization.Func(func(r *http.Request, _ int) oauthtest.Fault {
		return oauthtest.Redirect(http.StatusFound, honest.AuthURL()+"?"+r.URL.RawQuery)
	})
	return honest, evil
}

// issuedCodes counts the codes that a server has issued.
func issuedCodes(as *oauthtest.Server) (n int) {
	for _, e := range as.LogOf(oauthtest.AuthorizationEndpoint) {
		if e.IssuedCode != "" {
			n++
		}
	}
	return n
}

func TestMixUp(t *testing.T) {
	t.Run("R9207-2.4 (ASVS-10) a code of the honest server never goes to the other", func(t *testing.T) {
		honest, evil := honestAndEvil(oauthtest.Options{})
		u := userOf(t, evil)
		_, err := login.Ensure(t.Context(), source(t, config(evil)), u.loopback())
		wantErr(t, err, login.ErrIssuer)
		if n := issuedCodes(honest); n != 1 {
			t.Errorf("the honest server issued %d codes, want 1: nothing was tried", n)
		}
		if tokenRequests(evil) != 0 || tokenRequests(honest) != 0 {
			t.Errorf("%d and %d token requests", tokenRequests(evil), tokenRequests(honest))
		}
	})
	t.Run("R9207-2.4 nor where the client does not know that it names itself", func(t *testing.T) {
		_, evil := honestAndEvil(oauthtest.Options{})
		cfg := config(evil)
		cfg.RequireIss = false
		_, err := login.Ensure(t.Context(), source(t, cfg), userOf(t, evil).loopback())
		if wantErr(t, err, login.ErrIssuer); tokenRequests(evil) != 0 {
			t.Errorf("%d token requests", tokenRequests(evil))
		}
	})
	t.Run("R8252-8.10 nor, where servers do not name themselves, with a redirect URI for each", func(t *testing.T) {
		honest, evil := honestAndEvil(oauthtest.Options{OmitIss: true, RedirectURIs: []string{"http://127.0.0.1/honest"}})
		cfg := config(evil)
		cfg.RequireIss = false
		cfg.OAuth2.RedirectURL = "http://127.0.0.1/evil"
		u := userOf(t, evil)
		l := u.loopback()
		ctx, cancel := context.WithCancel(t.Context())
		l.Prompt.Browse = func(ctx context.Context, address string) error {
			u.visits.Go(func() { u.visit(address); cancel() }) // the person sees honest's page of errors
			return nil
		}
		_, err := login.Ensure(ctx, source(t, cfg), l)
		if err == nil || issuedCodes(honest) != 0 || tokenRequests(evil) != 0 {
			t.Errorf("error %v, %d codes, %d token requests", err, issuedCodes(honest), tokenRequests(evil))
		}
	})
	t.Run("R9700-2.1-csrf (ASVS-10) two logins whose answers are exchanged", testExchanged)
}

// Two programs log in at once, and somebody gives each browser the other's
// answer. Both refuse it, and go on to take their own.
func testExchanged(t *testing.T) {
	first, second := oauthtest.New(oauthtest.Options{BaseURL: "https://one.test"}), oauthtest.New(oauthtest.Options{BaseURL: "https://two.test"})
	servers := []*oauthtest.Server{first, second}
	backs := make([]string, 2) // where each browser is sent back to, with its answer
	var both, logins sync.WaitGroup
	both.Add(2)
	plain := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	errs := make([]error, 2)
	for i, as := range servers {
		browser := as.Browser()
		browser.CheckRedirect = func(req *http.Request, _ []*http.Request) error {
			backs[i] = req.URL.String()
			return http.ErrUseLastResponse
		}
		u := userOf(t, as)
		l := u.loopback()
		l.Prompt.Browse = func(_ context.Context, address string) error {
			get(browser, address, "")
			both.Done()
			u.visits.Go(func() {
				both.Wait()
				own, err := url.Parse(backs[i])
				other, otherErr := url.Parse(backs[1-i])
				if err != nil || otherErr != nil || own.Host == "" || own.Host == other.Host {
					t.Errorf("the answers go to %q", backs)
					return
				}
				for _, query := range []string{other.RawQuery, strings.Replace(own.RawQuery, "state=", "state=x", 1)} {
					swapped := *own
					swapped.RawQuery = query
					if p := get(plain, swapped.String(), ""); p.status != http.StatusBadRequest {
						t.Errorf("another's answer: status %d, error %v", p.status, p.err)
					}
				}
				u.visit(own.String())
			})
			return nil
		}
		src := source(t, config(as))
		logins.Go(func() { _, errs[i] = login.Ensure(t.Context(), src, l) })
	}
	logins.Wait()
	for i, as := range servers {
		if errs[i] != nil || tokenRequests(as) != 1 {
			t.Errorf("server %d: %d token requests, error %v", i, tokenRequests(as), errs[i])
		}
	}
}

// hostileTexts stand in the place of a JSON string of an answer.
var hostileTexts = map[string]string{
	"a line break": `"a\r\nX: y"`, "NUL": `"a\u0000b"`, "a terminal": `"\u001b]0;t\u0007\u001b[2J"`, "unicode": `"\u202etxet"`, "quotes": `"\"><script>"`,
	"JSON": `"{\"a\":1}"`, "1 MiB": `"` + strings.Repeat("x", 1<<20-600) + `"`, "a list": `["a"]`, "an object": `{"a":1}`, "a number": `1e999`, "null": `null`,
}

// Whatever stands in a member of an answer to a login: what is shown to the
// person and what the error says is inert, and no session comes of what cannot be
// sent.
func TestHostileLoginAnswers(t *testing.T) {
	for what, value := range hostileTexts {
		for _, member := range []string{"device_code", "user_code", "verification_uri", "verification_uri_complete", "expires_in", "interval"} {
			inBubble(t, "R8628-3.3 "+member+" is "+what, func(t *testing.T) {
				as := oauthtest.New(oauthtest.Options{})
				as.Device.Next(oauthtest.SetMember(member, value))
				v := &viewer{as: as, after: time.Second}
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
				defer cancel()
				_, err := login.Ensure(ctx, source(t, config(as)), v.device())
				if err != nil {
					inert(t, err.Error())
				}
				for _, c := range v.shown {
					inert(t, c.Code+c.Address+c.Complete)
				}
				if n := len(polls(as)); n > 300 {
					t.Errorf("%d polls", n)
				}
			})
		}
		for _, member := range []string{"access_token", "refresh_token", "token_type", "scope", "error", "error_description"} {
			t.Run("R6749-10.14 "+member+" is "+what, func(t *testing.T) {
				as := oauthtest.New(oauthtest.Options{})
				as.Token.Next(oauthtest.SetMember(member, value))
				src := source(t, config(as))
				tok, err := login.Ensure(t.Context(), src, userOf(t, as).loopback())
				if err != nil {
					inert(t, err.Error())
					if tok != nil || tokenRequests(as) != 1 {
						t.Errorf("a token beside an error: %v; %d token requests", tok != nil, tokenRequests(as))
					}
				} else if strings.ContainsFunc(tok.AccessToken, func(r rune) bool { return r <= ' ' || r > '~' }) {
					t.Error("a token that cannot be sent")
				}
			})
		}
	}
}

func inert(t *testing.T, text string) {
	t.Helper()
	if len(text) > 4000 || strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		t.Errorf("it is not inert: %.300q", text)
	}
}

// No endpoint of a login follows a redirect, wherever it leads.
func TestLoginRedirects(t *testing.T) {
	for _, status := range []int{300, 301, 302, 303, 305, 307, 308} {
		for _, to := range []string{"https://evil.test/", "/token", "http://oauth.test/device", "://", "\x1b[2J"} {
			t.Run(fmt.Sprintf("R6749-3.2-post %d to %q", status, to), func(t *testing.T) {
				as := oauthtest.New(oauthtest.Options{ClientSecret: "secret"})
				as.Handle("evil.test", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s went to evil.test", r.Method) }))
				src := source(t, config(as))
				as.Token.Always(oauthtest.Redirect(status, to))
				as.Device.Always(oauthtest.Redirect(status, to))
				v := &viewer{as: as}
				for _, flow := range []freshtoken.Authenticator{userOf(t, as).loopback(), v.device()} {
					_, err := login.Ensure(t.Context(), src, flow)
					refused := new(login.ServerError)
					if !errors.As(err, &refused) || refused.Status != status {
						t.Errorf("got error %v, want what the server has answered", err)
					}
					inert(t, err.Error())
				}
				if s := as.Stats(); s.TokenRequests != 1 || len(as.LogOf(oauthtest.DeviceEndpoint)) != 1 || len(v.shown) != 0 {
					t.Errorf("%d token requests, %d for a device", s.TokenRequests, len(as.LogOf(oauthtest.DeviceEndpoint)))
				}
			})
		}
	}
}

// A talkative transport fails and says what it was to send, as those for debugging
// do: at once, or when the answer breaks off, if status is that of one.
type talkative struct {
	http.RoundTripper
	to     string // the endpoint
	status int
	once   bool
	sent   url.Values
}

func (h *talkative) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.String() != h.to || h.once && h.sent != nil {
		return h.RoundTripper.RoundTrip(req)
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	if h.sent, err = url.ParseQuery(string(body)); err != nil {
		return nil, err
	}
	told := fmt.Errorf("request failed, it was: %s, %s", req.Header.Get("Authorization"), body)
	if h.status == 0 {
		return nil, told
	}
	return &http.Response{StatusCode: h.status, Header: make(http.Header), Body: io.NopCloser(iotest.ErrReader(told))}, nil
}

// wantHidden checks that neither an error nor what it wraps has any of the secrets.
func wantHidden(t *testing.T, err error, secrets map[string]string) {
	t.Helper()
	for name, secret := range secrets {
		if secret == "" {
			t.Errorf("the transport was given no %s", name)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("the error has the %s: %v", name, err)
		}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			wantHidden(t, inner, secrets)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			wantHidden(t, inner, secrets)
		}
	}
}

func TestTalkativeTransports(t *testing.T) {
	const secret = "a-very+secret/client/secret"
	asked := map[string][]string{"token": {"code", "code_verifier"}, "device": nil, "poll": {"device_code"}, "push": {"state"}}
	for where, names := range asked {
		for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleInParams, oauth2.AuthStyleInHeader} {
			for _, status := range []int{0, 200, 201, 400} {
				run := func(name string, f func(*testing.T)) { t.Run(name, f) }
				if where == "poll" { // until the code has expired
					run = func(name string, f func(*testing.T)) { inBubble(t, name, f) }
				}
				run(fmt.Sprintf("R6749-10.14 what a transport tells of a secret is hidden: %s, %v, status %d", where, style, status), func(t *testing.T) {
					as := oauthtest.New(oauthtest.Options{ClientSecret: secret})
					cfg := config(as)
					cfg.OAuth2.Endpoint.AuthStyle = style
					h := &talkative{RoundTripper: as.Transport(), to: cfg.OAuth2.Endpoint.TokenURL, status: status}
					var flow freshtoken.Authenticator = (&viewer{as: as}).device()
					switch where {
					case "device":
						h.to = cfg.OAuth2.Endpoint.DeviceAuthURL
					case "push":
						cfg.PushedAuthorizationURL = as.PushedAuthorizationURL()
						h.to = cfg.PushedAuthorizationURL
						flow = userOf(t, as).loopback()
					case "token":
						flow = userOf(t, as).loopback()
					}
					cfg.HTTPClient = &http.Client{Transport: h}
					_, err := flow.Authenticate(t.Context(), cfg)
					if err == nil {
						t.Fatal("no error")
					}
					secrets := map[string]string{"client secret": secret}
					for _, name := range names {
						secrets[name] = h.sent.Get(name)
					}
					for _, form := range []string{url.QueryEscape(secret), base64.StdEncoding.EncodeToString([]byte(cfg.OAuth2.ClientID + ":" + url.QueryEscape(secret)))} {
						secrets["client secret as "+form] = form
					}
					wantHidden(t, err, secrets)
					if lost := new(endpoint.SendError); status == 0 && (!errors.As(err, &lost) || !strings.Contains(err.Error(), lost.Host)) {
						t.Errorf("the error does not say who has not answered: %v", err)
					}
				})
			}
		}
	}
	inBubble(t, "a login on another device goes on", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		cfg := config(as)
		h := &talkative{RoundTripper: as.Transport(), to: cfg.OAuth2.Endpoint.TokenURL, once: true}
		cfg.HTTPClient = &http.Client{Transport: h}
		if _, err := (&viewer{as: as, after: time.Second}).device().Authenticate(t.Context(), cfg); err != nil || h.sent == nil {
			t.Errorf("got error %v", err)
		}
	})
}
