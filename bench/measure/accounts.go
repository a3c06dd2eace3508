package measure

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// Accounts measures a program that keeps a thousand sessions.
var Accounts = Measure{
	Name: "accounts",
	Doc:  "a thousand accounts in one process",
	Run:  accounts,
}

func accounts(ctx context.Context, o Options) ([]Result, error) {
	n, rounds := 1000, o.Rounds
	if o.Smoke {
		n, rounds = 20, 1
	}
	d, remove, err := newDisk()
	if err != nil {
		return nil, err
	}
	defer remove()
	c, err := newCrowd(ctx, d, n)
	if err != nil {
		return nil, err
	}
	all := []*keeper{
		{peer: "freshtoken", words: d.words(), open: c.fromFiles(false)},
		{peer: "freshtoken, Background", words: d.words(), open: c.fromFiles(true)},
		{peer: "freshtoken, memory", open: c.inMemory},
		{peer: "x/oauth2", open: c.xoauth2},
	}
	for range rounds {
		for _, k := range all {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if err := k.turn(ctx, n, o.Smoke); err != nil {
				return nil, fmt.Errorf("%s: %w", k.peer, err)
			}
		}
	}
	var results []Result
	for _, k := range all {
		results = append(results, k.result())
	}
	return results, nil
}

// A crowd is so many logins, and where their sessions are stored.
type crowd struct {
	server *oauthtest.Server
	names  []string
	tokens []*oauth2.Token
	store  *storage.File
}

func newCrowd(ctx context.Context, d disk, n int) (*crowd, error) {
	c := &crowd{server: oauthtest.New(oauthtest.Options{AccessLifetime: 24 * time.Hour})}
	var err error
	if c.store, err = storage.NewFile(filepath.Join(d.path, "sessions"), storage.KeyFile(filepath.Join(d.path, "key"))); err != nil {
		return nil, err
	}
	for i := range n {
		c.names = append(c.names, fmt.Sprint("account-", i))
		c.tokens = append(c.tokens, c.server.Login(c.names[i]))
	}
	sources, err := freshtoken.NewSources(c.config())
	if err != nil {
		return nil, err
	}
	defer sources.Close()
	return c, c.logIn(ctx, sources)
}

func (c *crowd) config() freshtoken.Config {
	return freshtoken.Config{OAuth2: c.server.OAuth2(), HTTPClient: c.server.Client(), Store: c.store}
}

// logIn hands every account its token, several at a time.
func (c *crowd) logIn(ctx context.Context, sources *freshtoken.Sources) error {
	errs := make(chan error, len(c.names))
	turns := make(chan struct{}, 8)
	var all sync.WaitGroup
	for i, name := range c.names {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			src, err := sources.Get(name)
			if err == nil {
				err = src.SetToken(ctx, c.tokens[i])
			}
			if err != nil {
				errs <- err
			}
		})
	}
	all.Wait()
	close(errs)
	return <-errs
}

// An account returns its token.
type account func(context.Context) error

func accountsOf(sources *freshtoken.Sources, names []string) ([]account, error) {
	var all []account
	for _, name := range names {
		src, err := sources.Get(name)
		if err != nil {
			return nil, err
		}
		all = append(all, func(ctx context.Context) error { _, err := src.Token(ctx); return err })
	}
	return all, nil
}

// fromFiles opens all sessions that are stored.
func (c *crowd) fromFiles(background bool) func(context.Context) ([]account, func() error, error) {
	return func(context.Context) ([]account, func() error, error) {
		cfg := c.config()
		cfg.Background = background
		sources, err := freshtoken.NewSources(cfg)
		if err != nil {
			return nil, nil, err
		}
		all, err := accountsOf(sources, c.names)
		return all, sources.Close, err
	}
}

// inMemory starts all sessions, and stores none.
func (c *crowd) inMemory(ctx context.Context) ([]account, func() error, error) {
	cfg := c.config()
	cfg.Store = nil
	sources, err := freshtoken.NewSources(cfg)
	if err != nil {
		return nil, nil, err
	}
	if err := c.logIn(ctx, sources); err != nil {
		return nil, sources.Close, err
	}
	all, err := accountsOf(sources, c.names)
	return all, sources.Close, err
}

// xoauth2 has a TokenSource for each, in memory.
func (c *crowd) xoauth2(ctx context.Context) ([]account, func() error, error) {
	ctx = context.WithValue(ctx, oauth2.HTTPClient, c.server.Client())
	var all []account
	for _, tok := range c.tokens {
		own := *tok // as one that was read from somewhere
		own.AccessToken, own.RefreshToken = strings.Clone(tok.AccessToken), strings.Clone(tok.RefreshToken)
		src := c.server.OAuth2().TokenSource(ctx, &own)
		all = append(all, func(context.Context) error { _, err := src.Token(); return err })
	}
	return all, func() error { return nil }, nil
}

// A keeper is a way to keep them, and what was measured of it, by round.
type keeper struct {
	peer  string
	words map[string]string
	open  func(context.Context) (all []account, stop func() error, err error)

	opened, token, heap, goroutines []float64
}

// turn opens all accounts, and has a token of each.
func (k *keeper) turn(ctx context.Context, n int, smoke bool) error {
	before, running := heap(), runtime.NumGoroutine()
	start := time.Now()
	all, stop, err := k.open(ctx)
	if stop != nil {
		defer stop()
	}
	if err != nil {
		return err
	}
	for _, token := range all {
		if err := token(ctx); err != nil {
			return err
		}
	}
	k.opened = append(k.opened, milliseconds(time.Since(start)))
	k.heap = append(k.heap, (heap()-before)/float64(n))
	k.goroutines = append(k.goroutines, float64(max(settled(running)-running, 0))/float64(n))

	times := 20
	if smoke {
		times = 1
	}
	start = time.Now()
	for range times {
		for _, token := range all {
			if err := token(ctx); err != nil {
				return err
			}
		}
	}
	k.token = append(k.token, float64(time.Since(start))/float64(times*n))
	return nil
}

func (k *keeper) result() Result {
	return Result{Measure: "accounts", Peer: k.peer, Words: k.words, Values: map[string]float64{
		"heap.bytes":       Median(k.heap),
		"goroutines.count": Median(k.goroutines),
		"open.ms":          Median(k.opened),
		"token.ns":         Median(k.token),
	}}
}

// heap returns how many bytes are in use.
func heap() float64 {
	runtime.GC()
	runtime.GC() // what finalizers have let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// settled returns the number of goroutines, once there are no more than so many,
// or once those that are about to end have had the time to.
func settled(want int) int {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		if runtime.NumGoroutine() <= want {
			break
		}
		<-tick.C
	}
	return runtime.NumGoroutine()
}
