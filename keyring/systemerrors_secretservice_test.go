//go:build (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd

package keyring_test

import (
	"fmt"
	"io/fs"

	"github.com/freshtoken/freshtoken/internal/secretservice"
	"github.com/freshtoken/freshtoken/keyring"
)

// systemErrors are those of the Secret Service.
var systemErrors = []errorOfKind{
	{keyring.FailureOf(secretservice.ErrNotFound), fs.ErrNotExist},
	{keyring.FailureOf(secretservice.ErrNoBus), keyring.ErrUnavailable},
	{keyring.FailureOf(secretservice.ErrDeadBus), keyring.ErrUnavailable},
	{keyring.FailureOf(secretservice.ErrNoProvider), keyring.ErrUnavailable},
	{keyring.FailureOf(secretservice.ErrNoCollection), keyring.ErrUnavailable},
	{keyring.FailureOf(secretservice.ErrLocked), keyring.ErrLocked},
	{keyring.FailureOf(fmt.Errorf("%w (Cannot create the item)", secretservice.ErrLocked)), keyring.ErrLocked},
	{keyring.FailureOf(fmt.Errorf("%w (Cannot create the item)", secretservice.ErrBroken)), nil},
	{keyring.FailureOf(secretservice.ErrTimeout), keyring.ErrTimeout},
}
