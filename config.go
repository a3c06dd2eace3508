package freshtoken

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/freshtoken/freshtoken/internal/endpoint"
	"golang.org/x/oauth2"
)

// Config says whose session a Source keeps, where it is stored and how it is
// refreshed. New copies it. It prints without its secrets.
type Config struct {
	// OAuth2 is the client and the server's endpoints. ClientID and
	// Endpoint.TokenURL are required, unless Refresher is set. AuthStyle says
	// how the client authenticates; AuthStyleAutoDetect means client_id in the
	// body without a secret, HTTP Basic with one. The Source never tries one
	// after the other. RedirectURL and AuthURL play no part in keeping a session;
	// by Scopes, Source.For knows what logins ask for.
	OAuth2 *oauth2.Config

	// Store keeps the session. Nil: memory only; the session ends with the
	// program.
	Store Store

	// Session is the name of the session among those of this client: an
	// account, for instance. Empty means "default".
	Session string

	// Issuer is the authorization server's issuer identifier (RFC 8414
	// section 2). Empty means that the token URL takes its place. Stored
	// sessions are bound to it, and to the ClientID: a program that changes
	// either finds nobody logged in.
	Issuer string

	// RequireIss refuses the answers of the authorization endpoint that do not
	// name the Issuer, which must be set. Set it where the server's metadata has
	// authorization_response_iss_parameter_supported (RFC 9207 section 2.4). It
	// plays a part in a login only, as do RedirectURL and AuthURL. An answer that
	// names another issuer than the one that is set is refused in any case.
	RequireIss bool

	// ClientAuth proves which client this is, in place of OAuth2.ClientSecret,
	// which must be empty then; AuthStyle and PlainBasicAuth play no part. See
	// package clientauth: assertions signed with a key, and client certificates.
	// Nil: AuthStyle tells.
	ClientAuth ClientAuthenticator

	// RevocationURL is where Logout revokes the tokens (RFC 7009). Empty:
	// Logout ends the session here only.
	RevocationURL string

	// PushedAuthorizationURL is where a login by browser leaves its parameters
	// before it begins (RFC 9126), so that they do not travel through the browser.
	// Empty: they do. discovery.Configure sets it where the server requires it; set
	// it where only the client's registration there does. It plays a part in a
	// login only.
	PushedAuthorizationURL string

	// HTTPClient talks to the authorization server. Nil means a client over
	// http.DefaultTransport. Its Timeout holds beside the 30 seconds that
	// every refresh has; its CheckRedirect does not: redirects are not
	// followed. It must not send a request again by itself, as clients that
	// retry do: many servers end the session when they see a refresh token
	// twice. Requests have a GetBody that works only until the body has been
	// read, so that net/http sends none twice. No connection is kept after a
	// request.
	HTTPClient *http.Client

	// Refresher replaces the refresh_token grant, for sessions that have their
	// tokens in another way: see package grant. Nil: that grant.
	Refresher Refresher

	// Reauthenticate, if not nil, has a person log in when somebody needs a
	// token and nobody is logged in, or the session has ended; see
	// [Source.Authenticate], and package login for ways to do so. Who needs
	// the token waits, as long as its context allows; the login goes on
	// without. After one that failed, nobody is asked for a minute; one that asks
	// a server alone, and fails with a Temporary RefreshError, is asked again after
	// its RetryAfter, or a pause that grows from a second to a minute. A request
	// whose token an API has rejected is not sent again under another login.
	Reauthenticate Authenticator

	// IDTokens, if not nil, checks the ID token that a login of package login, or
	// a refresh, brings, before anything of the answer is used; see package
	// openid. It needs the Issuer. A refresh whose ID token is another person's,
	// or otherwise wrong, is refused: the session goes on as it was, if it can,
	// and counts as ended otherwise (ErrSessionEnded, RefreshError.Uncertain).
	// Tokens that SetToken and Import are given are not checked: whoever has
	// them has done so.
	IDTokens IDTokenVerifier

	// EndSession, if not nil, is called by Logout once the session is over
	// here, to end it in the person's browser, too: see BrowserLogout of
	// package login. It gets the session's newest ID token, or "".
	EndSession func(ctx context.Context, cfg Config, idToken string) error

	// RefreshParams are further parameters for every refresh, such as resource
	// or audience, which alone may have several values. None may be empty, nor
	// one that RFC 6749 gives the client: grant_type, refresh_token, client_id,
	// client_secret, client_assertion, client_assertion_type, scope, state.
	RefreshParams url.Values

	// LoginParams are further parameters of the authorization request, or of the
	// device authorization request. They win over the Params of package login, and
	// play a part in a login only. StepUp adds acr_values and max_age.
	LoginParams url.Values

	// Lead is how long before expiry a refresh is due; it counts as half the
	// lifetime at most. Zero: what the server hints at (refresh_in), else a
	// fifth of the lifetime, at most five minutes.
	Lead time.Duration

	// Background refreshes the session when it is due, without anybody
	// asking and without anybody waiting, for services and desktop programs.
	// Call Close to end it. False: one of the callers who ask for a token
	// when a refresh is due waits for it, for two seconds at most, so that a
	// short-lived program does not end with a refresh in the air. It begins no
	// session: a first token of a Refresher is had when somebody asks for it.
	Background bool

	// KeepAlive also refreshes when the refresh token is about to expire, though
	// the access token is fresh or nobody knows how long it lives: for servers
	// that end a session which is idle. With Background that needs nobody to ask;
	// without, it takes somebody who asks in the last fifth of the refresh
	// token's life, two days at most, or sooner if that is short. It does nothing where the server
	// does not say how long a refresh token lives (Status.RefreshExpiry), for one
	// that lives less than a minute, and where a refresh has not put off the end.
	KeepAlive bool

	// OnEvent, if not nil, is told what happens to the session: one event at
	// a time, in order, with nothing locked. It may use the Source, but should
	// not block, because the goroutine that called it has work to do.
	OnEvent func(Event)

	// OnAttempt, if not nil, is told what each attempt to refresh, adopt or save
	// the session took, once it is over: for metrics and traces. It is called in
	// turn with OnEvent, and like it. See the module otel, which is an adapter
	// for OpenTelemetry. Requests that find a valid token make no attempt.
	OnAttempt func(Attempt)

	// AcceptFormEncoded also understands token responses that are not JSON
	// but form-encoded.
	AcceptFormEncoded bool

	// AssumeBearer takes a token response without a token_type for one of
	// type Bearer. RFC 6749 section 5.1 requires the member.
	AssumeBearer bool

	// PlainBasicAuth sends ClientID and ClientSecret as they are with HTTP
	// Basic, for servers that do not decode them as RFC 6749 section 2.3.1
	// demands.
	PlainBasicAuth bool

	// InsecureUnsaved goes on refreshing when the store cannot be locked or
	// written. With a server that rotates refresh tokens, the stored session
	// is then lost as soon as the program ends. It is meant for stores that are
	// read-only, which one of storage.NewFile cannot be, with a server that does
	// not rotate.
	InsecureUnsaved bool

	// InsecureHTTP allows a TokenURL, a RevocationURL and a
	// PushedAuthorizationURL with http to a host that is not this one. The refresh
	// token and the client's secret travel in the clear.
	InsecureHTTP bool
}

// check validates the Config and fills in what is left out. Errors are about
// the program, not about its user, and name the field.
func (c *Config) check() error {
	if c.OAuth2 == nil {
		return errors.New("freshtoken: Config.OAuth2 is nil: set it to the oauth2.Config of your client")
	}
	o := *c.OAuth2
	o.Scopes = slices.Clone(o.Scopes)
	c.OAuth2 = &o
	switch {
	case o.Endpoint.TokenURL == "" && c.Refresher == nil:
		return errors.New("freshtoken: Config.OAuth2.Endpoint.TokenURL is empty: set it to the server's token endpoint, or have discovery.Configure do so")
	case o.Endpoint.TokenURL == "" && c.Issuer == "" && c.Store != nil:
		return errors.New("freshtoken: Config.Issuer is empty: with a Refresher and no TokenURL, it says whose session is stored")
	case o.ClientID == "" && c.Refresher == nil:
		return errors.New("freshtoken: Config.OAuth2.ClientID is empty: set it to the identifier of your client at the server")
	case c.ClientAuth != nil && o.ClientSecret != "":
		return errors.New("freshtoken: Config has a ClientAuth, and Config.OAuth2 a ClientSecret: a client authenticates in one way (RFC 6749 section 2.3); leave the other out")
	case c.ClientAuth != nil && o.ClientID == "":
		return errors.New("freshtoken: Config.OAuth2.ClientID is empty: ClientAuth has to know whom to authenticate")
	case c.RequireIss && c.Issuer == "":
		return errors.New("freshtoken: Config.Issuer is empty: RequireIss has the answers to a login compared with it")
	case c.IDTokens != nil && c.Issuer == "":
		return errors.New("freshtoken: Config.Issuer is empty: IDTokens has the issuer of ID tokens compared with it")
	case c.Lead < 0:
		return fmt.Errorf("freshtoken: Config.Lead is negative (%v): it is how long before expiry to refresh; zero chooses", c.Lead)
	case !c.binding().valid():
		return errors.New("freshtoken: Config.Session, Config.Issuer, ClientID and, without an Issuer, Config.OAuth2.Endpoint.TokenURL must be valid UTF-8")
	}
	if o.Endpoint.TokenURL != "" {
		if err := c.checkURL("Config.OAuth2.Endpoint.TokenURL", o.Endpoint.TokenURL); err != nil {
			return err
		}
	}
	if c.RevocationURL != "" {
		if err := c.checkURL("Config.RevocationURL", c.RevocationURL); err != nil {
			return err
		}
	}
	if c.PushedAuthorizationURL != "" {
		if err := c.checkURL("Config.PushedAuthorizationURL", c.PushedAuthorizationURL); err != nil {
			return err
		}
	}
	if err := checkParams(c.RefreshParams); err != nil {
		return err
	}
	c.RefreshParams = cloned(c.RefreshParams)
	c.LoginParams = cloned(c.LoginParams)
	c.Session = cmp.Or(c.Session, defaultSession)
	return nil
}

const defaultSession = "default"

// checkURL checks an endpoint that will receive secrets.
func (c *Config) checkURL(field, raw string) error {
	if err := endpoint.CheckURL(raw, c.InsecureHTTP); err != nil {
		return fmt.Errorf("freshtoken: %s %w", field, err)
	}
	return nil
}

// checkParams enforces RFC 6749 section 3.2: no parameter without a value, none
// twice.
func checkParams(params url.Values) error {
	own := []string{"grant_type", "refresh_token", "client_id", "client_secret", "client_assertion", "client_assertion_type", "scope", "state"}
	for name, values := range params {
		if slices.Contains(own, name) {
			return fmt.Errorf("freshtoken: Config.RefreshParams has %q, which is not for the program to set", name)
		}
		if len(values) == 0 || slices.Contains(values, "") {
			return fmt.Errorf("freshtoken: Config.RefreshParams has %q without a value", name)
		}
		if len(values) > 1 && name != "resource" && name != "audience" {
			return fmt.Errorf("freshtoken: Config.RefreshParams has %q more than once", name)
		}
	}
	return nil
}

// cloned is a copy that shares nothing.
func cloned(params url.Values) url.Values {
	params = maps.Clone(params)
	for name, values := range params {
		params[name] = slices.Clone(values)
	}
	return params
}

func (c *Config) binding() binding {
	b := binding{Issuer: c.Issuer, ClientID: c.OAuth2.ClientID, Session: c.Session}
	if b.Issuer == "" {
		b.Issuer = c.OAuth2.Endpoint.TokenURL
	}
	return b
}

// valid reports whether b can be read back from JSON as it is.
func (b binding) valid() bool {
	return utf8.ValidString(b.Issuer) && utf8.ValidString(b.ClientID) && utf8.ValidString(b.Session)
}

// describe is what a Config shows of itself.
func (c Config) describe() string {
	var id, token string
	if c.OAuth2 != nil {
		id, token = c.OAuth2.ClientID, c.OAuth2.Endpoint.TokenURL
	}
	session := cmp.Or(c.Session, defaultSession)
	return fmt.Sprintf("freshtoken.Config{ClientID: %q, TokenURL: %q, Session: %q}", id, endpoint.WithoutQuery(token), session)
}

// Format implements fmt.Formatter: no verb shows the client's secret.
func (c Config) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.describe()) }

// MarshalJSON implements json.Marshaler, without the client's secret.
func (c Config) MarshalJSON() ([]byte, error) { return marshalString(c.describe()) }

// LogValue implements slog.LogValuer, without the client's secret.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.describe()) }
