// Package storage keeps sessions: in memory, in sealed files, or sealed in a
// store of your own. Its types satisfy freshtoken.Store.
//
// # Which store
//
//   - A desktop program or a CLI: [NewAppFile], which finds the place.
//   - A service, a container: [NewFile] in a directory on a volume that
//     survives a restart. Mount the directory, not a file in it: a session is
//     replaced by renaming, which a mounted file does not allow. In a pod with
//     an fsGroup use a subdirectory of the volume, which the program makes, and
//     fsGroupChangePolicy: OnRootMismatch. Kubernetes otherwise opens every
//     directory to the group at each mount, and the store refuses it.
//   - Tests, and programs that log in each time: [NewMemory].
//   - A database, or anything else that several machines share: a Store of your
//     own, checked with package storagetest, under [Seal]. Its Lock must
//     exclude all of the machines.
//
// Several processes of one machine may share a directory. Locks are the
// kernel's: they are freed when a process dies, and there is no stale lock to
// remove. A directory on a network file system is no way to share a session
// among machines; such locks often exclude nobody.
//
// # Which key
//
// Files are always encrypted. The key decides what that is worth:
//
//   - In the OS keyring, with NewKey of package keyring: the files open only
//     while the user is logged in. The best choice where there is a keyring.
//   - [KeyFile]: 32 random bytes in a file. It protects backups, synchronised
//     folders and disk images that hold the sealed files and not the key. For
//     servers, with the key file on a secret that the platform mounts, and one
//     for each directory.
//   - [Passphrase]: protects everything while the program is not running, and
//     somebody has to type it or to hand it over.
//   - A [Key] of your own: two methods, for a key management service say.
//
// No key protects against another program of the same user while this one
// runs. There is no silent fallback from one key to another: a key that cannot
// be had is an error.
//
// # What can go wrong
//
// An absent session, and only that, is an error that matches fs.ErrNotExist.
// All else has an error of its own, and the stored bytes stay untouched:
//
//	ErrWrongKey      another passphrase or key    give the right one
//	ErrKeyMissing    the key is gone              restore it, or remove the values
//	ErrNewerVersion  written by a later release   update
//	ErrCorrupt       damaged or swapped           restore, or SetAside and log in
//	ErrUnsafe        a link, open to others       fix it as the error says
//	ErrGone          the directory is not there   bring it back, or restart
//
// Save reads before it writes and fails with these errors too, so that a
// mistyped passphrase never costs a session. SetAside alone moves a damaged
// value away, and destroys nothing, except what a store under [Seal] cannot read
// and has no SetAside for.
//
// # Many sessions
//
// The stores have a List method that returns the keys of what they keep. Keys
// that a file store cannot decrypt it cannot list: what is damaged is left out,
// and the error beside the list says so. [Sealed] lists if the store under it
// does.
//
// # At rest
//
// A value is sealed with AES-256-GCM under a key that is derived, with
// HKDF-SHA-256 and a new salt for each Save, from that of the store. The name
// under which it is stored is sealed with it: a value does not open under
// another name. An attacker who can write to the store can still put back an
// older value of the same name, or remove it.
//
// Files are named by the SHA-256 of the name. They show no name, but whoever
// guesses one can tell whether it is there. The store under [Seal] sees the
// names. The number of values shows, and so does the size of each together with
// its name. Names have up to 65535 bytes, values up to 16 MiB.
//
// Save writes a new file beside the old one, syncs it, renames it over the old
// one and syncs the directory; on Windows, which cannot do that, the rename is
// written through. At any moment, a loss of power included, there
// is the old value or the new one.
package storage
