package oauthtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/oauth2"

	"github.com/freshtoken/freshtoken/oauthtest"
)

func ExampleNew() {
	srv := oauthtest.New(oauthtest.Options{})
	tok := srv.Login("alice", "read")

	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, srv.Client())
	resp, err := srv.OAuth2().Client(ctx, tok).Get(srv.APIURL("hello?scope=read"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n%.49s...\n", resp.Status, body)
	// Output:
	// 200 OK
	// {"subject":"alice","family":1,"generation":1,"met...
}

// A spent refresh token ends the session, as on strict servers.
func ExampleServer_Alive() {
	srv := oauthtest.New(oauthtest.Options{})
	old := srv.Login("alice")
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, srv.Client())
	spend := func(refreshToken string) (*oauth2.Token, error) {
		return srv.OAuth2().TokenSource(ctx, &oauth2.Token{RefreshToken: refreshToken}).Token()
	}

	tok, err := spend(old.RefreshToken)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("old:", srv.Alive(old.RefreshToken), "new:", srv.Alive(tok.RefreshToken))

	var refused *oauth2.RetrieveError
	_, err = spend(old.RefreshToken)
	fmt.Println("again:", errors.As(err, &refused) && refused.ErrorCode == "invalid_grant")
	fmt.Println("new:", srv.Alive(tok.RefreshToken))
	// Output:
	// old: false new: true
	// again: true
	// new: false
}

func ExampleServer_Start() {
	srv := oauthtest.New(oauthtest.Options{})
	stop := srv.Start()
	defer stop()

	resp, err := http.Get(srv.APIURL("hello")) // any client of any process
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status, resp.Header.Get("WWW-Authenticate"))
	// Output: 401 Unauthorized Bearer realm="oauthtest"
}

// The answer to a refresh is lost on its way: the log knows.
func ExampleServer_Log() {
	srv := oauthtest.New(oauthtest.Options{})
	srv.Token.Next(oauthtest.LoseAnswer())
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, srv.Client())
	old := &oauth2.Token{RefreshToken: srv.Login("alice").RefreshToken}

	_, err := srv.OAuth2().TokenSource(ctx, old).Token()
	fmt.Println("refresh failed:", err != nil)
	e := srv.Log()[0]
	fmt.Println(e.Outcome, "generation", e.Generation, "to", e.NewGeneration, "answered:", !e.AnswerWritten.IsZero())
	// Output:
	// refresh failed: true
	// granted generation 1 to 2 answered: false
}

// An API behind a proxy that sends browsers to a login page: a careless client
// takes the page for the answer.
func ExampleFault_IfRefused() {
	srv := oauthtest.New(oauthtest.Options{})
	srv.API.Always(oauthtest.Redirect(http.StatusFound, "/login").IfRefused())
	tok := srv.Login("alice")
	client := srv.OAuth2().Client(context.WithValue(context.Background(), oauth2.HTTPClient, srv.Client()), tok)

	for range 2 {
		resp, err := client.Get(srv.APIURL("hello"))
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
		fmt.Println(resp.Status, resp.Header.Get("Content-Type"))
		srv.RevokeAccess(tok.AccessToken)
	}
	// Output:
	// 200 OK application/json
	// 200 OK text/html; charset=utf-8
}

// A client gives up while its refresh is held, after it has taken effect.
func ExampleGate() {
	srv := oauthtest.New(oauthtest.Options{})
	gate := oauthtest.NewGate()
	srv.Token.Next(oauthtest.Fault{AfterCommit: gate.Hold})
	old := srv.Login("alice").RefreshToken

	ctx, giveUp := context.WithCancel(context.WithValue(context.Background(), oauth2.HTTPClient, srv.Client()))
	go func() {
		<-gate.Arrived()
		giveUp()
	}()
	_, err := srv.OAuth2().TokenSource(ctx, &oauth2.Token{RefreshToken: old}).Token()
	fmt.Println("canceled:", errors.Is(err, context.Canceled))
	fmt.Println("spent:", !srv.Alive(old))
	// Output:
	// canceled: true
	// spent: true
}

// A program logs its user in: it listens on the loopback interface, opens the
// browser, and redeems the code that the browser brings.
func ExampleServer_Browser() {
	srv := oauthtest.New(oauthtest.Options{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	conf, verifier := srv.OAuth2(), oauth2.GenerateVerifier()
	conf.Scopes = []string{"read"}
	conf.RedirectURL = "http://" + listener.Addr().String() + "/callback"

	codes := make(chan string, 1)
	program := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); q.Get("state") == "xyz" && q.Get("iss") == srv.BaseURL() {
			codes <- q.Get("code")
		}
	})}
	defer program.Close()
	go program.Serve(listener)

	resp, err := srv.Browser().Get(conf.AuthCodeURL("xyz", oauth2.S256ChallengeOption(verifier)))
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, srv.Client())
	tok, err := conf.Exchange(ctx, <-codes, oauth2.VerifierOption(verifier))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(tok.Type(), tok.Extra("scope"), srv.Alive(tok.RefreshToken))
	// Output: Bearer read true
}

// A device shows a code; its user approves elsewhere, and the next poll succeeds.
func ExampleServer_ApproveDevice() {
	srv := oauthtest.New(oauthtest.Options{})
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, srv.Client())
	login, err := srv.OAuth2().DeviceAuth(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("go to", login.VerificationURI, "within", time.Until(login.Expiry).Round(time.Minute))
	fmt.Println("approved:", srv.ApproveDevice(login.UserCode, "alice"))

	poll := url.Values{
		"grant_type":  {"urn:ietf:params:oauth:grant-type:device_code"},
		"device_code": {login.DeviceCode}, "client_id": {"client"},
	}
	resp, err := srv.Client().PostForm(srv.TokenURL(), poll)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	e := srv.LogOf(oauthtest.TokenEndpoint)[0]
	fmt.Println(e.Outcome, "to", e.Subject)
	// Output:
	// go to https://oauth.test/login within 10m0s
	// approved: true
	// granted to alice
}
