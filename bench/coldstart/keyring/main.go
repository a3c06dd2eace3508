// Keyring is a command line whose session freshtoken keeps in a sealed file,
// with its key in the OS keyring. It makes one request.
package main

import (
	"github.com/freshtoken/freshtoken/bench/coldstart/command"
	"github.com/freshtoken/freshtoken/bench/coldstart/sealed"
	"github.com/freshtoken/freshtoken/keyring"
)

func main() {
	command.Main(func(dir, tokenURL, origin string) error {
		return sealed.Run(keyring.NewKey("freshtoken-bench", keyring.Options{LockDir: dir}), dir, tokenURL, origin)
	})
}
