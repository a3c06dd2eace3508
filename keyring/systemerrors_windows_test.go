package keyring_test

import (
	"golang.org/x/sys/windows"

	"github.com/freshtoken/freshtoken/keyring"
)

// systemErrors are those of Credential Manager.
var systemErrors = []errorOfKind{
	{windows.ERROR_NO_SUCH_LOGON_SESSION, keyring.ErrUnavailable},
	{windows.RPC_S_SERVER_UNAVAILABLE, keyring.ErrUnavailable},
	{windows.ERROR_ACCESS_DENIED, nil},
}
