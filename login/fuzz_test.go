package login

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"golang.org/x/oauth2"
)

// FuzzCallback sends the listener what any page and program of this machine can
// send. Only a GET for its host and path that has the state is taken for the
// login's answer; nothing of the request is in a page; and of an answer that is
// taken, a code comes only if it is alone, sound, and of the right issuer.
func FuzzCallback(f *testing.F) {
	const state, issuer = "KEEPSTATEKEEPSTATEKEEPSTAT", "https://as.test"
	for _, query := range []string{
		"code=abc&state=" + state + "&iss=https%3A%2F%2Fas.test", "error=access_denied&error_description=%3Cscript%3E&state=" + state,
		"code=a&code=b&state=" + state, "code=abc", "state=" + state + "&state=x&code=abc", "code=abc;state=" + state, "%zz=1&state=" + state,
		"code=a%0d%0ab&state=" + state, "iss=https://evil.test&code=abc&state=" + state,
	} {
		f.Add(http.MethodGet, "127.0.0.1:4321", "/callback", query)
		f.Add(http.MethodPost, "evil.test", "/callback/../callback", query)
	}
	cfg := &freshtoken.Config{Issuer: issuer, RequireIss: true, OAuth2: &oauth2.Config{ClientID: "client"}}
	f.Fuzz(func(t *testing.T, method, host, path, query string) {
		r := &receiver{host: "127.0.0.1:4321", path: "/callback", state: state, page: loginPage, answers: make(chan callback, 1), over: make(chan struct{})}
		close(r.over)
		req := &http.Request{Method: method, Host: host, URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{}}
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		checkPage(t, w, r)
		var got callback
		select {
		case got = <-r.answers:
		default:
			values, err := url.ParseQuery(query)
			if err == nil && method == http.MethodGet && host == r.host && req.URL.EscapedPath() == r.path && values.Get("state") == state {
				t.Fatalf("the answer %q was refused", query)
			}
			return
		}
		if method != http.MethodGet || host != r.host || req.URL.EscapedPath() != r.path || !strings.Contains(query, "state") {
			t.Fatalf("%s %s %s %q was taken for the answer", method, host, path, query)
		}
		code, err := got.judge(cfg)
		if err != nil {
			wantInert(t, err)
			if code != "" {
				t.Fatalf("an error and the code %q", code)
			}
			return
		}
		values, _ := url.ParseQuery(query)
		one := func(name, want string) bool { return len(values[name]) == 1 && values[name][0] == want }
		if !one("code", code) || !one("state", state) || !one("iss", issuer) || values.Get("error") != "" || code == "" {
			t.Fatalf("%q yields the code %q", query, code)
		}
	})
}

// checkPage compares a page with those that there are.
func checkPage(t *testing.T, w *httptest.ResponseRecorder, r *receiver) {
	t.Helper()
	h := w.Header()
	if h.Get("Cache-Control") != "no-store" || h.Get("Location") != "" || len(h["Set-Cookie"]) > 0 || !strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Fatalf("the header %v", h)
	}
	want := httptest.NewRecorder()
	refusePage(want, w.Code)
	if body := w.Body.Bytes(); !bytes.Equal(body, want.Body.Bytes()) && !bytes.Equal(body, r.page(nil)) {
		t.Fatalf("a page of its own: %s", body)
	}
}

// wantInert fails the test if a server's text could do harm in a terminal or log.
func wantInert(t *testing.T, err error) {
	t.Helper()
	if text := err.Error(); len(text) > 1000 || strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		t.Errorf("the error is not inert: %q", text)
	}
}

type answer string

func (a answer) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(a)))}, nil
}

// FuzzDeviceAnswer begins logins with whatever a device authorization endpoint
// may answer: a person is shown nothing that could do harm, and the program polls
// neither faster than once a second nor for longer than an hour.
func FuzzDeviceAnswer(f *testing.F) {
	for _, body := range []string{
		`{"device_code":"dc","user_code":"WDJB-MJHT","verification_uri":"https://as.test/device","expires_in":600,"interval":5}`,
		`{"device_code":"dc","user_code":"A\u001b[2J","verification_uri":"https://as.test/device"}`,
		`{"device_code":"dc","user_code":"A","verification_uri":"javascript:alert(1)"}`,
		`{"device_code":"dc","user_code":"A","verification_url":"http://localhost/d","verification_uri_complete":"file:///","expires_in":"Infinity","interval":1e-9}`,
		`{"device_code":"dc","user_code":"A","verification_uri":"https://a@b/","expires_in":-1}`,
	} {
		f.Add(body)
	}
	cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "client",
		Endpoint: oauth2.Endpoint{DeviceAuthURL: "https://as.test/device", TokenURL: "https://as.test/token"}}}
	f.Fuzz(func(t *testing.T, body string) {
		cfg := cfg
		cfg.HTTPClient = &http.Client{Transport: answer(body)}
		p, err := Device{}.begin(context.Background(), &cfg)
		if err != nil {
			if errors.Is(err, ErrExpired) && !strings.Contains(body, "expires_in") {
				t.Errorf("%q: %v", body, err)
			}
			wantInert(t, err)
			return
		}
		for _, text := range []string{p.code, p.shown.Code, p.shown.Address} {
			if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
				t.Errorf("%q is shown or sent", text)
			}
		}
		if len(p.shown.Code) > maxShown || len(p.shown.Address) > maxShown || len(p.shown.Complete) > 4*maxShown {
			t.Errorf("too much is shown: %+v", p.shown)
		}
		for _, address := range []string{p.shown.Address, p.shown.Complete} {
			u, err := url.Parse(address)
			if address != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || strings.ContainsAny(address, " \"'`<>\\")) {
				t.Errorf("the address %q is shown", address)
			}
		}
		if p.life <= 0 || p.life > maxExpiry || p.interval < time.Second || p.interval > maxInterval {
			t.Errorf("it lives for %v, and is asked for every %v", p.life, p.interval)
		}
	})
}

type created string

func (c created) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 201, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(c)))}, nil
}

// FuzzPushedAnswer pushes requests to an endpoint that may answer anything: the
// browser is sent to the authorization endpoint, with two parameters, or nowhere.
func FuzzPushedAnswer(f *testing.F) {
	for _, body := range []string{
		`{"request_uri":"urn:ietf:params:oauth:request_uri:6esc_11ACC5bwc014ltc14eY22c","expires_in":60}`,
		`{"request_uri":"urn:x&client_id=evil#","expires_in":1e-9}`, `{"request_uri":"urn:x\u001b[2J"}`, `{"request_uri":"a","request_uri":"b"}`,
		`{"request_uri":"https://evil.test/","expires_in":"Infinity"}`, `{"error":"invalid_request","error_description":"\u001b[2J"}`, `request_uri=urn:x`,
	} {
		f.Add(body)
	}
	cfg := freshtoken.Config{PushedAuthorizationURL: "https://as.test/par", OAuth2: &oauth2.Config{ClientID: "client",
		Endpoint: oauth2.Endpoint{AuthURL: "https://as.test/authorize", TokenURL: "https://as.test/token"}}}
	f.Fuzz(func(t *testing.T, body string) {
		cfg := cfg
		cfg.HTTPClient = &http.Client{Transport: created(body)}
		a, err := Loopback{}.begin(&cfg)
		if err != nil {
			t.Fatal(err)
		}
		e, err := a.refer(context.Background(), &cfg, &receiver{uri: "http://127.0.0.1:4321/callback", register: "http://127.0.0.1/callback"})
		if err != nil {
			wantInert(t, err)
			if refused := new(ServerError); !errors.Is(err, ErrPushed) && !errors.As(err, &refused) {
				t.Errorf("%q: an error of no known kind: %v", body, err)
			}
			return
		}
		u, err := url.Parse(e.address)
		if err != nil || checkAddress(e.address) != nil || u.Host != "as.test" || u.Path != "/authorize" || u.Fragment != "" ||
			len(u.Query()) != 2 || u.Query().Get("client_id") != "client" || u.Query().Get("request_uri") == "" {
			t.Errorf("%q sends the browser to %q", body, e.address)
		}
		if e.life < 0 || e.life > maxExpiry {
			t.Errorf("the address is good for %v", e.life)
		}
	})
}
