// Plaintext is a command line that keeps its token in a file, token.json, as
// programs do that are written over golang.org/x/oauth2. It makes one request.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"

	"golang.org/x/oauth2"
)

func main() {
	log.SetFlags(0)
	dir := flag.String("dir", "", "where the session is")
	tokenURL := flag.String("token-url", "", "the token endpoint")
	origin := flag.String("origin", "", "the API: scheme, host and port")
	flag.Parse()
	if err := run(context.Background(), *dir, *tokenURL, *origin); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dir, tokenURL, origin string) error {
	path := filepath.Join(dir, "token.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	old := new(oauth2.Token)
	if err := json.Unmarshal(data, old); err != nil {
		return err
	}
	cfg := oauth2.Config{ClientID: "client", Endpoint: oauth2.Endpoint{TokenURL: tokenURL}}
	src := cfg.TokenSource(ctx, old)
	resp, err := oauth2.NewClient(ctx, src).Get(origin + "/me")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		log.Print(resp.Status)
	}
	if _, err := io.Copy(os.Stdout, resp.Body); err != nil {
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
