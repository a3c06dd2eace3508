package storagetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// patience bounds what has to happen sooner or later. It is long because a
// loaded machine is slow; nobody waits for it but a test that fails.
const patience = 60 * time.Second

// lock takes the lock of key, or fails the test.
func lock(t *testing.T, s Store, key string) (unlock func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	free, err := s.Lock(ctx, key)
	if err != nil {
		t.Fatalf("Lock(%q): %v", key, err)
	}
	if free == nil {
		t.Fatalf("Lock(%q) returned neither an error nor a function that unlocks", key)
	}
	return func() {
		t.Helper()
		if err := free(); err != nil {
			t.Errorf("unlock(%q): %v", key, err)
		}
	}
}

func testUnlockThenLock(t *testing.T, s Store) {
	for range 20 {
		lock(t, s, "a")()
	}
	// Locks are no values, and values no locks.
	wantsAbsent(t, s, "a")
	unlock := lock(t, s, "a")
	save(t, s, "a", pattern(1, 100))
	wants(t, s, "a", pattern(1, 100))
	if err := s.Delete(context.Background(), "a"); err != nil {
		t.Errorf("Delete by the holder of the lock: %v", err)
	}
	unlock()
	lock(t, s, "a")()
}

func testLocksOfOtherKeys(t *testing.T, s Store) {
	for _, key := range []string{"a", "A", "a/", "", "a\x00"} {
		defer lock(t, s, key)() // all of them held at once
	}
}

// testExclusion counts with a variable that nothing but the lock guards, and
// with a stored value whose updates would be lost.
func testExclusion(t *testing.T, s Store) {
	const workers, rounds = 8, 10
	var inside atomic.Int32
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				if err := increment(s, &inside); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if !t.Failed() {
		wants(t, s, "count", []byte(strconv.Itoa(workers*rounds)))
	}
}

// increment adds one to the stored count under the lock.
func increment(s Store, inside *atomic.Int32) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	unlock, err := s.Lock(ctx, "count")
	if err != nil {
		return fmt.Errorf("calling Lock: %w", err)
	}
	defer func() {
		inside.Add(-1)
		if uerr := unlock(); err == nil && uerr != nil {
			err = fmt.Errorf("unlock: %w", uerr)
		}
	}()
	if n := inside.Add(1); n != 1 {
		return fmt.Errorf("%d goroutines hold the lock of one key", n)
	}
	count, err := loadCount(ctx, s)
	if err != nil {
		return err
	}
	runtime.Gosched()
	if err := s.Save(ctx, "count", []byte(strconv.Itoa(count+1))); err != nil {
		return fmt.Errorf("calling Save: %w", err)
	}
	return nil
}

func loadCount(ctx context.Context, s Store) (int, error) {
	b, err := s.Load(ctx, "count")
	if isAbsent(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("calling Load: %w", err)
	}
	count, err := strconv.Atoi(string(b))
	if err != nil {
		return 0, fmt.Errorf("the count was stored as a number, and loaded as %q", b)
	}
	return count, nil
}

// testWaiting cancels a Lock that waits, and one whose deadline passes; the
// holder's lock is not affected, nor that of whoever comes next.
func testWaiting(t *testing.T, s Store) {
	unlock := lock(t, s, "a")

	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() {
		free, err := s.Lock(ctx, "a")
		if err == nil {
			free()
		}
		result <- err
	}()
	// Whether the goroutine waits already or has yet to start, the outcome is
	// the same.
	runtime.Gosched()
	cancel()
	wantsResult(t, "Lock while another holds the lock, cancelled", result, context.Canceled)

	ctx, cancel = context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	go func() {
		free, err := s.Lock(ctx, "a")
		if err == nil {
			free()
		}
		result <- err
	}()
	wantsResult(t, "Lock while another holds the lock, past its deadline", result, context.DeadlineExceeded)

	// A lock that a cancelled waiter took after all would never be freed.
	unlock()
	lock(t, s, "a")()
}

func wantsResult(t *testing.T, what string, result <-chan error, want error) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-result:
		if !errors.Is(err, want) {
			t.Fatalf("%s: got %v, want an error that is %v", what, err, want)
		}
	case <-timer.C:
		t.Fatalf("%s: did not return within %v", what, patience)
	}
}

// testHandover has a waiter take the lock once it is free.
func testHandover(t *testing.T, s Store) {
	unlock := lock(t, s, "a")
	taken := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		free, err := s.Lock(ctx, "a")
		if err == nil {
			err = free()
		}
		taken <- err
	}()
	select {
	case err := <-taken:
		t.Fatalf("Lock returned (%v) while another held the lock", err)
	case <-time.After(20 * time.Millisecond): // too short a wait lets a bad store pass; it fails no good one
	}
	unlock()
	wantsResult(t, "Lock after unlock", taken, nil)
}

func testCancelled(t *testing.T, s Store) {
	save(t, s, "a", pattern(1, 100))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for name, call := range map[string]func() error{
		"Load":   func() error { _, err := s.Load(ctx, "a"); return err },
		"Save":   func() error { return s.Save(ctx, "a", pattern(2, 100)) },
		"Delete": func() error { return s.Delete(ctx, "a") },
		"Lock": func() error {
			unlock, err := s.Lock(ctx, "a")
			if err == nil {
				unlock()
			}
			return err
		},
	} {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: got %v, want an error that is context.Canceled", name, err)
		} else if isAbsent(err) {
			t.Errorf("%s with a cancelled context: the error must not match fs.ErrNotExist: %v", name, err)
		}
	}
	wants(t, s, "a", pattern(1, 100))
	lock(t, s, "a")()
}

// testWhole has writers replace a value while readers look: a reader sees one
// of the values that were written, never a part or a mixture, never nothing.
func testWhole(t *testing.T, s Store) {
	const writers, readers, rounds = 3, 3, 15
	save(t, s, "a", framed(0))
	ctx := context.Background()
	var ready, writing, reading sync.WaitGroup
	stop := make(chan struct{})
	for range readers {
		ready.Add(1)
		reading.Go(func() {
			for n := 0; ; n++ {
				got, err := s.Load(ctx, "a")
				if n == 0 {
					ready.Done()
				}
				if err != nil {
					t.Errorf("Load while others save: %v", err)
					return
				}
				if err := checkFrame(got); err != nil {
					t.Errorf("Load while others save: %v", err)
					return
				}
				select {
				case <-stop:
					return
				default:
					runtime.Gosched()
				}
			}
		})
	}
	ready.Wait() // or the writers may be done before anybody reads
	for w := range writers {
		writing.Go(func() {
			for i := range rounds {
				if err := s.Save(ctx, "a", framed(w*rounds+i)); err != nil {
					t.Errorf("Save while others save and load: %v", err)
					return
				}
			}
		})
	}
	writing.Wait()
	close(stop)
	reading.Wait()
}

// testGoroutines calls every method many times and expects that nothing stays.
func testGoroutines(t *testing.T, s Store) {
	use := func() {
		save(t, s, "a", pattern(1, 100))
		wants(t, s, "a", pattern(1, 100))
		unlock := lock(t, s, "a")
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		if free, err := s.Lock(ctx, "a"); err == nil {
			free()
			t.Error("Lock was given twice")
		}
		cancel()
		unlock()
		if l, ok := s.(lister); ok {
			l.List(context.Background())
		}
		if err := s.Delete(context.Background(), "a"); err != nil {
			t.Errorf("Delete: %v", err)
		}
	}
	use() // what a store starts once may stay
	before := runtime.NumGoroutine()
	const rounds = 30
	for range rounds {
		use()
	}
	// Goroutines on their way out are given time; those of other tests may
	// come and go, so that fewer than one in two rounds prove nothing.
	deadline := time.Now().Add(5 * time.Second)
	for wait := time.Millisecond; runtime.NumGoroutine() >= before+rounds/2; wait = min(2*wait, 100*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d rounds left %d goroutines behind", rounds, runtime.NumGoroutine()-before)
		}
		time.Sleep(wait)
	}
}
