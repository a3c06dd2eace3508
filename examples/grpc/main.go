// Grpc asks a gRPC server whether it is well, by the standard health service, with
// a session's token in each call: per-RPC credentials over a Source. Copy
// credentials.go for a client of your own.
//
//	cd examples/grpc
//	go run . -issuer https://login.example.com -client-id ID -server api.example.com:443
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/discovery"
	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
	"google.golang.org/grpc/credentials"
	health "google.golang.org/grpc/health/grpc_health_v1"
)

// open makes the Source, and has somebody log in unless there is a session.
func open(ctx context.Context, issuer, clientID string) (*freshtoken.Source, error) {
	store, err := storage.NewAppFile("freshtoken-grpc", keyring.NewKey("freshtoken-grpc"))
	if err != nil {
		return nil, err
	}
	cfg := freshtoken.Config{Issuer: issuer, Store: store, OAuth2: &oauth2.Config{ClientID: clientID, Scopes: []string{"openid"}}}
	if _, err := discovery.Configure(ctx, &cfg); err != nil {
		return nil, err
	}
	src, err := freshtoken.New(cfg)
	if err != nil {
		return nil, err
	}
	if _, err := login.Ensure(ctx, src, login.Auto{}); err != nil {
		return nil, errors.Join(err, src.Close())
	}
	return src, nil
}

// ask makes a call.
func ask(ctx context.Context, src *freshtoken.Source, target string, encrypted credentials.TransportCredentials, out io.Writer) error {
	conn, err := dial(src, target, encrypted)
	if err != nil {
		return err
	}
	defer conn.Close()
	answer, err := health.NewHealthClient(conn).Check(ctx, &health.HealthCheckRequest{})
	if err != nil {
		return err
	}
	fmt.Fprintln(out, answer.Status)
	return nil
}

func run(ctx context.Context) error {
	issuer := flag.String("issuer", "", "`address` of the authorization server")
	clientID := flag.String("client-id", "", "`identifier` of this client there")
	server := flag.String("server", "", "`host:port` of the gRPC server")
	flag.Parse()
	if *issuer == "" || *clientID == "" || *server == "" {
		return errors.New("give -issuer, -client-id and -server")
	}
	src, err := open(ctx, *issuer, *clientID)
	if err != nil {
		return err
	}
	return errors.Join(ask(ctx, src, *server, credentials.NewTLS(nil), os.Stdout), src.Close())
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
