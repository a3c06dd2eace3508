//go:build (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd

package keyring

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"strings"

	"github.com/freshtoken/freshtoken/internal/secretservice"
	"github.com/godbus/dbus/v5"
)

const (
	supported = true

	// itemLimit is how long the text of one item may be. The Secret Service
	// has no limit, so that an ordinary session is one item; this one keeps a
	// single message on the bus small.
	itemLimit = 32 << 10
)

// precheck asks the Secret Service whether it can be used. go-keyring must not
// be called otherwise: without a bus it starts one, before a locked collection
// it waits for a prompt without end, and every prompt leaks goroutines.
func precheck(ctx context.Context, prompt bool) error {
	check := secretservice.Check
	if prompt {
		check = secretservice.Unlock
	}
	return failureOf(check(ctx))
}

// confirmAbsent asks for the item in all collections, as go-keyring looks into
// one only. That may be another one today than it was when the item was
// written: KeePassXC makes the database whose tab is shown the default one.
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

// failureOf makes a *failure of an error of package secretservice.
func failureOf(err error) error {
	switch {
	case err == nil:
		return nil
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

// systemKind returns the kind of an error of go-keyring's Secret Service
// client, or nil if it is unknown.
func systemKind(err error) error {
	var reply dbus.Error
	if errors.As(err, &reply) {
		switch {
		case reply.Name == "org.freedesktop.Secret.Error.IsLocked":
			return ErrLocked
		case reply.Name == "org.freedesktop.DBus.Error.Disconnected", secretservice.NamesNoProvider(reply.Name):
			return ErrUnavailable
		}
		return nil
	}
	var operation *net.OpError
	var program *exec.Error
	switch {
	case errors.Is(err, dbus.ErrClosed), errors.As(err, &operation), errors.As(err, &program):
		return ErrUnavailable
	// go-keyring has no value for this one, which is what a prompt that was
	// dismissed, or could not be shown, ends in.
	case strings.HasPrefix(err.Error(), "failed to unlock correct collection"):
		return ErrLocked
	}
	return nil
}
