// Search passes on what programs print, and fails if a secret of a test is in it:
//
//	go test -json ./... | go run ./internal/canary/search
//
// It says where the secrets are, on standard error, and does not show them.
package main

import (
	"fmt"
	"os"

	"github.com/freshtoken/freshtoken/internal/canary"
)

func main() {
	_, leaks, err := canary.Output(os.Stdin, os.Stdout)
	for _, leak := range leaks {
		fmt.Fprintln(os.Stderr, "A SECRET IS SHOWN:", leak)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "search:", err)
	}
	if err != nil || len(leaks) > 0 {
		os.Exit(1)
	}
}
