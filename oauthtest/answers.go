package oauthtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Canned answers. All stand instead of processing unless IfRefused or
// AfterProcessing says otherwise.

// Status returns an answer of this status with an empty body.
func Status(status int) Fault {
	return Fault{Name: fmt.Sprintf("%d", status), Status: status}
}

// JSON returns an answer with this text as JSON; nothing checks that it is.
func JSON(status int, text string) Fault {
	f := Status(status)
	f.Header = http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}}
	f.Body = text
	return f
}

// HTML returns a page for humans, such as proxies and captive portals send.
func HTML(status int) Fault {
	f := Status(status)
	f.Name += "-html"
	f.Header = http.Header{"Content-Type": {"text/html; charset=utf-8"}}
	f.Body = fmt.Sprintf("<!DOCTYPE html>\n<title>%d</title>\n<h1>%[1]d %s</h1>\n", status, http.StatusText(status))
	return f
}

// Error returns an OAuth error (RFC 6749, section 5.2).
func Error(status int, code string) Fault {
	a := errorAnswer(status, code, "")
	f := JSON(status, string(a.body()))
	f.Name = fmt.Sprintf("%s-%d", strings.ReplaceAll(code, "_", "-"), status)
	return f
}

// InvalidGrant returns the usual answer to a dead refresh token, whatever the
// one at hand is worth.
func InvalidGrant() Fault { return Error(http.StatusBadRequest, "invalid_grant") }

// Unavailable returns 503. retryAfter is the Retry-After header: seconds, or a
// time in http.TimeFormat, or "" for none.
func Unavailable(retryAfter string) Fault {
	f := Status(http.StatusServiceUnavailable)
	f.RetryAfter = retryAfter
	return f
}

// TooManyRequests returns 429, with retryAfter as for Unavailable.
func TooManyRequests(retryAfter string) Fault {
	f := Status(http.StatusTooManyRequests)
	f.RetryAfter = retryAfter
	return f
}

// Redirect returns a redirect of this status to a URL, absolute or relative.
func Redirect(status int, location string) Fault {
	f := Status(status)
	f.Header = http.Header{"Location": {location}}
	return f
}

// Unauthorized returns 401 with one WWW-Authenticate line for each challenge,
// or none.
func Unauthorized(challenges ...string) Fault { return challenge(http.StatusUnauthorized, challenges) }

// Forbidden returns 403 with one WWW-Authenticate line for each challenge, or
// none.
func Forbidden(challenges ...string) Fault { return challenge(http.StatusForbidden, challenges) }

func challenge(status int, challenges []string) Fault {
	f := Status(status)
	f.Header = http.Header{}
	if len(challenges) > 0 {
		f.Header["Www-Authenticate"] = challenges
	}
	return f
}

// Broken connections.

// Refuse returns a connection that is refused: see Fault.Unsent.
func Refuse() Fault { return Fault{Name: "refuse", Unsent: true} }

// Drop returns a connection that is dropped before the request is processed.
func Drop() Fault { return Fault{Name: "drop", DropBefore: true} }

// LoseAnswer returns a connection that is dropped after the request has taken
// effect: the refresh token is spent, and the client does not learn of it.
func LoseAnswer() Fault { return Fault{Name: "lose-answer", DropAfter: true} }

// Stall returns a request that is neither processed nor answered until its
// client gives up.
func Stall() Fault {
	return Fault{Name: "stall", Before: func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}}
}

// Changes to a good answer: the request takes effect.

// Edit returns a good answer that f changes before it is sent.
func Edit(name string, f func(*Answer)) Fault { return Fault{Name: name, Edit: f} }

// SetMember returns a good answer in which a member has this JSON text as its
// value: SetMember("expires_in", `"3600"`). Text that is no JSON is sent as it
// is.
func SetMember(name, text string) Fault {
	return Edit(name+"="+text, func(a *Answer) { a.Members.Set(name, json.RawMessage(text)) })
}

// AddMember is SetMember, but appends a member even if there is one of that
// name.
func AddMember(name, text string) Fault {
	return Edit("add "+name+"="+text, func(a *Answer) { a.Members.Add(name, json.RawMessage(text)) })
}

// OmitMember returns a good answer without this member.
func OmitMember(name string) Fault {
	return Edit("omit "+name, func(a *Answer) { a.Members.Delete(name) })
}

// RenameMember returns a good answer in which a member has another name.
func RenameMember(old, new string) Fault {
	return Edit("rename "+old+" to "+new, func(a *Answer) { a.Members.Rename(old, new) })
}

// FormEncoded returns a good answer as a form instead of JSON.
func FormEncoded() Fault {
	return Edit("form-encoded", func(a *Answer) {
		form := url.Values{}
		for _, m := range a.Members {
			var v any
			if json.Unmarshal(m.Value, &v) == nil {
				form.Add(m.Name, fmt.Sprint(v))
			}
		}
		a.Raw = []byte(form.Encode())
		a.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	})
}

// BigBody returns a good answer with one more member of n bytes, which comes
// last and is streamed; a negative n is a member without end.
func BigBody(n int64) Fault {
	return Edit(fmt.Sprintf("big-body %d", n), func(a *Answer) {
		a.Raw = append(bytes.TrimSuffix(a.body(), []byte("}")), `,"padding":"`...)
		padding := Repeat("x", n)
		a.Stream = func(ctx context.Context, w io.Writer) error {
			if err := padding(ctx, w); err != nil {
				return err
			}
			_, err := io.WriteString(w, `"}`)
			return err
		}
	})
}

// Changes to the redirect that ends a login at the authorization endpoint.

// Deny returns a login that is refused with this error code, such as
// access_denied: see Fault.Deny.
func Deny(code string) Fault {
	return Fault{Name: strings.ReplaceAll(code, "_", "-"), Deny: code}
}

// SetParam returns a redirect in which a parameter has this value, once:
// SetParam("iss", "https://other.test").
func SetParam(name, value string) Fault {
	return editParams(name+"="+value, func(q url.Values) { q.Set(name, value) })
}

// AddParam is SetParam, but appends a parameter even if there is one of that
// name.
func AddParam(name, value string) Fault {
	return editParams("add "+name+"="+value, func(q url.Values) { q.Add(name, value) })
}

// OmitParam returns a redirect without this parameter.
func OmitParam(name string) Fault {
	return editParams("omit "+name, func(q url.Values) { q.Del(name) })
}

// editParams leaves an answer alone that is no redirect.
func editParams(name string, f func(url.Values)) Fault {
	return Edit(name, func(a *Answer) {
		u, err := url.Parse(a.Header.Get("Location"))
		if err != nil || u.Scheme == "" {
			return
		}
		q := u.Query()
		f(q)
		u.RawQuery = q.Encode()
		a.Header.Set("Location", u.String())
	})
}

// Bodies for Fault.Stream and Answer.Stream.

// Repeat writes text again and again until n bytes are written; a negative n is
// without end. It panics if text is empty.
func Repeat(text string, n int64) func(context.Context, io.Writer) error {
	if text == "" {
		panic("oauthtest: Repeat of nothing")
	}
	block := []byte(strings.Repeat(text, 1+32<<10/len(text)))
	return func(_ context.Context, w io.Writer) error {
		for left := n; left != 0; {
			b := block
			if left > 0 {
				b = block[:min(left, int64(len(block)))]
				left -= int64(len(b))
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
		return nil
	}
}

// Trickle writes text byte by byte, spread evenly over a time.
func Trickle(text string, over time.Duration) func(context.Context, io.Writer) error {
	return func(ctx context.Context, w io.Writer) error {
		pause := over / time.Duration(max(len(text), 1))
		for i := range len(text) {
			if err := sleep(ctx, pause); err != nil {
				return err
			}
			if _, err := io.WriteString(w, text[i:i+1]); err != nil {
				return err
			}
		}
		return nil
	}
}

// Stagger is for Faults.Func: of every n requests it delays the answers so that
// they spread evenly over a time. Each request is judged when it arrives: of n
// requests that show the same dead token at once, each learns it at another
// time.
func Stagger(over time.Duration, n int) func(*http.Request, int) Fault {
	return func(_ *http.Request, i int) Fault {
		return Fault{Name: "stagger", AfterDelay: over * time.Duration((i-1)%n) / time.Duration(n)}
	}
}
