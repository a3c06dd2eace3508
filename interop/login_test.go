package interop_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"

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
		return loopback(ctx, x.oauth2(), alice().approve)
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
// machine.
func loopback(ctx context.Context, conf *oauth2.Config, open func(ctx context.Context, authURL string) error) (*oauth2.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	state, verifier := rand.Text(), oauth2.GenerateVerifier()
	codes := make(chan string, 1)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		query := req.URL.Query()
		if req.URL.Path != "/callback" || query.Get("state") != state || query.Get("code") == "" {
			http.Error(w, fmt.Sprintf("error %q", query.Get("error")), http.StatusBadRequest)
			return
		}
		select {
		case codes <- query.Get("code"):
		default: // there was one already
		}
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		server.Close()
		<-served
	}()
	conf.RedirectURL = "http://" + listener.Addr().String() + "/callback"
	if err := open(ctx, conf.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier))); err != nil {
		return nil, err
	}
	select {
	case code := <-codes:
		return conf.Exchange(ctx, code, oauth2.VerifierOption(verifier))
	default:
		return nil, errors.New("the browser has not come back with a code")
	}
}
