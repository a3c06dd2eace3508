package storagetest_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken/storage"
	"github.com/freshtoken/freshtoken/storage/storagetest"
)

// lists is a store with another List.
type lists struct {
	storagetest.Store
	list func(ctx context.Context) ([]string, error)
}

func (l lists) List(ctx context.Context) ([]string, error) { return l.list(ctx) }

// relisted is a good store whose list is changed.
func relisted(m storagetest.Store, change func([]string) []string) storagetest.Store {
	return lists{m, func(ctx context.Context) ([]string, error) {
		keys, err := m.(*storage.Memory).List(ctx)
		return change(keys), err
	}}
}

func without(key string) func([]string) []string {
	return func(keys []string) []string {
		return slices.DeleteFunc(keys, func(k string) bool { return k == key })
	}
}

func listFlaws() map[string]flaw {
	flaws := make(map[string]flaw)
	for name, change := range map[string]func([]string) []string{
		"lists nothing":       func([]string) []string { return nil },
		"lists what is not":   func(keys []string) []string { return append(keys, "locked") },
		"lists twice":         func(keys []string) []string { return append(keys, keys...) },
		"lists no empty key":  without(""),
		"lists no key of NUL": without("\x00"),
		"lists no odd key":    without("\xff"),
		"lists keys cut": func(keys []string) []string {
			for i, k := range keys {
				keys[i] = k[:min(255, len(k))]
			}
			return keys
		},
		"lists other letters": func(keys []string) []string {
			for i, k := range keys {
				keys[i] = strings.ToValidUTF8(k, "\ufffd")
			}
			return keys
		},
	} {
		flaws[name] = flaw{"what_is_stored_is_listed", func(m storagetest.Store) storagetest.Store { return relisted(m, change) }}
	}
	flaws["lists what was deleted"] = flaw{"what_is_stored_is_listed", func(m storagetest.Store) storagetest.Store {
		ever := make(map[string]bool)
		return lists{&broken{Store: m, save: func(ctx context.Context, key string, value []byte) error {
			ever[key] = true
			return m.Save(ctx, key, value)
		}}, func(ctx context.Context) ([]string, error) { return slices.Collect(maps.Keys(ever)), ctx.Err() }}
	}}
	flaws["lists whatever the context"] = flaw{"what_is_stored_is_listed", func(m storagetest.Store) storagetest.Store {
		return lists{m, func(context.Context) ([]string, error) {
			return m.(*storage.Memory).List(context.Background())
		}}
	}}
	flaws["fails to list"] = flaw{"what_is_stored_is_listed", func(m storagetest.Store) storagetest.Store {
		return lists{m, func(context.Context) ([]string, error) { return nil, errors.New("no list today") }}
	}}
	flaws["misses what stays while others save"] = flaw{"a_list_is_right", func(m storagetest.Store) storagetest.Store {
		return relisted(m, func(keys []string) []string {
			if slices.ContainsFunc(keys, func(k string) bool { return strings.HasPrefix(k, "again") }) {
				return without("still")(keys)
			}
			return keys
		})
	}}
	flaws["lists names of its own while others save"] = flaw{"a_list_is_right", func(m storagetest.Store) storagetest.Store {
		return relisted(m, func(keys []string) []string { return append(keys, "temporary") })
	}}
	return flaws
}

// mute is a store without a List.
type mute struct{ storagetest.Store }

// TestNoListIsNoFlaw: to list is optional.
func TestNoListIsNoFlaw(t *testing.T) {
	t.Run("no method", func(t *testing.T) {
		storagetest.Run(t, func(*testing.T) storagetest.Store { return mute{storage.NewMemory()} })
	})
	t.Run("unsupported", func(t *testing.T) {
		storagetest.Run(t, func(*testing.T) storagetest.Store {
			return storage.Seal(mute{storage.NewMemory()}, fixedKey{})
		})
	})
}
