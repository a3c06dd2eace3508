package peers

import (
	"context"
	"io"

	"golang.org/x/oauth2"
	"k8s.io/client-go/transport"
	"k8s.io/klog/v2"
)

// ClientGo is the cached token source of the Kubernetes client and its
// transport, which drops the token when the API answers 401. The refresh is the
// caller's code. The cache has no early window: it refreshes at expiry, and
// hands out the dead token if that fails.
//
// The library logs each failed refresh to standard error. That is switched off,
// because thousands of them are provoked.
var ClientGo = Peer{Name: "k8s client-go", Module: "k8s.io/client-go", Open: openClientGo}

func openClientGo(s Setup) (*Session, error) {
	if s.Token == nil {
		return nil, errNoStore
	}
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	src := transport.NewCachedTokenSource(renewing{newRenewer(s)})
	if fresh(s.Token) {
		if _, err := src.Token(); err != nil {
			return nil, err
		}
	}
	return &Session{
		Token: func(context.Context) (string, error) {
			tok, err := src.Token()
			if err != nil {
				return "", err
			}
			return tok.AccessToken, nil
		},
		Transport: transport.ResettableTokenSourceWrapTransport(src)(s.Base),
	}, nil
}

// renewing makes an oauth2.TokenSource of a renewer; such a source knows no
// contexts.
type renewing struct{ renewer *renewer }

func (r renewing) Token() (*oauth2.Token, error) { return r.renewer.token(context.Background()) }
