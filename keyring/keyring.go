package keyring

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"time"

	"github.com/freshtoken/freshtoken/internal/filelock"
)

// defaultTimeout is the deadline of one call to the keyring. Answers take
// milliseconds; what takes longer waits for a person or hangs.
const defaultTimeout = 3 * time.Second

// Options adjust a [Store], a [Key] or [Probe]. The zero value is right for
// programs that must not wait for anybody.
type Options struct {
	// Timeout bounds each single call to the keyring. Zero means 3 seconds.
	// Set it to a minute or so where a person may have to unlock the keyring
	// or to allow the access: on macOS and with KeePassXC nothing else gives
	// them the time.
	Timeout time.Duration

	// Prompt lets the Secret Service (Linux, BSD) ask the person at the screen
	// to unlock a locked keyring, within Timeout. Without it a locked keyring
	// is ErrLocked at once. macOS decides itself whether to ask.
	Prompt bool

	// LockDir is the directory of the lock files, which must be the same for
	// all programs that share the keyring's items; it is made if missing.
	// Empty means a directory in the user's home, as the user database has
	// it: the keyring belongs to the user, so the variables HOME and
	// XDG_STATE_HOME have no say. (A program built without cgo that does not
	// find the user in /etc/passwd falls back to HOME.)
	LockDir string
}

// withDefaults returns the options of a variadic parameter, completed.
func withDefaults(options []Options) (Options, error) {
	var o Options
	switch len(options) {
	case 0:
	case 1:
		o = options[0]
	default:
		return o, errors.New("keyring: more than one Options given: merge them into one")
	}
	if o.Timeout < 0 {
		return o, fmt.Errorf("keyring: Options.Timeout is negative (%v): leave it zero for %v", o.Timeout, defaultTimeout)
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	return o, nil
}

// serviceForm is what a service may be: text that no keyring, no command line
// and no file system takes for something else.
var serviceForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func checkService(service string) error {
	if !serviceForm.MatchString(service) {
		return fmt.Errorf("keyring: the service %q is not 1 to 64 characters out of A-Z a-z 0-9 . _ - : name it after your program", service)
	}
	return nil
}

// Probe reports whether the keyring can be used right now: nil, or one of the
// errors of this package with advice in its text. It never prompts, starts
// nothing that a first use of the keyring would not start, and returns within
// the timeout (Options.Timeout, as a rule 3 seconds) or when ctx is done.
//
// Call it before a login, not after: a user who has just come back from the
// browser should not learn only then that the session cannot be kept. That
// Probe returned nil does not mean that a write will be allowed; on macOS it
// finds out that the keychain answers, not that it is unlocked.
func Probe(ctx context.Context, options ...Options) error {
	o, err := withDefaults(options)
	if err != nil {
		return err
	}
	return probe(ctx, system, o)
}

func probe(ctx context.Context, g *gate, o Options) error {
	o.Prompt = false
	limited, cancel := context.WithTimeoutCause(ctx, o.Timeout, errProbeTime)
	defer cancel()
	s := items{gate: g, service: "freshtoken", opts: o}
	// An item that never exists: the search for it needs no permission.
	_, err := s.get(limited, accountOf("probe", s.service, ""))
	switch {
	case err == nil, err == errAbsent:
		return nil
	case ctx.Err() == nil && context.Cause(limited) == errProbeTime && !errors.Is(err, ErrTimeout):
		return fail(ErrTimeout, errProbeTime)
	}
	return err
}

var errProbeTime = errors.New("it is busy, perhaps with other calls of this program")

// lockDir returns the directory of the lock files, made if missing.
func (o Options) lockDir() (string, error) {
	dir := o.LockDir
	if dir == "" {
		u, err := user.Current()
		if err != nil || u.HomeDir == "" {
			return "", fmt.Errorf("keyring: the user database names no home directory for the lock files: set Options.LockDir (%v)", err)
		}
		dir = filepath.Join(u.HomeDir, stateDir(), "freshtoken", "locks")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", lockFailed(err)
	}
	return dir, nil
}

// stateDir is where in a home directory programs keep what is not for people.
func stateDir() string {
	switch runtime.GOOS {
	case "darwin":
		return filepath.Join("Library", "Application Support")
	case "windows":
		return filepath.Join("AppData", "Local")
	}
	return filepath.Join(".local", "state")
}

// lock waits for the kernel's lock of a file in the lock directory. It frees
// the lock only when no write to account is under way that was given up.
func (s *items) lock(ctx context.Context, account, suffix string) (unlock func() error, err error) {
	dir, err := s.opts.lockDir()
	if err != nil {
		return nil, err
	}
	free, err := filelock.Lock(ctx, filepath.Join(dir, s.service+"-"+account+suffix))
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, lockFailed(err)
	}
	return func() error {
		var err error
		if s.gate.whenLanded(account, func() { err = free() }) {
			return err
		}
		return fail(ErrTimeout, errKept)
	}, nil
}

// lockBriefly takes the lock under which account is written. Whoever holds it
// is at work and gives up when the keyring hangs, so the wait has an end even
// if ctx has none; and it ends when the gate shuts, as the holder may be a
// write of this process that will not return.
func (s *items) lockBriefly(ctx context.Context, account string) (unlock func() error, err error) {
	for range 10 {
		if _, err := s.gate.refuses(); err != nil {
			return nil, err
		}
		limited, cancel := context.WithTimeout(ctx, s.opts.Timeout)
		unlock, err := s.lock(limited, account, ".write.lock")
		expired := limited.Err() != nil
		cancel()
		switch {
		case err == nil, !expired:
			return unlock, err
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
	}
	return nil, fail(ErrTimeout, errOccupied)
}

// lockFailed says what went wrong with a lock file. What the system said is in
// the text only, as a missing directory is no absent session.
func lockFailed(err error) error {
	f := &failure{text: fmt.Sprintf("cannot lock: %v: make the directory of the lock files writable, or name another with Options.LockDir", err)}
	if !misleads(err) {
		f.cause = err
	}
	return f
}
