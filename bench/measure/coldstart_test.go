package measure_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/bench/measure"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
)

// The programs run, and none of them asks the token endpoint for a token.
func TestColdStartsAskForNoToken(t *testing.T) {
	results := makeShort(t, measure.ColdStart)
	for _, peer := range []string{"plaintext file", "freshtoken, key file", "freshtoken, key in the keyring"} {
		r, ok := results[peer]
		switch {
		case !ok:
			t.Errorf("%s is missing", peer)
		case r.Note != "":
			t.Logf("%s: %s", peer, r.Note)
		default:
			wantValues(t, r, map[string]float64{"calls.count": 0})
		}
	}
}

// touched is a store that counts what may wait for a disk or for another
// process.
type touched struct {
	freshtoken.Store
	saves, locks int
}

func (s *touched) Save(ctx context.Context, key string, value []byte) error {
	s.saves++
	return s.Store.Save(ctx, key, value)
}

func (s *touched) Lock(ctx context.Context, key string) (func() error, error) {
	s.locks++
	return s.Store.Lock(ctx, key)
}

// start is what a program does when it starts.
func start(t *testing.T, dir string, server *oauthtest.Server) (*freshtoken.Source, *touched) {
	t.Helper()
	file, err := storage.NewFile(filepath.Join(dir, "sessions"), storage.KeyFile(filepath.Join(dir, "key")))
	if err != nil {
		t.Fatal(err)
	}
	store := &touched{Store: file}
	src, err := freshtoken.New(freshtoken.Config{OAuth2: server.OAuth2(), HTTPClient: server.Client(), Store: store})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src, store
}

// A program that starts and finds a valid token writes nothing, locks nothing,
// and makes no request but its own. On Windows opening the store makes a file
// for a moment.
func TestColdStartWritesNothing(t *testing.T) {
	dir := t.TempDir()
	server := oauthtest.New(oauthtest.Options{})
	before, store := start(t, dir, server)
	if err := before.SetToken(t.Context(), server.Login("alice")); err != nil {
		t.Fatal(err)
	}
	if store.saves == 0 || store.locks == 0 {
		t.Fatalf("a login saves %d times under %d locks: they are not counted", store.saves, store.locks)
	}
	was := list(t, dir)

	src, store := start(t, dir, server)
	if _, err := src.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := src.Close(); err != nil {
		t.Fatal(err)
	}
	if store.saves != 0 || store.locks != 0 {
		t.Errorf("a start saves %d times under %d locks", store.saves, store.locks)
	}
	if n := server.Stats().TokenRequests; n != 0 {
		t.Errorf("a start makes %d requests to the token endpoint", n)
	}
	if is := list(t, dir); !slices.Equal(is, was) {
		t.Errorf("a start changes files:\n%v\n%v", was, is)
	}
}

// A place is a file and when it was written last.
type place struct {
	path    string
	written time.Time
}

// list tells of all files below a directory, and of the directories, but for
// Windows.
func list(t *testing.T, dir string) (all []place) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() && runtime.GOOS == "windows" {
			return err
		}
		info, err := e.Info()
		if err == nil {
			all = append(all, place{path, info.ModTime()})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
