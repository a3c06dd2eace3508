package freshtoken

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/freshtoken/freshtoken/internal/endpoint"
)

// rules say which requests get the token.
type rules struct {
	listed   []origin
	any      bool
	pass     bool
	insecure []origin
	own      []*url.URL // the endpoints that the Source itself asks
}

// An origin is where a request goes: scheme, host and port. Its host is in lower
// case and has the port unless that is the scheme's own.
type origin struct{ scheme, host string }

func (o origin) String() string { return o.scheme + "://" + o.host }

func originOf(u *url.URL) origin {
	scheme, host := strings.ToLower(u.Scheme), u.Host
	if isASCII(host) { // elsewhere case is not what net/http makes of it: "İ" is no "i"
		host = strings.ToLower(host)
	}
	switch scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	return origin{scheme, strings.TrimSuffix(host, ":")}
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func sameOrigin(a, b *url.URL) bool { return originOf(a) == originOf(b) }

// newRules checks the fields of a Transport.
func newRules(t *Transport) (r rules, err error) {
	if t.Source == nil {
		return r, errors.New("Transport.Source is nil: set it to what New returns")
	}
	r.any, r.pass = t.AnyOrigin, t.PassUnlisted
	if r.insecure, err = parseOrigins("InsecureHTTP", t.InsecureHTTP); err != nil {
		return r, err
	}
	if r.listed, err = parseOrigins("Origins", t.Origins); err != nil {
		return r, err
	}
	for _, o := range r.listed {
		if !r.secure(o) {
			return r, wrap(ErrOrigin, "Transport.Origins has %q, where everybody on the way could read the token: use https, or list it in InsecureHTTP as well", o)
		}
	}
	if len(r.listed) == 0 && !r.any {
		return r, wrap(ErrOrigin, `Transport.Origins is empty: list the API's origins there, or as arguments of Source.Client, such as "https://api.example.com"`)
	}
	for _, raw := range []string{t.Source.cfg.OAuth2.Endpoint.TokenURL, t.Source.cfg.RevocationURL} {
		if u, err := url.Parse(raw); err == nil && raw != "" { // New has checked it
			r.own = append(r.own, u)
		}
	}
	return r, nil
}

func parseOrigins(field string, list []string) (all []origin, err error) {
	for _, raw := range list {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" ||
			u.User != nil || strings.Contains(u.Host, "*") || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			return nil, wrap(ErrOrigin, `%q in Transport.%s (the arguments of Source.Client) is no origin: write a scheme and a host, such as "https://api.example.com", one by one, and nothing behind`, endpoint.Sanitize(endpoint.WithoutQuery(raw), 100), field)
		}
		all = append(all, originOf(u))
	}
	return all, nil
}

// secure reports whether the token may travel to an origin at all.
func (r *rules) secure(o origin) bool {
	if o.scheme == "https" {
		return true
	}
	if o.scheme != "http" {
		return false
	}
	for _, named := range r.insecure {
		if named == o {
			return true
		}
	}
	host := (&url.URL{Host: o.host}).Hostname()
	return endpoint.IsLoopback(host)
}

// judge decides whether a request gets the token, unless it has an
// Authorization field. The error, if any, is ErrOrigin.
func (r *rules) judge(req *http.Request) (sign bool, err error) {
	if req.URL == nil {
		return false, nil // the base has the right words for that
	}
	for _, e := range r.own { // the Source would wait for itself
		if e.Path == req.URL.Path && sameOrigin(e, req.URL) {
			return false, nil
		}
	}
	if req.Response != nil { // a redirect brought it here
		return r.trusted(req), nil
	}
	if r.allowed(req.URL) {
		return true, nil
	}
	if r.pass || hasAuthorization(req.Header) {
		return false, nil
	}
	if o := originOf(req.URL); !r.any {
		err = tell(ErrOrigin, "%s is not listed to get the session's token, and nothing was sent there: add it to Transport.Origins, or to the arguments of Source.Client, or use another client for it", o)
	} else {
		err = tell(ErrOrigin, "%s is not https, where the session's token could be read on the way, and nothing was sent there: list it in Transport.InsecureHTTP if the network is trusted", o)
	}
	return false, err
}

// allowed reports whether an address may get the token.
func (r *rules) allowed(u *url.URL) bool {
	if r.any {
		return u.Scheme == "https" || r.secure(originOf(u))
	}
	for i := range r.listed { // as a rule, it is spelt as it is listed
		if o := &r.listed[i]; o.scheme == u.Scheme && o.host == u.Host {
			return true
		}
	}
	o := originOf(u)
	for _, l := range r.listed {
		if l == o {
			return true
		}
	}
	return false
}

// trusted reports whether a request that a redirect led to may get the token:
// all hops so far were for origins that may, and, if any may, for the same one.
func (r *rules) trusted(req *http.Request) bool {
	for hop := req; ; hop = hop.Response.Request {
		if hop.URL == nil || !r.allowed(hop.URL) || r.any && !sameOrigin(hop.URL, req.URL) {
			return false
		}
		if hop.Response == nil {
			return true
		}
		if hop.Response.Request == nil { // not an answer of ours: who knows where it came from
			return false
		}
	}
}
