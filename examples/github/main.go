// Github shows who is logged in at GitHub, and some of the repositories, by way
// of google/go-github: a library that wants an http.Client and is given one that
// attaches the token. Any other such library is used in the same way.
//
// It logs in by the device flow, the one for programs without a secret. It needs
// an OAuth app that allows it (GitHub: Settings, Developer settings, OAuth Apps,
// "Enable Device Flow"):
//
//	cd examples/github
//	go run . -client-id ID
//
// OAuth apps of GitHub issue neither a refresh token nor an expiry: the session
// lasts until somebody revokes it, and then the program has the person log in
// anew.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/storage"
	"github.com/google/go-github/v93/github"
	"golang.org/x/oauth2"
)

// options are the flags. A GitHub Enterprise Server has other addresses.
type options struct {
	clientID, server, api, keyFile string
}

func parse(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("github", flag.ExitOnError)
	f.StringVar(&o.clientID, "client-id", "", "`identifier` of the OAuth app")
	f.StringVar(&o.server, "server", "https://github.com", "`address` where people log in, without a slash at the end")
	f.StringVar(&o.api, "api", "https://api.github.com/", "`address` of the API, with a slash at the end")
	f.StringVar(&o.keyFile, "key-file", "", "`file` with the key that seals the session, where there is no keyring")
	f.Parse(args) // exits if it cannot
	if o.clientID == "" {
		return nil, errors.New("give -client-id: the identifier of an OAuth app that allows the device flow")
	}
	return o, nil
}

// open makes the Source of the session.
func (o *options) open() (*freshtoken.Source, error) {
	var key storage.Key = keyring.NewKey("freshtoken-github")
	if o.keyFile != "" {
		key = storage.KeyFile(o.keyFile)
	}
	store, err := storage.NewAppFile("freshtoken-github", key)
	if err != nil {
		return nil, err
	}
	return freshtoken.New(freshtoken.Config{
		OAuth2: &oauth2.Config{
			ClientID: o.clientID, // and no Scopes: what is public will do
			Endpoint: oauth2.Endpoint{ // for github.com: that of golang.org/x/oauth2/github
				DeviceAuthURL: o.server + "/login/device/code",
				TokenURL:      o.server + "/login/oauth/access_token",
			},
		},
		Store: store,
	})
}

// client is go-github's client over ours. GitHub's API has one origin, and no
// other gets the token, wherever a redirect or a link of an answer leads.
func (o *options) client(src *freshtoken.Source) (*github.Client, error) {
	api, err := url.Parse(o.api)
	if err != nil {
		return nil, err
	}
	return github.NewClient(
		github.WithHTTPClient(src.Client(api.Scheme+"://"+api.Host)), // https://api.github.com
		github.WithTimeout(time.Minute),
		github.WithURLs(&o.api, nil),
	)
}

// run is main without the process. The zero Prompt asks on the terminal.
func run(ctx context.Context, args []string, prompt login.Prompt, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	src, err := o.open()
	if err != nil {
		return err
	}
	return errors.Join(o.show(ctx, src, prompt, out), src.Close())
}

func (o *options) show(ctx context.Context, src *freshtoken.Source, prompt login.Prompt, out io.Writer) error {
	flow := login.Device{Prompt: prompt, AccessTokenOnly: true} // as GitHub gives no refresh token
	if _, err := login.Ensure(ctx, src, flow); err != nil {
		return err
	}
	gh, err := o.client(src)
	if err != nil {
		return err
	}
	user, resp, err := gh.Users.Get(ctx, "")
	if resp != nil && resp.StatusCode == http.StatusUnauthorized { // revoked; there is nothing to refresh it with
		if _, err := login.Ensure(ctx, src, flow); err != nil {
			return err
		}
		user, _, err = gh.Users.Get(ctx, "")
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s (%s)\n", user.GetLogin(), user.GetName())
	repos, _, err := gh.Repositories.ListByAuthenticatedUser(ctx, &github.RepositoryListByAuthenticatedUserOptions{
		Sort: "pushed", ListOptions: github.ListOptions{PerPage: 10},
	})
	if err != nil {
		return err
	}
	for _, r := range repos {
		fmt.Fprintf(out, "  %s\t%s\n", r.GetFullName(), r.GetDescription())
	}
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], login.Prompt{}, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
