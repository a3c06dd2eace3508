package peers

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/oauth2"
)

// SaveToFile is what programs write to keep a session with x/oauth2: a
// TokenSource that compares each token with the last, and saves a new one as
// plain text. It is done with more care than most take: by a temporary file
// that is renamed.
var SaveToFile = Peer{Name: "x/oauth2 + save-to-file", Module: "golang.org/x/oauth2", Stores: true, Open: openSaveToFile}

func openSaveToFile(s Setup) (*Session, error) {
	dir, remove, err := workDir(s)
	if err != nil {
		return nil, err
	}
	src := &saving{path: filepath.Join(dir, "token.json")}
	tok := s.Token
	if tok != nil {
		err = src.save(tok)
	} else {
		tok, err = src.load()
	}
	if err != nil {
		remove()
		return nil, err
	}
	src.last = tok.AccessToken
	src.src = plainSource(s, tok)
	return &Session{
		Token: func(context.Context) (string, error) {
			tok, err := src.Token()
			if err != nil {
				return "", err
			}
			return tok.AccessToken, nil
		},
		Transport: &oauth2.Transport{Source: src, Base: s.Base},
		Close:     remove,
	}, nil
}

// saving is the TokenSource.
type saving struct {
	src  oauth2.TokenSource
	path string

	mu   sync.Mutex // guards last and the file
	last string
}

func (s *saving) Token() (*oauth2.Token, error) {
	tok, err := s.src.Token()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if tok.AccessToken != s.last {
		if err := s.save(tok); err != nil {
			return nil, err
		}
		s.last = tok.AccessToken
	}
	return tok, nil
}

func (s *saving) save(tok *oauth2.Token) error {
	data, err := json.MarshalIndent(tok, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(s.path), "token-*.tmp") // readable for its owner only
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), s.path)
}

func (s *saving) load() (*oauth2.Token, error) {
	data, err := os.ReadFile(s.path)
	if err != nil {
		return nil, err
	}
	tok := new(oauth2.Token)
	return tok, json.Unmarshal(data, tok)
}
