package freshtoken_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// Corners where a session would be lost, a token shown, or a caller left
// waiting, one by one.

func wantAlive(t *testing.T, w *world, src *freshtoken.Source) {
	t.Helper()
	w.usable(src)
	if s := w.as.Stats(); s.Reuses != 0 || s.InvalidGrants != 0 {
		t.Errorf("the session was damaged: %+v", s)
	}
}

func TestNothingOfAnAnswerIsLost(t *testing.T) {
	for _, value := range []string{`null`, `""`, `false`} {
		inBubble(t, "tokens beside an error that is "+value, func(t *testing.T) {
			w, src := expired(t, oauthtest.Options{})
			w.as.Token.Next(oauthtest.AddMember("error", value))
			wantAlive(t, w, src)
			w.wantPosts(1)
		})
	}
	inBubble(t, "tokens beside an error: the refresh token", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		w.as.Token.Next(oauthtest.AddMember("error", `"odd"`))
		_, err := src.Token(t.Context())
		refreshError(t, err)
		time.Sleep(2 * time.Second)
		wantAlive(t, w, src)
	})
	inBubble(t, "a body that is too long: the refresh token before the cut", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		w.as.Token.Next(oauthtest.BigBody(2 << 20))
		_, err := src.Token(t.Context())
		refreshError(t, err)
		time.Sleep(2 * time.Second)
		wantAlive(t, w, src)
	})
	inBubble(t, "a body that breaks off: the refresh token before the break", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		w.as.Token.Next(oauthtest.Fault{Edit: func(a *oauthtest.Answer) { a.Members.Add("more", strings.Repeat("x", 1000)) }, Truncate: 1000})
		_, err := src.Token(t.Context())
		refreshError(t, err)
		time.Sleep(2 * time.Second)
		wantAlive(t, w, src)
	})
	inBubble(t, "a Refresher's refresh token without an access token", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		var asked []string
		src := w.source(func(c *freshtoken.Config) {
			c.Refresher = freshtoken.RefresherFunc(func(_ context.Context, old *oauth2.Token) (*oauth2.Token, error) {
				asked = append(asked, old.RefreshToken)
				if len(asked) == 1 {
					return &oauth2.Token{RefreshToken: "second"}, nil
				}
				return &oauth2.Token{AccessToken: "at", RefreshToken: "third", ExpiresIn: 60}, nil
			})
		})
		src.SetToken(t.Context(), &oauth2.Token{RefreshToken: "first"})
		_, err := src.Token(t.Context())
		refreshError(t, err)
		time.Sleep(2 * time.Second)
		w.token(src)
		if len(asked) != 2 || asked[1] != "second" {
			t.Errorf("asked with %q", asked)
		}
	})
	inBubble(t, "the same access token again, with a new lifetime", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		w.as.Token.Always(oauthtest.SetMember("access_token", `"always"`))
		first := w.token(src)
		time.Sleep(lifetime)
		second := w.token(src)
		if !second.Valid() || !second.Expiry.After(first.Expiry) {
			t.Errorf("expires %v, after %v", second.Expiry, first.Expiry)
		}
	})
}

// Some servers repeat what they were sent.
func TestServerThatRepeatsSecrets(t *testing.T) {
	for _, cut := range []int{1000, 20} {
		inBubble(t, "ST-redact up to "+strconv.Itoa(cut)+" bytes", func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime, ClientSecret: "hush hush & hush"})
			src := w.source(revoking(w))
			tok := w.login(src)
			time.Sleep(lifetime)
			echo := tok.RefreshToken[:min(cut, len(tok.RefreshToken))]
			w.as.Token.Always(oauthtest.JSON(400, `{"error":"bad_verification","error_description":"no such token: `+echo+` of hush+hush+%26+hush"}`))
			_, err := src.Token(t.Context())
			w.as.Revocation.Always(oauthtest.JSON(400, `{"error":"`+echo+`"}`))
			for _, text := range []string{err.Error(), spill(err, src.Status()), w.stored(), src.Logout(t.Context()).Error()} {
				text = strings.ReplaceAll(text, `"refresh_token":"`+tok.RefreshToken, "")
				if strings.Contains(text, echo) || strings.Contains(text, "hush") {
					t.Errorf("a secret is shown: %s", text)
				}
			}
		})
	}
}

func TestUnlockHangs(t *testing.T) {
	inBubble(t, "callers are told, and Close does not wait for ever", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		release := make(chan struct{})
		defer close(release)
		w.store = &slowUnlock{Store: w.store, unlocking: func() { <-release }}
		src := w.source()
		src.SetToken(soon(t, time.Minute), w.as.Login("alice"))
		time.Sleep(lifetime)
		_, err := src.Token(t.Context())
		wantErr(t, err, freshtoken.ErrLocked)
		if err := src.Close(); err != nil {
			t.Errorf("nothing is lost, and Close says %v", err)
		}
	})
	inBubble(t, "slowly: the background goes on", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Hour})
		w.store = &slowUnlock{Store: w.store, unlocking: func() { time.Sleep(3 * time.Second) }}
		src := w.loggedIn(func(c *freshtoken.Config) { c.Background = true })
		w.as.Token.Next(oauthtest.Unavailable(""))
		time.Sleep(24 * time.Hour)
		if n := w.posts(); n < 20 {
			t.Errorf("%d refreshes in a day", n)
		}
		w.usable(src)
	})
}

// slowUnlock is a store that takes its time to unlock.
type slowUnlock struct {
	freshtoken.Store
	unlocking func()
}

func (s *slowUnlock) Lock(ctx context.Context, key string) (func() error, error) {
	unlock, err := s.Store.Lock(ctx, key)
	if err != nil {
		return nil, err
	}
	return func() error { s.unlocking(); return unlock() }, nil
}

func TestStoreRecovers(t *testing.T) {
	// hung makes the save of a refresh's answer hang until release.
	hung := func(t *testing.T, lands bool, edits ...func(*freshtoken.Config)) (w *world, src *freshtoken.Source, release func()) {
		t.Helper()
		w = newWorld(t, oauthtest.Options{AccessLifetime: 10 * time.Minute})
		f := w.faults()
		src = w.loggedIn(edits...)
		time.Sleep(10 * time.Minute)
		wait := make(chan struct{})
		saves := 0
		f.set(func(f *faulty) {
			f.save = func() error {
				if saves++; saves != 2 {
					return nil
				}
				<-wait
				if !lands {
					return errors.New("timed out")
				}
				return nil
			}
		})
		w.usable(src)
		return w, src, func() { close(wait) }
	}
	for _, lands := range []bool{true, false} {
		inBubble(t, "while Close waits for a save that hangs, which lands: "+strconv.FormatBool(lands), func(t *testing.T) {
			w, src, release := hung(t, lands)
			time.AfterFunc(30*time.Second, release)
			if err := src.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			time.Sleep(10 * time.Minute)
			wantAlive(t, w, w.source())
		})
	}
	inBubble(t, "with InsecureUnsaved, the lock is given back", func(t *testing.T) {
		w, src, release := hung(t, true, func(c *freshtoken.Config) { c.InsecureUnsaved = true })
		time.Sleep(20 * time.Second)
		release()
		time.Sleep(2 * time.Minute)
		unlock, err := w.store.Lock(soon(t, time.Second), freshtoken.StoreKey(w.config()))
		if err != nil {
			t.Fatal(err)
		}
		unlock()
		wantAlive(t, w, src)
	})
	inBubble(t, "a load that hangs holds up nothing but itself", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		src.Close()
		f := w.faults()
		release := make(chan struct{})
		defer close(release)
		f.set(func(f *faulty) { f.load = func() error { <-release; return nil } })
		src = w.source()
		_, err := src.Token(t.Context())
		wantErr(t, err, freshtoken.ErrStore)
		start := time.Now()
		if err := src.Close(); err != nil || time.Since(start) > time.Second {
			t.Errorf("Close: %v after %v", err, time.Since(start))
		}
	})
	inBubble(t, "a tombstone is written later", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		f := w.faults()
		src := w.loggedIn()
		f.set(func(f *faulty) { f.save = failing(errDisk) })
		wantErr(t, src.Logout(t.Context()), freshtoken.ErrStore)
		f.set(func(f *faulty) { f.save = nil })
		time.Sleep(2 * time.Minute)
		_, err := w.source().Token(t.Context())
		wantErr(t, err, freshtoken.ErrNoSession)
	})
	inBubble(t, "a mark whose token was not sent is no interruption", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		src.Close()
		f := w.faults()
		n := 0
		w.store = &landing{faulty: f, fail: func() bool { n++; return n == 1 }}
		src = w.source()
		_, err := src.Token(t.Context())
		wantErr(t, err, freshtoken.ErrStore)
		w.as.Token.Next(oauthtest.InvalidGrant())
		time.Sleep(2 * time.Second)
		_, err = src.Token(t.Context())
		if e := refreshError(t, err); !e.Interrupted.IsZero() {
			t.Errorf("says interrupted: %v", err)
		}
	})
	inBubble(t, "a failing store is not an event every second", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		var events recorder
		w.loggedIn().Close()
		f := w.faults()
		f.set(func(f *faulty) { f.load = failing(errors.New("wrong key")) })
		w.source(func(c *freshtoken.Config) { c.Background, c.OnEvent = true, events.receive })
		time.Sleep(time.Hour)
		synctest.Wait()
		loads, _ := f.counts()
		if n := events.count(freshtoken.EventRefreshFailed); n != 1 || loads > 200 {
			t.Errorf("%d events and %d loads in an hour", n, loads)
		}
	})
}

func TestLoginsMeet(t *testing.T) {
	inBubble(t, "a new login with the old refresh token counts", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime, Rotation: oauthtest.NoRotation})
		src := w.source()
		tok := w.login(src)
		time.Sleep(lifetime)
		w.as.Token.Next(oauthtest.JSON(400, `{"error":"bad_refresh_token"}`))
		_, err := src.Token(t.Context())
		wantErr(t, err, freshtoken.ErrSessionEnded)
		w.as.RevokeAccess(tok.AccessToken)
		again := &oauth2.Token{AccessToken: "issued-by-the-new-login", RefreshToken: tok.RefreshToken, ExpiresIn: 60}
		if err := src.SetToken(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		if got := w.token(src); got.AccessToken != again.AccessToken {
			t.Errorf("got %q", got.AccessToken)
		}
	})
	inBubble(t, "the token of the login again, over a damaged record", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		src := w.source()
		tok := w.login(src)
		time.Sleep(lifetime)
		w.usable(src)
		w.store.Save(t.Context(), freshtoken.StoreKey(w.config()), []byte("damaged"))
		if err := src.SetToken(t.Context(), tok); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			time.Sleep(lifetime)
			wantAlive(t, w, src)
		}
		wantAlive(t, w, w.source())
	})
	inBubble(t, "one that could not be saved gives way to a later one", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		src, other := w.source(), w.source()
		unlock, _ := w.store.Lock(t.Context(), freshtoken.StoreKey(w.config()))
		wantErr(t, src.SetToken(t.Context(), w.as.Login("alice")), freshtoken.ErrLocked)
		unlock()
		later := w.login(other)
		time.Sleep(10 * time.Second)
		if got := w.token(w.source()); got.AccessToken != later.AccessToken {
			t.Error("the earlier login has overwritten the later one")
		}
	})
	inBubble(t, "a tombstone with tokens is a tombstone", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		w.loggedIn().Close()
		key := freshtoken.StoreKey(w.config())
		data, _ := w.store.Load(t.Context(), key)
		w.store.Save(t.Context(), key, freshtoken.EditRecord(data, func(r map[string]any) {
			r["ended"] = map[string]any{"at": time.Now(), "logged_out": true}
		}))
		src := w.source()
		for range 3 {
			_, err := src.Token(t.Context())
			wantErr(t, err, freshtoken.ErrNoSession)
		}
	})
}

func TestNoStorm(t *testing.T) {
	inBubble(t, "tokens that are stale on arrival", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		w.as.Token.Always(oauthtest.SetMember("expires_in", "0"))
		src := w.loggedIn(func(c *freshtoken.Config) { c.Background = true })
		src.Refresh(t.Context(), nil)
		time.Sleep(10 * time.Minute)
		if n := w.posts(); n > 80 {
			t.Errorf("%d refreshes in ten minutes", n)
		}
	})
	inBubble(t, "a Retry-After beyond belief is kept as far as it is believed", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		n := 0
		refusing := func(c *freshtoken.Config) {
			c.Refresher = freshtoken.RefresherFunc(func(context.Context, *oauth2.Token) (*oauth2.Token, error) {
				n++
				return nil, &freshtoken.RefreshError{Temporary: true, RetryAfter: 24 * time.Hour}
			})
		}
		w.loggedIn(refusing)
		time.Sleep(lifetime)
		for range 3 {
			w.source(refusing).Token(t.Context())
		}
		if n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
	inBubble(t, "a budget that somebody has made negative", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		w.loggedIn().Close()
		key := freshtoken.StoreKey(w.config())
		data, _ := w.store.Load(t.Context(), key)
		w.store.Save(t.Context(), key, freshtoken.EditRecord(data, func(r map[string]any) {
			r["forced"] = map[string]any{"left": -1, "at": time.Now()}
		}))
		src := w.source()
		for range 50 {
			src.Refresh(t.Context(), nil)
		}
		w.wantPosts(0)
	})
}

func TestBackgroundBeginsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Hour, RefreshLifetime: 2 * time.Hour})
		w.loggedIn().Close()
		src := w.source(func(c *freshtoken.Config) { c.Background = true })
		time.Sleep(25 * time.Hour)
		start := time.Now()
		wantAlive(t, w, src)
		if d := time.Since(start); d != 0 {
			t.Errorf("a caller waited %v", d)
		}
	})
}

// A Refresher that does not return when its context is done.
func TestRefresherHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		release := make(chan struct{})
		n := 0
		src := w.loggedIn(func(c *freshtoken.Config) {
			c.Refresher = freshtoken.RefresherFunc(func(context.Context, *oauth2.Token) (*oauth2.Token, error) {
				if n++; n == 1 {
					<-release
				}
				return &oauth2.Token{AccessToken: "at", ExpiresIn: 60}, nil
			})
		})
		time.Sleep(lifetime)
		_, err := src.Token(soon(t, 35*time.Second))
		if !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "Refresher") {
			t.Errorf("got %v", err)
		}
		if strings.Contains(err.Error(), "store") {
			t.Errorf("the store is blamed: %v", err)
		}
		close(release)
		time.Sleep(time.Minute)
		w.token(src)
	})
}

// late is a base whose answer has arrived when its request's time ends, and is
// only then read: what a program finds that was stopped in mid-request.
type late struct {
	base http.RoundTripper
	by   time.Duration
}

func (l late) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.base.RoundTrip(req)
	select {
	case <-time.After(l.by):
		return resp, err
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}

func TestStoppedInMidRequest(t *testing.T) {
	inBubble(t, "the answer that is waiting is read", func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{}, func(c *freshtoken.Config) {
			c.HTTPClient = &http.Client{Transport: late{c.HTTPClient.Transport, 31 * time.Second}}
		})
		wantAlive(t, w, src)
		w.wantPosts(1)
	})
}

func TestLockHangs(t *testing.T) {
	inBubble(t, "without a goroutine for every attempt", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		f := w.faults()
		w.loggedIn().Close()
		time.Sleep(lifetime)
		release := make(chan struct{})
		var calls atomic.Int32
		f.set(func(f *faulty) { f.lock = func() error { calls.Add(1); <-release; return nil } })
		src := w.source()
		for range 100 {
			_, err := src.Token(t.Context())
			wantErr(t, err, freshtoken.ErrLocked)
			time.Sleep(time.Second)
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("%d calls of Lock are hanging", n)
		}
		close(release)
		time.Sleep(time.Second)
		w.usable(src)
	})
}

// The last save of Close hangs: the lock stays until it has landed, and what has
// landed is not said to be lost.
func TestCloseWhileItsSaveHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		f := w.faults()
		src := w.loggedIn()
		time.Sleep(lifetime)
		saves := 0
		release := make(chan struct{})
		f.set(func(f *faulty) {
			f.save = func() error {
				switch saves++; saves {
				case 2:
					return errDisk
				case 3:
					<-release
				}
				return nil
			}
		})
		w.usable(src)
		closed := make(chan error, 1)
		go func() { closed <- src.Close() }()
		time.Sleep(20 * time.Second)
		unlock, err := f.Store.Lock(soon(t, time.Second), freshtoken.StoreKey(w.config()))
		if err == nil {
			unlock()
			t.Error("the lock was released while the save could still land")
		}
		close(release)
		if err := <-closed; err != nil {
			t.Errorf("Close: %v", err)
		}
		time.Sleep(lifetime)
		wantAlive(t, w, w.source())
	})
}

func TestDamagedSessionAsksForALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		w.store.Save(t.Context(), freshtoken.StoreKey(w.config()), []byte("damaged"))
		src := w.source()
		_, err := src.Token(t.Context())
		wantErr(t, err, freshtoken.ErrStore)
		wantErr(t, err, freshtoken.ErrSessionEnded)
		w.login(src)
		w.usable(src)
	})
}

// A person who types a passphrase has more time than a disk.
func TestStoreThatAsksAPerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		f := w.faults()
		asking := func() error { time.Sleep(45 * time.Second); return nil }
		f.set(func(f *faulty) { f.load, f.save = asking, asking })
		src := w.loggedIn()
		if !src.Status().Persisted {
			t.Error("the login was not saved")
		}
		w.usable(w.source())
		start := time.Now()
		waiting := w.source()
		go waiting.Token(t.Context())
		time.Sleep(time.Second)
		if err := waiting.Close(); err != nil || time.Since(start) > 5*time.Second {
			t.Errorf("Close: %v after %v", err, time.Since(start))
		}
		time.Sleep(time.Minute) // until the person is done
	})
}

func TestTextsInJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, src := expired(t, oauthtest.Options{})
		w.as.Token.Always(oauthtest.Refuse())
		_, err := src.Token(t.Context())
		for _, value := range []any{err, src.Status(), struct{ E error }{err}, freshtoken.Event{Kind: "x", Err: err}} {
			if data, e := json.Marshal(value); e != nil || !strings.Contains(string(data), "cannot reach") {
				t.Errorf("%T: %s, %v", value, data, e)
			}
		}
		if text := spill(src.Status()); strings.Count(text, "cannot reach") < 5 {
			t.Errorf("got %s", text)
		}
	})
}

func TestLoginHandedInAgainWhileTheDiskIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		f := w.faults()
		src := w.source()
		tok := w.as.Login("alice")
		f.set(func(f *faulty) { f.save = failing(errDisk) })
		wantErr(t, src.SetToken(t.Context(), tok), freshtoken.ErrNotPersisted)
		wantErr(t, src.SetToken(t.Context(), tok), freshtoken.ErrNotPersisted)
		f.set(func(f *faulty) { f.save = nil })
		if err := src.SetToken(t.Context(), tok); err != nil || !src.Status().Persisted {
			t.Errorf("got %v, persisted: %v", err, src.Status().Persisted)
		}
	})
}

// A login that could not be saved, and then the token of an earlier one, whose
// session is stored and newer: that goes on, and its spent token stays unspent.
func TestEarlierLoginHandedInAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		f := w.faults()
		src := w.source()
		tok := w.login(src)
		time.Sleep(lifetime)
		w.usable(src)
		f.set(func(f *faulty) { f.lock = failing(errDisk) })
		wantErr(t, src.SetToken(t.Context(), w.as.Login("alice")), freshtoken.ErrNotPersisted)
		f.set(func(f *faulty) { f.lock = nil })
		if err := src.SetToken(t.Context(), tok); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lifetime)
		wantAlive(t, w, src)
		wantAlive(t, w, w.source())
	})
}

// The server ends a session whose newest tokens could not be saved: what is
// stored is spent, and nobody must send it, not even after the end.
func TestEndedBeforeItWasSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
		f := w.faults()
		src := w.loggedIn()
		time.Sleep(lifetime)
		f.set(afterMark)
		w.usable(src)
		time.Sleep(lifetime)
		w.as.Token.Next(oauthtest.InvalidGrant())
		_, err := src.Token(t.Context())
		wantErr(t, err, freshtoken.ErrSessionEnded)
		other := w.source()
		for range 5 {
			time.Sleep(2 * time.Second)
			_, err = src.Token(t.Context())
			wantErr(t, err, freshtoken.ErrSessionEnded)
			other.Token(soon(t, time.Second))
		}
		w.wantPosts(2)
		f.set(func(f *faulty) { f.save = nil })
		if err := src.Close(); err != nil {
			t.Error(err)
		}
		_, err = w.source().Token(t.Context())
		wantErr(t, err, freshtoken.ErrSessionEnded)
		w.wantPosts(2)
	})
}
