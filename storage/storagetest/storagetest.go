// Package storagetest checks that a store keeps the contract of
// freshtoken.Store. It is for whoever writes one: a store that passes [Run]
// serves one process, one that passes [RunProcesses] as well serves several.
//
//	func TestStore(t *testing.T) {
//		storagetest.Run(t, func(t *testing.T) storagetest.Store {
//			return mystore.Open(t.TempDir())
//		})
//	}
//
//	func TestProcesses(t *testing.T) {
//		storagetest.RunProcesses(t, "", func(t *testing.T, dir string) storagetest.Store {
//			return mystore.Open(dir)
//		})
//	}
//
// What no test here can show: that a value survives the loss of power, and
// that a store on a network file system excludes another machine.
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

// Run checks a store within this process: what is absent and what is not,
// sizes, keys that nearly coincide, whole values under concurrent writers,
// mutual exclusion of Lock, contexts, and that no goroutine stays. If the store
// is a freshtoken.Lister as well, its List is checked, too; that it is not, or
// that its List fails with errors.ErrUnsupported, is no failure.
//
// It calls open once for every subtest. Each call returns an empty store, and
// registers with t.Cleanup what has to be cleaned up. A store that cannot keep
// values of a megabyte, or is slow, is better tested over a fake of its backend.
func Run(t *testing.T, open func(t *testing.T) Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Store)
	}{
		{"absent is fs.ErrNotExist", testAbsent},
		{"what was saved is loaded", testSaveLoad},
		{"sizes", testSizes},
		{"what was deleted is absent", testDelete},
		{"bytes are the caller's to modify", testAliasing},
		{"keys that differ never meet", testKeys},
		{"concurrent readers see whole values", testWhole},
		{"what is stored is listed", testList},
		{"a list is right while others save", testListWhile},
		{"a lock can be taken again", testUnlockThenLock},
		{"locks of other keys are free", testLocksOfOtherKeys},
		{"a lock excludes goroutines", testExclusion},
		{"a waiter gets the lock that is freed", testHandover},
		{"a waiter honours its context", testWaiting},
		{"a cancelled context is honoured", testCancelled},
		{"no goroutine stays", testGoroutines},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}
