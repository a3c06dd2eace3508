package freshtoken_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/grant"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/storage"
	"golang.org/x/oauth2"
)

// A program that has the token of a login, and wants a client that keeps it
// alive.
func Example() {
	server := oauthtest.New(oauthtest.Options{}) // in place of a real one
	defer server.Start()()

	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := storage.NewFile(dir, storage.KeyFile(filepath.Join(dir, "key"))) // keep the key elsewhere
	if err != nil {
		log.Fatal(err)
	}
	src, err := freshtoken.New(freshtoken.Config{OAuth2: server.OAuth2(), Store: store})
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	if err := src.SetToken(context.Background(), server.Login("alice")); err != nil {
		log.Fatal(err)
	}

	client := src.Client(server.BaseURL())
	resp, err := client.Get(server.APIURL("hello"))
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)

	src.Logout(context.Background())
	// Output: 200 OK
}

// What a program does about each error.
func ExampleSource_Token() {
	server := oauthtest.New(oauthtest.Options{})
	src, err := freshtoken.New(freshtoken.Config{OAuth2: server.OAuth2(), HTTPClient: server.Client()})
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()

	_, err = src.Token(context.Background())
	refresh := new(freshtoken.RefreshError)
	switch {
	case err == nil:
		fmt.Println("go ahead")
	case errors.Is(err, freshtoken.ErrNoSession), errors.Is(err, freshtoken.ErrSessionEnded):
		fmt.Println("please log in")
	case errors.As(err, &refresh) && refresh.Temporary, errors.Is(err, freshtoken.ErrLocked):
		fmt.Println("try again later")
	default:
		fmt.Println(err)
	}
	// Output: please log in
}

// A base of one's own, several origins, and an API behind a proxy that sends
// whoever has no valid token to a login page.
func ExampleTransport() {
	server := oauthtest.New(oauthtest.Options{})
	src, err := freshtoken.New(freshtoken.Config{OAuth2: server.OAuth2(), HTTPClient: server.Client()})
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	src.SetToken(context.Background(), server.Login("alice"))

	client := &http.Client{Transport: &freshtoken.Transport{
		Source:   src,
		Base:     server.Transport(), // nil: http.DefaultTransport
		Origins:  []string{server.BaseURL(), "https://uploads.example.com"},
		Rejected: freshtoken.RejectedByLogin(server.LoginURL()),
	}}

	server.RevokeAccess(must(src.Token(context.Background())).AccessToken)
	resp, err := client.Get(server.APIURL("hello"))
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status, "after", server.Stats().Refreshes, "refresh")

	_, err = client.Get("https://elsewhere.example.com/")
	fmt.Println(errors.Is(err, freshtoken.ErrOrigin))
	// Output:
	// 200 OK after 1 refresh
	// true
}

// A part of a program that is to change nothing gets a token that cannot.
func ExampleSource_For() {
	server := oauthtest.New(oauthtest.Options{})
	defer server.Start()()
	src, err := freshtoken.New(freshtoken.Config{OAuth2: server.OAuth2()})
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	if err := src.SetToken(context.Background(), server.Login("alice", "read", "write")); err != nil {
		log.Fatal(err)
	}

	readOnly, err := src.For(freshtoken.Target{Scopes: []string{"read"}})
	if err != nil {
		log.Fatal(err)
	}
	client := readOnly.Client(server.BaseURL())
	for _, scope := range []string{"read", "write"} {
		resp, err := client.Get(server.APIURL("hello?scope=" + scope))
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		fmt.Println(scope, resp.Status)
	}
	// Output:
	// read 200 OK
	// write 403 Forbidden
}

// An API wants more scope than the session has: a person is asked, and the
// request sent again. The Transport never does so by itself.
func ExampleChallengeFrom() {
	server := oauthtest.New(oauthtest.Options{})
	src, err := freshtoken.New(freshtoken.Config{OAuth2: server.OAuth2(), HTTPClient: server.Client()})
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	src.SetToken(context.Background(), server.Login("alice", "read"))
	client := &http.Client{Transport: &freshtoken.Transport{
		Source: src, Base: server.Transport(), Origins: []string{server.BaseURL()},
	}}
	// login.Auto{} in a real program.
	person := freshtoken.AuthenticatorFunc(func(_ context.Context, cfg freshtoken.Config) (*oauth2.Token, error) {
		fmt.Println("please log in for", cfg.OAuth2.Scopes)
		return server.Login("alice", cfg.OAuth2.Scopes...), nil
	})

	for range 2 {
		resp, err := client.Get(server.APIURL("report?scope=write"))
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		fmt.Println(resp.Status)
		if demand, ok := freshtoken.ChallengeFrom(resp); ok {
			if _, err := src.StepUp(context.Background(), demand, person); err != nil {
				log.Fatal(err)
			}
		}
	}
	// Output:
	// 403 Forbidden
	// please log in for [read write]
	// 200 OK
}

// A desktop program that is told in time that its session is about to end.
func ExampleStatus() {
	server := oauthtest.New(oauthtest.Options{})
	src, err := freshtoken.New(freshtoken.Config{
		OAuth2:     server.OAuth2(),
		HTTPClient: server.Client(),
		Background: true, // so that nobody has to ask
		KeepAlive:  true, // so that it does not end for being idle
		OnEvent: func(e freshtoken.Event) {
			if e.Kind == freshtoken.EventExpiring {
				fmt.Println("please log in again soon")
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	answer := map[string]any{"authorization_expires_in": 90 * 24 * 60 * 60}
	src.SetToken(context.Background(), server.Login("alice").WithExtra(answer))
	days := time.Until(src.Status().RefreshExpiry).Hours() / 24
	fmt.Printf("ends in %.0f days\n", days)
	// Output: ends in 90 days
}

// Events go to a log as they are: they hold no secret.
func ExampleEvent() {
	server := oauthtest.New(oauthtest.Options{})
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	src, err := freshtoken.New(freshtoken.Config{
		OAuth2:     server.OAuth2(),
		HTTPClient: server.Client(),
		OnEvent:    func(e freshtoken.Event) { logger.Info("session", "event", e) },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	src.SetToken(context.Background(), server.Login("alice"))
	fmt.Println(src.Status().State)
	// Output: alive
}

// A grant of one's own in place of the refresh_token grant.
func ExampleRefresher() {
	issued := 0
	src, err := freshtoken.New(freshtoken.Config{
		OAuth2: &oauth2.Config{ClientID: "robot"},
		Refresher: freshtoken.RefresherFunc(func(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
			issued++
			return &oauth2.Token{AccessToken: fmt.Sprint("token-", issued), ExpiresIn: 3600}, nil
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	src.SetToken(context.Background(), &oauth2.Token{AccessToken: "token-0", ExpiresIn: 3600})
	tok, err := src.Refresh(context.Background(), nil) // the API rejected it
	fmt.Println(tok.AccessToken, err)
	// Output: token-1 <nil>
}

// A program with several accounts at one server.
func ExampleSources() {
	server := oauthtest.New(oauthtest.Options{})
	all, err := freshtoken.NewSources(freshtoken.Config{
		OAuth2:     server.OAuth2(),
		Store:      storage.NewMemory(),
		HTTPClient: server.Client(),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer all.Close()

	ctx := context.Background()
	for _, name := range []string{"alice@example.com", "bob@example.com"} {
		src, err := all.Get(name)
		if err != nil {
			log.Fatal(err)
		}
		if err := src.SetToken(ctx, server.Login(name)); err != nil {
			log.Fatal(err)
		}
	}
	alice, err := all.Get("alice@example.com") // the same one, from anywhere in the program
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(alice.Status().State)

	fmt.Println(all.Forget(ctx, "bob@example.com"))
	bob, err := all.Get("bob@example.com")
	if err != nil {
		log.Fatal(err)
	}
	_, err = bob.Token(ctx)
	fmt.Println(errors.Is(err, freshtoken.ErrNoSession))
	// Output:
	// alive
	// <nil>
	// true
}

// A program that used to keep its session in token.json, and has a store now.
// It calls Import at every start.
func ExampleSource_Import() {
	server := oauthtest.New(oauthtest.Options{})
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	old := filepath.Join(dir, "token.json") // what an older version has left
	data, err := json.Marshal(server.Login("alice"))
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(old, data, 0o600); err != nil {
		log.Fatal(err)
	}

	src, err := freshtoken.New(freshtoken.Config{OAuth2: server.OAuth2(), Store: storage.NewMemory(), HTTPClient: server.Client()})
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	for range 2 { // two starts
		err := src.Import(context.Background(), old)
		switch {
		case err == nil:
			fmt.Println("taken over")
		case errors.Is(err, fs.ErrNotExist):
			fmt.Println("nothing to do")
		default:
			log.Print(err) // it says what to do; the file is as it was
		}
	}
	fmt.Println(src.Status().State)
	// Output:
	// taken over
	// nothing to do
	// alive
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

// A service that holds a token of its own: there is nobody to log in, and no
// refresh token. The first token and every later one are had in the same way.
func Example_clientCredentials() {
	server := oauthtest.New(oauthtest.Options{ClientID: "service", ClientSecret: "secret"}) // in place of a real one
	src, err := freshtoken.New(freshtoken.Config{
		OAuth2:     &oauth2.Config{ClientID: "service", ClientSecret: "secret", Endpoint: oauth2.Endpoint{TokenURL: server.TokenURL()}},
		HTTPClient: server.Client(), // leave it out for a real server
		Refresher:  &grant.ClientCredentials{},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	first, err := src.Token(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	second, err := src.Refresh(context.Background(), first) // an API has rejected it
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(server.AccessAlive(first.AccessToken), server.AccessAlive(second.AccessToken), first.AccessToken == second.AccessToken)
	// Output: true true false
}
