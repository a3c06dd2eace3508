//go:build unix

package storage

// CheckKeyMode judges a key file by its mode and owner.
var CheckKeyMode = checkKeyMode
