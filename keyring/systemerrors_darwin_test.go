package keyring_test

import (
	"fmt"
	"io/fs"
	"os/exec"

	"github.com/freshtoken/freshtoken/keyring"
)

// systemErrors are the exit statuses of /usr/bin/security.
var systemErrors = []errorOfKind{
	{exit(44), fs.ErrNotExist},
	{exit(36), keyring.ErrLocked},
	{exit(51), keyring.ErrLocked},
	{exit(128), keyring.ErrLocked},
	{exit(37), keyring.ErrUnavailable},
	{exit(50), keyring.ErrUnavailable},
	{exit(45), nil},
	{exit(1), nil},
}

// exit returns the error of a program that exits with status.
func exit(status int) error {
	return exec.Command("/bin/sh", "-c", fmt.Sprintf("exit %d", status)).Run()
}
