package peers

import (
	"cmp"
	"context"
	"math"
	"net/http"
	"sync/atomic"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/httptransport"
	"golang.org/x/oauth2"
)

// Google is the token provider and the transport of the Google Cloud clients,
// with a refresh in the background, as by default. The library sends the
// refresh itself. It knows no public clients: where the Setup has no client
// secret it gets one, which is taken out of the request again.
var Google = Peer{Name: "google auth", Module: "cloud.google.com/go/auth", Open: openGoogle}

func openGoogle(s Setup) (*Session, error) {
	if s.Token == nil {
		return nil, errNoStore
	}
	opts := &auth.Options3LO{
		ClientID: s.OAuth2.ClientID, ClientSecret: s.OAuth2.ClientSecret,
		AuthURL: s.OAuth2.Endpoint.AuthURL, TokenURL: s.OAuth2.Endpoint.TokenURL,
		AuthStyle: auth.StyleInHeader, Client: s.HTTP,
		RefreshToken: s.Token.RefreshToken,
		// Whoever asks this one is to get a new token, and wait for it.
		EarlyTokenExpiry: math.MaxInt64, DisableAsyncRefresh: true,
	}
	if opts.AuthURL == "" {
		opts.AuthURL = opts.TokenURL // required, and not used
	}
	if s.OAuth2.Endpoint.AuthStyle == oauth2.AuthStyleInParams {
		opts.AuthStyle = auth.StyleInParams
	}
	if opts.ClientSecret == "" {
		c := *s.HTTP
		c.Transport = publicClient{cmp.Or(c.Transport, http.DefaultTransport)}
		opts.Client, opts.ClientSecret, opts.AuthStyle = &c, "unused", auth.StyleInParams
	}
	refresh, err := auth.New3LOTokenProvider(opts)
	if err != nil {
		return nil, err
	}
	login := &loggedIn{TokenProvider: refresh}
	cache := auth.NewCachedTokenProvider(login, &auth.CachedTokenProviderOptions{ExpireEarly: s.Lead})
	if fresh(s.Token) {
		login.token.Store(&auth.Token{Value: s.Token.AccessToken, Type: s.Token.TokenType, Expiry: s.Token.Expiry})
		if _, err := cache.Token(context.Background()); err != nil {
			return nil, err
		}
	}
	client := &http.Client{Transport: s.Base}
	if err := httptransport.AddAuthorizationMiddleware(client, auth.NewCredentials(&auth.CredentialsOptions{TokenProvider: cache})); err != nil {
		return nil, err
	}
	return &Session{
		Token: func(ctx context.Context) (string, error) {
			tok, err := cache.Token(ctx)
			if err != nil {
				return "", err
			}
			return tok.Value, nil
		},
		Transport: client.Transport,
	}, nil
}

// loggedIn returns the token of a login once, and is what it wraps from then on.
type loggedIn struct {
	auth.TokenProvider
	token atomic.Pointer[auth.Token]
}

func (p *loggedIn) Token(ctx context.Context) (*auth.Token, error) {
	if tok := p.token.Swap(nil); tok != nil {
		return tok, nil
	}
	return p.TokenProvider.Token(ctx)
}

// publicClient sends the requests of a public client: without the secret that the
// library demands.
type publicClient struct{ base http.RoundTripper }

func (t publicClient) RoundTrip(req *http.Request) (*http.Response, error) {
	form, err := readForm(req)
	if err != nil {
		return nil, err
	}
	form.Del("client_secret")
	r := req.Clone(req.Context())
	setForm(r, form)
	return t.base.RoundTrip(r)
}
