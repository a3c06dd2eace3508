package storage_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/storage"
)

func TestSetAside(t *testing.T) {
	ctx := context.Background()
	t.Run("File", func(t *testing.T) {
		needFiles(t)
		dir := home(t)
		s := newFile(t, dir, fixedKey(1))
		if err := s.SetAside(ctx, "alice"); err != nil {
			t.Errorf("SetAside of nothing: %v", err)
		}
		for _, n := range []string{"1", "2"} {
			if err := os.WriteFile(path(dir, "alice", ".session"), []byte("damaged "+n), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := s.Load(ctx, "alice")
			wantError(t, "Load", err, storage.ErrCorrupt)
			if err := s.SetAside(ctx, "alice"); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(path(dir, "alice", ".corrupt-"+n)); err != nil || string(b) != "damaged "+n {
				t.Errorf("set aside: %q, %v", b, err)
			}
			if _, err := s.Load(ctx, "alice"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Load after SetAside: %v", err)
			}
		}
		mustSave(t, s, "alice", newValue)
		wantValue(t, s, "alice", newValue)
	})
	t.Run("Seal", func(t *testing.T) {
		m := storage.NewMemory()
		s := storage.Seal(m, fixedKey(1))
		if err := s.SetAside(ctx, "alice"); err != nil {
			t.Errorf("SetAside of nothing: %v", err)
		}
		for _, n := range []string{"1", "2"} {
			mustSave(t, m, "alice", "damaged "+n)
			if err := s.SetAside(ctx, "alice"); err != nil {
				t.Fatal(err)
			}
			wantValue(t, m, "freshtoken.seal/aside-"+n+"/alice", "damaged "+n)
			if _, err := s.Load(ctx, "alice"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Load after SetAside: %v", err)
			}
		}
		mustSave(t, s, "alice", newValue)
		wantValue(t, s, "alice", newValue)
	})
}

// TestSealSetsAsideWhatItsStoreCannotRead has the store under a Seal find the
// damage by itself.
func TestSealSetsAsideWhatItsStoreCannotRead(t *testing.T) {
	ctx := context.Background()
	replaced := func(t *testing.T, s *storage.Sealed, key string) {
		t.Helper()
		_, err := s.Load(ctx, key)
		wantError(t, "Load", err, storage.ErrCorrupt)
		wantError(t, "Save", s.Save(ctx, key, []byte(newValue)), storage.ErrCorrupt)
		if err := s.SetAside(ctx, key); err != nil {
			t.Fatalf("SetAside: %v", err)
		}
		if _, err := s.Load(ctx, key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Load after SetAside: %v", err)
		}
		if err := s.SetAside(ctx, key); err != nil {
			t.Errorf("SetAside of nothing: %v", err)
		}
		mustSave(t, s, key, newValue)
		wantValue(t, s, key, newValue)
	}
	const odd = "freshtoken.seal/key" // is stored under another name
	for _, key := range []string{"alice", odd} {
		place := strings.Replace(key, odd, "freshtoken.seal/="+odd, 1)
		t.Run("a File keeps "+key, func(t *testing.T) {
			needFiles(t)
			dir := home(t)
			s := storage.Seal(newFile(t, dir, fixedKey(1)), fixedKey(2))
			mustSave(t, s, key, oldValue)
			if err := os.WriteFile(path(dir, place, ".session"), []byte("damaged"), 0o600); err != nil {
				t.Fatal(err)
			}
			replaced(t, s, key)
			if b, err := os.ReadFile(path(dir, place, ".corrupt-1")); err != nil || string(b) != "damaged" {
				t.Errorf("set aside: %q, %v", b, err)
			}
		})
		t.Run("a Seal keeps "+key, func(t *testing.T) {
			m := storage.NewMemory()
			under := storage.Seal(m, fixedKey(1))
			s := storage.Seal(under, fixedKey(2))
			mustSave(t, s, key, oldValue)
			at := place
			if key == odd {
				at = "freshtoken.seal/=" + place // escaped once more
			}
			mustSave(t, m, at, "damaged")
			replaced(t, s, key)
			wantValue(t, m, "freshtoken.seal/aside-1/"+place, "damaged")
		})
		t.Run("a store that keeps nothing has removed "+key, func(t *testing.T) {
			m := storage.NewMemory()
			s := storage.Seal(strict{m, "damaged"}, fixedKey(1))
			mustSave(t, s, key, oldValue)
			mustSave(t, m, place, "damaged")
			replaced(t, s, key)
		})
	}
	t.Run("what is set aside is damaged later", func(t *testing.T) {
		m := storage.NewMemory()
		s := storage.Seal(strict{m, "damaged"}, fixedKey(1))
		mustSave(t, m, "freshtoken.seal/aside-1/alice", "damaged")
		mustSave(t, m, "alice", "under another key, say")
		if err := s.SetAside(ctx, "alice"); err != nil {
			t.Fatal(err)
		}
		wantValue(t, m, "freshtoken.seal/aside-1/alice", "damaged")
		wantValue(t, m, "freshtoken.seal/aside-2/alice", "under another key, say")
	})
	t.Run("what cannot be read for the moment stays", func(t *testing.T) {
		m, locked := storage.NewMemory(), errors.New("the table is locked")
		s := storage.Seal(under{Store: m, load: func(context.Context, string) ([]byte, error) { return nil, locked }}, fixedKey(1))
		mustSave(t, m, "alice", oldValue)
		wantError(t, "SetAside", s.SetAside(ctx, "alice"), locked)
		wantValue(t, m, "alice", oldValue)
	})
}

// strict is a store that takes one value for damage, and has no SetAside.
type strict struct {
	*storage.Memory
	damage string
}

func (u strict) Load(ctx context.Context, key string) ([]byte, error) {
	value, err := u.Memory.Load(ctx, key)
	if err == nil && string(value) == u.damage {
		return nil, storage.ErrCorrupt
	}
	return value, err
}

// TestReservedKeys uses keys that look like the entries of Seal itself.
func TestReservedKeys(t *testing.T) {
	s := storage.Seal(storage.NewMemory(), fixedKey(1))
	keys := []string{"freshtoken.seal/key", "freshtoken.seal/=freshtoken.seal/key", "freshtoken.seal/", "freshtoken.seal/aside-1/alice"}
	for _, k := range keys {
		if _, err := s.Load(context.Background(), k); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v, want fs.ErrNotExist", k, err)
		}
		mustSave(t, s, k, "of "+k)
	}
	for _, k := range keys {
		wantValue(t, s, k, "of "+k)
	}
	// A Save under the lock of such a key makes the key of the store, too.
	s = storage.Seal(storage.NewMemory(), fixedKey(1))
	unlock, err := s.Lock(context.Background(), "freshtoken.seal/key")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	mustSave(t, s, "freshtoken.seal/key", "v")
}

// TestMarkerIsNoValue moves the entry of Seal itself to where values are kept.
func TestMarkerIsNoValue(t *testing.T) {
	ctx := context.Background()
	m := storage.NewMemory()
	s := storage.Seal(m, fixedKey(1))
	const name = "freshtoken.seal/key"
	mustSave(t, s, name, "session")
	marker, err := m.Load(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	for key, place := range map[string]string{name: "freshtoken.seal/=" + name, "alice": "alice", "": ""} {
		if err := m.Save(ctx, place, marker); err != nil {
			t.Fatal(err)
		}
		value, err := s.Load(ctx, key)
		if err == nil {
			t.Errorf("the marker opened as the value %q of %q", value, key)
		}
		wantError(t, "Load", err, storage.ErrCorrupt)
	}
	// It still tells the key.
	wantError(t, "Save under another key", storage.Seal(m, fixedKey(2)).Save(ctx, "bob", nil), storage.ErrWrongKey)
}

// TestSweep: what killed processes left is removed when it is old, and nothing
// else is.
func TestSweep(t *testing.T) {
	needFiles(t)
	dir := home(t)
	newFile(t, dir, fixedKey(1))
	old := time.Now().Add(-2 * time.Hour)
	hash := filepath.Base(path(dir, "alice", ""))
	for name, stays := range map[string]bool{
		hash + ".tmp-OLD":                  false,
		"probe.tmp-OLD":                    false,
		hash + ".session":                  true,
		hash + ".lock":                     true,
		hash + ".corrupt-1":                true,
		hash + ".tmp-":                     true,
		hash[1:] + ".tmp-OLD":              true,
		strings.ToUpper(hash) + ".tmp-OLD": true,
		"notes.tmp-OLD":                    true,
	} {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, old, old); err != nil {
			t.Fatal(err)
		}
		newFile(t, dir, fixedKey(1))
		if _, err := os.Lstat(p); (err == nil) != stays {
			t.Errorf("%s: stays is %v, want %v", name, err == nil, stays)
		}
		os.Remove(p)
	}
	young := filepath.Join(dir, hash+".tmp-YOUNG")
	if err := os.WriteFile(young, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	newFile(t, dir, fixedKey(1))
	if _, err := os.Lstat(young); err != nil {
		t.Errorf("a Save under way lost its file: %v", err)
	}
}

func TestTooBig(t *testing.T) {
	needFiles(t)
	dir := home(t)
	s := newFile(t, dir, fixedKey(1))
	if err := s.Save(context.Background(), "alice", make([]byte, 16<<20+1)); err == nil {
		t.Error("a value past the limit was saved")
	}
	f, err := os.Create(path(dir, "alice", ".session"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 40); err != nil {
		t.Skipf("no sparse files here: %v", err)
	}
	_, err = s.Load(context.Background(), "alice")
	wantError(t, "Load", err, storage.ErrCorrupt)
}
