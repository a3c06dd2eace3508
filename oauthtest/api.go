package oauthtest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// ChecksumHeader is the request header in which a client may state the SHA-256
// of its body, in hexadecimal digits. The API answers 400 and counts a damaged
// body if it differs.
const ChecksumHeader = "X-Body-SHA256"

// api answers a request for a protected resource (RFC 6750). The token is
// judged before the body is read, as real servers do.
func (c *call) api() Answer {
	at, a, ok := c.bearer()
	if !ok {
		return a
	}
	sum := sha256.New()
	n, err := io.Copy(sum, c.r.Body)
	digest := hex.EncodeToString(sum.Sum(nil))

	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.entry.BodyLength = n
	damage := ""
	if want := c.r.Header.Get(ChecksumHeader); want != "" && !strings.EqualFold(want, digest) {
		damage = "the body's checksum differs"
	}
	if err != nil || c.r.ContentLength >= 0 && n != c.r.ContentLength {
		damage = "the body did not arrive whole"
	}
	if damage != "" {
		c.entry.Outcome, c.entry.Detail = DamagedBody, damage
		c.s.stats.DamagedBodies++
		return errorAnswer(http.StatusBadRequest, "damaged_body", damage)
	}
	c.s.stats.APIServed++
	var m Members
	m.Add("subject", at.fam.subject)
	m.Add("family", at.fam.n)
	m.Add("generation", at.gen)
	m.Add("method", c.r.Method)
	m.Add("path", c.r.URL.Path)
	m.Add("scope", strings.Join(at.scopes, " "))
	m.Add("resource", strings.Join(at.resources, " "))
	m.Add("length", n)
	m.Add("sha256", digest)
	return newAnswer(http.StatusOK, m)
}

// bearer judges the token. If it reports false the answer is the refusal.
func (c *call) bearer() (*accessToken, Answer, bool) {
	s, headers, query := c.s, c.r.Header.Values("Authorization"), c.r.URL.Query()
	s.mu.Lock()
	defer s.mu.Unlock()
	if query.Has("access_token") {
		c.refuse(BadRequest, "a token must not stand in the URL")
		return nil, c.challenge(http.StatusBadRequest, "invalid_request", ""), false
	}
	if len(headers) > 1 {
		c.refuse(BadRequest, "the Authorization header stands twice")
		return nil, c.challenge(http.StatusBadRequest, "invalid_request", ""), false
	}
	scheme, token := "", ""
	if len(headers) == 1 {
		scheme, token, _ = strings.Cut(headers[0], " ")
	}
	if strings.EqualFold(scheme, "Bearer") && (scheme != "Bearer" || !token68(token)) {
		c.refuse(BadRequest, "the header must be the word Bearer, one space and a token")
		return nil, c.challenge(http.StatusBadRequest, "invalid_request", ""), false
	}
	if scheme != "Bearer" {
		c.decide(NoToken)
		s.stats.APIUnauthorized++
		return nil, c.challenge(http.StatusUnauthorized, "", ""), false
	}
	c.entry.Presented = Fingerprint(token)
	at := s.access[token]
	if at != nil {
		c.shown(at.fam, at.gen)
		c.granted(at.scopes, at.resources)
	}
	a, ok := c.admit(at, query)
	return at, a, ok
}

// admit judges a token, which is nil if it is unknown. It is called with s.mu
// held.
func (c *call) admit(at *accessToken, query url.Values) (Answer, bool) {
	s := c.s
	if at == nil || !at.live(time.Now()) {
		c.decide(InvalidToken)
		s.stats.APIUnauthorized++
		return c.challenge(http.StatusUnauthorized, "invalid_token", `, error_description="The token is not live"`), false
	}
	if at.bound != "" && at.bound != thumbprint(c.certificate()) { // RFC 8705, section 3
		c.refuse(InvalidToken, "the token is bound to another certificate")
		s.stats.APIUnauthorized++
		return c.challenge(http.StatusUnauthorized, "invalid_token", ""), false
	}
	if !at.serves(query["resource"]) { // RFC 8707, section 2
		c.refuse(WrongAudience, fmt.Sprintf("the token is not for %q", query["resource"]))
		s.stats.APIUnauthorized++
		return c.challenge(http.StatusUnauthorized, "invalid_token", `, error_description="The token is for another resource"`), false
	}
	for _, want := range strings.Fields(strings.Join(query["scope"], " ")) {
		if !slices.Contains(at.scopes, want) {
			c.decide(InsufficientScope)
			s.stats.APIForbidden++
			return c.challenge(http.StatusForbidden, "insufficient_scope", `, scope="`+quotable(want)+`"`), false
		}
	}
	c.decide(Served)
	return Answer{}, true
}

// challenge makes a refusal with a challenge (RFC 6750, section 3). Without an
// error code it has no body.
func (c *call) challenge(status int, code, params string) Answer {
	a := newAnswer(status, nil)
	if code != "" {
		a = errorAnswer(status, code, c.entry.Detail)
		params = `, error="` + code + `"` + params
	}
	a.Header.Set("WWW-Authenticate", `Bearer realm="oauthtest"`+params)
	return a
}

// token68 reports whether s has the form of a Bearer token (RFC 6750, section
// 2.1).
func token68(s string) bool {
	s = strings.TrimRight(s, "=")
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-._~+/", r))
	})
}

// quotable keeps what the scope grammar allows (RFC 6749, section 3.3).
func quotable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x21 || r > 0x7e || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, s)
}

// login answers with the page that a browser would see.
func (c *call) login() Answer {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.decide(Served)
	return Answer{
		Status: http.StatusOK,
		Header: http.Header{"Content-Type": {"text/html; charset=utf-8"}},
		Raw:    []byte(loginHTML),
	}
}

const loginHTML = "<!DOCTYPE html>\n<title>Sign in</title>\n<form method=post><input name=user><input name=password type=password></form>\n"
