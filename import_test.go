package freshtoken_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// plaintext is a file that a program has kept its session in.
type plaintext struct {
	t    *testing.T
	path string
}

// tokenFile writes a file with this content: text, or something to be encoded.
func tokenFile(t *testing.T, content any) *plaintext {
	t.Helper()
	p := &plaintext{t, filepath.Join(canary.Dir(t, "token.json"), "token.json")}
	p.write(content)
	return p
}

func (p *plaintext) write(content any) {
	p.t.Helper()
	data, ok := content.(string)
	if !ok {
		encoded, err := json.Marshal(content)
		if err != nil {
			p.t.Fatal(err)
		}
		data = string(encoded)
	}
	if err := os.WriteFile(p.path, []byte(data), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *plaintext) read() string {
	data, err := os.ReadFile(p.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.t.Fatal(err)
	}
	return string(data)
}

func (p *plaintext) wantGone() {
	p.t.Helper()
	if _, err := os.Lstat(p.path); !errors.Is(err, fs.ErrNotExist) {
		p.t.Errorf("the plaintext file is still there: %v", err)
	}
}

// wantKept fails the test unless the file is as it was, and error shows nothing
// of it.
func (p *plaintext) wantKept(content string, err error) {
	p.t.Helper()
	if got := p.read(); got != content {
		p.t.Errorf("the file has become %q", got)
	}
	if errors.Is(err, fs.ErrNotExist) {
		p.t.Errorf("the error is taken for the absence of the file: %v", err)
	}
	if err == nil || strings.Contains(err.Error(), "hush") || !strings.HasPrefix(err.Error(), "freshtoken: ") {
		p.t.Errorf("got error %v", err)
	}
}

func importing(t *testing.T) (*world, *faulty, *freshtoken.Source, *oauth2.Token) {
	t.Helper()
	w := newWorld(t, oauthtest.Options{AccessLifetime: lifetime})
	f := w.faults()
	return w, f, w.source(), w.as.Login("alice")
}

func TestImport(t *testing.T) {
	type file func(w *world, tok *oauth2.Token) any
	for name, content := range map[string]file{
		"an oauth2.Token": func(_ *world, tok *oauth2.Token) any { return tok },
		"the token.json of Python": func(w *world, tok *oauth2.Token) any {
			return map[string]any{"token": tok.AccessToken, "refresh_token": tok.RefreshToken, "token_uri": w.as.TokenURL(), "client_id": "client",
				"client_secret": "hush", "scopes": []string{"a"}, "expiry": tok.Expiry.UTC().Format("2006-01-02T15:04:05.999999")}
		},
		"gcloud's file": func(_ *world, tok *oauth2.Token) any {
			return map[string]any{"type": "authorized_user", "client_id": "client", "client_secret": "hush", "refresh_token": tok.RefreshToken}
		},
		"a refresh token alone": func(_ *world, tok *oauth2.Token) any { return map[string]any{"refresh_token": tok.RefreshToken} },
	} {
		inBubble(t, "takes over "+name, func(t *testing.T) {
			w, _, src, tok := importing(t)
			p := tokenFile(t, content(w, tok))
			if err := src.Import(t.Context(), p.path); err != nil {
				t.Fatal(err)
			}
			p.wantGone()
			for range 3 {
				w.usable(src)
				time.Sleep(lifetime)
			}
			w.usable(w.source())
			if st := src.Status(); st.State != freshtoken.StateAlive || !st.Persisted {
				t.Errorf("got %+v", st)
			}
			if s := w.as.Stats(); s.Reuses != 0 || s.InvalidGrants != 0 {
				t.Errorf("got %+v", s)
			}
		})
	}
	inBubble(t, "expires_in counts from when the file was written", func(t *testing.T) {
		w, _, src, tok := importing(t)
		p := tokenFile(t, fmt.Sprintf(`{"access_token":%q,"refresh_token":%q,"token_type":"Bearer","expires_in":60}`, tok.AccessToken, tok.RefreshToken))
		written := time.Now()
		if err := os.Chtimes(p.path, written, written); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Second)
		if err := src.Import(t.Context(), p.path); err != nil {
			t.Fatal(err)
		}
		if got := src.Status().Expiry; !got.Equal(written.Add(lifetime)) {
			t.Errorf("expires %v, want %v", got, written.Add(lifetime))
		}
		time.Sleep(10 * time.Second)
		w.usable(src)
		w.wantPosts(1)
	})
	inBubble(t, "without a file, costs nothing", func(t *testing.T) {
		_, f, src, _ := importing(t)
		f.set(func(f *faulty) {
			fail := func() error { t.Error("the store was asked"); return errDown }
			f.load, f.save, f.lock = fail, fail, fail
		})
		err := src.Import(t.Context(), filepath.Join(t.TempDir(), "token.json"))
		wantErr(t, err, fs.ErrNotExist)
		if !strings.HasPrefix(err.Error(), "freshtoken: ") {
			t.Errorf("got %v", err)
		}
	})
	inBubble(t, "says that a session begins", func(t *testing.T) {
		w, _, _, tok := importing(t)
		var events recorder
		src := w.source(func(c *freshtoken.Config) { c.OnEvent = events.receive })
		_, err := src.Token(t.Context())
		wantErr(t, err, freshtoken.ErrNoSession)
		if err := src.Import(t.Context(), tokenFile(t, tok).path); err != nil {
			t.Fatal(err)
		}
		w.usable(src)
		synctest.Wait()
		if events.count(freshtoken.EventLoggedIn) != 1 {
			t.Error("no event")
		}
	})
}

// Whatever fails, the file stays as it is, and so does the store.
func TestImportRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		content string
		want    error
	}{
		"no JSON":                           {`{"access_token":"hush`, freshtoken.ErrBadToken},
		"nothing":                           {"", freshtoken.ErrBadToken},
		"no token":                          {`{"client_secret":"hush"}`, freshtoken.ErrBadToken},
		"the key of a service account":      {`{"type":"service_account","private_key":"hush"}`, freshtoken.ErrBadToken},
		"a token of another type":           {`{"access_token":"hush","token_type":"mac"}`, freshtoken.ErrBadToken},
		"a token that no header can carry":  {`{"access_token":"hush\r\nhush"}`, freshtoken.ErrBadToken},
		"a refresh token that is no text":   {`{"refresh_token":"hush\u0000"}`, freshtoken.ErrBadToken},
		"a dead token and no other":         {`{"access_token":"hush","expiry":"1999-12-31T00:00:00Z"}`, freshtoken.ErrBadToken},
		"a file larger than a mebibyte":     {`{"access_token":"hush"}` + strings.Repeat(" ", 1<<20), freshtoken.ErrBadToken},
		"another client's token":            {`{"refresh_token":"hush","client_id":"hush-client"}`, freshtoken.ErrMismatch},
		"a token of another server":         {`{"refresh_token":"hush","client_id":"client","token_uri":"https://hush.test/token"}`, freshtoken.ErrMismatch},
		"a token of our server, by no name": {`{"refresh_token":"hush","token_uri":"https://oauth.test/token/"}`, freshtoken.ErrMismatch},
	} {
		inBubble(t, name, func(t *testing.T) {
			w, f, src, _ := importing(t)
			p := tokenFile(t, tt.content)
			err := src.Import(t.Context(), p.path)
			wantErr(t, err, tt.want)
			p.wantKept(tt.content, err)
			if tt.want == freshtoken.ErrMismatch && !strings.Contains(err.Error(), "client_id") && !strings.Contains(err.Error(), "token_uri") {
				t.Errorf("the error does not say what differs: %v", err)
			}
			_, err = src.Token(t.Context())
			wantErr(t, err, freshtoken.ErrNoSession)
			if _, saves := f.counts(); saves != 0 || w.posts() != 0 {
				t.Errorf("%d saves, %d requests", saves, w.posts())
			}
		})
	}
	inBubble(t, "what is not a file", func(t *testing.T) {
		_, _, src, tok := importing(t)
		p := tokenFile(t, tok)
		content, link := p.read(), p.path+".link"
		wantErr(t, src.Import(t.Context(), filepath.Dir(p.path)), freshtoken.ErrBadToken)
		os.Symlink(p.path, link)
		// Where there are no links it has failed, or, as Wine does, only says
		// that it has not.
		if info, err := os.Lstat(link); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			err := src.Import(t.Context(), link)
			wantErr(t, err, freshtoken.ErrBadToken)
			p.wantKept(content, err)
		}
		if err := src.Import(t.Context(), ""); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("no path: %v", err)
		}
	})
	inBubble(t, "where nothing is durable", func(t *testing.T) {
		w, _, _, tok := importing(t)
		p := tokenFile(t, tok)
		content := p.read()
		err := w.source(func(c *freshtoken.Config) { c.Store = nil }).Import(t.Context(), p.path)
		p.wantKept(content, err)
		if !strings.Contains(fmt.Sprint(err), "Config.Store") {
			t.Errorf("got %v", err)
		}
	})
	inBubble(t, "once closed, and when its context has ended", func(t *testing.T) {
		_, _, src, tok := importing(t)
		p := tokenFile(t, tok)
		content := p.read()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := src.Import(ctx, p.path)
		wantErr(t, err, context.Canceled)
		p.wantKept(content, err)
		elsewhere, cancelFor := context.WithCancelCause(t.Context())
		cancelFor(fmt.Errorf("%w: another file: %w", errDown, fs.ErrNotExist))
		err = src.Import(elsewhere, p.path)
		wantErr(t, err, context.Canceled)
		wantErr(t, err, errDown)
		p.wantKept(content, err)
		src.Close()
		err = src.Import(t.Context(), p.path)
		wantErr(t, err, freshtoken.ErrClosed)
		p.wantKept(content, err)
	})
}

// A store that fails at any point: the file stays, nobody is logged in, and the
// next attempt succeeds.
func TestImportIntoAFailingStore(t *testing.T) {
	second := func(hook func() error) func() error {
		n := 0
		return func() error {
			if n++; n == 2 {
				return hook()
			}
			return nil
		}
	}
	missing := fmt.Errorf("the directory is gone: %w", fs.ErrNotExist)
	for name, tt := range map[string]struct {
		fail  func(*faulty)
		saved bool // and the session is there afterwards
	}{
		"cannot be locked":            {fail: func(f *faulty) { f.lock = failing(errDown) }},
		"has no place for locks":      {fail: func(f *faulty) { f.lock = failing(missing) }},
		"cannot be read":              {fail: func(f *faulty) { f.load = failing(errDown) }},
		"is damaged":                  {fail: func(f *faulty) { f.load = failing(corrupt{}) }},
		"cannot be written":           {fail: func(f *faulty) { f.save = failing(errDisk) }},
		"has no place for sessions":   {fail: func(f *faulty) { f.save = failing(missing) }},
		"cannot be read back":         {fail: func(f *faulty) { f.load = second(failing(errDown)) }, saved: true},
		"has nothing to be read back": {fail: func(f *faulty) { f.load = second(failing(fs.ErrNotExist)) }, saved: true},
	} {
		inBubble(t, "one that "+name, func(t *testing.T) {
			w, f, src, tok := importing(t)
			p := tokenFile(t, tok)
			content := p.read()
			f.set(tt.fail)
			err := src.Import(t.Context(), p.path)
			wantErr(t, err, freshtoken.ErrStore)
			p.wantKept(content, err)
			f.set(func(f *faulty) { f.load, f.save, f.lock = nil, nil, nil })
			time.Sleep(2 * time.Second)
			if _, err = src.Token(t.Context()); !tt.saved {
				wantErr(t, err, freshtoken.ErrNoSession)
			} else if err != nil {
				t.Error(err)
			}
			if err := src.Import(t.Context(), p.path); err != nil {
				t.Fatal(err)
			}
			p.wantGone()
			w.usable(src)
			w.usable(w.source())
		})
	}
	inBubble(t, "one that returns something else", func(t *testing.T) {
		w, f, _, tok := importing(t)
		p := tokenFile(t, tok)
		content := p.read()
		w.store = forgetful{f}
		err := w.source().Import(t.Context(), p.path)
		wantErr(t, err, freshtoken.ErrStore)
		p.wantKept(content, err)
	})
	inBubble(t, "one that is waited for longer than the context allows", func(t *testing.T) {
		w, f, src, tok := importing(t)
		p := tokenFile(t, tok)
		content := p.read()
		unlock, err := f.Lock(t.Context(), freshtoken.StoreKey(w.config()))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, fs.ErrNotExist)
		defer cancel()
		err = src.Import(ctx, p.path)
		wantErr(t, err, context.DeadlineExceeded)
		p.wantKept(content, err)
		unlock()
		synctest.Wait() // it still takes effect
		p.wantGone()
		w.usable(src)
	})
	inBubble(t, "one that another process has locked", func(t *testing.T) {
		w, f, src, tok := importing(t)
		p := tokenFile(t, tok)
		content := p.read()
		unlock, err := f.Lock(t.Context(), freshtoken.StoreKey(w.config()))
		if err != nil {
			t.Fatal(err)
		}
		err = src.Import(t.Context(), p.path)
		wantErr(t, err, freshtoken.ErrLocked)
		p.wantKept(content, err)
		unlock()
		if err := src.Import(t.Context(), p.path); err != nil {
			t.Error(err)
		}
		p.wantGone()
	})
	inBubble(t, "one that cannot be locked, with InsecureUnsaved", func(t *testing.T) {
		w, f, _, tok := importing(t)
		p := tokenFile(t, tok)
		content := p.read()
		f.set(func(f *faulty) { f.lock = failing(errDown) })
		err := w.source(func(c *freshtoken.Config) { c.InsecureUnsaved = true }).Import(t.Context(), p.path)
		wantErr(t, err, freshtoken.ErrStore)
		p.wantKept(content, err)
	})
}

// forgetful is a store that loses a piece of what is saved.
type forgetful struct{ *faulty }

func (s forgetful) Save(ctx context.Context, key string, value []byte) error {
	return s.faulty.Save(ctx, key, freshtoken.EditRecord(value, func(r map[string]any) { r["refresh_token"] = "another" }))
}
