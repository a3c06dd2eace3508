// Package keyring keeps sessions, or the key of a store of sealed files, in the
// keyring of the operating system.
//
// # A key or a store
//
// Two things can lie in the keyring:
//
//	store, err := storage.NewAppFile("myapp", keyring.NewKey("myapp")) // the key
//	store, err := keyring.NewStore("myapp")                            // the session
//
// [NewKey] keeps 32 bytes there, and the sessions lie in files sealed with
// them. Take it if in doubt: the keyring is asked once in a process, it is
// written once in its life, and no session is too big for it. What it costs is
// a directory for the files; both halves are needed to read a session.
//
// [NewStore] keeps the sessions themselves there and writes no file but empty
// lock files. Take it where nothing of a session may lie on a disk outside the
// keyring, or where removing the item in the system's keyring manager is to
// log the program out. It asks the keyring at every load and save, and on
// macOS each of these starts a process. A session beyond the size of an item
// is split; a crash at any point leaves the old session or the new one.
//
// Neither falls back to anything. A program that is to work without a keyring
// asks [Probe] and chooses:
//
//	var key storage.Key = keyring.NewKey("myapp")
//	if err := keyring.Probe(ctx); err != nil {
//		log.Print(err) // says what to install, unlock or use instead
//		key = storage.Passphrase(askForPassphrase)
//	}
//
// Make that choice once, and keep it in the program's configuration: two
// stores that take turns diverge, and a session that is in the other one looks
// like none.
//
// # Errors
//
// Absent, locked, unavailable, too big and timed out are five errors:
// fs.ErrNotExist, [ErrLocked], [ErrUnavailable], [ErrTooBig] and [ErrTimeout].
// Only the first says that there is no session. An error that is none of them
// is a failure nobody has described yet, and proves nothing. No error, and no
// way of printing a type of this package, shows a key or a value.
//
// Keyrings report success for writes that never happened, for instance when
// the user dismisses a prompt. Each write is read back, and each deletion is
// checked, before it counts.
//
// # Deadlines and prompts
//
// Calls to a keyring know no context, and may wait for a person or hang. Every
// call has Options.Timeout, 3 seconds as a rule, and ends early when its
// context does. It then goes on unseen, and may still take effect. Therefore:
//
//   - the program makes one call at a time, all stores and keys together, and
//     none while a call that was given up still runs;
//   - the locks under which a write ran stay locked until it has returned;
//   - after a timeout nothing is asked for 10 seconds, and after a refused
//     prompt for 10 seconds, then 20, up to an hour: calls fail at once, with
//     the error that led to it. Whoever declines to unlock the keyring and then
//     unlocks it after all ends that time at once.
//
// Raise Options.Timeout where a person sits in front of the program and may
// have to unlock the keyring.
//
// # Linux and BSD
//
// The keyring is the Secret Service on the session bus: gnome-keyring,
// KeePassXC, KWallet from 5.97 on. Items lie in the collection "login", else
// in the default one. Before each call the service is asked whether that
// collection is there and unlocked, which takes a few milliseconds. So a
// machine without a bus or a service, a container for instance, gets
// ErrUnavailable at once; a locked keyring is ErrLocked, and nobody is asked
// unless Options.Prompt is set. What is not found there is looked for in all
// other collections before it counts as absent, as the default one may have
// changed: KeePassXC makes it the database whose tab is shown. An item that is
// found elsewhere, or is locked there, is an error that says so. (Of a locked
// database that is not the default one KeePassXC tells nothing.) The item's text
// crosses the bus as it is: the bus belongs to the user, like the keyring. Items
// are those that github.com/zalando/go-keyring would find. FreeBSD and DragonFly
// need cgo.
//
// KeePassXC asks whether a program may read or write an item, unless that is
// turned off in its settings, and once for each process: give Options.Timeout the
// time for it, or prefer a [Key], which is read once. Its version 2.7.4, which
// saves after every change by default, crashes when many items are created in
// quick succession, by whatever program; a session that fits one item, as any
// ordinary one does, is created once, and from then on replaced.
//
// # macOS
//
// The keyring is the login keychain, by way of /usr/bin/security. That program
// gets the item's text on its standard input when it writes, so that the
// process list never shows it; the service and the account, a hash, stand in
// the process list for that moment. The keychain knows the security program as
// the owner of the item, not yours: any program of the same user can have it
// read the item without a prompt. What that program does not find counts as
// absent only if there is a default keychain. A locked keychain, as over ssh, is
// ErrLocked, or prompts. An item is up to 2,560 bytes.
//
// # Windows
//
// The keyring is Credential Manager, with generic credentials of this machine.
// It never prompts. It is not there in a session without a logon, as over ssh.
// An item is up to 2,560 bytes.
//
// # Elsewhere
//
// There is no keyring on other systems: [NewStore] and the use of a [Key] fail
// with ErrUnavailable.
//
// # Locks
//
// Writers take a kernel lock on a file of the user's home, and [Store.Lock]
// takes another. The keyring belongs to the user and not to the environment,
// so the home is that of the user database. Programs that share items across
// containers, or whose home is on a file system without locks, name a common
// directory as Options.LockDir. The files are empty and are never removed.
package keyring
