package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// secret is that of the clients that register. No file may have it.
const secret = "the-secret-of-a-registered-client"

// A world is an MCP server of the SDK that trusts an authorization server, where
// clients register by themselves, and a directory for what programs keep.
type world struct {
	as     *oauthtest.Server
	server string // address of the MCP server
	store  *storage.File
	dir    string

	calls         atomic.Int32 // requests to the MCP server
	logins        atomic.Int32 // times that a browser was opened
	registrations atomic.Int32
	deaf          atomic.Bool  // the MCP server takes no token
	forbids       atomic.Bool  // or none for what is asked
	wants         atomic.Value // a scope, if the server wants one

	mu        sync.Mutex // guards what follows
	answer    func(id string) string
	status    int
	resources []string // of each request to the token endpoint
}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), status: http.StatusCreated}
	w.answer = func(id string) string {
		return fmt.Sprintf(`{"client_id":%q,"client_secret":%q,"client_secret_expires_at":0,"token_endpoint_auth_method":"client_secret_basic"}`, id, secret)
	}
	w.as = oauthtest.New(oauthtest.Options{OtherClients: map[string]string{"registered-1": secret, "registered-2": secret}})
	t.Cleanup(w.as.Start())
	registrar := httptest.NewServer(http.HandlerFunc(w.register))
	t.Cleanup(registrar.Close)
	w.as.Metadata.Always(oauthtest.AddMember("registration_endpoint", strconv.Quote(registrar.URL+"/register")))

	mux := http.NewServeMux()
	api := httptest.NewServer(mux)
	t.Cleanup(api.Close)
	w.server = api.URL + "/mcp"
	mux.Handle("/mcp", w.admit(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return tools() }, nil)))
	mux.Handle("/.well-known/oauth-protected-resource/mcp", auth.ProtectedResourceMetadataHandler(&oauthex.ProtectedResourceMetadata{
		Resource: w.server, AuthorizationServers: []string{w.as.BaseURL()}, ScopesSupported: []string{"tools"}}))

	key := filepath.Join(t.TempDir(), "key")
	var err error
	if w.store, err = storage.NewFile(w.dir, storage.KeyFile(key)); err != nil {
		t.Fatal(err)
	}
	return w
}

// tools is a server with one tool.
func tools() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "greet", Description: "says hello"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{}, nil, nil
	})
	return s
}

// admit wants a live token, as the SDK's own middleware does.
func (w *world) admit(next http.Handler) http.Handler {
	verify := func(_ context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
		if w.deaf.Load() || !w.as.AccessAlive(token) {
			return nil, auth.ErrInvalidToken
		}
		return &auth.TokenInfo{Expiration: time.Now().Add(time.Hour)}, nil
	}
	guarded := auth.RequireBearerToken(verify, &auth.RequireBearerTokenOptions{
		ResourceMetadataURL: strings.TrimSuffix(w.server, "/mcp") + "/.well-known/oauth-protected-resource/mcp"})(next)
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.calls.Add(1)
		if scope, _ := w.wants.Load().(string); w.forbids.Load() || scope != "" && !w.covers(r, scope) {
			if scope != "" {
				rw.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer error="insufficient_scope", scope=%q`, scope))
			}
			http.Error(rw, "no", http.StatusForbidden)
			return
		}
		guarded.ServeHTTP(rw, r)
	})
}

// covers reports whether the token of a request has a scope.
func (w *world) covers(r *http.Request, scope string) bool {
	again, err := http.NewRequestWithContext(r.Context(), http.MethodGet, w.as.APIURL("x?scope="+scope), nil)
	if err != nil {
		return false
	}
	again.Header.Set("Authorization", r.Header.Get("Authorization"))
	resp, err := w.as.Transport().RoundTrip(again)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode != http.StatusForbidden
}

// register is the endpoint of RFC 7591.
func (w *world) register(rw http.ResponseWriter, r *http.Request) {
	var asked oauthex.ClientRegistrationMetadata
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || len(asked.RedirectURIs) != 1 || !slices.Contains(asked.GrantTypes, "refresh_token") {
		http.Error(rw, `{"error":"invalid_client_metadata"}`, http.StatusBadRequest)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(w.status)
	io.WriteString(rw, w.answer(fmt.Sprintf("registered-%d", w.registrations.Add(1))))
}

// registers says what the endpoint answers.
func (w *world) registers(status int, answer string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status, w.answer = status, func(id string) string { return strings.ReplaceAll(answer, "ID", id) }
}

// RoundTrip is the network to the authorization server, which sees what tokens are
// asked for.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.String() == w.as.TokenURL() {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, err
		}
		w.mu.Lock()
		w.resources = append(w.resources, form.Get("resource"))
		w.mu.Unlock()
	}
	return http.DefaultTransport.RoundTrip(r)
}

// options are those of a program whose person approves each login.
func (w *world) options() options {
	browse := func(_ context.Context, address string) error {
		w.logins.Add(1)
		resp, err := w.as.Browser().Get(address)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
	return options{server: w.server, redirect: "http://127.0.0.1/callback", store: w.store, client: &http.Client{Transport: w},
		flow: login.Loopback{Prompt: login.Prompt{Browse: browse, Elsewhere: func(context.Context) {}}}}
}

// program is a run of the program: it lists the tools.
func (w *world) program(ctx context.Context) (string, error) {
	h, err := open(ctx, w.options())
	if err != nil {
		return "", err
	}
	defer h.Close()
	var out strings.Builder
	err = list(ctx, h, &out)
	return out.String(), err
}

// works runs the program and expects it to succeed.
func (w *world) works(t *testing.T) {
	t.Helper()
	if out, err := w.program(t.Context()); err != nil || out != "greet: says hello\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

// want compares how many registrations, logins and requests to the token endpoint
// there were so far.
func (w *world) want(t *testing.T, registrations, logins, tokens int) {
	t.Helper()
	r, l, n := int(w.registrations.Load()), int(w.logins.Load()), w.as.Stats().TokenRequests
	if r != registrations || l != logins || n != tokens {
		t.Errorf("%d registrations, %d logins, %d requests for tokens; want %d, %d, %d", r, l, n, registrations, logins, tokens)
	}
}

// files is what lies in the directory.
func (w *world) files(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		value, err := os.ReadFile(path)
		all.WriteString(path)
		all.Write(value)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
