// Report reads what go test -json prints and makes docs/conformance.md of it, or,
// with -check, compares it with the page that is there. It prints on standard
// error what go test would, and fails if a test has failed.
//
//	go test -json ./... | go run ./internal/conformance/report > docs/conformance.md
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/freshtoken/freshtoken/internal/conformance"
)

func main() {
	check := flag.String("check", "", "compare with the page in this `file`, and print nothing")
	flag.Parse()
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(check string) error {
	items, err := conformance.Items()
	if err != nil {
		return err
	}
	tests, err := conformance.Read(os.Stdin, os.Stderr)
	if err != nil {
		return err
	}
	if tests.Failed {
		return fmt.Errorf("tests have failed: there is no page of that")
	}
	page, err := conformance.Page(items, tests)
	if err != nil {
		return err
	}
	if check == "" {
		fmt.Print(page)
		return nil
	}
	old, err := os.ReadFile(check)
	if err != nil {
		return err
	}
	return conformance.Check(string(old), page)
}
