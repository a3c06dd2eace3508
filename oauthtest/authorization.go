package oauthtest

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken/internal/mark"
)

// An authCode is what a login by browser yields, for one use.
type authCode struct {
	client, redirectURI, challenge string
	approval
	offline bool
	nonce   string
	expires time.Time
	spent   bool
	fam     *family // nil until the code is redeemed
}

// An approval is what the user of a login decided.
type approval struct {
	subject   string
	scopes    []string // nil: as asked
	resources []string // as asked; nil: none in particular
}

// ApproveAs says who uses the browser from now on, and what they grant; without
// scopes it is what the client asks for. Until it is called, that is "alice".
func (s *Server) ApproveAs(subject string, scopes ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.approval = approval{subject: subject, scopes: slices.Clone(scopes)}
}

// authorization answers a request at the authorization endpoint (RFC 6749,
// section 4.1.1). The user approves at once.
func (c *call) authorization() Answer {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.r.Method != http.MethodGet {
		a := c.page(http.StatusMethodNotAllowed, BadRequest, "the method must be GET")
		a.Header.Set("Allow", http.MethodGet)
		return a
	}
	query, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return c.page(http.StatusBadRequest, BadRequest, "the query is malformed")
	}
	if query.Has("request_uri") {
		request, a, ok := c.takePushed(query)
		if !ok {
			return a
		}
		return c.approve(request)
	}
	// Nobody is redirected before it is certain that the target is the
	// client's: RFC 6749, section 4.1.2.1.
	for _, name := range []string{"client_id", "redirect_uri"} {
		if len(query[name]) != 1 {
			return c.page(http.StatusBadRequest, BadRequest, name+" must stand there once")
		}
	}
	c.entry.Client = query.Get("client_id")
	if _, known := s.opt.secretOf(c.entry.Client); !known {
		s.stats.BadClients++
		return c.page(http.StatusBadRequest, BadClient, "the client is not known")
	}
	if !s.opt.registered(query.Get("redirect_uri")) {
		return c.page(http.StatusBadRequest, BadRequest, "the redirect_uri is not registered")
	}
	if s.opt.RequirePushed {
		const detail = "the request must be pushed"
		c.refuse(BadRequest, detail)
		return c.sendBack(query, "error", "invalid_request", "error_description", detail)
	}
	return c.approve(query)
}

// approve answers a request of a known client by a redirect. This and what
// follows is called with s.mu held.
func (c *call) approve(query url.Values) Answer {
	s := c.s
	if code, detail := checkLogin(query); code != "" {
		c.refuse(BadRequest, detail)
		return c.sendBack(query, "error", code, "error_description", detail)
	}
	asked, detail := s.opt.scopes(query)
	if detail != "" {
		c.refuse(BadScope, detail)
		return c.sendBack(query, "error", "invalid_scope", "error_description", detail)
	}
	resources, detail := s.opt.resources(query)
	if detail != "" {
		c.refuse(BadTarget, detail)
		return c.sendBack(query, "error", "invalid_target", "error_description", detail)
	}
	if c.fault.Deny != "" {
		c.decide(Denied)
		return c.sendBack(query, "error", c.fault.Deny)
	}
	code := &authCode{
		client: query.Get("client_id"), redirectURI: query.Get("redirect_uri"),
		challenge: query.Get("code_challenge"), approval: s.approval,
		expires: time.Now().Add(s.opt.CodeLifetime), nonce: query.Get("nonce"),
	}
	if code.scopes == nil {
		code.scopes = asked
	}
	code.resources = resources
	code.offline = s.opt.offline(query, code.scopes)
	value := "code-" + mark.New(mark.Code)
	s.codes[value] = code
	c.entry.Subject, c.entry.IssuedCode = code.subject, Fingerprint(value)
	c.granted(code.scopes, code.resources)
	c.decide(CodeIssued)
	return c.sendBack(query, "code", value)
}

// checkLogin returns the error code and the reason if the request breaks a rule.
func checkLogin(query url.Values) (code, detail string) {
	if err := checkParams(query); err != nil {
		return "invalid_request", err.Error()
	}
	for _, p := range secretParams {
		if query.Has(p) {
			return "invalid_request", p + " must not stand in the URL"
		}
	}
	switch query.Get("response_type") {
	case "code":
	case "":
		return "invalid_request", "response_type is missing"
	default:
		return "unsupported_response_type", "the response_type must be code"
	}
	challenge, err := base64.RawURLEncoding.Strict().DecodeString(query.Get("code_challenge"))
	switch {
	case !query.Has("code_challenge"): // RFC 7636, section 4.4.1
		return "invalid_request", "code_challenge is missing"
	case query.Get("code_challenge_method") != "S256": // the default is plain
		return "invalid_request", "the code_challenge_method must be S256"
	case err != nil || len(challenge) != sha256.Size:
		return "invalid_request", "the code_challenge is no SHA-256 in base64url"
	}
	return "", ""
}

// scopes returns what a login asks for, or the reason why it cannot have that.
func (o *Options) scopes(form url.Values) (asked []string, detail string) {
	if !form.Has("scope") {
		return nil, ""
	}
	asked = strings.Split(form.Get("scope"), " ")
	for _, sc := range asked {
		switch {
		case sc == "" || sc != quotable(sc):
			return nil, "the scope is malformed"
		case o.Scopes != nil && !slices.Contains(o.supported(), sc):
			return nil, fmt.Sprintf("there is no scope %q", sc)
		}
	}
	return asked, ""
}

// supported returns the scopes that the metadata lists.
func (o *Options) supported() []string {
	if o.OfflineAccess != OfflineByScope || slices.Contains(o.Scopes, offlineScope) {
		return o.Scopes
	}
	return append(slices.Clone(o.Scopes), offlineScope)
}

const offlineScope = "offline_access"

// offline reports whether a login yields a refresh token.
func (o *Options) offline(form url.Values, granted []string) bool {
	switch o.OfflineAccess {
	case OfflineByScope:
		return slices.Contains(granted, offlineScope)
	case OfflineByParam:
		return form.Get("access_type") == "offline"
	}
	return true
}

// registered reports whether a login may name this redirect URI.
func (o *Options) registered(uri string) bool {
	rest, loopback := withoutPort(uri)
	return slices.ContainsFunc(o.RedirectURIs, func(r string) bool {
		known, ok := withoutPort(r)
		return uri == r || loopback && ok && rest == known
	})
}

// withoutPort takes the port from a redirect URI on a literal address of the
// loopback interface, and reports whether it is one. It works on the text: a
// parsed URL would compare equal to what is not spelled the same.
func withoutPort(uri string) (string, bool) {
	for _, host := range []string{"http://127.0.0.1", "http://[::1]"} {
		rest, ok := strings.CutPrefix(uri, host)
		if !ok {
			continue
		}
		if after, ok := strings.CutPrefix(rest, ":"); ok {
			end := strings.IndexFunc(after, func(r rune) bool { return r < '0' || r > '9' })
			if end < 0 {
				end = len(after)
			}
			if port, err := strconv.ParseUint(after[:end], 10, 16); err != nil || port == 0 {
				return "", false
			}
			rest = after[end:]
		}
		ok = rest == "" || rest[0] == '/' || rest[0] == '?'
		return host + rest, ok
	}
	return "", false
}

// sendBack redirects the browser to the client with these parameters, the
// request's state, and iss (RFC 9207). A query of the redirect URI's own stays:
// RFC 6749, section 3.1.2.
func (c *call) sendBack(query url.Values, params ...string) Answer {
	if state := query["state"]; len(state) == 1 && state[0] != "" {
		params = append(params, "state", state[0])
	}
	if !c.s.opt.OmitIss {
		params = append(params, "iss", c.s.base)
	}
	to := query.Get("redirect_uri")
	sep := "?"
	if strings.Contains(to, "?") {
		sep = "&"
	}
	for i := 0; i < len(params); i += 2 {
		to += sep + params[i] + "=" + url.QueryEscape(params[i+1])
		sep = "&"
	}
	a := newAnswer(http.StatusFound, nil)
	a.Header.Set("Location", to)
	return a
}

// page refuses a request with a page for the user.
func (c *call) page(status int, o Outcome, detail string) Answer {
	c.refuse(o, detail)
	a := newAnswer(status, nil)
	a.Header.Set("Content-Type", "text/html; charset=utf-8")
	a.Raw = fmt.Appendf(nil, "<!DOCTYPE html>\n<title>Error</title>\n<p>%s</p>\n", html.EscapeString(detail))
	return a
}

// grantCode redeems an authorization code (RFC 6749, section 4.1.3).
func (c *call) grantCode(form url.Values) Answer {
	s, now := c.s, time.Now()
	for _, name := range []string{"code", "redirect_uri", "code_verifier"} {
		if !form.Has(name) {
			return c.badRequest(name + " is missing")
		}
	}
	if !unreserved(form.Get("code_verifier")) {
		return c.badRequest("the code_verifier must be 43 to 128 unreserved characters")
	}
	code := s.codes[form.Get("code")]
	if code == nil {
		return c.invalidGrant(UnknownToken, "The code is not known.")
	}
	c.entry.Subject = code.subject
	if code.spent {
		return c.codeReuse(code.fam)
	}
	resources, detail := s.opt.resourcesOf(form, code.resources)
	if detail != "" {
		return c.badTarget(detail)
	}
	code.spent = true // whatever comes of it
	if detail := code.mismatch(c.client, form); detail != "" {
		c.entry.Detail = detail
		return c.invalidGrant(Mismatch, detail)
	}
	if !now.Before(code.expires) {
		return c.invalidGrant(Expired, "The code has expired.")
	}
	s.stats.CodeLogins++
	a := Answer{}
	code.fam, a = c.begin(code.client, code.approval, resources, code.offline, code.nonce)
	return a
}

// mismatch says in what the redeeming request differs from the first one.
func (code *authCode) mismatch(client string, form url.Values) string {
	sum := sha256.Sum256([]byte(form.Get("code_verifier")))
	challenge := base64.RawURLEncoding.EncodeToString(sum[:])
	switch {
	case client != code.client:
		return "the code was issued to another client"
	case form.Get("redirect_uri") != code.redirectURI:
		return "the redirect_uri is not that of the authorization request"
	case subtle.ConstantTimeCompare([]byte(challenge), []byte(code.challenge)) != 1:
		return "the code_verifier does not belong to the code_challenge"
	}
	return ""
}

// unreserved reports whether s has the form of a code verifier (RFC 7636,
// section 4.1).
func unreserved(s string) bool {
	return 43 <= len(s) && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-._~", r))
	})
}

// codeReuse refuses a code that was shown before, and ends the session that
// came of it (RFC 6749, section 4.1.2).
func (c *call) codeReuse(fam *family) Answer {
	c.s.stats.CodeReuses++
	if fam != nil {
		c.shown(fam, 0)
		if !fam.dead {
			fam.dead = true
			c.s.stats.FamilyKills++
		}
	}
	return c.invalidGrant(Reuse, "The code was used before. All tokens that came of it have been revoked.")
}

// begin starts the session that a login yields, and answers with its first
// tokens. The access token is for these resources.
func (c *call) begin(client string, by approval, resources []string, offline bool, nonce string) (*family, Answer) {
	s, now := c.s, time.Now()
	fam := s.newFamily(client, by)
	fam.nonce = nonce
	var rt *refreshToken
	if offline {
		rt = s.mintRefresh(fam, now)
	}
	if !s.opt.confidential(client) {
		fam.bound = c.bound() // RFC 8705, section 4
	}
	at := s.mintAccess(fam, fam.gen, fam.scopes, resources, now, c.bound())
	c.shown(fam, 0)
	c.decide(Granted)
	return fam, c.issue(at, rt)
}
