package discovery

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/freshtoken/freshtoken/internal/endpoint"
)

// parseIssuer checks an issuer identifier (RFC 8414 section 2). The error is
// ready to be returned.
func parseIssuer(issuer string, insecureHTTP bool) (*url.URL, error) {
	u, err := parseURL(issuer, insecureHTTP)
	if err == nil && strings.Contains(issuer, "?") {
		err = errors.New("has a query")
	}
	if err != nil {
		return nil, fail(ErrIssuer, "%s %w: use the server's issuer identifier, such as https://login.example.com", show(issuer), err)
	}
	return u, nil
}

// show quotes an issuer that may be anything, without the parts in which
// somebody may have put a secret.
func show(issuer string) string {
	u, err := url.Parse(issuer)
	if err != nil || u.Opaque != "" {
		return "it"
	}
	u.User, u.RawQuery, u.ForceQuery, u.Fragment = nil, "", false, ""
	return fmt.Sprintf("%q", endpoint.Sanitize(u.String(), 200))
}

// parseURL checks a URL that this library, or a browser on its behalf, will
// turn to. The rules are those of freshtoken.New, and that nothing but ASCII
// stands in it: two URLs that look the same are the same. The error continues
// a sentence that begins with whose URL it is, and repeats nothing of it.
func parseURL(raw string, insecureHTTP bool) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case strings.ContainsFunc(raw, func(r rune) bool { return !printable(r) }):
		return nil, errors.New("has characters that no URL may have unescaped")
	case err != nil || u.Hostname() == "":
		return nil, errors.New("is not an absolute URL")
	case u.User != nil:
		return nil, errors.New("has a user or password in it")
	case strings.Contains(raw, "#"):
		return nil, errors.New("has a fragment")
	case u.Scheme == "https", u.Scheme == "http" && (insecureHTTP || endpoint.IsLoopback(u.Hostname())):
		return u, nil
	case u.Scheme == "http":
		return nil, errors.New("is plain http to another machine (only https will do, unless the network is trusted and Config.InsecureHTTP is set)")
	default:
		return nil, errors.New("is not https")
	}
}

// wellKnown returns where the metadata of an issuer may be, in the order in
// which to ask: RFC 8414 section 3.1 puts the well-known part between host and
// path, and OpenID Connect Discovery section 4 at the end. A slash at the end
// of the issuer is dropped.
func wellKnown(issuer *url.URL) []string {
	origin := (&url.URL{Scheme: issuer.Scheme, Host: issuer.Host}).String()
	path := strings.TrimSuffix(issuer.EscapedPath(), "/")
	all := []string{
		origin + "/.well-known/oauth-authorization-server" + path,
		origin + "/.well-known/openid-configuration" + path,
	}
	if path != "" {
		all = append(all, origin+path+"/.well-known/openid-configuration")
	}
	return all
}

// origin is the scheme, host and port of a URL in a form that can be compared.
func origin(u *url.URL) string {
	port := u.Port()
	switch {
	case port == "" && u.Scheme == "https":
		port = "443"
	case port == "" && u.Scheme == "http":
		port = "80"
	}
	return fmt.Sprintf("%s://%s", u.Scheme, net.JoinHostPort(strings.ToLower(u.Hostname()), port))
}
