// Migrate takes over the session that a program has kept in a plaintext
// token.json, as the quickstarts of many an API do, into sealed files whose key
// the keyring holds. Then it makes a request, to show that nothing was lost:
//
//	go run ./examples/migrate -client-id ID -client-secret-file secret.txt \
//		-api https://www.googleapis.com/drive/v3/about?fields=user token.json
//
// Nobody has to log in anew. The plaintext file is removed once the session is
// safe in the store, and not before; the program may be run again at any time.
// Without a keyring, give -key-file.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// options are the flags and the argument. The client is the one to which the
// session was issued; no other can use it.
type options struct {
	clientID, secretFile, tokenURL, api, keyFile string
	path                                         string // of the token.json
}

func parse(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("migrate", flag.ExitOnError)
	f.StringVar(&o.clientID, "client-id", "", "`identifier` of the client that has the session")
	f.StringVar(&o.secretFile, "client-secret-file", "", "`file` with the client's secret, if it has one")
	f.StringVar(&o.tokenURL, "token-url", "https://oauth2.googleapis.com/token", "`address` of the server's token endpoint")
	f.StringVar(&o.api, "api", "", "`address` to send a GET request to")
	f.StringVar(&o.keyFile, "key-file", "", "`file` with the key that seals the session, where there is no keyring")
	f.Parse(args) // exits if it cannot
	if f.NArg() != 1 || o.clientID == "" || o.api == "" {
		return nil, errors.New("give -client-id, -api and the path of a token.json; -h lists the flags")
	}
	o.path = f.Arg(0)
	return o, nil
}

// open makes the Source of the session, as the program will do from now on.
func (o *options) open() (*freshtoken.Source, error) {
	var key storage.Key = keyring.NewKey("freshtoken-migrate")
	if o.keyFile != "" {
		key = storage.KeyFile(o.keyFile)
	}
	store, err := storage.NewAppFile("freshtoken-migrate", key)
	if err != nil {
		return nil, err
	}
	client := &oauth2.Config{ClientID: o.clientID, Endpoint: oauth2.Endpoint{TokenURL: o.tokenURL}}
	if o.secretFile != "" {
		secret, err := os.ReadFile(o.secretFile)
		if err != nil {
			return nil, err
		}
		client.ClientSecret = strings.TrimSpace(string(secret))
	}
	return freshtoken.New(freshtoken.Config{OAuth2: client, Store: store})
}

// run is main without the process.
func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	src, err := o.open()
	if err != nil {
		return err
	}
	err = o.takeOver(ctx, src, out)
	if err == nil {
		err = o.request(ctx, src, out)
	}
	return errors.Join(err, src.Close())
}

// takeOver is what a program calls at every start, as long as any of its users
// may still have a plaintext file.
func (o *options) takeOver(ctx context.Context, src *freshtoken.Source, out io.Writer) error {
	err := src.Import(ctx, o.path)
	switch {
	case err == nil:
		fmt.Fprintf(out, "The session of %s is in the sealed store now. The file is gone.\n", o.path)
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(out, "There is no %s. The session in the store is used.\n", o.path)
	default:
		return err // which says what to do; the file is still there
	}
	return nil
}

// request shows that the session works. If the access token has expired, this
// is where it is refreshed.
func (o *options) request(ctx context.Context, src *freshtoken.Source, out io.Writer) error {
	api, err := url.Parse(o.api)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.api, nil)
	if err != nil {
		return err
	}
	client := src.Client(api.Scheme + "://" + api.Host)
	client.Timeout = time.Minute
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	fmt.Fprintf(out, "%s answered %s:\n", api.Host, resp.Status)
	if _, err := io.Copy(out, io.LimitReader(resp.Body, 1<<20)); err != nil {
		return err
	}
	fmt.Fprintln(out)
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
