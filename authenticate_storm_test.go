package freshtoken_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// Three programs that share a session, and forty goroutines that log in, log
// out, give up and ask for tokens, in any order: nobody is ever asked twice at
// once, nobody waits for ever (the bubble would tell), and what is left works.
func TestLoginStorm(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{AccessLifetime: 5 * time.Minute})
			p := &moody{person: person{as: w.as}, random: rand.New(rand.NewPCG(seed, 0))}
			var programs []*freshtoken.Source
			for i := range 3 {
				programs = append(programs, w.source(func(c *freshtoken.Config) {
					c.Background = i == 2
					if i > 0 {
						c.Reauthenticate = p
					}
				}))
			}
			var wg sync.WaitGroup
			for range 40 {
				wg.Go(func() {
					for range 15 {
						p.storm(t, programs[p.roll(3)])
					}
				})
			}
			wg.Wait()
			p.mu.Lock() // a login that nobody waits for any more may go on
			if p.max != 1 {
				t.Errorf("seed %d: %d were asked at once", seed, p.max)
			}
			p.mu.Unlock()
			for _, src := range programs {
				if _, err := src.Authenticate(t.Context(), &person{as: w.as}); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
				if err := src.Close(); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
			}
		})
	}
}

// moody is a person of whom nobody knows how long a login takes, and whether it
// succeeds.
type moody struct {
	person
	dice   sync.Mutex // guards random
	random *rand.Rand
}

func (m *moody) roll(n int) int {
	m.dice.Lock()
	defer m.dice.Unlock()
	return m.random.IntN(n)
}

// Authenticate is called for one login at a time, so time and err are its own.
func (m *moody) Authenticate(ctx context.Context, cfg freshtoken.Config) (*oauth2.Token, error) {
	err := errDeclined
	if m.roll(4) > 0 {
		err = nil
	}
	m.fail(err)
	m.time = time.Duration(m.roll(120)) * time.Second
	return m.person.Authenticate(ctx, cfg)
}

// storm does something with src. What comes of it depends on the others.
func (m *moody) storm(t *testing.T, src *freshtoken.Source) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(m.roll(400))*time.Second)
	defer cancel()
	switch m.roll(7) {
	case 0:
		src.Logout(ctx)
	case 1:
		src.SetToken(ctx, m.as.Login("alice"))
	case 2, 3:
		src.Token(ctx)
	case 4:
		if tok, err := src.Token(ctx); err == nil {
			m.as.RevokeFamily(tok.AccessToken)
			src.Refresh(ctx, tok)
		}
	default:
		src.Authenticate(ctx, m)
	}
	time.Sleep(time.Duration(m.roll(60)) * time.Second)
}
