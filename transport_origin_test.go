package freshtoken_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

var silent = log.New(io.Discard, "", 0)

// elsewheres are addresses that are not https://oauth.test, however near.
var elsewheres = []string{
	"https://other.test/",
	"https://oauth.test:8443/api/x",
	"https://sub.oauth.test/api/x",
	"https://oauth.test.other.test/api/x",
	"https://oauth.test.:443/api/x", // the trailing dot is another name
	"https://xoauth.test/api/x",
	"https://oauth.tes/api/x",
	"https://oauth.test@other.test/api/x",
	"http://oauth.test/api/x",
	"http://oauth.test:443/api/x",
	"https://oauth.test:80/api/x",
	"https://oauth.test:0443/api/x",
	"https://oauth\u200d.test/api/x",
	"https://oauth\u3002test/api/x",
	"https://öauth.test/api/x",
	"https://[::1]/api/x",
	"https://127.0.0.1/api/x",
}

var redirects = []int{301, 302, 303, 307, 308}

// everywhere is a base for which all hosts exist: the world's own, and others
// that answer 401.
func (w *world) everywhere() *rtWire {
	own := w.as.Transport()
	return &rtWire{base: rtFunc(func(req *http.Request) (*http.Response, error) {
		if req.URL.Scheme == "https" && req.URL.Host == "oauth.test" {
			return own.RoundTrip(req)
		}
		if req.Body != nil {
			req.Body.Close()
		}
		resp := answerOf(http.StatusUnauthorized, "")
		resp.Header.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		resp.Request = req
		return resp, nil
	})}
}

func testJudgesEveryHop(t *testing.T) {
	w := newWorld(t, oauthtest.Options{})
	src := w.loggedIn()
	for _, to := range elsewheres {
		for _, code := range redirects {
			spy := w.everywhere()
			client := w.client(src, func(rt *freshtoken.Transport) { rt.Base = spy })
			w.as.API.Next(oauthtest.Redirect(code, to))
			resp, err := client.Do(posting(t, w.as.APIURL("x"), []byte("body")))
			got, _ := rtFinish(t, resp, err)
			rtWant(t, to+": status", got, http.StatusUnauthorized)
			sent := spy.requests()
			if len(sent) != 2 || len(sent[0].credentials) != 1 {
				t.Fatalf("%d to %s: sent %q", code, to, spy.hops())
			}
			for _, secret := range sent[1].credentials { // a user in the URL is not ours
				if strings.HasPrefix(secret, "Bearer") {
					t.Errorf("%d to %s: the token went along", code, to)
				}
			}
		}
	}
	w.wantPosts(0) // the 401s from elsewhere said nothing about our token
	rtWant(t, "here", rtGet(t, w.client(src), w.as.APIURL("x")), http.StatusOK)
}

func TestDirectRequestsElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn()
		for _, to := range elsewheres {
			spy := w.everywhere()
			rt := &freshtoken.Transport{Source: src, Base: spy, Origins: []string{w.as.BaseURL()}}
			body := bodyOf("body")
			resp, err := rt.RoundTrip(rtRequest(t, http.MethodPost, to, body))
			wantErr(t, err, freshtoken.ErrOrigin)
			if resp != nil || body.closed() != 1 || len(spy.requests()) != 0 {
				t.Errorf("%s: answer %v, body closed %d times, sent %q", to, resp, body.closed(), spy.hops())
			}
			if err != nil && strings.Contains(err.Error(), "@") {
				t.Errorf("%s: the error shows the user: %v", to, err)
			}

			// PassUnlisted lets it through, unsigned.
			rt = &freshtoken.Transport{Source: src, Base: spy, Origins: []string{w.as.BaseURL()}, PassUnlisted: true}
			resp, err = rt.RoundTrip(rtRequest(t, http.MethodGet, to, nil))
			got, _ := rtFinish(t, resp, err)
			rtWant(t, to, got, http.StatusUnauthorized)
			if sent := spy.requests(); len(sent) != 1 || len(sent[0].credentials) != 0 {
				t.Errorf("%s: PassUnlisted sent %q", to, spy.hops())
			}
		}
		w.wantPosts(0)
	})
}

// A Location that the program follows by itself is a request of its own.
func TestLocationFollowedByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		spy := w.everywhere()
		client := w.client(w.loggedIn(), func(rt *freshtoken.Transport) { rt.Base = spy })
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		w.as.API.Next(oauthtest.Redirect(http.StatusFound, "https://other.test/"))
		resp, err := client.Do(rtRequest(t, http.MethodGet, w.as.APIURL("x"), nil))
		got, _ := rtFinish(t, resp, err)
		rtWant(t, "status", got, http.StatusFound)
		to, err := resp.Location()
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Do(rtRequest(t, http.MethodGet, to.String(), nil))
		wantErr(t, err, freshtoken.ErrOrigin)
		rtWant(t, "requests", len(spy.requests()), 1)
	})
}

func TestRedirectChains(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*freshtoken.Transport)
		hops []string // where the request goes, and then each redirect
		want string   // for each hop, whether it is to carry the token
	}{
		{"among the listed", listing("https://a.test", "https://b.test"), []string{"https://a.test", "https://b.test", "https://a.test"}, "yyy"},
		{"leaves and comes back", listing("https://a.test"), []string{"https://a.test", "https://x.test", "https://a.test", "https://a.test"}, "ynnn"},
		{"leaves for another of the listed", listing("https://a.test", "https://b.test"), []string{"https://a.test", "https://x.test", "https://b.test"}, "ynn"},
		{"goes over http", listing("https://a.test"), []string{"https://a.test", "http://a.test", "https://a.test"}, "ynn"},
		{"comes in from elsewhere", func(rt *freshtoken.Transport) {
			rt.Origins, rt.PassUnlisted = []string{"https://a.test"}, true
		}, []string{"https://x.test", "https://a.test"}, "nn"},
		{"other port", listing("https://a.test"), []string{"https://a.test", "https://a.test:444", "https://a.test"}, "ynn"},
		{"own port", listing("https://a.test"), []string{"https://a.test:443", "https://a.test", "https://A.TEST"}, "yyy"},
		{"any: stays", anyOrigin, []string{"https://a.test", "https://a.test", "https://A.test:443"}, "yyy"},
		{"any: leaves and comes back", anyOrigin, []string{"https://a.test", "https://b.test", "https://a.test"}, "ynn"},
		{"any: http", anyOrigin, []string{"https://a.test", "http://a.test"}, "yn"},
		{"any: other port", anyOrigin, []string{"https://a.test", "https://a.test:444"}, "yn"},
		{"any: subdomain", anyOrigin, []string{"https://a.test", "https://b.a.test"}, "yn"},
		{"any and listed", func(rt *freshtoken.Transport) {
			rt.AnyOrigin, rt.Origins = true, []string{"https://a.test", "https://b.test"}
		}, []string{"https://a.test", "https://b.test"}, "yn"},
		{"loopback to elsewhere", listing("http://127.0.0.1:1"), []string{"http://127.0.0.1:1", "http://127.0.0.1:2"}, "yn"},
	} {
		for _, code := range redirects {
			for _, forgetful := range []bool{false, true} {
				name := c.name + " " + strconv.Itoa(code)
				if forgetful {
					name += ", a base that does not set Response.Request"
				}
				rtBubble(t, name, func(t *testing.T) {
					w := newWorld(t, oauthtest.Options{})
					n := 0
					spy := &rtWire{base: rtAnswers(func(req *http.Request) *http.Response {
						resp := answerOf(http.StatusOK, "")
						if n++; n < len(c.hops) {
							resp.StatusCode = code
							resp.Header.Set("Location", c.hops[n]+"/"+strconv.Itoa(n))
						}
						if !forgetful {
							resp.Request = req
						}
						return resp
					})}
					client := w.client(w.loggedIn(), c.edit, func(rt *freshtoken.Transport) { rt.Base = spy })
					rtWant(t, "status", rtGet(t, client, c.hops[0]+"/0"), http.StatusOK)
					got := ""
					for _, s := range spy.requests() {
						got += map[int]string{0: "n", 1: "y"}[len(s.credentials)]
					}
					rtWant(t, "hops with the token", got, c.want)
				})
			}
		}
	}
}

// A redirect whose way cannot be told, because somebody between net/http and
// the Transport answered it, gets no token.
func TestRedirectFromNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		rt, spy := w.wired(w.loggedIn())
		req := rtRequest(t, http.MethodGet, w.as.APIURL("x"), nil)
		req.Response = answerOf(http.StatusFound, "")
		resp, err := rt.RoundTrip(req)
		got, _ := rtFinish(t, resp, err)
		rtWant(t, "status", got, http.StatusUnauthorized)
		rtWant(t, "tokens", len(spy.requests()[0].credentials), 0)
	})
}

func listing(origins ...string) func(*freshtoken.Transport) {
	return func(rt *freshtoken.Transport) { rt.Origins = origins }
}

func anyOrigin(rt *freshtoken.Transport) { rt.Origins, rt.AnyOrigin = nil, true }

func TestOriginsThatMatch(t *testing.T) {
	for _, c := range []struct {
		rule, url string
		sent      bool
	}{
		{"https://api.test", "https://api.test/x", true},
		{"https://api.test/", "https://api.test", true},
		{"https://API.test", "https://api.TEST/x", true},
		{"HTTPS://api.test", "https://api.test/x", true},
		{"https://api.test:443", "https://api.test/x", true},
		{"https://api.test", "https://api.test:443/x", true},
		{"https://api.test", "https://api.test:/x", true},
		{"https://api.test:", "https://api.test/x", true},
		{"https://api.test:8443", "https://api.test:8443/x", true},
		{"https://api.test:8443", "https://api.test/x", false},
		{"https://api.test:8443", "https://api.test:443/x", false},
		{"https://api.test.", "https://api.test/x", false},
		{"https://api.test.", "https://api.test./x", true},
		{"https://[2001:DB8::1]", "https://[2001:db8::1]:443/x", true},
		{"https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443/x", true},
		{"https://[2001:db8::1]", "https://[2001:db8::1]:8443/x", false},
		{"https://[2001:db8::443]", "https://[2001:db8::]/x", false},
		{"https://192.0.2.1", "https://192.0.2.1/x", true},
		{"http://127.0.0.1:8080", "http://127.0.0.1:8080/x", true},
		{"http://127.0.0.1", "http://127.0.0.1:80/x", true},
		{"http://127.0.0.1:8080", "http://127.0.0.1:8081/x", false},
		{"http://127.0.0.1:8080", "https://127.0.0.1:8080/x", false},
		{"http://[::1]:8080", "http://[::1]:8080/x", true},
		{"http://localhost:8080", "http://LOCALHOST:8080/x", true},
		{"http://localhost:8080", "http://127.0.0.1:8080/x", false},
		{"https://bücher.test", "https://bücher.test/x", true},
		{"https://bücher.test", "https://xn--bcher-kva.test/x", false}, // to be listed as well
		// net/http turns each of these hosts into another than the listed one
		// or into the same; what is not plainly the same stays without a token.
		{"https://github.test", "https://gİthub.test/x", false},
		{"https://work.test", "https://wor\u212a.test/x", false},
		{"https://api.test", "https://ａpi.test/x", false},
		{"https://strasse.test", "https://straße.test/x", false},
	} {
		rtBubble(t, c.rule+" for "+c.url, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{})
			spy := &rtWire{base: rtAnswers(func(*http.Request) *http.Response { return answerOf(http.StatusOK, "") })}
			rt := &freshtoken.Transport{Source: w.loggedIn(), Base: spy, Origins: []string{c.rule}}
			resp, err := rt.RoundTrip(rtRequest(t, http.MethodGet, c.url, nil))
			if !c.sent {
				wantErr(t, err, freshtoken.ErrOrigin)
				rtWant(t, "requests", len(spy.requests()), 0)
				return
			}
			rtFinish(t, resp, err)
			if sent := spy.requests(); len(sent) != 1 || len(sent[0].credentials) != 1 {
				t.Errorf("sent %q, want one request with the token", spy.hops())
			}
		})
	}
}

func TestInsecureHTTPAndAnyOrigin(t *testing.T) {
	named := func(rt *freshtoken.Transport) { rt.InsecureHTTP = []string{"http://intra.test:8080"} }
	for _, c := range []struct {
		name string
		edit []func(*freshtoken.Transport)
		url  string
		sent bool
	}{
		{"any: https", []func(*freshtoken.Transport){anyOrigin}, "https://x.test/", true},
		{"any: http", []func(*freshtoken.Transport){anyOrigin}, "http://x.test/", false},
		{"any: loopback", []func(*freshtoken.Transport){anyOrigin}, "http://127.0.0.1:99/", true},
		{"any: nearly loopback", []func(*freshtoken.Transport){anyOrigin}, "http://127.0.0.1.x.test/", false},
		{"any: nearly localhost", []func(*freshtoken.Transport){anyOrigin}, "http://localhost.x.test/", false},
		{"any: named http", []func(*freshtoken.Transport){anyOrigin, named}, "http://intra.test:8080/", true},
		{"any: named http, other port", []func(*freshtoken.Transport){anyOrigin, named}, "http://intra.test/", false},
		{"any: other scheme", []func(*freshtoken.Transport){anyOrigin}, "ftp://x.test/", false},
		{"listed and named", []func(*freshtoken.Transport){listing("http://intra.test:8080"), named}, "http://intra.test:8080/", true},
		{"named, not listed", []func(*freshtoken.Transport){listing("https://a.test"), named}, "http://intra.test:8080/", false},
	} {
		rtBubble(t, c.name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{})
			spy := &rtWire{base: rtAnswers(func(*http.Request) *http.Response { return answerOf(http.StatusOK, "") })}
			client := w.client(w.loggedIn(), append(c.edit, func(rt *freshtoken.Transport) { rt.Base = spy })...)
			resp, err := client.Transport.RoundTrip(rtRequest(t, http.MethodGet, c.url, nil))
			if !c.sent {
				wantErr(t, err, freshtoken.ErrOrigin)
				rtWant(t, "requests", len(spy.requests()), 0)
				return
			}
			rtFinish(t, resp, err)
			rtWant(t, "requests", len(spy.requests()), 1)
			rtWant(t, "tokens", len(spy.requests()[0].credentials), 1)
		})
	}
}

// Each mistake has a text of its own that says what to write.
func TestTransportMistakes(t *testing.T) {
	texts := map[string]string{}
	for _, c := range []struct {
		name string
		edit func(*freshtoken.Transport)
		says []string
	}{
		{"no Source", func(rt *freshtoken.Transport) { rt.Source = nil }, []string{"Transport.Source", "New"}},
		{"no origin", func(rt *freshtoken.Transport) { rt.Origins = nil }, []string{"Transport.Origins is empty", "https://api.example.com"}},
		{"empty origin", listing(""), []string{"Transport.Origins", "no origin", "https://api.example.com"}},
		{"host alone", listing("api.test"), nil},
		{"host and port alone", listing("api.test:443"), nil},
		{"scheme alone", listing("https://"), nil},
		{"port alone", listing("https://:443"), nil},
		{"path", listing("https://api.test/v1"), []string{"nothing behind"}},
		{"query", listing("https://api.test?x=y"), nil},
		{"fragment", listing("https://api.test#x"), nil},
		{"user", listing("https://alice:hunter2@api.test"), nil},
		{"other scheme", listing("ftp://api.test"), nil},
		{"not a URL", listing("https://a b"), nil},
		{"one of several", listing("https://a.test", "b.test"), nil},
		{"plain http", listing("http://api.test"), []string{"Transport.Origins", "http://api.test", "use https", "InsecureHTTP"}},
		{"nearly loopback", listing("http://127.0.0.1.api.test"), []string{"use https"}},
		{"InsecureHTTP", func(rt *freshtoken.Transport) { rt.InsecureHTTP = []string{"intra"} }, []string{"Transport.InsecureHTTP", "no origin"}},
	} {
		rtBubble(t, c.name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{})
			rt, spy := w.wired(w.loggedIn(), c.edit)
			says := append([]string{"freshtoken: ", "Transport."}, c.says...)
			if c.says == nil {
				says = append(says, "is no origin: write")
			}
			for range 2 { // it stays wrong
				body := bodyOf("body")
				_, err := rt.RoundTrip(rtRequest(t, http.MethodPost, w.as.APIURL("x"), body))
				if err == nil {
					t.Fatal("it was accepted")
				}
				for _, part := range says {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("the error does not say %q: %v", part, err)
					}
				}
				if strings.Contains(err.Error(), "hunter2") {
					t.Error("the error shows the password")
				}
				if body.closed() != 1 || len(spy.requests()) != 0 {
					t.Errorf("body closed %d times, sent %q", body.closed(), spy.hops())
				}
				if c.says != nil {
					texts[err.Error()] = c.name
				}
			}
		})
	}
	if len(texts) < 5 {
		t.Errorf("different mistakes share a text: %v", texts)
	}
}

// A reverse proxy that signs what it passes on, and nothing else.
func TestReverseProxy(t *testing.T) {
	w := newWorld(t, oauthtest.Options{})
	src := w.loggedIn()
	spy := w.everywhere()
	rt := &freshtoken.Transport{Source: src, Base: spy, Origins: []string{w.as.BaseURL()}}
	to, _ := url.Parse(w.as.BaseURL())
	proxy := &httputil.ReverseProxy{Transport: rt, ErrorLog: silent, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	front := httptest.NewServer(proxy)
	defer front.Close()
	serve := func(edit func(*http.Request)) int {
		t.Helper()
		req := posting(t, front.URL+"/api/x", []byte("body"))
		edit(req)
		client := front.Client()
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		resp, err := client.Do(req)
		got, _ := rtFinish(t, resp, err)
		return got
	}
	rtWant(t, "signed", serve(func(*http.Request) {}), http.StatusOK)
	rtWant(t, "the visitor's own credential", serve(func(r *http.Request) { r.Header.Set("Authorization", "Basic own") }), http.StatusUnauthorized)
	// The body comes straight from the visitor and cannot be had again.
	w.revoke(src)
	rtWant(t, "rejected", serve(func(*http.Request) {}), http.StatusUnauthorized)
	rtWant(t, "next", serve(func(*http.Request) {}), http.StatusOK)
	w.wantPosts(1)
	// It hands redirects to the visitor, and goes nowhere else with the token.
	w.as.API.Next(oauthtest.Redirect(http.StatusFound, "https://other.test/"))
	rtWant(t, "redirect", serve(func(*http.Request) {}), http.StatusFound)
	before := len(spy.requests())
	proxy.Rewrite = func(r *httputil.ProxyRequest) {
		other, _ := url.Parse("https://other.test")
		r.SetURL(other)
		r.Out.Host = "oauth.test" // the Host header is not where it goes
	}
	rtWant(t, "elsewhere", serve(func(*http.Request) {}), http.StatusBadGateway)
	rtWant(t, "sent elsewhere", len(spy.requests())-before, 0)
}

// A client for the token endpoint whose Transport is ours would wait for
// itself.
func TestOwnEndpointsPassUnsigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
		spy := &rtWire{base: w.as.Transport()}
		rt := &freshtoken.Transport{Base: spy, Origins: []string{w.as.BaseURL()}}
		src := w.source(func(c *freshtoken.Config) {
			c.HTTPClient = &http.Client{Transport: rt}
			c.RevocationURL = w.as.RevocationURL()
		})
		rt.Source = src
		tok := w.login(src)
		time.Sleep(2 * time.Minute)
		start := time.Now()
		rtWant(t, "status", rtGet(t, &http.Client{Transport: rt}, w.as.APIURL("x")), http.StatusOK)
		rtWant(t, "waited", time.Since(start), 0)
		w.wantPosts(1)
		time.Sleep(2 * time.Minute) // the access token has expired when it is revoked
		if err := src.Logout(t.Context()); err != nil {
			t.Errorf("Logout: %v", err)
		}
		rtWant(t, "waited for the logout", time.Since(start), 2*time.Minute)
		if w.as.Alive(tok.RefreshToken) || w.as.Stats().Revocations != 1 {
			t.Error("nothing was revoked")
		}
		for _, s := range spy.requests() {
			if signed := len(s.credentials) > 0; signed != strings.Contains(s.url, "/api/") {
				t.Errorf("%s: signed %v", s.url, signed)
			}
		}
	})
}

func TestClientForOrigins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		rt, ok := w.loggedIn().Client("https://a.test", "https://b.test").Transport.(*freshtoken.Transport)
		if !ok || !slices.Equal(rt.Origins, []string{"https://a.test", "https://b.test"}) || rt.AnyOrigin || rt.PassUnlisted {
			t.Errorf("got %v", rt)
		}
	})
}
