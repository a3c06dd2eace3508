package oauthtest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken/internal/mark"
	"golang.org/x/oauth2"
)

// A family is what one login yielded: its tokens live and die together.
type family struct {
	n      int    // from 1
	client string // whom the tokens were issued to
	approval
	gen      int // highest generation issued
	dead     bool
	accesses []*accessToken
	bound    string // thumbprint of the certificate that the refresh tokens are bound to
	begun    time.Time
	nonce    string // of the login, for its ID token
}

type refreshToken struct {
	fam        *family
	gen        int
	value      string
	expires    time.Time // zero: never
	spent      time.Time // zero: not yet used
	withdrawn  bool      // replaced by GraceReplace: showing it is reuse
	successors []*refreshToken
}

type accessToken struct {
	fam       *family
	gen       int
	value     string
	scopes    []string
	resources []string // nil: good everywhere
	expires   time.Time
	revoked   bool
	bound     string // thumbprint of a certificate
}

func (a *accessToken) live(now time.Time) bool {
	return !a.revoked && !a.fam.dead && now.Before(a.expires)
}

// Login starts a session without a browser and without a request, and returns
// its first tokens. The scopes are those that a refresh may ask for; as to
// resources, it may ask for any of Options.Resources. How long the refresh token
// lives, the answers to refreshes alone tell.
func (s *Server) Login(subject string, scopes ...string) *oauth2.Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	fam := s.newFamily(s.opt.ClientID, approval{subject: subject, scopes: slices.Clone(scopes)})
	rt := s.mintRefresh(fam, now)
	bound := ""
	if s.opt.ClientAuth.BindTokens {
		bound = thumbprint(s.opt.ClientAuth.Certificate)
	}
	if !s.opt.confidential(fam.client) {
		fam.bound = bound
	}
	at := s.mintAccess(fam, rt.gen, fam.scopes, nil, now, bound)
	s.stats.Logins++
	tok := &oauth2.Token{
		AccessToken:  at.value,
		TokenType:    "Bearer",
		RefreshToken: rt.value,
		Expiry:       at.expires,
		ExpiresIn:    int64(s.opt.AccessLifetime / time.Second),
	}
	extra := map[string]any{"expires_in": tok.ExpiresIn}
	if len(scopes) > 0 {
		extra["scope"] = strings.Join(scopes, " ")
	}
	if id := s.idToken(at); id != "" {
		extra["id_token"] = id
	}
	return tok.WithExtra(extra)
}

// RevokeAccess makes the API answer 401 invalid_token to this access token from
// now on. An unknown token is ignored.
func (s *Server) RevokeAccess(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.access[token]; a != nil {
		a.revoked = true
	}
}

// RevokeFamily ends the session that a refresh or access token belongs to, as
// an administrator would. An unknown token is ignored.
func (s *Server) RevokeFamily(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fam := s.familyOf(token); fam != nil {
		fam.dead = true
	}
}

// Alive reports whether the token endpoint would accept this refresh token now.
// It spends nothing.
func (s *Server) Alive(refreshToken string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	rt := s.refresh[refreshToken]
	return rt != nil && s.judge(rt, time.Now()) == Granted
}

// AccessAlive reports whether the API would accept this access token now.
func (s *Server) AccessAlive(accessToken string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.access[accessToken]
	return a != nil && a.live(time.Now())
}

// The methods below are called with s.mu held.

func (s *Server) newFamily(client string, by approval) *family {
	fam := &family{n: len(s.families) + 1, client: client, approval: by, begun: time.Now()}
	s.families = append(s.families, fam)
	return fam
}

func (s *Server) familyOf(token string) *family {
	if rt := s.refresh[token]; rt != nil {
		return rt.fam
	}
	if a := s.access[token]; a != nil {
		return a.fam
	}
	return nil
}

func (s *Server) mintRefresh(fam *family, now time.Time) *refreshToken {
	fam.gen++
	rt := &refreshToken{fam: fam, gen: fam.gen, value: newToken(mark.RefreshToken, fam.n, fam.gen)}
	if s.opt.RefreshLifetime > 0 {
		rt.expires = now.Add(s.opt.RefreshLifetime)
	}
	s.refresh[rt.value] = rt
	return rt
}

func (s *Server) mintAccess(fam *family, gen int, scopes, resources []string, now time.Time, bound string) *accessToken {
	a := &accessToken{
		fam: fam, gen: gen, scopes: scopes, resources: resources, bound: bound,
		value:   newToken(mark.AccessToken, fam.n, gen),
		expires: now.Add(s.opt.AccessLifetime),
	}
	s.access[a.value] = a
	if s.opt.KillOldAccess {
		for _, old := range fam.accesses {
			old.revoked = true
		}
		fam.accesses = fam.accesses[:0]
	}
	fam.accesses = append(fam.accesses, a)
	return a
}

// newToken makes a token that tells whoever debugs a test where it belongs. Its
// characters are those of token68 (RFC 6750, section 2.1).
func newToken(kind mark.Kind, family, gen int) string {
	return fmt.Sprintf("%ct-%d-%d-%s", kind, family, gen, mark.New(kind))
}

// judge says what showing this refresh token means now, without effect.
func (s *Server) judge(rt *refreshToken, now time.Time) Outcome {
	switch {
	case rt.fam.dead:
		return FamilyDead
	case rt.withdrawn:
		return Reuse
	case rt.spent.IsZero():
		if !rt.expires.IsZero() && !now.Before(rt.expires) {
			return Expired
		}
		return Granted
	case s.opt.Rotation != Rotate:
		return Granted
	case s.inGrace(rt, now):
		return Granted
	}
	return Reuse
}

func (s *Server) inGrace(rt *refreshToken, now time.Time) bool {
	if s.opt.Grace <= 0 || now.After(rt.spent.Add(s.opt.Grace)) {
		return false
	}
	for _, next := range rt.successors {
		if !next.spent.IsZero() {
			return false
		}
	}
	return true
}

// spend uses a refresh token that judge found good. It returns the refresh
// token to put into the answer, or nil to leave it out.
func (s *Server) spend(rt *refreshToken, now time.Time) *refreshToken {
	switch s.opt.Rotation {
	case NoRotation:
		return nil
	case SameToken:
		return rt
	case RotateLenient:
		return s.mintRefresh(rt.fam, now)
	}
	if rt.spent.IsZero() {
		rt.spent = now
	} else {
		s.stats.GraceUses++
		switch s.opt.GraceMode {
		case GraceSame:
			return rt.successors[0]
		case GraceReplace:
			for _, old := range rt.successors {
				old.withdrawn = true
			}
			for _, a := range rt.fam.accesses {
				a.revoked = true
			}
		}
	}
	next := s.mintRefresh(rt.fam, now)
	rt.successors = append(rt.successors, next)
	return next
}
