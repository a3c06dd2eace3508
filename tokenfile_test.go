package freshtoken

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

var fileWritten = time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)

func TestTokenFiles(t *testing.T) {
	at := func(s string) time.Time {
		parsed, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	type want struct {
		access, client, uri, scope string
		expiry                     time.Time
	}
	const uri = "https://as.test/token"
	wants := map[string]want{
		"go-quickstart":      {access: "access-1", expiry: at("2031-05-06T05:08:09.123456789Z")},
		"go-with-expires-in": {access: "access-1", expiry: at("2031-05-06T07:08:09Z")},
		"go-without-expiry":  {access: "access-1"},
		"token-response":     {access: "access-1", expiry: fileWritten.Add(3599 * time.Second), scope: "files mail"},
		"python-quickstart":  {access: "access-1", client: "client", uri: uri, scope: "files mail", expiry: at("2031-05-06T05:08:09.123456Z")},
		"python-with-zone":   {access: "access-1", client: "client", uri: uri, scope: "files", expiry: at("2031-05-06T05:08:09.123456Z")},
		"python-expired":     {client: "client", uri: uri},
		"gcloud-adc":         {client: "client"},
	}
	for name, want := range wants {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("testdata", "tokenfiles", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			for _, data := range []string{string(data), "\xef\xbb\xbf" + string(data)} { // some editors mark UTF-8
				f, err := parseTokenFile([]byte(data), fileWritten)
				if err != nil {
					t.Fatal(err)
				}
				scope, _ := f.token.Extra("scope").(string)
				if f.token.AccessToken != want.access || f.token.RefreshToken != "refresh-1" || f.clientID != want.client || f.tokenURI != want.uri || scope != want.scope {
					t.Errorf("got %+v", f)
				}
				if !f.token.Expiry.Equal(want.expiry) {
					t.Errorf("expires %v, want %v", f.token.Expiry, want.expiry)
				}
			}
		})
	}
}

// What a file is refused with never shows a piece of it.
var fileErrors = regexp.MustCompile(`^a token that cannot be used: (the file (is not a JSON object|has a member twice|has neither an access token nor a refresh token|is the key of a service account, which is no session: leave it where it is, and use it as it is meant)|the file's member (type|access_token|refresh_token|token|token_type|client_id|token_uri|expiry) is not a string|the file's member expires_in is not a number|the file's member expiry is not a time|the token's type is not Bearer)$`)

func TestBadTokenFiles(t *testing.T) {
	files := map[string]string{
		"not a JSON object": `["access_token"]`, "a JSON object": "", "JSON object": `{"access_token":"hush`, "is not a JSON": `{"access_token":"hush"} x`,
		"member twice": `{"access_token":"hush","access_token":"hush2"}`, "neither": `{"access_token":"","refresh_token":null}`,
		"member token is not a string": `{"token":{"access_token":"hush"}}`, "member refresh_token is": `{"access_token":"hush","refresh_token":["hush"]}`,
		"type is not Bearer": `{"access_token":"hush","token_type":"hush"}`, "expiry is not a time": `{"access_token":"hush","expiry":"hush"}`,
		"expiry is not a string": `{"access_token":"hush","expiry":12}`, "expires_in is not a number": `{"access_token":"hush","expires_in":"hush"}`,
		"member client_id is": `{"access_token":"hush","client_id":1}`, "member token_uri is": `{"access_token":"hush","token_uri":{}}`,
	}
	for name, content := range map[string]string{"service account": "service-account", "an access token nor": "client-secret"} {
		data, err := os.ReadFile(filepath.Join("testdata", "tokenfiles", content+".json"))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(data)
	}
	for want, content := range files {
		_, err := parseTokenFile([]byte(content), fileWritten)
		if !errors.Is(err, ErrBadToken) || !strings.Contains(fmt.Sprint(err), want) || !fileErrors.MatchString(err.Error()) {
			t.Errorf("%s: got %v, want %q in it", content, err, want)
		}
	}
}

func FuzzTokenFile(f *testing.F) {
	samples, err := filepath.Glob(filepath.Join("testdata", "tokenfiles", "*.json"))
	if err != nil || len(samples) < 10 {
		f.Fatalf("%d samples: %v", len(samples), err)
	}
	for _, path := range samples {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"access_token":"a","expires_in":1e300,"expiry":"9999-12-31T23:59:59+23:59"}`))
	f.Add([]byte(`{"access_token":"a","expires_in":-1,"expiry":"0000-01-01T00:00:00"}`))
	s, err := New(Config{OAuth2: &oauth2.Config{ClientID: "client", Endpoint: oauth2.Endpoint{TokenURL: "https://as.test/token"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parseTokenFile(data, fileWritten)
		if err != nil {
			if !errors.Is(err, ErrBadToken) || !fileErrors.MatchString(err.Error()) {
				t.Fatalf("the error may show a piece of the file: %v", err)
			}
			return
		}
		if file.token.AccessToken == "" && file.token.RefreshToken == "" {
			t.Fatal("there is no token")
		}
		r, err := s.imported(file)
		if err != nil {
			if !errors.Is(err, ErrBadToken) && !errors.Is(err, ErrMismatch) {
				t.Fatal(err)
			}
			return
		}
		// What is stored is what was read.
		data, err = r.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeRecord(data)
		if err != nil || !again.sameTokens(r) || again.Lifetime != r.Lifetime || again.AccessToken != file.token.AccessToken || again.RefreshToken != file.token.RefreshToken {
			t.Fatalf("%+v became %+v: %v", r, again, err)
		}
	})
}
