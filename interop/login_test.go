package interop_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"golang.org/x/oauth2"
)

// A way is one to sign in.
type way struct {
	name   string
	signIn func(context.Context, site) (*oauth2.Token, error)
}

// The ways to sign in as alice, past the library.
var (
	byPassword = way{"password", func(ctx context.Context, x site) (*oauth2.Token, error) {
		return x.oauth2().PasswordCredentialsToken(ctx, "alice", "wonderland")
	}}
	byCode = way{"authorization code with PKCE", func(ctx context.Context, x site) (*oauth2.Token, error) {
		return loopback(ctx, x, alice().approve)
	}}
	byDevice = way{"device code", func(ctx context.Context, x site) (*oauth2.Token, error) {
		conf := x.oauth2()
		answer, err := conf.DeviceAuth(ctx)
		if err != nil {
			return nil, err
		}
		if err := alice().approveDevice(ctx, answer.VerificationURI, answer.UserCode); err != nil {
			return nil, err
		}
		return conf.DeviceAccessToken(ctx, answer)
	}}
)

// loopback signs in as a native program does (RFC 8252 section 7.3): open is
// handed the URL for the user's browser, which comes back to a port of this
// machine, and returns when it has.
func loopback(ctx context.Context, x site, open func(ctx context.Context, authURL string) error) (*oauth2.Token, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	answers := make(chan url.Values, 1)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/callback" {
			http.NotFound(w, req)
			return
		}
		select {
		case answers <- req.URL.Query():
		default: // there was one already
		}
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		server.Close()
		<-served
	}()
	conf, state, verifier := x.oauth2(), rand.Text(), oauth2.GenerateVerifier()
	conf.RedirectURL = "http://" + listener.Addr().String() + "/callback"
	if err := open(ctx, conf.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier))); err != nil {
		return nil, err
	}
	select {
	case got := <-answers:
		switch {
		case got.Get("state") != state:
			return nil, errors.New("the answer has another state")
		case got.Get("iss") != x.Issuer: // RFC 9207
			return nil, fmt.Errorf("the answer is by %q, not by %q", got.Get("iss"), x.Issuer)
		case got.Has("error"):
			return nil, &oauth2.RetrieveError{ErrorCode: got.Get("error"), ErrorDescription: got.Get("error_description")}
		}
		return conf.Exchange(ctx, got.Get("code"), oauth2.VerifierOption(verifier))
	default:
		return nil, errors.New("the browser has not come back")
	}
}
