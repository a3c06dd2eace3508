package main

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
	"sync"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// A tally is what a program can say of its own requests and tokens.
type tally struct {
	Gets, Posts int // requests that were answered well

	Rejected int    // callers who saw a 401 all the same
	Damaged  int    // bodies that arrived changed
	Failed   int    // requests that failed in any other way
	Trouble  string // what the first of these was

	Refreshed, Adopted, Replayed int // by this program's Source
}

func (t tally) requests() int { return t.Gets + t.Posts }
func (t tally) lost() int     { return t.Rejected + t.Damaged + t.Failed }

// plus adds up two programs.
func (t tally) plus(o tally) tally {
	t.Gets, t.Posts = t.Gets+o.Gets, t.Posts+o.Posts
	t.Rejected, t.Damaged, t.Failed = t.Rejected+o.Rejected, t.Damaged+o.Damaged, t.Failed+o.Failed
	t.Refreshed, t.Adopted, t.Replayed = t.Refreshed+o.Refreshed, t.Adopted+o.Adopted, t.Replayed+o.Replayed
	if t.Trouble == "" {
		t.Trouble = o.Trouble
	}
	return t
}

// A worker makes requests with one Source, and counts.
type worker struct {
	o *options

	mu    sync.Mutex // guards tally
	tally tally
}

func (w *worker) counts() tally {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tally
}

func (w *worker) count(edit func(*tally)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	edit(&w.tally)
}

// event is the Source's OnEvent.
func (w *worker) event(e freshtoken.Event) {
	w.count(func(t *tally) {
		switch e.Kind {
		case freshtoken.EventRefreshed:
			t.Refreshed++
		case freshtoken.EventAdopted:
			t.Adopted++
		case freshtoken.EventReplayed:
			t.Replayed++
		}
	})
}

// pace says how many goroutines make requests, and how long each rests between
// two. Real servers are treated gently.
func (o *options) pace() (goroutines int, rest time.Duration) {
	switch {
	case !o.demo:
		return 2, time.Second
	case o.child == 0:
		return 24, 30 * time.Millisecond
	default:
		return 4, 40 * time.Millisecond
	}
}

// work is a program: it opens the session, makes requests until ctx is done,
// and closes the session. No request is cut short.
func (w *worker) work(ctx context.Context) error {
	src, err := w.o.open(w.event)
	if err != nil {
		return err
	}
	client := w.o.client(src)
	goroutines, rest := w.o.pace()
	var group sync.WaitGroup
	for g := range goroutines {
		group.Go(func() {
			for n := g; ctx.Err() == nil; n++ {
				w.request(client, n)
				select {
				case <-time.After(rest):
				case <-ctx.Done():
				}
			}
		})
	}
	group.Wait()
	client.CloseIdleConnections()
	return src.Close()
}

var errDamaged = errors.New("the body arrived changed")

// request makes one request and counts how it went. At the demonstration's own
// API every other one is a POST with a body; elsewhere that might do harm.
func (w *worker) request(client *http.Client, n int) {
	post := w.o.demo && n%2 == 1
	var status int
	var err error
	if post {
		status, err = w.post(client, n)
	} else {
		status, err = w.get(client)
	}
	w.count(func(t *tally) {
		var trouble string
		switch {
		case errors.Is(err, errDamaged):
			t.Damaged++
			trouble = err.Error()
		case err != nil:
			t.Failed++
			trouble = err.Error()
		case status == http.StatusUnauthorized:
			t.Rejected++
			trouble = "the API answered 401"
		case status < 200 || status > 299:
			t.Failed++
			trouble = fmt.Sprintf("the API answered %d", status)
		case post:
			t.Posts++
		default:
			t.Gets++
		}
		if t.Trouble == "" {
			t.Trouble = trouble
		}
	})
}

func (w *worker) get(client *http.Client) (status int, err error) {
	resp, err := client.Get(w.o.api)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// post sends a body of some kilobytes, and compares what the API has read.
func (w *worker) post(client *http.Client, n int) (status int, err error) {
	body := bytes.Repeat(fmt.Appendf(nil, "line %d of request %d\n", n%7, n), 1+n%400)
	sum := sha256.Sum256(body)
	digest := hex.EncodeToString(sum[:])
	req, err := http.NewRequest(http.MethodPost, w.o.api, bytes.NewReader(body)) // can be sent again: GetBody is set
	if err != nil {
		return 0, err
	}
	req.Header.Set(oauthtest.ChecksumHeader, digest)
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var answer struct{ SHA256 string }
	if resp.StatusCode != http.StatusOK {
		_, err = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, err
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return 0, fmt.Errorf("reading the API's answer: %w", err)
	}
	if answer.SHA256 != digest {
		return resp.StatusCode, errDamaged
	}
	return resp.StatusCode, nil
}
