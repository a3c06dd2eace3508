package freshtoken_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// A session that is there is not replaced, unless it is the file's own.
func TestImportBesideASession(t *testing.T) {
	inBubble(t, "another session stays, and so does the file", func(t *testing.T) {
		w, f, src, tok := importing(t)
		w.login(src)
		p := tokenFile(t, tok)
		content := p.read()
		_, saves := f.counts()
		for _, s := range []*freshtoken.Source{src, w.source()} {
			err := s.Import(t.Context(), p.path)
			wantErr(t, err, freshtoken.ErrSessionExists)
			p.wantKept(content, err)
		}
		if _, now := f.counts(); now != saves {
			t.Error("something was saved")
		}
		w.usable(src)
		if err := src.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := src.Import(t.Context(), p.path); err != nil {
			t.Fatal(err)
		}
		p.wantGone()
		if w.token(src).AccessToken != tok.AccessToken {
			t.Error("the session is not that of the file")
		}
	})
	inBubble(t, "one that was never saved is another session", func(t *testing.T) {
		w, f, src, tok := importing(t)
		p := tokenFile(t, tok)
		f.set(func(f *faulty) { f.save = failing(errDisk) })
		wantErr(t, src.SetToken(t.Context(), w.as.Login("alice")), freshtoken.ErrNotPersisted)
		f.set(func(f *faulty) { f.save = nil })
		wantErr(t, src.Import(t.Context(), p.path), freshtoken.ErrSessionExists)
	})
	inBubble(t, "its own goes on, however far it has come", func(t *testing.T) {
		w, _, src, tok := importing(t)
		p := tokenFile(t, tok)
		content := p.read()
		if err := src.Import(t.Context(), p.path); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			time.Sleep(lifetime)
			w.usable(src)
		}
		before := w.stored()
		for _, s := range []*freshtoken.Source{src, w.source()} {
			p.write(content)
			if err := s.Import(t.Context(), p.path); err != nil {
				t.Fatal(err)
			}
			p.wantGone()
			w.usable(s)
		}
		if w.stored() != before {
			t.Error("the session was changed")
		}
	})
	inBubble(t, "its own, of which the file has a newer access token", func(t *testing.T) {
		w, _, src, tok := importing(t)
		if err := src.Import(t.Context(), tokenFile(t, tok).path); err != nil {
			t.Fatal(err)
		}
		before := w.stored()
		p := tokenFile(t, &oauth2.Token{AccessToken: w.as.Login("alice").AccessToken, RefreshToken: tok.RefreshToken})
		if err := src.Import(t.Context(), p.path); err != nil {
			t.Fatal(err)
		}
		p.wantGone()
		if w.stored() != before {
			t.Error("the session was changed")
		}
	})
	inBubble(t, "its own, unsaved, is saved first", func(t *testing.T) {
		w, f, src, tok := importing(t)
		p := tokenFile(t, tok)
		content := p.read()
		f.set(func(f *faulty) { f.save = failing(errDisk) })
		wantErr(t, src.SetToken(t.Context(), tok), freshtoken.ErrNotPersisted)
		err := src.Import(t.Context(), p.path)
		wantErr(t, err, freshtoken.ErrStore)
		p.wantKept(content, err)
		f.set(func(f *faulty) { f.save = nil })
		if err := src.Import(t.Context(), p.path); err != nil {
			t.Fatal(err)
		}
		p.wantGone()
		if !src.Status().Persisted {
			t.Error("it is not said to be saved")
		}
		w.usable(w.source())
	})
	for name, tt := range map[string]struct {
		end  func(t *testing.T, w *world, src *freshtoken.Source)
		want error
	}{
		"logged out": {want: freshtoken.ErrNoSession, end: func(t *testing.T, w *world, src *freshtoken.Source) {
			if err := src.Logout(t.Context()); err != nil {
				t.Fatal(err)
			}
		}},
		"refused by the server": {want: freshtoken.ErrSessionEnded, end: func(t *testing.T, w *world, src *freshtoken.Source) {
			time.Sleep(lifetime)
			w.as.Token.Next(oauthtest.InvalidGrant())
			_, err := src.Token(t.Context())
			wantErr(t, err, freshtoken.ErrSessionEnded)
		}},
	} {
		inBubble(t, "a file that was left behind does not bring back a session that was "+name, func(t *testing.T) {
			w, _, src, tok := importing(t)
			p := tokenFile(t, tok)
			content := p.read()
			if err := src.Import(t.Context(), p.path); err != nil {
				t.Fatal(err)
			}
			tt.end(t, w, src)
			posts := w.posts()
			p.write(content)
			for _, s := range []*freshtoken.Source{src, w.source()} {
				err := s.Import(t.Context(), p.path)
				wantErr(t, err, tt.want)
				p.wantKept(content, err)
				_, err = s.Token(t.Context())
				wantErr(t, err, tt.want)
			}
			w.wantPosts(posts)
			p.write(w.as.Login("alice"))
			if err := src.Import(t.Context(), p.path); err != nil {
				t.Fatal(err)
			}
			w.usable(src)
		})
	}
}

// The file is removed after the session is safe, and only if it is what was
// read.
func TestImportRemoves(t *testing.T) {
	inBubble(t, "not when the program is killed in between; the next one does", func(t *testing.T) {
		w, f, src, tok := importing(t)
		p := tokenFile(t, tok)
		content := p.read()
		w.store = &dying{faulty: f}
		err := w.source().Import(t.Context(), p.path)
		p.wantKept(content, err)
		saved := w.dump(f)
		if !strings.Contains(saved, tok.RefreshToken) {
			t.Fatal("the session was not saved")
		}
		if err := src.Import(t.Context(), p.path); err != nil {
			t.Fatal(err)
		}
		p.wantGone()
		if w.dump(f) != saved {
			t.Error("the session was saved again")
		}
		w.usable(src)
	})
	for name, tt := range map[string]struct {
		change func(p *plaintext)
		left   string
	}{
		"rewritten":                  {func(p *plaintext) { p.write("newer") }, "newer"},
		"rewritten, of the same age": {func(p *plaintext) { p.touched(func() { p.write("newer") }) }, "newer"},
		"replaced": {func(p *plaintext) {
			os.WriteFile(p.path+".new", []byte("newer"), 0o600)
			os.Rename(p.path+".new", p.path)
		}, "newer"},
		"replaced by a copy": {func(p *plaintext) {
			p.touched(func() {
				os.WriteFile(p.path+".new", []byte(p.read()), 0o600)
				os.Rename(p.path+".new", p.path)
			})
		}, "same"},
		"written again": {func(p *plaintext) { os.Chtimes(p.path, time.Time{}, time.Now()) }, "same"},
		"replaced by something else": {func(p *plaintext) {
			os.Remove(p.path)
			os.Mkdir(p.path, 0o700)
		}, ""},
	} {
		inBubble(t, "not a file that was "+name+" meanwhile", func(t *testing.T) {
			w, f, src, tok := importing(t)
			p := tokenFile(t, tok)
			if tt.left == "same" {
				tt.left = p.read()
			}
			f.set(func(f *faulty) { f.save = func() error { tt.change(p); return nil } })
			err := src.Import(t.Context(), p.path)
			wantErr(t, err, freshtoken.ErrNotRemoved)
			if tt.left == "" {
				if info, err := os.Lstat(p.path); err != nil || !info.IsDir() {
					t.Errorf("it was removed: %v", err)
				}
			} else {
				p.wantKept(tt.left, err)
			}
			if !strings.Contains(fmt.Sprint(err), "by hand") {
				t.Errorf("the error does not say what to do: %v", err)
			}
			w.usable(src) // it is imported
			w.usable(w.source())
		})
	}
	inBubble(t, "not a second time", func(t *testing.T) {
		w, f, src, tok := importing(t)
		p := tokenFile(t, tok)
		f.set(func(f *faulty) { f.save = func() error { return os.Remove(p.path) } })
		if err := src.Import(t.Context(), p.path); err != nil {
			t.Error(err)
		}
		w.usable(src)
	})
	t.Run("not from a directory that cannot be written, and says so", func(t *testing.T) {
		w, _, src, tok := importing(t)
		p := tokenFile(t, tok)
		content, dir := p.read(), filepath.Dir(p.path)
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(dir, 0o700)
		if probe, err := os.Create(filepath.Join(dir, "probe")); err == nil {
			probe.Close()
			t.Skip("this system or user writes to any directory")
		}
		for range 2 {
			err := src.Import(t.Context(), p.path)
			wantErr(t, err, freshtoken.ErrNotRemoved)
			wantErr(t, err, fs.ErrPermission)
			p.wantKept(content, err)
			w.usable(src)
		}
	})
}

// touched makes a change that leaves the time of the file as it was.
func (p *plaintext) touched(change func()) {
	info, err := os.Lstat(p.path)
	if err != nil {
		p.t.Fatal(err)
	}
	change()
	if err := os.Chtimes(p.path, info.ModTime(), info.ModTime()); err != nil {
		p.t.Fatal(err)
	}
}

// dying is a store whose process ends when it has saved something.
type dying struct{ *faulty }

func (d *dying) Save(ctx context.Context, key string, value []byte) error {
	d.faulty.Save(ctx, key, value)
	runtime.Goexit()
	return nil
}

// dump is what f has under the key of the world's session.
func (w *world) dump(f *faulty) string {
	data, err := f.Store.Load(context.Background(), freshtoken.StoreKey(w.config()))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(data)
}

// Several programs start at once, and find the same file.
func TestImportAtOnce(t *testing.T) {
	w := newWorld(t, oauthtest.Options{})
	dir := canary.Dir(t, "key")
	tok := w.as.Login("alice")
	p := tokenFile(t, tok)
	var mu sync.Mutex
	var programs []*freshtoken.Source
	imported := 0
	var wg sync.WaitGroup
	for range 8 {
		store := fileStore(t, dir) // each has its own, and they lock as processes do
		wg.Go(func() {
			src := w.source(func(c *freshtoken.Config) { c.Store = store })
			err := src.Import(context.Background(), p.path)
			mu.Lock()
			defer mu.Unlock()
			programs = append(programs, src)
			if err == nil {
				imported++
			} else if !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	p.wantGone()
	if imported != 1 {
		t.Errorf("%d have imported it, want 1", imported)
	}
	for _, src := range programs {
		if w.token(src).AccessToken != tok.AccessToken || src.Status().Generation != 1 {
			t.Errorf("a program has another session: %+v", src.Status())
		}
	}
	w.wantPosts(0)
}
