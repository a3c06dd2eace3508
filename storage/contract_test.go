package storage_test

import (
	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/storage"
)

var (
	_ freshtoken.Store = (*storage.Memory)(nil)
	_ freshtoken.Store = (*storage.File)(nil)
	_ freshtoken.Store = (*storage.Sealed)(nil)

	_ freshtoken.Lister = (*storage.Memory)(nil)
	_ freshtoken.Lister = (*storage.File)(nil)
	_ freshtoken.Lister = (*storage.Sealed)(nil)

	_ freshtoken.Quarantiner = (*storage.File)(nil)
	_ freshtoken.Quarantiner = (*storage.Sealed)(nil)
)
