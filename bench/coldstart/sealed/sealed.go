// Package sealed is a command line whose session freshtoken keeps in a sealed
// file, wherever its key is.
package sealed

import (
	"path/filepath"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/bench/coldstart/command"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// Run makes one request with the session in dir.
func Run(key storage.Key, dir, tokenURL, origin string) error {
	store, err := storage.NewFile(filepath.Join(dir, "sessions"), key)
	if err != nil {
		return err
	}
	src, err := freshtoken.New(freshtoken.Config{Store: store,
		OAuth2: &oauth2.Config{ClientID: "client", Endpoint: oauth2.Endpoint{TokenURL: tokenURL}}})
	if err != nil {
		return err
	}
	defer src.Close()
	return command.Get(src.Client(origin), origin)
}
