package interop_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/freshtoken/freshtoken"
)

// A token that may do less, from the same session: for all scopes but the last.
func (x *subject) showTarget() string {
	src, _ := x.session(x.login())
	own, err := src.Token(x.t.Context())
	if err != nil {
		x.t.Fatal(err)
	}
	narrow, err := src.For(freshtoken.Target{Scopes: x.app.Scopes[:len(x.app.Scopes)-1]})
	if err != nil {
		x.t.Fatal(err)
	}
	tok, err := narrow.Token(x.t.Context())
	var said string
	switch e := new(freshtoken.RefreshError); {
	case errors.Is(err, freshtoken.ErrNotGranted) && errors.As(err, &e):
		said = fmt.Sprintf("%d %s: ErrNotGranted", e.Status, e.Code)
	case err != nil:
		x.t.Fatalf("a narrower access token: %v", err)
	default:
		if tok.AccessToken == own.AccessToken {
			x.t.Error("the narrower access token is the session's own")
		}
		scope, _ := tok.Extra("scope").(string)
		words := strings.Fields(scope)
		slices.Sort(words)
		if said = "with the scopes " + strings.Join(words, " "); scope == "" {
			said = "of which the answer names no scope"
		}
	}
	said += "; " + strings.Replace(x.lives(own), "the access token", "the session's own", 1)
	x.refreshed(src) // the session goes on, whatever that was
	if err == nil {
		if _, err := narrow.Refresh(x.t.Context(), tok); err != nil {
			x.t.Errorf("the narrower access token, a second time: %v", err)
		}
	}
	x.refreshed(src)
	x.wantWhole()
	return said
}
