package keyring

import (
	"context"
	"errors"
	"io/fs"
	"os/exec"
)

const (
	supported = true

	// itemLimit is how long the text of one item may be. go-keyring hands it,
	// encoded in base64 once more, to `security -i` in a line that may have
	// 4,096 bytes together with service and account.
	itemLimit = 2560
)

// precheck finds nothing to ask: the keychain cannot be looked at without the
// risk of a prompt, other than by the call itself.
func precheck(context.Context, bool) error { return nil }

// systemKind returns the kind of an error of /usr/bin/security, or nil if it is
// unknown. The exit status is the low byte of the OSStatus.
func systemKind(err error) error {
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		switch exit.ExitCode() {
		case 44: // errSecItemNotFound; go-keyring knows it by its English text
			return errAbsent
		case 36, // errSecInteractionNotAllowed: locked, and nobody can be asked
			51,  // errSecAuthFailed
			128: // errSecUserCanceled
			return ErrLocked
		case 37, // errSecNoDefaultKeychain
			50: // errSecNoSuchKeychain
			return ErrUnavailable
		}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, exec.ErrNotFound):
		return ErrUnavailable // no /usr/bin/security
	}
	return nil
}
