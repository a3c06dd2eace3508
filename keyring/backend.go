package keyring

import gokeyring "github.com/zalando/go-keyring"

// backend is a keyring as go-keyring shows it: blocking calls without a
// context, gokeyring.ErrNotFound where nothing is stored.
type backend interface {
	Get(service, account string) (text string, err error)
	Set(service, account, text string) error
	Delete(service, account string) error
}

// osKeyring is the keyring of the operating system.
type osKeyring struct{}

func (osKeyring) Get(service, account string) (string, error) { return gokeyring.Get(service, account) }
func (osKeyring) Set(service, account, text string) error {
	return gokeyring.Set(service, account, text)
}
func (osKeyring) Delete(service, account string) error { return gokeyring.Delete(service, account) }

// system is the gate to the OS keyring. It is shared by all stores and keys of
// the program because what it guards is: the keyring bears one call at a time
// (KeePassXC crashes under a hundred), and a call that hangs hangs for all.
var system = newGate(osKeyring{}, precheck, confirmAbsent)
