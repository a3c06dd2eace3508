package freshtoken_test

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/freshtoken/freshtoken/internal/figures"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// Frames of HTTP/2 (RFC 9113 sections 4.1 and 6), as far as a server needs them
// that never answers.
const (
	h2Data, h2Headers, h2Reset, h2Settings, h2GoAway = 0, 1, 3, 4, 7
	h2EndStream, h2Ack                               = 1, 1
	h2NoError, h2Protocol, h2Internal                = 0, 1, 2
	h2Refused, h2Cancel, h2Enhance                   = 7, 8, 11
)

func h2Frame(kind, flags byte, stream uint32, payload ...uint32) []byte {
	frame := binary.BigEndian.AppendUint32(nil, uint32(4*len(payload))<<8|uint32(kind))
	frame = binary.BigEndian.AppendUint32(append(frame, flags), stream)
	for _, word := range payload {
		frame = binary.BigEndian.AppendUint32(frame, word)
	}
	return frame
}

// An h2Breaker is a server of HTTP/2 that takes a request, has it processed or
// not, and breaks it off.
type h2Breaker struct {
	as      *oauthtest.Server
	process bool

	mu     sync.Mutex                 // guards what follows
	breaks func(stream uint32) []byte // frames; nil: the connection is closed
	tokens []string                   // that were shown
}

// serve takes one request.
func (b *h2Breaker) serve(conn net.Conn) {
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
		return
	}
	conn.Write(h2Frame(h2Settings, 0, 0))
	var form []byte
	for range 100 {
		head := make([]byte, 9)
		if _, err := io.ReadFull(conn, head); err != nil {
			return
		}
		payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
		if _, err := io.ReadFull(conn, payload); err != nil {
			return
		}
		kind, flags, stream := head[3], head[4], binary.BigEndian.Uint32(head[5:])
		switch {
		case kind == h2Settings && flags&h2Ack == 0:
			conn.Write(h2Frame(h2Settings, h2Ack, 0))
		case kind == h2Data:
			if form = append(form, payload...); flags&h2EndStream != 0 {
				breaks := b.take(string(form))
				if breaks == nil {
					return
				}
				conn.Write(breaks(stream))
				form = nil
			}
		}
	}
}

// take notes what was shown, and has the world's server process it, whose answer
// goes nowhere.
func (b *h2Breaker) take(form string) (breaks func(uint32) []byte) {
	values, _ := url.ParseQuery(form)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = append(b.tokens, oauthtest.Fingerprint(values.Get("refresh_token")))
	if b.process {
		resp, err := b.as.Client().Post(b.as.TokenURL(), "application/x-www-form-urlencoded", strings.NewReader(form))
		if err == nil {
			resp.Body.Close()
		}
	}
	if len(b.tokens) > 3 {
		return nil // there are transports that would go on without end
	}
	return b.breaks
}

func (b *h2Breaker) shown() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.tokens...)
}

// start listens with TLS, and returns the way there.
func (b *h2Breaker) start(t *testing.T) (base *http.Transport, target string) {
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS() // for its certificate
	t.Cleanup(cert.Close)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: cert.TLS.Certificates, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { b.serve(conn) })
		}
	})
	base = &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: cert.Client().Transport.(*http.Transport).TLSClientConfig.Clone()}
	base.TLSClientConfig.NextProtos = nil
	dialer := new(net.Dialer)
	base.DialContext = dialer.DialContext
	t.Cleanup(func() {
		base.CloseIdleConnections()
		l.Close()
		serving.Wait()
	})
	return base, "https://" + l.Addr().String() + "/token"
}

// HTTP/2 can end a request in ways that make net/http send it again by itself,
// to a server that may have processed it.
func TestNetworkHTTP2SendsOnce(t *testing.T) {
	type way struct {
		name   string
		breaks func(stream uint32) []byte
	}
	ways := []way{{"closed", nil}}
	for name, code := range map[string]uint32{"PROTOCOL_ERROR": h2Protocol, "REFUSED_STREAM": h2Refused, "CANCEL": h2Cancel,
		"INTERNAL_ERROR": h2Internal, "ENHANCE_YOUR_CALM": h2Enhance, "NO_ERROR": h2NoError} {
		ways = append(ways, way{"reset with " + name, func(stream uint32) []byte { return h2Frame(h2Reset, 0, stream, code) }})
	}
	for name, code := range map[string]uint32{"NO_ERROR": h2NoError, "PROTOCOL_ERROR": h2Protocol, "ENHANCE_YOUR_CALM": h2Enhance} {
		ways = append(ways, way{"GOAWAY before the request, " + name, func(uint32) []byte { return h2Frame(h2GoAway, 0, 0, 0, code) }},
			way{"GOAWAY before the request and a reset, " + name, func(stream uint32) []byte {
				return append(h2Frame(h2GoAway, 0, 0, 0, code), h2Frame(h2Reset, 0, stream, h2Refused)...)
			}})
	}
	cases := 0
	for _, way := range ways {
		for _, process := range []bool{false, true} {
			for _, reused := range []bool{false, true} {
				name := way.name
				if process {
					name += ", processed"
				}
				if reused {
					name += ", on a connection that was used before"
				}
				cases++
				t.Run("R9110-9.2.2-rt "+name, func(t *testing.T) { testBrokenOff(t, way.breaks, process, reused) })
			}
		}
	}
	figures.Record(t, "networks.http2", strconv.Itoa(cases))
}

func testBrokenOff(t *testing.T, breaks func(uint32) []byte, process, reused bool) {
	n := newNetwork(t)
	b := &h2Breaker{as: n.as, breaks: breaks, process: process}
	base, target := b.start(t)
	n.tokenURL = target
	n.by = []http.RoundTripper{base, inMemory{n.as}} // the retry meets a server that answers
	if reused {
		b.breaks = func(stream uint32) []byte { return h2Frame(h2Reset, 0, stream, h2Internal) }
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := base.RoundTrip(req); err == nil {
			t.Fatal("there is an answer")
		}
		b.mu.Lock()
		b.tokens, b.breaks = nil, breaks
		b.mu.Unlock()
	}
	o := n.refresh()
	if shown := b.shown(); len(shown) != 1 || shown[0] != oauthtest.Fingerprint(n.login.RefreshToken) {
		t.Errorf("the server was shown %d refresh tokens in one attempt", len(shown))
	}
	if o.class != unknown {
		t.Errorf("the attempt counts as %s: %v", o.class, o.first)
	}
	n.check(o, process)
}
