package freshtoken

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"time"

	"github.com/freshtoken/freshtoken/internal/endpoint"
	"github.com/freshtoken/freshtoken/internal/words"
)

// How long each phase of a refresh may take. Each has its own time: what one
// phase leaves over or overdraws is not the next one's. The wait for the lock
// exceeds the request and the save of whoever holds it.
const (
	lockTime  = time.Minute
	tryTime   = time.Second // for a lock that is tried rather than awaited
	loadTime  = 10 * time.Second
	saveTime  = 10 * time.Second
	grantTime = 30 * time.Second

	// personTime is for calls that may wait for a person who unlocks a keyring
	// or types a passphrase: the first look into the store, and a login.
	personTime = 2 * time.Minute

	// graceTime passes between the end of a call's time and that of its
	// context. A program that was stopped in mid-call, and goes on when the time
	// is over, finds the answer waiting: it must have the time to read it.
	graceTime = 2 * time.Second

	// hangTime is how much longer than its context a call may take before it
	// is abandoned.
	hangTime = time.Second
)

var (
	errHangs = errors.New("there was no answer in time")
	errBusy  = errors.New("an earlier call has not returned yet")
	errExit  = errors.New("it has ended without returning")
)

// lands says whether a call can take effect after it has been given up.
type lands = bool

// call runs one call of the store, or of the Refresher, with a deadline, in a
// goroutine of its own, because it may hang whatever its context says. A call
// that does is abandoned. No other call begins before it has returned; and if it
// may still take effect, no lock is released. The turn is held.
func call[T any](s *Source, limit time.Duration, late lands, f func(context.Context) (T, error)) (T, error) {
	var none T
	t := &s.inTurn
	if t.abandoned != nil && !returned(t.abandoned, limit) {
		return none, errBusy
	}
	t.abandoned, t.landing = nil, false
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	timer := time.AfterFunc(limit, func() { time.AfterFunc(graceTime, cancel) })
	defer timer.Stop()
	if !late { // Close need not wait for it
		s.stopWith(cancel)
		defer s.stopWith(nil)
	}
	value, err := none, errExit
	done := make(chan struct{})
	go func() {
		defer close(done)
		value, err = f(ctx)
	}()
	select {
	case <-done:
		return value, err
	case <-ctx.Done():
	}
	if returned(done, hangTime) {
		return value, err
	}
	t.abandoned, t.landing = done, late
	return none, errHangs
}

// returned waits for a call, for so long, and reports whether it has returned.
func returned(done <-chan struct{}, limit time.Duration) bool {
	select {
	case <-done:
		return true
	default:
	}
	patience := time.NewTimer(limit)
	defer patience.Stop()
	select {
	case <-done:
		return true
	case <-patience.C:
		return false
	}
}

// acquire takes the session lock, unless it is held already. The result is nil
// if Config.InsecureUnsaved allows to do without. The turn is held.
func (s *Source) acquire(limit time.Duration) (unlock func() error, err error) {
	t := &s.inTurn
	t.unread = nil
	if t.held != nil {
		unlock, t.held = t.held, nil
		return unlock, nil
	}
	if t.locking != nil && !returned(t.locking, 0) {
		return nil, wrap(ErrLocked, "asking the store for the session lock: %w", errBusy)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if !s.stopWith(cancel) {
		return nil, ErrClosed
	}
	defer s.stopWith(nil)
	end := s.step(StepLock)
	unlock, t.locking, err = s.lock(ctx, s.key)
	end(err)
	switch {
	case err == nil:
		return unlock, nil
	case s.isClosed():
		return nil, ErrClosed
	case errors.Is(err, errHangs):
		return nil, wrap(ErrLocked, "asking the store for the session lock: %w", err)
	case ctx.Err() != nil:
		return nil, tell(ErrLocked, "another process has been busy with the session for %s: try again, or end that process if it hangs%s",
			words.Duration(limit), holder(err))
	case s.cfg.InsecureUnsaved:
		return nil, nil
	default:
		return nil, &storeError{"lock the session", err}
	}
}

// holder says how to find the process that holds a lock, if the error of the
// wait for it knows: storage.File names the file that is locked.
func holder(err error) string {
	var held interface{ LockFile() string }
	switch {
	case !errors.As(err, &held):
		return ""
	case runtime.GOOS == "windows":
		return fmt.Sprintf(" (it has opened %q)", held.LockFile())
	}
	return fmt.Sprintf(" (to find it, run: lsof %q)", held.LockFile())
}

// lock calls Store.Lock, which may hang. A lock that comes too late is released;
// late is closed then.
func (s *Source) lock(ctx context.Context, key string) (unlock func() error, late <-chan struct{}, err error) {
	type result struct {
		unlock func() error
		err    error
	}
	results := make(chan result)
	left, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		unlock, err := s.store.Lock(ctx, key)
		select {
		case results <- result{unlock, err}:
		case <-left:
			if err == nil {
				unlock()
			}
		}
	}()
	select {
	case r := <-results:
		return r.unlock, nil, r.err
	case <-ctx.Done():
	}
	patience := time.NewTimer(hangTime)
	defer patience.Stop()
	select {
	case r := <-results:
		return r.unlock, nil, r.err
	case <-patience.C:
		close(left)
		return nil, done, errHangs
	}
}

// release gives the session lock back, unless something that no other process
// has seen depends on it: tokens that are not saved yet, or a store call that
// may still take effect. Then the lock is kept, and saving is tried again. A
// tombstone is tried again, too, without the lock.
func (s *Source) release(unlock func() error) {
	t := &s.inTurn
	if t.unsaved && !s.cfg.InsecureUnsaved || t.landing {
		t.held = unlock
		s.retrySave()
		return
	}
	if t.unburied && !isDamaged(t.unread) {
		s.retrySave()
	} else {
		t.saveFailures = 0
	}
	end := s.step(StepUnlock)
	end(s.unlock(unlock))
}

// unlock calls what Store.Lock returned, which may hang, too.
func (s *Source) unlock(unlock func() error) error {
	if unlock == nil {
		return nil
	}
	err := errExit
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = unlock()
	}()
	failed := errHangs
	if returned(done, saveTime) {
		failed = err
	}
	if failed != nil {
		// The lock dies with the process at the latest. Others may wait.
		s.note(&storeError{"unlock the session", failed})
	}
	return failed
}

// load reads the stored record; nil means that there is none. Only a store that
// says so positively is believed.
func (s *Source) load(limit time.Duration) (*record, error) {
	end := s.step(StepLoad)
	r, err := s.cfg.binding().open(call(s, limit, false, func(ctx context.Context) ([]byte, error) { return s.store.Load(ctx, s.key) }))
	end(err)
	if r.loggedOut() {
		s.inTurn.remember(r)
	}
	return r, err
}

// open reads what Store.Load has returned for the session of b.
func (b binding) open(data []byte, err error) (*record, error) {
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, damaged(&storeError{"read the session", err})
	}
	r, err := decodeRecord(data)
	if err != nil {
		return nil, damaged(tell(ErrStore, "%w", err))
	}
	if r.Binding != b {
		return nil, wrap(ErrMismatch, "it was issued by %s to the client %q; nothing was changed",
			endpoint.WithoutQuery(r.Binding.Issuer), endpoint.Sanitize(r.Binding.ClientID, 100))
	}
	return r, nil
}

// save writes a record.
func (s *Source) save(r *record, limit time.Duration) error {
	data, err := r.encode()
	if err == nil {
		_, err = call(s, limit, true, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, s.store.Save(ctx, s.key, data)
		})
	}
	if err != nil {
		return &storeError{"save the session", err}
	}
	return nil
}

// remove deletes what is stored.
func (s *Source) remove() error {
	_, err := call(s, saveTime, true, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.store.Delete(ctx, s.key)
	})
	if err != nil {
		return &storeError{"remove the session", err}
	}
	return nil
}

// setAside moves a damaged record out of the way, if the store knows how to.
func (s *Source) setAside() error {
	q, ok := s.store.(Quarantiner)
	if !ok {
		return nil // what is damaged will be overwritten
	}
	_, err := call(s, saveTime, true, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, q.SetAside(ctx, s.key)
	})
	if err != nil {
		return &storeError{"set the damaged session aside", err}
	}
	return nil
}

// damaged makes an error match ErrSessionEnded if a stored value is damaged:
// only a new login helps, which sets it aside.
func damaged(err error) error {
	if isDamaged(err) {
		return &damage{err}
	}
	return err
}

type damage struct{ error }

func (d *damage) Unwrap() []error { return []error{d.error, ErrSessionEnded} }

// isDamaged reports whether a stored value is beyond reading, for good: no
// other key and no newer program would help.
func isDamaged(err error) bool {
	if errors.Is(err, errBadRecord) {
		return true
	}
	var c interface{ Corrupt() bool }
	return errors.As(err, &c) && c.Corrupt()
}
