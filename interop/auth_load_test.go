package interop_test

import (
	"net/http"
	"testing"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/storage"
)

// Twenty goroutines call an API that takes an access token with its certificate
// alone. Tokens live for three seconds, and the certificate is replaced while
// nobody calls: one who is about to send a request again, with a token of the
// first certificate, when the second takes over, may be rejected twice.
func TestCertificateUnderLoad(t *testing.T) {
	t.Parallel()
	w := startTLSServer(t, 3)
	t.Run("R8705-3: tls_client_auth", func(t *testing.T) {
		x := w.in(t, w.method("tls_client_auth"))
		src, _ := x.begin(storage.NewMemory())
		client := &http.Client{Transport: &freshtoken.Transport{Source: src, Base: x.transport(x.m.right), Origins: []string{x.certified}}}
		clients := make([]*http.Client, 20)
		for i := range clients {
			clients[i] = client
		}
		at := &server{t: t, issuer: x.certified}
		stop := at.hammer(clients)
		x.rotated(t.Context(), 2)
		calls := stop()
		if err := x.m.right.cert.Renew(*x.m.renewed); err != nil {
			t.Error(err)
		}
		stop = at.hammer(clients)
		x.rotated(t.Context(), 4)
		calls += stop()
		c := x.wantWhole()
		if got := int(src.Status().Generation); got != c.Refreshes+1 {
			t.Errorf("the session is at generation %d after %d refreshes", got, c.Refreshes)
		}
		t.Logf("%d calls, %d refreshes, %d answers of 401", calls, c.Refreshes, c.APIRejected)
	})
}
