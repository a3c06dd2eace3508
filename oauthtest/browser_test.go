package oauthtest_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"

	"golang.org/x/oauth2"

	"github.com/freshtoken/freshtoken/oauthtest"
)

// listenForCallback is a program that waits for its callback on the loopback
// interface.
func listenForCallback(t *testing.T) (redirectURI string, callbacks <-chan url.Values, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got, served := make(chan url.Values, 8), make(chan struct{})
	hs := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/callback" {
			got <- r.URL.Query()
		}
	})}
	go func() {
		defer close(served)
		hs.Serve(l)
	}()
	return "http://" + l.Addr().String() + "/callback", got, func() {
		hs.Close()
		<-served
	}
}

// login logs in with x/oauth2, opening the URL with a client.
func login(t *testing.T, srv *oauthtest.Server, browser *http.Client, ctx context.Context) {
	t.Helper()
	redirectURI, callbacks, stop := listenForCallback(t)
	defer stop()
	conf := srv.OAuth2()
	conf.RedirectURL = redirectURI
	resp, err := browser.Get(conf.AuthCodeURL("xyz", oauth2.S256ChallengeOption(verifier)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	q := <-callbacks
	if resp.StatusCode != 200 || q.Get("state") != "xyz" || q.Get("iss") != srv.BaseURL() {
		t.Fatalf("%s %v", resp.Status, q)
	}
	tok, err := conf.Exchange(ctx, q.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil || !srv.Alive(tok.RefreshToken) {
		t.Fatal(err)
	}
}

func TestBrowser(t *testing.T) {
	t.Run("in memory", func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		login(t, srv, srv.Browser(), contextOf(t, srv))
	})
	bubble(t, "in a bubble", func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		login(t, srv, srv.Browser(), contextOf(t, srv))
	})
	t.Run("over the listener", func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		defer srv.Start()()
		any := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		login(t, srv, any, context.WithValue(t.Context(), oauth2.HTTPClient, any))
		login(t, srv, srv.Browser(), contextOf(t, srv))
	})
}

func TestBrowserReachesNoStranger(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{})
	for _, place := range []string{"http://192.0.2.1/", "https://example.com/", "http://127.0.0.1.example/"} {
		_, err := srv.Browser().Get(place)
		var dns *net.DNSError
		if !errors.As(err, &dns) {
			t.Errorf("%s: %v", place, err)
		}
	}
}

// In memory a host of Handle takes the place of the program's listener.
func TestBrowserPrefersHandledHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		var got url.Values
		srv.Handle("127.0.0.1:4321", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.URL.Query() }))
		for _, browser := range []*http.Client{srv.Browser(), srv.Client()} {
			resp, err := browser.Get(srv.AuthURL() + "?" + loginQuery().Encode())
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if r := redeem(t, srv, got.Get("code")); r.status != 200 {
				t.Fatalf("%+v", r)
			}
		}
	})
}
