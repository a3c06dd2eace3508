package keyring

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// The macOS keychain as far as its logic needs no macOS, so that it is tested
// everywhere.

// keychainThere returns nil if there is a keychain in which an item could be
// absent, and else a *failure. go-keyring takes every text with "could not be
// found" for the absence of the item, and the program says that of keychains,
// too: that there is no default one, and that its file is missing. The first
// makes "security default-keychain" fail; in the second case it prints the path
// all the same. It never prompts.
//
// The program is run by run, which returns its standard output; stat is that of
// package os.
func keychainThere(ctx context.Context, run func(context.Context, ...string) ([]byte, error), stat func(string) (fs.FileInfo, error)) error {
	out, err := run(ctx, "default-keychain")
	if ctx.Err() != nil {
		return fail(ErrTimeout, ctx.Err())
	}
	if err != nil {
		return fail(ErrUnavailable, fmt.Errorf("cannot find the default keychain: %w", err))
	}
	path, ok := strings.CutPrefix(strings.TrimSpace(string(out)), `"/`)
	if !ok {
		return nil // not a file: it was found, and that is all one can say
	}
	path = "/" + strings.TrimSuffix(path, `"`)
	// Since macOS 10.12 a keychain "login.keychain" may lie in a file
	// "login.keychain-db".
	for _, file := range []string{path, path + "-db"} {
		if _, err := stat(file); !errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	return fail(ErrUnavailable, errors.New("the file of the default keychain is missing"))
}
