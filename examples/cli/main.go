// Cli is a complete little command-line program with OAuth 2.0 logins: read it
// as a model for one of your own. It shows
//
//   - a server that is known by its issuer alone (package discovery),
//   - logins by the browser of this machine or on another device (package login),
//   - several accounts (freshtoken.Sources),
//   - who has logged in, if the server tells (package openid),
//   - sealed files whose key the keyring holds, or, if that is what the person
//     chose, is made of a passphrase (packages storage and keyring).
//
// To try it at a server where you have a client for native applications:
//
//	go run ./examples/cli login -issuer https://login.example.com -client-id my-client
//	go run ./examples/cli whoami
//	go run ./examples/cli login -account work -device
//	go run ./examples/cli accounts
//	go run ./examples/cli logout -account work
//
// A login keeps its flags as the program's settings. -h after a command lists
// them.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/discovery"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/openid"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// app names the program's place for sessions, its key and its settings.
const app = "freshtoken-cli"

func main() {
	// Ctrl-C ends a login that waits for its person, and nothing abruptly.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], login.Prompt{}, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run is main without the process. The zero Prompt asks on the terminal.
func run(ctx context.Context, args []string, prompt login.Prompt, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	accounts, err := o.open(ctx)
	if err != nil {
		return err
	}
	switch o.command {
	case "login":
		err = o.login(ctx, accounts, prompt, out)
	case "whoami":
		err = o.whoami(ctx, accounts, out)
	case "logout":
		if err = accounts.Forget(ctx, o.account); err == nil {
			fmt.Fprintf(out, "Account %q is logged out.\n", o.account)
		}
	case "accounts":
		err = list(ctx, accounts, out)
	}
	return errors.Join(err, accounts.Close())
}

// open makes the Sources of all accounts.
func (o *options) open(ctx context.Context) (*freshtoken.Sources, error) {
	key, err := o.key(ctx)
	if err != nil {
		return nil, err
	}
	store, err := storage.NewAppFile(app, key)
	if err != nil {
		return nil, err
	}
	cfg := freshtoken.Config{
		OAuth2: &oauth2.Config{ClientID: o.ClientID, Scopes: strings.Fields(o.Scope)},
		Issuer: o.Issuer,
		Store:  store,
	}
	server, err := discovery.Configure(ctx, &cfg) // asks once a day
	if err != nil {
		return nil, err
	}
	o.userinfo = server.UserinfoEndpoint
	if server.JWKSURI != "" { // it does OpenID Connect
		cfg.IDTokens = &openid.Verifier{KeysURL: server.JWKSURI, Algorithms: server.IDTokenSigningAlgValuesSupported}
	}
	return freshtoken.NewSources(cfg)
}

// login has a person log in, unless the account is logged in already.
func (o *options) login(ctx context.Context, accounts *freshtoken.Sources, prompt login.Prompt, out io.Writer) error {
	// Before anything is sealed: the next run must not take another key.
	if err := o.save(); err != nil {
		return err
	}
	src, err := accounts.Get(o.account)
	if err != nil {
		return err
	}
	device := login.Device{Prompt: prompt}
	var flow freshtoken.Authenticator = login.Auto{Loopback: login.Loopback{Prompt: prompt}, Device: device}
	if o.device {
		flow = device
	}
	if _, err := login.Ensure(ctx, src, flow); err != nil {
		return err
	}
	fmt.Fprintf(out, "Account %q is logged in.\n", o.account)
	return nil
}

// whoami says who the account is: the ID token tells, or else the API, or the
// server, is asked. The client attaches the token, refreshes it when that is due,
// and knows what to do about a 401.
func (o *options) whoami(ctx context.Context, accounts *freshtoken.Sources, out io.Writer) error {
	src, err := accounts.Get(o.account)
	if err != nil {
		return err
	}
	if tok, err := src.Token(ctx); err == nil && o.API == "" {
		if who, err := openid.ClaimsOf(tok); err == nil {
			return json.NewEncoder(out).Encode(map[string]string{"sub": who.Subject, "name": who.Name, "email": who.Email})
		}
	}
	address := cmp.Or(o.API, o.userinfo)
	api, err := url.Parse(address)
	if err != nil || api.Host == "" {
		return errors.New("there is no address to ask: give -api https://api.example.com/me")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	client := src.Client(api.Scheme + "://" + api.Host) // no other origin gets the token
	client.Timeout = time.Minute
	resp, err := client.Do(req)
	if errors.Is(err, freshtoken.ErrNoSession) || errors.Is(err, freshtoken.ErrSessionEnded) {
		return fmt.Errorf("%w\nTo log in: cli login -account %s", err, o.account)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", address, resp.Status)
	}
	if _, err := io.Copy(out, io.LimitReader(resp.Body, 1<<20)); err != nil {
		return err
	}
	fmt.Fprintln(out)
	return nil
}

// list prints the accounts. Those that can be read are listed even if others
// cannot.
func list(ctx context.Context, accounts *freshtoken.Sources, out io.Writer) error {
	all, err := accounts.List(ctx)
	for _, a := range all {
		fmt.Fprintf(out, "%s\t%s\n", a.Session, a.State)
	}
	if len(all) == 0 && err == nil {
		fmt.Fprintln(out, "Nobody is logged in.")
	}
	return err
}
