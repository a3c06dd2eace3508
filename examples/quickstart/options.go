package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// options are the flags, checked.
type options struct {
	tokenURL, clientID, clientSecretFile string
	refreshTokenFile                     string
	api                                  string
	store, dir                           string
	duration                             time.Duration
	processes                            int

	// Not for humans: the number of a process that another one has started,
	// and whether the server is the demonstration's own.
	child int
	demo  bool

	clientSecret string // read from its file
	issuer       string // "" means that the token URL names the server
}

// maxProcesses is how many processes may be asked for. Each makes requests.
const maxProcesses = 64

// parse reads the flags. It returns flag.ErrHelp if only help was asked for,
// which it has given.
func parse(args []string, out io.Writer) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	f.SetOutput(io.Discard) // errors are reported once, by the caller
	f.StringVar(&o.tokenURL, "token-url", "", "token endpoint of a real server; without it a server of this program's own is used")
	f.StringVar(&o.clientID, "client-id", "", "the client's identifier at that server")
	f.StringVar(&o.clientSecretFile, "client-secret-file", "", "file with the client's secret, if it has one")
	f.StringVar(&o.refreshTokenFile, "refresh-token-file", "", "file with a refresh token; without it the session must be in the store already")
	f.StringVar(&o.api, "api", "", "address that GET requests are sent to, with the access token")
	f.StringVar(&o.store, "store", "file", "where the session is kept: file or keyring")
	f.StringVar(&o.dir, "dir", "", "directory of the file store and its key")
	f.DurationVar(&o.duration, "duration", 12*time.Second, "how long to make requests")
	f.IntVar(&o.processes, "processes", 8, "how many processes share the session")
	f.IntVar(&o.child, "child", 0, "")
	f.BoolVar(&o.demo, "demo", false, "")
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		usage(f, out)
		return nil, err
	}
	if err == nil && f.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q: there are only flags", f.Arg(0))
	}
	if err == nil {
		err = o.check()
	}
	if err != nil {
		return nil, err
	}
	o.demo = o.demo || o.tokenURL == ""
	if o.demo {
		// Each run has a server of another address. In a keyring all runs
		// should leave one entry, not one each.
		o.issuer = "quickstart's own server"
	}
	o.clientSecret, err = readSecret(o.clientSecretFile)
	return o, err
}

func usage(f *flag.FlagSet, out io.Writer) {
	fmt.Fprintln(out, "Quickstart keeps one OAuth 2.0 session alive in several programs. Without flags it")
	fmt.Fprintln(out, "demonstrates that on this machine; with -token-url, at a real server.")
	f.VisitAll(func(fl *flag.Flag) {
		if fl.Usage == "" {
			return
		}
		name, text := flag.UnquoteUsage(fl)
		fmt.Fprintf(out, "  -%s %s\n    \t%s", fl.Name, name, text)
		if fl.DefValue != "" {
			fmt.Fprintf(out, " (default %s)", fl.DefValue)
		}
		fmt.Fprintln(out)
	})
}

// check finds flags that make no sense, alone or together.
func (o *options) check() error {
	switch {
	case o.store != "file" && o.store != "keyring":
		return fmt.Errorf("-store %q is unknown: use file or keyring", o.store)
	case o.duration <= 0:
		return fmt.Errorf("-duration %v is too short: give a positive duration, such as 12s", o.duration)
	case o.processes < 1 || o.processes > maxProcesses:
		return fmt.Errorf("-processes %d is out of range: use 1 to %d", o.processes, maxProcesses)
	case o.store == "keyring" && o.dir != "":
		return errors.New("-dir is for -store file: the keyring has a place of its own")
	}
	if o.tokenURL == "" {
		for _, f := range []struct{ name, value string }{{"client-id", o.clientID}, {"client-secret-file", o.clientSecretFile},
			{"refresh-token-file", o.refreshTokenFile}, {"api", o.api}} {
			if f.value != "" {
				return fmt.Errorf("-%s is for a real server: give -token-url too", f.name)
			}
		}
		return nil
	}
	switch u, err := url.Parse(o.api); {
	case o.clientID == "":
		return errors.New("-client-id is missing: give the client's identifier at the server of -token-url")
	case o.api == "":
		return errors.New("-api is missing: give an address that answers a GET request with a token")
	case err != nil || u.Host == "" || u.User != nil:
		return errors.New("-api is not an absolute address: write it as https://api.example.com/path")
	case o.store == "file" && o.dir == "":
		return errors.New("-dir is missing: name a directory that stays, because a real session is to outlive this program")
	}
	return nil
}

// apiOrigin is the part of the API's address that decides who gets the token.
func (o *options) apiOrigin() string {
	u, err := url.Parse(o.api)
	if err != nil {
		return o.api // Transport refuses it, and says why
	}
	return u.Scheme + "://" + u.Host
}

// childArgs are the arguments of the n-th process. Secrets are not among them:
// each process reads the store and the key by itself.
func (o *options) childArgs(n int, d time.Duration) []string {
	args := []string{"-child", strconv.Itoa(n), "-token-url", o.tokenURL, "-client-id", o.clientID, "-api", o.api,
		"-store", o.store, "-duration", d.String(), "-demo=" + strconv.FormatBool(o.demo)}
	if o.dir != "" {
		args = append(args, "-dir", o.dir)
	}
	if o.clientSecretFile != "" {
		args = append(args, "-client-secret-file", o.clientSecretFile)
	}
	return args
}

// login returns what starts the session at a real server; nil: it is in the
// store already.
func (o *options) login() (*oauth2.Token, error) {
	refresh, err := readSecret(o.refreshTokenFile)
	if err != nil || refresh == "" {
		return nil, err
	}
	return &oauth2.Token{RefreshToken: refresh}, nil
}

// readSecret reads a file of one line; no name, no secret.
func readSecret(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(data))
	if secret == "" {
		return "", fmt.Errorf("%s is empty: put the secret there, on one line", path)
	}
	return secret, nil
}
