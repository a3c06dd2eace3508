package freshtoken_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/canary"
	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// A program in a process of its own. It is the test binary: procEnv in its
// environment says so. What it is to do arrives on its standard input, and what
// came of it leaves by its standard output, both as JSON. It ends when its input
// does, so that it never outlives the test.

const procEnv = "FRESHTOKEN_TEST_PROCESS"

// procModes are the programs that there are, by the value of procEnv.
var procModes = map[string]func(){"1": procMain}

func TestMain(m *testing.M) {
	canary.MarkRandom()
	if mode := os.Getenv(procEnv); mode != "" {
		procModes[mode]()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// procSetup is what a program is told when it starts.
type procSetup struct {
	TokenURL, AuthURL, API, Origin string

	Place procPlace
	Lead  time.Duration

	// Client is the certificate that the program shows, with its key, and Roots
	// those that vouch for the server, in PEM; empty: it uses no TLS.
	Client, Roots []byte
}

// procPlace says where the session is stored.
type procPlace struct {
	Dir     string
	Keyring string // the service; "" means files

	// SealedBy is the service under which the keyring holds the key of the
	// files; "" means a key file.
	SealedBy string
}

func (p procPlace) open() (freshtoken.Store, error) {
	if p.Keyring != "" {
		return keyring.NewStore(p.Keyring, keyring.Options{LockDir: filepath.Join(p.Dir, "locks")})
	}
	if p.SealedBy != "" {
		return storage.NewFile(p.sessions(), keyring.NewKey(p.SealedBy, keyring.Options{LockDir: filepath.Join(p.Dir, "locks")}))
	}
	return storage.NewFile(p.sessions(), storage.KeyFile(filepath.Join(p.Dir, "key")))
}

func (p procPlace) sessions() string { return filepath.Join(p.Dir, "sessions") }

// What a program can be told to do. Each ends with a report of the same name.
const (
	procOpen   = "open"   // open the session anew; the report says that the program is there
	procToken  = "token"  // ask for a token, from Goroutines goroutines
	procLogin  = "login"  // SetToken with Token
	procPerson = "person" // have somebody log in, if nobody is
	procWork   = "work"   // make requests from Goroutines goroutines, until procStop
	procStop   = "stop"   // end procWork, which then reports; no report of its own
	procHeal   = "heal"   // ask for a token until there is one
	procClose  = "close"  // close the Source
	procHeld   = "held"   // not an order: the program has come to its hold point
	procSaving = "saving" // not an order: it is about to save the server's answer
)

type procOrder struct {
	Do         string
	Goroutines int
	Token      *oauth2.Token
	Scope      string // of procToken: of the Target of which it is; empty: the session's own

	// Hold is where the next refresh is to stop, for good; see holdStore.
	Hold holdPoint
}

type procReport struct {
	Did string

	// Of procToken, procLogin, procHeal, procOpen and procClose: whether it
	// failed, in all goroutines, and how.
	Failed      int
	Error       string
	Ended       int // errors that are ErrSessionEnded
	Interrupted bool
	Generation  uint64 // Status, at the time of the report

	// Of procWork.
	Served, Rejected, Broken int
	Trouble                  string // the first of what was not served
	Events                   map[freshtoken.EventKind]int
}

// procMain is the life of a program. It returns when its input ends, whatever
// may be going on.
func procMain() {
	p := &procProgram{out: json.NewEncoder(os.Stdout), events: make(map[freshtoken.EventKind]int)}
	orders := json.NewDecoder(os.Stdin)
	if orders.Decode(&p.setup) != nil {
		return
	}
	for {
		var o procOrder
		if orders.Decode(&o) != nil {
			return
		}
		switch o.Do {
		case procOpen: // the others use what it makes
			p.report(procOpen, p.open(o.Hold))
		case procStop:
			p.stop()
		case procWork:
			var ctx context.Context
			ctx, p.stop = context.WithCancel(context.Background())
			go p.work(ctx, o.Goroutines)
		default:
			go p.obey(o)
		}
	}
}

type procProgram struct {
	setup procSetup
	src   *freshtoken.Source
	hold  holdPoint
	stop  context.CancelFunc

	mu     sync.Mutex // guards what follows
	out    *json.Encoder
	events map[freshtoken.EventKind]int
}

func (p *procProgram) open(hold holdPoint) error {
	store, err := p.setup.Place.open()
	if err != nil {
		return err
	}
	if p.src != nil {
		if err := p.src.Close(); err != nil {
			return err
		}
	}
	p.hold = hold
	cfg := freshtoken.Config{
		OAuth2:  &oauth2.Config{ClientID: "client", Endpoint: oauth2.Endpoint{TokenURL: p.setup.TokenURL, AuthURL: p.setup.AuthURL}},
		Store:   &holdStore{Store: store, at: hold, tell: p.tell},
		Lead:    p.setup.Lead,
		OnEvent: p.event,
	}
	if _, err := p.setup.present(&cfg); err != nil {
		return err
	}
	p.src, err = freshtoken.New(cfg)
	return err
}

func (p *procProgram) event(e freshtoken.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events[e.Kind]++
}

func (p *procProgram) tell(what string) { p.send(procReport{Did: what}) }

func (p *procProgram) send(r procReport) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.Events = p.events
	p.out.Encode(r)
}

// report tells the errors of an order, one for each goroutine.
func (p *procProgram) report(did string, errs ...error) {
	r := procReport{Did: did}
	if p.src != nil {
		r.Generation = p.src.Status().Generation
	}
	for _, err := range errs {
		if err == nil {
			continue
		}
		r.Failed++
		r.Error = err.Error()
		if errors.Is(err, freshtoken.ErrSessionEnded) {
			r.Ended++
		}
		failed := new(freshtoken.RefreshError)
		r.Interrupted = errors.As(err, &failed) && !failed.Interrupted.IsZero()
	}
	p.send(r)
}

func (p *procProgram) obey(o procOrder) {
	ctx, cancel := context.WithTimeout(context.Background(), procPatience)
	defer cancel()
	switch o.Do {
	case procToken:
		src, err := scopedSource(p.src, o.Scope)
		if err != nil {
			p.report(o.Do, err)
			return
		}
		errs := make([]error, max(o.Goroutines, 1))
		var group sync.WaitGroup
		for i := range errs {
			group.Go(func() { _, errs[i] = src.Token(ctx) })
		}
		group.Wait()
		p.report(o.Do, errs...)
	case procLogin:
		p.report(o.Do, p.src.SetToken(ctx, o.Token))
	case procPerson:
		_, err := p.src.Authenticate(ctx, login.Loopback{Prompt: login.Prompt{Browse: p.browse}})
		p.report(o.Do, err)
	case procHeal:
		_, err := p.src.Token(ctx)
		for ; err != nil && ctx.Err() == nil; _, err = p.src.Token(ctx) {
			<-time.After(20 * time.Millisecond)
		}
		p.report(o.Do, err)
	case procClose:
		p.report(o.Do, p.src.Close())
	}
}

// browse is a browser whose user approves at once, or does not come back.
func (p *procProgram) browse(_ context.Context, address string) error {
	if p.hold == holdBrowser {
		p.tell(procHeld)
		return nil
	}
	go func() {
		if resp, err := http.Get(address); err == nil {
			resp.Body.Close()
		}
	}()
	return nil
}

// work makes requests until ctx is done. None is cut short.
func (p *procProgram) work(ctx context.Context, goroutines int) {
	client := &http.Client{Timeout: procPatience, Transport: &freshtoken.Transport{Source: p.src, Origins: []string{p.setup.Origin}}}
	var mu sync.Mutex // guards r
	r := procReport{Did: procWork}
	var group sync.WaitGroup
	for g := range goroutines {
		group.Go(func() {
			for n := g; ctx.Err() == nil; n++ {
				status, err := p.request(client, n)
				mu.Lock()
				switch {
				case err == nil && status == http.StatusOK:
					r.Served++
				case err == nil && status == http.StatusUnauthorized:
					r.Rejected++
				default:
					r.Broken++
				}
				if (err != nil || status != http.StatusOK) && r.Trouble == "" {
					r.Trouble = fmt.Sprintf("status %d, error %v", status, err)
				}
				mu.Unlock()
				select {
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	group.Wait()
	r.Generation = p.src.Status().Generation
	p.send(r)
}

// request is a GET, or a POST whose body the API has to have read whole.
func (p *procProgram) request(client *http.Client, n int) (int, error) {
	if n%2 == 0 {
		resp, err := client.Get(p.setup.API)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, err
	}
	body := bytes.Repeat([]byte{byte(n)}, 1+n%5000)
	sum := sha256.Sum256(body)
	req, err := http.NewRequest(http.MethodPost, p.setup.API, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set(oauthtest.ChecksumHeader, hex.EncodeToString(sum[:]))
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode == http.StatusOK && !bytes.Contains(answer, []byte(hex.EncodeToString(sum[:]))) {
		err = errors.New("the API has read another body")
	}
	return resp.StatusCode, err
}

// A holdPoint is a place on the way of a refresh, seen from the store.
type holdPoint string

const (
	holdNowhere    holdPoint = ""
	holdLocked     holdPoint = "lock taken"
	holdBeforeMark holdPoint = "before the mark is saved"
	holdAfterMark  holdPoint = "after the mark is saved"
	holdAnswered   holdPoint = "answer read, not saved"
	holdSaved      holdPoint = "answer saved, still locked"
	holdUnlocked   holdPoint = "unlocked"
	holdBrowser    holdPoint = "in the browser"

	// tellSaving does not hold: it tells that the answer is about to be saved.
	tellSaving holdPoint = "saving"
)

// holdStore is a store whose caller can be made to stand still, until it is
// killed, at one point of its first refresh: that locks, saves a mark, asks the
// server, saves the answer and unlocks.
type holdStore struct {
	freshtoken.Store
	at   holdPoint
	tell func(string)

	mu    sync.Mutex // guards saves
	saves int
}

func (h *holdStore) reach(p holdPoint) {
	if h.at == p {
		h.tell(procHeld)
		select {}
	}
}

func (h *holdStore) Lock(ctx context.Context, key string) (func() error, error) {
	unlock, err := h.Store.Lock(ctx, key)
	if err != nil {
		return nil, err
	}
	h.reach(holdLocked)
	return func() error {
		err := unlock()
		h.reach(holdUnlocked)
		return err
	}, nil
}

func (h *holdStore) Save(ctx context.Context, key string, value []byte) error {
	h.mu.Lock()
	h.saves++
	saves := h.saves
	h.mu.Unlock()
	switch saves {
	case 1:
		h.reach(holdBeforeMark)
	case 2:
		h.reach(holdAnswered)
		if h.at == tellSaving {
			h.tell(procSaving)
		}
	}
	err := h.Store.Save(ctx, key, value)
	switch saves {
	case 1:
		h.reach(holdAfterMark)
	case 2:
		h.reach(holdSaved)
	}
	return err
}
