package openid

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken/internal/endpoint"
	"golang.org/x/oauth2"
)

// Claims are what an ID token tells (OpenID Connect Core sections 2 and 5.1). What
// it does not tell is empty. It prints as the issuer alone, since the rest is
// about a person.
type Claims struct {
	Issuer  string
	Subject string // who it is: never given to anybody else by the same issuer

	Name              string
	PreferredUsername string // for people to see; it may change, and be anybody's
	Email             string
	EmailVerified     bool // the issuer vouches for Email

	IssuedAt, Expiry time.Time
	AuthTime         time.Time // when the person has proved who they are; zero if unknown

	audience  []string
	azp       string
	nonce     string
	hash      string
	notBefore time.Time
	payload   []byte
}

// ClaimsOf returns what the ID token in tok tells, which is one that
// Source.Token or login.Ensure has returned: the newest that the session was
// given, whether or not it has expired since. It asks nobody, and checks nothing
// again: with Config.IDTokens, what a login or a refresh has brought was checked
// when it came. Errors: ErrMissing, ErrMalformed.
func ClaimsOf(tok *oauth2.Token) (*Claims, error) {
	if tok == nil {
		return nil, fail(ErrMissing, "there is no token")
	}
	raw, _ := tok.Extra("id_token").(string)
	if raw == "" {
		return nil, fail(ErrMissing, "ask for one at the login, by the scope openid")
	}
	return readClaims(raw)
}

// Decode stores all claims in what into points to, as json.Unmarshal does, for
// those that have no field here.
func (c *Claims) Decode(into any) error {
	if err := json.Unmarshal(c.payload, into); err != nil {
		return fail(ErrMalformed, "a claim is of another type than the program expects: %w", err)
	}
	return nil
}

// Format implements fmt.Formatter.
func (c *Claims) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.describe()) }

// LogValue implements slog.LogValuer.
func (c *Claims) LogValue() slog.Value { return slog.StringValue(c.describe()) }

func (c *Claims) describe() string {
	if c == nil {
		return "openid.Claims(nil)"
	}
	return fmt.Sprintf("openid.Claims{Issuer: %q}", show(c.Issuer))
}

// readClaims reads the claims of an ID token and trusts nothing.
func readClaims(raw string) (*Claims, error) {
	parts := strings.Split(raw, ".")
	if len(parts) == 5 {
		return nil, fail(ErrMalformed, "it is encrypted: have the client registered for signed ID tokens")
	}
	var payload []byte
	err := fmt.Errorf("it has %d parts", len(parts))
	if len(parts) == 3 {
		payload, err = base64.RawURLEncoding.DecodeString(parts[1])
	}
	if err != nil {
		return nil, fail(ErrMalformed, "it is no signed JWT: ask the server's operator")
	}
	r := claimReader{all: make(map[string]json.RawMessage)}
	if r.repeated, err = endpoint.Object(payload, r.all); err != nil {
		return nil, fail(ErrMalformed, "its claims are no JSON object: ask the server's operator")
	}
	c := &Claims{payload: payload,
		Issuer: r.text("iss", true), Subject: r.text("sub", true), audience: r.audience(),
		Expiry: r.time("exp", true), IssuedAt: r.time("iat", true), AuthTime: r.time("auth_time", false),
		notBefore: r.time("nbf", false), nonce: r.text("nonce", false), azp: r.text("azp", false), hash: r.text("at_hash", false)}
	if r.err != nil {
		return nil, r.err
	}
	// These are for people to see. Some servers get their types wrong.
	c.Name, _ = endpoint.Text(r.all["name"])
	c.PreferredUsername, _ = endpoint.Text(r.all["preferred_username"])
	c.Email, _ = endpoint.Text(r.all["email"])
	c.EmailVerified = string(r.all["email_verified"]) == "true" && !r.repeated["email_verified"] && !r.repeated["email"]
	return c, nil
}

// A claimReader reads claims by their exact names, and keeps the first error.
type claimReader struct {
	all      map[string]json.RawMessage
	repeated map[string]bool
	err      error
}

// get returns a claim; nil if it is not there.
func (r *claimReader) get(name string, required bool) json.RawMessage {
	raw := r.all[name]
	if string(raw) == "null" {
		raw = nil
	}
	switch {
	case r.repeated[name]:
		r.fail(name, "stands there twice")
	case raw == nil && required:
		r.fail(name, "is missing")
	}
	return raw
}

func (r *claimReader) fail(name, how string) {
	if r.err == nil {
		r.err = fail(ErrMalformed, "its claim %s %s: ask the server's operator", name, how)
	}
}

func (r *claimReader) text(name string, required bool) string {
	raw := r.get(name, required)
	s, ok := endpoint.Text(raw)
	if raw != nil && (!ok || s == "") {
		r.fail(name, "is no string, or empty")
	}
	return s
}

// time reads a number of seconds since 1970, which may have a fraction.
func (r *claimReader) time(name string, required bool) (t time.Time) {
	raw := r.get(name, required)
	if raw == nil {
		return t
	}
	var n float64
	if json.Unmarshal(raw, &n) != nil || n < 0 || n > maxTime {
		r.fail(name, "is no time")
		return t
	}
	whole, part := math.Modf(n)
	return time.Unix(int64(whole), int64(part*float64(time.Second)))
}

// maxTime is a time that no program lives to see; some servers write as much for
// "never".
const maxTime = 1 << 53

// audience reads a string, or a list of them.
func (r *claimReader) audience() (all []string) {
	raw := r.get("aud", true)
	if s, ok := endpoint.Text(raw); ok {
		return []string{s}
	}
	if raw != nil && json.Unmarshal(raw, &all) != nil {
		r.fail("aud", "is no string, and no list of strings")
	}
	return all
}
