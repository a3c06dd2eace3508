package login

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/endpoint"
	"github.com/freshtoken/freshtoken/internal/words"
)

// A receiver waits, on the loopback interface, for the browser to come back with
// the server's answer. It belongs to one login.
type receiver struct {
	uri      string // the redirect URI
	register string // as the server should know it
	host     string // that the browser must ask for, with the port
	path     string
	state    string
	page     func(error) []byte

	answers chan callback // of one element: the login's answer
	first   sync.Once     // passes that on
	strays  atomic.Int32  // answers that belong to no login here

	server  *http.Server
	serving sync.WaitGroup
	unused  sync.Map      // of net.Conn: those on which no request has come yet
	asked   *asking       // the person; nil: not yet
	over    chan struct{} // closed when outcome is set
	outcome error
}

// A callback is an answer that belongs to the login: its state is right.
type callback struct {
	query url.Values
}

// defaultPath is the path of the redirect URI, if the program does not say.
const defaultPath = "/callback"

// maxHeader bounds what a browser's request may have. Codes are a few hundred
// bytes as a rule, kilobytes at the worst.
const maxHeader = 64 << 10

// listen starts a receiver for a redirect URI as the program gives it.
func listen(redirect, state string, page func(error) []byte) (*receiver, error) {
	hosts, port, path, err := parseRedirect(redirect)
	if err != nil {
		return nil, err
	}
	listeners, host, err := openListeners(hosts, port)
	if err != nil {
		return nil, err
	}
	name, chosen, _ := net.SplitHostPort(host)
	r := &receiver{uri: "http://" + host + path, register: "http://" + host + path, host: browserHost(name, chosen), path: path, state: state, page: page,
		answers: make(chan callback, 1), over: make(chan struct{})}
	if port == "0" { // the port is the system's choice
		r.register = "http://" + host[:strings.LastIndexByte(host, ':')] + path + " with any port"
	}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: maxHeader, ErrorLog: log.New(io.Discard, "", 0), ConnState: r.watch}
	for _, l := range listeners {
		r.serving.Go(func() { r.server.Serve(l) })
	}
	return r, nil
}

// parseRedirect takes a loopback redirect URI apart. Each of hosts is a name for
// the browser with the addresses to listen on for it, to be tried in turn.
func parseRedirect(redirect string) (hosts []hostname, port, path string, err error) {
	if redirect == "" {
		return []hostname{{"127.0.0.1", []string{"127.0.0.1"}}, {"::1", []string{"::1"}}}, "0", defaultPath, nil
	}
	u, err := url.Parse(redirect)
	if err != nil || u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(redirect, "#") || !endpoint.IsLoopback(u.Hostname()) {
		return nil, "", "", errors.New("the redirect URL is not one that this machine can listen on: " +
			"make it (Config.OAuth2.RedirectURL, for a login) http://127.0.0.1/callback, as registered at the server, or leave it empty")
	}
	host := u.Hostname()
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is4In6() || slices.ContainsFunc(strings.Split(u.Path, "/"), isDots) {
		return nil, "", "", errors.New("the redirect URL is not one that browsers leave as it is, so that they would not come back there: " +
			"write 127.0.0.1, and no dots in the path that stand for directories")
	}
	h := hostname{host, []string{host}}
	if net.ParseIP(host) == nil { // localhost is two addresses, and the browser may take either
		h.addresses = []string{"127.0.0.1", "::1"}
	}
	port, path = u.Port(), u.EscapedPath()
	if port == "" {
		port = "0"
	}
	if path == "" {
		path = "/"
	}
	return []hostname{h}, port, path, nil
}

func isDots(segment string) bool { return segment == "." || segment == ".." }

// A hostname is a name of this machine, with its addresses.
type hostname struct {
	name      string
	addresses []string
}

// openListeners listens for the first of hosts that there is. host has the port.
func openListeners(hosts []hostname, port string) (listeners []net.Listener, host string, err error) {
	var errs []error
	for _, h := range hosts {
		for range 10 { // a port that is free at one address may be taken at the other
			listeners, err = h.listen(port)
			if err == nil {
				_, port, _ := net.SplitHostPort(listeners[0].Addr().String())
				return listeners, net.JoinHostPort(h.name, port), nil
			}
			if port != "0" || !errors.Is(err, errInUse) {
				break
			}
		}
		errs = append(errs, err)
	}
	err = errors.Join(errs...)
	if port != "0" && errors.Is(err, errInUse) {
		return nil, "", wrap(ErrListen, "port %s is taken by another program: end that, or leave the port out of the redirect URL if the server allows any: %w", port, err)
	}
	return nil, "", wrap(ErrListen, "%w", err)
}

// listen listens at all addresses of h, on one port. That the machine lacks one
// of several is no error: then the browser cannot take it either.
func (h hostname) listen(port string) (listeners []net.Listener, err error) {
	for _, address := range h.addresses {
		l, err := net.Listen("tcp", net.JoinHostPort(address, port))
		if err == nil {
			listeners = append(listeners, l)
			_, port, _ = net.SplitHostPort(l.Addr().String())
			continue
		}
		missing := errors.Is(err, errNoAddr) || errors.Is(err, errNoFamily)
		if !missing || address == h.addresses[len(h.addresses)-1] && len(listeners) == 0 {
			for _, l := range listeners {
				l.Close()
			}
			return nil, err
		}
	}
	return listeners, nil
}

// ServeHTTP implements http.Handler, for the browser.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer") // the address of the page has the code
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Connection", "close") // the listener is about to go
	switch {
	case !r.isAsked(req.Host): // a page of another site that has its name point here
		refusePage(w, http.StatusMisdirectedRequest)
	case req.URL.EscapedPath() != r.path:
		refusePage(w, http.StatusNotFound)
	case req.Method != http.MethodGet:
		h.Set("Allow", http.MethodGet)
		refusePage(w, http.StatusMethodNotAllowed)
	default:
		r.receive(w, req)
	}
}

// browserHost is how a browser writes a host, whatever the program does (WHATWG
// URL, sections 3.5 and 4.2).
func browserHost(name, port string) string {
	if ip := net.ParseIP(name); ip != nil {
		name = ip.String()
	}
	return net.JoinHostPort(strings.ToLower(name), port)
}

// isAsked reports whether a request for host is one for the receiver. The port
// that a browser leaves out is 80.
func (r *receiver) isAsked(host string) bool {
	return host == r.host || host+":80" == r.host
}

// receive takes the server's answer. One without the right state may come from
// anybody: it is refused, and the login goes on (RFC 8252 section 8.9).
func (r *receiver) receive(w http.ResponseWriter, req *http.Request) {
	query, err := url.ParseQuery(req.URL.RawQuery)
	ours := false
	for _, state := range query["state"] {
		ours = ours || subtle.ConstantTimeCompare([]byte(state), []byte(r.state)) == 1
	}
	if err != nil || !ours {
		r.strays.Add(1)
		refusePage(w, http.StatusBadRequest)
		return
	}
	// Whoever reloads the page is shown the same again, and nothing else comes
	// of it: a code is sent once.
	r.first.Do(func() { r.answers <- callback{query} })
	select {
	case <-r.over:
		showPage(w, http.StatusOK, r.page(r.outcome))
	case <-req.Context().Done():
	}
}

// late is the error of a login, or a logout, that nobody has finished. Only the
// browser knows if the server has refused the redirect URI: it must not send the
// person there.
func (r *receiver) late(cfg *freshtoken.Config, limit time.Duration, e errand) error {
	inTime := ""
	if e.life > 0 {
		inTime = ", and open the address within " + words.Duration(e.life)
	}
	err := tell(ErrTimeout, "the browser did not come back within %s: %s again%s; if it shows an error about the redirect URI "+
		"(the address to come back to), register %s for the client %q at the server",
		words.Duration(limit), e.to, inTime, r.register, endpoint.Sanitize(cfg.OAuth2.ClientID, 100))
	if n := r.strays.Load(); n > 0 {
		err = fmt.Errorf("%w (%w: %d were refused, which some other program or page has sent)", err, ErrState, n)
	}
	return err
}

// watch knows the connections that browsers open and may never use: nobody is to
// wait for those.
func (r *receiver) watch(conn net.Conn, state http.ConnState) {
	if state == http.StateNew {
		r.unused.Store(conn, nil)
	} else {
		r.unused.Delete(conn)
	}
}

// closeTime is how long a browser has to fetch the last page.
const closeTime = time.Second

// await sends the person on an errand and waits for the answer.
func (r *receiver) await(ctx context.Context, cfg *freshtoken.Config, p Prompt, e errand, limit time.Duration) (callback, error) {
	if limit <= 0 {
		limit = loginTime
	}
	patience := time.NewTimer(limit)
	defer patience.Stop()
	r.asked = ask(func() error { return p.browse(ctx, e) })
	select {
	case got := <-r.answers:
		return got, nil
	case err := <-r.asked.failed:
		return callback{}, fmt.Errorf("asking to %s: %w", e.to, err)
	case <-ctx.Done():
		return callback{}, gaveUp(ctx)
	case <-patience.C:
		return callback{}, r.late(cfg, limit, e)
	}
}

// close shows the browser how the login went, and ends the listener.
func (r *receiver) close(outcome error) {
	r.outcome = outcome
	close(r.over)
	r.unused.Range(func(conn, _ any) bool { conn.(net.Conn).Close(); return true })
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if r.server.Shutdown(ctx) != nil {
		r.server.Close()
	}
	r.serving.Wait()
	if r.asked != nil {
		r.asked.leave() // it may have been reading that page
	}
}

// judge reads the server's answer: its code, or why there is none. Parameters
// that are not known are ignored (RFC 6749 section 4.1.2).
func (c callback) judge(cfg *freshtoken.Config) (code string, err error) {
	for _, name := range []string{"state", "code", "error", "iss"} {
		if len(c.query[name]) > 1 {
			return "", wrap(ErrCallback, "it has the parameter %s twice: log in again; if it stays so, the server, or something before it, is broken", name)
		}
	}
	// Before anything else of it is believed, or shown (RFC 9207 section 2.4).
	iss, named := c.query.Get("iss"), c.query.Has("iss")
	switch {
	case named && iss != cfg.Issuer && (cfg.Issuer != "" || cfg.RequireIss):
		return "", wrap(ErrIssuer, "it names %q as its issuer, and Config.Issuer is %q: correct that, or suspect an attack", endpoint.Sanitize(iss, 100), endpoint.Sanitize(cfg.Issuer, 100))
	case !named && cfg.RequireIss:
		return "", wrap(ErrIssuer, "it names no issuer, though this server always does: log in again; if it stays so, suspect an attack, or unset Config.RequireIss")
	}
	if name := c.query.Get("error"); name != "" {
		return "", &ServerError{Endpoint: "authorization endpoint", Code: endpoint.Sanitize(name, 64), Description: endpoint.Sanitize(c.query.Get("error_description"), 200)}
	}
	code = c.query.Get("code")
	if code == "" || !endpoint.Printable(code) {
		return "", wrap(ErrCallback, "it has neither a code nor an error: log in again; if it stays so, check that the server supports the authorization code grant")
	}
	return code, nil
}
