package oauthtest

import (
	"encoding/json"
	"net/http"
)

// Status returns a canned answer of this status with an empty body.
func Status(status int) Fault {
	return Fault{Name: http.StatusText(status), Status: status}
}

// JSON returns a canned answer with this text as JSON.
func JSON(status int, body string) Fault {
	f := Status(status)
	f.Header = http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}}
	f.Body = body
	return f
}

// Error returns a canned OAuth error (RFC 6749, section 5.2).
func Error(status int, code string) Fault {
	b, err := json.Marshal(map[string]string{"error": code})
	if err != nil {
		panic("oauthtest: " + err.Error())
	}
	f := JSON(status, string(b))
	f.Name = code
	return f
}

// Unavailable returns 503 with this Retry-After, "" for none.
func Unavailable(retryAfter string) Fault {
	f := Status(http.StatusServiceUnavailable)
	f.RetryAfter = retryAfter
	return f
}

// TooManyRequests returns 429 with this Retry-After, "" for none.
func TooManyRequests(retryAfter string) Fault {
	f := Status(http.StatusTooManyRequests)
	f.RetryAfter = retryAfter
	return f
}

// InvalidGrant returns the answer to a dead refresh token, without processing
// the one at hand.
func InvalidGrant() Fault { return Error(http.StatusBadRequest, "invalid_grant") }

// Drop returns a connection that is dropped before the request is processed.
func Drop() Fault { return Fault{Name: "drop", DropBefore: true} }

// LoseAnswer returns a connection that is dropped after the request has taken
// effect: the refresh token is spent, and the client does not learn of it.
func LoseAnswer() Fault { return Fault{Name: "lose answer", DropAfter: true} }

// Refuse returns a connection that is refused: see Fault.Unsent.
func Refuse() Fault { return Fault{Name: "refuse", Unsent: true} }

// SetMember returns a good answer in which a member has this JSON text as its
// value: SetMember("expires_in", `"3600"`). Text that is no JSON is sent as it
// is.
func SetMember(name, text string) Fault {
	return Fault{Name: name + "=" + text, Edit: func(a *Answer) { a.Members.Set(name, json.RawMessage(text)) }}
}

// AddMember is SetMember, but appends a member even if there is one of that
// name.
func AddMember(name, text string) Fault {
	return Fault{Name: "+" + name + "=" + text, Edit: func(a *Answer) { a.Members.Add(name, json.RawMessage(text)) }}
}

// OmitMember returns a good answer without this member.
func OmitMember(name string) Fault {
	return Fault{Name: "-" + name, Edit: func(a *Answer) { a.Members.Delete(name) }}
}
