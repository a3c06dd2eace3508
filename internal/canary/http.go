package canary

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// server is a server, with the places at which it has a right to secrets.
type server struct{ token, device, revocation, authorize, api, endSession, pushed string }

// Server tells where a server may learn which secrets, by the URLs of its
// endpoints, and by the beginning of those of its API.
func (c *Canary) Server(token, device, revocation, authorize, api, endSession string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.servers = append(c.servers, server{token, device, revocation, authorize, api, endSession, ""})
}

// Pushed tells where the server that was told of last takes pushed authorization
// requests.
func (c *Canary) Pushed(url string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.servers[len(c.servers)-1].pushed = url
}

// Transport watches requests on their way to base: at the right place a secret is
// learnt, everywhere else it would be a leak. Answers tell secrets, too.
func (c *Canary) Transport(base http.RoundTripper) http.RoundTripper { return &tap{c, base} }

type tap struct {
	c    *Canary
	base http.RoundTripper
}

// maxLearn bounds what is read of a body to learn from it.
const maxLearn = 1 << 16

// RoundTrip implements http.RoundTripper.
func (t *tap) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil && req.Body != http.NoBody {
		whole, err := io.ReadAll(req.Body)
		req.Body.Close()
		if err != nil {
			return nil, err
		}
		body, req = whole, req.Clone(req.Context())
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	at := t.c.request(req.URL.String(), req.Host, req.Header, body)
	resp, err := t.base.RoundTrip(req)
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		t.c.answer(at, resp)
	}
	return resp, err
}

// CloseIdleConnections passes the call on.
func (t *tap) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// Handler watches what comes in at a host, for programs that are processes of
// their own. base is its address, as the programs know it.
func (c *Canary) Handler(base string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, maxLearn))
		if err != nil {
			http.Error(w, "no body", http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		at := c.request(base+r.URL.RequestURI(), r.Host, r.Header, body)
		got := &recorder{ResponseWriter: w}
		next.ServeHTTP(got, r)
		c.learn(at, w.Header(), got.body.Bytes())
	})
}

type recorder struct {
	http.ResponseWriter
	body bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.body.Len() < maxLearn {
		r.body.Write(p)
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Flush implements http.Flusher.
func (r *recorder) Flush() { http.NewResponseController(r.ResponseWriter).Flush() }

// place is where a request goes.
type place int

const (
	stranger place = iota
	tokenPlace
	devicePlace
	revocationPlace
	authorizePlace
	pushedPlace
	apiPlace
	endSessionPlace
	callbackPlace
)

// formSecrets are what each place may learn from a form, or from a query.
var formSecrets = map[place][]string{
	tokenPlace:      {"refresh_token", "code", "code_verifier", "device_code", "client_secret"},
	devicePlace:     {"client_secret"},
	revocationPlace: {"token", "client_secret"},
	authorizePlace:  {"state"},
	pushedPlace:     {"state", "client_secret"},
	callbackPlace:   {"code", "state"},
	endSessionPlace: {"id_token_hint", "state"},
}

func (c *Canary) placeOf(u *url.URL) place {
	bare := *u
	bare.RawQuery, bare.Fragment = "", ""
	at := bare.String()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.servers {
		switch {
		case at == s.token:
			return tokenPlace
		case at == s.device:
			return devicePlace
		case at == s.revocation:
			return revocationPlace
		case at == s.authorize:
			return authorizePlace
		case at == s.pushed && at != "":
			return pushedPlace
		case at == s.endSession && at != "":
			return endSessionPlace
		case s.api != "" && strings.HasPrefix(at, s.api):
			return apiPlace
		}
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsLoopback() && u.Path == "/callback" {
		return callbackPlace
	}
	c.foreign++
	return stranger
}

// request learns the secrets that a request has in the right place, and keeps the
// rest of it.
func (c *Canary) request(address, host string, header http.Header, body []byte) place {
	u, err := url.Parse(address)
	if err != nil {
		c.Text("a request", []byte(address))
		return stranger
	}
	at := c.placeOf(u)
	header = header.Clone()
	bearer, isBearer := strings.CutPrefix(header.Get("Authorization"), "Bearer ")
	basic, isBasic := strings.CutPrefix(header.Get("Authorization"), "Basic ")
	switch {
	case at == apiPlace && isBearer:
		c.Secret("an access token", bearer)
		header.Del("Authorization")
	case isBasic && (at == tokenPlace || at == devicePlace || at == revocationPlace || at == pushedPlace):
		if both, err := base64.StdEncoding.DecodeString(basic); err == nil {
			_, secret, _ := strings.Cut(string(both), ":")
			if plain, err := url.QueryUnescape(secret); err == nil {
				c.Secret("a client's secret", plain)
			}
		}
		header.Del("Authorization")
	}
	query, text := u.Query(), body
	if at == authorizePlace || at == callbackPlace || at == endSessionPlace {
		c.take(at, query)
		u.RawQuery = query.Encode()
	} else if form, err := url.ParseQuery(string(body)); err == nil && len(formSecrets[at]) > 0 {
		c.take(at, form)
		text = []byte(form.Encode())
	}
	where := fmt.Sprintf("a request to %s%s", u.Host, u.Path)
	c.Text(where, fmt.Appendf(nil, "%s %s %v\n%s", u, host, header, text))
	return at
}

// take takes out of a form what the place may know.
func (c *Canary) take(at place, form url.Values) {
	for _, name := range formSecrets[at] {
		for _, value := range form[name] {
			c.Secret("the parameter "+name, value)
		}
		form.Del(name)
	}
}

// answer learns from an answer, and leaves it as it is.
func (c *Canary) answer(at place, resp *http.Response) {
	var start bytes.Buffer
	if at != apiPlace && at != stranger {
		_, err := start.ReadFrom(io.LimitReader(resp.Body, maxLearn))
		resp.Body = &rest{io.MultiReader(bytes.NewReader(start.Bytes()), failing{err}, resp.Body), resp.Body}
	}
	c.learn(at, resp.Header, start.Bytes())
}

func (c *Canary) learn(at place, header http.Header, body []byte) {
	if at == authorizePlace {
		if back, err := url.Parse(header.Get("Location")); err == nil {
			c.Secret("a code", back.Query().Get("code"))
		}
	}
	if at != tokenPlace && at != devicePlace {
		return
	}
	var all map[string]any
	if json.Unmarshal(body, &all) != nil {
		return
	}
	for _, name := range []string{"access_token", "refresh_token", "id_token", "device_code"} {
		if value, ok := all[name].(string); ok {
			c.Secret("the member "+name, value)
		}
	}
}

// rest is a body of which the beginning was read already.
type rest struct {
	io.Reader
	io.Closer
}

// failing reads nothing, and ends with its error, or without one.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return 0, io.EOF
}
