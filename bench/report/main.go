// Report makes docs/performance.md and its pictures of a run of the benchmarks.
// What the run lacks is shown as not measured, and what is wrong with the page
// makes the command fail: a value that no table shows, a column that no value
// fills, a target that is missed without a reason given in targets.go. With
// -check nothing is written, and the command fails if what is there differs.
//
//	go run ./report run.json
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/freshtoken/freshtoken/bench/measure"
	"github.com/freshtoken/freshtoken/bench/peers"
)

func main() {
	dir := flag.String("o", "../docs", "the `directory` of performance.md, and of performance with its pictures")
	check := flag.Bool("check", false, "write nothing, and fail if what is there differs")
	flag.Parse()
	if err := run(*dir, *check, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func run(dir string, check bool, args []string) error {
	if len(args) != 1 {
		return errors.New("give the one file that bench has written, as in: go run ./report run.json")
	}
	r, err := measure.Read(args[0])
	if err != nil {
		return err
	}
	files, wrong := report(r, peers.All())
	if check {
		return errors.Join(wrong, compare(dir, files))
	}
	return errors.Join(wrong, write(dir, files))
}

// report makes the page and the pictures, by their paths below docs. They are
// complete even if something is wrong with them.
func report(r measure.Run, libraries []peers.Peer) (map[string][]byte, error) {
	files, err := pictureFiles(r)
	text, wrong := page(r, libraries)
	files["performance.md"] = []byte(text)
	return files, errors.Join(unshown(r.Results), wrong, err)
}

func write(dir string, files map[string][]byte) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, files[name], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// compare says which files differ from those in a directory.
func compare(dir string, files map[string][]byte) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		data, err := os.ReadFile(path)
		switch {
		case err != nil:
			errs = append(errs, err)
		case !bytes.Equal(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")), files[name]):
			errs = append(errs, fmt.Errorf("%s is not what the run gives: make it anew with go run ./report run.json", path))
		}
	}
	return errors.Join(errs...)
}
