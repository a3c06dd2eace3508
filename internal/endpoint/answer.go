package endpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// An Answer is what an endpoint sent back. Nothing prints it: its body holds
// secrets.
type Answer struct {
	Status int
	Header http.Header
	body   []byte
	err    error    // why the body is incomplete
	proof  []string // what the request had of a client's proof
}

// OK reports whether the status is a success.
func (a *Answer) OK() bool { return a.Status >= 200 && a.Status <= 299 }

// A Refusal is an answer that says no.
type Refusal struct {
	Status            int
	Header            http.Header
	Code, Description string // RFC 6749 section 5.2, inert

	// Broken is why the answer broke off before it gave its reason; nil: it
	// did not.
	Broken error
}

func (r *Refusal) Error() string {
	return strings.TrimSpace(fmt.Sprint(r.Status, " ", r.Code))
}

// Refusal reads the answer as an error.
func (a *Answer) Refusal() *Refusal {
	all, _, _ := a.Members()
	code, _ := Text(all["error"])
	description, _ := Text(all["error_description"])
	r := &Refusal{Status: a.Status, Header: a.Header, Code: Sanitize(code, 64), Description: Sanitize(description, 200)}
	HideTexts(&r.Code, &r.Description, a.proof...)
	if a.err != nil && code == "" {
		r.Broken = fmt.Errorf("the answer broke off: %w", a.err)
	}
	return r
}

// An UnusableError is about an answer that ought to have a token, and has none
// that could be used.
type UnusableError struct {
	Err          error
	RefreshToken string // if the answer has a sound one
	IDToken      string // if the answer has one: see IDToken
}

func (e *UnusableError) Error() string { return e.Err.Error() }
func (e *UnusableError) Unwrap() error { return e.Err }

// ErrNoType says that a token has no type, which RFC 6749 section 5.1 requires.
var ErrNoType = errors.New("the answer has no token_type: set Config.AssumeBearer if the server never sends one")

// AllMembers is the name under which a token's Extra has all members of the
// answer that it came with, undecoded, as a map[string]json.RawMessage.
const AllMembers = "\x00members"

// Token reads the answer to a token request. start is when the request began.
// The error is a *Refusal or an *UnusableError.
func (a *Answer) Token(start time.Time, acceptForm, assumeBearer bool) (*oauth2.Token, error) {
	if !a.OK() {
		return nil, a.Refusal()
	}
	all, repeated, err := a.Members()
	refresh := ""
	if rt, ok := Text(all["refresh_token"]); ok && Printable(rt) && !repeated["refresh_token"] {
		refresh = rt
	}
	// Without an error, or with new tokens beside it, the server has acted,
	// whatever is wrong with its answer.
	if code, _ := Text(all["error"]); a.err == nil && err == nil && code != "" && refresh == "" {
		return nil, a.Refusal()
	}
	tok, err := a.token(all, repeated, err, acceptForm)
	if err == nil && tok.TokenType == "" {
		if tok.TokenType = "Bearer"; !assumeBearer {
			err = ErrNoType
		}
	}
	if err != nil {
		return nil, &UnusableError{Err: err, RefreshToken: refresh, IDToken: IDToken(all)}
	}
	tok.RefreshToken = refresh
	if n, ok := Number(all["expires_in"]); ok {
		d := time.Duration(min(max(n, 0), maxSeconds) * float64(time.Second))
		tok.Expiry, tok.ExpiresIn = start.Add(d), int64(d/time.Second)
	}
	return tok.WithExtra(map[string]any{AllMembers: all}), nil
}

// maxSeconds keeps an absurd expires_in from overflowing.
const maxSeconds = 100 * 365 * 24 * 3600

// token is the part of Token that checks what is there. err is that of Members.
func (a *Answer) token(all map[string]json.RawMessage, repeated map[string]bool, err error, acceptForm bool) (*oauth2.Token, error) {
	code, _ := Text(all["error"])
	switch {
	case a.err != nil:
		return nil, fmt.Errorf("the answer broke off: %w", a.err)
	case err != nil:
		return nil, err
	case code != "":
		return nil, errors.New("the answer has an error beside tokens")
	case a.formEncoded() && !acceptForm:
		return nil, errors.New("the answer is form-encoded, not JSON: set Config.AcceptFormEncoded if the server is meant to do so")
	case len(repeated) > 0:
		return nil, errors.New("the answer has a member twice")
	}
	access, ok := Text(all["access_token"])
	if !ok || access == "" {
		return nil, errors.New("the answer has no access token")
	}
	if raw, ok := all["refresh_token"]; ok && string(raw) != `""` && string(raw) != "null" {
		if rt, ok := Text(raw); !ok || !Printable(rt) {
			return nil, errors.New("the answer's refresh token cannot be read")
		}
	}
	kind, _ := Text(all["token_type"])
	return &oauth2.Token{AccessToken: access, TokenType: kind}, nil
}

func (a *Answer) formEncoded() bool {
	kind, _, _ := strings.Cut(a.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "application/x-www-form-urlencoded")
}

// Members reads the body as an object: JSON whatever its label says, since a
// wrong label must not cost a session, or a form if it is labelled so. Names
// are compared exactly. Of a body that breaks off, the members before the break
// are returned along with the error, which holds nothing of the body.
func (a *Answer) Members() (all map[string]json.RawMessage, repeated map[string]bool, err error) {
	all, repeated = make(map[string]json.RawMessage), make(map[string]bool)
	if a.formEncoded() {
		form, err := url.ParseQuery(string(a.body))
		for name, values := range form {
			all[name], _ = json.Marshal(values[0])
			if len(values) > 1 {
				repeated[name] = true
			}
		}
		if err != nil {
			err = errors.New("the answer is not a form")
		}
		return all, repeated, err
	}
	repeated, err = Object(a.body, all)
	return all, repeated, err
}

// Object reads one JSON object into all, undecoded, and returns the names that
// occur more than once. Of input that breaks off, what precedes the break is
// read. The error holds nothing of the input.
func Object(data []byte, all map[string]json.RawMessage) (repeated map[string]bool, err error) {
	repeated = make(map[string]bool)
	bad := errors.New("the answer is not a JSON object")
	in := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))))
	if t, err := in.Token(); err != nil || t != json.Delim('{') {
		return repeated, bad
	}
	for in.More() {
		t, err := in.Token()
		name, ok := t.(string)
		var value json.RawMessage
		if err != nil || !ok || in.Decode(&value) != nil {
			return repeated, bad
		}
		if _, dup := all[name]; dup {
			repeated[name] = true
		}
		all[name] = value
	}
	if _, err := in.Token(); err != nil {
		return repeated, bad
	}
	if _, err := in.Token(); err != io.EOF {
		return repeated, bad
	}
	return repeated, nil
}

// IDToken returns the ID token among the members of an answer; "" if there is
// none. What is no string is returned as it is, since it is no ID token either.
func IDToken(all map[string]json.RawMessage) string {
	raw := all["id_token"]
	if s, ok := Text(raw); ok || len(raw) == 0 || string(raw) == "null" {
		return s
	}
	return string(raw)
}

// Text decodes a JSON string.
func Text(raw json.RawMessage) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	return s, json.Unmarshal(raw, &s) == nil
}

// Number decodes a JSON number, or a string that holds one.
func Number(raw json.RawMessage) (float64, bool) {
	s, ok := Text(raw)
	if !ok {
		s = string(raw)
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	return n, (err == nil || errors.Is(err, strconv.ErrRange)) && n == n
}

// Printable reports whether a token or a code is free of control characters
// (RFC 6749 appendix A).
func Printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// Sanitize makes a server's text inert: printable ASCII without quotes and
// backslashes, which RFC 6749 section 5.2 excludes as well, and not too long.
func Sanitize(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, s)
}

// RefreshLifetimes are the members of a token response that say how long its refresh
// token lives: none is in an RFC, and each has its servers.
var RefreshLifetimes = []string{"refresh_token_expires_in", "refresh_expires_in", "refresh_token_timeout"}
