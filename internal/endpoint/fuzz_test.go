package endpoint

import (
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

// inert is how the errors of this package read, whatever a server sends.
var inert = regexp.MustCompile(`^[\x20-\x7e]{1,300}$`)

// complaints are all that is said of an answer without a usable token. That none
// of them quotes the answer is the point.
var complaints = regexp.MustCompile(`^(the answer (is not a JSON object|is not a form|has an error beside tokens|is form-encoded, not JSON: .*` +
	`|has a member twice|has no access token|'s refresh token cannot be read|has no token_type: .*)|the answer's refresh token cannot be read)$`)

const form = "application/x-www-form-urlencoded"

func answerOf(status int, kind, body string) *Answer {
	return &Answer{Status: status, Header: http.Header{"Content-Type": {kind}}, body: []byte(body)}
}

// FuzzToken reads whatever a token endpoint may answer. A token is what the
// answer says, to the letter, or there is none; and a refresh token that is
// salvaged from a broken answer is whole.
func FuzzToken(f *testing.F) {
	for _, body := range []string{
		`{"access_token":"at","token_type":"Bearer","expires_in":3600,"refresh_token":"rt"}`,
		`{"access_token":"at","refresh_token":"rt"}`, `{"error":"invalid_grant","error_description":"\u001b[2J"}`,
		`{"access_token":"at","access_token":"other"}`, `[]`, `access_token=at&token_type=bearer&refresh_token=rt`,
	} {
		f.Add(200, false, body)
		f.Add(400, true, body)
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, status int, asForm bool, body string) {
		kind := "application/json"
		if asForm {
			kind = form
		}
		a := answerOf(status, kind, body)
		tok, err := a.Token(start, asForm, false)
		refused, bad := new(Refusal), new(UnusableError)
		switch {
		case err == nil:
			checkToken(t, a, tok, start)
		case errors.As(err, &refused):
			checkRefusal(t, a, refused)
		case !errors.As(err, &bad):
			t.Fatalf("an error of no known kind: %v", err)
		case !complaints.MatchString(err.Error()):
			t.Fatalf("the error may show a piece of the answer: %q", err)
		case !Printable(bad.RefreshToken):
			t.Fatalf("the refresh token %q cannot be sent", bad.RefreshToken)
		case bad.RefreshToken != "" && !asForm && len(refreshTokens(a.body)) != 1:
			t.Fatalf("%q was chosen among those of %q", bad.RefreshToken, a.body)
		}
		if !asForm {
			checkBreaks(t, a, start)
		}
	})
}

// checkToken compares a token with what encoding/json makes of the answer.
func checkToken(t *testing.T, a *Answer, tok *oauth2.Token, start time.Time) {
	t.Helper()
	if !a.OK() || tok.AccessToken == "" || tok.TokenType == "" || !Printable(tok.RefreshToken) {
		t.Fatalf("status %d, and the token %+v", a.Status, tok)
	}
	if left := tok.Expiry.Sub(start); !tok.Expiry.IsZero() && (left < 0 || left > maxSeconds*time.Second) || tok.ExpiresIn < 0 {
		t.Fatalf("it lives for %v", left)
	}
	if a.formEncoded() {
		return
	}
	var all map[string]any
	if err := json.Unmarshal([]byte(strings.TrimPrefix(string(a.body), "\ufeff")), &all); err != nil {
		t.Fatalf("a token of what is not JSON: %v", err)
	}
	if refresh, _ := all["refresh_token"].(string); all["access_token"] != tok.AccessToken || refresh != tok.RefreshToken || all["token_type"] != tok.TokenType {
		t.Fatalf("%s was read as %q, %q, %q", a.body, tok.AccessToken, tok.RefreshToken, tok.TokenType)
	}
	if code, _ := all["error"].(string); code != "" {
		t.Fatalf("a token of an answer with the error %q", code)
	}
}

func checkRefusal(t *testing.T, a *Answer, r *Refusal) {
	t.Helper()
	for _, text := range []string{r.Code, r.Description} {
		if text != "" && (!inert.MatchString(text) || strings.ContainsAny(text, `"\`)) || len(r.Code) > 64 || len(r.Description) > 200 {
			t.Fatalf("the text %q is not inert", text)
		}
	}
	if r.Status != a.Status || a.OK() && r.Code == "" {
		t.Fatalf("%d became the refusal %+v", a.Status, r)
	}
}

// checkBreaks cuts an answer at some of its bytes. What is read of a piece is
// nothing, or what is read of the whole: half a refresh token would end the
// session, and half a refusal as well.
func checkBreaks(t *testing.T, a *Answer, start time.Time) {
	t.Helper()
	whole, _, err := a.Members()
	if err != nil {
		return
	}
	for n := 0; n < len(a.body); n += 1 + len(a.body)/64 {
		piece := &Answer{Status: 200, Header: a.Header, body: a.body[:n]}
		tok, err := piece.Token(start, false, true)
		if err == nil && string(whole["access_token"]) == "" {
			t.Fatalf("%q has the token %q", piece.body, tok.AccessToken)
		}
		if bad := new(UnusableError); errors.As(err, &bad) && bad.RefreshToken != "" {
			if all := refreshTokens(a.body); !slices.Contains(all, bad.RefreshToken) {
				t.Fatalf("%q was salvaged of %q", bad.RefreshToken, a.body)
			}
		}
		all, _, _ := piece.Members()
		for name, value := range all {
			if !json.Valid(value) {
				t.Fatalf("the member %q of %q is %q", name, piece.body, value)
			}
		}
	}
}

// refreshTokens are the refresh_token members of an object that are strings, as
// far as it can be read.
func refreshTokens(object []byte) (all []string) {
	d := json.NewDecoder(strings.NewReader(strings.TrimPrefix(string(object), "\ufeff")))
	d.Token()
	for d.More() {
		name, err := d.Token()
		var value any
		if err != nil || d.Decode(&value) != nil {
			break
		}
		if rt, ok := value.(string); ok && name == "refresh_token" {
			all = append(all, rt)
		}
	}
	return all
}

// FuzzRefusal reads refusals: what is shown of them is inert and short, whatever
// the server says.
func FuzzRefusal(f *testing.F) {
	f.Add(400, "application/json", `{"error":"invalid_grant","error_description":"expired\r\nSet-Cookie: x=\"y\""}`)
	f.Add(401, form, "error=invalid_client&error_description=%1b%5d0;x%07")
	f.Add(503, "text/html", "<html><script>alert(1)</script></html>")
	f.Add(403, "", `{"error":["a"],"error_description":{}}`)
	f.Fuzz(func(t *testing.T, status int, kind, body string) {
		a := answerOf(status, kind, body)
		r := a.Refusal()
		if a.OK() && r.Code == "" {
			return // no refusal: Token does not take it for one
		}
		checkRefusal(t, a, r)
		if err := r.Error(); !inert.MatchString(err) {
			t.Errorf("the error %q", err)
		}
	})
}
