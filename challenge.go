package freshtoken

import (
	"net/http"
	"strings"
)

// A challenge is one element of a WWW-Authenticate field (RFC 9110 section
// 11.6.1). Scheme and parameter names are in lower case. A parameter that
// appears twice is left out (RFC 9110 section 11.2 forbids it), and so is a
// token68.
type challenge struct {
	scheme string
	params map[string]string
}

// Bounds on what is read of a hostile header.
const (
	maxChallengeBytes = 16 << 10
	maxChallenges     = 32
)

// challenges parses all WWW-Authenticate lines of a header. Broken input ends
// or spoils the challenge it stands in, not those around it.
func challenges(h http.Header) []challenge {
	var all []challenge
	room := maxChallengeBytes
	for _, line := range h["Www-Authenticate"] {
		line = line[:min(len(line), room)]
		room -= len(line)
		all = parseChallenges(all, line)
	}
	return all
}

func parseChallenges(all []challenge, line string) []challenge {
	in := &scanner{rest: line}
	var current *challenge // the one that parameters belong to
	var repeated map[string]bool
	for {
		in.skip(" \t,")
		if in.rest == "" {
			return all
		}
		name := in.token()
		if name == "" { // not the grammar: go on behind the next comma
			in.toComma()
			continue
		}
		if value, ok := in.value(); ok {
			name = strings.ToLower(name)
			switch {
			case current == nil:
			case repeated[name]:
				delete(current.params, name)
			default:
				current.params[name] = value
				repeated[name] = true
			}
			continue
		}
		if len(all) == maxChallenges {
			return all
		}
		all = append(all, challenge{scheme: strings.ToLower(name), params: make(map[string]string)})
		current, repeated = &all[len(all)-1], make(map[string]bool)
		in.token68()
	}
}

// scanner reads a header field's value from the left.
type scanner struct{ rest string }

func (in *scanner) skip(chars string) { in.rest = strings.TrimLeft(in.rest, chars) }

// token reads a token (RFC 9110 section 5.6.2); empty if there is none.
func (in *scanner) token() string {
	n := 0
	for n < len(in.rest) && isTokenChar(in.rest[n]) {
		n++
	}
	name := in.rest[:n]
	in.rest = in.rest[n:]
	return name
}

// value reads "=" and a token or a quoted string, with spaces around the "=".
// It reads nothing, and ok is false, if there is no "=".
func (in *scanner) value() (value string, ok bool) {
	after := strings.TrimLeft(in.rest, " \t")
	if !strings.HasPrefix(after, "=") {
		return "", false
	}
	in.rest = strings.TrimLeft(after[1:], " \t")
	if !strings.HasPrefix(in.rest, `"`) {
		value = in.token()
		in.toComma()
		return value, true
	}
	var b strings.Builder
	for i := 1; i < len(in.rest); i++ {
		switch c := in.rest[i]; {
		case c == '"':
			in.rest = in.rest[i+1:]
			in.toComma()
			return b.String(), true
		case c == '\\' && i+1 < len(in.rest):
			i++
			b.WriteByte(in.rest[i])
		default:
			b.WriteByte(c)
		}
	}
	in.rest = "" // the closing quote is missing: nothing of it is to be trusted
	return "", true
}

// token68 reads what schemes such as Negotiate have in place of parameters, if
// that is what follows.
func (in *scanner) token68() {
	after := strings.TrimLeft(in.rest, " \t")
	n := 0
	for n < len(after) && (isAlphanumeric(after[n]) || strings.IndexByte("-._~+/", after[n]) >= 0) {
		n++
	}
	if n == 0 {
		return
	}
	after = strings.TrimLeft(strings.TrimLeft(after[n:], "="), " \t")
	if after == "" || after[0] == ',' {
		in.rest = after
	}
}

// toComma drops what does not belong before the next comma.
func (in *scanner) toComma() {
	quoted := false
	for i := 0; i < len(in.rest); i++ {
		switch c := in.rest[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			in.rest = in.rest[i:]
			return
		}
	}
	in.rest = ""
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func isTokenChar(c byte) bool {
	return isAlphanumeric(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// asksForNewToken reports whether a 401 with these challenges is one that a new
// access token may cure (RFC 6750 section 3.1): invalid_token, no error code,
// or no challenge at all. It is not if the API asks for another scheme alone,
// for more scope, or for the user (RFC 9470).
func asksForNewToken(h http.Header) bool {
	all := challenges(h)
	if len(all) == 0 {
		return true
	}
	cure := false
	for _, c := range all {
		if c.scheme != "bearer" {
			continue
		}
		switch c.params["error"] {
		case "", "invalid_token":
			cure = true
		case "insufficient_scope", "insufficient_user_authentication":
			return false
		}
	}
	return cure
}
