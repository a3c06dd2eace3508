//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package filelock

import (
	"errors"
	"fmt"
	"runtime"
)

const supported = false

func tryLock(path string) (unlock func() error, err error) {
	return nil, fmt.Errorf("lock %s: %s has no file locks that its kernel frees: %w", path, runtime.GOOS, errors.ErrUnsupported)
}
