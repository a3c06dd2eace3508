//go:build !(darwin || windows || (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd)

package keyring_test

// systemErrors are none: there is no keyring.
var systemErrors []errorOfKind
