package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/freshtoken/freshtoken"
)

// Metadata is kept in the Config's Store, sealed like a session: it says where
// refresh tokens are sent. A program then starts without asking for it, and
// while the server cannot be reached.

// freshFor is how long metadata is used without asking for it again. Endpoints
// change by the year, and a server that moves one keeps the old one for a while.
const freshFor = 24 * time.Hour

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
	old, age := recall(ctx, cfg)
	if old != nil && age >= 0 && age < freshFor {
		return old, nil
	}
	m, err := fetch(ctx, cfg.HTTPClient, cfg.Issuer, cfg.InsecureHTTP)
	switch {
	case err == nil:
		remember(ctx, cfg, m)
	case old != nil && errors.Is(err, ErrUnavailable):
		return old, nil
	}
	return m, err
}

// recall returns what is remembered, and how old it is; nil if there is nothing
// that is as good as the server's answer. What is wrong with the Store, the
// session will tell.
func recall(ctx context.Context, cfg *freshtoken.Config) (*Metadata, time.Duration) {
	if cfg.Store == nil {
		return nil, 0
	}
	data, err := cfg.Store.Load(ctx, rememberKey(cfg.Issuer))
	if err != nil {
		return nil, 0
	}
	var r remembered
	if json.Unmarshal(data, &r) != nil {
		return nil, 0
	}
	if _, err := parseIssuer(cfg.Issuer, cfg.InsecureHTTP); err != nil {
		return nil, 0 // the network would have been asked nothing
	}
	m, err := parse(r.Document, cfg.Issuer, cfg.InsecureHTTP)
	if err != nil {
		return nil, 0
	}
	return m, time.Since(r.Fetched)
}

func remember(ctx context.Context, cfg *freshtoken.Config, m *Metadata) {
	if cfg.Store == nil {
		return
	}
	document, err := json.Marshal(m.members)
	if err != nil {
		return
	}
	if data, err := json.Marshal(remembered{time.Now().UTC().Round(0), document}); err == nil {
		cfg.Store.Save(ctx, rememberKey(cfg.Issuer), data)
	}
}
