//go:build !((dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd)

package keyring_test

import "testing"

// testChanging needs a Secret Service.
func testChanging(t *testing.T) { t.Fatal("this system has no Secret Service") }
