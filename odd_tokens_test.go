package freshtoken_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// Who wants a refresh sets the expiry to the beginning of time. Such a token does not
// come back to life in the store.
func TestExpiredSinceTheBeginning(t *testing.T) {
	for _, expiry := range []time.Time{time.Unix(0, 0), time.Unix(1, 0), time.Time{}.Add(1), time.Unix(-1e9, 0)} {
		inBubble(t, fmt.Sprintf("SetToken, %d", expiry.Unix()), func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{})
			tok := w.as.Login("alice")
			w.as.RevokeAccess(tok.AccessToken)
			tok.Expiry, tok.ExpiresIn = expiry, 0
			one := w.source()
			if err := one.SetToken(t.Context(), tok); err != nil {
				t.Fatal(err)
			}
			one.Close()
			w.usable(w.source())
		})
	}
	inBubble(t, "Import", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		tok := w.as.Login("alice")
		w.as.RevokeAccess(tok.AccessToken)
		path := filepath.Join(t.TempDir(), "token.json")
		file := fmt.Sprintf(`{"access_token":%q,"refresh_token":%q,"token_type":"Bearer","expiry":"1970-01-01T00:00:00Z"}`, tok.AccessToken, tok.RefreshToken)
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		src := w.source()
		if err := src.Import(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		src.Close()
		w.usable(w.source())
	})
}

// Whatever stands in an answer, what is stored of it can be read again.
func TestDeepMembers(t *testing.T) {
	for _, member := range []string{
		strings.Repeat("[", 9999) + strings.Repeat("]", 9999),
		strings.Repeat(`{"\"":`, 9990) + "1" + strings.Repeat("}", 9990),
		strings.Repeat("[", 900) + `"[[[{{\\"` + strings.Repeat("]", 900),
	} {
		inBubble(t, fmt.Sprintf("%d bytes", len(member)), func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{})
			src := w.loggedIn()
			w.as.Token.Next(oauthtest.SetMember("odd", member))
			tok, err := src.Refresh(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if kept, want := tok.Extra("odd") != nil, strings.HasPrefix(member, strings.Repeat("[", 900)+`"`); kept != want {
				t.Errorf("the member is kept: %t", kept)
			}
			src.Close()
			if got := w.token(w.source()); got.AccessToken != tok.AccessToken {
				t.Error("another token")
			}
		})
	}
}

// A token that stands where its type ought to be is in no error.
func TestTokenTypeThatIsAToken(t *testing.T) {
	for _, member := range []string{"access_token", "refresh_token"} {
		inBubble(t, member, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{})
			src := w.loggedIn()
			var secret string
			w.as.Token.Next(oauthtest.Edit("confused", func(a *oauthtest.Answer) {
				value := string(a.Members.Get(member))
				secret = strings.Trim(value, `"`)
				oauthtest.SetMember("token_type", value).Edit(a)
			}))
			_, err := src.Refresh(t.Context(), nil)
			wantErr(t, err, freshtoken.ErrBadToken)
			if text := fmt.Sprint(err); secret == "" || strings.Contains(text, secret[:8]) {
				t.Errorf("the error has %d bytes, and the token is in it", len(text))
			}
		})
	}
	inBubble(t, "another type is named", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn()
		w.as.Token.Next(oauthtest.SetMember("token_type", `"mac"`))
		if _, err := src.Refresh(t.Context(), nil); !errors.Is(err, freshtoken.ErrBadToken) || !strings.Contains(err.Error(), `"mac"`) {
			t.Errorf("got %v", err)
		}
	})
}
