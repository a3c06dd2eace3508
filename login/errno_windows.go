package login

import "golang.org/x/sys/windows"

// How the system says why a port cannot be had. Package syscall has other
// numbers under these names, which no call returns.
const (
	errInUse    = windows.WSAEADDRINUSE
	errNoAddr   = windows.WSAEADDRNOTAVAIL
	errNoFamily = windows.WSAEAFNOSUPPORT
)
