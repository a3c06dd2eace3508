package keyring

// backend is a keyring as go-keyring shows it: blocking calls without a
// context, gokeyring.ErrNotFound where nothing is stored. A *failure that it
// returns is taken as it is.
type backend interface {
	Get(service, account string) (text string, err error)
	Set(service, account, text string) error
	Delete(service, account string) error
}

// system is the gate to the OS keyring. It is shared by all stores and keys of
// the program because what it guards is: the keyring bears one call at a time
// (KeePassXC crashes under a hundred), and a call that hangs hangs for all.
var system = newGate(osKeyring{}, precheck, confirmAbsent)
