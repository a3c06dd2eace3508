package freshtoken

import (
	"encoding/json"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken/internal/endpoint"
	"golang.org/x/oauth2"
)

// Members of a token response that are about the refresh token's lifetime, and
// stay only as long as that token does; and those that describe the access
// token, and never outlive it.
var (
	refreshLifetimes = endpoint.RefreshLifetimes
	accessMembers    = []string{"access_token", "refresh_token", "token_type", "expires_in", "refresh_in", "expiry"}
)

// extraNames are the members that are taken over from a token that was had
// elsewhere, whose other members cannot be listed.
var extraNames = append([]string{"scope", "id_token", "refresh_in", "issued_token_type", "session_state", "instance_url",
	"authorization_expires_in"}, refreshLifetimes...)

// maxDepth is how deep a member of an answer may be nested that is kept: what is
// stored has to be read again, and encoding/json reads no deeper than 10,000.
const maxDepth = 1000

// depth is how deep some JSON is nested.
func depth(raw json.RawMessage) (deepest int) {
	level, quoted := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[', c == '{':
			level++
			deepest = max(deepest, level)
		case c == ']', c == '}':
			level--
		}
	}
	return deepest
}

// grant is what a Refresher's token says, taken apart.
type grant struct {
	access, refresh string
	lifetime, hint  time.Duration
	begun           time.Time // when the request for it began, of a login, as far as that tells
	extra           map[string]json.RawMessage
}

// takeApart checks a token from a server, or from a program, and takes it
// apart. start is when the request for it began.
func takeApart(tok *oauth2.Token, start time.Time) (grant, error) {
	var g grant
	if tok.TokenType != "" && !strings.EqualFold(tok.TokenType, "Bearer") {
		return g, wrap(ErrBadToken, "its type is %s, and only Bearer tokens can be sent: ask the server for those", shownType(tok))
	}
	if tok.AccessToken != "" && !headerSafe(tok.AccessToken) {
		return g, wrap(ErrBadToken, "the access token has characters that are not allowed in a header: check what the login returned")
	}
	if tok.RefreshToken != "" && !endpoint.Printable(tok.RefreshToken) {
		return g, wrap(ErrBadToken, "the refresh token has control characters: check what the login returned")
	}
	g.access, g.refresh = tok.AccessToken, tok.RefreshToken
	if tok.ExpiresIn > 0 {
		g.lifetime = seconds(float64(tok.ExpiresIn))
	}
	if !tok.Expiry.IsZero() { // a token that has been lying about has less than expires_in left
		left := clampLifetime(tok.Expiry.Round(0).Sub(start.Round(0)))
		if g.lifetime == 0 || left < g.lifetime {
			g.lifetime = left
		}
	}
	for _, name := range extraNames {
		value := tok.Extra(name)
		if value == nil || value == "" {
			continue
		}
		if raw, err := json.Marshal(value); err == nil {
			g.setExtra(name, raw)
		}
	}
	if all, ok := tok.Extra(endpoint.AllMembers).(map[string]json.RawMessage); ok {
		for name, raw := range all {
			if depth(raw) <= maxDepth {
				g.setExtra(name, raw)
			}
		}
	}
	if hint, ok := endpoint.Number(g.extra["refresh_in"]); ok && hint > 0 {
		g.hint = seconds(hint)
	}
	for _, name := range accessMembers {
		delete(g.extra, name)
	}
	return g, nil
}

// shownType is the type of a token, if that is fit to be shown: not if the server has
// put a piece of one there.
func shownType(tok *oauth2.Token) string {
	secrets := []string{tok.AccessToken, tok.RefreshToken}
	all, _ := tok.Extra(endpoint.AllMembers).(map[string]json.RawMessage)
	for name, raw := range all {
		if text, ok := endpoint.Text(raw); ok && name != "token_type" {
			secrets = append(secrets, text)
		}
	}
	if endpoint.Repeats(tok.TokenType, secrets...) {
		return endpoint.Hidden
	}
	return strconv.Quote(endpoint.Sanitize(tok.TokenType, 40))
}

func (g *grant) setExtra(name string, value json.RawMessage) {
	if g.extra == nil {
		g.extra = make(map[string]json.RawMessage)
	}
	g.extra[name] = value
}

// next returns the record that follows r after a refresh that began at start,
// asked for an access token for a target, and yielded g. What the answer leaves
// out stays as it was, but for lifetimes: those belong to the token they came
// with. Access tokens for other targets stay, too.
func (r *record) next(g grant, start time.Time, target string) *record {
	return r.with(func(c *record) {
		c.Generation++
		c.Extra = maps.Clone(r.Extra)
		renewed := g.refresh != "" && g.refresh != r.RefreshToken
		c.live(g, start, renewed)
		if renewed {
			c.RefreshToken = g.refresh
			for _, name := range refreshLifetimes {
				delete(c.Extra, name)
			}
		}
		c.Mark, c.Pause, c.Padding = nil, nil, ""
		if target == "" {
			c.take(g, start, c.Generation)
			return
		}
		about := g.cut(sessionMembers)
		c.Extra = merged(c.Extra, about.extra)
		a := new(access)
		if known := r.Derived[target]; known != nil {
			*a = *known
		}
		a.take(g, start, c.Generation)
		c.set(target, a)
		c.pauseTarget(target, nil)
	})
}

// cut takes the named members out of g, and returns them as the extras of another.
func (g *grant) cut(names []string) (out grant) {
	rest := maps.Clone(g.extra)
	for _, name := range names {
		if value, ok := rest[name]; ok {
			out.setExtra(name, value)
			delete(rest, name)
		}
	}
	g.extra = rest
	return out
}

// merged returns the members of both, those of b where both have one.
func merged(a, b map[string]json.RawMessage) map[string]json.RawMessage {
	if len(a) == 0 {
		return b
	}
	c := maps.Clone(a)
	maps.Copy(c, b)
	return c
}

// headerSafe reports whether an access token can stand in a header: visible
// ASCII. RFC 6750 section 2.1 is stricter; real tokens are not.
func headerSafe(s string) bool {
	for i := range len(s) {
		if s[i] <= 0x20 || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
