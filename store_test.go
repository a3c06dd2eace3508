package freshtoken_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
)

var errDisk = syscall.ENOSPC

// A store that fails before anything is spent: the valid token is served on, an
// expired one yields ErrStore, and the refresh token stays unspent.
func TestStoreFailsBeforeTheRequest(t *testing.T) {
	for name, fail := range map[string]func(*faulty){
		"MGR-persist the mark cannot be saved": func(f *faulty) { f.save = failing(errDisk) },
		"the record cannot be loaded":          func(f *faulty) { f.load = failing(errors.New("keyring is locked")) },
		"the lock cannot be had":               func(f *faulty) { f.lock = failing(errors.New("read-only directory")) },
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{AccessLifetime: 10 * time.Minute})
			f := w.faults()
			src := w.loggedIn()
			time.Sleep(9 * time.Minute)
			f.set(fail)
			for range 500 {
				w.usable(src)
				time.Sleep(100 * time.Millisecond)
			}
			wantErr(t, src.Status().LastError, freshtoken.ErrStore)
			time.Sleep(20 * time.Second)
			_, err := src.Token(t.Context())
			wantErr(t, err, freshtoken.ErrStore)
			_, err = w.source().Token(t.Context())
			if err == nil {
				t.Error("another process was served with an expired token")
			}
			w.wantPosts(0)
			f.set(func(f *faulty) { f.load, f.save, f.lock = nil, nil, nil })
			time.Sleep(time.Second)
			w.usable(src)
			if err := src.Status().LastError; err != nil {
				t.Errorf("LastError is still %v", err)
			}
		})
	}
	inBubble(t, "a store that is locked for a first look is not an absent session", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		f := w.faults()
		w.loggedIn()
		f.set(func(f *faulty) { f.load = failing(errors.New("keyring is locked")) })
		src := w.source()
		_, err := src.Token(t.Context())
		wantErr(t, err, freshtoken.ErrStore)
		if errors.Is(err, freshtoken.ErrNoSession) || src.Status().State != freshtoken.StateUnknown {
			t.Errorf("got %v, state %s", err, src.Status().State)
		}
	})
}

// A store that fails after the answer: the process goes on with the new token,
// keeps the lock, retries and reports; no other process spends the old one.
func TestStoreFailsAfterTheAnswer(t *testing.T) {
	inBubble(t, "MGR-persist the session goes on and is saved later", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: 10 * time.Minute})
		f := w.faults()
		var events recorder
		src := w.loggedIn(func(c *freshtoken.Config) { c.OnEvent = events.receive })
		other := w.source()
		w.token(other)
		time.Sleep(9 * time.Minute)
		f.set(afterMark)
		w.usable(src)
		w.wantPosts(1)
		synctest.Wait()
		if st := src.Status(); st.Persisted || !errors.Is(st.LastError, freshtoken.ErrStore) || events.count(freshtoken.EventNotPersisted) != 1 {
			t.Errorf("status %+v, %d events", st, events.count(freshtoken.EventNotPersisted))
		}
		// The other process keeps what is valid, and then waits for the lock.
		time.Sleep(30 * time.Second)
		w.usable(other)
		time.Sleep(31 * time.Second)
		_, err := other.Token(soon(t, 10*time.Second))
		wantErr(t, err, context.DeadlineExceeded)
		_, err = other.Token(t.Context())
		wantErr(t, err, freshtoken.ErrLocked)
		w.wantPosts(1)
		f.set(func(f *faulty) { f.save = nil })
		time.Sleep(time.Minute)
		w.usable(other)
		w.usable(src)
		if st := src.Status(); !st.Persisted || st.LastError != nil || events.count(freshtoken.EventPersisted) != 1 {
			t.Errorf("status %+v, %d events", st, events.count(freshtoken.EventPersisted))
		}
		w.wantPosts(1)
	})
	inBubble(t, "the session outlives its tokens while the disk is full", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		f := w.faults()
		src := w.loggedIn()
		time.Sleep(lifetime)
		f.set(afterMark)
		for range 10 {
			w.usable(src)
			time.Sleep(lifetime)
		}
		f.set(func(f *faulty) { f.save = nil })
		w.usable(src)
		if err := src.Close(); err != nil {
			t.Error(err)
		}
		w.usable(w.source())
		if s := w.as.Stats(); s.Reuses != 0 {
			t.Error("a spent refresh token was used")
		}
	})
	inBubble(t, "Close says what is lost", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		f := w.faults()
		src := w.loggedIn()
		time.Sleep(lifetime)
		f.set(afterMark)
		w.usable(src)
		err := src.Close()
		wantErr(t, err, freshtoken.ErrNotPersisted)
		if again := src.Close(); again != err {
			t.Errorf("the second Close says %v", again)
		}
		f.set(func(f *faulty) { f.save = nil })
		// The next start ends in one login-required, no loop.
		time.Sleep(lifetime)
		next := w.source()
		for range 100 {
			_, err := next.Token(t.Context())
			if e := refreshError(t, err); !errors.Is(err, freshtoken.ErrSessionEnded) || e.Interrupted.IsZero() {
				t.Errorf("got %#v", e)
			}
		}
		w.wantPosts(2)
	})
	inBubble(t, "Close saves what could not be saved before", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		f := w.faults()
		src := w.loggedIn()
		time.Sleep(lifetime)
		f.set(afterMark)
		w.usable(src)
		f.set(func(f *faulty) { f.save = nil })
		if err := src.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(lifetime)
		w.usable(w.source())
	})
	inBubble(t, "a save that reports an error and lands is found out", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		f := w.faults()
		src := w.loggedIn()
		time.Sleep(lifetime)
		n := 0
		landing := &landing{faulty: f, fail: func() bool { n++; return n == 2 }}
		w.store = landing
		src2 := w.source()
		w.usable(src2)
		if src2.Status().Persisted {
			t.Error("taken for saved")
		}
		time.Sleep(2 * time.Second)
		if !src2.Status().Persisted {
			t.Error("not found out")
		}
		_ = src
	})
}

// landing is a store whose Save works and says that it has failed.
type landing struct {
	*faulty
	fail func() bool
}

func (l *landing) Save(ctx context.Context, key string, value []byte) error {
	err := l.faulty.Save(ctx, key, value)
	if l.fail() {
		return errors.New("timed out")
	}
	return err
}

// A call that hangs, whatever its context says, is given up; the lock is kept
// until it has returned.
func TestStoreHangs(t *testing.T) {
	hang := func(after int) (func() error, chan struct{}) {
		release := make(chan struct{})
		n := 0
		return func() error {
			if n++; n > after {
				<-release
			}
			return nil
		}, release
	}
	for name, at := range map[string]struct {
		after int
		posts int
	}{"the mark": {0, 0}, "the answer": {1, 1}} {
		inBubble(t, "saving "+name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{AccessLifetime: 10 * time.Minute})
			f := w.faults()
			src := w.loggedIn()
			time.Sleep(9 * time.Minute)
			save, release := hang(at.after)
			f.set(func(f *faulty) { f.save = save })
			start := time.Now()
			w.usable(src)
			if d := time.Since(start); d > 2*time.Second {
				t.Errorf("a caller with a valid token waited %v", d)
			}
			time.Sleep(30 * time.Second)
			w.usable(src)
			w.wantPosts(at.posts)
			_, err := w.source().Token(soon(t, time.Second))
			if err != nil {
				t.Errorf("another process cannot use the valid token: %v", err)
			}
			unlock, err := f.Store.Lock(soon(t, time.Second), freshtoken.StoreKey(w.config()))
			if err == nil {
				unlock()
				t.Error("the lock was released while the call could still take effect")
			}
			close(release)
			time.Sleep(2 * time.Minute)
			w.usable(src)
			w.usable(w.source())
			if s := w.as.Stats(); s.Reuses != 0 {
				t.Error("a spent refresh token was used")
			}
			if err := src.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	inBubble(t, "loading", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		src.Close()
		f := w.faults()
		load, release := hang(0)
		f.set(func(f *faulty) { f.load = load })
		src = w.source()
		start := time.Now()
		_, err := src.Token(t.Context())
		wantErr(t, err, freshtoken.ErrStore)
		if d := time.Since(start); d > 3*time.Minute { // a person may be typing a passphrase
			t.Errorf("gave up after %v", d)
		}
		close(release)
		time.Sleep(time.Second)
		w.usable(src)
	})
	inBubble(t, "locking", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		f := w.faults()
		src.Close()
		lock, release := hang(0)
		f.set(func(f *faulty) { f.lock = lock })
		src = w.source()
		_, err := src.Token(t.Context())
		wantErr(t, err, freshtoken.ErrLocked)
		close(release)
		synctest.Wait()
		w.usable(src) // the lock that came too late was given back
	})
}

func TestInsecureUnsaved(t *testing.T) {
	inBubble(t, "a read-only store serves a server that does not rotate", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime, Rotation: oauthtest.NoRotation})
		f := w.faults()
		w.loggedIn().Close()
		f.set(func(f *faulty) { f.save, f.lock = failing(syscall.EROFS), failing(syscall.EROFS) })
		for range 3 {
			src := w.source(func(c *freshtoken.Config) { c.InsecureUnsaved = true })
			for range 3 {
				time.Sleep(lifetime)
				w.usable(src)
			}
			wantErr(t, src.Close(), freshtoken.ErrNotPersisted)
		}
		w.wantPosts(9)
	})
}

func TestSetTokenWithoutStore(t *testing.T) {
	for name, fail := range map[string]func(*faulty){
		"save": func(f *faulty) { f.save = failing(errDisk) },
		"load": func(f *faulty) { f.load = failing(errors.New("wrong passphrase")) },
		"lock": func(f *faulty) { f.lock = failing(errors.New("read-only")) },
	} {
		inBubble(t, name+" fails: the login lives in memory, and is saved later", func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
			f := w.faults()
			w.loggedIn() // what is there belongs to an older login
			f.set(fail)
			src := w.source()
			tok := w.as.Login("alice")
			err := src.SetToken(t.Context(), tok)
			wantErr(t, err, freshtoken.ErrNotPersisted)
			wantErr(t, err, freshtoken.ErrStore)
			if w.token(src).AccessToken != tok.AccessToken || src.Status().Persisted {
				t.Error("the login is not in use")
			}
			f.set(func(f *faulty) { f.load, f.save, f.lock = nil, nil, nil })
			time.Sleep(time.Minute)
			if !src.Status().Persisted {
				t.Errorf("it was not saved later: %v", src.Status().LastError)
			}
			w.usable(src)
			src.Close()
			w.usable(w.source())
		})
	}
}

// corrupt is a store error that says that a value is damaged.
type corrupt struct{}

func (corrupt) Error() string { return "damaged" }
func (corrupt) Corrupt() bool { return true }

// aside is a store that can set values aside.
type aside struct {
	*faulty
	moved int
}

func (a *aside) SetAside(context.Context, string) error {
	a.moved++
	a.set(func(f *faulty) { f.load = nil })
	return nil
}

func TestDamagedStore(t *testing.T) {
	for name, over := range map[string]func(t *testing.T, under freshtoken.Store) freshtoken.Store{
		"": func(_ *testing.T, under freshtoken.Store) freshtoken.Store { return under },
		", under a Seal": func(t *testing.T, under freshtoken.Store) freshtoken.Store {
			return storage.Seal(under, storage.KeyFile(filepath.Join(t.TempDir(), "key")))
		},
	} {
		inBubble(t, "ST-tamper nothing moves or overwrites it but a login"+name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
			a := &aside{faulty: w.faults()}
			w.store = over(t, a)
			w.loggedIn().Close()
			_, saves := a.counts()
			a.set(func(f *faulty) { f.load = failing(corrupt{}) })
			src := w.source()
			_, err := src.Token(t.Context())
			wantErr(t, err, freshtoken.ErrStore)
			wantErr(t, src.Logout(t.Context()), freshtoken.ErrStore)
			if _, now := a.counts(); now != saves || a.moved != 0 {
				t.Fatalf("%d saves, %d moves", now-saves, a.moved)
			}
			w.login(src)
			if a.moved != 1 {
				t.Errorf("set aside %d times", a.moved)
			}
			w.usable(src)
		})
	}
	inBubble(t, "a record that is none is replaced by a login alone", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		key := freshtoken.StoreKey(w.config())
		w.store.Save(t.Context(), key, []byte(`{"garbage":`))
		src := w.source()
		_, err := src.Token(t.Context())
		wantErr(t, err, freshtoken.ErrStore)
		if strings.Contains(err.Error(), "garbage") {
			t.Errorf("the error shows it: %v", err)
		}
		w.login(src)
		w.usable(w.source())
	})
	inBubble(t, "a newer program's record is neither spent nor overwritten", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		key := freshtoken.StoreKey(w.config())
		data, _ := w.store.Load(t.Context(), key)
		newer := freshtoken.EditRecord(data, func(r map[string]any) { r["version"] = 2 })
		w.store.Save(t.Context(), key, newer)
		for _, s := range []*freshtoken.Source{src, w.source()} {
			_, err := s.Token(t.Context())
			wantErr(t, err, freshtoken.ErrStore)
			if !strings.Contains(err.Error(), "newer version") {
				t.Errorf("got %v", err)
			}
			wantErr(t, s.SetToken(t.Context(), w.as.Login("alice")), freshtoken.ErrNotPersisted)
			s.Close()
		}
		if got, _ := w.store.Load(t.Context(), key); string(got) != string(newer) {
			t.Error("it was overwritten")
		}
		w.wantPosts(0)
	})
	inBubble(t, "ST-key a record of another client is refused", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		key := freshtoken.StoreKey(w.config())
		data, _ := w.store.Load(t.Context(), key)
		w.store.Save(t.Context(), key, freshtoken.EditRecord(data, func(r map[string]any) {
			r["binding"].(map[string]any)["client_id"] = "somebody else"
		}))
		_, err := src.Token(t.Context())
		wantErr(t, err, freshtoken.ErrMismatch)
		w.wantPosts(0)
	})
	inBubble(t, "a store that has gone missing is not an absent session", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		f := w.faults()
		_ = src
		f.set(func(f *faulty) { f.load = failing(errors.New("the store is gone")) })
		_, err := w.source().Token(t.Context())
		wantErr(t, err, freshtoken.ErrStore)
	})
	inBubble(t, "a restored backup is not spent", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		src := w.loggedIn()
		key := freshtoken.StoreKey(w.config())
		backup, _ := w.store.Load(t.Context(), key)
		time.Sleep(lifetime)
		w.usable(src)
		w.store.Save(t.Context(), key, backup)
		time.Sleep(lifetime)
		w.usable(src)
		w.usable(w.source())
		if s := w.as.Stats(); s.Reuses != 0 {
			t.Error("the backup's refresh token was used")
		}
	})
}

// Two accounts and two servers on one store never meet.
func TestAccountsStayApart(t *testing.T) {
	inBubble(t, "R6749-10.4-rt each server sees its own refresh tokens alone", func(t *testing.T) {
		a, b := newWorld(t, oauthtest.Options{AccessLifetime: lifetime}), newWorld(t, oauthtest.Options{AccessLifetime: lifetime, BaseURL: "https://other.test"})
		b.store = a.store
		sa, sb := a.loggedIn(), b.loggedIn()
		bob := a.source(func(c *freshtoken.Config) { c.Session = "bob" })
		if err := bob.SetToken(t.Context(), a.as.Login("bob")); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			time.Sleep(lifetime)
			var wg sync.WaitGroup
			for _, s := range []*freshtoken.Source{sa, bob} {
				wg.Go(func() { a.usable(s) })
			}
			wg.Go(func() { b.usable(sb) })
			wg.Wait()
		}
		for _, w := range []*world{a, b} {
			if s := w.as.Stats(); s.Reuses != 0 || s.InvalidGrants != 0 {
				t.Errorf("got %+v", s)
			}
		}
		families := map[int]bool{}
		for _, e := range a.as.LogOf(oauthtest.TokenEndpoint) {
			families[e.Family] = true
		}
		if len(families) != 2 {
			t.Errorf("%d families refreshed, want 2", len(families))
		}
	})
	inBubble(t, "a memory-only session needs no store", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		src := w.loggedIn(func(c *freshtoken.Config) { c.Store = nil })
		time.Sleep(lifetime)
		w.usable(src)
		if src.Status().Persisted {
			t.Error("a session in memory is said to be persisted")
		}
		_, err := w.source(func(c *freshtoken.Config) { c.Store = nil }).Token(t.Context())
		wantErr(t, err, freshtoken.ErrNoSession)
	})
}

// What cannot be read is not overwritten: a newer program may have put it there
// while tokens of ours were waiting to be saved.
func TestUnreadableIsNotOverwritten(t *testing.T) {
	inBubble(t, "by tokens that are not saved yet, nor by Logout", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		f := w.faults()
		src := w.loggedIn()
		time.Sleep(lifetime)
		f.set(afterMark)
		w.usable(src)
		key := freshtoken.StoreKey(w.config())
		data, _ := f.Store.Load(t.Context(), key)
		newer := freshtoken.EditRecord(data, func(r map[string]any) { r["version"] = 2 })
		f.Store.Save(t.Context(), key, newer)
		f.set(func(f *faulty) { f.save = nil })
		for range 3 {
			time.Sleep(2 * lifetime)
			w.usable(src)
		}
		wantErr(t, src.Logout(t.Context()), freshtoken.ErrStore)
		_, err := src.Token(t.Context())
		if err == nil {
			t.Error("the session is in use after Logout")
		}
		src.Close()
		if got, _ := f.Store.Load(t.Context(), key); string(got) != string(newer) {
			t.Error("the newer record was overwritten")
		}
	})
}
