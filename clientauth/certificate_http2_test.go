package clientauth_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/freshtoken/freshtoken/clientauth"
)

// However the base has its HTTP/2, each certificate has connections of its own.
func TestRenewOverHTTP2(t *testing.T) {
	for name, setUp := range map[string]func(t *testing.T, base *http.Transport, url string){
		"new":    func(*testing.T, *http.Transport, string) {},
		"in use": func(t *testing.T, base *http.Transport, url string) { get(t, &http.Client{Transport: base}, url) },
		"set up for HTTP/2 by others": func(t *testing.T, base *http.Transport, _ string) {
			base.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{"h2": func(_ string, conn *tls.Conn) http.RoundTripper {
				t.Error("a connection went where all clones would share it")
				conn.Close()
				return http.NewFileTransport(http.Dir("no such directory"))
			}}
			base.TLSClientConfig.NextProtos, base.ForceAttemptHTTP2 = []string{"h2", "http/1.1"}, false
		},
	} {
		t.Run("R8705-3: no HTTP/2 connection of before gets a request, where the base is "+name, func(t *testing.T) {
			seen := make(chan *http.Request, 2)
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r }))
			server.TLS, server.EnableHTTP2 = &tls.Config{ClientAuth: tls.RequestClientCert}, true
			server.StartTLS()
			defer server.Close()
			base := server.Client().Transport.(*http.Transport).Clone()
			defer base.CloseIdleConnections()
			if setUp(t, base, server.URL); len(seen) > 0 {
				<-seen
			}
			cert := must(clientauth.NewCertificate(newCert(t, certOptions{})))
			rt := cert.Transport(base)
			defer rt.(interface{ CloseIdleConnections() }).CloseIdleConnections()
			for _, now := range []tls.Certificate{newCert(t, certOptions{}), newCert(t, certOptions{})} {
				if err := cert.Renew(now); err != nil {
					t.Fatal(err)
				}
				get(t, &http.Client{Transport: rt}, server.URL)
				if r := <-seen; r.ProtoMajor != 2 || !r.TLS.PeerCertificates[0].Equal(now.Leaf) {
					t.Errorf("by %s, the server sees the certificate of before, if any", r.Proto)
				}
			}
		})
	}
}
