package keyring_test

import (
	"context"
	"io/fs"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken/keyring"
)

// What the keyring does not find is absent only if nothing speaks against it,
// and that is asked once, and only then.
func TestAbsenceIsConfirmed(t *testing.T) {
	for name, doubt := range map[string]struct{ err, kind error }{
		"elsewhere":   {keyring.Elsewhere(), errAny},
		"locked":      {keyring.NewFailure(keyring.ErrLocked, nil), keyring.ErrLocked},
		"unavailable": {keyring.NewFailure(keyring.ErrUnavailable, nil), keyring.ErrUnavailable},
		"nothing":     {nil, fs.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			f, dir := newFake(), t.TempDir()
			asked, verdict := 0, doubt.err
			gate := keyring.NewGate(f, nil)
			gate.Confirm(func(_ context.Context, service, account string) error {
				asked++
				if service != "app" || len(account) < 40 {
					t.Errorf("asked for %q %q", service, account)
				}
				return verdict
			})
			s, err := gate.NewStore(limit, "app", keyring.Options{LockDir: dir})
			if err != nil {
				t.Fatal(err)
			}
			open := func() *keyring.Key { return gate.NewKey("app", keyring.Options{LockDir: dir}) }
			_, err = s.Load(t.Context(), "k")
			wantsKind(t, "Load", err, doubt.kind)
			if doubt.err == nil && asked != 1 {
				t.Errorf("asked %d times about one absent item", asked)
			}
			_, err = open().Get(t.Context(), nil)
			wantsKind(t, "Get of the key", err, doubt.kind)
			if doubt.err != nil {
				wantsKind(t, "Save", s.Save(t.Context(), "k", bytesOf(1, 10)), doubt.kind)
				wantsKind(t, "Delete", s.Delete(t.Context(), "k"), doubt.kind)
				_, _, err = open().New(t.Context())
				wantsKind(t, "New of the key", err, doubt.kind)
				if strings.Contains(f.ops(), "set") || len(f.accounts()) != 0 {
					t.Errorf("in doubt these calls were made: %s", f.ops())
				}
			}
			verdict = nil // and nothing was shut by that
			save(t, s, "k", bytesOf(1, 10))
			asked, verdict = 0, doubt.err
			wants(t, s, "k", bytesOf(1, 10))
			if asked != 0 {
				t.Errorf("asked %d times about an item that is there", asked)
			}
			if doubt.err != nil { // one copy is gone, but another is there
				wantsKind(t, "Delete", s.Delete(t.Context(), "k"), doubt.kind)
			}
		})
	}
}

// An item that is written just after it was not found is no item elsewhere.
func TestItemWrittenBeforeItsAbsenceIsConfirmed(t *testing.T) {
	f, dir := newFake(), t.TempDir()
	gate := keyring.NewGate(f, nil)
	gate.Confirm(func(context.Context, string, string) error {
		other, err := keyring.NewGate(f, nil).NewStore(limit, "app", keyring.Options{LockDir: dir})
		if err == nil {
			err = other.Save(context.Background(), "k", bytesOf(1, 10))
		}
		if err != nil {
			t.Errorf("Save by another process: %v", err)
		}
		return keyring.Elsewhere()
	})
	s, err := gate.NewStore(limit, "app", keyring.Options{LockDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	wants(t, s, "k", bytesOf(1, 10))
}
