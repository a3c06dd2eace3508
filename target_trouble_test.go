package freshtoken_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// ruled is a server that answers token requests by a rule; nil: as it does otherwise.
type ruled struct {
	base http.RoundTripper
	rule func(ofTarget bool) *http.Response
}

func (s *ruled) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		return s.base.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body.Close()
	if resp := s.rule(bytes.Contains(body, []byte("resource="))); resp != nil {
		resp.Request = r
		return resp, nil
	}
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	return s.base.RoundTrip(r)
}

// by has a Source ask a server that follows a rule.
func (w *world) by(rule func(ofTarget bool) *http.Response) func(*freshtoken.Config) {
	return func(c *freshtoken.Config) { c.HTTPClient = &http.Client{Transport: &ruled{w.as.Transport(), rule}} }
}

// refusalOf is an answer of this status; retryAfter may be empty.
func refusalOf(status int, body, retryAfter string) *http.Response {
	h := http.Header{"Content-Type": {"application/json"}}
	if retryAfter != "" {
		h.Set("Retry-After", retryAfter)
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

var files = freshtoken.Target{Resources: []string{"https://files.test"}}

// That the server cannot serve one target, however often somebody asks for that,
// takes the session's own token from nobody, and does not end the session for being
// idle; and the server is left alone as much as it asks for.
func TestTroubleWithOneTarget(t *testing.T) {
	for _, c := range []struct {
		name       string
		background bool
		target     time.Duration // somebody asks for its token this often
		own        time.Duration // and for the session's own
		status     int
		retryAfter string
	}{
		{"answers are lost, both are busy", false, 100 * time.Millisecond, 100 * time.Millisecond, 500, ""},
		{"in the background", true, 100 * time.Millisecond, 100 * time.Millisecond, 500, ""},
		{"the own once a second", false, 100 * time.Millisecond, time.Second, 500, ""},
		{"the own once a minute", false, 100 * time.Millisecond, time.Minute, 500, ""},
		{"the target once in five seconds", false, 5 * time.Second, time.Second, 502, ""},
		{"unavailable", false, 100 * time.Millisecond, time.Second, 503, ""},
		{"unavailable for twenty seconds each time", false, 100 * time.Millisecond, time.Second, 503, "20"},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{AccessLifetime: 5 * time.Minute, RefreshLifetime: 30 * time.Minute})
			var sick atomic.Int64 // requests
			src := w.source(w.by(func(ofTarget bool) *http.Response {
				if !ofTarget {
					return nil
				}
				sick.Add(1)
				return refusalOf(c.status, "", c.retryAfter)
			}), func(cfg *freshtoken.Config) { cfg.Background = c.background })
			w.login(src)
			d := w.target(src, files)
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			var others sync.WaitGroup
			defer others.Wait()
			others.Go(func() {
				for ctx.Err() == nil {
					if _, err := d.Token(ctx); err == nil || errors.Is(err, freshtoken.ErrSessionEnded) {
						t.Errorf("the target's token: %v", err)
					}
					time.Sleep(c.target)
				}
			})
			time.Sleep(37 * time.Millisecond) // or all would ask in the same moment
			for ctx.Err() == nil {
				if _, err := src.Token(ctx); err != nil && ctx.Err() == nil {
					t.Errorf("the session's own token: %v", err)
				}
				time.Sleep(c.own)
			}
			if own, n := w.posts(), sick.Load(); own < 10 || own > 25 || n < 10 || n > 200 {
				t.Errorf("%d refreshes of the session's own, and %d for the target", own, n)
			}
		})
	}
}

// use has tokens for n targets.
func (w *world) use(src *freshtoken.Source, n int) {
	w.t.Helper()
	for i := range n {
		w.usable(w.target(src, freshtoken.Target{Resources: []string{fmt.Sprintf("https://api%d.test", i)}}))
	}
}

// More targets than the store keeps are used all the same; the session ends, and is
// imported again, as any other.
func TestMoreTargetsThanAreStored(t *testing.T) {
	for _, n := range []int{32, 33, 50} {
		inBubble(t, fmt.Sprintf("%d and the end of the session", n), func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{AccessLifetime: time.Hour})
			src := w.source()
			login := w.login(src)
			time.Sleep(50 * time.Minute)
			w.use(src, n)
			time.Sleep(11 * time.Minute)
			w.as.RevokeFamily(login.RefreshToken)
			before := w.posts()
			for range 100 {
				_, err := src.Token(t.Context())
				wantErr(t, err, freshtoken.ErrSessionEnded)
			}
			w.wantPosts(before + 1)
		})
		inBubble(t, fmt.Sprintf("%d and a file that is imported again", n), func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{AccessLifetime: time.Hour})
			src := w.source()
			path := filepath.Join(t.TempDir(), "token.json")
			data, err := json.Marshal(&oauth2.Token{RefreshToken: w.as.Login("alice").RefreshToken})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := src.Import(t.Context(), path); err != nil {
					t.Error(err)
				}
				w.use(src, n)
			}
		})
	}
}

// tight is a store with so much room and no more; zero: any.
type tight struct {
	freshtoken.Store
	room atomic.Int64
}

func (s *tight) Save(ctx context.Context, key string, value []byte) error {
	if room := s.room.Load(); room > 0 && int64(len(value)) > room {
		return errors.New("no space left on device")
	}
	return s.Store.Save(ctx, key, value)
}

// However full the disk is, a refresh for a target fails before it spends anything,
// or its answer has room: though the session's own token may be short, and that of
// the target long.
func TestTargetOnAFullDisk(t *testing.T) {
	for room := int64(1000); room < 8000; room += 250 {
		inBubble(t, fmt.Sprintf("%d bytes", room), func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{})
			disk := &tight{Store: w.store}
			w.store = disk
			src := w.scoped()
			w.token(src)
			w.as.Token.Always(oauthtest.SetMember("access_token", `"`+strings.Repeat("eyJh", 500)+`"`))
			disk.room.Store(room)
			w.target(src, reading).Token(t.Context())
			if err := src.Close(); err != nil {
				t.Errorf("%d requests, and Close: %v", w.posts(), err)
			}
			disk.room.Store(0)
			w.as.Token.Always(oauthtest.Fault{})
			time.Sleep(2 * time.Hour)
			w.usable(w.source())
		})
	}
}

// Close waits for the refresh that is under way, and nothing begins another one.
func TestCloseDuringARefreshForATarget(t *testing.T) {
	inBubble(t, "which the server refuses", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.scoped()
		w.token(src)
		d := w.target(src, reading)
		refusal := oauthtest.InvalidGrant()
		refusal.Delay = 29 * time.Second
		w.as.Token.Next(refusal)
		told := make(chan error, 1)
		go func() { _, err := d.Token(t.Context()); told <- err }()
		time.Sleep(time.Second)
		if err := src.Close(); err != nil {
			t.Error(err)
		}
		wantErr(t, <-told, freshtoken.ErrClosed) // nobody knows what the refusal means
		w.wantPosts(1)
		w.usable(w.source())
	})
}
