package freshtoken_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/internal/figures"
)

// A raw server takes one request, has it processed, and writes what it likes.
// good is the body of the answer that it ought to write.
type raw func(out io.Writer, good []byte)

// piped is a way to a raw server within a bubble.
func piped(n *network, answer raw) *http.Transport {
	var serving sync.WaitGroup
	base := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		serving.Go(func() {
			defer server.Close()
			req, err := http.ReadRequest(bufio.NewReader(server))
			if err != nil {
				return
			}
			form, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			req, err = http.NewRequest(http.MethodPost, n.as.TokenURL(), bytes.NewReader(form))
			if err != nil {
				return
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			resp, err := n.as.Client().Do(req)
			if err != nil {
				return
			}
			good, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil {
				answer(server, good)
			}
		})
		return client, nil
	}}
	n.t.Cleanup(func() {
		base.CloseIdleConnections()
		serving.Wait()
	})
	return base
}

// plainly is an answer with these header lines and this body.
func plainly(lines string, edit func(good []byte) string) raw {
	return func(out io.Writer, good []byte) {
		fmt.Fprintf(out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"+lines+"\r\n\r\n%s", edit(good))
	}
}

func asIs(good []byte) string { return string(good) }

// endlessly writes text again and again, until nobody listens or too much was
// written, and waits in between.
func endlessly(out io.Writer, text string, pause time.Duration) {
	for n := 0; n < 64<<20; n += len(text) {
		if _, err := io.WriteString(out, text); err != nil {
			return
		}
		time.Sleep(pause)
	}
	panic("the client reads on and on")
}

func zipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, text)
	z.Close()
	return b.String()
}

// Answers that are not what HTTP, or OAuth, says they are. The server has spent
// the refresh token in each case.
func TestNetworkAnswers(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	chunked := func(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }
	blanks := strings.Repeat(" ", 1<<10)
	tests := []struct {
		name, class string
		answer      raw
	}{
		{"nothing", unknown, func(io.Writer, []byte) {}},
		{"silence", unknown, func(io.Writer, []byte) { time.Sleep(time.Hour) }},
		{"a header that trickles for ever", unknown, func(out io.Writer, _ []byte) { io.WriteString(out, head); endlessly(out, "X", time.Second) }},
		{"a body that trickles for ever", unknown, func(out io.Writer, _ []byte) {
			io.WriteString(out, head+"\r\n")
			endlessly(out, " ", time.Second)
		}},
		{"an answer that trickles on", salvaged, func(out io.Writer, good []byte) {
			io.WriteString(out, head+"\r\n"+string(good))
			endlessly(out, " ", time.Second)
		}},
		{"an answer that does not end", salvaged, func(out io.Writer, good []byte) {
			io.WriteString(out, head+"\r\n"+string(good))
			endlessly(out, blanks, 0)
		}},
		{"a body that does not begin", unknown, func(out io.Writer, _ []byte) { io.WriteString(out, head+"\r\n"); endlessly(out, blanks, 0) }},
		{"a gzip bomb", unknown, func(out io.Writer, _ []byte) {
			io.WriteString(out, head+"Content-Encoding: gzip\r\n\r\n")
			z := gzip.NewWriter(out)
			endlessly(z, blanks, 0)
		}},
		{"gzip", done, plainly("Content-Encoding: gzip", func(good []byte) string { return zipped(string(good)) })},
		{"gzip that is none", unknown, plainly("Content-Encoding: gzip", asIs)},
		{"gzip that breaks off", salvaged, plainly("Content-Encoding: gzip", func(good []byte) string { z := zipped(string(good)); return z[:len(z)-4] })},
		{"an encoding that nobody asked for", unknown, plainly("Content-Encoding: br", func([]byte) string { return "\x0b\x02\x80" })},
		{"headers without end", unknown, func(out io.Writer, _ []byte) {
			io.WriteString(out, head)
			endlessly(out, "X-Pad: "+blanks+"\r\n", 0)
		}},
		{"a header of a megabyte", done, func(out io.Writer, good []byte) {
			fmt.Fprintf(out, head+"X-Pad: %s\r\n\r\n%s", strings.Repeat("x", 1<<20), good)
		}},
		{"early hints without end", unknown, func(out io.Writer, _ []byte) {
			endlessly(out, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 0)
		}},
		{"100 Continue, again and again, for ever", unknown, func(out io.Writer, _ []byte) {
			endlessly(out, "HTTP/1.1 100 Continue\r\n\r\n", time.Second)
		}},
		{"a few 1xx", done, func(out io.Writer, good []byte) {
			io.WriteString(out, strings.Repeat("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n", 5)+head+"\r\n"+string(good))
		}},
		{"101 Switching Protocols", unknown, func(out io.Writer, good []byte) {
			io.WriteString(out, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"+string(good))
		}},
		{"chunks", done, plainly("Transfer-Encoding: chunked", func(good []byte) string { return chunked(string(good)) + "0\r\n\r\n" })},
		{"chunks of one byte", done, plainly("Transfer-Encoding: chunked", func(good []byte) string {
			var b strings.Builder
			for i := range good {
				b.WriteString(chunked(string(good[i : i+1])))
			}
			return b.String() + "0\r\n\r\n"
		})},
		{"chunks without the last", salvaged, plainly("Transfer-Encoding: chunked", func(good []byte) string { return chunked(string(good)) })},
		{"a chunk that is longer than it says", salvaged, plainly("Transfer-Encoding: chunked", func(good []byte) string {
			return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(good)-1, good)
		})},
		{"a chunk of no size", unknown, plainly("Transfer-Encoding: chunked", func(good []byte) string { return "zz\r\n" + string(good) })},
		{"a chunk of every size", unknown, plainly("Transfer-Encoding: chunked", func(good []byte) string { return "fffffffffffffffff\r\n" + string(good) })},
		{"chunks and a length", done, plainly("Transfer-Encoding: chunked\r\nContent-Length: 3", func(good []byte) string { return chunked(string(good)) + "0\r\n\r\n" })},
		{"a transfer coding that nobody knows", unknown, plainly("Transfer-Encoding: gzip, chunked", asIs)},
		{"a length that is too long", salvaged, plainly("Content-Length: 5000", asIs)},
		{"a length that is too short", unknown, plainly("Content-Length: 20", asIs)},
		{"a length of none", unknown, plainly("Content-Length: 0", asIs)},
		{"a negative length", unknown, plainly("Content-Length: -1", asIs)},
		{"two lengths", unknown, plainly("Content-Length: 20\r\nContent-Length: 21", asIs)},
		{"a length of words", unknown, plainly("Content-Length: many", asIs)},
		{"no length", done, plainly("Connection: close", asIs)},
		{"HTTP/1.0", done, func(out io.Writer, good []byte) { io.WriteString(out, "HTTP/1.0 200 OK\r\n\r\n"+string(good)) }},
		{"another protocol", unknown, func(out io.Writer, _ []byte) { io.WriteString(out, "SSH-2.0-x\r\n") }},
		{"a body alone", unknown, func(out io.Writer, good []byte) { out.Write(good) }},
		{"204 No Content", unknown, func(out io.Writer, _ []byte) { io.WriteString(out, "HTTP/1.1 204 No Content\r\n\r\n") }},
		{"502 Bad Gateway", unknown, func(out io.Writer, _ []byte) { io.WriteString(out, "HTTP/1.1 502 Bad Gateway\r\n\r\n") }},
		{"504 Gateway Timeout", unknown, func(out io.Writer, _ []byte) { io.WriteString(out, "HTTP/1.1 504 Gateway Timeout\r\n\r\n") }},
	}
	var logged bytes.Buffer
	log.SetOutput(&logged)
	defer log.SetOutput(os.Stderr)
	for _, tt := range tests {
		inBubble(t, tt.name, func(t *testing.T) {
			n := newNetwork(t)
			n.tokenURL = "http://127.0.0.1:1/token"
			n.by = []http.RoundTripper{piped(n, tt.answer), inMemory{n.as}}
			start := time.Now()
			o := n.refresh()
			if took := time.Since(start); took > 33*time.Second {
				t.Errorf("it took %v", took)
			}
			if o.class != tt.class {
				t.Errorf("the attempt counts as %s, want %s: %v", o.class, tt.class, o.first)
			}
			n.check(o, true)
		})
	}
	if logged.Len() > 0 {
		t.Errorf("net/http logs what it has received: %d bytes", logged.Len())
	}
	figures.Record(t, "networks.answers", strconv.Itoa(len(tests)))
}
