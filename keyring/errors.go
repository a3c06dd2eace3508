package keyring

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"

	gokeyring "github.com/zalando/go-keyring"
)

// The errors of this package to branch on, with errors.Is. None of them
// matches fs.ErrNotExist: that a session or a key is absent is what only the
// keyring's own "not found" says. An error that matches none of them and not
// fs.ErrNotExist either is a failure nobody knows; it proves nothing.
var (
	// ErrLocked says that the keyring is there but has to be unlocked, or that
	// whoever was asked to allow the access did not.
	ErrLocked = errors.New("the keyring is locked")

	// ErrUnavailable says that there is no keyring that could be used: none on
	// this system, no session bus, no Secret Service, no logon session.
	ErrUnavailable = errors.New("no keyring is available")

	// ErrTooBig says that a value exceeds what is kept in a keyring: 1 MiB
	// for a [Store]. Nothing was written.
	ErrTooBig = errors.New("the value is too big for the keyring")

	// ErrTimeout says that the keyring did not answer in time. It does not
	// prove that nothing happened: the call may still take effect. It is not
	// what a context that is done yields; that is the context's own error.
	ErrTimeout = errors.New("the keyring did not answer in time")
)

// What to do about an error stands at the end of its text.
const (
	adviseUnlock    = "unlock it in the program that manages it, such as Seahorse or KeePassXC, or by logging in to the desktop, then try again"
	adviseUnlockMac = "unlock it in Keychain Access (over ssh: security unlock-keychain), then try again"
	adviseElsewhere = "install and start a keyring (Linux: gnome-keyring or KeePassXC), or " + adviseKey
	adviseKey       = "give a file store another key: storage.KeyFile or storage.Passphrase"
	adviseWait      = "look for a prompt that waits for an answer, and raise Options.Timeout where a person has to unlock the keyring"
	adviseSize      = "keep the session in a file: storage.NewFile with keyring.NewKey"
)

// advice returns what the user should do about an error of this kind.
func advice(kind error) string {
	switch kind {
	case ErrLocked:
		if runtime.GOOS == "darwin" {
			return adviseUnlockMac
		}
		return adviseUnlock
	case ErrUnavailable:
		return adviseElsewhere
	case ErrTimeout:
		return adviseWait
	case ErrTooBig:
		return adviseSize
	}
	return "look at the keyring with the program of the system that manages it"
}

// failure is an error of one kind. Its text holds neither a key nor a value:
// it is made of constants, of the service, and of what the system said.
type failure struct {
	kind  error // one of the above, or nil: unknown
	text  string
	cause error // nil, or what the system said, fit to be unwrapped
}

func (f *failure) Error() string { return "keyring: " + f.text }

func (f *failure) Is(target error) bool { return f.kind != nil && target == f.kind }

func (f *failure) Unwrap() error { return f.cause }

// fail makes a failure of the given kind. The cause is named in the text, but
// unwrapped only where that cannot mislead: a missing socket or a missing
// helper program matches fs.ErrNotExist, which from a store means that nothing
// is stored; and a deadline of our own is not the caller's.
func fail(kind error, cause error) *failure { return failFor(kind, cause, advice(kind)) }

// failFor is fail with other advice than the kind has.
func failFor(kind, cause error, advice string) *failure {
	f := &failure{kind: kind}
	what := "the keyring failed"
	if kind != nil {
		what = kind.Error()
	}
	if cause != nil {
		what += ": " + cause.Error()
		if !misleads(cause) {
			f.cause = cause
		}
	}
	f.text = what + ": " + advice
	return f
}

// during puts what was being done before the text of a *failure. Other errors
// it returns as they are.
func during(doing string, err error) error {
	f, ok := err.(*failure)
	if !ok {
		return err
	}
	named := *f
	named.text = doing + ": " + f.text
	return &named
}

func misleads(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// Reasons that recur as the cause of a failure.
var (
	errNotStored = errors.New("it reported success but stored nothing, as after a prompt that was dismissed")
	errStillHere = errors.New("it reported success but deleted nothing, as after a prompt that was dismissed")
	errAltered   = errors.New("it returns something else than was written")
	errStuck     = errors.New("an earlier call has not returned yet; if no prompt waits for an answer, it never will, and keeps other programs waiting: restart this program")
	errKept      = errors.New("the lock is kept until a write that was given up has returned")
	errOccupied  = errors.New("another process has been writing all the time; if it hangs, restart it")
)

// errAbsent is what a keyring's positive "not found" becomes.
var errAbsent = errors.New("not found in the keyring")

// errElsewhere is the cause of the failure that elsewhere returns.
var errElsewhere = errors.New("the item is in a collection that is not the default one")

// elsewhere is what becomes of "not found" where the keyring has the item after
// all, though not where a call looks.
func elsewhere() *failure {
	return &failure{
		text: errElsewhere.Error() + ": make the collection that holds it the default one " +
			"(KeePassXC: show the tab of its database), or delete the item there, and try again",
		cause: errElsewhere,
	}
}

// classify makes an error of this package of what a backend returned: nil,
// errAbsent or a *failure.
func classify(err error) error {
	if f, ok := err.(*failure); ok {
		return f
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, gokeyring.ErrNotFound):
		return errAbsent
	case errors.Is(err, gokeyring.ErrSetDataTooBig):
		return fail(ErrTooBig, nil)
	case errors.Is(err, gokeyring.ErrUnsupportedPlatform):
		return fail(ErrUnavailable, err)
	}
	kind := systemKind(err)
	if kind == errAbsent {
		return errAbsent
	}
	return fail(kind, err)
}

// damaged says that what the keyring holds is no item of ours, or not whole.
// It has the method by which the root package recognises damage.
type damaged struct{ what string }

func (d *damaged) Error() string {
	return fmt.Sprintf("keyring: the stored item is damaged (%s): log in again, or delete it with the program of the system that manages the keyring", d.what)
}

// Corrupt reports that the value cannot be had back.
func (d *damaged) Corrupt() bool { return true }

// errNewer says that a newer release wrote the item.
var errNewer = errors.New("keyring: the stored item was written by a newer version of this program: use that version, or log out with it first")
