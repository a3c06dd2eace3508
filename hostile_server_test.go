package freshtoken_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/internal/figures"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// hostileValues are JSON texts that no honest server has in place of a string.
func hostileValues() map[string]string {
	quoted := func(s string) string { return strconv.QuoteToASCII(s) }
	return map[string]string{
		"1 MiB":           `"` + strings.Repeat("x", 1<<20-400) + `"`,
		"NUL":             `"a\u0000b"`,
		"a line break":    `"a\r\nX-Injected: 1\r\n\r\nGET / HTTP/1.1"`,
		"a tab":           `"a\tb"`,
		"a space":         `"a b"`,
		"a terminal":      `"\u001b]0;title\u0007\u001b[2J"`,
		"C1 controls":     `"\u009b2J"`,
		"unicode":         quoted("tökén\u202egnirts"),
		"half a rune":     `"\ud83d"`,
		"JSON":            `"{\"access_token\":\"at\",\"admin\":true}"`,
		"quotes":          `"\"><script>alert(1)</script>\\"`,
		"a URL":           `"https://evil.test/?x=1#y"`,
		"two credentials": `"at, Basic YTpi"`,
		"nothing":         `""`,
		"null":            `null`,
		"a number":        `1e400`,
		"a list":          `["a","b"]`,
		"an object":       `{"a":{"b":"c"}}`,
		"depth":           strings.Repeat("[", 9000) + strings.Repeat("]", 9000),
		"more depth":      strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000),
	}
}

// plainText fails the test unless a text is one line of printable ASCII.
func plainText(t *testing.T, what, text string) {
	t.Helper()
	if len(text) > 2000 || strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		t.Errorf("%s is not inert: %.300q", what, text)
	}
}

// Whatever stands in a member of an answer: what is sent with it is sound, what
// is shown of it is inert, what is stored of it can be read, and the session
// goes on.
func TestHostileMembers(t *testing.T) {
	members := []string{"access_token", "refresh_token", "token_type", "expires_in", "scope", "id_token", "refresh_in", "error", "error_description", "extra"}
	n := 0
	for what, value := range hostileValues() {
		inBubble(t, "R6749-10.14 "+what, func(t *testing.T) {
			for _, member := range members {
				if len(value) > 1<<19 && member != "access_token" && member != "refresh_token" {
					continue // it takes long, and TestHostileErrorTexts has the others
				}
				n++
				hostileMember(t, member, value)
			}
		})
	}
	figures.Record(t, "hostile.members", strconv.Itoa(n))
}

func hostileMember(t *testing.T, member, value string) {
	w, src := expired(t, oauthtest.Options{Rotation: oauthtest.SameToken}, func(c *freshtoken.Config) {
		c.OnEvent = func(e freshtoken.Event) {
			if e.Err != nil {
				plainText(t, member+": an event", e.Err.Error())
			}
		}
	})
	w.as.Token.Next(oauthtest.SetMember(member, value))
	tok, err := src.Token(t.Context())
	replaced := false
	if err != nil {
		plainText(t, member+": the error", err.Error())
		if member == "access_token" && tok != nil {
			t.Errorf("%s: an error and a token", member)
		}
	} else {
		for i := range len(tok.AccessToken) {
			if c := tok.AccessToken[i]; c <= ' ' || c >= 0x7f {
				t.Errorf("%s: the token has the character %#x", member, c)
				break
			}
		}
		// A refresh token of printable characters is what the server says it is.
		replaced = member == "refresh_token" && value[0] == '"' && value != `""`
	}
	if text := fmt.Sprintf("%+v", src.Status()); len(text) > 4000 {
		t.Errorf("%s: the status has %d bytes", member, len(text))
	}
	spy := &rtWire{base: w.as.Transport()}
	client := w.client(src, func(rt *freshtoken.Transport) { rt.Base = spy })
	if resp, err := client.Get(w.as.APIURL("x")); err == nil {
		resp.Body.Close()
	}
	for _, r := range spy.requests() {
		if len(r.credentials) > 1 {
			t.Errorf("%s: a request with the credentials %.100q", member, r.credentials)
		}
	}
	time.Sleep(2 * time.Hour)
	if !replaced {
		for _, src := range []*freshtoken.Source{src, w.source()} { // and for whoever reads what was stored
			if status := rtGet(t, w.client(src), w.as.APIURL("x")); status != http.StatusOK {
				t.Errorf("%s: later, the API says %d", member, status)
			}
		}
	} else if _, err := w.source().Token(t.Context()); err != nil && !errors.Is(err, freshtoken.ErrSessionEnded) {
		t.Errorf("%s: %v", member, err)
	}
}

// Headers have no effect but that of Retry-After, however large and strange.
func TestHostileHeaders(t *testing.T) {
	huge := strings.Repeat("9", 1<<20)
	for name, header := range map[string]http.Header{
		"R9110-10.2.3 a Retry-After of a megabyte": {"Retry-After": {huge}},
		"R9110-10.2.3 ten thousand of them":        {"Retry-After": make([]string, 10_000)},
		"R9110-11.3 a challenge of a megabyte":     {"Www-Authenticate": {"Bearer error=\"" + huge}},
		"R9110-11.3 ten thousand challenges":       {"Www-Authenticate": make([]string, 10_000)},
		"R6749-5.1-ct a content type of its own":   {"Content-Type": {"text/html; charset=" + huge[:1000]}},
		"R6750-2 cookies and credentials":          {"Set-Cookie": {"a=b; Domain=test"}, "Authorization": {"Bearer x"}, "Link": {"<https://evil.test/>; rel=next"}},
	} {
		inBubble(t, name, func(t *testing.T) {
			w, src := expired(t, oauthtest.Options{Rotation: oauthtest.SameToken})
			fault := oauthtest.JSON(503, `{}`)
			for name, values := range header {
				fault.Header[name] = values
			}
			w.as.Token.Next(fault)
			_, err := src.Token(t.Context())
			plainText(t, "the error", err.Error())
			if e := refreshError(t, err); !e.Temporary || e.RetryAfter > time.Hour {
				t.Errorf("got %+v", e)
			}
			time.Sleep(2 * time.Hour)
			w.usable(src)

			fault.Status = http.StatusUnauthorized
			w.as.API.Always(fault)
			spy := &rtWire{base: w.as.Transport()}
			client := w.client(src, func(rt *freshtoken.Transport) { rt.Base = spy })
			rtWant(t, "the API's status", rtGet(t, client, w.as.APIURL("x")), http.StatusUnauthorized)
			if n := len(spy.requests()); n > 2 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// nagging is how an API can demand what no refresh brings, and change its mind.
var nagging = [][]oauthtest.Fault{
	{oauthtest.Unauthorized(`Bearer error="insufficient_user_authentication", acr_values="high", max_age="0"`)},
	{oauthtest.Unauthorized(`Bearer error="invalid_token"`, `Bearer error="insufficient_user_authentication", max_age="1"`)},
	{oauthtest.Unauthorized(`Bearer realm="a", Bearer error="INSUFFICIENT_USER_AUTHENTICATION", Bearer error="insufficient_user_authentication"`)},
	{oauthtest.Forbidden(`Bearer error="insufficient_scope", scope="admin"`)},
	{oauthtest.Unauthorized(`Bearer error="insufficient_scope", scope="admin"`), oauthtest.Forbidden(`Bearer error="invalid_token"`)},
}

// An API that nags has no refresh, no login, and no second request.
func TestNaggingAPI(t *testing.T) {
	requests := 0
	for i, faults := range nagging {
		inBubble(t, "R9470-8 for ever, in way "+strconv.Itoa(i+1), func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{})
			asked := 0
			src := w.loggedIn(func(c *freshtoken.Config) {
				c.Reauthenticate = freshtoken.AuthenticatorFunc(func(context.Context, freshtoken.Config) (*oauth2.Token, error) {
					asked++
					return nil, errors.New("nobody is to be asked")
				})
			})
			w.as.API.Func(func(_ *http.Request, n int) oauthtest.Fault { return faults[n%len(faults)] })
			spy := &rtWire{base: w.as.Transport()}
			client := w.client(src, func(rt *freshtoken.Transport) { rt.Base = spy })
			for range 300 {
				if status := rtGet(t, client, w.as.APIURL("x")); status != http.StatusUnauthorized && status != http.StatusForbidden {
					t.Fatalf("status %d", status)
				}
				time.Sleep(time.Second)
			}
			requests += 300
			if n := len(spy.requests()); n != 300 || asked != 0 {
				t.Errorf("%d requests, and somebody was asked %d times", n, asked)
			}
			w.wantPosts(0)
			w.as.API.Clear()
			rtWant(t, "status, once it has enough", rtGet(t, client, w.as.APIURL("x")), http.StatusOK)
		})
	}
	inBubble(t, "R9470-4 in turn with rejections that a refresh may cure", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn()
		rejected := oauthtest.Unauthorized(`Bearer error="invalid_token"`)
		w.as.API.Func(func(_ *http.Request, n int) oauthtest.Fault {
			return []oauthtest.Fault{rejected, nagging[0][0], nagging[3][0]}[n%3]
		})
		client := w.client(src)
		for range 600 { // ten minutes
			rtGet(t, client, w.as.APIURL("x"))
			time.Sleep(time.Second)
		}
		requests += 600
		if n := w.posts(); n > 5+10 {
			t.Errorf("%d refreshes in ten minutes", n)
		}
	})
	figures.Record(t, "hostile.nagging", strconv.Itoa(requests))
}

// A redirect of any kind, from any endpoint, takes no secret anywhere.
func TestRedirectsEverywhere(t *testing.T) {
	n := 0
	for _, status := range []int{300, 301, 302, 303, 304, 305, 307, 308, 399} {
		for _, to := range []string{"https://evil.test/x", "//evil.test/x", "http://oauth.test/token", "/token", "/api/x", "https://oauth.test:444/token", "javascript:alert(1)", "", "\x1b[2J"} {
			inBubble(t, fmt.Sprintf("R6749-10.4-rt %d to %q", status, to), func(t *testing.T) {
				n++
				w := newWorld(t, oauthtest.Options{ClientSecret: leakClientSecret, Rotation: oauthtest.SameToken})
				c := canary.New()
				c.Server(w.as.TokenURL(), w.as.DeviceAuthURL(), w.as.RevocationURL(), w.as.AuthURL(), w.as.BaseURL()+"/api/", "")
				for _, host := range []string{"evil.test", "oauth.test:444"} {
					w.as.Handle(host, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
				}
				src := w.source(revoking(w), func(cfg *freshtoken.Config) { cfg.HTTPClient.Transport = c.Transport(w.as.Transport()) })
				tok := w.login(src)
				c.Secret("a refresh token", tok.RefreshToken)
				c.Secret("an access token", tok.AccessToken)
				client := w.client(src, func(rt *freshtoken.Transport) { rt.Base = c.Transport(w.as.Transport()) })
				for _, f := range []*oauthtest.Faults{&w.as.API, &w.as.Token, &w.as.Revocation} {
					f.Always(oauthtest.Redirect(status, to))
				}
				if resp, err := client.Get(w.as.APIURL("x")); err == nil {
					resp.Body.Close()
				}
				before := w.posts()
				if _, err := src.Refresh(t.Context(), nil); err != nil {
					plainText(t, "the error", err.Error())
				} else {
					t.Error("a refresh by a redirect")
				}
				if got := w.posts() - before; got != 1 {
					t.Errorf("%d token requests", got)
				}
				err := src.Logout(t.Context())
				wantErr(t, err, freshtoken.ErrNotRevoked)
				plainText(t, "the error", err.Error())
				synctest.Wait()
				c.Check(t)
			})
		}
	}
	figures.Record(t, "hostile.redirects", strconv.Itoa(n))
}

// Text that a server puts into its errors reaches logs and terminals inert, at
// every endpoint.
func TestHostileErrorTexts(t *testing.T) {
	for what, value := range hostileValues() {
		inBubble(t, "R6749-5.2 "+what, func(t *testing.T) {
			statuses, short := []int{400, 401, 500, 200}, value
			if len(value) > 1<<19 { // once is enough, and an answer has a megabyte at most
				statuses, short = statuses[:1], `"invalid_grant"`
			}
			for _, status := range statuses {
				w, src := expired(t, oauthtest.Options{}, func(c *freshtoken.Config) { c.RevocationURL = "https://oauth.test/revoke" })
				answer := oauthtest.JSON(status, `{"error_description":`+value+`,"error":`+short+`,"error_uri":`+short+`}`)
				w.as.Token.Always(answer)
				_, err := src.Token(t.Context())
				if err == nil {
					t.Fatalf("%d: a token", status)
				}
				plainText(t, "the error", err.Error())
				data, jsonErr := json.Marshal(err)
				if jsonErr != nil {
					t.Error(jsonErr)
				}
				plainText(t, "its JSON", string(data))
				w.as.Revocation.Always(answer)
				if err := src.Logout(t.Context()); err != nil {
					plainText(t, "the logout's error", err.Error())
				}
			}
		})
	}
}
