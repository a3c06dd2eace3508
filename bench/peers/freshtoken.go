package peers

import (
	"context"
	"path/filepath"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/storage"
)

const ours = "github.com/freshtoken/freshtoken"

// Freshtoken is this library as it is by default, and FreshtokenBackground as a
// service would have it.
var (
	Freshtoken           = Peer{Name: "freshtoken", Module: ours, Stores: true, Open: func(s Setup) (*Session, error) { return openFreshtoken(s, false) }}
	FreshtokenBackground = Peer{Name: "freshtoken, Background", Module: ours, Stores: true, Open: func(s Setup) (*Session, error) { return openFreshtoken(s, true) }}
)

func openFreshtoken(s Setup, background bool) (*Session, error) {
	cfg := freshtoken.Config{OAuth2: s.OAuth2, HTTPClient: s.HTTP, Lead: s.Lead, Background: background}
	if s.Dir != "" {
		store, err := storage.NewFile(filepath.Join(s.Dir, "sessions"), storage.KeyFile(filepath.Join(s.Dir, "key")))
		if err != nil {
			return nil, err
		}
		cfg.Store = store
	}
	src, err := freshtoken.New(cfg)
	if err != nil {
		return nil, err
	}
	if s.Token != nil {
		if err := src.SetToken(context.Background(), s.Token); err != nil {
			src.Close()
			return nil, err
		}
	}
	return &Session{
		Token: func(ctx context.Context) (string, error) {
			tok, err := src.Token(ctx)
			if err != nil {
				return "", err
			}
			return tok.AccessToken, nil
		},
		Transport: &freshtoken.Transport{Source: src, Base: s.Base, Origins: []string{s.Origin}},
		Close:     src.Close,
	}, nil
}
