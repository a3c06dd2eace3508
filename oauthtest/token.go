package oauthtest

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// maxForm bounds the body of a form; no honest request comes near.
const maxForm = 1 << 20

// token answers a request at the token endpoint (RFC 6749, section 3.2).
func (c *call) token() Answer {
	form, a, ok := c.form()
	if !ok {
		return a
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.entry.GrantType = form.Get("grant_type")
	shown := map[string]string{
		"refresh_token": "refresh_token", "authorization_code": "code", deviceGrant: "device_code",
		bearerGrant: "assertion", exchangeGrant: "subject_token",
	}[form.Get("grant_type")]
	c.entry.Presented = Fingerprint(form.Get(shown))
	if a, ok := c.authenticate(form); !ok {
		return a
	}
	switch form.Get("grant_type") {
	case "refresh_token":
		return c.grantRefresh(form)
	case "client_credentials":
		return c.grantClient(form)
	case "authorization_code":
		return c.grantCode(form)
	case deviceGrant:
		return c.grantDevice(form)
	case "":
		return c.badRequest("grant_type is missing")
	}
	if a, ok := c.extraGrant(form); ok {
		return a
	}
	c.decide(BadGrantType)
	return errorAnswer(http.StatusBadRequest, "unsupported_grant_type", "")
}

// The methods below are called with s.mu held, form excepted.

func (c *call) grantRefresh(form url.Values) Answer {
	s, shown, now := c.s, form.Get("refresh_token"), time.Now()
	if shown == "" {
		return c.badRequest("refresh_token is missing")
	}
	rt := s.refresh[shown]
	if rt == nil {
		return c.invalidGrant(UnknownToken, "The refresh token is not known.")
	}
	c.shown(rt.fam, rt.gen)
	if rt.fam.client != c.client {
		return c.invalidGrant(Mismatch, "The refresh token was issued to another client.")
	}
	if rt.fam.bound != "" && rt.fam.bound != c.bound() {
		return c.invalidGrant(Mismatch, "The refresh token is bound to another certificate.")
	}
	switch o := s.judge(rt, now); o {
	case Granted:
	case Reuse:
		rt.fam.dead = true
		s.stats.Reuses++
		s.stats.FamilyKills++
		return c.invalidGrant(o, "The refresh token was used before. All tokens of the session have been revoked.")
	case FamilyDead:
		return c.invalidGrant(o, "The session has ended.")
	default:
		return c.invalidGrant(o, "The refresh token has expired.")
	}
	scopes, ok := narrowed(form, rt.fam.scopes)
	if !ok { // before anything is spent
		return c.badScope("The scope exceeds what was granted.")
	}
	resources, detail := s.opt.resourcesOf(form, rt.fam.resources)
	if detail != "" {
		return c.badTarget(detail)
	}
	next := s.spend(rt, now)
	gen := rt.fam.gen
	if next != nil {
		gen = next.gen
	}
	at := s.mintAccess(rt.fam, gen, scopes, resources, now, c.bound())
	s.stats.Refreshes++
	c.decide(Granted)
	return c.issue(at, next)
}

func (c *call) grantClient(form url.Values) Answer {
	s := c.s
	if !s.opt.confidential(c.client) {
		c.decide(BadClient)
		c.entry.Detail = "client_credentials needs a client that authenticates"
		s.stats.BadClients++
		return errorAnswer(http.StatusBadRequest, "unauthorized_client", "")
	}
	resources, detail := s.opt.resources(form)
	if detail != "" {
		return c.badTarget(detail)
	}
	fam := s.newFamily(c.client, approval{subject: c.client, scopes: strings.Fields(form.Get("scope"))})
	at := s.mintAccess(fam, 0, fam.scopes, resources, time.Now(), c.bound())
	s.stats.ClientCredentials++
	c.shown(fam, 0)
	c.decide(Granted)
	return c.issue(at, nil)
}

func (c *call) issue(at *accessToken, rt *refreshToken) Answer {
	var m Members
	m.Add("access_token", at.value)
	m.Add("token_type", "Bearer")
	m.Add("expires_in", int64(c.s.opt.AccessLifetime/time.Second))
	if rt != nil {
		m.Add("refresh_token", rt.value)
		if c.s.opt.RefreshLifetime > 0 {
			m.Add("refresh_token_expires_in", int64(c.s.opt.RefreshLifetime/time.Second))
		}
		c.entry.NewGeneration = rt.gen
		c.entry.IssuedRefresh = Fingerprint(rt.value)
	}
	if len(at.scopes) > 0 {
		m.Add("scope", strings.Join(at.scopes, " "))
	}
	if id := c.s.idToken(at); id != "" {
		m.Add("id_token", id)
	}
	c.entry.IssuedAccess = Fingerprint(at.value)
	c.granted(at.scopes, at.resources)
	return newAnswer(http.StatusOK, m)
}

func (c *call) shown(fam *family, gen int) {
	c.entry.Subject, c.entry.Family, c.entry.Generation = fam.subject, fam.n, gen
}

func (c *call) invalidGrant(o Outcome, description string) Answer {
	c.decide(o)
	c.s.stats.InvalidGrants++
	return errorAnswer(http.StatusBadRequest, "invalid_grant", description)
}

func (c *call) badRequest(detail string) Answer {
	c.refuse(BadRequest, detail)
	return errorAnswer(http.StatusBadRequest, "invalid_request", detail)
}

// narrowed returns the scopes that the form asks for; without any it asks for
// all that were granted (RFC 6749, section 6).
func narrowed(form url.Values, granted []string) ([]string, bool) {
	asked := strings.Fields(form.Get("scope"))
	if len(asked) == 0 {
		return granted, true
	}
	for _, sc := range asked {
		if !slices.Contains(granted, sc) {
			return nil, false
		}
	}
	return asked, true
}

// secretParams may not stand in a URL (RFC 6749, sections 2.3.1 and 3.2).
var secretParams = []string{
	"client_secret", "client_assertion", "refresh_token", "access_token", "token", "code", "code_verifier",
	"device_code", "password", "assertion", "subject_token", "actor_token",
}

// form reads the body and checks everything that RFC 6749 says of a request to
// an endpoint for forms, short of the client. If it reports false the answer is
// the refusal.
func (c *call) form() (url.Values, Answer, bool) {
	values, status, err := c.readForm()
	if err == nil {
		return values, Answer{}, true
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	a := c.badRequest(err.Error())
	a.Status = status
	if status == http.StatusMethodNotAllowed {
		a.Header.Set("Allow", http.MethodPost)
	}
	return nil, a, false
}

func (c *call) readForm() (url.Values, int, error) {
	r, body := c.r, c.body
	if r.Method != http.MethodPost {
		return nil, http.StatusMethodNotAllowed, errors.New("the method must be POST")
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, http.StatusBadRequest, errors.New("the query is malformed")
	}
	for _, p := range secretParams {
		if query.Has(p) {
			return nil, http.StatusBadRequest, fmt.Errorf("%s must not stand in the URL", p)
		}
	}
	ct, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || ct != "application/x-www-form-urlencoded" || len(r.Header.Values("Content-Type")) != 1 {
		return nil, http.StatusBadRequest, errors.New("the Content-Type must be application/x-www-form-urlencoded")
	}
	if c.bodyErr != nil {
		return nil, http.StatusBadRequest, errors.New("the body did not arrive whole")
	}
	if len(body) > maxForm {
		return nil, http.StatusRequestEntityTooLarge, errors.New("the body is too long")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, http.StatusBadRequest, errors.New("the body is malformed")
	}
	if err := checkParams(form); err != nil {
		return nil, http.StatusBadRequest, err
	}
	return form, 0, nil
}

// checkParams refuses parameters that stand twice or are empty (RFC 6749,
// sections 3.1 and 3.2). Of resource (RFC 8707) and audience (RFC 8693) there
// may be several.
func checkParams(form url.Values) error {
	for name, v := range form {
		if len(v) > 1 && name != "resource" && name != "audience" {
			return fmt.Errorf("the parameter %q stands twice", name)
		}
		if slices.Contains(v, "") {
			return fmt.Errorf("the parameter %q is empty", name)
		}
	}
	return nil
}

// authenticate checks the client: exactly one method, RFC 6749, section 2.3. It
// is called with s.mu held.
func (c *call) authenticate(form url.Values) (Answer, bool) {
	headers := c.r.Header.Values("Authorization")
	id, secret := form.Get("client_id"), form.Get("client_secret")
	c.entry.Client = id
	if c.s.opt.byMethod(id) || id == "" && form.Has("client_assertion") {
		return c.authenticateBy(form)
	}
	if len(headers) > 0 {
		if form.Has("client_secret") || form.Has("client_assertion") {
			return c.badRequest("more than one way of client authentication"), false
		}
		bid, bsecret, err := basic(c.r, headers)
		if err != nil {
			return c.badClient(err.Error()), false
		}
		if id != "" && id != bid {
			return c.badRequest("two different client IDs"), false
		}
		id, secret = bid, bsecret
		c.entry.Client = id
		if c.s.opt.byMethod(id) {
			return c.authenticateBy(form)
		}
	}
	want, known := c.s.opt.secretOf(id)
	switch {
	case id == "":
		return c.badClient("no client is named"), false
	case !known:
		return c.badClient("the client is not known"), false
	case want == "" && len(headers) > 0:
		return c.badClient("a client without a secret must not authenticate"), false
	case want == "" && form.Has("client_secret"):
		return c.badClient("a client without a secret must not send one"), false
	case subtle.ConstantTimeCompare([]byte(secret), []byte(want)) != 1:
		return c.badClient("the client secret is missing or wrong"), false
	}
	c.client = id
	return Answer{}, true
}

// basic returns ID and secret of HTTP Basic, which are form-encoded there: RFC
// 6749, section 2.3.1.
func basic(r *http.Request, headers []string) (id, secret string, err error) {
	if len(headers) > 1 {
		return "", "", errors.New("the Authorization header stands twice")
	}
	user, pass, ok := r.BasicAuth()
	if !ok {
		return "", "", errors.New("the Authorization header is not HTTP Basic")
	}
	id, err1 := url.QueryUnescape(user)
	secret, err2 := url.QueryUnescape(pass)
	if err1 != nil || err2 != nil {
		return "", "", errors.New("ID and secret must be form-encoded in HTTP Basic")
	}
	return id, secret, nil
}

func (c *call) badClient(detail string) Answer {
	c.refuse(BadClient, detail)
	c.s.stats.BadClients++
	a := errorAnswer(http.StatusUnauthorized, "invalid_client", detail)
	a.Header.Set("WWW-Authenticate", `Basic realm="oauthtest"`)
	return a
}

// revoke answers a request at the revocation endpoint (RFC 7009). A refresh
// token ends its session; an access token ends alone.
func (c *call) revoke() Answer {
	form, a, ok := c.form()
	if !ok {
		return a
	}
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	shown := form.Get("token")
	c.entry.Presented = Fingerprint(shown)
	if a, ok := c.authenticate(form); !ok {
		return a
	}
	now := time.Now()
	if shown == "" {
		return c.badRequest("token is missing")
	} else if fam := s.familyOf(shown); fam != nil && fam.client != c.client { // RFC 7009, section 2.1
		c.shown(fam, 0)
		return c.invalidGrant(Mismatch, "The token was issued to another client.")
	} else if rt := s.refresh[shown]; rt != nil {
		c.shown(rt.fam, rt.gen)
		if !rt.fam.dead {
			s.stats.Revocations++
		}
		rt.fam.dead = true
		c.decide(Revoked)
	} else if at := s.access[shown]; at != nil {
		c.shown(at.fam, at.gen)
		c.granted(at.scopes, at.resources)
		if at.live(now) {
			s.stats.Revocations++
		}
		at.revoked = true
		c.decide(Revoked)
	} else {
		c.decide(UnknownToken) // which is no error: RFC 7009, section 2.2
	}
	return newAnswer(http.StatusOK, nil)
}
