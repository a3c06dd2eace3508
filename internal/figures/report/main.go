// Report makes docs/reliability.md of its parts in docs/reliability and of the
// figures in the given files, of which the later ones count. A figure that none
// of them has is shown as not measured, and makes the command fail. With -check
// it compares a page with the parts, whatever the figures are.
//
//	go run ./internal/figures/report figures.jsonl > docs/reliability.md
package main

import (
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"strings"

	"github.com/freshtoken/freshtoken/internal/figures"
)

//go:embed head.md
var head string

const dir = "docs/reliability"

func main() {
	check := flag.String("check", "", "compare the page in this `file` with the parts")
	flag.Parse()
	if err := run(*check, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(check string, files []string) error {
	text, err := figures.Text(head, dir)
	if err != nil {
		return err
	}
	if check != "" {
		page, err := os.ReadFile(check)
		if err == nil {
			err = figures.Check(string(page), text)
		}
		if err != nil {
			return fmt.Errorf("%s: %w: the page itself says how to make it", check, err)
		}
		return nil
	}
	if len(files) == 0 {
		return errors.New("give the files with the figures; " + figures.Env + " says how to have them written")
	}
	all := make(map[string]string)
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		some, err := figures.Read(f)
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		maps.Copy(all, some)
	}
	page, missing := figures.Fill(text, all)
	fmt.Print(page)
	if len(missing) > 0 {
		return fmt.Errorf("not measured in this run: %s", strings.Join(missing, ", "))
	}
	return nil
}
