package keyring

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"time"
)

const (
	supported = true

	// itemLimit is how long the text of one item may be. go-keyring hands it,
	// encoded in base64 once more, to `security -i` in a line that may have
	// 4,096 bytes together with service and account.
	itemLimit = 2560

	// securityProgram is how go-keyring reaches the keychain.
	securityProgram = "/usr/bin/security"
)

// precheck asks nothing. Whether the keychain is unlocked shows only in the call
// itself, and whether there is one matters only where the call finds nothing:
// that is for confirmAbsent.
func precheck(context.Context, bool) error { return nil }

// confirmAbsent makes sure that what was not found is the item, and not the
// keychain.
func confirmAbsent(ctx context.Context, _, _ string) error {
	return keychainThere(ctx, func(ctx context.Context, args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, securityProgram, args...)
		cmd.WaitDelay = time.Second
		return cmd.Output()
	}, os.Stat)
}

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
