package oauthtest

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
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
	m.Add("length", n)
	m.Add("sha256", digest)
	return newAnswer(http.StatusOK, m)
}

// bearer judges the token. If it reports false the answer is the refusal.
func (c *call) bearer() (*accessToken, Answer, bool) {
	s, headers, query := c.s, c.r.Header.Values("Authorization"), c.r.URL.Query()
	s.mu.Lock()
	defer s.mu.Unlock()
	refuse := func(status int, challenge, code string) (*accessToken, Answer, bool) {
		a := errorAnswer(status, code, c.entry.Detail)
		if code == "" {
			a = newAnswer(status, nil)
		}
		a.Header.Set("WWW-Authenticate", challenge)
		return nil, a, false
	}
	if query.Has("access_token") {
		c.refuse(BadRequest, "a token must not stand in the URL")
		return refuse(http.StatusBadRequest, `Bearer realm="oauthtest", error="invalid_request"`, "invalid_request")
	}
	if len(headers) > 1 {
		c.refuse(BadRequest, "the Authorization header stands twice")
		return refuse(http.StatusBadRequest, `Bearer realm="oauthtest", error="invalid_request"`, "invalid_request")
	}
	scheme, token := "", ""
	if len(headers) == 1 {
		scheme, token, _ = strings.Cut(headers[0], " ")
	}
	if strings.EqualFold(scheme, "Bearer") && (scheme != "Bearer" || !token68(token)) {
		c.refuse(BadRequest, "the header must be the word Bearer, one space and a token")
		return refuse(http.StatusBadRequest, `Bearer realm="oauthtest", error="invalid_request"`, "invalid_request")
	}
	if scheme != "Bearer" {
		c.decide(NoToken)
		s.stats.APIUnauthorized++
		return refuse(http.StatusUnauthorized, `Bearer realm="oauthtest"`, "")
	}
	c.entry.Presented = Fingerprint(token)
	at := s.access[token]
	if at != nil {
		c.shown(at.fam, at.gen)
	}
	if at == nil || !at.live(time.Now()) {
		c.decide(InvalidToken)
		s.stats.APIUnauthorized++
		return refuse(http.StatusUnauthorized,
			`Bearer realm="oauthtest", error="invalid_token", error_description="The token is not live"`, "invalid_token")
	}
	if at.bound != "" && at.bound != thumbprint(c.certificate()) { // RFC 8705, section 3
		c.refuse(InvalidToken, "the token is bound to another certificate")
		s.stats.APIUnauthorized++
		return refuse(http.StatusUnauthorized, `Bearer realm="oauthtest", error="invalid_token"`, "invalid_token")
	}
	for _, want := range strings.Fields(strings.Join(query["scope"], " ")) {
		if !slices.Contains(at.scopes, want) {
			c.decide(InsufficientScope)
			s.stats.APIForbidden++
			return refuse(http.StatusForbidden,
				`Bearer realm="oauthtest", error="insufficient_scope", scope="`+quotable(want)+`"`, "insufficient_scope")
		}
	}
	c.decide(Served)
	return at, Answer{}, true
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
