//go:build unix

package storage_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/figures"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
)

// A journey is a piece of a session's life on a disk that fails.
type journey struct {
	name string
	// do asks for something; it is asked again, later, as long as it fails.
	do func(t *testing.T, w *diskWorld) error
	// spends is how many refresh tokens it takes when nothing fails.
	spends int
	over   bool // whether nobody is logged in afterwards

	narrow bool // it is about the token of a Target; that of the session has no part in it
	beside bool // there is one of a Target, which has no part in it
}

var journeys = []journey{
	{name: "refresh", spends: 1, do: func(t *testing.T, w *diskWorld) error { return w.token(t, w.src) }},
	{name: "start", spends: 1, do: func(t *testing.T, w *diskWorld) error {
		if w.again == nil {
			w.src.Close()
			w.again = w.open(t, w.l)
			w.src = w.again
		}
		return w.token(t, w.src)
	}},
	{name: "login", do: func(t *testing.T, w *diskWorld) error {
		err := w.src.SetToken(t.Context(), w.as.Login("alice"))
		if errors.Is(err, freshtoken.ErrNotPersisted) {
			err = nil // the program is to go on
		}
		return err
	}},
	{name: "token for a Target", spends: 1, narrow: true, do: func(t *testing.T, w *diskWorld) error { return w.narrowToken(t, w.src) }},
	{name: "refresh beside a token for a Target", spends: 1, beside: true, do: func(t *testing.T, w *diskWorld) error { return w.token(t, w.src) }},
	{name: "logout", over: true, do: func(t *testing.T, w *diskWorld) error { return w.src.Logout(t.Context()) }},
}

// diskWorld is a server, and a program whose session lies on a disk.
type diskWorld struct {
	place
	as         *oauthtest.Server
	l          *layer
	src, again *freshtoken.Source
}

func (w *diskWorld) open(t *testing.T, sys storage.System) *freshtoken.Source {
	t.Helper()
	s, err := w.openOn(sys)
	for range 20 {
		if err == nil {
			break
		}
		time.Sleep(time.Minute)
		s, err = w.openOn(sys)
	}
	if err != nil {
		t.Fatal(err)
	}
	src, err := freshtoken.New(freshtoken.Config{OAuth2: w.as.OAuth2(), Store: s, HTTPClient: w.as.Client()})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// narrowToken is token for a Target of src's session.
func (w *diskWorld) narrowToken(t *testing.T, src *freshtoken.Source) error {
	t.Helper()
	narrow, err := src.For(reading)
	if err != nil {
		t.Fatal(err)
	}
	return w.token(t, narrow)
}

var reading = freshtoken.Target{Scopes: []string{"read"}}

// diskRecord is what the tests know of a stored session.
type diskRecord struct {
	Generation   int    `json:"generation"`
	RefreshToken string `json:"refresh_token"`
	AccessToken  string `json:"access_token"`
	Derived      map[string]struct {
		AccessToken string `json:"access_token"`
	} `json:"derived"`
}

// stored reads the only session. It must be there, and whole.
func (w *diskWorld) stored(t *testing.T) (r diskRecord) {
	t.Helper()
	s := w.mustOpen(t)
	names, err := s.List(t.Context())
	if err != nil || len(names) != 1 {
		t.Fatalf("the sessions are %v (%v)", names, err)
	}
	value, err := s.Load(t.Context(), names[0])
	if err != nil {
		t.Fatalf("the stored session cannot be read: %v", err)
	}
	if err := json.Unmarshal(value, &r); err != nil {
		t.Fatalf("the stored session is no JSON: %v", err)
	}
	return r
}

// checkTargets compares what is stored with what was stored before a journey: all
// of the answer is there, or nothing.
func (j journey) checkTargets(t *testing.T, w *diskWorld, was diskRecord) {
	t.Helper()
	now := w.stored(t)
	saved := now.Generation > was.Generation
	if now.Generation > was.Generation+1 || saved != (now.RefreshToken != was.RefreshToken) || saved && !w.as.Alive(now.RefreshToken) {
		t.Errorf("generation %d was stored, now it is %d, alive: %v", was.Generation, now.Generation, w.as.Alive(now.RefreshToken))
	}
	narrow, ok := now.Derived[reading.String()]
	switch {
	case j.narrow && now.AccessToken != was.AccessToken, j.beside && saved != (now.AccessToken != was.AccessToken):
		t.Errorf("generation %d: the session's own access token is the wrong one", now.Generation)
	case j.narrow && ok != saved, j.beside && narrow != was.Derived[reading.String()]:
		t.Errorf("generation %d: the token for a Target is the wrong one, or is there when it should not be, or not: %v", now.Generation, ok)
	case ok && !w.as.AccessAlive(narrow.AccessToken):
		t.Errorf("generation %d: the token for a Target is dead", now.Generation)
	}
}

// record returns what is stored for the only session.
func (w *diskWorld) record(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(w.sessions(), "*.session"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the sessions are %v (%v)", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (w *diskWorld) token(t *testing.T, src *freshtoken.Source) error {
	t.Helper()
	tok, err := src.Token(t.Context())
	if err == nil && !w.as.AccessAlive(tok.AccessToken) {
		t.Error("a dead token was handed out")
	}
	return err
}

// begin logs in, and waits until it is time for the journey. It returns what asks
// for the token that it is about.
func (j journey) begin(t *testing.T, w *diskWorld) (token func(*testing.T, *freshtoken.Source) error) {
	t.Helper()
	w.src = w.open(t, w.l)
	if err := w.src.SetToken(t.Context(), w.as.Login("alice", "read", "write")); err != nil {
		t.Fatal(err)
	}
	token, rest := w.token, 2*time.Hour
	switch {
	case j.narrow:
		token = w.narrowToken
	case j.beside: // the session's own access token ends in between
		time.Sleep(40 * time.Minute)
		if err := w.narrowToken(t, w.src); err != nil {
			t.Fatal(err)
		}
		rest = 25 * time.Minute
	}
	time.Sleep(rest)
	return token
}

// travel does a journey with a fault, and then goes on with another program.
// It returns how many calls of the disk there were.
func travel(t *testing.T, j journey, fail func(from int) func(call) *fault) (calls int) {
	t.Helper()
	w := &diskWorld{place: scratch(t), as: oauthtest.New(oauthtest.Options{}), l: newLayer()}
	token := j.begin(t, w)
	was, spent := w.stored(t), w.as.Stats().Refreshes
	sibling := w.open(t, hasty{storage.Host}) // whose calls do not fail
	defer sibling.Close()
	record := w.record(t)
	from := w.l.count()
	w.l.setFail(fail(from))
	err := j.do(t, w)
	calls = w.l.count() - from
	if w.as.Stats().Refreshes > spent && w.record(t) == record {
		t.Error("a refresh token was sent that the record on the disk does not tell of")
	}
	if j.narrow || j.beside {
		j.checkTargets(t, w, was)
	}
	if j.spends > 0 {
		if err := token(t, sibling); err != nil && !errors.Is(err, freshtoken.ErrLocked) {
			t.Errorf("another program: %v", err)
		}
	}
	for range 30 {
		if err == nil {
			break
		}
		if !errors.Is(err, freshtoken.ErrStore) || errors.Is(err, freshtoken.ErrNoSession) || errors.Is(err, freshtoken.ErrSessionEnded) {
			t.Errorf("the error is not that of the store: %v", err)
		}
		time.Sleep(time.Minute)
		err = j.do(t, w)
	}
	if err != nil {
		t.Errorf("half an hour later: %v", err)
	}
	time.Sleep(10 * time.Minute) // what could not be saved is
	if err := w.src.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if got := w.as.Stats().Refreshes - spent; got != j.spends {
		t.Errorf("%d refresh tokens were spent, want %d", got, j.spends)
	}
	w.l.setFail(nil)
	time.Sleep(2 * time.Hour)
	next := w.open(t, hasty{storage.Host})
	defer next.Close()
	if err := token(t, next); j.over != errors.Is(err, freshtoken.ErrNoSession) || !j.over && err != nil {
		t.Errorf("the next program: %v", err)
	}
	if s := w.as.Stats(); s.Reuses != 0 || s.FamilyKills != 0 || s.InvalidGrants != 0 {
		t.Errorf("a spent refresh token was sent: %+v", s)
	}
	return calls
}

// Each system call of a refresh, a start, a login and a logout fails once, or
// from there on for five minutes. The session goes on, another program that
// shares it does no harm, nothing is spent twice, and the next program has it.
func TestSessionOnAFailingDisk(t *testing.T) {
	needFiles(t)
	total, runs, targets := 0, 0, 0
	for _, j := range journeys {
		t.Run("MGR-persist: "+j.name, func(t *testing.T) {
			calls := 0
			synctest.Test(t, func(t *testing.T) {
				calls = travel(t, j, func(int) func(call) *fault { return nil })
			})
			total += calls
			for k := 1; k <= calls && !t.Failed(); k++ {
				for name, fail := range map[string]func(from int) func(call) *fault{
					"fails": func(from int) func(call) *fault {
						return onlyAt(from+k, fault{syscall.EIO, before})
					},
					"fails and does it": func(from int) func(call) *fault {
						return onlyAt(from+k, fault{syscall.EIO, after})
					},
					"and all that follow fail for a while": func(from int) func(call) *fault {
						start := time.Now()
						return func(c call) *fault {
							if c.n < from+k || time.Since(start) > 5*time.Minute {
								return nil
							}
							return &fault{syscall.EROFS, before}
						}
					},
				} {
					runs++
					if j.narrow || j.beside {
						targets++
					}
					synctest.Test(t, func(t *testing.T) { travel(t, j, fail) })
					if t.Failed() {
						t.Fatalf("call %d of %d %s", k, calls, name)
					}
				}
			}
		})
	}
	figures.Record(t, "disks.session.calls", fmt.Sprint(total))
	figures.Record(t, "disks.session.faults", fmt.Sprint(runs))
	figures.Record(t, "disks.session.targets", fmt.Sprint(targets))
}

func onlyAt(n int, f fault) func(call) *fault {
	return func(c call) *fault {
		if c.n != n {
			return nil
		}
		return &f
	}
}
