// Plaintext is a command line that keeps its token in a file, token.json, as
// programs do that are written over golang.org/x/oauth2. It makes one request.
package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/freshtoken/freshtoken/bench/coldstart/command"
	"golang.org/x/oauth2"
)

func main() { command.Main(run) }

func run(dir, tokenURL, origin string) error {
	path := filepath.Join(dir, "token.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	old := new(oauth2.Token)
	if err := json.Unmarshal(data, old); err != nil {
		return err
	}
	ctx := context.Background()
	cfg := oauth2.Config{ClientID: "client", Endpoint: oauth2.Endpoint{TokenURL: tokenURL}}
	src := cfg.TokenSource(ctx, old)
	if err := command.Get(oauth2.NewClient(ctx, src), origin); err != nil {
		return err
	}
	tok, err := src.Token()
	if err != nil || tok.AccessToken == old.AccessToken {
		return err
	}
	if data, err = json.Marshal(tok); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}
