package freshtoken_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// indexed is a Store that knows what it keeps.
type indexed struct {
	*faulty

	mu     sync.Mutex // guards what follows
	keys   map[string]bool
	more   []string     // keys that List returns beside its own
	err    error        // of List
	delete func() error // nil: it works
}

func (l *indexed) Save(ctx context.Context, key string, value []byte) error {
	if err := l.faulty.Save(ctx, key, value); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys[key] = true
	return nil
}

func (l *indexed) Delete(ctx context.Context, key string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.delete != nil {
		if err := l.delete(); err != nil {
			return err
		}
	}
	delete(l.keys, key)
	return l.faulty.Delete(ctx, key)
}

func (l *indexed) List(context.Context) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := append([]string{}, l.more...)
	for key := range l.keys {
		all = append(all, key)
	}
	return all, l.err
}

// has reports whether anything in the store, or the name of it, shows text.
func (l *indexed) has(t *testing.T, text string) bool {
	t.Helper()
	keys, _ := l.List(t.Context())
	for _, key := range keys {
		data, _ := l.Store.Load(context.Background(), key)
		if strings.Contains(key+string(data), text) {
			return true
		}
	}
	return false
}

// accounts is a program with several accounts, on a store that lists.
func accounts(t *testing.T, o oauthtest.Options, edits ...func(*freshtoken.Config)) (*world, *indexed, *freshtoken.Sources) {
	t.Helper()
	w := newWorld(t, o)
	l := &indexed{faulty: w.faults(), keys: make(map[string]bool)}
	w.store = l
	return w, l, w.sources(edits...)
}

func (w *world) sources(edits ...func(*freshtoken.Config)) *freshtoken.Sources {
	w.t.Helper()
	cfg := w.config()
	for _, edit := range edits {
		edit(&cfg)
	}
	all, err := freshtoken.NewSources(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { all.Close() })
	return all
}

// account is a session of this name that is logged in.
func (w *world) account(all *freshtoken.Sources, name string) (*freshtoken.Source, *oauth2.Token) {
	w.t.Helper()
	src := w.get(all, name)
	tok := w.as.Login(name)
	if err := src.SetToken(context.Background(), tok); err != nil {
		w.t.Fatal(err)
	}
	return src, tok
}

func (w *world) get(all *freshtoken.Sources, name string) *freshtoken.Source {
	w.t.Helper()
	src, err := all.Get(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return src
}

// names are what List returns, as text.
func names(list []freshtoken.Status) string {
	var all []string
	for _, st := range list {
		all = append(all, st.Session)
	}
	return strings.Join(all, " ")
}

func TestSources(t *testing.T) {
	inBubble(t, "one Source for each name, whoever asks", func(t *testing.T) {
		w, _, all := accounts(t, oauthtest.Options{})
		var wg sync.WaitGroup
		got := make([]*freshtoken.Source, 100)
		for i := range got {
			wg.Go(func() { got[i] = w.get(all, fmt.Sprint(i%2)) })
		}
		wg.Wait()
		for i, src := range got {
			if src != got[i%2] || got[0] == got[1] {
				t.Fatalf("the %d. Source is another one", i)
			}
		}
		if w.get(all, "") != w.get(all, "default") || w.get(all, "").Status().Session != "default" {
			t.Error("the empty name is not the default")
		}
	})
	t.Run("what is wrong with a Config is said at once", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		for want, edit := range map[string]func(*freshtoken.Config){
			"Sources.Get":   func(c *freshtoken.Config) { c.Session = "alice" },
			"OAuth2 is nil": func(c *freshtoken.Config) { c.OAuth2 = nil },
		} {
			cfg := w.config()
			edit(&cfg)
			if _, err := freshtoken.NewSources(cfg); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "freshtoken: ") {
				t.Errorf("got %v, want %q in it", err, want)
			}
		}
		if _, err := w.sources().Get("\xff"); err == nil || !strings.Contains(err.Error(), "UTF-8") {
			t.Errorf("a name that is not UTF-8: %v", err)
		}
	})
	inBubble(t, "a Source that was closed is replaced", func(t *testing.T) {
		w, _, all := accounts(t, oauthtest.Options{})
		src, _ := w.account(all, "alice")
		src.Close()
		if w.get(all, "alice") == src {
			t.Fatal("it is the same one")
		}
		w.usable(w.get(all, "alice"))
	})
	inBubble(t, "a Source that was closed is kept no longer", func(t *testing.T) {
		w, _, all := accounts(t, oauthtest.Options{})
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				src := w.get(all, fmt.Sprint(i/2)) // two close the same one, or one after the other
				if i%3 == 0 {
					src = w.target(src, reading)
				}
				if err := src.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if text := fmt.Sprint(all); !strings.Contains(text, "Open: 0}") {
			t.Errorf("all are closed, and it is %s", text)
		}
	})
	inBubble(t, "one that takes its place is kept, and one that is being closed is waited for", func(t *testing.T) {
		w, _, all := accounts(t, oauthtest.Options{AccessLifetime: lifetime})
		alice, _ := w.account(all, "alice")
		time.Sleep(lifetime)
		w.as.Token.Next(oauthtest.Fault{Delay: 10 * time.Second})
		go alice.Token(t.Context())
		time.Sleep(time.Second)
		closed := make(chan error, 1)
		go func() { closed <- alice.Close() }()
		synctest.Wait()
		if text := fmt.Sprint(all); !strings.Contains(text, "Open: 1}") {
			t.Errorf("Close has not finished, and it is %s", text)
		}
		next := w.get(all, "alice")
		if err := <-closed; err != nil {
			t.Error(err)
		}
		if next == alice || w.get(all, "alice") != next {
			t.Error("the one that came in its place was dropped")
		}
		w.usable(next)
	})
	inBubble(t, "Close closes all, and says whose tokens are lost", func(t *testing.T) {
		w, l, all := accounts(t, oauthtest.Options{})
		w.account(all, "carol")
		l.set(func(f *faulty) { f.save = failing(errDisk) })
		for _, name := range []string{"bob", "alice"} {
			wantErr(t, w.get(all, name).SetToken(t.Context(), w.as.Login(name)), freshtoken.ErrNotPersisted)
		}
		carol := w.get(all, "carol")
		err := all.Close()
		wantErr(t, err, freshtoken.ErrNotPersisted)
		text := err.Error()
		if a, b := strings.Index(text, `"alice"`), strings.Index(text, `"bob"`); a < 0 || b < a || strings.Contains(text, "carol") || strings.Count(text, "freshtoken: ") != 1 {
			t.Errorf("got %v", err)
		}
		if again := all.Close(); again != err {
			t.Errorf("the second Close says %v", again)
		}
		_, err = all.Get("carol")
		wantErr(t, err, freshtoken.ErrClosed)
		_, err = all.List(t.Context())
		wantErr(t, err, freshtoken.ErrClosed)
		wantErr(t, all.Forget(t.Context(), "carol"), freshtoken.ErrClosed)
		_, err = carol.Token(t.Context())
		wantErr(t, err, freshtoken.ErrClosed)
	})
	inBubble(t, "ST-redact they show no secret", func(t *testing.T) {
		w, _, all := accounts(t, oauthtest.Options{ClientSecret: "hush"})
		_, tok := w.account(all, "alice")
		list, err := all.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"hush", tok.AccessToken, tok.RefreshToken} {
			if strings.Contains(spill(all, list), secret) {
				t.Errorf("%q is shown", secret)
			}
		}
	})
}

// hanging holds up the refreshes of one refresh token, at the server.
func hanging(w *world, refreshToken string) func(*freshtoken.Config) {
	base := w.as.Transport()
	w.as.Token.Func(func(r *http.Request, _ int) oauthtest.Fault {
		if r.Header.Get("X-Hang") != "" {
			return oauthtest.Stall()
		}
		return oauthtest.Fault{AfterDelay: time.Second}
	})
	return func(c *freshtoken.Config) {
		c.HTTPClient = &http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			body, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			text, _ := io.ReadAll(body)
			if form, _ := url.ParseQuery(string(text)); form.Get("refresh_token") == refreshToken {
				req = req.Clone(req.Context())
				req.Header.Set("X-Hang", "yes")
			}
			return base.RoundTrip(req)
		})}
	}
}

func TestAccountsRefreshApart(t *testing.T) {
	inBubble(t, "a hundred at once, one flight each, and one that hangs delays nobody", func(t *testing.T) {
		w, _, first := accounts(t, oauthtest.Options{AccessLifetime: lifetime})
		var victim *oauth2.Token
		name := func(i int) string { return fmt.Sprintf("account-%03d", i) }
		for i := range 100 {
			if _, tok := w.account(first, name(i)); i == 50 {
				victim = tok
			}
		}
		first.Close()
		all := w.sources(hanging(w, victim.RefreshToken))
		time.Sleep(lifetime)
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 1000 {
			src := w.get(all, name(i%100))
			if i%100 == 50 {
				go src.Token(t.Context())
				continue
			}
			wg.Go(func() {
				tok, err := src.Token(t.Context())
				if err != nil || !w.as.AccessAlive(tok.AccessToken) {
					t.Errorf("%s: %v", name(i%100), err)
				}
			})
		}
		wg.Wait()
		if d := time.Since(start); d != time.Second { // what each of them takes
			t.Errorf("they took %v", d)
		}
		posts := make(map[string]int)
		for _, e := range w.as.LogOf(oauthtest.TokenEndpoint) {
			posts[e.Subject]++
		}
		for i := range 100 {
			if n := posts[name(i)]; n != 1 && i != 50 {
				t.Errorf("%s refreshed %d times", name(i), n)
			}
		}
		w.wantPosts(100)
		time.Sleep(2 * time.Minute) // the one that hangs has given up
	})
}

func TestList(t *testing.T) {
	inBubble(t, "the sessions of this client at this server, by name, without those that are over", func(t *testing.T) {
		w, l, all := accounts(t, oauthtest.Options{AccessLifetime: lifetime, RefreshLifetime: 30 * 24 * time.Hour})
		for _, name := range []string{"carol", "alice", "bob", "dave", "Zoë/1:x", ""} {
			w.account(all, name)
		}
		w.get(all, "bob").Logout(t.Context())
		for _, other := range []freshtoken.Config{
			{OAuth2: &oauth2.Config{ClientID: "other", Endpoint: w.as.OAuth2().Endpoint}, Store: l, Session: "erin"},
			{OAuth2: w.as.OAuth2(), Store: l, Session: "frank", Issuer: "https://other.test"},
		} {
			src, err := freshtoken.New(other)
			if err != nil {
				t.Fatal(err)
			}
			src.SetToken(t.Context(), w.as.Login("x"))
			src.Close()
		}
		time.Sleep(lifetime)
		w.as.Token.Next(oauthtest.InvalidGrant())
		w.get(all, "dave").Token(t.Context())
		w.usable(w.get(all, "carol"))
		l.more = []string{"", "somebody else's", "freshtoken/1/", "freshtoken/2/1:a/1:b/1:c"}
		posts := w.posts()
		_, saves := l.counts()
		l.set(func(f *faulty) { f.lock = func() error { t.Error("List locks"); return nil } })

		fresh := w.sources()
		list, err := fresh.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := names(list); got != "Zoë/1:x alice carol default" {
			t.Errorf("got %q", got)
		}
		for _, st := range list {
			want := freshtoken.Status{State: freshtoken.StateAlive, Session: st.Session, Generation: 1, Persisted: true}
			if st.Session == "carol" {
				want.Generation = 2
				want.RefreshExpiry = w.get(all, "carol").Status().RefreshExpiry
				if want.RefreshExpiry.IsZero() {
					t.Error("the server has not said how long the session lasts")
				}
			}
			if !st.Expiry.Equal(st.Issued.Add(lifetime)) || !st.RefreshAt.Before(st.Expiry) || !st.RefreshAt.After(st.Issued) {
				t.Errorf("got %+v", st)
			}
			st.Issued, st.Expiry, st.RefreshAt = time.Time{}, time.Time{}, time.Time{}
			if st != want {
				t.Errorf("got %+v, want %+v", st, want)
			}
		}
		if _, now := l.counts(); now != saves || !strings.Contains(fmt.Sprint(fresh), "Open: 0") {
			t.Errorf("List saved %d times, and made %v", now-saves, fresh)
		}
		w.wantPosts(posts)
	})
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		keep   bool
		answer oauthtest.Fault
		want   time.Duration // after which a refresh is due; zero: never
	}{
		"KeepAlive": {true, oauthtest.Fault{}, 28 * day},
		"KeepAlive, and nobody knows how long the token lives": {true, oauthtest.OmitMember("expires_in"), 28 * day},
		"no KeepAlive": {false, oauthtest.Fault{}, 83 * day},
		"no KeepAlive, and nobody knows how long the token lives": {false, oauthtest.OmitMember("expires_in"), 0},
	} {
		inBubble(t, "when a refresh is due, with "+name, func(t *testing.T) {
			w, _, all := accounts(t, oauthtest.Options{AccessLifetime: 90 * day, RefreshLifetime: 30 * day},
				func(cfg *freshtoken.Config) { cfg.KeepAlive, cfg.Lead = c.keep, 7*day })
			src, _ := w.account(all, "alice")
			w.as.Token.Next(c.answer)
			if _, err := src.Refresh(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			list, err := all.List(t.Context())
			if err != nil || len(list) != 1 {
				t.Fatal(list, err)
			}
			st, is := list[0], src.Status()
			if c.want == 0 {
				if !st.RefreshAt.IsZero() || !is.RefreshAt.IsZero() {
					t.Errorf("at %v, and by Status at %v", st.RefreshAt, is.RefreshAt)
				}
			} else if got := st.RefreshAt.Sub(st.Issued); got != c.want || st.RefreshAt.After(is.RefreshAt) {
				t.Errorf("after %v, want %v, and by Status after %v", got, c.want, is.RefreshAt.Sub(is.Issued))
			}
		})
	}
	inBubble(t, "what cannot be read is told beside the rest", func(t *testing.T) {
		w, l, all := accounts(t, oauthtest.Options{})
		for _, name := range []string{"alice", "bob", "carol", "dave"} {
			w.account(all, name)
		}
		key := func(name string) string {
			cfg := w.config()
			cfg.Session = name
			return freshtoken.StoreKey(cfg)
		}
		l.Store.Save(t.Context(), key("alice"), []byte("hush{"))
		data, _ := l.Load(t.Context(), key("bob"))
		l.Store.Save(t.Context(), key("carol"), data)
		l.Store.Delete(t.Context(), key("dave")) // between List and Load
		list, err := all.List(t.Context())
		wantErr(t, err, freshtoken.ErrStore)
		wantErr(t, err, freshtoken.ErrMismatch)
		if names(list) != "bob" || !strings.Contains(err.Error(), `"alice"`) || !strings.Contains(err.Error(), `"carol"`) || strings.Contains(err.Error(), "dave") {
			t.Errorf("got %q and %v", names(list), err)
		}
		if strings.Contains(err.Error(), "hush") {
			t.Errorf("the error shows what is stored: %v", err)
		}
		l.err = errDown
		list, err = all.List(t.Context())
		wantErr(t, err, errDown)
		wantErr(t, err, freshtoken.ErrStore)
		if names(list) != "bob" {
			t.Errorf("got %q", names(list))
		}
	})
	inBubble(t, "a session is ended that has nothing to go on with", func(t *testing.T) {
		w, _, all := accounts(t, oauthtest.Options{AccessLifetime: lifetime})
		w.account(all, "denied")
		w.account(all, "expired")
		short := w.as.Login("short")
		short.RefreshToken = ""
		if err := w.get(all, "short").SetToken(t.Context(), short); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lifetime)
		w.as.Token.Next(oauthtest.Error(400, "token_expired"))
		w.get(all, "denied").Token(t.Context())
		list, err := all.List(t.Context())
		if err != nil || names(list) != "denied expired short" {
			t.Fatalf("got %q, %v", names(list), err)
		}
		if list[0].State != freshtoken.StateEnded || !errors.Is(list[0].LastError, freshtoken.ErrSessionEnded) {
			t.Errorf("got %+v", list[0])
		}
		if list[1].State != freshtoken.StateAlive || list[1].LastError != nil {
			t.Errorf("got %+v", list[1])
		}
		if list[2].State != freshtoken.StateEnded || !list[2].RefreshAt.IsZero() {
			t.Errorf("got %+v", list[2])
		}
	})
	inBubble(t, "a store that does not know what it keeps", func(t *testing.T) {
		w, l, lists := accounts(t, oauthtest.Options{})
		plain := struct{ freshtoken.Store }{l.faulty}
		for name, all := range map[string]*freshtoken.Sources{
			"no Lister": w.sources(func(c *freshtoken.Config) { c.Store = plain }),
			"no Store":  w.sources(func(c *freshtoken.Config) { c.Store = nil }),
			"a wrapper": lists,
		} {
			l.err = errors.ErrUnsupported
			_, err := all.List(t.Context())
			wantErr(t, err, errors.ErrUnsupported)
			if !strings.Contains(err.Error(), "Lister") {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	inBubble(t, "no longer than its context", func(t *testing.T) {
		w, _, all := accounts(t, oauthtest.Options{})
		w.account(all, "alice")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := all.List(ctx)
		wantErr(t, err, context.Canceled)
	})
}
