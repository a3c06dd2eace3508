package login

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/endpoint"
	"github.com/freshtoken/freshtoken/internal/words"
)

// Errors to branch on, with errors.Is. None contains a code, a token or a
// secret. Those of a failed request to the server match none of them, but
// net/http's own.
var (
	// ErrNotInteractive: there is no terminal, and no Prompt, by which to reach
	// a person.
	ErrNotInteractive = errors.New("nobody can be asked to log in")

	// ErrTimeout: the person has not finished in time.
	ErrTimeout = errors.New("the login was not finished in time")

	// ErrState: answers came to the listener that belong to no login there,
	// and no other. It comes with ErrTimeout.
	ErrState = errors.New("only answers came that do not belong to this login")

	// ErrDenied: the person, or the server, refused (access_denied).
	ErrDenied = errors.New("the login was refused")

	// ErrServer: the server failed while it had the person log in
	// (server_error).
	ErrServer = errors.New("the server could not log anybody in")

	// ErrUnavailable: the server cannot log anybody in for the moment
	// (temporarily_unavailable).
	ErrUnavailable = errors.New("the server logs nobody in for the moment")

	// ErrExpired: the code that was shown for another device has expired.
	ErrExpired = errors.New("the code has expired")

	// ErrCallback: the server's answer by way of the browser is malformed.
	ErrCallback = errors.New("the server's answer cannot be read")

	// ErrIssuer: the answer came from another authorization server than the
	// login went to, or does not say from which (RFC 9207).
	ErrIssuer = errors.New("the answer is not from the server that was asked")

	// ErrPushed: the authorization request was pushed, and the server's answer to
	// that cannot be used (Config.PushedAuthorizationURL). Nobody was asked.
	ErrPushed = errors.New("the server's answer to the pushed request cannot be used")

	// ErrListen: no port of this machine could be listened on for the browser
	// to come back to.
	ErrListen = errors.New("there is no way back from the browser")

	// ErrNoRefreshToken: the login has brought an access token alone, and so
	// a session that would end with it.
	ErrNoRefreshToken = errors.New("the login has brought no refresh token")
)

// A ServerError is an answer of the authorization server that says no. It
// matches ErrDenied, ErrServer, ErrUnavailable or ErrExpired, according to its
// Code.
type ServerError struct {
	// Endpoint is who said so: "authorization endpoint", "token endpoint",
	// "device authorization endpoint" or "pushed authorization request
	// endpoint".
	Endpoint string

	// Code and Description are the server's (RFC 6749 sections 4.1.2.1 and
	// 5.2), with everything but printable ASCII replaced. They are the server's
	// text: show them, do not act on the Description.
	Code, Description string

	// Status is the HTTP status; zero if the answer came through the browser.
	Status int

	proves   bool   // Config.ClientAuth is set
	register string // the redirect URI that was pushed, as the server should know it
}

// codes are the error codes that have a sentinel.
var codes = map[string]error{
	"access_denied":           ErrDenied,
	"server_error":            ErrServer,
	"temporarily_unavailable": ErrUnavailable,
	"expired_token":           ErrExpired,
}

// meaning says what an error code says, where no sentinel does, and what to do.
var meaning = map[string]struct{ what, advice string }{
	"access_denied":             {"", "log in again and agree, or ask the server's administrator for access"},
	"server_error":              {"", "try again later"},
	"temporarily_unavailable":   {"", "try again later"},
	"expired_token":             {"", "log in again, and enter the code in time"},
	"invalid_client":            {endpoint.NotAccepted(false), endpoint.CheckClient},
	"unauthorized_client":       {"the server does not let this client log in this way", allowFlow},
	"unsupported_grant_type":    {"the server does not let this client log in this way", allowFlow},
	"unsupported_response_type": {"the server does not let this client log in this way", "allow it the response type code at the server"},
	"invalid_scope":             {"the server does not accept the scopes that were asked for", "check Config.OAuth2.Scopes against what the server knows and the client may ask for"},
	"invalid_grant":             {"the server does not accept the code of this login", "log in again; if it stays so, compare the client's redirect URI at the server with Config.OAuth2.RedirectURL"},
	"invalid_request":           {"", "check Config.OAuth2 and Params against what the server wants"},
	"invalid_target":            {"", "check the parameter resource against what the server knows"},
	"consent_required":          {"", "log in again and agree"},
	"login_required":            {"", "log in again"},
	"interaction_required":      {"", "log in again"},
	"invalid_request_uri":       {"", "log in again, and open the address once, before it expires"},
	"invalid_redirect_uri":      {"", "check Config.OAuth2.RedirectURL"},
}

const allowFlow = "allow it, at the server, the grant type authorization_code, or the device code for login.Device"

func (e *ServerError) Error() string {
	m, known := meaning[e.Code]
	if e.proves && e.Code == "invalid_client" {
		m.what, m.advice = endpoint.NotAccepted(true), endpoint.CheckClientAuth
	}
	if e.register != "" && (e.Code == "invalid_request" || e.Code == "invalid_redirect_uri") {
		m.advice = "check Config.OAuth2 and Params against what the server wants, and register " + e.register + " for the client as the redirect URI"
	}
	busy := !known && (e.Status >= 500 || e.Status == http.StatusTooManyRequests)
	what := cmp.Or(m.what, "the server refused the login")
	if busy {
		what = "the server could not answer for the moment"
	}
	if kind := codes[e.Code]; kind != nil {
		what = kind.Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s:", what, e.Endpoint)
	if e.Status != 0 {
		fmt.Fprintf(&b, " %d", e.Status)
	}
	if e.Code != "" {
		fmt.Fprintf(&b, " %s", e.Code)
	}
	if e.Description != "" {
		fmt.Fprintf(&b, ", %q", e.Description)
	}
	b.WriteString(")")
	where := "its address in Config.OAuth2.Endpoint"
	if e.Endpoint == pushedEndpoint {
		where = "Config.PushedAuthorizationURL"
	}
	switch {
	case known:
		fmt.Fprintf(&b, ": %s", m.advice)
	case e.Status >= 300 && e.Status < 400:
		b.WriteString(": it redirects, which is not followed; check " + where)
	case busy:
		b.WriteString(": try again later")
	case e.Status == 413:
		b.WriteString(": the request is too long for it; leave out some of the Params")
	case e.Code == "":
		b.WriteString(": check " + where)
	}
	return b.String()
}

// Unwrap returns the sentinel that the Code stands for.
func (e *ServerError) Unwrap() error { return codes[e.Code] }

// refusal makes an error of an endpoint's answer. secrets are what was sent
// there, beside the client's.
func refusal(cfg *freshtoken.Config, from string, r *endpoint.Refusal, secrets ...string) *ServerError {
	secrets = append(secrets, cfg.OAuth2.ClientSecret)
	e := &ServerError{Endpoint: from, Code: r.Code, Description: r.Description, Status: r.Status, proves: cfg.ClientAuth != nil}
	endpoint.HideTexts(&e.Code, &e.Description, secrets...)
	return e
}

// hide keeps secrets, as those of refusal, and the client's out of an error of a
// request: some transports tell what they were to send.
func hide(cfg *freshtoken.Config, err error, secrets ...string) error {
	return endpoint.Hide(err, append(secrets, cfg.OAuth2.ClientSecret)...)
}

// wrap says what went wrong behind a sentinel that callers branch on.
func wrap(sentinel error, format string, args ...any) error {
	return fmt.Errorf("%w: %w", sentinel, fmt.Errorf(format, args...))
}

// tell is wrap where the text alone says what the sentinel does.
func tell(sentinel error, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return words.Say(err.Error(), sentinel, err)
}

// gaveUp is the error of a login whose context is done.
func gaveUp(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	return err
}
