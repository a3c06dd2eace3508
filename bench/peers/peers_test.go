package peers_test

import (
	"context"
	"net/http"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken/bench/peers"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// Every peer works with the strict server, which is in memory, on the clock of
// a bubble.

// lifetime is that of an access token, and lead how long before its end a
// library may refresh. azcore's pause of 30 seconds lies between.
const (
	lifetime = 10 * time.Minute
	lead     = time.Minute
)

// open starts a session of a peer with a login that is new.
func open(t *testing.T, p peers.Peer, dir string) (*peers.Session, *oauthtest.Server) {
	t.Helper()
	srv := oauthtest.New(oauthtest.Options{AccessLifetime: lifetime})
	s, err := p.Open(peers.Setup{OAuth2: srv.OAuth2(), HTTP: srv.Client(), Base: srv.Transport(),
		Origin: srv.BaseURL(), Token: srv.Login("alice"), Lead: lead, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s, srv
}

func end(t *testing.T, s *peers.Session) {
	t.Helper()
	if s.Close == nil {
		return
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// get sends one request by a session.
func get(t *testing.T, s *peers.Session, srv *oauthtest.Server) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, srv.APIURL("hello"), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.RoundTripper(srv.Transport()).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the API answers %s", resp.Status)
	}
}

func TestEveryPeerSendsTheTokenOfTheLoginAndRefreshesItOnce(t *testing.T) {
	for _, p := range peers.All() {
		t.Run(p.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, srv := open(t, p, t.TempDir())
				defer end(t, s)
				get(t, s, srv)
				if n := srv.Stats().TokenRequests; n != 0 {
					t.Errorf("%d requests to the token endpoint while the login's token is new", n)
				}
				time.Sleep(lifetime + time.Second)
				get(t, s, srv)
				get(t, s, srv)
				st := srv.Stats()
				if st.Refreshes != 1 || st.TokenRequests != 1 || st.Reuses != 0 {
					t.Errorf("%d refreshes by %d requests, %d reuses; want one refresh", st.Refreshes, st.TokenRequests, st.Reuses)
				}
			})
		})
	}
}

func TestEveryPeerGoesOnWithTheNextRefreshToken(t *testing.T) {
	for _, p := range peers.All() {
		t.Run(p.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, srv := open(t, p, t.TempDir())
				defer end(t, s)
				for range 3 {
					time.Sleep(lifetime + time.Second)
					get(t, s, srv)
				}
				st := srv.Stats()
				if st.Refreshes < 2 || st.Reuses != 0 || st.InvalidGrants != 0 {
					t.Errorf("%d refreshes, %d reuses, %d times invalid_grant; want three refreshes", st.Refreshes, st.Reuses, st.InvalidGrants)
				}
			})
		})
	}
}

func TestEveryTokenFunctionYieldsALiveToken(t *testing.T) {
	for _, p := range peers.All() {
		t.Run(p.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, srv := open(t, p, t.TempDir())
				defer end(t, s)
				if s.Token == nil {
					if s.Transport == nil {
						t.Fatal("neither Token nor Transport")
					}
					t.Skip("the library has no token function beside its transport")
				}
				for range 2 {
					tok, err := s.Token(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if !srv.AccessAlive(tok) {
						t.Error("the token is dead")
					}
					time.Sleep(lifetime + time.Second)
				}
			})
		})
	}
}

func TestAPeerThatStoresFindsTheSessionAgain(t *testing.T) {
	stores := slices.DeleteFunc(peers.All(), func(p peers.Peer) bool { return !p.Stores })
	for _, p := range stores {
		t.Run(p.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				s, srv := open(t, p, dir)
				time.Sleep(lifetime + time.Second)
				get(t, s, srv) // what is stored is now the second refresh token
				end(t, s)
				time.Sleep(lifetime + time.Second)
				again, err := p.Open(peers.Setup{OAuth2: srv.OAuth2(), HTTP: srv.Client(), Base: srv.Transport(),
					Origin: srv.BaseURL(), Lead: lead, Dir: dir})
				if err != nil {
					t.Fatal(err)
				}
				defer end(t, again)
				get(t, again, srv)
				if st := srv.Stats(); st.Refreshes != 2 || st.Reuses != 0 {
					t.Errorf("%d refreshes, %d reuses; want two refreshes", st.Refreshes, st.Reuses)
				}
			})
		})
	}
}

func TestALoginWhoseTokenHasExpiredIsRefreshedBeforeItsFirstUse(t *testing.T) {
	for _, p := range peers.All() {
		t.Run(p.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := oauthtest.New(oauthtest.Options{AccessLifetime: lifetime})
				tok := srv.Login("alice")
				time.Sleep(lifetime + time.Second)
				s, err := p.Open(peers.Setup{OAuth2: srv.OAuth2(), HTTP: srv.Client(), Base: srv.Transport(),
					Origin: srv.BaseURL(), Token: tok, Lead: lead, Dir: t.TempDir()})
				if err != nil {
					t.Fatal(err)
				}
				defer end(t, s)
				get(t, s, srv)
				if st := srv.Stats(); st.Refreshes != 1 || st.APIUnauthorized != 0 {
					t.Errorf("%d refreshes, %d times 401; want one refresh", st.Refreshes, st.APIUnauthorized)
				}
			})
		})
	}
}

func TestCloseLeavesNoDirectoryBehind(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	for _, p := range peers.All() {
		t.Run(p.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, srv := open(t, p, "")
				get(t, s, srv)
				end(t, s)
			})
			left, err := os.ReadDir(temp)
			if err != nil {
				t.Fatal(err)
			}
			if len(left) != 0 {
				t.Errorf("%d files are left", len(left))
			}
		})
	}
}

func TestAPeerWithoutAStoreAsksForALogin(t *testing.T) {
	for _, p := range peers.All() {
		if p.Module == peers.Freshtoken.Module { // logs in later
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{})
			s, err := p.Open(peers.Setup{OAuth2: srv.OAuth2(), HTTP: srv.Client(), Base: srv.Transport(), Dir: t.TempDir()})
			if err != nil {
				return
			}
			defer end(t, s)
			if s.Token == nil {
				t.Fatal("opened without a token")
			}
			if _, err := s.Token(t.Context()); err == nil {
				t.Error("a token out of nothing")
			}
		})
	}
}
