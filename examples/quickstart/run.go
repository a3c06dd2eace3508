package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/freshtoken/freshtoken"
)

// Exit statuses.
const (
	exitOK          = 0
	exitLost        = 1 // something was lost, or could not be done at all
	exitUsage       = 2
	exitInterrupted = 130
)

// run is main without the process: its arguments, outputs and exit status.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	o, err := parse(args, out)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(errOut, "quickstart: %v\nquickstart -h lists the flags.\n", err)
		return exitUsage
	}
	// net/http keeps two connections to a host by default, few for so many
	// requests.
	if base, ok := http.DefaultTransport.(*http.Transport); ok {
		goroutines, _ := o.pace()
		base.MaxIdleConnsPerHost = goroutines
	}
	if o.child > 0 {
		return runChild(o, os.Stdin, out, errOut)
	}
	r := &show{o: o, account: newAccount(out), errOut: errOut}
	lost, err := r.run(ctx)
	switch {
	case err != nil && ctx.Err() == nil:
		fmt.Fprintf(errOut, "quickstart: %v\n", err)
		return exitLost
	case lost:
		return exitLost
	case ctx.Err() != nil:
		r.account.say("Interrupted.")
		return exitInterrupted
	}
	return exitOK
}

// show is the whole performance.
type show struct {
	o       *options
	account *account
	errOut  io.Writer
	demo    *demo     // nil: a real server
	total   tally     // of the main programs
	asides  []*worker // programs that are opened for a moment
}

// aside opens the session for a moment, as one more program.
func (r *show) aside() (*freshtoken.Source, error) {
	w := &worker{o: r.o}
	r.asides = append(r.asides, w)
	return r.o.open(w.event)
}

// sum is what all programs have done.
func (r *show) sum() tally {
	t := r.total
	for _, w := range r.asides {
		t = t.plus(w.counts())
	}
	return t
}

func (r *show) run(ctx context.Context) (lost bool, err error) {
	login, err := r.o.login()
	if err != nil {
		return false, err
	}
	if r.o.demo {
		r.demo = startDemo(r.o)
		defer r.demo.stop()
		login = r.demo.login()
		r.account.say("A strict authorization server listens at %s: access tokens", r.demo.srv.BaseURL())
		r.account.say("live for %v, a refresh token serves once, and showing one twice ends the session.", demoLifetime)
		if r.o.store == "file" && r.o.dir == "" {
			if r.o.dir, err = os.MkdirTemp("", "freshtoken-quickstart-"); err != nil {
				return false, err
			}
			defer os.RemoveAll(r.o.dir)
		}
	}
	switch err := r.o.signIn(ctx, login); {
	case errors.Is(err, freshtoken.ErrNoSession):
		return false, fmt.Errorf("the store has no session for this client yet: give -refresh-token-file (%w)", err)
	case err != nil:
		return false, fmt.Errorf("signing in: %w", err)
	}
	if r.o.store == "file" {
		r.account.say("Signed in. The session is in an encrypted file below %s.", r.o.dir)
	} else {
		r.account.say("Signed in. The session is in the keyring.")
	}
	alone := r.o.duration / 3
	if err := r.alone(ctx, alone); err != nil {
		return false, err
	}
	if ctx.Err() == nil {
		if err := r.together(ctx, r.o.duration-alone); err != nil {
			return false, err
		}
	}
	return r.summary(), nil
}

// alone makes requests in this process.
func (r *show) alone(ctx context.Context, d time.Duration) error {
	goroutines, _ := r.o.pace()
	r.account.say("\nOne program, %d goroutines:", goroutines)
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	w := &worker{o: r.o}
	return r.watch(ctx, d, w.counts, func() error { return w.work(ctx) })
}

// together makes requests in processes of their own.
func (r *show) together(ctx context.Context, d time.Duration) error {
	r.account.say("\n%d programs that share the session:", r.o.processes)
	c, err := r.o.start(ctx, d, r.errOut)
	if err != nil {
		return err
	}
	return r.watch(ctx, d, c.counts, c.wait)
}

// watch shows how work comes along. Half-way through d it has the token die.
func (r *show) watch(ctx context.Context, d time.Duration, counts func() tally, work func() error) error {
	before := r.total
	done := make(chan error, 1)
	go func() { done <- work() }()
	half := time.After(d / 2)
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		select {
		case err := <-done:
			r.total = before.plus(counts())
			r.account.progress(r.sum(), true)
			return err
		case <-half:
			if err := r.killToken(ctx); err != nil && ctx.Err() == nil {
				r.account.say("        could not have the token replaced: %v", err)
			}
		case <-ticker.C:
			r.total = before.plus(counts())
			r.account.progress(r.sum(), false)
		}
	}
}

// killToken has the access token that all use die before its time. A program
// that has just been opened knows the newest one from the store. At a real
// server, that program asks for a new one, as if an API had rejected it.
func (r *show) killToken(ctx context.Context) error {
	src, err := r.aside()
	if err != nil {
		return err
	}
	defer src.Close()
	tok, err := src.Token(ctx)
	if err != nil {
		return err
	}
	if r.demo != nil {
		r.account.say("        the API revokes the access token")
		r.demo.srv.RevokeAccess(tok.AccessToken)
		return nil
	}
	r.account.say("        another program asks for a new access token")
	_, err = src.Refresh(ctx, tok)
	return err
}
