//go:build !unix

package freshtoken

import "os"

func openTokenFile(path string) (*os.File, error) { return os.Open(path) }
