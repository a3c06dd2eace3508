package storage

import "context"

// KeySize is the length of a key in bytes.
const KeySize = 32

// A Key supplies the 32-byte key under which a store seals its values.
// [Passphrase] and [KeyFile] make one; package keyring has one that the OS
// keyring holds. A Key may serve several stores and is safe for concurrent use.
//
// The store decides when a key may be made, the Key only how. To open a value
// the store calls Get with the parameters from the value's header. To seal a
// new session it looks whether sealed values exist: if so, it calls Get with
// the parameters of one of them and compares, or with nil if none of them can
// be read; if there are none, it takes the store's lock for this purpose, looks
// again, calls Get with nil, and New only if that says fs.ErrNotExist. So a key
// that has been lost is reported as [ErrKeyMissing], and a store that has
// sealed values does not put a fresh one in its place. The store remembers the
// keys that it was given, so that Get need not.
//
// That promise holds for one store. A store cannot see the values of another:
// where two share a key that is kept somewhere, and it is lost, the one that
// has no values yet makes a new one, and a backup of the old one then has to
// replace that. Give each directory a key of its own.
//
// Both methods honour ctx. Neither retains or modifies params, and neither
// puts the key into an error. The store does not modify the key it is given,
// nor params.
type Key interface {
	// Get returns the key that was made with params: those that New returned
	// with it, read back from the header of a sealed value, and not to be
	// trusted until the store has checked the key against that header. A Key
	// whose New returns no parameters has one key, and ignores params.
	//
	// With nil params the store asks for the key that is to seal the first
	// value. A Key whose key lies somewhere returns it if it exists; a Key
	// that makes keys from parameters returns fs.ErrNotExist.
	//
	// The error matches fs.ErrNotExist only where it is certain that the key
	// was never made, or has been removed. Locked, unavailable, damaged and
	// timed out are other errors: on fs.ErrNotExist a new key may be made.
	Get(ctx context.Context, params []byte) (key []byte, err error)

	// New makes the key, keeps it where Get will find it, and returns it once
	// it has been read back from there, with the parameters that Get needs to
	// find it again: at most 255 bytes that are no secret, or nil. If the key
	// has come into being since Get was asked, say by another store that
	// shares it, New returns that one.
	New(ctx context.Context) (key, params []byte, err error)
}
