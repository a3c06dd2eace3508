//go:build !(darwin || windows || (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd)

package keyring

import "context"

// go-keyring has no keyring here: every call ends in ErrUnavailable.
const (
	supported = false
	itemLimit = 2560
)

func precheck(context.Context, bool) error { return fail(ErrUnavailable, nil) }

func confirmAbsent(context.Context, string, string) error { return fail(ErrUnavailable, nil) }

func systemKind(error) error { return nil }
