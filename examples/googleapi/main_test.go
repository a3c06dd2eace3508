package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/tasks/v1"
)

// fake is Google, as far as the library can tell.
type fake struct {
	as    *oauthtest.Server
	src   *freshtoken.Source
	url   string
	calls atomic.Int32
	last  atomic.Pointer[string] // the token that came last
}

func start(t *testing.T) *fake {
	t.Helper()
	f := &fake{as: oauthtest.New(oauthtest.Options{ClientSecret: "not a secret"})}
	web := httptest.NewServer(f)
	t.Cleanup(web.Close)
	f.url = web.URL
	src, err := freshtoken.New(freshtoken.Config{OAuth2: f.as.OAuth2(), HTTPClient: f.as.Client()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	f.src = src
	return f
}

// ServeHTTP implements the API.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.calls.Add(1)
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	all := r.Header.Values("Authorization")
	tok := strings.TrimPrefix(strings.Join(all, ", "), "Bearer ")
	f.last.Store(&tok)
	switch {
	case r.URL.Path != "/tasks/v1/users/@me/lists":
		w.WriteHeader(http.StatusNotFound)
	case len(all) != 1 || !f.as.AccessAlive(tok):
		w.Header().Set("WWW-Authenticate", `Bearer realm="https://accounts.google.com/", error="invalid_token"`)
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error": {"code": 401, "message": "Request had invalid authentication credentials.", "status": "UNAUTHENTICATED"}}`)
	default:
		fmt.Fprint(w, `{"kind": "tasks#taskLists", "items": [{"title": "Garden"}, {"title": "Work"}]}`)
	}
}

func (f *fake) login(t *testing.T) {
	t.Helper()
	if err := f.src.SetToken(t.Context(), f.as.Login("alice", tasks.TasksReadonlyScope)); err != nil {
		t.Fatal(err)
	}
}

// want compares the requests at the API and at the token endpoint.
func (f *fake) want(t *testing.T, calls, posts int) {
	t.Helper()
	if c, p := int(f.calls.Load()), f.as.Stats().TokenRequests; c != calls || p != posts {
		t.Errorf("%d requests at the API and %d refreshes, want %d and %d", c, p, calls, posts)
	}
}

var ways = map[string]func(context.Context, *freshtoken.Source, string) (*tasks.Service, error){
	"over the Transport":   overTransport,
	"over the TokenSource": overTokenSource,
}

// each runs a test for both ways to make the client.
func each(t *testing.T, test func(t *testing.T, f *fake, list func() (string, error))) {
	for name, over := range ways {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			service, err := over(t.Context(), f.src, f.url)
			if err != nil {
				t.Fatal(err)
			}
			test(t, f, func() (string, error) {
				var out bytes.Buffer
				err := show(t.Context(), service, &out)
				return out.String(), err
			})
		})
	}
}

const shown = "Garden\nWork\n"

// Over the Transport, it is always the token in use that is sent. Over the
// TokenSource, the library keeps one for itself as long as it may live.
func TestTokenAfterARefresh(t *testing.T) {
	each(t, func(t *testing.T, f *fake, list func() (string, error)) {
		f.login(t)
		var sent, inUse []string
		for range 2 {
			if got, err := list(); err != nil || got != shown {
				t.Fatalf("got %q, %v", got, err)
			}
			tok, err := f.src.Token(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			sent, inUse = append(sent, *f.last.Load()), append(inUse, tok.AccessToken)
			if _, err := f.src.Refresh(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		f.want(t, 2, 2)
		want := inUse
		if strings.HasSuffix(t.Name(), "TokenSource") {
			want = []string{inUse[0], inUse[0]}
		}
		if !slices.Equal(sent, want) {
			t.Errorf("an old token was sent: %v", sent[1] == sent[0])
		}
	})
}

// This is the difference.
func TestRejectedToken(t *testing.T) {
	each(t, func(t *testing.T, f *fake, list func() (string, error)) {
		f.login(t)
		tok, err := f.src.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f.as.RevokeAccess(tok.AccessToken)
		got, err := list()
		if strings.HasSuffix(t.Name(), "Transport") {
			if err != nil || got != shown {
				t.Errorf("got %q, %v, want the lists", got, err)
			}
			f.want(t, 2, 1)
			return
		}
		if refused := new(googleapi.Error); !errors.As(err, &refused) || refused.Code != http.StatusUnauthorized {
			t.Errorf("got %q, %v, want the API's 401", got, err)
		}
		f.want(t, 1, 0)
	})
}

// The Source's errors come through the library as they are.
func TestNobodyLoggedIn(t *testing.T) {
	each(t, func(t *testing.T, f *fake, list func() (string, error)) {
		if _, err := list(); !errors.Is(err, freshtoken.ErrNoSession) {
			t.Errorf("got %v, want ErrNoSession", err)
		}
		f.want(t, 0, 0)
	})
}
