package freshtoken_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
)

const proxyChild = "FRESHTOKEN_TEST_PROXY_CHILD"

// A proxy that the environment names, which net/http reads once in the life of a
// program, refuses: nothing was sent, not even to the proxy.
func TestNetworkEnvironmentProxy(t *testing.T) {
	if os.Getenv(proxyChild) != "" {
		n := newNetwork(t)
		n.tokenURL = "https://token.invalid/token"
		n.by = []http.RoundTripper{http.DefaultTransport, inMemory{n.as}}
		o := n.refresh()
		if o.class != unsent {
			t.Errorf("the attempt counts as %s: %v", o.class, o.first)
		}
		n.check(o, false)
		return
	}
	for _, answer := range []string{"", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nno TLS"} {
		var mu sync.Mutex // guards asked
		var asked []string
		proxy := accept(t, func(conn net.Conn) {
			if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				mu.Lock()
				asked = append(asked, req.Method+" "+req.Host)
				mu.Unlock()
				io.WriteString(conn, answer)
			}
		})
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNetworkEnvironmentProxy$")
		child.Env = append(os.Environ(), proxyChild+"=1", "HTTPS_PROXY=http://"+proxy, "https_proxy=", "NO_PROXY=", "no_proxy=")
		if out, err := child.CombinedOutput(); err != nil {
			t.Errorf("%q: %v\n%s", answer, err, out)
		}
		mu.Lock()
		if len(asked) != 1 || asked[0] != "CONNECT token.invalid:443" {
			t.Errorf("the proxy was asked %q", asked)
		}
		mu.Unlock()
	}
}
