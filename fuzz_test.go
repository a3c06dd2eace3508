package freshtoken

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

// answering is a RoundTripper that always gives one answer.
type answering struct {
	status int
	header http.Header
	body   string
}

func (a answering) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: a.status, Header: a.header, Body: io.NopCloser(strings.NewReader(a.body))}, nil
}

// FuzzRefusal holds the meaning of refusals to what a session depends on: only
// an invalid_grant ends it without doubt, no failure of the server does, and
// whoever is asked to wait is not asked to wait for ever. The error is one line
// of plain text, of which a terminal and a log have nothing to fear.
func FuzzRefusal(f *testing.F) {
	for _, body := range []string{`{"error":"invalid_grant"}`, `{"error":"invalid_client","error_description":"a\u001b]0;b\u0007\r\nc"}`,
		`{"error":"slow_down"}`, `{"error":"refresh_token_reused"}`, `<html>`, ``, `{"error":"server_error","refresh_token":"rt"}`} {
		f.Add(uint16(400), "120", body)
		f.Add(uint16(503), "Fri, 31 Dec 2100 23:59:59 GMT", body)
	}
	cfg := Config{OAuth2: &oauth2.Config{ClientID: "client", Endpoint: oauth2.Endpoint{TokenURL: "https://as.test/token"}}}
	f.Fuzz(func(t *testing.T, code uint16, wait, body string) {
		status := 300 + int(code)%300
		header := http.Header{"Retry-After": {wait}, "Content-Type": {"application/json"}}
		cfg := cfg
		cfg.HTTPClient = &http.Client{Transport: answering{status, header, body}}
		_, err := newTokenEndpoint(&cfg).Refresh(context.Background(), &oauth2.Token{RefreshToken: "rt"})
		e := new(RefreshError)
		if !errors.As(err, &e) {
			t.Fatalf("got %v", err)
		}
		named := errorCode(body)
		if named != "" && len(named) <= 64 && !strings.ContainsFunc(named, func(r rune) bool { return r < 0x20 || r > 0x7e || r == '"' || r == '\\' }) && e.Code != named {
			t.Errorf("the code %q became %q", named, e.Code)
		}
		if ended := e.Code == "invalid_grant" && status < 500; e.ended != ended || errors.Is(err, ErrSessionEnded) != ended {
			t.Errorf("%d %q: the session has ended: %v", status, e.Code, e.ended)
		}
		if status >= 500 && (e.class != classTransient && e.class != classUnknown || !e.Temporary) {
			t.Errorf("a failure of the server, %d %q, is %s", status, e.Code, e.class)
		}
		if e.class == classConfiguration && !slices.Contains(configurationCodes, e.Code) || e.class == classDenied && !slices.Contains(deniedCodes, e.Code) {
			t.Errorf("%d %q is %s", status, e.Code, e.class)
		}
		if e.Temporary != (e.class == classTransient || e.class == classUnknown) || e.OutcomeUnknown != (e.class == classUnknown) {
			t.Errorf("%d %q is %+v", status, e.Code, e)
		}
		if e.RetryAfter < 0 || e.RetryAfter > maxRetryAfter || e.salvaged != "" {
			t.Errorf("%d %q is %+v", status, e.Code, e)
		}
		wantPlain(t, err.Error())
	})
}

// errorCode is the error member of an object, as long as there is one alone.
func errorCode(body string) string {
	var all map[string]json.RawMessage
	if json.Unmarshal([]byte(body), &all) != nil || strings.Count(body, "error\"") > 1 || strings.Contains(body, `\u`) {
		return ""
	}
	var code string
	json.Unmarshal(all["error"], &code)
	return code
}

func wantPlain(t *testing.T, text string) {
	t.Helper()
	if len(text) > 1000 || strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		t.Errorf("the text is not inert: %q", text)
	}
}

// FuzzAnswer refreshes a session with whatever a server may answer with 200. What
// comes of it can be stored and read back as it is, or there is an error; and
// the old refresh token is never replaced by something that cannot be sent.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{
		`{"access_token":"at","token_type":"Bearer","expires_in":3600,"refresh_token":"rt2","scope":"a b"}`,
		`{"access_token":"a\u0000t","token_type":"Bearer"}`, `{"access_token":"at","token_type":"mac","refresh_token":"rt2"}`,
		`{"access_token":"at","token_type":"Bearer","expires_in":1e300,"refresh_in":-1}`, `{"access_token":"at","token_type":"Bearer","lifetime_ns":5,"id":{}}`,
		`{"access_token":"{\"a\":1}","token_type":"Bearer","refresh_token":"{\"b\":[2]}"}`,
	} {
		f.Add(body)
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	old := &record{Version: recordVersion, Binding: binding{"https://as.test", "client", "default"}, ID: "id", Generation: 1,
		access: access{AccessToken: "old", Issued: start, Lifetime: time.Hour}, RefreshToken: "rt", Started: start}
	cfg := Config{OAuth2: &oauth2.Config{ClientID: "client", Endpoint: oauth2.Endpoint{TokenURL: "https://as.test/token"}}}
	f.Fuzz(func(t *testing.T, body string) {
		cfg := cfg
		cfg.HTTPClient = &http.Client{Transport: answering{200, http.Header{}, body}}
		tok, err := newTokenEndpoint(&cfg).Refresh(context.Background(), &oauth2.Token{RefreshToken: "rt"})
		if err != nil {
			wantPlain(t, err.Error())
			return
		}
		g, err := takeApart(tok, start)
		if err != nil {
			if !errors.Is(err, ErrBadToken) {
				t.Error(err)
			}
			wantPlain(t, err.Error())
			return
		}
		other := old.next(g, start, "scope=read")
		if a := other.of("scope=read"); a == nil || a.Lifetime < 0 || a.Lifetime > maxLifetime || !headerSafe(a.AccessToken) || !other.access.same(&old.access) {
			t.Fatalf("%q became %+v", body, (*plain)(other))
		}
		r := old.next(g, start, "")
		if r.RefreshToken == "" || r.Generation != 2 || r.Lifetime < 0 || r.Lifetime > maxLifetime || !headerSafe(r.AccessToken) {
			t.Fatalf("%q became %+v", body, (*plain)(r))
		}
		data, err := r.encode()
		if err != nil {
			t.Fatalf("%q cannot be stored: %v", body, err)
		}
		again, err := decodeRecord(data)
		if err != nil || !again.sameTokens(r) || again.Lifetime != r.Lifetime || len(again.Extra) != len(r.Extra) {
			t.Fatalf("%q became %+v: %v", body, (*plain)(again), err)
		}
	})
}
