package keyring_test

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken/keyring"
)

// FuzzItems changes one item of a session that takes several, as another program
// or a broken keyring might. What is loaded is the session that was saved, or
// the other one that the keyring still has, or nothing: never a mixture.
func FuzzItems(f *testing.F) {
	one, two := bytesOf(1, 3000), bytesOf(2, 3000)
	whole, dir := newFake(), f.TempDir()
	s, err := keyring.NewGate(whole, nil).NewStore(limit, "keyring-test", keyring.Options{LockDir: dir})
	if err != nil {
		f.Fatal(err)
	}
	for _, value := range [][]byte{one, two} {
		if err := s.Save(f.Context(), "alice", value); err != nil {
			f.Fatal(err)
		}
	}
	names := slices.Sorted(maps.Keys(whole.items))
	for i := range names {
		text := whole.items[names[i]]
		f.Add(uint8(i), uint16(0), uint16(len(text)), "")
		f.Add(uint8(i), uint16(4), uint16(1), "w")
		f.Add(uint8(i), uint16(len(text)-1), uint16(1), "A")
		f.Add(uint8(i), uint16(0), uint16(3), "ft2")
		f.Add(uint8(i), uint16(0), uint16(len(text)), whole.items[names[(i+1)%len(names)]])
	}
	f.Fuzz(func(t *testing.T, item uint8, from, n uint16, text string) {
		k := newFake()
		k.items = maps.Clone(whole.items)
		name := names[int(item)%len(names)]
		old := k.items[name]
		start := min(int(from), len(old))
		k.items[name] = old[:start] + text + old[min(start+int(n), len(old)):]
		got, err := openStore(t, k, dir).Load(t.Context(), "alice")
		var damage corrupt
		switch {
		case err == nil && !bytes.Equal(got, two):
			t.Errorf("%q in the place of %q: it loads %d bytes that nobody saved", k.items[name], old, len(got))
		case errors.Is(err, fs.ErrNotExist) && !strings.HasPrefix(k.items[name], "ft1.x."):
			t.Errorf("%q in the place of %q is taken for nobody's session", k.items[name], old)
		case err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.As(err, &damage) && !strings.Contains(err.Error(), "newer"):
			t.Errorf("%q in the place of %q: %v", k.items[name], old, err)
		}
		if err != nil && len(text) > 8 && strings.Contains(err.Error(), text) {
			t.Errorf("the error shows the item: %v", err)
		}
	})
}
