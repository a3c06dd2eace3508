package oauthtest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Resource indicators (RFC 8707). Resources are compared to the letter.

// absolute reports whether s is an absolute URI without a fragment (RFC 3986,
// section 4.3). What is http or https must name a host.
func absolute(s string) bool {
	allowed := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' ||
			strings.ContainsRune("-._~%:/?[]@!$&'()*+,;=", r)
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || strings.ContainsFunc(s, func(r rune) bool { return !allowed(r) }) {
		return false
	}
	if strings.Count(s, "[") != strings.Count(u.Host, "[") || strings.Count(s, "]") != strings.Count(u.Host, "]") {
		return false // they are for addresses only
	}
	for _, escape := range strings.Split(s, "%")[1:] { // url.Parse checks not all places
		if _, err := url.PathUnescape("%" + escape[:min(2, len(escape))]); err != nil {
			return false
		}
	}
	return u.Hostname() != "" || u.Scheme != "http" && u.Scheme != "https"
}

// resources returns the resources that a request asks for, each once, or the
// reason why it cannot have one of them.
func (o *Options) resources(form url.Values) (asked []string, detail string) {
	for _, uri := range form["resource"] {
		switch {
		case !absolute(uri):
			return nil, "a resource must be an absolute URI without a fragment"
		case o.Resources != nil && !slices.Contains(o.Resources, uri):
			return nil, fmt.Sprintf("there is no resource %q", uri)
		case !slices.Contains(asked, uri):
			asked = append(asked, uri)
		}
	}
	return asked, ""
}

// resourcesOf is resources for a token of a login: those that the login was
// granted are all that it can have, and what it gets if it names none (RFC 8707,
// section 2.2). A login that was granted none in particular may name any.
func (o *Options) resourcesOf(form url.Values, granted []string) (resources []string, detail string) {
	asked, detail := o.resources(form)
	if detail != "" || len(granted) == 0 {
		return asked, detail
	}
	if len(asked) == 0 {
		return granted, ""
	}
	for _, uri := range asked {
		if !slices.Contains(granted, uri) {
			return nil, fmt.Sprintf("the login was not granted the resource %q", uri)
		}
	}
	return asked, ""
}

// badTarget refuses a resource. It is called with s.mu held, before anything is
// spent.
func (c *call) badTarget(detail string) Answer {
	c.refuse(BadTarget, detail)
	return errorAnswer(http.StatusBadRequest, "invalid_target", detail)
}

// badScope is badTarget for a scope.
func (c *call) badScope(detail string) Answer {
	c.refuse(BadScope, detail)
	return errorAnswer(http.StatusBadRequest, "invalid_scope", detail)
}

// serves reports whether the token is for all of these resources.
func (a *accessToken) serves(resources []string) bool {
	return len(a.resources) == 0 ||
		!slices.ContainsFunc(resources, func(uri string) bool { return !slices.Contains(a.resources, uri) })
}

// granted notes what an access token is good for. It is called with s.mu held.
func (c *call) granted(scopes, resources []string) {
	c.entry.Scope, c.entry.Resource = strings.Join(scopes, " "), strings.Join(resources, " ")
}
