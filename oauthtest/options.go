package oauthtest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Options says what kind of server New makes. The zero value is the strictest
// sensible one: a public client, tokens of an hour, a new refresh token at
// every refresh, and the end of the whole session when a spent one is shown.
type Options struct {
	// BaseURL is scheme and host of the server, without a path. Empty means
	// "https://oauth.test". Start replaces it.
	BaseURL string

	// ClientID names the client; empty means "client".
	ClientID string

	// ClientSecret is the client's secret. Empty makes the client public: it
	// sends client_id in the body and nothing else.
	ClientSecret string

	// ClientAuth has the client authenticate by an assertion, or by a
	// certificate.
	ClientAuth ClientAuth

	// OtherClients are further clients, by their IDs, each with its secret or
	// with "" if it is public. A code or token serves the client that it was
	// issued to, and no other. Login issues to the client of ClientID.
	OtherClients map[string]string

	// AccessLifetime is how long an access token serves; 0 means one hour.
	// The answer's expires_in is this, truncated to whole seconds.
	AccessLifetime time.Duration

	// RefreshLifetime is how long a refresh token may wait for its use,
	// counted anew for every token; 0 means without end. If it is set, the
	// answer states it as refresh_token_expires_in.
	RefreshLifetime time.Duration

	// Rotation says what becomes of a refresh token that is used.
	Rotation Rotation

	// Grace is how long after its use a spent refresh token may be shown
	// again with impunity, provided that its successor has not been used.
	// Only Rotate looks at it. 0 means not at all.
	Grace time.Duration

	// GraceMode says what a token shown again within Grace yields.
	GraceMode GraceMode

	// KillOldAccess makes all older access tokens of a session die when a
	// refresh succeeds, whether or not the answer arrives.
	KillOldAccess bool

	// RedirectURIs are those that a login may name: absolute, without a
	// fragment. It must name one of them to the letter; only the port of
	// http://127.0.0.1 and http://[::1] is the client's to choose (RFC 8252,
	// section 7.3). Nil means http://127.0.0.1/callback and
	// http://[::1]/callback. They hold for all clients.
	RedirectURIs []string

	// Scopes are those that a login may ask for; the metadata lists them.
	// Nil allows any, and lists none.
	Scopes []string

	// Resources are those that a client may ask for by the parameter resource
	// (RFC 8707): absolute URIs without a fragment. It must name them to the
	// letter. Nil allows any.
	Resources []string

	// OfflineAccess says which logins yield a refresh token.
	OfflineAccess OfflineAccess

	// CodeLifetime is how long an authorization code serves; 0 means one
	// minute.
	CodeLifetime time.Duration

	// RequirePushed has every login by browser begin at the pushed authorization
	// request endpoint (RFC 9126); the metadata says so. Otherwise a login may.
	RequirePushed bool

	// PushedLifetime is how long a request_uri serves; 0 means one minute. The
	// answer's expires_in is this, truncated to whole seconds.
	PushedLifetime time.Duration

	// DeviceLifetime is how long the codes of a device login serve; 0 means
	// ten minutes. The answer's expires_in is this, truncated to whole
	// seconds.
	DeviceLifetime time.Duration

	// PollInterval is how much time a client must let pass between two polls
	// of a device login; 0 means five seconds. The answer's interval is this,
	// rounded up to whole seconds. Device.Always(OmitMember("interval")) leaves
	// it out of the answer.
	PollInterval time.Duration

	// OmitIss leaves iss out of the answers of the authorization endpoint, and
	// says so in the metadata, as servers do that do not know RFC 9207.
	OmitIss bool

	// IDTokens is the algorithm by which ID tokens are signed: RS256, ES256 or
	// EdDSA. A login with the scope openid then yields one, and so do its
	// refreshes (OpenID Connect Core). Empty: there are none.
	IDTokens string

	// Grants are further ways to have tokens: assertions and token exchange.
	Grants Grants

	// Metadata says where the server's metadata is.
	Metadata MetadataPlace
}

// redacted is Options without its methods and its secrets.
func (o Options) redacted() any {
	type plain Options
	o.ClientSecret = hidden(o.ClientSecret)
	o.OtherClients = maps.Clone(o.OtherClients)
	for id, secret := range o.OtherClients {
		o.OtherClients[id] = hidden(secret)
	}
	return plain(o)
}

func hidden(secret string) string {
	if secret == "" {
		return ""
	}
	return "[redacted]"
}

// Format implements fmt.Formatter without showing a client secret.
func (o Options) Format(f fmt.State, verb rune) {
	fmt.Fprintf(f, fmt.FormatString(f, verb), o.redacted())
}

// MarshalJSON implements json.Marshaler without showing a client secret.
func (o Options) MarshalJSON() ([]byte, error) { return json.Marshal(o.redacted()) }

// LogValue implements slog.LogValuer without showing a client secret.
func (o Options) LogValue() slog.Value { return slog.AnyValue(o.redacted()) }

var (
	_ fmt.Formatter  = Options{}
	_ json.Marshaler = Options{}
	_ slog.LogValuer = Options{}
)

// Rotation is what happens to a refresh token when it is used.
type Rotation int

const (
	// Rotate issues a new refresh token at every refresh. Showing a spent
	// one kills its family: every refresh and access token of the session.
	Rotate Rotation = iota
	// RotateLenient issues a new refresh token at every refresh and leaves
	// the old ones alive.
	RotateLenient
	// NoRotation keeps the refresh token and leaves it out of the answer.
	NoRotation
	// SameToken keeps the refresh token and repeats it in the answer.
	SameToken
)

// GraceMode is what a spent refresh token yields within Options.Grace. The
// access token is a new one in every mode.
type GraceMode int

const (
	// GraceSame yields the refresh token that its first use yielded.
	GraceSame GraceMode = iota
	// GraceNew yields another refresh token; the first successor stays alive.
	GraceNew
	// GraceReplace yields another refresh token and withdraws the first
	// successor: showing that one afterwards is reuse.
	GraceReplace
)

// OfflineAccess says which logins yield a refresh token. It concerns logins by
// code and by device; Server.Login always yields one.
type OfflineAccess int

const (
	// OfflineAlways gives every login a refresh token.
	OfflineAlways OfflineAccess = iota
	// OfflineByScope gives one to a login that is granted the scope
	// offline_access (OpenID Connect Core, section 11).
	OfflineByScope
	// OfflineByParam gives one to a login that asks with the parameter
	// access_type=offline.
	OfflineByParam
)

// MetadataPlace says under which path the server describes itself.
type MetadataPlace int

const (
	// MetadataEverywhere is both of the places below, with one document.
	MetadataEverywhere MetadataPlace = iota
	// MetadataOAuth is /.well-known/oauth-authorization-server (RFC 8414).
	MetadataOAuth
	// MetadataOpenID is /.well-known/openid-configuration (OpenID Connect
	// Discovery). The document promises no ID tokens unless Options.IDTokens
	// is set.
	MetadataOpenID
	// MetadataNowhere answers 404 under both.
	MetadataNowhere
)

// complete fills in what is left out, and copies what the caller could change.
func (o Options) complete() Options {
	o.BaseURL = cmp.Or(o.BaseURL, "https://oauth.test")
	o.ClientID = cmp.Or(o.ClientID, "client")
	o.AccessLifetime = cmp.Or(o.AccessLifetime, time.Hour)
	o.CodeLifetime = cmp.Or(o.CodeLifetime, time.Minute)
	o.PushedLifetime = cmp.Or(o.PushedLifetime, time.Minute)
	o.DeviceLifetime = cmp.Or(o.DeviceLifetime, 10*time.Minute)
	o.PollInterval = cmp.Or(o.PollInterval, 5*time.Second)
	o.completeAuth()
	o.completeGrants()
	if o.IDTokens != "" && idTokenKeys[o.IDTokens] == nil {
		panic("oauthtest: Options.IDTokens is none of the algorithms that the server knows")
	}
	o.OtherClients = maps.Clone(o.OtherClients)
	o.Scopes = slices.Clone(o.Scopes)
	o.Resources = slices.Clone(o.Resources)
	if slices.ContainsFunc(o.Resources, func(uri string) bool { return !absolute(uri) }) {
		panic("oauthtest: Options.Resources must be absolute URIs without a fragment")
	}
	if o.RedirectURIs == nil {
		o.RedirectURIs = []string{"http://127.0.0.1/callback", "http://[::1]/callback"}
	}
	o.RedirectURIs = slices.Clone(o.RedirectURIs)
	for _, uri := range o.RedirectURIs {
		if u, err := url.Parse(uri); err != nil || u.Scheme == "" || strings.Contains(uri, "#") {
			panic("oauthtest: Options.RedirectURIs must be absolute and without a fragment")
		}
	}
	return o
}

// secretOf returns the secret of a client, and whether there is such a client.
func (o *Options) secretOf(id string) (secret string, ok bool) {
	if id == o.ClientID {
		return o.ClientSecret, true
	}
	secret, ok = o.OtherClients[id]
	return secret, ok
}
