// Mcp lists the tools of an MCP server, by the official SDK for Go, whose client
// has its tokens from a Source. The first run registers this program at the
// server's authorization server (RFC 7591) and has somebody log in; later runs do
// neither. Copy handler.go and registration.go for a client of your own.
//
//	cd examples/mcp
//	go run . -server https://mcp.example.com/mcp
//	go run . -server https://mcp.example.com/mcp -forget
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"

	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/storage"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// list writes a line for each tool.
func list(ctx context.Context, h *handler, out io.Writer) (err error) {
	client := mcp.NewClient(&mcp.Implementation{Name: "freshtoken-mcp", Version: "1"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint:     h.server,
		OAuthHandler: h,
		// net/http would let subdomains have the token.
		HTTPClient: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		// Nothing is waited for but the answers.
		DisableStandaloneSSE: true,
	}, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	for tool, err := range session.Tools(ctx, nil) {
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: %s\n", tool.Name, tool.Description)
	}
	return nil
}

func run(ctx context.Context) error {
	server := flag.String("server", "", "`address` of the MCP server")
	redirect := flag.String("redirect", "http://127.0.0.1/callback", "`address` to register for the way back from a login; with a port for servers that insist on one")
	forget := flag.Bool("forget", false, "log out, and forget that this program is registered")
	flag.Parse()
	if *server == "" {
		return errors.New("give -server")
	}
	// The session and the registration, which has a secret, lie there sealed.
	store, err := storage.NewAppFile("freshtoken-mcp", keyring.NewKey("freshtoken-mcp"))
	if err != nil {
		return err
	}
	h, err := open(ctx, options{server: *server, redirect: *redirect, store: store, flow: login.Loopback{}})
	if err != nil {
		return err
	}
	if *forget {
		err = h.forget(ctx)
	} else {
		err = list(ctx, h, os.Stdout)
	}
	return errors.Join(err, h.Close())
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
