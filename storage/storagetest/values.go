package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

// pattern returns n bytes that differ by seed and take every byte value.
func pattern(seed, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + seed*31)
	}
	return b
}

// framed returns a value whose damage shows: its number, again and again, some
// kilobytes of it, with a length that depends on the number.
func framed(n int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%08d\n", n), 400+n%200)
}

// checkFrame returns an error unless value is whole.
func checkFrame(value []byte) error {
	var n int
	if _, err := fmt.Sscanf(string(value[:min(9, len(value))]), "%08d\n", &n); err != nil || !bytes.Equal(value, framed(n)) {
		return fmt.Errorf("%d bytes that are none of the values saved", len(value))
	}
	return nil
}

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// save fails the test if value can't be stored.
func save(t *testing.T, s Store, key string, value []byte) {
	t.Helper()
	if err := s.Save(context.Background(), key, value); err != nil {
		t.Fatalf("Save(%q, %d bytes): %v", key, len(value), err)
	}
}

// wants fails the test if key does not hold value.
func wants(t *testing.T, s Store, key string, value []byte) {
	t.Helper()
	got, err := s.Load(context.Background(), key)
	if err != nil {
		t.Fatalf("Load(%q) after Save: %v", key, err)
	}
	if !bytes.Equal(got, value) {
		t.Fatalf("Load(%q) returned %d bytes that are not the %d saved", key, len(got), len(value))
	}
}

// wantsAbsent fails the test if key holds something, or if Load fails in
// another way.
func wantsAbsent(t *testing.T, s Store, key string) {
	t.Helper()
	got, err := s.Load(context.Background(), key)
	switch {
	case err == nil:
		t.Fatalf("Load(%q) returned %d bytes though nothing is stored", key, len(got))
	case !errors.Is(err, fs.ErrNotExist):
		t.Fatalf("Load(%q) where nothing is stored: the error must match fs.ErrNotExist: %v", key, err)
	}
}

func testAbsent(t *testing.T, s Store) {
	wantsAbsent(t, s, "absent")
	save(t, s, "present", pattern(1, 100))
	wantsAbsent(t, s, "absent")
	wantsAbsent(t, s, "")
}

func testSaveLoad(t *testing.T, s Store) {
	save(t, s, "a", pattern(1, 3000))
	wants(t, s, "a", pattern(1, 3000))
	save(t, s, "b", pattern(2, 10))
	wants(t, s, "a", pattern(1, 3000))
	wants(t, s, "b", pattern(2, 10))
	save(t, s, "a", pattern(3, 12)) // shorter than what it replaces
	wants(t, s, "a", pattern(3, 12))
	wants(t, s, "a", pattern(3, 12))
}

func testSizes(t *testing.T, s Store) {
	for _, n := range []int{0, 1, 15, 16, 17, 255, 2560, 2561, 4096, 65536, 1 << 20} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			save(t, s, "size", pattern(n, n))
			wants(t, s, "size", pattern(n, n))
		})
	}
	// Zero bytes are a value, not an absence; nil is zero bytes.
	save(t, s, "size", nil)
	wants(t, s, "size", nil)
}

func testDelete(t *testing.T, s Store) {
	ctx := context.Background()
	if err := s.Delete(ctx, "a"); err != nil {
		t.Fatalf("Delete where nothing is stored must return nil: %v", err)
	}
	save(t, s, "a", pattern(1, 100))
	save(t, s, "b", pattern(2, 100))
	if err := s.Delete(ctx, "a"); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	wantsAbsent(t, s, "a")
	wants(t, s, "b", pattern(2, 100))
	if err := s.Delete(ctx, "a"); err != nil {
		t.Fatalf("a second Delete: %v", err)
	}
	save(t, s, "a", pattern(3, 100))
	wants(t, s, "a", pattern(3, 100))
}

func testAliasing(t *testing.T, s Store) {
	ctx := context.Background()
	value := pattern(1, 500)
	save(t, s, "a", value)
	clear(value) // the caller's again
	wants(t, s, "a", pattern(1, 500))
	got, err := s.Load(ctx, "a")
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	clear(got) // the caller's too
	wants(t, s, "a", pattern(1, 500))
}

func testKeys(t *testing.T, s Store) {
	keys := []string{
		"", " ", "a", "A", "aa", "a ", "a.", "a/b", "a\\b", "ab", "a:b", "a\x00b", "a\x00", "\x00", "a\nb",
		"/a", "../a", "..", ".", "a/../b", "b", "CON", "nul", "a%2fb", "ä", "a\u0308", "ß", "ss", "\xff", "\xfe", "\ufffd",
		string(bytes.Repeat([]byte("k"), 255)), string(bytes.Repeat([]byte("k"), 256)), string(bytes.Repeat([]byte("K"), 256)),
		string(bytes.Repeat([]byte("k"), 600)), string(bytes.Repeat([]byte("k"), 601)),
	}
	for i, k := range keys {
		wantsAbsent(t, s, k)
		save(t, s, k, pattern(i, 40))
	}
	for i, k := range keys {
		wants(t, s, k, pattern(i, 40))
	}
	for i, k := range keys {
		if err := s.Delete(context.Background(), k); err != nil {
			t.Fatalf("Delete(%q): %v", k, err)
		}
		wantsAbsent(t, s, k)
		if i+1 < len(keys) {
			wants(t, s, keys[i+1], pattern(i+1, 40))
		}
	}
}
