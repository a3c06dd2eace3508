//go:build !windows && !plan9

package login

import "syscall"

// How the system says why a port cannot be had.
const (
	errInUse    = syscall.EADDRINUSE
	errNoAddr   = syscall.EADDRNOTAVAIL
	errNoFamily = syscall.EAFNOSUPPORT
)
