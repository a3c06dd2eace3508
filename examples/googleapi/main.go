// Googleapi lists the task lists of who is logged in at Google, by a client library
// of google.golang.org/api, which takes our session in either of two ways:
//
//   - over our Transport (option.WithHTTPClient): a token that the API rejects is
//     replaced and the request sent again. The way to take, for all libraries that
//     speak HTTP.
//   - over our TokenSource (option.WithTokenSource), with -token-source here: the
//     library keeps a token until it has a few minutes left, whatever happens to it
//     before, even a logout, and we do not learn that one is rejected. For what
//     speaks gRPC.
//
// It needs a client of the type "desktop app" (Google Cloud console: APIs &
// Services, Credentials), and the Tasks API switched on:
//
//	cd examples/googleapi
//	go run . -client-id ID -client-secret-file FILE
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/discovery"
	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
	"google.golang.org/api/option"
	"google.golang.org/api/tasks/v1"
)

// google is where the API lives. Others of Google's live elsewhere: list each.
const google = "https://tasks.googleapis.com"

// overTransport makes a client whose requests go through our Transport. It takes
// no option.WithScopes, nor anything else about credentials: the login says which.
func overTransport(ctx context.Context, src *freshtoken.Source, origin string) (*tasks.Service, error) {
	return tasks.NewService(ctx, option.WithHTTPClient(src.Client(origin)), option.WithEndpoint(origin))
}

// overTokenSource makes a client that asks for a token when the one that it has is
// about to expire. ctx bounds how long it waits for one, at any time.
func overTokenSource(ctx context.Context, src *freshtoken.Source, origin string) (*tasks.Service, error) {
	return tasks.NewService(ctx, option.WithTokenSource(src.TokenSource(ctx)), option.WithEndpoint(origin))
}

// open makes the Source, and has somebody log in unless there is a session.
func open(ctx context.Context, clientID, secret string) (*freshtoken.Source, error) {
	store, err := storage.NewAppFile("freshtoken-googleapi", keyring.NewKey("freshtoken-googleapi"))
	if err != nil {
		return nil, err
	}
	cfg := freshtoken.Config{Issuer: "https://accounts.google.com", Store: store,
		OAuth2: &oauth2.Config{ClientID: clientID, ClientSecret: secret, Scopes: []string{tasks.TasksReadonlyScope}}}
	if _, err := discovery.Configure(ctx, &cfg); err != nil {
		return nil, err
	}
	src, err := freshtoken.New(cfg)
	if err != nil {
		return nil, err
	}
	if _, err := login.Ensure(ctx, src, login.Loopback{AccessTypeOffline: true}); err != nil {
		return nil, errors.Join(err, src.Close())
	}
	return src, nil
}

// show lists the task lists.
func show(ctx context.Context, service *tasks.Service, out io.Writer) error {
	lists, err := service.Tasklists.List().Context(ctx).Do()
	if err != nil {
		return err
	}
	for _, l := range lists.Items {
		fmt.Fprintln(out, l.Title)
	}
	return nil
}

func run(ctx context.Context) error {
	clientID := flag.String("client-id", "", "`identifier` of the client")
	secretFile := flag.String("client-secret-file", "", "`file` with what Google calls its secret")
	tokenSource := flag.Bool("token-source", false, "go over a TokenSource instead of the Transport")
	flag.Parse()
	if *clientID == "" || *secretFile == "" {
		return errors.New("give -client-id and -client-secret-file")
	}
	secret, err := os.ReadFile(*secretFile)
	if err != nil {
		return err
	}
	src, err := open(ctx, *clientID, strings.TrimSpace(string(secret)))
	if err != nil {
		return err
	}
	over := overTransport
	if *tokenSource {
		over = overTokenSource
	}
	service, err := over(ctx, src, google)
	if err == nil {
		err = show(ctx, service, os.Stdout)
	}
	return errors.Join(err, src.Close())
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
