package clientauth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net/http"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/clientauth"
	"github.com/freshtoken/freshtoken/discovery"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// A client whose key lies in a file; here, in memory.
func ExamplePrivateKeyJWT() {
	key, err := clientauth.ParseKey(pemFile, "key-1") // or LoadKey("client.pem", "key-1")
	if err != nil {
		log.Fatal(err)
	}
	auth, err := clientauth.PrivateKeyJWT(key, clientauth.Options{})
	if err != nil {
		log.Fatal(err)
	}
	server := oauthtest.New(oauthtest.Options{ClientID: "my-client", ClientAuth: oauthtest.ClientAuth{
		Method: "private_key_jwt", Keys: map[string]crypto.PublicKey{"key-1": key.Public()}}})

	cfg := freshtoken.Config{
		OAuth2:     &oauth2.Config{ClientID: "my-client"},
		Issuer:     server.BaseURL(),
		HTTPClient: server.Client(), // leave it out for a real server
		ClientAuth: auth,
	}
	if _, err := discovery.Configure(context.Background(), &cfg); err != nil {
		log.Fatal(err)
	}
	src, err := freshtoken.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	src.SetToken(context.Background(), server.Login("alice"))
	for range 3 {
		if _, err := src.Refresh(context.Background(), nil); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(auth)
	fmt.Println(server.Stats().Refreshes, "refreshes,", server.Stats().ReplayedAssertions, "assertions sent twice")
	// Output:
	// clientauth.JWT{Method: private_key_jwt, Algorithm: ES256, KeyID: "key-1"}
	// 3 refreshes, 0 assertions sent twice
}

// A key that a KMS or a TPM keeps is a crypto.Signer. Its name at the server is an
// option.
func ExampleNewKey() {
	var kms crypto.Signer = exampleKey // of the KMS's library
	key, err := clientauth.NewKey(kms)
	if err != nil {
		log.Fatal(err)
	}
	auth, err := clientauth.PrivateKeyJWT(key, clientauth.Options{KeyID: "projects/p/keys/1", Audience: clientauth.AudienceTokenURL})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(auth)
	// Output: clientauth.JWT{Method: private_key_jwt, Algorithm: ES256, KeyID: "projects/p/keys/1"}
}

// A secret that is a key: it signs, and is not sent.
func ExampleSecretJWT() {
	_, err := clientauth.SecretJWT("0123456789", clientauth.Options{})
	fmt.Println(errors.Is(err, clientauth.ErrSecretTooShort))
	_, err = clientauth.SecretJWT("Rk9Oz4mK0vZ0mU1hX6yqQ2eJ7cTn5sWb", clientauth.Options{})
	fmt.Println(err)
	// Output:
	// true
	// <nil>
}

// A client that is known by its certificate.
func ExampleCertificate() {
	pair := exampleCertificate() // or clientauth.LoadCertificate("client.crt", "client.key")
	cert, err := clientauth.NewCertificate(pair)
	if err != nil {
		log.Fatal(err)
	}
	server := oauthtest.New(oauthtest.Options{ClientAuth: oauthtest.ClientAuth{
		Method: "self_signed_tls_client_auth", Certificate: pair.Leaf, BindTokens: true, AliasHost: "mtls.oauth.test"}})
	inMemory := server.TransportWith(func() []*x509.Certificate { return []*x509.Certificate{pair.Leaf} })

	cfg := freshtoken.Config{
		OAuth2:     &oauth2.Config{ClientID: "client"},
		Issuer:     server.BaseURL(),
		ClientAuth: cert,
		HTTPClient: &http.Client{Transport: inMemory}, // cert.Client() for a real server
	}
	if _, err := discovery.Configure(context.Background(), &cfg); err != nil {
		log.Fatal(err)
	}
	fmt.Println(cfg.OAuth2.Endpoint.TokenURL)
	src, err := freshtoken.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	src.SetToken(context.Background(), server.Login("alice"))
	_, err = src.Refresh(context.Background(), nil)
	fmt.Println(err)
	// Output:
	// https://mtls.oauth.test/token
	// <nil>
}

var (
	exampleKey = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	pemFile    = []byte(pkcs8(exampleKey))
)
