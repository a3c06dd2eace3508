package keyring_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/storage/storagetest"
)

func TestStoreKeepsTheContract(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storagetest.Store {
		return openStore(t, newFake(), t.TempDir())
	})
}

// wants fails the test unless key holds value; nil means that it is absent.
func wants(t *testing.T, s *keyring.Store, key string, value []byte) {
	t.Helper()
	got, err := s.Load(t.Context(), key)
	switch {
	case value == nil && !errors.Is(err, fs.ErrNotExist):
		t.Fatalf("Load returned %d bytes and %v, want that nothing is there", len(got), err)
	case value != nil && err != nil:
		t.Fatalf("Load: %v", err)
	case value != nil && !bytes.Equal(got, value):
		t.Fatalf("Load returned %d bytes that differ from the %d saved", len(got), len(value))
	}
}

func save(t *testing.T, s *keyring.Store, key string, value []byte) {
	t.Helper()
	if err := s.Save(t.Context(), key, value); err != nil {
		t.Fatalf("Save of %d bytes: %v", len(value), err)
	}
}

// A crash, or a keyring that breaks down, at any call of a write leaves the old
// value or the new one, and nothing that later writes don't remove.
func TestCrashAtAnyStepLeavesOldOrNew(t *testing.T) {
	sizes := map[string]int{"absent": -1, "small": 100, "two parts": 3000, "five parts": 9000}
	value := func(seed int, name string) []byte {
		if n := sizes[name]; n >= 0 {
			return bytesOf(seed, n)
		}
		return nil
	}
	for before := range sizes {
		for after := range sizes {
			for _, took := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s to %s, the last call took effect %v", before, after, took), func(t *testing.T) {
					crashes := 0
					for step := 0; ; step++ {
						if !crash(t, value(1, before), value(2, after), step, took) {
							break
						}
						crashes++
					}
					if crashes == 0 {
						t.Error("no call could be made to fail")
					}
				})
			}
		}
	}
}

// crash replaces the value before by after with a keyring that breaks down at
// the given step. It returns false if the write had fewer steps.
func crash(t *testing.T, before, after []byte, step int, took bool) bool {
	ctx := context.Background()
	f, dir := newFake(), t.TempDir()
	s := openStore(t, f, dir)
	if before != nil {
		save(t, s, "k", before)
	}
	n := 0
	f.setHook(func(c fakeCall, do func() (string, error)) (string, error) {
		n++
		if n == step+1 && took {
			do()
		}
		if n > step {
			return down(c, do)
		}
		return do()
	})
	replace := func(s *keyring.Store) error {
		if after == nil {
			return s.Delete(ctx, "k")
		}
		return s.Save(ctx, "k", after)
	}
	err := replace(s)
	survived := f.copy()
	s = openStore(t, survived, dir)
	got, lerr := s.Load(ctx, "k")
	absent := errors.Is(lerr, fs.ErrNotExist)
	if lerr != nil && !absent {
		t.Fatalf("step %d: Load after the crash: %v", step, lerr)
	}
	isOld := absent == (before == nil) && bytes.Equal(got, before)
	isNew := absent == (after == nil) && bytes.Equal(got, after)
	if !isOld && !isNew {
		t.Fatalf("step %d: Load after the crash returned %d bytes (absent %v)", step, len(got), absent)
	}
	if err == nil && !isNew {
		t.Fatalf("step %d: success was reported, the old value is there", step)
	}
	// Another writer goes on from here: once as it meant to, and to the end.
	if err := replace(s); err != nil {
		t.Fatalf("step %d: the same write after the crash: %v", step, err)
	}
	wants(t, s, "k", after)
	if err := s.Delete(ctx, "k"); err != nil {
		t.Fatalf("step %d: Delete: %v", step, err)
	}
	if left := survived.accounts(); len(left) > 0 {
		// A delete of nothing looks at nothing: so there may be no parts.
		t.Fatalf("step %d: Delete left %v", step, left)
	}
	return n > step
}

// What dead writers left is removed by the next writes, not only by Delete.
func TestLeftoversAreSweptByWrites(t *testing.T) {
	for step := range 14 {
		f, dir := newFake(), t.TempDir()
		s := openStore(t, f, dir)
		save(t, s, "k", bytesOf(1, 100))
		n := 0
		f.setHook(func(c fakeCall, do func() (string, error)) (string, error) {
			if n++; n > step {
				return down(c, do)
			}
			return do()
		})
		_ = s.Save(t.Context(), "k", bytesOf(2, 9000)) // dies on the way
		f = f.copy()
		s = openStore(t, f, dir)
		save(t, s, "k", bytesOf(3, 50))
		save(t, s, "k", bytesOf(4, 50))
		if left := f.accounts(); len(left) != 1 {
			t.Fatalf("after a crash at step %d and two small writes there are %d items: %v", step, len(left), left)
		}
	}
}

// What a dead writer left in a slot goes when the slot is written, however
// much shorter that value is: nothing of it outlasts the next write.
func TestLongLeftoversGoWithAShorterValue(t *testing.T) {
	f, dir := newFake(), t.TempDir()
	s := openStore(t, f, dir)
	save(t, s, "k", bytesOf(1, 9000))
	sets := 0
	f.setHook(func(c fakeCall, do func() (string, error)) (string, error) {
		if c.op == "set" {
			sets++
		}
		if sets == 6 { // five parts, and then the head
			return down(c, do)
		}
		return do()
	})
	if err := s.Save(t.Context(), "k", bytesOf(2, 9000)); err == nil {
		t.Fatal("Save survived its crash")
	}
	f = f.copy()
	if n := len(f.accounts()); n != 11 {
		t.Fatalf("the dead writer left %d items, the test wants 11", n)
	}
	s = openStore(t, f, dir)
	save(t, s, "k", bytesOf(3, 3000))
	if left := f.accounts(); len(left) != 3 {
		t.Errorf("a value of two parts and what was left before take %d items: %v", len(left), left)
	}
}

func TestSmallValueIsOneItemAndThreeCalls(t *testing.T) {
	f := newFake()
	s := openStore(t, f, t.TempDir())
	f.setHook(nil)
	save(t, s, "k", bytesOf(1, 1800))
	if got, want := f.ops(), "get set get"; got != want {
		t.Errorf("the calls of a small write were %q, want %q", got, want)
	}
	if n := len(f.accounts()); n != 1 {
		t.Errorf("a small value takes %d items", n)
	}
	f.setHook(nil)
	wants(t, s, "k", bytesOf(1, 1800))
	if got, want := f.ops(), "get"; got != want {
		t.Errorf("the calls of a read were %q, want %q", got, want)
	}
}

// Writing prompts on some systems, so nothing is written that is there already.
func TestUnchangedValueIsNotWritten(t *testing.T) {
	for _, n := range []int{0, 100, 9000} {
		f := newFake()
		s := openStore(t, f, t.TempDir())
		save(t, s, "k", bytesOf(1, n))
		f.setHook(nil)
		save(t, s, "k", bytesOf(1, n))
		if ops := f.ops(); strings.Contains(ops, "set") || strings.Contains(ops, "delete") {
			t.Errorf("%d bytes: saving the same value again made the calls %q", n, ops)
		}
	}
}

// Accounts are hex, texts are ASCII and within the limit, whatever the caller's
// key and value are.
func TestItemsAreFitForEveryKeyring(t *testing.T) {
	f := newFake()
	s := openStore(t, f, t.TempDir())
	for _, key := range []string{"", "a:b", "line\nbreak", "\x00\xff", "alice@example.com"} {
		save(t, s, key, bytesOf(1, 9000))
	}
	for name, text := range f.items {
		account, ok := strings.CutPrefix(name, "keyring-test:")
		if !ok || strings.Trim(account, "0123456789abcdef") != "" {
			t.Errorf("account %q is not lowercase hex", name)
		}
		if len(text) > limit || strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
			t.Errorf("an item's text of %d bytes is too long or not plain ASCII", len(text))
		}
	}
	if keyring.AccountOf("store", "app", "k") == keyring.AccountOf("store", "App", "k") {
		t.Error("services that differ by case share an account, and Windows would mix them up")
	}
}

func TestSize(t *testing.T) {
	t.Run("ST-size a session of 5 KiB in items of 2,560 bytes", func(t *testing.T) {
		f := newFake()
		dir := t.TempDir()
		save(t, openStore(t, f, dir), "k", bytesOf(1, 5<<10))
		wants(t, openStore(t, f, dir), "k", bytesOf(1, 5<<10))
	})
}

func TestTooBig(t *testing.T) {
	f := newFake()
	s := openStore(t, f, t.TempDir())
	err := s.Save(t.Context(), "k", make([]byte, keyring.MaxValue+1))
	if !errors.Is(err, keyring.ErrTooBig) {
		t.Errorf("Save of more than 1 MiB: %v, want ErrTooBig", err)
	}
	if f.ops() != "" {
		t.Errorf("Save of more than 1 MiB called the keyring: %s", f.ops())
	}
	wants(t, s, "k", nil)
}

// A reader that meets a writer gets the old value or the new one.
func TestReadersNeverSeeHalfAValue(t *testing.T) {
	f, dir := newFake(), t.TempDir()
	writer := openStore(t, f, dir)
	save(t, writer, "k", bytesOf(0, 7000))
	values := map[string]bool{}
	for i := range 30 {
		values[string(bytesOf(i, 7000+100*(i%3)))] = true
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 3 {
		reader := openStore(t, f, dir)
		wg.Go(func() {
			for ctx.Err() == nil {
				got, err := reader.Load(context.Background(), "k")
				if err != nil {
					t.Errorf("Load: %v", err)
					return
				}
				if !values[string(got)] {
					t.Errorf("Load returned %d bytes that nobody saved", len(got))
					return
				}
			}
		})
	}
	for i := range 30 {
		save(t, writer, "k", bytesOf(i, 7000+100*(i%3)))
	}
	stop()
	wg.Wait()
}

// A read that is overtaken again and again ends under the writers' lock.
func TestReadOvertakenByWrites(t *testing.T) {
	f, dir := newFake(), t.TempDir()
	s, writer := openStore(t, f, dir), openStore(t, f, dir)
	save(t, s, "k", bytesOf(0, 7000))
	head := keyring.AccountOf("store", "keyring-test", "k")
	var writes int
	busy := false
	f.setHook(func(c fakeCall, do func() (string, error)) (string, error) {
		text, err := do()
		if c.op == "get" && c.account == head && !busy && writes < 4 {
			busy = true
			writes++
			// Twice, so that the slot which the head named is overwritten.
			for i := range 2 {
				if err := writer.Save(context.Background(), "k", bytesOf(10*writes+i, 7000)); err != nil {
					t.Errorf("Save: %v", err)
				}
			}
			busy = false
		}
		return text, err
	})
	wants(t, s, "k", bytesOf(41, 7000))
	if writes != 4 {
		t.Errorf("the read was overtaken %d times, want 4", writes)
	}
}

func TestConcurrentWritersOfOneKey(t *testing.T) {
	f, dir := newFake(), t.TempDir()
	var wg sync.WaitGroup
	for w := range 6 {
		s := openStore(t, f, dir) // a gate of its own, as in a process of its own
		wg.Go(func() {
			for i := range 5 {
				if err := s.Save(context.Background(), "k", bytesOf(w, 2000+1000*i)); err != nil {
					t.Errorf("Save: %v", err)
				}
			}
		})
	}
	wg.Wait()
	s := openStore(t, f, dir)
	if _, err := s.Load(t.Context(), "k"); err != nil {
		t.Errorf("Load after concurrent writes: %v", err)
	}
	if err := s.Delete(t.Context(), "k"); err != nil || len(f.accounts()) > 0 {
		t.Errorf("Delete after concurrent writes: %v, left %d items", err, len(f.accounts()))
	}
}

func TestOneCallAtATime(t *testing.T) {
	f := newFake()
	s := openStore(t, f, t.TempDir())
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			key := fmt.Sprint(i % 8)
			if err := s.Save(context.Background(), key, bytesOf(i, 100)); err != nil {
				t.Errorf("Save: %v", err)
			}
			if _, err := s.Load(context.Background(), key); err != nil {
				t.Errorf("Load: %v", err)
			}
		})
	}
	wg.Wait()
	if f.most != 1 {
		t.Errorf("%d calls reached the keyring at a time, want one", f.most)
	}
}

type corrupt interface{ Corrupt() bool }

func TestDamage(t *testing.T) {
	tests := []struct {
		name   string
		value  []byte
		change func(name, text string) string
	}{
		{"foreign text", bytesOf(1, 10), func(_, _ string) string { return "hello" }},
		{"empty text", bytesOf(1, 10), func(_, _ string) string { return "" }},
		{"cut short", bytesOf(1, 100), func(_, text string) string { return text[:len(text)-4] }},
		{"a part cut short", bytesOf(1, 9000), func(_, text string) string {
			if strings.HasPrefix(text, "ft1.p") {
				return text[:len(text)-4]
			}
			return text
		}},
		{"the head of parts cut short", bytesOf(1, 9000), func(_, text string) string {
			if strings.HasPrefix(text, "ft1.c.") {
				return text[:len(text)-40]
			}
			return text
		}},
		{"the head of parts replaced", bytesOf(1, 9000), func(_, text string) string {
			if strings.HasPrefix(text, "ft1.c.") {
				return "hello"
			}
			return text
		}},
		{"a part of another generation", bytesOf(1, 9000), func(name, text string) string {
			if strings.HasSuffix(name, "a0001") {
				return strings.Replace(text, text[6:22], "0123456789abcdef", 1)
			}
			return text
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, dir := newFake(), t.TempDir()
			s := openStore(t, f, dir)
			save(t, s, "k", tt.value)
			f.edit(tt.change)
			_, err := s.Load(t.Context(), "k")
			var c corrupt
			if !errors.As(err, &c) || !c.Corrupt() || errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("Load of a damaged value: %v, want an error with Corrupt", err)
			}
			before := len(f.accounts())
			if err := s.SetAside(t.Context(), "k"); err != nil {
				t.Fatalf("SetAside: %v", err)
			}
			wants(t, s, "k", nil)
			if n := len(f.accounts()); n != before {
				t.Errorf("SetAside kept %d of %d items", n, before)
			}
			save(t, s, "k", bytesOf(2, 5000))
			wants(t, s, "k", bytesOf(2, 5000))
			if err := s.SetAside(t.Context(), "k"); err != nil {
				t.Fatalf("a second SetAside: %v", err)
			}
			if err := s.SetAside(t.Context(), "k"); err != nil {
				t.Fatalf("SetAside of nothing: %v", err)
			}
		})
	}
}

// A damaged value that nobody has set aside does not stand in the way of a
// write or of a Delete, and nothing of it stays behind.
func TestDamageIsReplacedAndDeleted(t *testing.T) {
	for _, value := range [][]byte{bytesOf(1, 10), bytesOf(1, 9000)} {
		for _, all := range []bool{false, true} {
			f := newFake()
			s := openStore(t, f, t.TempDir())
			spoil := func() {
				save(t, s, "k", value)
				f.edit(func(_, text string) string {
					if all || strings.HasPrefix(text, "ft1.p") {
						return "spoilt"
					}
					return text
				})
			}
			spoil()
			save(t, s, "k", bytesOf(2, 20))
			wants(t, s, "k", bytesOf(2, 20))
			spoil()
			if err := s.Delete(t.Context(), "k"); err != nil {
				t.Fatalf("Delete: %v", err)
			}
			if left := f.accounts(); len(left) > 0 {
				t.Errorf("Delete left %v", left)
			}
		}
	}
}

func TestNewerVersionIsLeftAlone(t *testing.T) {
	f := newFake()
	s := openStore(t, f, t.TempDir())
	save(t, s, "k", bytesOf(1, 10))
	f.edit(func(_, text string) string { return "ft2" + strings.TrimPrefix(text, "ft1") })
	want := f.copy().items
	_, err := s.Load(t.Context(), "k")
	var c corrupt
	if err == nil || errors.As(err, &c) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of a newer version: %v", err)
	}
	if err := s.Save(t.Context(), "k", bytesOf(2, 10)); err == nil {
		t.Error("Save replaced an item of a newer version")
	}
	for name, text := range want {
		if f.items[name] != text {
			t.Error("the item of a newer version was touched")
		}
	}
	if err := s.Delete(t.Context(), "k"); err != nil {
		t.Errorf("Delete of a newer version: %v", err)
	}
}

// What one account holds is damage in another, whole or in parts, and no
// session of the other's; nor is it that there is none.
func TestItemsMovedToAnotherAccount(t *testing.T) {
	alice, bob := keyring.AccountOf("store", "keyring-test", "alice"), keyring.AccountOf("store", "keyring-test", "bob")
	for _, n := range []int{0, 100, 9000} {
		f, dir := newFake(), t.TempDir()
		s := openStore(t, f, dir)
		save(t, s, "alice", bytesOf(1, n))
		save(t, s, "bob", bytesOf(2, n))
		for name, text := range f.copy().items {
			if strings.Contains(name, alice) {
				f.items[strings.Replace(name, alice, bob, 1)] = text
			}
		}
		got, err := s.Load(t.Context(), "bob")
		var c corrupt
		if !errors.As(err, &c) || !c.Corrupt() {
			t.Errorf("Load of bob's session with alice's items of %d bytes: %d bytes, %v", n, len(got), err)
		}
		wants(t, s, "alice", bytesOf(1, n))
		save(t, s, "bob", bytesOf(2, n))
		wants(t, s, "bob", bytesOf(2, n))
	}
	for _, text := range keyring.HeadTexts(alice, []byte("a session")) {
		if _, err := keyring.ParseHead(alice, text); err != nil {
			t.Errorf("alice's %q: %v", text, err)
		}
		var c corrupt
		if _, err := keyring.ParseHead(bob, text); !errors.As(err, &c) {
			t.Errorf("alice's %q as bob's: %v", text, err)
		}
	}
}

func FuzzParseHead(f *testing.F) {
	account := keyring.AccountOf("store", "keyring-test", "k")
	for _, text := range append(keyring.HeadTexts(account, []byte("a session")),
		"", "ft1", "ft1.x", "ft1.x.", "ft1.v.e3b0c44298fc1c14.", "ft1.v..", "ft2.x", "ft1.p.x.y",
		"ft1.c.a.2.3000."+strings.Repeat("ab", 32)+".0123456789abcdef", "ft1.c.b.0.0..",
	) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		again, err := keyring.ParseHead(account, text)
		if err != nil {
			return
		}
		third, err := keyring.ParseHead(account, again)
		if err != nil || third != again {
			t.Errorf("%q was taken for %q, and that for %q (%v)", text, again, third, err)
		}
	})
}
