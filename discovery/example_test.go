package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/discovery"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// serverInMemory stands in for https://login.example.com.
func serverInMemory() *http.Client {
	server := oauthtest.New(oauthtest.Options{})
	server.Handle("login.example.com", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/openid-configuration" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{
			"issuer": "https://login.example.com",
			"authorization_endpoint": "https://login.example.com/authorize",
			"token_endpoint": "https://login.example.com/token",
			"revocation_endpoint": "https://login.example.com/revoke",
			"scopes_supported": ["openid", "offline_access"],
			"token_endpoint_auth_methods_supported": ["client_secret_post", "none"],
			"registration_endpoint": "https://login.example.com/register"
		}`)
	}))
	return server.Client()
}

// A program for any server: its user names the issuer.
func ExampleConfigure() {
	cfg := freshtoken.Config{
		OAuth2:     &oauth2.Config{ClientID: "my-client", Scopes: []string{"openid"}},
		Issuer:     "https://login.example.com",
		HTTPClient: serverInMemory(), // leave it out for a real server
	}
	_, err := discovery.Configure(context.Background(), &cfg)
	switch {
	case errors.Is(err, discovery.ErrUnavailable):
		log.Fatal(err) // or try again: nobody has to log in because of this
	case err != nil:
		log.Fatal(err) // the text says what to change
	}
	src, err := freshtoken.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	fmt.Println(cfg.OAuth2.Endpoint.TokenURL)
	fmt.Println(cfg.RevocationURL)
	fmt.Println(strings.Join(cfg.OAuth2.Scopes, " "))
	// Output:
	// https://login.example.com/token
	// https://login.example.com/revoke
	// openid offline_access
}

// What to write into a program that talks to this server alone.
func ExampleFetch() {
	client := serverInMemory() // nil for a real server
	m, err := discovery.Fetch(context.Background(), client, "https://login.example.com")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("AuthURL:       %q,\n", m.AuthorizationEndpoint)
	fmt.Printf("TokenURL:      %q,\n", m.TokenEndpoint)
	fmt.Printf("RevocationURL: %q,\n", m.RevocationEndpoint)
	fmt.Printf("// client authentication: %q\n", m.TokenEndpointAuthMethodsSupported)
	// Output:
	// AuthURL:       "https://login.example.com/authorize",
	// TokenURL:      "https://login.example.com/token",
	// RevocationURL: "https://login.example.com/revoke",
	// // client authentication: ["client_secret_post" "none"]
}

// What has no field of its own is there, too, unchecked.
func ExampleMetadata_Member() {
	m, err := discovery.Fetch(context.Background(), serverInMemory(), "https://login.example.com")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", m.Member("registration_endpoint"))
	fmt.Println(m.Member("introspection_endpoint") == nil)
	// Output:
	// "https://login.example.com/register"
	// true
}
