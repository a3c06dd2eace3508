package interop_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

func TestSignIn(t *testing.T) {
	s := startServer(t)
	for _, c := range []client{public, basic, post} {
		t.Run(c.Method, func(t *testing.T) {
			s := s.in(t)
			src := s.source(s.config(c, storage.NewMemory()))
			s.signIn(src, s.mint(c))
			if err := call(t.Context(), src.Client(s.issuer), s.api()); err != nil {
				t.Error(err)
			}
			if _, err := src.Refresh(t.Context(), nil); err != nil {
				t.Errorf("Refresh with the rotated token: %v", err)
			}
		})
	}
	if c := s.wantWhole(); c.Refreshes != 6 || c.TokenRequests != 6 {
		t.Errorf("%d refreshes by %d requests, want 6 by 6", c.Refreshes, c.TokenRequests)
	}
}

// The server would not notice a client that forgets to encode, if the
// characters of id and secret were ordinary ones.
func TestBasicMustBeEncoded(t *testing.T) {
	s := startServer(t)
	cfg := s.config(basic, storage.NewMemory())
	cfg.PlainBasicAuth = true
	src := s.source(cfg)
	s.signIn(src, s.mint(basic))
	wantCode(t, tokenError(t, src), "invalid_request")
}

// The proof that this server is strict: without it, the other tests prove
// little.
func TestReuseKillsTheFamily(t *testing.T) {
	s := startServer(t)
	f := s.mint(public)
	src := s.source(s.config(public, storage.NewMemory()))
	s.signIn(src, f)
	tok := s.token(src)
	if !s.accepts(tok.AccessToken) {
		t.Fatal("the API refuses a new access token")
	}
	if _, code := s.grant(public, f.RefreshToken); code != "invalid_grant" {
		t.Errorf("a spent refresh token: got code %q, want invalid_grant", code)
	}
	if s.accepts(tok.AccessToken) {
		t.Error("the access token outlived its family")
	}
	_, err := src.Refresh(t.Context(), tok)
	wantEnded(t, err)
	if c := s.counts(); c.Reuses != 1 || c.FamiliesKilled != 1 {
		t.Errorf("%d reuses and %d families killed, want 1 and 1", c.Reuses, c.FamiliesKilled)
	}
}

// rotations is how many refreshes the tests over time wait for: with tokens of
// three seconds, some 15 seconds.
const rotations = 7

// rotated returns when the server has refreshed often enough, or calls stop.
func (s *server) rotated(ctx context.Context, want int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		n := s.counts().Refreshes
		if n >= want {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.t.Errorf("%d refreshes after %v, want %d", n, patience, want)
			return
		}
	}
}

// hammer has goroutines call the API, a client each, until stop is called. stop
// returns the number of calls; each that failed is an error of the test.
func (s *server) hammer(clients []*http.Client) (stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex // guards calls
	calls := 0
	var wg sync.WaitGroup
	for _, client := range clients {
		wg.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				// A call that has begun is let finish.
				if err := call(context.Background(), client, s.api()); err != nil {
					s.t.Error(err)
					return
				}
				mu.Lock()
				calls++
				mu.Unlock()
				<-tick.C
			}
		})
	}
	return func() int {
		cancel()
		wg.Wait()
		return calls
	}
}

func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	src := s.source(s.config(public, storage.NewMemory()))
	s.signIn(src, s.mint(public))
	client := src.Client(s.issuer)
	clients := make([]*http.Client, 20)
	for i := range clients {
		clients[i] = client
	}
	stop := s.hammer(clients)
	s.rotated(t.Context(), rotations)
	calls := stop()
	c := s.wantWhole()
	if got := int(src.Status().Generation); got != c.Refreshes+1 {
		t.Errorf("the session is at generation %d after %d refreshes", got, c.Refreshes)
	}
	t.Logf("%d calls, %d refreshes, %d answers of 401", calls, c.Refreshes, c.APIRejected)
}

func TestEightSourcesOneSession(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, st := range sharedStores {
		t.Run(st.name, func(t *testing.T) {
			s, dir := s.in(t), st.dir(t)
			before := s.counts().Refreshes
			f := s.mint(basic)
			clients := make([]*http.Client, 8)
			for i := range clients {
				src := s.source(s.config(basic, st.open(t, dir)))
				s.signIn(src, f) // as if each found the login's token at its start
				clients[i] = src.Client(s.issuer)
			}
			stop := s.hammer(clients)
			s.rotated(t.Context(), before+rotations)
			calls := stop()
			c := s.wantWhole()
			s.wantStored(s.config(basic, st.open(t, dir)), c.Refreshes-before)
			t.Logf("%d calls, %d refreshes, %d answers of 401", calls, c.Refreshes-before, c.APIRejected)
		})
	}
}

// wantStored fails the test unless every one of so many refreshes has left its
// tokens in the store, and the newest of them live.
func (s *server) wantStored(cfg freshtoken.Config, refreshes int) {
	s.t.Helper()
	src := s.source(cfg)
	if _, err := src.Refresh(s.t.Context(), nil); err != nil {
		s.t.Errorf("the stored session is dead: %v", err)
		return
	}
	if got, want := int(src.Status().Generation), refreshes+2; got != want {
		s.t.Errorf("the stored session came to generation %d with one more refresh, want %d", got, want)
	}
	s.wantWhole()
}

func TestRejectedAccessTokenIsReplacedOnce(t *testing.T) {
	s := startServer(t, func(o *serverOptions) { o.AccessLifetime = 3600 })
	src := s.source(s.config(public, storage.NewMemory()))
	s.signIn(src, s.mint(public))
	client := src.Client(s.issuer)
	tok := s.token(src)
	s.reject(tok)
	if s.accepts(tok.AccessToken) {
		t.Fatal("the API still takes the token")
	}
	before := s.counts()
	if err := call(t.Context(), client, s.api()); err != nil {
		t.Error(err)
	}
	c := s.wantWhole()
	if c.Refreshes != before.Refreshes+1 || c.API != before.API+2 || c.APIRejected != before.APIRejected+1 {
		t.Errorf("before %+v, after %+v; want one refresh, one rejection and one replay", before, c)
	}

	// Forty requests that are rejected together cost one refresh, too.
	s.reject(s.token(src))
	before = s.counts()
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			if err := call(t.Context(), client, s.api()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if c := s.wantWhole(); c.Refreshes != before.Refreshes+1 {
		t.Errorf("%d refreshes for requests that were rejected together, want 1", c.Refreshes-before.Refreshes)
	}
}

func TestLogout(t *testing.T) {
	for _, c := range []client{public, basic, post} {
		t.Run(c.Method, func(t *testing.T) {
			s := startServer(t)
			store := storage.NewMemory()
			cfg := s.config(c, store)
			tap := &tap{}
			cfg.HTTPClient = &http.Client{Transport: tap}
			src, other := s.source(cfg), s.source(s.config(c, store))
			s.signIn(src, s.mint(c))
			tok := s.token(src)
			s.token(other)
			if err := src.Logout(t.Context()); err != nil {
				t.Fatalf("Logout: %v", err)
			}
			if s.accepts(tok.AccessToken) {
				t.Error("the API still takes the access token")
			}
			if _, code := s.grant(c, tap.refreshToken()); code != "invalid_grant" {
				t.Errorf("the refresh token after Logout: got code %q, want invalid_grant", code)
			}
			if n := s.counts(); n.Revocations != 1 || n.FamiliesKilled != 1 || n.InvalidClients != 0 || n.Reuses != 0 {
				t.Errorf("got %+v, want one revocation that killed the family", n)
			}
			before := s.counts().TokenRequests
			if _, err := other.Refresh(t.Context(), tok); !errors.Is(err, freshtoken.ErrNoSession) {
				t.Errorf("the other Source: got error %v, want ErrNoSession", err)
			}
			if n := s.counts().TokenRequests; n != before {
				t.Error("the other Source asked the server, although the store says that the session is over")
			}
			s.signIn(other, s.mint(c)) // a new login helps
			s.token(s.source(cfg))
		})
	}
}

func TestEndedSession(t *testing.T) {
	s := startServer(t)
	for _, how := range []string{"withdrawn", "expired"} {
		t.Run(how, func(t *testing.T) {
			s := s.in(t)
			if how == "expired" {
				// The server keeps whole seconds: the first may be over at once.
				s = startServer(t, func(o *serverOptions) { o.AccessLifetime, o.RefreshLifetime = 5, 5 })
			}
			src := s.source(s.config(basic, storage.NewMemory()))
			f := s.mint(basic)
			s.signIn(src, f)
			tok := s.token(src)
			if how == "expired" {
				s.expired(tok)
			} else {
				s.end(f)
			}
			_, err := src.Refresh(t.Context(), tok)
			wantEnded(t, err)
			if st := src.Status().State; st != freshtoken.StateEnded {
				t.Errorf("the state is %q, want %q", st, freshtoken.StateEnded)
			}
			n := s.counts().TokenRequests
			wantEnded(t, tokenError(t, src))
			if got := s.counts().TokenRequests; got != n {
				t.Error("an ended session was sent to the server again")
			}
			s.signIn(src, s.mint(basic))
			s.token(src)
		})
	}
}

// expired returns when a server whose tokens have the same lifetime has let both
// expire.
func (s *server) expired(tok *oauth2.Token) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for s.accepts(tok.AccessToken) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.t.Fatal("the access token does not expire")
		}
	}
}

func TestWrongClientSecretKeepsTheTokens(t *testing.T) {
	for _, c := range []client{basic, post} {
		t.Run(c.Method, func(t *testing.T) {
			s := startServer(t)
			store := storage.NewMemory()
			right := s.config(c, store)
			src := s.source(right)
			s.signIn(src, s.mint(c))
			tok := s.token(src)

			wrong := s.config(c, store)
			wrong.OAuth2.ClientSecret = "what it was before it was changed"
			mistaken := s.source(wrong)
			_, err := mistaken.Refresh(t.Context(), tok)
			wantCode(t, err, "invalid_client")
			if errors.Is(err, freshtoken.ErrSessionEnded) || errors.Is(err, freshtoken.ErrNoSession) {
				t.Errorf("a mistake in the configuration counts as the end of the session: %v", err)
			}
			if strings.Contains(err.Error(), wrong.OAuth2.ClientSecret) {
				t.Errorf("the error shows the secret: %v", err)
			}
			if n := s.counts().InvalidClients; n != 1 {
				t.Errorf("%d requests with the wrong secret, want 1", n)
			}
			if _, err := s.source(right).Refresh(t.Context(), tok); err != nil {
				t.Errorf("with the right secret: %v", err)
			}
			if n := s.counts(); n.InvalidGrants != 0 || n.Refreshes != 2 {
				t.Errorf("got %+v, want two refreshes and no invalid_grant", n)
			}
		})
	}
}

// tokenError is the error of Token where there must be one.
func tokenError(t *testing.T, src *freshtoken.Source) error {
	t.Helper()
	_, err := src.Token(t.Context())
	if err == nil {
		t.Fatal("Token succeeded")
	}
	return err
}

// wantCode fails the test unless the error carries the server's code, both for
// those who know this library and for those who know x/oauth2.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var ours *freshtoken.RefreshError
	if !errors.As(err, &ours) || ours.Code != code {
		t.Errorf("got error %v, want a *RefreshError with code %s", err, code)
	}
	var theirs *oauth2.RetrieveError
	if !errors.As(err, &theirs) || theirs.ErrorCode != code {
		t.Errorf("got error %v, want an *oauth2.RetrieveError with code %s", err, code)
	}
}

func wantEnded(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, freshtoken.ErrSessionEnded) {
		t.Errorf("got error %v, want ErrSessionEnded", err)
	}
	wantCode(t, err, "invalid_grant")
}

// A tap remembers the refresh token that was last issued.
type tap struct {
	mu   sync.Mutex // guards last
	last string
}

func (p *tap) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if _, rest, ok := strings.Cut(string(data), `"refresh_token":"`); ok {
		p.mu.Lock()
		p.last, _, _ = strings.Cut(rest, `"`)
		p.mu.Unlock()
	}
	resp.Body = io.NopCloser(strings.NewReader(string(data)))
	return resp, nil
}

func (p *tap) refreshToken() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}
