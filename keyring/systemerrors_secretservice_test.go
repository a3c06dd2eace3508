//go:build (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd

package keyring_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"syscall"

	"github.com/godbus/dbus/v5"

	"github.com/freshtoken/freshtoken/keyring"
)

// systemErrors are what go-keyring has been seen to return.
var systemErrors = []errorOfKind{
	{&exec.Error{Name: "dbus-launch", Err: exec.ErrNotFound}, keyring.ErrUnavailable},
	{&net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.ENOENT)}, keyring.ErrUnavailable},
	{&net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, keyring.ErrUnavailable},
	{dbus.Error{Name: "org.freedesktop.DBus.Error.ServiceUnknown"}, keyring.ErrUnavailable},
	{dbus.Error{Name: "org.freedesktop.DBus.Error.NoReply"}, keyring.ErrUnavailable},
	{dbus.Error{Name: "org.freedesktop.DBus.Error.AccessDenied"}, keyring.ErrUnavailable},
	{dbus.Error{Name: "org.freedesktop.DBus.Error.Spawn.PermissionsInvalid"}, keyring.ErrUnavailable},
	{dbus.ErrClosed, keyring.ErrUnavailable},
	{dbus.Error{Name: "org.freedesktop.Secret.Error.IsLocked"}, keyring.ErrLocked},
	{errors.New("failed to unlock correct collection '/org/freedesktop/secrets/aliases/default'"), keyring.ErrLocked},
	{dbus.Error{Name: "org.freedesktop.DBus.Error.Failed", Body: []any{"Couldn't create item"}}, nil},
	{dbus.Error{Name: "org.freedesktop.Secret.Error.NoSuchObject"}, nil},
}
