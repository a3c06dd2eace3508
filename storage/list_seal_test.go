package storage_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken/storage"
)

// under is a store with another List, or another Load, than its own.
type under struct {
	storage.Store
	list func(ctx context.Context) ([]string, error)
	load func(ctx context.Context, key string) ([]byte, error)
}

func (u under) List(ctx context.Context) ([]string, error) { return u.list(ctx) }

func (u under) Load(ctx context.Context, key string) ([]byte, error) {
	if u.load != nil {
		return u.load(ctx, key)
	}
	return u.Store.Load(ctx, key)
}

// mute is a store without a List.
type mute struct{ storage.Store }

func TestSealOfStoreThatCannotList(t *testing.T) {
	s := storage.Seal(mute{storage.NewMemory()}, fixedKey(1))
	mustSave(t, s, "alice", "v")
	wantValue(t, s, "alice", "v")
	for _, s := range []storage.Store{s, storage.Seal(s, fixedKey(2))} {
		err := wantKeys(t, s)
		wantError(t, "List", err, errors.ErrUnsupported)
		if err != nil && !strings.Contains(err.Error(), "List(context.Context)") {
			t.Errorf("the error does not say what to do: %v", err)
		}
	}
}

// TestSealLeavesItsOwnOut: neither the marker nor what was set aside is listed,
// and a value that was put where none of ours would lie is damaged.
func TestSealLeavesItsOwnOut(t *testing.T) {
	ctx := context.Background()
	m := storage.NewMemory()
	s := storage.Seal(m, someKey)
	mustSave(t, s, "alice", "v")
	mustSave(t, m, "bob", "damaged")
	if err := s.SetAside(ctx, "bob"); err != nil {
		t.Fatal(err)
	}
	wantAllKeys(t, s, "alice")
	marker, err := m.Load(ctx, "freshtoken.seal/key")
	if err != nil {
		t.Fatal(err)
	}
	for place, sealed := range map[string][]byte{
		"":                                     marker,
		"bob":                                  marker,
		"freshtoken.seal/=freshtoken.seal/key": marker,
		"freshtoken.seal/=bob":                 sealedAs(t, someKey, "bob"),
		"freshtoken.seal/=":                    sealedAs(t, someKey, "freshtoken.seal/="),
		"Alice":                                sealedAs(t, someKey, "alice"),
	} {
		mustSave(t, m, place, string(sealed))
		wantError(t, fmt.Sprintf("List with %q", place), wantKeys(t, s, "alice"), storage.ErrCorrupt)
		remove(t, m, place)
	}
	wantAllKeys(t, s, "alice")
}

func TestSealedTwiceLists(t *testing.T) {
	m := storage.NewMemory()
	s := storage.Seal(storage.Seal(m, fixedKey(1)), fixedKey(2))
	mustSave(t, s, "alice", "v")
	mustSave(t, s, "freshtoken.seal/key", "v")
	wantAllKeys(t, s, "alice", "freshtoken.seal/key")
	mustSave(t, m, "bob", "damaged")
	wantError(t, "List", wantKeys(t, s, "alice", "freshtoken.seal/key"), storage.ErrCorrupt)
}

// TestSealListsWhatTheStoreCan has the store under it list in part.
func TestSealListsWhatTheStoreCan(t *testing.T) {
	full := errors.New("the table is locked")
	m := storage.NewMemory()
	for what, test := range map[string]struct {
		list under
		want error
	}{
		"in part": {under{Store: m, list: func(context.Context) ([]string, error) { return []string{"alice"}, full }}, full},
		"with what is deleted meanwhile": {under{Store: m, list: func(context.Context) ([]string, error) {
			return []string{"ghost", "alice"}, nil
		}}, nil},
		"with what it cannot load": {under{Store: m, list: func(context.Context) ([]string, error) {
			return []string{"alice", "bob"}, nil
		}, load: func(ctx context.Context, key string) ([]byte, error) {
			if key == "bob" {
				return nil, full
			}
			return m.Load(ctx, key)
		}}, full},
		"not even itself": {under{Store: m, list: func(context.Context) ([]string, error) {
			return []string{"alice"}, fmt.Errorf("no such table: %w", fs.ErrNotExist)
		}}, nil},
	} {
		t.Run(what, func(t *testing.T) {
			s := storage.Seal(test.list, someKey)
			mustSave(t, s, "alice", "v")
			err := wantKeys(t, s, "alice")
			switch {
			case test.want != nil:
				wantError(t, "List", err, test.want)
			case what == "not even itself":
				if err == nil || errors.Is(err, fs.ErrNotExist) {
					t.Errorf("got %v, want an error that reads as no absent session", err)
				}
			case err != nil:
				t.Error(err)
			}
		})
	}
}

// TestListGivesUp has the context end in the midst of a listing.
func TestListGivesUp(t *testing.T) {
	m := storage.NewMemory()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	loads := 0
	s := storage.Seal(under{Store: m, list: m.List, load: func(ctx context.Context, key string) ([]byte, error) {
		if loads++; key != "freshtoken.seal/key" && ctx.Value(listing{}) != nil {
			cancel()
		}
		return m.Load(ctx, key)
	}}, someKey)
	for i := range 10 {
		mustSave(t, s, fmt.Sprint(i), "v")
	}
	loads = 0
	keys, err := s.List(context.WithValue(ctx, listing{}, true))
	if keys != nil || !errors.Is(err, context.Canceled) || loads > 2 {
		t.Errorf("after %d loads listed %q (%v), want the context's error", loads, keys, err)
	}
}

type listing struct{}
