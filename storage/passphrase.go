package storage

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/crypto/argon2"
)

// Passphrase returns a [Key] that is derived from a passphrase with argon2id,
// at the cost that RFC 9106 section 4 recommends second: 64 MiB of memory,
// three passes, four lanes; some 0.1 to 0.5 seconds. Each store has a salt of
// its own, and a key once derived is remembered, so that the cost falls on the
// first Load or Save.
//
// ask is called once, when the first key is derived; again only if it failed.
// It may wait for a human: a caller whose context is done leaves it waiting.
// What it returns is copied and zeroed; it must not be empty. The copy stays in
// memory, since another store has another salt. An error of ask is passed on
// without what it wraps. After [ErrWrongKey], which may be a mistyped
// passphrase, make a new Key and a new store to ask again.
func Passphrase(ask func() ([]byte, error)) Key {
	return &passphrase{label: "storage.Passphrase", ask: ask, turn: make(chan struct{}, 1)}
}

type passphrase struct {
	label
	ask  func() ([]byte, error)
	turn chan struct{} // holds one element while the fields below are in use

	secret  []byte // nil: not yet asked for
	derived []derivedKey
}

type derivedKey struct{ params, key []byte }

// maxDerived bounds the keys that are remembered.
const maxDerived = 8

// The parameters in the header:
//
//	0   1   kind: 1, argon2id of version 0x13
//	1   4   passes
//	5   4   memory in KiB
//	9   1   lanes
//	10  16  salt
//
// They are read from a file before anything vouches for it, hence the bounds:
// without them a damaged or planted file could take all memory, or hours. Our
// own are in the middle, so that later releases can raise them.
const (
	kindArgon2id = 1
	paramsSize   = 26

	ourPasses, minPasses, maxPasses = 3, 1, 16
	ourMemory, minMemory, maxMemory = 64 << 10, 8 << 10, 512 << 10
	ourLanes, minLanes, maxLanes    = 4, 1, 16
)

// Get implements [Key].
func (p *passphrase) Get(ctx context.Context, params []byte) ([]byte, error) {
	switch {
	case params == nil:
		return nil, fmt.Errorf("storage: no key without a salt: %w", fs.ErrNotExist)
	case len(params) == 0 || params[0] != kindArgon2id:
		return nil, fmt.Errorf("storage: %w: the data was sealed with a key that is no passphrase: give that key", ErrWrongKey)
	case len(params) != paramsSize:
		return nil, damaged("the parameters of the passphrase are cut short")
	}
	passes := binary.BigEndian.Uint32(params[1:])
	memory := binary.BigEndian.Uint32(params[5:])
	lanes := params[9]
	if passes < minPasses || passes > maxPasses || memory < minMemory || memory > maxMemory || lanes < minLanes || lanes > maxLanes {
		return nil, damaged(fmt.Sprintf("deriving its key would take %d passes over %d KiB in %d lanes, which no release of this program asks for",
			passes, memory, lanes))
	}
	return p.derive(ctx, bytes.Clone(params))
}

// New implements [Key]: it takes a new salt.
func (p *passphrase) New(ctx context.Context) (key, params []byte, err error) {
	params = make([]byte, paramsSize)
	params[0] = kindArgon2id
	binary.BigEndian.PutUint32(params[1:], ourPasses)
	binary.BigEndian.PutUint32(params[5:], ourMemory)
	params[9] = ourLanes
	rand.Read(params[10:])
	key, err = p.derive(ctx, params)
	return key, params, err
}

// errAskExit is the error of an ask that ends its goroutine.
var errAskExit = errors.New("storage: the function that asks for the passphrase has ended without returning")

// derive returns the key for params, asking for the passphrase if need be. The
// work is done by a goroutine that outlives an impatient caller and remembers
// its result for the next one: neither a human nor argon2 can be interrupted.
func (p *passphrase) derive(ctx context.Context, params []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for _, d := range p.derived {
		if bytes.Equal(d.params, params) {
			<-p.turn
			return d.key, nil
		}
	}
	type result struct {
		key []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-p.turn }()
		r := result{err: errAskExit}
		defer func() { done <- r }()
		r.key, r.err = p.work(params)
	}()
	select {
	case r := <-done:
		return r.key, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// work is called by whoever has the turn.
func (p *passphrase) work(params []byte) ([]byte, error) {
	if p.secret == nil {
		if p.ask == nil {
			return nil, errors.New("storage: Passphrase was given no function to ask")
		}
		secret, err := p.ask()
		if err != nil {
			clear(secret)
			// Not wrapped: a passphrase file that does not exist is no absent session.
			return nil, fmt.Errorf("storage: ask for the passphrase: %v", err)
		}
		if len(secret) == 0 {
			return nil, errors.New("storage: the passphrase is empty")
		}
		p.secret = bytes.Clone(secret)
		clear(secret)
	}
	key := argon2.IDKey(p.secret, params[10:], binary.BigEndian.Uint32(params[1:]), binary.BigEndian.Uint32(params[5:]), params[9], KeySize)
	if len(p.derived) == maxDerived {
		p.derived = append(p.derived[:0], p.derived[1:]...)
	}
	p.derived = append(p.derived, derivedKey{params, key})
	return key, nil
}
