//go:build (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd

package keyring

import (
	"context"
	"errors"

	gokeyring "github.com/zalando/go-keyring"

	"github.com/freshtoken/freshtoken/internal/secretservice"
)

const (
	supported = true

	// itemLimit is how long the text of one item may be. The Secret Service
	// has no limit, so that an ordinary session is one item; this one keeps a
	// single message on the bus small.
	itemLimit = 32 << 10
)

// precheck asks the Secret Service whether it can be used, with a deadline: the
// call itself has none.
func precheck(ctx context.Context, prompt bool) error {
	check := secretservice.Check
	if prompt {
		check = secretservice.Unlock
	}
	return failureOf(check(ctx))
}

// confirmAbsent asks for the item in all collections, as a call looks into one
// only. That may be another one today than it was when the item was written:
// KeePassXC makes the database whose tab is shown the default one.
func confirmAbsent(ctx context.Context, service, account string) error {
	unlocked, locked, err := secretservice.Search(ctx, service, account)
	switch {
	case err != nil:
		return failureOf(err)
	case locked > 0:
		return &failure{kind: ErrLocked, text: ErrLocked.Error() + ": the item is in a collection that is locked: " +
			"unlock it in the program of the system that manages the keyring, make it the default one, and try again"}
	case unlocked > 0:
		return elsewhere()
	}
	return nil
}

// failureOf makes a *failure of an error of package secretservice, unless that
// is its "not found".
func failureOf(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, secretservice.ErrNotFound):
		return gokeyring.ErrNotFound
	case err == secretservice.ErrLocked: // which says no more than ours
		return fail(ErrLocked, nil)
	case errors.Is(err, secretservice.ErrLocked):
		return fail(ErrLocked, err)
	case errors.Is(err, secretservice.ErrNoBus):
		return failFor(ErrUnavailable, err, "run the program in a desktop session; on a server or in a container, "+adviseKey)
	case errors.Is(err, secretservice.ErrNoProvider):
		return failFor(ErrUnavailable, err, "install and start gnome-keyring, or KeePassXC with its Secret Service enabled, or "+adviseKey)
	case errors.Is(err, secretservice.ErrTimeout):
		return fail(ErrTimeout, err)
	case errors.Is(err, secretservice.ErrBroken):
		return fail(nil, err)
	}
	return fail(ErrUnavailable, err)
}

// systemKind knows nothing: what the Secret Service says, failureOf has named.
func systemKind(error) error { return nil }

// osKeyring is the Secret Service.
type osKeyring struct{}

func (osKeyring) Get(service, account string) (string, error) {
	text, err := secretservice.Get(service, account)
	return text, failureOf(err)
}

func (osKeyring) Set(service, account, text string) error {
	return failureOf(secretservice.Set(service, account, text))
}

func (osKeyring) Delete(service, account string) error {
	return failureOf(secretservice.Delete(service, account))
}
