//go:build linux || darwin

package freshtoken_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/keyring"
	"golang.org/x/oauth2"
	"golang.org/x/sys/unix"
)

// The programs of TestTorture, which asks for tokens for as long as it lives,
// and tells of each step on its standard output before it takes the next. What
// it has told can be read after it was killed.

const (
	tortureMode   = "torture" // of procEnv
	programHeader = "Freshtoken-Program"
)

func init() { procModes[tortureMode] = tortureMain }

// tortureSetup is what such a program is told when it starts. It ends when its
// input does, or after Turns tokens, if that is not zero.
type tortureSetup struct {
	procSetup
	Program    string
	Seed       uint64
	Background bool
	Turns      int
	Narrow     int // of a hundred tokens, how many are for the scope read
}

// A step is something that a program tells.
type step string

const (
	stepReady    step = "ready"    // it has opened the session
	stepWants    step = "wants"    // it is about to ask for the session lock
	stepLocked   step = "locked"   // it has the lock
	stepLockless step = "lockless" // it has given up waiting for it
	stepPosts    step = "posts"    // it is about to send the refresh token
	stepAnswered step = "answered" // it has read the answer, or there is none
	stepSaved    step = "saved"    // a record is in the store
	stepUnsaved  step = "unsaved"  // a record could not be saved
	stepUnlocks  step = "unlocks"  // it is about to free the lock
	stepUnlocked step = "unlocked" // the lock is free
	stepFailed   step = "failed"   // somebody who asked for a token got an error
	stepServed   step = "served"   // somebody got a token, after errors
	stepClosed   step = "closed"   // it has closed the session
)

// trace is a step with what there is to know of it.
type trace struct {
	Step       step
	At         int64 // nanoseconds of a clock that all processes share and nobody sets
	Request    int   `json:",omitempty"` // which of its requests for a token
	ID         string
	Generation int    `json:",omitempty"`
	Kind       string `json:",omitempty"` // of an error
	Error      string `json:",omitempty"`

	Interrupted bool `json:",omitempty"` // what a RefreshError says
	Narrow      bool `json:",omitempty"` // what is asked for is a token for the scope read
}

// monotonic reads that clock.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

type tortureProgram struct {
	setup tortureSetup

	mu       sync.Mutex // guards what follows
	out      *json.Encoder
	id       string // of the session that was read last
	requests int
}

// say writes a trace at once, in one piece.
func (p *tortureProgram) say(t trace) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.At = monotonic()
	if t.ID == "" {
		t.ID = p.id
	}
	p.out.Encode(t)
}

func (p *tortureProgram) session() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.id
}

func tortureMain() {
	p := &tortureProgram{out: json.NewEncoder(os.Stdout)}
	if json.NewDecoder(os.Stdin).Decode(&p.setup) != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		io.Copy(io.Discard, os.Stdin)
	}()
	store, err := p.setup.Place.open()
	if err != nil {
		p.fail(err)
		return
	}
	cfg := freshtoken.Config{
		OAuth2:     &oauth2.Config{ClientID: "client", Endpoint: oauth2.Endpoint{TokenURL: p.setup.TokenURL}},
		Store:      &tracedStore{store, p},
		Lead:       p.setup.Lead,
		Background: p.setup.Background,
	}
	base, err := p.setup.present(&cfg)
	if err != nil {
		p.fail(err)
		return
	}
	cfg.HTTPClient = &http.Client{Transport: &tracedTransport{p, base}}
	src, err := freshtoken.New(cfg)
	if err != nil {
		p.fail(err)
		return
	}
	narrow, err := src.For(reading)
	if err != nil {
		p.fail(err)
		return
	}
	p.say(trace{Step: stepReady})
	p.live(ctx, p.user(src, base, "write"), p.user(narrow, base, "read"))
	err = src.Close()
	p.say(trace{Step: stepClosed, Kind: kindOf(err), Error: fmt.Sprint(err)})
}

// live asks for tokens, and uses some.
func (p *tortureProgram) live(ctx context.Context, own, narrow tortureUser) {
	rnd := rand.New(rand.NewPCG(p.setup.Seed, 0))
	failing := ""
	for turns := 0; ctx.Err() == nil && (p.setup.Turns == 0 || turns < p.setup.Turns); {
		of := own
		if rnd.IntN(100) < p.setup.Narrow {
			of = narrow
		}
		tok, err := of.src.Token(ctx)
		if kind := kindOf(err); kind != kindTemporary && kind != kindKeyring { // those pass
			turns++
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && failing != "":
			failing = ""
			p.say(trace{Step: stepServed})
		case err != nil && kindOf(err)+p.session() != failing: // not each time that it asks
			failing = kindOf(err) + p.session()
			p.fail(err)
		}
		if err == nil && rnd.IntN(8) == 0 {
			of.use(p)
		}
		if err == nil && (tok.Extra("scope") == "read") != (of == narrow) {
			p.fail(fmt.Errorf("the token is for %v", tok.Extra("scope")))
		}
		select {
		case <-time.After(20*time.Millisecond + rand.N(100*time.Millisecond)):
		case <-ctx.Done():
		}
	}
}

func (p *tortureProgram) fail(err error) {
	failed := new(freshtoken.RefreshError)
	interrupted := errors.As(err, &failed) && !failed.Interrupted.IsZero()
	p.say(trace{Step: stepFailed, Kind: kindOf(err), Error: err.Error(), Interrupted: interrupted})
}

// The kinds of errors that programs may meet.
const (
	kindEnded     = "ended"
	kindLocked    = "locked"    // another process holds the lock for a minute
	kindKeyring   = "keyring"   // the keyring did not answer in time
	kindTemporary = "temporary" // the server did not
	kindUnsaved   = "unsaved"   // from Close: the newest tokens are lost
	kindOther     = "other"
)

func kindOf(err error) string {
	failed := new(freshtoken.RefreshError)
	switch {
	case err == nil:
		return ""
	case errors.Is(err, freshtoken.ErrNotPersisted):
		return kindUnsaved
	case errors.Is(err, freshtoken.ErrSessionEnded):
		return kindEnded
	case errors.Is(err, freshtoken.ErrLocked):
		return kindLocked
	case errors.Is(err, freshtoken.ErrStore) && errors.Is(err, keyring.ErrTimeout):
		return kindKeyring
	case errors.As(err, &failed) && failed.Temporary:
		return kindTemporary
	}
	return kindOther
}

// tracedStore tells of the session lock, and of what is saved.
type tracedStore struct {
	freshtoken.Store
	p *tortureProgram
}

func (s *tracedStore) Lock(ctx context.Context, key string) (func() error, error) {
	s.p.say(trace{Step: stepWants})
	unlock, err := s.Store.Lock(ctx, key)
	if err != nil {
		s.p.say(trace{Step: stepLockless})
		return nil, err
	}
	s.p.say(trace{Step: stepLocked})
	return func() error {
		s.p.say(trace{Step: stepUnlocks})
		defer s.p.say(trace{Step: stepUnlocked})
		return unlock()
	}, nil
}

func (s *tracedStore) Load(ctx context.Context, key string) ([]byte, error) {
	data, err := s.Store.Load(ctx, key)
	var r procRecord
	if err == nil && json.Unmarshal(data, &r) == nil {
		s.p.mu.Lock()
		s.p.id = r.ID
		s.p.mu.Unlock()
	}
	return data, err
}

func (s *tracedStore) Save(ctx context.Context, key string, value []byte) error {
	var r procRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return err
	}
	err := s.Store.Save(ctx, key, value)
	t := trace{Step: stepSaved, ID: r.ID, Generation: r.Generation}
	if err != nil {
		t.Step, t.Error = stepUnsaved, err.Error()
	}
	s.p.say(t)
	return err
}

// tracedTransport tells of requests for a token, and gives each a name by which
// the server's log knows it.
type tracedTransport struct {
	p    *tortureProgram
	base http.RoundTripper
}

func (t *tracedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.p.mu.Lock()
	t.p.requests++
	n := t.p.requests
	t.p.mu.Unlock()
	req = req.Clone(req.Context())
	req.Header.Set(programHeader, requestName(t.p.setup.Program, n))
	narrow, err := asksForScope(req)
	if err != nil {
		return nil, err
	}
	t.p.say(trace{Step: stepPosts, Request: n, Narrow: narrow})
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		t.p.say(trace{Step: stepAnswered, Request: n, Error: err.Error()})
		return nil, err
	}
	resp.Body = &tracedBody{resp.Body, func() { t.p.say(trace{Step: stepAnswered, Request: n}) }}
	return resp, nil
}

func requestName(program string, n int) string { return fmt.Sprintf("%s.%d", program, n) }

// tracedBody tells when the client has done with it.
type tracedBody struct {
	io.ReadCloser
	tell func()
}

func (b *tracedBody) Close() error {
	b.tell()
	return b.ReadCloser.Close()
}
