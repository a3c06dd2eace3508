package interop_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/handler/openid"
	"github.com/ory/fosite/storage"
	"github.com/ory/fosite/token/jwt"
)

// A fositeServer is an authorization server that is made of fosite, and an API
// that asks it about tokens: in this process, so that the race detector sees
// both ends. It has the back doors of ../harness.mjs.
//
// fosite is a library. What is ours are the pages, the routes and the way that
// they are locked.
type fositeServer struct {
	fosite.OAuth2Provider
	issuer   string
	store    *fositeStore
	strategy interface {
		RefreshTokenSignature(ctx context.Context, token string) string
	}

	// mu is held for each request as a whole, and guards counts. fosite's memory
	// store writes the refresh tokens that it revokes under a lock that does not
	// keep readers out, and looking a token up and spending it are two steps
	// there: TestFositeStoreHasTwoWinners.
	mu     sync.Mutex
	counts counts
}

// A fositeStore is fosite's memory store, which knows users without a name of
// their own.
type fositeStore struct{ *storage.MemoryStore }

func (s *fositeStore) Authenticate(ctx context.Context, name, secret string) (string, error) {
	_, err := s.MemoryStore.Authenticate(ctx, name, secret)
	return name, err
}

// fositeKey signs the ID tokens of all of them.
var fositeKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// fositeLives are lifetimes of tokens.
type fositeLives struct{ access, refresh time.Duration }

// startFositeServer starts one with the client public and the user alice. It
// ends with the test.
func startFositeServer(t *testing.T, lives fositeLives) *fositeServer {
	t.Helper()
	key, err := fositeKey()
	if err != nil {
		t.Fatal(err)
	}
	s := &fositeServer{store: &fositeStore{storage.NewMemoryStore()}}
	s.store.Users["alice"] = storage.MemoryUserRelation{Username: "alice", Password: "wonderland"}
	s.store.Clients[public.ID] = &fosite.DefaultClient{
		ID: public.ID, Public: true,
		RedirectURIs:  []string{"http://127.0.0.1/callback"}, // any port: RFC 8252 section 7.3
		GrantTypes:    []string{"authorization_code", "refresh_token", "password"},
		ResponseTypes: []string{"code"},
		Scopes:        []string{"openid", "offline_access", "api"},
	}
	listener := httptest.NewServer(s.routes())
	t.Cleanup(listener.Close)
	s.issuer = listener.URL
	secret := make([]byte, 32)
	rand.Read(secret)
	cfg := &fosite.Config{
		AccessTokenLifespan: lives.access, RefreshTokenLifespan: lives.refresh,
		GlobalSecret: secret, EnforcePKCE: true,
		IDTokenIssuer: s.issuer, TokenURL: s.issuer + "/token",
	}
	s.OAuth2Provider = compose.ComposeAllEnabled(cfg, s.store, key)
	s.strategy = compose.NewOAuth2HMACStrategy(cfg)
	return s
}

func (s *fositeServer) routes() http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("/authorize", s.authorize)
	routes.HandleFunc("POST /token", s.token)
	routes.HandleFunc("POST /revoke", s.revoke)
	routes.HandleFunc("/api/call", s.api)
	routes.HandleFunc("/control/{door}", s.control)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		routes.ServeHTTP(w, r)
	})
}

// session is what fosite keeps with a login.
func (s *fositeServer) session(subject string) *openid.DefaultSession {
	return &openid.DefaultSession{Subject: subject, Headers: &jwt.Headers{},
		Claims: &jwt.IDTokenClaims{Issuer: s.issuer, Subject: subject, AuthTime: time.Now(), RequestedAt: time.Now()}}
}

const fositeLogin = `<!DOCTYPE html><html lang="en"><title>Sign in</title><h1>Sign in</h1>
<form method="post"><input name="username"><input name="password" type="password"><button>Sign in and agree</button></form></html>
`

// authorize shows a page, which posts to its own address, and believes that
// whoever signs in there agrees.
func (s *fositeServer) authorize(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	r.ParseForm()
	name, password := r.PostForm.Get("username"), r.PostForm.Get("password")
	r.Form.Del("username")
	r.Form.Del("password") // it is no part of the request
	request, err := s.NewAuthorizeRequest(ctx, r)
	if err != nil {
		s.WriteAuthorizeError(ctx, w, request, err)
		return
	}
	subject, err := s.store.Authenticate(ctx, name, password)
	if err != nil {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, fositeLogin)
		return
	}
	for _, scope := range request.GetRequestedScopes() {
		request.GrantScope(scope)
	}
	response, err := s.NewAuthorizeResponse(ctx, request, s.session(subject))
	if err != nil {
		s.WriteAuthorizeError(ctx, w, request, err)
		return
	}
	s.WriteAuthorizeResponse(ctx, w, request, response)
}

func (s *fositeServer) token(w http.ResponseWriter, r *http.Request) {
	s.counts.TokenRequests++
	request, err := s.NewAccessRequest(r.Context(), r, s.session(""))
	if err != nil {
		s.refused(w, r, request, err)
		return
	}
	if request.GetGrantTypes().ExactOne("password") {
		// An ID token needs it; without, fosite fails when tokens have been
		// issued, and the refresh token is spent.
		session := request.GetSession().(*openid.DefaultSession)
		session.Claims.Subject = session.Subject
		for _, scope := range request.GetRequestedScopes() {
			request.GrantScope(scope)
		}
	}
	response, err := s.NewAccessResponse(r.Context(), request)
	if err != nil {
		s.refused(w, r, request, err)
		return
	}
	if request.GetGrantTypes().ExactOne("refresh_token") {
		s.counts.Refreshes++
	}
	s.WriteAccessResponse(r.Context(), w, request, response)
}

func (s *fositeServer) refused(w http.ResponseWriter, r *http.Request, request fosite.AccessRequester, err error) {
	switch {
	case errors.Is(err, fosite.ErrInvalidClient):
		s.counts.InvalidClients++
	case errors.Is(err, fosite.ErrInvalidGrant):
		s.counts.InvalidGrants++
		if errors.Is(err, fosite.ErrInactiveToken) {
			s.counts.Reuses++
			s.counts.FamiliesKilled++
		}
	}
	s.WriteAccessError(r.Context(), w, request, err)
}

func (s *fositeServer) revoke(w http.ResponseWriter, r *http.Request) {
	s.counts.Revocations++
	s.WriteRevocationResponse(r.Context(), w, s.NewRevocationRequest(r.Context(), r))
}

// api answers for a resource server (RFC 6750 section 3).
func (s *fositeServer) api(w http.ResponseWriter, r *http.Request) {
	s.counts.API++
	w.Header().Set("Content-Type", "application/json")
	_, about, err := s.IntrospectToken(r.Context(), fosite.AccessTokenFromRequest(r), fosite.AccessToken, s.session(""))
	if err != nil {
		s.counts.APIRejected++
		w.Header().Set("WWW-Authenticate", `Bearer realm="api", error="invalid_token"`)
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, `{"error":"unauthorized"}`)
		return
	}
	body, _ := io.ReadAll(r.Body)
	json.NewEncoder(w).Encode(map[string]string{"subject": about.GetSession().GetSubject(), "received": string(body)})
}

// control opens a back door.
func (s *fositeServer) control(w http.ResponseWriter, r *http.Request) {
	var said any = struct{}{}
	switch r.PathValue("door") {
	case "counts":
		said = s.counts
	case "end": // as an administrator does
		s.end(r.Context(), r.FormValue("token"))
	case "pass":
		n, err := strconv.Atoi(r.FormValue("seconds"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.pass(time.Duration(n) * time.Second)
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(said)
}

func (s *fositeServer) end(ctx context.Context, refreshToken string) {
	login := s.store.RefreshTokens[s.strategy.RefreshTokenSignature(ctx, refreshToken)].GetID()
	s.store.RevokeRefreshToken(ctx, login)
	s.store.RevokeAccessToken(ctx, login)
}

// pass makes all refresh tokens older. fosite's clock is that of the machine.
func (s *fositeServer) pass(by time.Duration) {
	for _, stored := range s.store.RefreshTokens {
		session := stored.GetSession()
		session.SetExpiresAt(fosite.RefreshToken, session.GetExpiresAt(fosite.RefreshToken).Add(-by))
	}
}
