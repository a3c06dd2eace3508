// Quickstart keeps one OAuth 2.0 session alive: first in one program, then in
// eight that share it. It needs nothing but Go:
//
//	go run ./examples/quickstart
//
// It starts a strict authorization server on this machine, whose access tokens
// live for seconds and whose refresh tokens serve once: whoever shows one twice
// ends the session. It makes thousands of requests, has the API revoke a token
// in mid-run, and exits with status 0 only if nothing was lost.
//
// With -token-url it runs against a real server instead; -h lists the flags.
package main

import (
	"context"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// open is what a program does to have a session: it names a store, a client
// and a server. All the programs of this example, whether they share a process
// or only the store, do the same.
func (o *options) open(onEvent func(freshtoken.Event)) (*freshtoken.Source, error) {
	store, err := o.openStore()
	if err != nil {
		return nil, err
	}
	return freshtoken.New(freshtoken.Config{
		OAuth2: &oauth2.Config{
			ClientID:     o.clientID,
			ClientSecret: o.clientSecret,
			Endpoint:     oauth2.Endpoint{TokenURL: o.tokenURL},
		},
		Store:   store,
		Issuer:  o.issuer,
		OnEvent: onEvent,
	})
}

// openStore returns the place that keeps the session between two runs: an
// encrypted file, whose key lies in another file, or the keyring of the system.
func (o *options) openStore() (freshtoken.Store, error) {
	if o.store == "keyring" {
		return keyring.NewStore("freshtoken-quickstart")
	}
	return storage.NewFile(filepath.Join(o.dir, "sessions"), storage.KeyFile(filepath.Join(o.dir, "key")))
}

// client returns an ordinary http.Client. It attaches the token, to requests to
// the API only, and sends a request once more if the API rejects the token.
func (o *options) client(src *freshtoken.Source) *http.Client {
	client := src.Client(o.apiOrigin())
	client.Timeout = 30 * time.Second
	return client
}

// signIn starts the session, in one program. The others find it in the store.
func (o *options) signIn(ctx context.Context, tok *oauth2.Token) error {
	src, err := o.open(nil)
	if err != nil {
		return err
	}
	defer src.Close()
	if tok == nil { // of an earlier run, or of another program
		_, err := src.Token(ctx)
		return err
	}
	return src.SetToken(ctx, tok)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
