package keyring_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"testing"

	"github.com/freshtoken/freshtoken/keyring"
)

// What the security program does not find is the item only if there is a
// keychain in which it could be.
func TestKeychainThere(t *testing.T) {
	const login = "/Users/alice/Library/Keychains/login.keychain"
	tests := []struct {
		name  string
		out   string
		err   error
		files []string
		want  error
	}{
		{"a keychain", "    \"" + login + "-db\"\n", nil, []string{login + "-db"}, nil},
		{"a keychain by its old name", "    \"" + login + "\"\n", nil, []string{login + "-db"}, nil},
		{"a path with a space", "    \"/Volumes/a b/c\"\n", nil, []string{"/Volumes/a b/c"}, nil},
		{"no default keychain", "", errors.New("exit status 37"), nil, keyring.ErrUnavailable},
		{"no default keychain, and a file", "\"" + login + "\"", errors.New("exit status 1"), []string{login}, keyring.ErrUnavailable},
		{"its file is missing", "    \"" + login + "-db\"\n", nil, []string{login}, keyring.ErrUnavailable},
		{"no program", "", &fs.PathError{Op: "fork/exec", Path: "/usr/bin/security", Err: fs.ErrNotExist}, nil, keyring.ErrUnavailable},
		{"no program on the path", "", exec.ErrNotFound, nil, keyring.ErrUnavailable},
		{"no file", "something else", nil, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run := func(_ context.Context, args ...string) ([]byte, error) {
				if len(args) != 1 || args[0] != "default-keychain" {
					t.Errorf("the program is run with %q", args)
				}
				return []byte(tt.out), tt.err
			}
			stat := func(path string) (fs.FileInfo, error) {
				for _, file := range tt.files {
					if file == path {
						return nil, nil
					}
				}
				return nil, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist}
			}
			// Through a store, as that is where absence matters.
			gate := keyring.NewGate(newFake(), nil)
			gate.Confirm(func(ctx context.Context, _, _ string) error { return keyring.KeychainThere(ctx, run, stat) })
			s, err := gate.NewStore(limit, "app", keyring.Options{LockDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			want := tt.want
			if want == nil {
				want = fs.ErrNotExist
			}
			_, err = s.Load(t.Context(), "k")
			wantsKind(t, "Load", err, want)
			wantsKind(t, "Delete", s.Delete(t.Context(), "k"), tt.want)
		})
	}
}

// A file that cannot be looked at is not missing, and a program that was killed
// for the time it took says nothing about the keychain.
func TestKeychainThereInDoubt(t *testing.T) {
	path := func(context.Context, ...string) ([]byte, error) { return []byte(`"/a/keychain"`), nil }
	denied := func(string) (fs.FileInfo, error) { return nil, os.ErrPermission }
	if err := keyring.KeychainThere(t.Context(), path, denied); err != nil {
		t.Errorf("a keychain whose file cannot be looked at: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	killed := func(context.Context, ...string) ([]byte, error) {
		cancel()
		return nil, errors.New("signal: killed")
	}
	wantsKind(t, "a program that was killed", keyring.KeychainThere(ctx, killed, denied), keyring.ErrTimeout)
}
