package discovery_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken/discovery"
)

const (
	oauthForm  = "/.well-known/oauth-authorization-server"
	openidForm = "/.well-known/openid-configuration"
)

func TestWellKnownAddresses(t *testing.T) {
	for _, test := range []struct {
		issuer string
		want   []string
	}{
		{"https://as.test", []string{"https://as.test" + oauthForm, "https://as.test" + openidForm}},
		{"https://as.test/", []string{"https://as.test" + oauthForm, "https://as.test" + openidForm}},
		{"https://as.test/t1", []string{"https://as.test" + oauthForm + "/t1", "https://as.test" + openidForm + "/t1", "https://as.test/t1" + openidForm}},
		{"https://as.test/t1/", []string{"https://as.test" + oauthForm + "/t1", "https://as.test" + openidForm + "/t1", "https://as.test/t1" + openidForm}},
		{"https://as.test:8443/a/b", []string{"https://as.test:8443" + oauthForm + "/a/b", "https://as.test:8443" + openidForm + "/a/b", "https://as.test:8443/a/b" + openidForm}},
		{"https://as.test/a%2Fb", []string{"https://as.test" + oauthForm + "/a%2Fb", "https://as.test" + openidForm + "/a%2Fb", "https://as.test/a%2Fb" + openidForm}},
	} {
		t.Run("R8414-3.1: "+test.issuer+" is asked for in order", func(t *testing.T) {
			web := newWeb(t)
			web.host(strings.Split(test.issuer, "/")[2], nil)
			_, err := discovery.Fetch(t.Context(), web.client(), test.issuer)
			wantError(t, err, discovery.ErrNotFound, append(test.want, "status 404", "check the issuer", "write the endpoints")...)
			web.wantAsked(test.want...)
		})
		for n, address := range test.want {
			t.Run("R8414-3.1: what is found at "+address+" ends the search", func(t *testing.T) {
				web := newWeb(t)
				host := strings.Split(test.issuer, "/")[2]
				web.host(host, map[string]http.Handler{
					strings.TrimPrefix(address, "https://"+host): page{body: doc(test.issuer, `"token_endpoint": "https://as.test/token"`)},
				})
				m, err := discovery.Fetch(t.Context(), web.client(), test.issuer)
				if err != nil {
					t.Fatal(err)
				}
				if m.Issuer != test.issuer || m.TokenEndpoint != "https://as.test/token" {
					t.Errorf("got %q, %q", m.Issuer, m.TokenEndpoint)
				}
				web.wantAsked(test.want[:n+1]...)
			})
		}
	}
}

func TestIssuerIsIdentical(t *testing.T) {
	for _, test := range []struct{ name, asked, named string }{
		{"another issuer", "https://as.test", "https://evil.test"},
		{"a slash too many", "https://as.test", "https://as.test/"},
		{"a slash too few", "https://as.test/", "https://as.test"},
		{"a slash too many after a path", "https://as.test/t1", "https://as.test/t1/"},
		{"another tenant", "https://as.test/t1", "https://as.test/t2"},
		{"no tenant", "https://as.test/t1", "https://as.test"},
		{"the host in another case", "https://as.test", "https://AS.test"},
		{"the scheme in another case", "https://as.test", "HTTPS://as.test"},
		{"the path in another case", "https://as.test/t1", "https://as.test/T1"},
		{"the default port", "https://as.test", "https://as.test:443"},
		{"no default port", "https://as.test:443", "https://as.test"},
		{"another encoding", "https://as.test/%7Et", "https://as.test/~t"},
		{"a space behind", "https://as.test", "https://as.test "},
		{"a query", "https://as.test", "https://as.test?"},
		{"a letter that looks the same", "https://as.test", "https://\u0430s.test"},
		{"a template", "https://as.test/common/v2.0", "https://as.test/{tenantid}/v2.0"},
		{"what would harm a terminal", "https://as.test", "https://as.test\x1b[2J\n" + strings.Repeat("x", 9999)},
	} {
		t.Run("R8414-3.3: "+test.name+" is refused, and ends the search", func(t *testing.T) {
			web := newWeb(t)
			path := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(test.asked, "https://as.test"), ":443"), "/")
			right := page{body: doc(test.asked)}
			web.host("as.test", map[string]http.Handler{
				oauthForm + path: page{body: strings.NewReplacer("\x1b", `\u001b`, "\n", `\n`).Replace(`{"issuer": "` + test.named + `", "x": "` + canary + `"}`)},
				// These must not be asked for, nor believed.
				openidForm + path: right, path + openidForm: right,
			})
			m, err := discovery.Fetch(t.Context(), web.client(), test.asked)
			wantError(t, err, discovery.ErrIssuer, `"`+test.asked+`"`, strings.Split(test.named, "\u0430")[0][:8])
			if m != nil {
				t.Errorf("something of it was returned: %v", m)
			}
			if len(web.asked) != 1 {
				t.Errorf("it was asked on: %q", web.asked)
			}
		})
	}
	t.Run("R8414-3.3: the same in other JSON is identical", func(t *testing.T) {
		web := newWeb(t)
		web.host("as.test", map[string]http.Handler{oauthForm + "/t1": page{body: `{"i\u0073suer": "https:\/\/as.test\u002ft1"}`}})
		if _, err := discovery.Fetch(t.Context(), web.client(), "https://as.test/t1"); err != nil {
			t.Error(err)
		}
	})
}

func TestIssuerIdentifier(t *testing.T) {
	for issuer, says := range map[string]string{
		"":                          "not an absolute URL",
		"as.test":                   `"as.test" is not an absolute URL`,
		"/as":                       "not an absolute URL",
		"https://":                  "not an absolute URL",
		"https:as.test":             "not an absolute URL",
		"https://:443/t1":           "not an absolute URL",
		"https://as.test:x":         "not an absolute URL",
		"http://as.test":            "plain http",
		"http://127.0.0.1.as.test":  "plain http",
		"http://localhost.as.test":  "plain http",
		"http://10.0.0.1":           "plain http",
		"http://0.0.0.0":            "plain http",
		"ftp://as.test":             "not https",
		"javascript://as.test/%0a":  "not https",
		"https://as.test?":          "has a query",
		"https://as.test/?p=c4n4ry": "has a query",
		"https://as.test#":          "has a fragment",
		"https://as.test/#c4n4ry":   "has a fragment",
		"https://u:c4n4ry@as.test":  "user or password",
		"https://u:c4n4ry@as.t\x1b": "unescaped",
		"https://as.test/ t1":       "unescaped",
		"https://as.test/t\u00e4":   "unescaped",
		"https://as.test\n":         "unescaped",
	} {
		t.Run("R8414-2: refused as an issuer: "+issuer, func(t *testing.T) {
			web := newWeb(t)
			_, err := discovery.Fetch(t.Context(), web.client(), issuer)
			wantError(t, err, discovery.ErrIssuer, says, "such as https://login.example.com")
			web.wantAsked()
		})
	}
	for _, issuer := range []string{"http://localhost", "http://LOCALHOST:8080/t1", "http://127.0.0.1", "http://127.8.9.10:1", "http://[::1]:8080"} {
		t.Run("R8414-2: this machine needs no TLS: "+issuer, func(t *testing.T) {
			web := newWeb(t)
			web.host(strings.ToLower(strings.Split(issuer, "/")[2]), map[string]http.Handler{
				oauthForm: page{body: doc(issuer)}, oauthForm + "/t1": page{body: doc(issuer)},
			})
			if _, err := discovery.Fetch(t.Context(), web.client(), issuer); err != nil {
				t.Error(err)
			}
		})
	}
}

// notMetadata are answers that a server may have where it has no metadata.
func notMetadata(right string) map[string]page {
	return map[string]page{
		"an application's page":      {kind: "text/html; charset=utf-8", body: "<html>" + canary},
		"JSON that says it is HTML":  {kind: "text/html", body: right},
		"JSON without a type":        {kind: " ", body: right},
		"JSON as bytes":              {kind: "application/octet-stream", body: right},
		"JSON as text":               {kind: "text/plain", body: right},
		"a type that harms":          {kind: "text/\u202e\u00e4" + strings.Repeat("x", 999), body: canary},
		"null":                       {body: "null"},
		"a list":                     {body: "[" + right + "]"},
		"a string":                   {body: `"` + canary + `"`},
		"nothing":                    {},
		"half of it":                 {body: right[:len(right)-1]},
		"two of them":                {body: right + right},
		"something behind it":        {body: right + canary},
		"no JSON":                    {body: "{" + canary},
		"a comma too many":           {body: `{"issuer": "https://as.test",}`},
		"a name that is none":        {body: `{"issuer": "https://as.test", 1: 2}`},
		"not UTF-8":                  {body: "{\"issuer\": \"https://as.test\", \"x\": \"\xff\"}"},
		"deep":                       {body: `{"issuer": "https://as.test", "x": ` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + "}"},
		"an object of another kind":  {body: `{"error": "` + canary + `"}`},
		"an issuer in capitals":      {body: `{"ISSUER": "https://as.test", "Issuer": "https://as.test"}`},
		"an empty issuer":            {body: `{"issuer": ""}`},
		"an issuer that is null":     {body: `{"issuer": null}`},
		"201":                        {status: 201, body: right},
		"204":                        {status: 204},
		"206":                        {status: 206, body: right},
		"304":                        {status: 304},
		"a redirect to nowhere":      {status: 302, body: right},
		"400":                        {status: 400, body: right},
		"401":                        {status: 401, body: right},
		"403":                        {status: 403, body: right},
		"404":                        {status: 404, body: right},
		"405":                        {status: 405, body: right},
		"406":                        {status: 406, body: right},
		"410":                        {status: 410, body: right},
		"a 404 without an end to it": {status: 404, body: strings.Repeat(canary, 1<<19)},
	}
}

func TestAnswers(t *testing.T) {
	right := doc("https://as.test")
	for name, p := range notMetadata(right) {
		t.Run("R8414-3.2: next form after "+name, func(t *testing.T) {
			web := newWeb(t)
			web.host("as.test", map[string]http.Handler{oauthForm: p, openidForm: page{body: right}})
			if _, err := discovery.Fetch(t.Context(), web.client(), "https://as.test"); err != nil {
				t.Error(err)
			}
			web.wantAsked("https://as.test"+oauthForm, "https://as.test"+openidForm)
		})
		t.Run("R8414-3.2: not found, "+name, func(t *testing.T) {
			web := newWeb(t)
			web.host("as.test", map[string]http.Handler{oauthForm: p, openidForm: p})
			_, err := discovery.Fetch(t.Context(), web.client(), "https://as.test")
			wantError(t, err, discovery.ErrNotFound, "check the issuer")
		})
	}
	for name, p := range map[string]page{
		"a parameter":       {kind: "application/json; charset=utf-8", body: right},
		"a broken one":      {kind: "application/json; charset", body: right},
		"capitals":          {kind: "Application/JSON", body: right},
		"a suffix":          {kind: "application/jrd+json", body: right},
		"a byte order mark": {body: "\ufeff" + right},
		"white space":       {body: " \r\n\t" + right + "\n\n"},
	} {
		t.Run("R8414-3.2: JSON with "+name+" counts", func(t *testing.T) {
			web := newWeb(t)
			web.host("as.test", map[string]http.Handler{oauthForm: p})
			if _, err := discovery.Fetch(t.Context(), web.client(), "https://as.test"); err != nil {
				t.Error(err)
			}
			web.wantAsked("https://as.test" + oauthForm)
		})
	}
}

func TestUnavailable(t *testing.T) {
	for _, status := range []int{408, 429, 500, 501, 502, 503, 504, 599} {
		t.Run("R8414-3.2: "+http.StatusText(status)+" passes, and is no reason to ask elsewhere", func(t *testing.T) {
			web := newWeb(t)
			web.host("as.test", map[string]http.Handler{
				oauthForm: page{status: status, body: canary}, openidForm: page{body: doc("https://as.test")},
			})
			_, err := discovery.Fetch(t.Context(), web.client(), "https://as.test")
			wantError(t, err, discovery.ErrUnavailable, "try again later", "write the endpoints")
			web.wantAsked("https://as.test" + oauthForm)
		})
	}
	t.Run("R8414-3.2: a server that is down is asked once", func(t *testing.T) {
		web := newWeb(t)
		_, err := discovery.Fetch(t.Context(), web.client(), "https://as.test/t1")
		wantError(t, err, discovery.ErrUnavailable, "try again later", "no such host", "cannot reach as.test")
		web.wantAsked("https://as.test" + oauthForm + "/t1")
	})
	t.Run("R8414-3.2: a server that goes down between two requests", func(t *testing.T) {
		web := newWeb(t)
		web.host("as.test", map[string]http.Handler{openidForm: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		})})
		_, err := discovery.Fetch(t.Context(), web.client(), "https://as.test")
		wantError(t, err, discovery.ErrUnavailable, "try again later", openidForm)
	})
	t.Run("R8414-3.2: a document that breaks off", func(t *testing.T) {
		web := newWeb(t)
		web.host("as.test", map[string]http.Handler{oauthForm: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			page{body: `{"issuer": "https://as.test", "` + canary}.ServeHTTP(w, nil)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})})
		_, err := discovery.Fetch(t.Context(), web.client(), "https://as.test")
		wantError(t, err, discovery.ErrUnavailable, "try again later")
		web.wantAsked("https://as.test" + oauthForm)
	})
}

func TestRedirects(t *testing.T) {
	right := page{body: doc("https://as.test")}
	for name, test := range map[string]struct {
		location string
		status   int
		want     error
		says     string
	}{
		"within the origin":        {location: "/there"},
		"permanently":              {location: "/there", status: 301},
		"with 303":                 {location: "/there", status: 303},
		"with 307":                 {location: "/there", status: 307},
		"with 308":                 {location: "/there", status: 308},
		"by a whole URL":           {location: "https://as.test/there"},
		"to the host in capitals":  {location: "HTTPS://AS.TEST/there"},
		"to the default port":      {location: "https://as.test:443/there"},
		"to another host":          {location: "https://evil.test/there?" + canary, want: discovery.ErrInvalid, says: `"https://evil.test:443"`},
		"without a scheme":         {location: "//evil.test/there", want: discovery.ErrInvalid, says: "evil.test"},
		"to a subdomain":           {location: "https://www.as.test/there", want: discovery.ErrInvalid, says: "www.as.test"},
		"to another port":          {location: "https://as.test:8443/there", want: discovery.ErrInvalid, says: "8443"},
		"to plain http":            {location: "http://as.test/there", want: discovery.ErrInvalid, says: "http://as.test:80"},
		"to a user":                {location: "https://u:" + canary + "@as.test/there", want: discovery.ErrInvalid, says: "cannot be followed"},
		"to a script":              {location: "javascript:" + canary, want: discovery.ErrInvalid, says: "another origin"},
		"to this machine":          {location: "http://169.254.169.254/there", want: discovery.ErrInvalid, says: "169.254.169.254"},
		"to no URL":                {location: "https://[evil.test/" + canary, want: discovery.ErrInvalid, says: "cannot be followed"},
		"to control characters":    {location: "\x1b[2J" + canary, want: discovery.ErrInvalid, says: "cannot be followed"},
		"to itself":                {location: oauthForm, want: discovery.ErrInvalid, says: "more than 3 redirects"},
		"four times":               {location: "/4", want: discovery.ErrInvalid, says: "more than 3 redirects"},
		"three times":              {location: "/3"},
		"elsewhere in a second go": {location: "/evil", want: discovery.ErrInvalid, says: "evil.test"},
	} {
		t.Run("R8414-3.2: a redirect "+name, func(t *testing.T) {
			web := newWeb(t)
			web.host("as.test", map[string]http.Handler{
				oauthForm: page{status: max(test.status, 302), location: test.location, body: canary},
				"/there":  right, "/4": page{status: 302, location: "/3"},
				"/3": page{status: 302, location: "/2"}, "/2": page{status: 302, location: "/there"},
				"/evil":    page{status: 302, location: "https://evil.test/there"},
				openidForm: right, // must not be asked for
			})
			for _, other := range []string{"evil.test", "www.as.test", "as.test:8443", "169.254.169.254"} {
				web.host(other, map[string]http.Handler{"/there": http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
					t.Errorf("%s was asked", other)
				})})
			}
			client := web.client()
			client.CheckRedirect = func(*http.Request, []*http.Request) error { return errors.New("the client's own") }
			m, err := discovery.Fetch(t.Context(), client, "https://as.test")
			if test.want != nil {
				wantError(t, err, test.want, test.says)
			} else if err != nil || m.Issuer != "https://as.test" {
				t.Error(err)
			}
			if len(web.asked) > 4 {
				t.Errorf("%d requests", len(web.asked))
			}
		})
	}
}

func TestOverSockets(t *testing.T) {
	var issuer string
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/t1"+openidForm {
			http.NotFound(w, r)
			return
		}
		page{body: doc(issuer, `"token_endpoint": "`+issuer+`/token"`)}.ServeHTTP(w, r)
	})
	t.Run("R8414-3.2: over TLS", func(t *testing.T) {
		srv := tlsServer(t, handler)
		issuer = srv.URL + "/t1"
		m, err := discovery.Fetch(t.Context(), srv.Client(), issuer)
		if err != nil || m.TokenEndpoint != issuer+"/token" {
			t.Errorf("%v, %v", m, err)
		}
	})
	t.Run("R8414-3.2: in the clear on this machine, with a client of its own", func(t *testing.T) {
		srv := httptest.NewServer(handler)
		t.Cleanup(srv.Close)
		issuer = srv.URL + "/t1"
		m, err := discovery.Fetch(t.Context(), nil, issuer)
		if err != nil || m.TokenEndpoint != issuer+"/token" {
			t.Errorf("%v, %v", m, err)
		}
	})
	t.Run("R8414-3.2: a certificate that nobody vouches for", func(t *testing.T) {
		srv := httptest.NewUnstartedServer(handler)
		srv.Config.ErrorLog = quiet
		srv.StartTLS()
		t.Cleanup(srv.Close)
		_, err := discovery.Fetch(t.Context(), nil, srv.URL)
		wantError(t, err, discovery.ErrUnavailable, "which certificates")
		if strings.Contains(err.Error(), "try again later") {
			t.Errorf("waiting does not help: %v", err)
		}
	})
	t.Run("R8414-3.2: a server that does not speak HTTP", func(t *testing.T) {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			conn.Write([]byte("\x1b[2J\u202e\u00e4" + strings.Repeat("x", 2000) + "\r\n\r\n"))
			conn.Close()
		}))
		t.Cleanup(srv.Close)
		_, err := discovery.Fetch(t.Context(), srv.Client(), srv.URL)
		wantError(t, err, discovery.ErrUnavailable, "try again later")
	})
	t.Run("R8414-3.2: nobody listens", func(t *testing.T) {
		srv := httptest.NewServer(handler)
		srv.Close()
		_, err := discovery.Fetch(t.Context(), srv.Client(), srv.URL)
		wantError(t, err, discovery.ErrUnavailable, "try again later")
	})
}
