package keyring_test

import (
	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/storage"
)

// What other packages expect, which keyring keeps without importing them.
var (
	_ freshtoken.Store       = (*keyring.Store)(nil)
	_ freshtoken.Quarantiner = (*keyring.Store)(nil)
	_ storage.Key            = (*keyring.Key)(nil)
)
