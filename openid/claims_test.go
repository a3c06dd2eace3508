package openid_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/openid"
	"golang.org/x/oauth2"
)

func token(idToken any) *oauth2.Token {
	return (&oauth2.Token{AccessToken: access}).WithExtra(map[string]any{"id_token": idToken})
}

func TestClaimsOf(t *testing.T) {
	srv := newServer(oauthtest.Options{})
	c, err := openid.ClaimsOf(token(sign(with(good(srv), claims{"exp": 1, "name": "Alice", "email": "a@example.com", "email_verified": "true",
		"preferred_username": 7, "groups": []string{"x"}}))))
	if err != nil || c.Subject != "alice-4711" || c.Name != "Alice" || c.Email != "a@example.com" || c.PreferredUsername != "" || c.Expiry.Unix() != 1 {
		t.Fatalf("%v, error %v", c, err)
	}
	if c.EmailVerified {
		t.Error("a text vouches for the address")
	}
	var more struct{ Groups []string }
	if err := c.Decode(&more); err != nil || len(more.Groups) != 1 {
		t.Errorf("%v, error %v", more, err)
	}
	if err := c.Decode(&struct{ Groups int }{}); !errors.Is(err, openid.ErrMalformed) {
		t.Errorf("got error %v", err)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "c", c)
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s", c, c, c, c), log.String()} {
		if strings.Contains(text, "alice") || strings.Contains(text, "a@example.com") || !strings.Contains(text, "oauth.test") {
			t.Errorf("it prints as %s", text)
		}
	}
	for _, none := range []*oauth2.Token{nil, {AccessToken: "x"}, token(""), token(7)} {
		_, err := openid.ClaimsOf(none)
		wantErr(t, err, openid.ErrMissing)
	}
	_, err = openid.ClaimsOf(token("gibberish"))
	wantErr(t, err, openid.ErrMalformed)
}
