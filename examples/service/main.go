// Service is a program that runs for a long time and acts for itself: it has its
// tokens by the client credentials grant (RFC 6749 section 4.4), refreshes them in
// the background, so that no request waits, and ends in good order on SIGTERM.
//
//	go run ./examples/service -token-url https://login.example.com/token \
//		-client-id ID -client-secret-file FILE -api https://api.example.com/jobs
//
// Nothing is stored: a service that starts anew asks for a new token.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/grant"
	"golang.org/x/oauth2"
)

// options are the flags.
type options struct {
	tokenURL, clientID, secretFile, api string
	every                               time.Duration
}

func parse(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("service", flag.ExitOnError)
	f.StringVar(&o.tokenURL, "token-url", "", "`address` of the token endpoint")
	f.StringVar(&o.clientID, "client-id", "", "`identifier` of this service at the server")
	f.StringVar(&o.secretFile, "client-secret-file", "", "`file` with its secret")
	f.StringVar(&o.api, "api", "", "`address` to ask")
	f.DurationVar(&o.every, "every", 10*time.Second, "`time` between two requests")
	f.Parse(args) // exits if it cannot
	if o.tokenURL == "" || o.clientID == "" || o.secretFile == "" || o.api == "" || o.every <= 0 {
		return nil, errors.New("give -token-url, -client-id, -client-secret-file and -api, and an -every of more than nothing")
	}
	return o, nil
}

// open makes the Source.
func (o *options) open(log *slog.Logger) (*freshtoken.Source, error) {
	secret, err := os.ReadFile(o.secretFile)
	if err != nil {
		return nil, err
	}
	return freshtoken.New(freshtoken.Config{
		OAuth2: &oauth2.Config{ClientID: o.clientID, ClientSecret: strings.TrimSpace(string(secret)),
			Endpoint: oauth2.Endpoint{TokenURL: o.tokenURL}},
		Refresher:  &grant.ClientCredentials{}, // for the first token, and each one after it
		Background: true,
		OnEvent:    func(e freshtoken.Event) { log.Info("session", "event", e) }, // holds no secret
	})
}

// requestTime is what one request may take, and so is what it may take to stop.
const requestTime = 30 * time.Second

// work asks the API again and again until ctx is done. A request that is under way
// then is finished first.
func (o *options) work(ctx context.Context, src *freshtoken.Source, out io.Writer, log *slog.Logger) error {
	api, err := url.Parse(o.api)
	if err != nil {
		return err
	}
	client := src.Client(api.Scheme + "://" + api.Host)
	tick := time.NewTicker(o.every)
	defer tick.Stop()
	for {
		if err := o.ask(context.WithoutCancel(ctx), client, out); err != nil {
			log.Warn("request", "error", err) // and the next may do
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if ctx.Err() != nil { // both were ready
				return nil
			}
		}
	}
}

// ask makes one request.
func (o *options) ask(ctx context.Context, client *http.Client, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.api, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s, %d bytes\n", resp.Status, n)
	return err
}

// run is main without the process.
func run(ctx context.Context, args []string, out, errs io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(errs, nil))
	src, err := o.open(log)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { log.Info("stopping") })
	err = o.work(ctx, src, out, log)
	err = errors.Join(err, src.Close()) // waits for a refresh that is under way
	log.Info("stopped")
	return err
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
