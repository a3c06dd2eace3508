// Freshtoken is a command line whose session freshtoken keeps in a sealed file,
// with its key in another. It makes one request.
package main

import (
	"flag"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

func main() {
	log.SetFlags(0)
	dir := flag.String("dir", "", "where the session is")
	tokenURL := flag.String("token-url", "", "the token endpoint")
	origin := flag.String("origin", "", "the API: scheme, host and port")
	flag.Parse()
	if err := run(*dir, *tokenURL, *origin); err != nil {
		log.Fatal(err)
	}
}

func run(dir, tokenURL, origin string) error {
	store, err := storage.NewFile(filepath.Join(dir, "sessions"), storage.KeyFile(filepath.Join(dir, "key")))
	if err != nil {
		return err
	}
	src, err := freshtoken.New(freshtoken.Config{Store: store,
		OAuth2: &oauth2.Config{ClientID: "client", Endpoint: oauth2.Endpoint{TokenURL: tokenURL}}})
	if err != nil {
		return err
	}
	defer src.Close()
	resp, err := src.Client(origin).Get(origin + "/me")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		log.Print(resp.Status)
	}
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}
