//go:build !((dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd)

package keyring

import gokeyring "github.com/zalando/go-keyring"

// osKeyring is the keyring of the operating system.
type osKeyring struct{}

func (osKeyring) Get(service, account string) (string, error) { return gokeyring.Get(service, account) }
func (osKeyring) Set(service, account, text string) error {
	return gokeyring.Set(service, account, text)
}
func (osKeyring) Delete(service, account string) error { return gokeyring.Delete(service, account) }
