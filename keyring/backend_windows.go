package keyring

import (
	"context"
	"errors"

	"golang.org/x/sys/windows"
)

const (
	supported = true

	// itemLimit is how long the text of one item may be:
	// CRED_MAX_CREDENTIAL_BLOB_SIZE.
	itemLimit = 2560
)

// precheck finds nothing to ask: Credential Manager never prompts, and is
// unlocked as long as its user is logged on.
func precheck(context.Context, bool) error { return nil }

// confirmAbsent believes Credential Manager, whose error says that it is the
// item that was not found.
func confirmAbsent(context.Context, string, string) error { return nil }

// systemKind returns the kind of an error of Credential Manager, or nil if it
// is unknown.
func systemKind(err error) error {
	switch {
	case errors.Is(err, windows.ERROR_NO_SUCH_LOGON_SESSION), // a network logon, as over ssh
		errors.Is(err, windows.ERROR_NOT_SUPPORTED),
		errors.Is(err, windows.RPC_S_SERVER_UNAVAILABLE):
		return ErrUnavailable
	}
	return nil
}
