// Desktop has a window that tells who is signed in, and signs people in and out:
//
//	cd examples/desktop
//	go run . -issuer https://login.example.com -client-id ID
//
// Copy account.go, which knows no window: it does what takes time in the background,
// one thing at a time, and has the window draw itself anew when something happens,
// be it that somebody signs out in another window. window.go and paint.go are a
// toolkit of 300 lines, for X11 and without cgo. Put yours in their place.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// run shows the window until it is closed, or ctx is done.
func run(ctx context.Context, display string, cfg freshtoken.Config, browse func(context.Context, string) error) error {
	w, err := openWindow(display)
	if err != nil {
		return err
	}
	a := newAccount(cfg, browse, w.refresh)
	err = w.loop(ctx, a.view, a.do)
	// The window is gone from the screen, and nobody waits for what follows: a
	// refresh that is under way ends, and is stored.
	return errors.Join(err, a.close(), w.close())
}

func config(issuer, clientID string) (freshtoken.Config, error) {
	// Somebody sits in front of the screen, and may be asked to unlock the keyring.
	key := keyring.NewKey("freshtoken-desktop", keyring.Options{Prompt: true, Timeout: time.Minute})
	store, err := storage.NewAppFile("freshtoken-desktop", key)
	return freshtoken.Config{Issuer: issuer, Store: store,
		OAuth2: &oauth2.Config{ClientID: clientID, Scopes: []string{"openid", "profile"}}}, err
}

func main() {
	issuer := flag.String("issuer", "", "`address` of the authorization server")
	clientID := flag.String("client-id", "", "`identifier` of this client there")
	display := flag.String("display", os.Getenv("DISPLAY"), "X11 `display` for the window")
	flag.Parse()
	if *issuer == "" || *clientID == "" {
		fmt.Fprintln(os.Stderr, "give -issuer and -client-id")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	cfg, err := config(*issuer, *clientID)
	if err == nil {
		err = run(ctx, *display, cfg, func(_ context.Context, address string) error { return login.OpenBrowser(address) })
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
