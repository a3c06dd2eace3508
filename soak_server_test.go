package freshtoken_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/freshtoken/freshtoken/internal/mark"
	"golang.org/x/oauth2"
)

// soakServer is a token endpoint and an API that need no more memory after a
// month than on the first day: oauthtest keeps a log. It is as strict: each
// refresh token serves once, a spent one ends the session, and a refresh kills
// the access token before.
type soakServer struct {
	life time.Duration

	mu      sync.Mutex // guards what follows
	n       int        // generations
	expires time.Time
	down    bool
	dead    bool
	revoked bool
	stats   soakStats
}

type soakStats struct {
	Refreshes, Reuses, Refused, Down, Served, Unauthorized int
}

func (s *soakServer) access() string {
	return fmt.Sprintf("access-%d-%s", s.n, mark.Weave(mark.AccessToken, "soak"))
}
func (s *soakServer) refresh() string {
	return fmt.Sprintf("refresh-%d-%s", s.n, mark.Weave(mark.RefreshToken, "soak"))
}

func (s *soakServer) mint() *oauth2.Token {
	s.n++
	s.expires, s.revoked = time.Now().Add(s.life), false
	return &oauth2.Token{AccessToken: s.access(), RefreshToken: s.refresh(), ExpiresIn: int64(s.life / time.Second)}
}

func (s *soakServer) login() *oauth2.Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mint()
}

func (s *soakServer) set(edit func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	edit()
}

func (s *soakServer) seen() soakStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

func (s *soakServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.URL.Path == "/token" {
		s.token(w, r)
		return
	}
	if token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); s.dead || s.revoked || token != s.access() || !time.Now().Before(s.expires) {
		s.stats.Unauthorized++
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	s.stats.Served++
}

func (s *soakServer) token(w http.ResponseWriter, r *http.Request) {
	shown := r.PostFormValue("refresh_token")
	w.Header().Set("Content-Type", "application/json")
	switch {
	case s.down:
		s.stats.Down++
		w.WriteHeader(http.StatusServiceUnavailable)
	case s.dead || shown != s.refresh():
		if !s.dead && strings.HasPrefix(shown, "refresh-") {
			s.stats.Reuses++
		}
		s.dead = true
		s.stats.Refused++
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"invalid_grant"}`)
	default:
		tok := s.mint()
		s.stats.Refreshes++
		fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":%d,"refresh_token":%q}`, tok.AccessToken, tok.ExpiresIn, tok.RefreshToken)
	}
}

// RoundTrip answers without a socket.
func (s *soakServer) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if r.Body != nil {
		r.Body.Close()
	}
	resp := w.Result()
	resp.Request = r
	return resp, nil
}
