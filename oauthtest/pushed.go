package oauthtest

import (
	"crypto/rand"
	"maps"
	"net/http"
	"net/url"
	"time"
)

// requestURI is what every request_uri of the server begins with (RFC 9126,
// section 2.2).
const requestURI = "urn:ietf:params:oauth:request_uri:"

// A pushedRequest is an authorization request that a client has left at the
// server, for one login.
type pushedRequest struct {
	client  string
	form    url.Values // without what authenticated the client
	expires time.Time
	spent   bool
}

// pushed answers a request at the pushed authorization request endpoint (RFC
// 9126, section 2).
func (c *call) pushed() Answer {
	form, a, ok := c.form()
	if !ok {
		return a
	}
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, ok := c.authenticate(form); !ok {
		return a
	}
	request := maps.Clone(form)
	for _, name := range []string{"client_secret", "client_assertion", "client_assertion_type"} {
		request.Del(name)
	}
	switch {
	case !form.Has("client_id"): // required as at the authorization endpoint, whatever authenticates the client
		return c.badRequest("client_id is missing")
	case form.Has("request_uri"):
		return c.badRequest("request_uri must not be pushed")
	case !s.opt.registered(form.Get("redirect_uri")):
		return c.badRequest("the redirect_uri is not registered")
	}
	if code, detail := checkLogin(request); code != "" {
		c.refuse(BadRequest, detail)
		return errorAnswer(http.StatusBadRequest, code, detail)
	}
	scopes, detail := s.opt.scopes(request)
	if detail != "" {
		return c.badScope(detail)
	}
	resources, detail := s.opt.resources(request)
	if detail != "" {
		return c.badTarget(detail)
	}
	value := requestURI + rand.Text()
	s.requests[value] = &pushedRequest{client: c.client, form: request, expires: time.Now().Add(s.opt.PushedLifetime)}
	c.entry.IssuedCode = Fingerprint(value)
	c.granted(scopes, resources)
	c.decide(RequestIssued)

	var m Members
	m.Add("request_uri", value)
	m.Add("expires_in", int64(s.opt.PushedLifetime/time.Second))
	return newAnswer(http.StatusCreated, m)
}

// takePushed returns the request that a browser names (RFC 9126, section 4), and
// spends it. If it reports false the answer is the refusal: a page, since nobody
// knows where the browser came from. It is called with s.mu held.
func (c *call) takePushed(query url.Values) (url.Values, Answer, bool) {
	shown := query.Get("request_uri")
	c.entry.Client, c.entry.Presented = query.Get("client_id"), Fingerprint(shown)
	refuse := func(o Outcome, detail string) (url.Values, Answer, bool) {
		return nil, c.page(http.StatusBadRequest, o, detail), false
	}
	for _, name := range []string{"client_id", "request_uri"} {
		if len(query[name]) != 1 {
			return refuse(BadRequest, name+" must stand there once")
		}
	}
	p := c.s.requests[shown]
	switch {
	case len(query) != 2:
		return refuse(BadRequest, "beside client_id and request_uri nothing may stand there: it must be pushed")
	case p == nil:
		return refuse(UnknownToken, "the request_uri is not known")
	case p.client != c.entry.Client:
		return refuse(Mismatch, "the request_uri was issued to another client")
	case p.spent:
		return refuse(Reuse, "the request_uri was used before")
	case !time.Now().Before(p.expires):
		return refuse(Expired, "the request_uri has expired")
	}
	p.spent = true
	return p.form, Answer{}, true
}
