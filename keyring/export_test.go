package keyring

import (
	"context"
	"time"
)

// What the tests need to put a keyring of their own behind stores and keys.

type Gate = gate

func NewGate(b interface {
	Get(service, account string) (string, error)
	Set(service, account, text string) error
	Delete(service, account string) error
}, check func(ctx context.Context, prompt bool) error) *Gate {
	if check == nil {
		check = func(context.Context, bool) error { return nil }
	}
	return newGate(b, check, func(context.Context, string, string) error { return nil })
}

// Confirm sets what is asked where b has found nothing.
func (g *gate) Confirm(confirm func(ctx context.Context, service, account string) error) {
	g.confirm = confirm
}

// Elsewhere is what that returns for an item in another collection.
func Elsewhere() error { return elsewhere() }

var KeychainThere = keychainThere

func (g *gate) NewStore(limit int, service string, options ...Options) (*Store, error) {
	return newStore(g, limit, service, options)
}

func (g *gate) NewKey(service string, options ...Options) *Key { return newKey(g, service, options) }

func (g *gate) Probe(ctx context.Context, o Options) error {
	o, err := withDefaults([]Options{o})
	if err != nil {
		return err
	}
	return probe(ctx, g, o)
}

// NewFailure is what a check returns.
func NewFailure(kind, cause error) error { return fail(kind, cause) }

// ParseHead parses the text of the head of account, and returns the text of
// what it parsed.
func ParseHead(account, text string) (again string, err error) {
	h, err := parseHead(account, text)
	if err != nil {
		return "", err
	}
	return h.text(account), nil
}

// HeadTexts returns heads of account that hold value in one item, and one that
// holds none.
func HeadTexts(account string, value []byte) (texts []string) {
	for _, kind := range []string{typeValue, typeUnsure, typeGone} {
		texts = append(texts, (&head{kind: kind, value: value}).text(account))
	}
	return texts
}

func AccountOf(purpose, service, name string) string { return accountOf(purpose, service, name) }

const (
	Supported = supported
	ItemLimit = itemLimit
	MaxValue  = maxValue
	PauseLast = pauseLast
)

// NewSystemGate returns a gate to the OS keyring that remembers nothing, as
// that of another process.
func NewSystemGate() *Gate { return newGate(osKeyring{}, precheck, confirmAbsent) }

// PassPause ends the pause after a call that did not end well, as its time
// would.
func (g *gate) PassPause() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut.until, g.quiet.until = time.Time{}, time.Time{}
}
