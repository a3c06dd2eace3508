package discovery_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/discovery"
	suite "github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

func TestMetadataIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := newWeb(t)
		store := storage.NewMemory()
		serve := func(p page) { web.host("as.test", map[string]http.Handler{oauthForm: p}) }
		start := func() (*discovery.Metadata, freshtoken.Config, error) {
			cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app"}, Issuer: as, HTTPClient: web.client(), Store: store}
			m, err := discovery.Configure(t.Context(), &cfg)
			return m, cfg, err
		}
		wantToken := func(when, want string, requests int) {
			t.Helper()
			_, cfg, err := start()
			if err != nil || cfg.OAuth2.Endpoint.TokenURL != want || len(web.asked) != requests {
				t.Errorf("%s: token endpoint %q after %d requests, error %v; want %q after %d",
					when, cfg.OAuth2.Endpoint.TokenURL, len(web.asked), err, want, requests)
			}
		}
		serve(page{body: doc(as, everything...)})
		first, cfg, err := start()
		if err != nil {
			t.Fatal(err)
		}
		wantToken("at once", "https://as.test/token", 1)
		serve(page{status: http.StatusServiceUnavailable})
		time.Sleep(24*time.Hour - time.Second)
		wantToken("within a day", "https://as.test/token", 1)
		time.Sleep(time.Second)
		wantToken("while the server is down", "https://as.test/token", 2)
		time.Sleep(30 * 24 * time.Hour)
		again, same, err := start()
		if err != nil || !reflect.DeepEqual(first, again) || !reflect.DeepEqual(cfg.OAuth2, same.OAuth2) ||
			cfg.RevocationURL != same.RevocationURL || cfg.RequireIss != same.RequireIss {
			t.Errorf("what is remembered differs from what was said (error %v)", err)
		}
		serve(page{body: doc(as, `"token_endpoint": "https://as.test/new"`)})
		wantToken("when it is back", "https://as.test/new", 4)
		wantToken("and after that", "https://as.test/new", 4)

		// What speaks against the server is not covered up.
		time.Sleep(25 * time.Hour)
		serve(page{body: doc("https://evil.test", everything...)})
		_, _, err = start()
		wantError(t, err, discovery.ErrIssuer)
		serve(page{status: http.StatusNotFound})
		_, _, err = start()
		wantError(t, err, discovery.ErrNotFound)
	})
}

// What is damaged is replaced: nothing else would ever do so.
func TestDamagedMetadataIsReplaced(t *testing.T) {
	web := newWeb(t)
	web.host("as.test", map[string]http.Handler{oauthForm: page{body: doc(as, everything...)}})
	dir := suite.Dir(t, "key")
	store, err := storage.NewFile(filepath.Join(dir, "sessions"), storage.KeyFile(filepath.Join(dir, "key")))
	if err != nil {
		t.Fatal(err)
	}
	start := func() {
		t.Helper()
		cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app"}, Issuer: as, HTTPClient: web.client(), Store: store}
		if _, err := discovery.Configure(t.Context(), &cfg); err != nil {
			t.Fatal(err)
		}
	}
	start()
	files, err := filepath.Glob(filepath.Join(dir, "sessions", "*.session"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	if err := os.WriteFile(files[0], []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	start()
	start()
	if n := len(web.asked); n != 2 {
		t.Errorf("asked %d times, want 2", n)
	}
	if keys, err := store.List(t.Context()); err != nil || len(keys) != 1 {
		t.Errorf("the store has %q, error %v", keys, err)
	}
}

// What is remembered is read as strictly as what a server says.
func TestWhatIsRememberedIsChecked(t *testing.T) {
	key := "freshtoken/1/metadata/15:" + as
	now := time.Now().UTC().Format(time.RFC3339)
	for name, value := range map[string]string{
		"not JSON":             `{`,
		"no document":          `{"fetched": "` + now + `"}`,
		"of another issuer":    `{"fetched": "` + now + `", "document": ` + doc("https://evil.test", everything...) + `}`,
		"with plain endpoints": `{"fetched": "` + now + `", "document": ` + doc(as, `"token_endpoint": "http://as.test/token"`) + `}`,
		"of tomorrow":          `{"fetched": "` + time.Now().Add(25*time.Hour).UTC().Format(time.RFC3339) + `", "document": ` + doc(as, `"token_endpoint": "https://old.test/"`) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			web := newWeb(t)
			web.host("as.test", map[string]http.Handler{oauthForm: page{body: doc(as, everything...)}})
			store := storage.NewMemory()
			if err := store.Save(t.Context(), key, []byte(value)); err != nil {
				t.Fatal(err)
			}
			cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app"}, Issuer: as, HTTPClient: web.client(), Store: store}
			if _, err := discovery.Configure(t.Context(), &cfg); err != nil || cfg.OAuth2.Endpoint.TokenURL != "https://as.test/token" {
				t.Errorf("token endpoint %q, error %v", cfg.OAuth2.Endpoint.TokenURL, err)
			}
			if data, err := store.Load(t.Context(), key); err != nil || strings.Contains(string(data), "evil") {
				t.Errorf("it is not replaced: error %v", err)
			}
		})
	}
}

// troubled is a Store with troubles of its own.
type troubled struct {
	freshtoken.Store
	load, save   func() error
	loads, saves atomic.Int32
}

func (s *troubled) Load(ctx context.Context, key string) ([]byte, error) {
	s.loads.Add(1)
	if err := s.load(); err != nil {
		return nil, err
	}
	return s.Store.Load(ctx, key)
}

func (s *troubled) Save(ctx context.Context, key string, value []byte) error {
	s.saves.Add(1)
	if err := s.save(); err != nil {
		return err
	}
	return s.Store.Save(ctx, key, value)
}

func TestTroublesOfTheStore(t *testing.T) {
	good := func() error { return nil }
	bad := func() error { return errors.New("the keyring is locked") }
	for _, c := range []struct {
		name       string
		load, save func(end <-chan struct{}) error
		saves      int32
	}{
		{"it cannot be read, and is not asked again: it may ask a person in its turn", func(<-chan struct{}) error { return bad() }, nil, 0},
		{"it cannot be written", nil, func(<-chan struct{}) error { return bad() }, 1},
		{"it hangs when it is read", func(end <-chan struct{}) error { <-end; return bad() }, nil, 0},
		{"it hangs when it is written", nil, func(end <-chan struct{}) error { <-end; return bad() }, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			web := newWeb(t)
			web.host("as.test", map[string]http.Handler{oauthForm: page{body: doc(as, everything...)}})
			end := make(chan struct{})
			defer close(end)
			store := &troubled{Store: storage.NewMemory(), load: good, save: good}
			if c.load != nil {
				store.load = func() error { return c.load(end) }
			}
			if c.save != nil {
				store.save = func() error { return c.save(end) }
			}
			cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app"}, Issuer: as, HTTPClient: web.client(), Store: store}
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			start := time.Now()
			if _, err := discovery.Configure(ctx, &cfg); err != nil || cfg.OAuth2.Endpoint.TokenURL != "https://as.test/token" {
				t.Errorf("%s: error %v", c.name, err)
			}
			if d := time.Since(start); d > 3*time.Minute || store.loads.Load() != 1 || store.saves.Load() != c.saves {
				t.Errorf("%s: %v, %d loads, %d saves; want %d", c.name, d, store.loads.Load(), store.saves.Load(), c.saves)
			}
		})
	}
	t.Run("a document that no keyring would take is not kept", func(t *testing.T) {
		web := newWeb(t)
		huge := append(slices.Clone(everything), `"huge": "`+strings.Repeat("x", 100<<10)+`"`)
		web.host("as.test", map[string]http.Handler{oauthForm: page{body: doc(as, huge...)}})
		store := &troubled{Store: storage.NewMemory(), load: good, save: good}
		cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app"}, Issuer: as, HTTPClient: web.client(), Store: store}
		if _, err := discovery.Configure(t.Context(), &cfg); err != nil || store.saves.Load() != 0 {
			t.Errorf("%d saves, error %v", store.saves.Load(), err)
		}
	})
}

// A server that does not answer costs a program with older metadata little.
func TestWaitForMetadataThatIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := newWeb(t)
		web.host("as.test", map[string]http.Handler{oauthForm: page{body: doc(as, everything...)}})
		store := storage.NewMemory()
		start := func() error {
			cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app"}, Issuer: as, HTTPClient: web.client(), Store: store}
			_, err := discovery.Configure(t.Context(), &cfg)
			return err
		}
		if err := start(); err != nil {
			t.Fatal(err)
		}
		web.host("as.test", map[string]http.Handler{oauthForm: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })})
		time.Sleep(25 * time.Hour)
		began := time.Now()
		if err := start(); err != nil {
			t.Error(err)
		}
		if waited := time.Since(began); waited != 3*time.Second {
			t.Errorf("waited for %v", waited)
		}
	})
}
