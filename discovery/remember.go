package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/freshtoken/freshtoken"
)

// Metadata is kept in the Config's Store, sealed like a session: it says where
// refresh tokens are sent. A program then starts without asking for it, and
// while the server cannot be reached.

// freshFor is how long metadata is used without asking for it again. Endpoints
// change by the year, and a server that moves one keeps the old one for a while.
const freshFor = 24 * time.Hour

const (
	// maxKept bounds what is kept, in bytes. Documents have a few thousand;
	// a megabyte would be hundreds of items of a keyring.
	maxKept = 64 << 10

	// The Store may hang. When it is read, a person may have to unlock it.
	loadTime = 2 * time.Minute
	saveTime = 10 * time.Second

	// againTime bounds the wait for metadata where there is an older version.
	againTime = 3 * time.Second
)

// A remembered is metadata as it is kept.
type remembered struct {
	Fetched  time.Time       `json:"fetched"`
	Document json.RawMessage `json:"document"`
}

// rememberKey is a key that no session has.
func rememberKey(issuer string) string {
	return fmt.Sprintf("freshtoken/1/metadata/%d:%s", len(issuer), issuer)
}

// ask returns the metadata of cfg.Issuer: that which is remembered, if it is
// fresh or there is no other.
func ask(ctx context.Context, cfg *freshtoken.Config) (*Metadata, error) {
	old, age, works := recall(ctx, cfg)
	if old != nil && age >= 0 && age < freshFor {
		return old, nil
	}
	limited := ctx
	if old != nil { // whoever starts a program while the server is down waits at every start
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, againTime)
		defer cancel()
	}
	m, err := fetch(limited, cfg.HTTPClient, cfg.Issuer, cfg.InsecureHTTP)
	switch {
	case err == nil && works:
		remember(ctx, cfg, m)
	case old != nil && errors.Is(err, ErrUnavailable):
		return old, nil
	}
	return m, err
}

// recall returns what is remembered, and how old it is; nil if there is nothing
// that is as good as the server's answer. What is wrong with the Store, the
// session will tell; one that does not work is left alone, since every call may ask
// a person for the same passphrase.
func recall(ctx context.Context, cfg *freshtoken.Config) (m *Metadata, age time.Duration, works bool) {
	if cfg.Store == nil {
		return nil, 0, false
	}
	data, err := within(ctx, loadTime, func(ctx context.Context) ([]byte, error) {
		return cfg.Store.Load(ctx, rememberKey(cfg.Issuer))
	})
	if err != nil {
		var c interface{ Corrupt() bool }
		damaged := errors.As(err, &c) && c.Corrupt()
		if damaged { // it can be had again, and is in the way of a new one
			within(ctx, saveTime, func(ctx context.Context) (struct{}, error) {
				return struct{}{}, cfg.Store.Delete(ctx, rememberKey(cfg.Issuer))
			})
		}
		return nil, 0, damaged || errors.Is(err, fs.ErrNotExist)
	}
	var r remembered
	if json.Unmarshal(data, &r) != nil {
		return nil, 0, true
	}
	if _, err := parseIssuer(cfg.Issuer, cfg.InsecureHTTP); err != nil {
		return nil, 0, true // the network would have been asked nothing
	}
	if m, err = parse(r.Document, cfg.Issuer, cfg.InsecureHTTP); err != nil {
		return nil, 0, true
	}
	return m, time.Since(r.Fetched), true
}

func remember(ctx context.Context, cfg *freshtoken.Config, m *Metadata) {
	document, err := json.Marshal(m.members)
	if err != nil || len(document) > maxKept {
		return
	}
	data, err := json.Marshal(remembered{time.Now().UTC().Round(0), document})
	if err != nil {
		return
	}
	within(ctx, saveTime, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, cfg.Store.Save(ctx, rememberKey(cfg.Issuer), data)
	})
}

// within makes a call of the Store, which may hang whatever its context says.
// Then it is left behind.
func within[T any](ctx context.Context, limit time.Duration, call func(context.Context) (T, error)) (value T, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := call(ctx)
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return value, ctx.Err()
	}
}
