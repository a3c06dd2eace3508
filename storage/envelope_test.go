package storage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/storage"
)

var update = flag.Bool("update", false, "write the test vectors anew")

// A vector is a sealed value of a released format. Vectors are added, never
// changed: what one release wrote the next ones read.
type vector struct {
	Comment    string
	Passphrase string `json:",omitempty"`
	Key        string `json:",omitempty"` // hex
	Params     string `json:",omitempty"` // hex; what the header has
	Name       string
	Value      string // hex
	Salt       string // hex
	Sealed     string // hex
}

const vectorFile = "testdata/sealed-v1.json"

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	b, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(b, &vectors); err != nil {
		t.Fatal(err)
	}
	return vectors
}

// rawKey is a key that is known.
type rawKey []byte

func (k rawKey) Get(context.Context, []byte) ([]byte, error) { return bytes.Clone(k), nil }
func (k rawKey) New(context.Context) (key, params []byte, err error) {
	return nil, nil, errors.New("a known key is not made")
}

// opens returns what a store makes of a sealed value under key.
func opens(key storage.Key, name string, sealed []byte) ([]byte, error) {
	m := storage.NewMemory()
	if err := m.Save(context.Background(), name, sealed); err != nil {
		return nil, err
	}
	return storage.Seal(m, key).Load(context.Background(), name)
}

func TestVectors(t *testing.T) {
	vectors := readVectors(t)
	for i, v := range vectors {
		t.Run(v.Comment, func(t *testing.T) {
			var key storage.Key = rawKey(unhex(t, v.Key))
			raw, params := unhex(t, v.Key), unhex(t, v.Params)
			if v.Passphrase != "" {
				key = storage.Passphrase(func() ([]byte, error) { return []byte(v.Passphrase), nil })
				var err error
				if raw, err = key.Get(context.Background(), params); err != nil {
					t.Fatal(err)
				}
			}
			sealed, err := storage.SealWith(raw, params, v.Name, unhex(t, v.Value), [32]byte(unhex(t, v.Salt)))
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				vectors[i].Sealed = hex.EncodeToString(sealed)
			} else if hex.EncodeToString(sealed) != v.Sealed {
				t.Errorf("sealed as\n%x, the vector is\n%s", sealed, v.Sealed)
			}
			got, err := opens(key, v.Name, unhex(t, vectors[i].Sealed))
			if err != nil {
				t.Fatal(err)
			}
			if hex.EncodeToString(got) != v.Value {
				t.Errorf("opened as %x, want %s", got, v.Value)
			}
		})
	}
	if *update {
		b, err := json.MarshalIndent(vectors, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vectorFile, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// someKey and someSealed are a value to damage.
var someKey = rawKey(bytes.Repeat([]byte{3}, storage.KeySize))

func someSealed(t testing.TB, key, params []byte) []byte {
	t.Helper()
	sealed, err := storage.SealWith(key, params, "alice", []byte("secret value"), [32]byte{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// wantCorrupt checks that err is what a caller recognises without this package.
func wantCorrupt(t *testing.T, what string, err error) {
	t.Helper()
	var c interface{ Corrupt() bool }
	if !errors.Is(err, storage.ErrCorrupt) || !errors.As(err, &c) || !c.Corrupt() {
		t.Errorf("%s: got %v, want ErrCorrupt", what, err)
	}
	for _, other := range []error{fs.ErrNotExist, storage.ErrWrongKey, storage.ErrNewerVersion, storage.ErrKeyMissing} {
		if errors.Is(err, other) {
			t.Errorf("%s: the error matches %v as well", what, other)
		}
	}
}

func TestEveryBitFlipIsCorrupt(t *testing.T) {
	for _, params := range [][]byte{nil, []byte("parameters")} {
		sealed := someSealed(t, someKey, params)
		if _, err := opens(someKey, "alice", sealed); err != nil {
			t.Fatal(err)
		}
		for i := range sealed {
			for bit := range 8 {
				flipped := bytes.Clone(sealed)
				flipped[i] ^= 1 << bit
				_, err := opens(someKey, "alice", flipped)
				if !errors.Is(err, storage.ErrCorrupt) {
					wantCorrupt(t, "byte "+hex.EncodeToString([]byte{byte(i)}), err)
				}
			}
		}
	}
}

func TestEveryCutIsCorrupt(t *testing.T) {
	sealed := someSealed(t, someKey, []byte("parameters"))
	for n := range sealed {
		_, err := opens(someKey, "alice", sealed[:n])
		wantCorrupt(t, "cut short", err)
	}
	_, err := opens(someKey, "alice", append(bytes.Clone(sealed), 0))
	wantCorrupt(t, "a byte longer", err)
	_, err = opens(someKey, "alice", []byte(`{"access_token":"plain"}`))
	wantCorrupt(t, "not sealed at all", err)
}

func TestMovedIsCorrupt(t *testing.T) {
	sealed := someSealed(t, someKey, nil)
	for _, name := range []string{"bob", "", "Alice", "alice\x00", "alic"} {
		_, err := opens(someKey, name, sealed)
		wantCorrupt(t, "moved to "+name, err)
	}
}

// TestNameSizes: the name that is sealed with a value is whole, or refused.
func TestNameSizes(t *testing.T) {
	ctx := context.Background()
	stores(t, func(t *testing.T, reopen func(storage.Key) storage.Store) {
		k := new(vaultKey)
		s := reopen(k)
		if err := s.Save(ctx, strings.Repeat("n", 1<<16), []byte("v")); err == nil {
			t.Error("a name past the limit was saved")
		}
		if k.news != 0 {
			t.Error("a key was made for a Save that was refused")
		}
		for _, n := range []int{0, 1, 255, 256, 257, 1<<16 - 1} {
			mustSave(t, s, strings.Repeat("n", n), fmt.Sprint(n))
		}
		for _, n := range []int{0, 1, 255, 256, 257, 1<<16 - 1} {
			wantValue(t, reopen(k), strings.Repeat("n", n), fmt.Sprint(n))
		}
		if _, err := s.Load(ctx, strings.Repeat("n", 1<<16)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Load of a name past the limit: %v", err)
		}
	})
}

// TestBiggest saves as much as there may be, under the longest name.
func TestBiggest(t *testing.T) {
	needFiles(t)
	ctx := context.Background()
	s := newFile(t, home(t), fixedKey(1))
	name, value := strings.Repeat("n", 1<<16-1), bytes.Repeat([]byte("v"), 16<<20)
	if err := s.Save(ctx, name, value); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Load(ctx, name); err != nil || !bytes.Equal(got, value) {
		t.Errorf("loaded %d bytes of %d (%v)", len(got), len(value), err)
	}
	if keys, err := s.List(ctx); err != nil || len(keys) != 1 || keys[0] != name {
		t.Errorf("listed %d keys (%v)", len(keys), err)
	}
}

// plaintexts are what a value may be sealed from; those that are nil are no
// name with a value.
var plaintexts = []struct {
	plain string
	value []byte
}{
	{"", nil},
	{"\x00", nil},
	{"\x05", nil},
	{"\x00\x05alic", nil},
	{"\x00\x06alice", nil},
	{"\xff\xffalice", nil},
	{"\x05\x00alice", nil},
	{"\x00\x00", nil},          // under the empty name
	{"\x00\x04alice", nil},     // under "alic"
	{"\x00\x05Alice", nil},     // under "Alice"
	{"\x00\x06alice\x00", nil}, // under "alice\x00"
	{"\x00\x05alice", []byte("")},
	{"\x00\x05alicev", []byte("v")},
	{"\x00\x05alice\x00\x03bob", []byte("\x00\x03bob")},
}

func TestPlaintexts(t *testing.T) {
	for _, test := range plaintexts {
		sealed, err := storage.SealPlain(someKey, []byte(test.plain), [32]byte{1})
		if err != nil {
			t.Fatal(err)
		}
		got, err := opens(someKey, "alice", sealed)
		if test.value == nil {
			wantCorrupt(t, fmt.Sprintf("%q", test.plain), err)
		} else if err != nil || got == nil || !bytes.Equal(got, test.value) {
			t.Errorf("%q opened as %q (%v), want %q", test.plain, got, err, test.value)
		}
	}
}

func TestWrongKey(t *testing.T) {
	sealed := someSealed(t, someKey, nil)
	_, err := opens(fixedKey(4), "alice", sealed)
	if !errors.Is(err, storage.ErrWrongKey) || errors.Is(err, storage.ErrCorrupt) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want ErrWrongKey alone", err)
	}
}

// newer turns a sealed value into one of the next version, of which only the
// frame is known.
func newer(sealed []byte) []byte {
	b := append([]byte("\x8dftseal\n\x02\x00\x20"), make([]byte, 12)...)
	sum := sha256.Sum256(b)
	b = append(b, sum[:9]...)
	binary.BigEndian.PutUint16(b[9:], uint16(len(b)))
	sum = sha256.Sum256(b[:len(b)-9])
	copy(b[len(b)-9:], sum[:])
	return append(b, sealed...)
}

func TestNewerVersion(t *testing.T) {
	sealed := newer([]byte("whatever"))
	_, err := opens(someKey, "alice", sealed)
	if !errors.Is(err, storage.ErrNewerVersion) || errors.Is(err, storage.ErrCorrupt) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want ErrNewerVersion alone", err)
	}
}

// TestNothingUnreadableIsOverwritten saves over values that cannot be opened.
func TestNothingUnreadableIsOverwritten(t *testing.T) {
	ctx := context.Background()
	flipped := someSealed(t, someKey, nil)
	flipped[len(flipped)-1] ^= 1
	for name, test := range map[string]struct {
		sealed []byte
		want   error
	}{
		"wrong key": {someSealed(t, rawKey(bytes.Repeat([]byte{9}, 32)), nil), storage.ErrWrongKey},
		"newer":     {newer(nil), storage.ErrNewerVersion},
		"corrupt":   {flipped, storage.ErrCorrupt},
		"plain":     {[]byte("plain"), storage.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			m := storage.NewMemory()
			if err := m.Save(ctx, "alice", test.sealed); err != nil {
				t.Fatal(err)
			}
			s := storage.Seal(m, someKey)
			if err := s.Save(ctx, "alice", []byte(newValue)); !errors.Is(err, test.want) {
				t.Errorf("Save: got %v, want %v", err, test.want)
			}
			if got, err := m.Load(ctx, "alice"); err != nil || !bytes.Equal(got, test.sealed) {
				t.Errorf("the value was changed (%v)", err)
			}
		})
	}
}

func TestSaltsDiffer(t *testing.T) {
	ctx := context.Background()
	m := storage.NewMemory()
	s := storage.Seal(m, someKey)
	var last []byte
	for range 3 {
		if err := s.Save(ctx, "alice", []byte("the same")); err != nil {
			t.Fatal(err)
		}
		sealed, err := m.Load(ctx, "alice")
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(sealed, last) {
			t.Error("one value was sealed twice with one salt")
		}
		if bytes.Contains(sealed, []byte("the same")) || bytes.Contains(sealed, []byte("alice")) {
			t.Error("the value or its name is legible")
		}
		last = sealed
	}
}

// FuzzOpen opens what an attacker may have written: it must end in a value that
// was sealed, or in one of the errors.
func FuzzOpen(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add(unhex(f, v.Sealed))
	}
	f.Add(someSealed(f, someKey, nil))
	f.Add(newer(nil))
	pass := storage.Passphrase(func() ([]byte, error) { return nil, errors.New("not in a fuzz test") })
	f.Fuzz(func(t *testing.T, sealed []byte) {
		got, err := opens(someKey, "alice", sealed)
		if err == nil && !bytes.HasPrefix(sealed, []byte("\x8dftseal\n\x01")) {
			t.Errorf("%x was opened as %x", sealed, got)
		}
		if err != nil && !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrWrongKey) && !errors.Is(err, storage.ErrNewerVersion) {
			t.Errorf("an error of no known kind: %v", err)
		}
		if err != nil && (errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), string(someKey))) {
			t.Errorf("a bad error: %v", err)
		}
		wantListed(t, sealed, err == nil)
		// Parameters are bounded before anything is computed from them, and
		// nothing is computed here: there is no passphrase.
		if _, err := opens(pass, "alice", sealed); err == nil {
			t.Error("opened without a passphrase")
		}
	})
}

// wantListed lists a store that has sealed under "alice", and fails the test
// unless that is listed if it can be opened, and only then.
func wantListed(t *testing.T, sealed []byte, whole bool) {
	t.Helper()
	m := storage.NewMemory()
	mustSave(t, m, "alice", string(sealed))
	keys, err := storage.Seal(m, someKey).List(context.Background())
	if whole != (len(keys) == 1 && keys[0] == "alice") || whole != (err == nil) || len(keys) > 1 {
		t.Errorf("it can be opened: %v, and is listed as %q (%v)", whole, keys, err)
	}
}

// FuzzPlaintext seals what whoever has the key may have sealed: it opens under
// a name only if it begins with that name and its length.
func FuzzPlaintext(f *testing.F) {
	for _, test := range plaintexts {
		f.Add([]byte(test.plain))
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		sealed, err := storage.SealPlain(someKey, plain, [32]byte{1})
		if err != nil {
			t.Fatal(err)
		}
		value, right := bytes.CutPrefix(plain, []byte("\x00\x05alice"))
		got, err := opens(someKey, "alice", sealed)
		if right != (err == nil) || right && !bytes.Equal(got, value) {
			t.Errorf("%q opened as %q (%v)", plain, got, err)
		}
		if err != nil && !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%q: got %v, want ErrCorrupt", plain, err)
		}
		wantListed(t, sealed, right)
	})
}

func TestMain(m *testing.M) {
	flag.Parse()
	canary.MarkRandom()
	os.Exit(m.Run())
}

// home makes the directory of the calling test, private whatever the umask.
func home(t testing.TB) string {
	t.Helper()
	return filepath.Join(canary.Dir(t), "store")
}
