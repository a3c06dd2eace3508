package freshtoken_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// Records that somebody has put back into the store: from a backup, or by a
// program that synchronizes files.

// restore puts a stored record back.
func (w *world) restore(record string) {
	w.t.Helper()
	if err := w.store.Save(context.Background(), freshtoken.StoreKey(w.config()), []byte(record)); err != nil {
		w.t.Fatal(err)
	}
}

// Nothing brings a session back after Logout: not a backup, for a program that
// knows of the Logout, whether or not it was the one that logged out, and not
// one that another program has taken up and refreshed since.
func TestBackupAfterLogout(t *testing.T) {
	for _, refreshed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{})
			a, b, c := w.loggedIn(), w.source(), w.source()
			w.token(b)
			w.token(c)
			backup := w.stored()
			time.Sleep(time.Minute)
			if err := a.Logout(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Hour)
			_, err := b.Token(t.Context()) // learns of it
			wantErr(t, err, freshtoken.ErrNoSession)
			w.restore(backup)
			if refreshed {
				w.token(c) // knows of nothing
			}
			posts := w.posts()
			for _, src := range []*freshtoken.Source{b, a} {
				time.Sleep(time.Minute)
				_, err := src.Token(t.Context())
				wantErr(t, err, freshtoken.ErrNoSession)
			}
			time.Sleep(2 * time.Hour)
			w.wantGone(a, b, c)
			w.wantPosts(posts)
		})
	}
}

// What a program knows of a Logout outlives the sessions that come after it, and
// that even the note of it is removed.
func TestBackupOfAnOlderSession(t *testing.T) {
	for _, tt := range []struct {
		name  string
		after func(w *world, a *freshtoken.Source) // the Logout
	}{
		{"a later session is logged out, too", func(w *world, a *freshtoken.Source) {
			w.login(a)
			time.Sleep(time.Minute)
			if err := a.Logout(w.t.Context()); err != nil {
				w.t.Fatal(err)
			}
		}},
		{"a later session goes on", func(w *world, a *freshtoken.Source) { w.login(a) }},
		{"it is forgotten", func(w *world, a *freshtoken.Source) {
			if err := w.store.Delete(w.t.Context(), freshtoken.StoreKey(w.config())); err != nil {
				w.t.Fatal(err)
			}
		}},
	} {
		inBubble(t, tt.name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{})
			a, b := w.loggedIn(), w.source()
			w.token(b)
			backup := w.stored()
			look := func() {
				time.Sleep(2 * time.Hour)
				for _, src := range []*freshtoken.Source{b, a} {
					src.Token(t.Context())
				}
			}
			if err := a.Logout(t.Context()); err != nil {
				t.Fatal(err)
			}
			look()
			tt.after(w, a)
			look()
			posts := w.posts()
			w.restore(backup)
			look()
			time.Sleep(time.Minute) // saves are tried again
			w.wantGone(a, b, w.source())
			w.wantPosts(posts)
			w.login(b)
			w.usable(a)
		})
	}
}

// Nor does it undo a login that could not be saved yet.
func TestBackupBeforeALoginIsSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		disk := &faulty{Store: w.store}
		src := w.loggedIn(func(c *freshtoken.Config) { c.Store = disk })
		backup := w.stored()
		if err := src.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		disk.set(func(f *faulty) { f.save = func() error { return errors.New("the disk fails") } })
		tok := w.as.Login("alice")
		wantErr(t, src.SetToken(t.Context(), tok), freshtoken.ErrNotPersisted)
		w.restore(backup)
		disk.set(func(f *faulty) { f.save = nil })
		time.Sleep(time.Minute)
		for _, src := range []*freshtoken.Source{src, w.source()} {
			if got := w.token(src); got.AccessToken != tok.AccessToken {
				t.Error("the token is not that of the login")
			}
		}
	})
}

// A login that could not be saved yet follows what its program knew, though the
// clock of the program that ended that was ahead.
func TestLoginAfterALogoutFromTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		disk := &faulty{Store: w.store}
		src := w.loggedIn(func(c *freshtoken.Config) { c.Store = disk })
		if err := src.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.restore(ahead(t, w.stored(), 30*24*time.Hour))
		again := w.source(func(c *freshtoken.Config) { c.Store = disk })
		_, err := again.Token(t.Context())
		wantErr(t, err, freshtoken.ErrNoSession)
		disk.set(func(f *faulty) { f.save = func() error { return errors.New("the disk fails") } })
		tok := w.as.Login("alice")
		wantErr(t, again.SetToken(t.Context(), tok), freshtoken.ErrNotPersisted)
		disk.set(func(f *faulty) { f.save = nil })
		time.Sleep(time.Minute)
		for _, src := range []*freshtoken.Source{again, w.source()} {
			if got := w.token(src); got.AccessToken != tok.AccessToken {
				t.Error("the token is not that of the login")
			}
		}
	})
}

// ahead returns a stored session whose beginning lies ahead.
func ahead(t *testing.T, stored string, by time.Duration) string {
	t.Helper()
	var members map[string]any
	if err := json.Unmarshal([]byte(stored), &members); err != nil {
		t.Fatal(err)
	}
	members["started"] = time.Now().Add(by).UTC()
	changed, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return string(changed)
}

// A Logout also ends the stored session whose place its own never took, because
// its login could not be saved.
func TestBackupOfWhatAnUnsavedLoginReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		disk := &faulty{Store: w.store}
		src := w.loggedIn(func(c *freshtoken.Config) { c.Store = disk })
		backup := w.stored()
		disk.set(func(f *faulty) { f.save = func() error { return errors.New("the disk fails") } })
		wantErr(t, src.SetToken(t.Context(), w.as.Login("alice")), freshtoken.ErrNotPersisted)
		disk.set(func(f *faulty) { f.save = nil })
		if err := src.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		posts := w.posts()
		w.restore(backup)
		time.Sleep(2 * time.Hour)
		src.Token(t.Context())
		time.Sleep(time.Minute) // saves are tried again
		w.wantGone(src, w.source())
		w.wantPosts(posts)
	})
}

// It is not taken for the work of a faster program, either, when the server has
// refused the session that was there.
func TestBackupWhileARefreshIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn()
		backup := w.stored()
		if err := src.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		tok := w.login(src)
		time.Sleep(2 * time.Hour)
		w.as.RevokeFamily(tok.RefreshToken)
		w.as.Token.Func(func(*http.Request, int) oauthtest.Fault {
			w.restore(backup)
			return oauthtest.Fault{}
		})
		for range 3 {
			_, err := src.Token(t.Context())
			wantErr(t, err, freshtoken.ErrSessionEnded)
			time.Sleep(time.Minute)
		}
		w.wantPosts(1)
		if got := w.stored(); got == backup {
			t.Error("the backup is still there")
		}
	})
}

// A login after that is a session like any other.
func TestLoginAfterRestoredLogout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn()
		backup := w.stored()
		if err := src.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.restore(backup)
		w.login(src)
		w.usable(src)
		w.usable(w.source())
		time.Sleep(2 * time.Hour)
		w.usable(src)
	})
}

// The pause that a server asks for holds, too, if it was asked for while an older
// record was in the store, which is then replaced by somebody who knows better.
func TestPauseOfARestoredRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute})
		a := w.loggedIn()
		backup := w.stored()
		time.Sleep(2 * time.Minute)
		w.token(a)
		time.Sleep(2 * time.Minute)
		w.restore(backup)
		w.as.Token.Next(oauthtest.TooManyRequests("300"))
		if _, err := w.source().Token(t.Context()); err == nil {
			t.Fatal("the server has answered")
		}
		posts := w.posts()
		time.Sleep(4 * time.Minute)
		_, err := a.Token(t.Context())
		if e := refreshError(t, err); !e.Temporary || e.RetryAfter < 30*time.Second {
			t.Errorf("got %v, RetryAfter %v", err, e.RetryAfter)
		}
		w.wantPosts(posts)
		time.Sleep(2 * time.Minute)
		w.usable(a)
		w.wantPosts(posts + 1)
	})
}

// So does the one after a refusal, of a server that does not rotate: it was about
// the same refresh token.
func TestRefusalOfARestoredRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: time.Minute, Rotation: oauthtest.NoRotation})
		a := w.loggedIn()
		backup := w.stored()
		time.Sleep(2 * time.Minute)
		w.token(a)
		time.Sleep(2 * time.Minute)
		w.restore(backup)
		w.as.Token.Next(oauthtest.Pick(oauthtest.OddRefusals(), "invalid-request-expired"))
		if _, err := w.source().Token(t.Context()); err == nil {
			t.Fatal("the server has answered")
		}
		posts := w.posts()
		if _, err := a.Token(t.Context()); err == nil {
			t.Error("there was no pause")
		}
		w.wantPosts(posts)
		time.Sleep(time.Minute)
		w.usable(a)
	})
}

// A session that is kept fresh in the background stays so, if its token expires
// while the flight that is due waits for its turn.
func TestBackgroundSurvivesALongTurn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token.json")
	if err := os.WriteFile(path, []byte(`{"access_token":"another","refresh_token":"one"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{AccessLifetime: 30 * time.Second})
		src := w.loggedIn(func(c *freshtoken.Config) { c.Background = true })
		time.Sleep(20 * time.Second)
		unlock, err := w.store.Lock(t.Context(), freshtoken.StoreKey(w.config()))
		if err != nil {
			t.Fatal(err)
		}
		imported := make(chan error, 1)
		go func() { imported <- src.Import(context.Background(), path) }() // waits for the lock
		time.Sleep(20 * time.Second)
		unlock()
		wantErr(t, <-imported, freshtoken.ErrSessionExists)
		for range 5 {
			time.Sleep(time.Minute)
			if st := src.Status(); !st.Expiry.After(time.Now()) {
				t.Fatalf("nobody has refreshed: %+v", st)
			}
		}
	})
}
