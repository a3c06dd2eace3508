// Package storagetest checks that a store keeps the contract of
// freshtoken.Store.
package storagetest

import (
	"context"
	"testing"
)

// A Store is what is tested: freshtoken.Store, stated again so that a backend
// and its tests need not import that package.
type Store interface {
	Load(ctx context.Context, key string) ([]byte, error)
	Save(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error
	Lock(ctx context.Context, key string) (unlock func() error, err error)
}

// Run checks a store within this process. It calls open for every subtest, and
// each call must return an empty store; open registers with t.Cleanup what is
// to be cleaned up.
func Run(t *testing.T, open func(t *testing.T) Store) {
	t.Run("absent", func(t *testing.T) { testAbsent(t, open(t)) })
	t.Run("save and load", func(t *testing.T) { testSaveLoad(t, open(t)) })
	t.Run("sizes", func(t *testing.T) { testSizes(t, open(t)) })
	t.Run("delete", func(t *testing.T) { testDelete(t, open(t)) })
	t.Run("aliasing", func(t *testing.T) { testAliasing(t, open(t)) })
	t.Run("keys that differ never meet", func(t *testing.T) { testKeys(t, open(t)) })
}
