package keyring_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	gokeyring "github.com/zalando/go-keyring"

	"github.com/freshtoken/freshtoken/keyring"
)

// limit is the smallest size of an item among the systems.
const limit = 2560

// fake is a keyring in memory that a test can make fail.
type fake struct {
	// hook, if set, is called for each call before it takes effect, with what
	// will do it. It decides whether that happens, and what the call returns.
	hook func(c fakeCall, do func() (string, error)) (string, error)

	mu     sync.Mutex // guards what follows
	items  map[string]string
	calls  []fakeCall
	active int
	most   int // calls at a time
}

type fakeCall struct{ op, account, text string }

func newFake() *fake { return &fake{items: map[string]string{}} }

func (f *fake) call(c fakeCall, service string) (string, error) {
	f.mu.Lock()
	f.calls = append(f.calls, c)
	f.active++
	f.most = max(f.most, f.active)
	hook := f.hook
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.active--
		f.mu.Unlock()
	}()
	do := func() (string, error) { return f.do(c, service+":"+c.account) }
	if hook != nil {
		return hook(c, do)
	}
	return do()
}

func (f *fake) do(c fakeCall, name string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, ok := f.items[name]
	switch c.op {
	case "set":
		f.items[name] = c.text
		return "", nil
	case "delete":
		delete(f.items, name)
	}
	if !ok {
		return "", gokeyring.ErrNotFound
	}
	return text, nil
}

func (f *fake) Get(service, account string) (string, error) {
	return f.call(fakeCall{op: "get", account: account}, service)
}

func (f *fake) Set(service, account, text string) error {
	if len(text) > limit {
		return gokeyring.ErrSetDataTooBig
	}
	_, err := f.call(fakeCall{op: "set", account: account, text: text}, service)
	return err
}

func (f *fake) Delete(service, account string) error {
	_, err := f.call(fakeCall{op: "delete", account: account}, service)
	return err
}

// setHook replaces the hook and forgets the calls so far.
func (f *fake) setHook(hook func(c fakeCall, do func() (string, error)) (string, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook, f.calls, f.most = hook, nil, 0
}

// ops returns the calls since setHook, in short.
func (f *fake) ops() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ops []string
	for _, c := range f.calls {
		ops = append(ops, c.op)
	}
	return strings.Join(ops, " ")
}

// copy returns a keyring with the same items and no hook.
func (f *fake) copy() *fake {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &fake{items: maps.Clone(f.items)}
}

// accounts returns what is stored, sorted.
func (f *fake) accounts() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.items))
}

// edit replaces the text of every item for which change returns another one.
func (f *fake) edit(change func(name, text string) string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, text := range f.items {
		f.items[name] = change(name, text)
	}
}

var errDown = errors.New("the keyring is down")

// down fails every call without an effect.
func down(fakeCall, func() (string, error)) (string, error) { return "", errDown }

// openStore returns a store over f, as another process would open it.
func openStore(t *testing.T, f *fake, lockDir string) *keyring.Store {
	t.Helper()
	s, err := keyring.NewGate(f, nil).NewStore(limit, "keyring-test", keyring.Options{LockDir: lockDir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// bytesOf returns n bytes that depend on seed.
func bytesOf(seed, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + seed*31)
	}
	return b
}
