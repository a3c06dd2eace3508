package measure

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// Save measures what it costs to keep a session in a file.
var Save = Measure{
	Name: "save",
	Doc:  "a session saved and loaded, against a bare durable write and a bare read",
	Run:  save,
}

const (
	bareWrite = "floor: bare durable write" // temp, fsync, rename, fsync of the directory
	bareRead  = "floor: read and decrypt"
)

// sessions are what is saved: a usual one, and one with a big ID token.
var sessions = []struct {
	prefix          string // of the values' names
	access, idToken int    // bytes
}{
	{"", 900, 0},
	{"idtoken.", 900, 3 << 10},
}

func save(ctx context.Context, o Options) ([]Result, error) {
	d, remove, err := newDisk()
	if err != nil {
		return nil, err
	}
	defer remove()
	result := func(peer string) Result {
		return Result{Measure: "save", Peer: peer, Values: map[string]float64{}, Words: d.words()}
	}
	keyFile, passphrase := result("freshtoken"), result("freshtoken, passphrase")
	write, read := result(bareWrite), result(bareRead)
	for _, k := range []struct {
		result, write, read Result
		key                 storage.Key
	}{
		{keyFile, write, read, storage.KeyFile(filepath.Join(d.path, "key"))},
		{passphrase, result(""), result(""), storage.Passphrase(func() ([]byte, error) { return []byte("correct horse battery staple"), nil })},
	} {
		for _, s := range sessions {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			p, err := newPair(d, k.key, s.access, s.idToken)
			if err != nil {
				return nil, err
			}
			p.measure(o, s.prefix, k.result.Values, k.write.Values, k.read.Values)
			p.close()
			if p.err != nil {
				return nil, p.err
			}
		}
	}
	if err := refreshes(ctx, o, d, keyFile.Values); err != nil {
		return nil, err
	}
	return []Result{keyFile, passphrase, write, read}, nil
}

// record returns what a Source saves for a session with tokens of these sizes.
func record(access, idToken int) ([]byte, error) {
	kept := &counting{Store: storage.NewMemory()}
	src, err := freshtoken.New(freshtoken.Config{Store: kept, OAuth2: &oauth2.Config{
		ClientID: "client", Endpoint: oauth2.Endpoint{TokenURL: "https://login.example.com/oauth2/token"}}})
	if err != nil {
		return nil, err
	}
	defer src.Close()
	tok := &oauth2.Token{AccessToken: strings.Repeat("a", access), RefreshToken: strings.Repeat("r", 64), TokenType: "Bearer", ExpiresIn: 3600}
	extra := map[string]any{"scope": "openid profile email offline_access"}
	if idToken > 0 {
		extra["id_token"] = strings.Repeat("i", idToken)
	}
	if err := src.SetToken(context.Background(), tok.WithExtra(extra)); err != nil {
		return nil, err
	}
	return kept.last, nil
}

// counting is a store that counts what is asked of it.
type counting struct {
	freshtoken.Store
	saves, locks int
	last         []byte // what was saved last
}

func (c *counting) Save(ctx context.Context, key string, value []byte) error {
	c.saves++
	c.last = append([]byte{}, value...)
	return c.Store.Save(ctx, key, value)
}

func (c *counting) Lock(ctx context.Context, key string) (func() error, error) {
	c.locks++
	return c.Store.Lock(ctx, key)
}

// A pair is a session in a store, and the same number of bytes in a bare file.
// Its functions do one thing n times; the first failure is kept.
type pair struct {
	store *storage.File
	value []byte

	bare   *bareFile
	sealed []byte // what the bare file holds
	header int    // bytes of it that are not encrypted
	gcm    cipher.AEAD

	err error
}

const sessionName = "alice"

func newPair(d disk, key storage.Key, access, idToken int) (*pair, error) {
	value, err := record(access, idToken)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(d.path, "pair-")
	if err != nil {
		return nil, err
	}
	p := &pair{value: value}
	if p.store, err = storage.NewFile(dir, key); err != nil {
		return nil, err
	}
	if p.save(1); p.err != nil {
		return nil, p.err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.session"))
	if err != nil || len(files) != 1 {
		return nil, fmt.Errorf("%d sessions in %v: %w", len(files), p.store, err)
	}
	file, err := os.ReadFile(files[0])
	if err != nil {
		return nil, err
	}
	if err := p.seal(len(file)); err != nil {
		return nil, err
	}
	if p.bare, err = newBareFile(dir); err != nil {
		return nil, err
	}
	p.write(1)
	return p, p.err
}

// seal makes so many bytes for the bare file, with a cipher that is ready. All
// but the value and its tag is what its header has room for.
func (p *pair) seal(size int) error {
	block, err := aes.NewCipher(make([]byte, storage.KeySize))
	if err != nil {
		return err
	}
	if p.gcm, err = cipher.NewGCM(block); err != nil {
		return err
	}
	p.header = size - len(p.value) - p.gcm.Overhead()
	header := make([]byte, p.header)
	p.sealed = p.gcm.Seal(header, make([]byte, p.gcm.NonceSize()), p.value, header)
	return nil
}

func (p *pair) close() {
	if p.bare != nil {
		p.bare.close()
	}
}

func (p *pair) keep(err error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *pair) save(n int) {
	for range n {
		p.keep(p.store.Save(context.Background(), sessionName, p.value))
	}
}

func (p *pair) load(n int) {
	for range n {
		_, err := p.store.Load(context.Background(), sessionName)
		p.keep(err)
	}
}

func (p *pair) write(n int) {
	for range n {
		p.keep(p.bare.write(p.sealed))
	}
}

func (p *pair) read(n int) {
	nonce := make([]byte, p.gcm.NonceSize())
	for range n {
		data, err := os.ReadFile(p.bare.path)
		p.keep(err)
		if err == nil {
			_, err = p.gcm.Open(nil, nonce, data[p.header:], data[:p.header])
			p.keep(err)
		}
	}
}

// measure adds what a session costs, under names with this prefix.
func (p *pair) measure(o Options, prefix string, ours, write, read map[string]float64) {
	rounds, often, each := 2*o.Rounds, 15, 10*time.Millisecond
	if o.Smoke {
		rounds, often, each = 1, 1, time.Millisecond
	}
	t := alternate(rounds, often, p.save, p.write)
	ours[prefix+"save.ns"], ours[prefix+"save.floor.ratio"] = Median(t[0]), Ratio(t[0], t[1])
	write[prefix+"save.ns"] = Median(t[1])
	t = Interleave(rounds, each, p.load, p.read)
	ours[prefix+"load.ns"], ours[prefix+"load.floor.ratio"] = Median(t[0]), Ratio(t[0], t[1])
	read[prefix+"load.ns"] = Median(t[1])

	ours[prefix+"save.allocs"] = testing.AllocsPerRun(10, func() { p.save(1) })
	ours[prefix+"load.allocs"] = testing.AllocsPerRun(100, func() { p.load(1) })
	write[prefix+"save.allocs"] = testing.AllocsPerRun(10, func() { p.write(1) })
	read[prefix+"load.allocs"] = testing.AllocsPerRun(100, func() { p.read(1) })
	write[prefix+"save.bytes"] = float64(len(p.sealed))
}

// alternate is Interleave for what waits for a disk, whose pace changes from one
// moment to the next: the functions take turns at doing one thing, in one order
// and in the other, and a round is the median of so many.
func alternate(rounds, often int, fns ...func(n int)) [][]float64 {
	out := make([][]float64, len(fns))
	for range rounds {
		round := make([][]float64, len(fns))
		for range often {
			for i, f := range fns {
				start := time.Now()
				f(1)
				round[i] = append(round[i], float64(time.Since(start)))
			}
			slices.Reverse(fns)
			slices.Reverse(round)
		}
		if often%2 == 1 {
			slices.Reverse(fns)
			slices.Reverse(round)
		}
		for i := range fns {
			out[i] = append(out[i], Median(round[i]))
		}
	}
	return out
}

// refreshes adds what a whole refresh costs, with a server in memory: lock,
// reload, mark, ask, save, unlock. Its floor are two bare durable writes.
func refreshes(ctx context.Context, o Options, d disk, ours map[string]float64) error {
	file, err := storage.NewFile(filepath.Join(d.path, "refreshes"), storage.KeyFile(filepath.Join(d.path, "key")))
	if err != nil {
		return err
	}
	store := &counting{Store: file}
	server := oauthtest.New(oauthtest.Options{})
	src, err := freshtoken.New(freshtoken.Config{OAuth2: server.OAuth2(), HTTPClient: server.Client(), Store: store})
	if err != nil {
		return err
	}
	defer src.Close()
	bare, err := newBareFile(d.path)
	if err != nil {
		return err
	}
	defer bare.close()

	rounds := 4 * o.Rounds
	if o.Smoke {
		rounds = 2
	}
	var ns, floor []float64
	saves, locks := 0, 0
	for range rounds {
		if err := ctx.Err(); err != nil {
			return err
		}
		// A login without an access token: the first who asks has to refresh.
		login := &oauth2.Token{RefreshToken: server.Login("alice").RefreshToken}
		if err := src.SetToken(ctx, login); err != nil {
			return err
		}
		saves, locks = store.saves, store.locks
		start := time.Now()
		if _, err := src.Token(ctx); err != nil {
			return err
		}
		ns = append(ns, float64(time.Since(start)))
		saves, locks = store.saves-saves, store.locks-locks
		start = time.Now()
		for range 2 {
			if err := bare.write(store.last); err != nil {
				return err
			}
		}
		floor = append(floor, float64(time.Since(start)))
	}
	ours["refresh.ns"], ours["refresh.floor.ratio"] = Median(ns), Ratio(ns, floor)
	ours["refresh.writes.count"], ours["refresh.locks.count"] = float64(saves), float64(locks)
	return nil
}
