package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/term"
)

// settings are what a login keeps for the commands that follow. None is secret.
type settings struct {
	Issuer, ClientID, Scope, API string
	Key                          string // "keyring" or "passphrase"
}

// options are the settings and the other flags.
type options struct {
	settings
	command, account, passphraseFile string
	device                           bool

	file     string // where the settings are
	first    bool   // nobody has logged in here before
	userinfo string // what whoami asks without -api
}

func parse(args []string) (*options, error) {
	commands := []string{"login", "whoami", "logout", "accounts"}
	if len(args) == 0 || !slices.Contains(commands, args[0]) {
		return nil, fmt.Errorf("give one of the commands %q; -h after it lists the flags", commands)
	}
	o := &options{command: args[0]}
	if err := o.load(); err != nil {
		return nil, err
	}
	kept := o.settings
	if o.first = kept.Key == ""; o.first {
		o.Scope, o.Key = "openid", "keyring"
	}
	f := flag.NewFlagSet("cli "+o.command, flag.ExitOnError)
	f.StringVar(&o.account, "account", "default", "`name` of the account")
	f.StringVar(&o.Issuer, "issuer", o.Issuer, "`address` of the server")
	f.StringVar(&o.ClientID, "client-id", o.ClientID, "`identifier` of this program at the server")
	f.StringVar(&o.Scope, "scope", o.Scope, "what to ask for, `words` separated by spaces")
	f.StringVar(&o.API, "api", "", "`address` that whoami asks, instead of the server's userinfo endpoint")
	f.StringVar(&o.Key, "key", o.Key, "what seals the sessions: keyring or passphrase")
	f.StringVar(&o.passphraseFile, "passphrase-file", "", "`file` with the passphrase, for scripts")
	f.BoolVar(&o.device, "device", false, "log in on another device")
	f.Parse(args[1:])                           // exits if it cannot
	if o.API == "" && o.Issuer == kept.Issuer { // or one server's tokens would go to another's API
		o.API = kept.API
	}
	switch {
	case f.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.Issuer == "" || o.ClientID == "":
		return nil, errors.New("log in first: cli login -issuer https://login.example.com -client-id my-client")
	case o.Key != "keyring" && o.Key != "passphrase":
		return nil, fmt.Errorf("-key %q is neither keyring nor passphrase", o.Key)
	case !o.first && o.Key != kept.Key:
		return nil, fmt.Errorf("the sessions are sealed with -key %s: to choose another, log out of all accounts and remove %s", kept.Key, o.file)
	}
	return o, nil
}

// load reads the settings. There are none before the first login.
func (o *options) load() error {
	dir, err := os.UserConfigDir()
	if err != nil {
		return err
	}
	o.file = filepath.Join(dir, app, "settings.json")
	data, err := os.ReadFile(o.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(data, &o.settings)
	}
	if err != nil {
		return fmt.Errorf("reading the settings in %s: %w", o.file, err)
	}
	return nil
}

func (o *options) save() error {
	data, err := json.MarshalIndent(o.settings, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.file), 0o700); err != nil {
		return err
	}
	return os.WriteFile(o.file, data, 0o600)
}

// key returns the key that was chosen. It falls back to no other: that is for
// the person to decide.
func (o *options) key(ctx context.Context) (storage.Key, error) {
	if o.Key == "keyring" {
		unlock := keyring.Options{Prompt: true, Timeout: time.Minute} // for a person, who may have to
		if o.first {
			if err := keyring.Probe(ctx, unlock); err != nil {
				return nil, fmt.Errorf("%w (here: -key passphrase)", err)
			}
		}
		return keyring.NewKey(app, unlock), nil
	}
	passphrase, err := o.passphrase(ctx)
	if err != nil {
		return nil, err
	}
	return storage.Passphrase(func() ([]byte, error) { return passphrase, nil }), nil
}

// passphrase reads the passphrase: twice if it is a new one, because nobody
// sees what is typed.
func (o *options) passphrase(ctx context.Context) ([]byte, error) {
	if o.passphraseFile != "" {
		data, err := os.ReadFile(o.passphraseFile)
		return bytes.TrimRight(data, "\r\n"), err
	}
	typed, err := ask(ctx, "Passphrase: ")
	if err != nil || !o.first {
		return typed, err
	}
	again, err := ask(ctx, "Once more: ")
	if err == nil && !bytes.Equal(typed, again) {
		err = errors.New("the two passphrases differ: try again")
	}
	return typed, err
}

// ask reads a line from the terminal, which does not show it.
func ask(ctx context.Context, question string) ([]byte, error) {
	terminal := int(os.Stdin.Fd())
	before, err := term.GetState(terminal)
	if err != nil {
		return nil, errors.New("standard input is no terminal to ask for the passphrase: run the program in one, or give -passphrase-file")
	}
	fmt.Fprint(os.Stderr, question)
	defer fmt.Fprintln(os.Stderr)
	type answer struct {
		line []byte
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		line, err := term.ReadPassword(terminal)
		answers <- answer{line, err}
	}()
	select {
	case a := <-answers:
		return a.line, a.err
	case <-ctx.Done():
		term.Restore(terminal, before) // nobody else will: ReadPassword goes on waiting
		return nil, context.Cause(ctx)
	}
}
