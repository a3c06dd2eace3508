// Freshtoken is a command line whose session freshtoken keeps in a sealed file,
// with its key in another. It makes one request.
package main

import (
	"path/filepath"

	"github.com/freshtoken/freshtoken/bench/coldstart/command"
	"github.com/freshtoken/freshtoken/bench/coldstart/sealed"
	"github.com/freshtoken/freshtoken/storage"
)

func main() {
	command.Main(func(dir, tokenURL, origin string) error {
		return sealed.Run(storage.KeyFile(filepath.Join(dir, "key")), dir, tokenURL, origin)
	})
}
