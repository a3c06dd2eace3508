package interop_test

import (
	"net/http"
	"strings"
	"testing"

	"golang.org/x/oauth2"
)

// What RejectedByLogin is for: a program that does not know of the login page
// takes it for the API's answer.
func TestLoginPageLooksLikeAnAnswer(t *testing.T) {
	t.Parallel()
	x := startProxy(t, 4)
	tok := x.login()
	x.refusal(x.app.APIs[0], tok)
	src, _ := x.session(&oauth2.Token{AccessToken: tok.AccessToken, RefreshToken: tok.RefreshToken})
	unaware := x.app.APIs[0] // which redirects
	unaware.Login = ""
	client := unaware.client(src)
	client.Jar = alice().client.Jar // the server's pages want cookies
	resp, page, err := unaware.send(t.Context(), client, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(page), "<h1>Sign in</h1>") {
		t.Errorf("got %s: %s; want 200 with the login page", resp.Status, page)
	}
	if n := x.counts().Refreshes; n != 0 {
		t.Errorf("%d refreshes, want none", n)
	}
}
