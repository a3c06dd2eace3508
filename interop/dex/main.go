// Dex for the tests in .., as they run every server: a process that takes one
// argument, JSON, listens on a free port of the loopback interface, says where
// in the first line of its output, and ends when its standard input does. See
// ../harness.mjs.
//
// It is Dex's own server package with its memory storage and its password
// database; what is ours is the configuration, a clock that can be put forward,
// and back doors under /control that only a test has use for.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/dexidp/dex/server"
	"github.com/dexidp/dex/server/connectors"
	"github.com/dexidp/dex/server/session"
	"github.com/dexidp/dex/server/signer"
	"github.com/dexidp/dex/server/tokens"
	"github.com/dexidp/dex/storage"
	"github.com/dexidp/dex/storage/memory"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/crypto/bcrypt"
)

// options are the argument. Lifetimes are in seconds; zero: there is no limit.
type options struct {
	Client         string // the public client's identifier
	AccessLifetime int
	Reuse          int // how long a refresh token stays good after its first use
	Absolute       int // of refresh tokens, from the login on
	Idle           int // of refresh tokens, from their last use on
}

// A clock can be put forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time       { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) pass(d time.Duration) { c.ahead.Add(int64(d)) }

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "dex:", err)
		os.Exit(1)
	}
}

func run() error {
	var o options
	if len(os.Args) != 2 {
		return fmt.Errorf("got %d arguments, want one: the options, as JSON", len(os.Args)-1)
	}
	if err := json.Unmarshal([]byte(os.Args[1]), &o); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	issuer := "http://" + listener.Addr().String()
	d := doors{clock: new(clock)}
	if d.dex, d.storage, err = start(ctx, issuer, o, d.clock.now); err != nil {
		return err
	}
	s := &http.Server{Handler: &d}
	go s.Serve(listener)
	defer s.Close()
	if err := json.NewEncoder(os.Stdout).Encode(map[string]string{"issuer": issuer}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// start makes a Dex with one client and one user, alice.
func start(ctx context.Context, issuer string, o options, now func() time.Time) (http.Handler, storage.Storage, error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	hash, err := bcrypt.GenerateFromPassword([]byte("wonderland"), bcrypt.DefaultCost) // Dex takes none that is cheaper
	if err != nil {
		return nil, nil, err
	}
	s := memory.New(log)
	// A public client without redirect URIs may use any of the loopback interface.
	s = storage.WithStaticClients(s, []storage.Client{{ID: o.Client, Name: "The tests", Public: true}})
	// What Dex calls an email address is the name that alice signs in by.
	s = storage.WithStaticPasswords(s, []storage.Password{{Email: "alice", Username: "alice", UserID: "alice", Hash: hash}}, log)
	s = storage.WithStaticConnectors(s, []storage.Connector{{ID: "local", Name: "local", Type: connectors.LocalConnector}})
	// Its endpoint userinfo takes no tokens that are signed by ES256.
	keys, err := (&signer.LocalConfig{KeysRotationPeriod: "720h", Algorithm: jose.RS256}).Open(ctx, s, seconds(o.AccessLifetime), now, log)
	if err != nil {
		return nil, nil, err
	}
	dex, err := server.NewServer(ctx, server.Config{
		Issuer: issuer, Storage: s, Signer: keys, Logger: log, Now: now,
		IDTokensValidFor:   seconds(o.AccessLifetime),
		RefreshTokenPolicy: tokens.NewRefreshStrategy(true, seconds(o.Absolute), seconds(o.Idle), seconds(o.Reuse), now),
		// With sessions in the browser there is a way to log out; and without,
		// this version waits for itself when a refresh token rotates in memory:
		// it reads the storage inside of a transaction.
		SessionConfig: &session.Config{CookieName: "dex", AbsoluteLifetime: 720 * time.Hour, ValidIfNotUsedFor: 720 * time.Hour},
	})
	return dex, s, err
}
