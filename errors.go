package freshtoken

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken/internal/endpoint"
	"github.com/freshtoken/freshtoken/internal/words"
	"golang.org/x/oauth2"
)

// Errors to branch on, with errors.Is. What the text adds differs from case to
// case; no error of this package contains a token, a secret or a response body.
var (
	// ErrNoSession: nobody is logged in. There never was a session, or it was
	// logged out, here or by another process. Start one with SetToken.
	ErrNoSession = errors.New("nobody is logged in")

	// ErrSessionEnded: only a new login helps. As a rule the error is a
	// *RefreshError: the server refused the refresh token, or there is none;
	// when its Uncertain is true, the server's answer did not say clearly that
	// the session is over, or was not for this session (Config.IDTokens), and the
	// tokens stay stored. Otherwise what is stored is damaged, and the error
	// matches ErrStore, too: SetToken sets it aside.
	ErrSessionEnded = errors.New("the session has ended: log in again")

	// ErrLocked: another process holds the session's lock for too long. The
	// session is unharmed; try again.
	ErrLocked = errors.New("another process is busy with the session")

	// ErrNotPersisted: the newest tokens live in this program's memory only,
	// because they could not be saved. The program works on, and goes on
	// trying to save until Close; another process must not use the session
	// meanwhile. Returned by SetToken and Close, reported by Status and
	// events, never returned beside a good token.
	ErrNotPersisted = errors.New("the session's newest tokens could not be saved")

	// ErrStore: the store failed before anything was spent. The session is
	// as it was; from Logout, it is over here, and still stored. What it wraps
	// says what to do: a full disk passes, a wrong passphrase or a damaged file
	// does not.
	ErrStore = errors.New("the session store failed")

	// ErrMismatch: what is stored for the session, or what Import was given,
	// was issued to another client, or by another server. It is left untouched.
	ErrMismatch = errors.New("the stored session belongs to another client or server")

	// ErrBadToken: a token cannot be used: a type that is not Bearer, or
	// characters that cannot be sent in a header. From Import: the file has
	// none.
	ErrBadToken = errors.New("a token that cannot be used")

	// ErrOrigin: a request was for an origin that is not listed in
	// Transport.Origins, and was not sent.
	ErrOrigin = errors.New("refusing to send the session's token to this origin")

	// ErrNotRevoked: Logout has ended the session here, but the server did
	// not confirm that it has revoked the tokens.
	ErrNotRevoked = errors.New("logged out here, but the server did not confirm the revocation")

	// ErrSessionExists: Import has found a session in the store that did not
	// begin with the token in the file. Nothing was changed.
	ErrSessionExists = errors.New("there is another session already")

	// ErrNotRemoved: Import has taken the session over, and the plaintext file
	// is still there.
	ErrNotRemoved = errors.New("the session is imported, but the plaintext file is still there")

	// ErrStepUpLimit: an API demands a login that it has just been given, or that
	// has just failed, or APIs have demanded too many; the text says for how long
	// nobody is asked. Or the demand repeats a token, and nobody ever is.
	ErrStepUpLimit = errors.New("nobody is asked to log in again so soon")

	// ErrOtherAccount: a login for an API's demand was another person's than
	// the session. The session is as it was.
	ErrOtherAccount = errors.New("another person has logged in")

	// ErrTarget: Source.For was given a Target that makes no sense, or that the
	// session cannot have. Nothing was asked for.
	ErrTarget = errors.New("no Target for an access token")

	// ErrNotGranted: the session was not granted what a Target asks for, as far
	// as is known here, or as the server says. The error is a *RefreshError. The
	// session and its other access tokens go on. From StepUp: the login was
	// granted less than the session has.
	ErrNotGranted = errors.New("the session does not have what the Target asks for")

	// ErrClosed: the Source has been closed.
	ErrClosed = errors.New("the Source is closed: make another with New")
)

// wrap says what went wrong behind a sentinel that callers branch on.
func wrap(sentinel error, format string, args ...any) error {
	return fmt.Errorf("%w: %w", sentinel, fmt.Errorf(format, args...))
}

// tell is wrap where the text alone says what the sentinel does.
func tell(sentinel error, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return words.Say(err.Error(), sentinel, err)
}

// storeError is an ErrStore.
type storeError struct {
	doing string // what could not be done
	err   error
}

func (e *storeError) Error() string   { return "cannot " + e.doing + ": " + words.Text(e.err) }
func (e *storeError) Unwrap() []error { return []error{ErrStore, e.err} }

// notPersisted says that the newest tokens could not be saved because of err,
// and what that means.
func notPersisted(meaning string, err error) error {
	why := words.Text(err)
	if failed := new(storeError); errors.As(err, &failed) {
		why = words.Text(failed.err)
	}
	return words.Say(fmt.Sprintf("%v, %s: %s", ErrNotPersisted, meaning, why), ErrNotPersisted, err)
}

// public gives an error that leaves the package the package's name, once.
func public(err error) error {
	switch err.(type) {
	case nil, *named, *RefreshError:
		return err
	}
	return &named{err}
}

// unnamed takes the package's name off again, from an error that becomes part
// of another.
func unnamed(err error) error {
	if n, ok := err.(*named); ok {
		return n.err
	}
	return err
}

type named struct{ err error }

func (n *named) Error() string { return "freshtoken: " + n.err.Error() }
func (n *named) Unwrap() error { return n.err }

// A RefreshError tells why the session could not be refreshed. Which fields are
// set depends on how far the attempt came.
//
// It matches ErrSessionEnded (errors.Is) when only a login helps. It unwraps to
// the cause, and, if the server answered, to an *oauth2.RetrieveError, for
// programs that look for that: one without a body, and whose Response has a
// status but no request and no header.
type RefreshError struct {
	// Code is the server's error code (RFC 6749 section 5.2), for instance
	// "invalid_grant"; empty if it sent none. Printable ASCII.
	Code string

	// Description is the server's explanation, with everything but printable
	// ASCII replaced, and shortened. It is the server's text: show it, do not
	// act on it.
	Description string

	// Status is the HTTP status; zero if there was no answer.
	Status int

	// Temporary: trying later may help. The Source does so by itself, on
	// demand, no earlier than RetryAfter.
	Temporary bool

	// OutcomeUnknown: the request may have been processed, and the refresh
	// token spent, although no usable answer came.
	OutcomeUnknown bool

	// Uncertain: the session counts as ended, but the server did not say so
	// in terms that leave no doubt, or Config.IDTokens has refused its answer.
	// The tokens stay stored, and the Source asks again after some minutes, if
	// it is asked.
	Uncertain bool

	// RetryAfter is how long the Source waits before it asks the server
	// again; zero if it does not wait.
	RetryAfter time.Duration

	// Interrupted is when an earlier refresh was interrupted before its outcome
	// was known; zero if none was. It had the same refresh token, or the one
	// before, which a server that was slow may have been shown twice. If the
	// server has now refused the token, that is the likely reason.
	Interrupted time.Time

	// Lapsed is when the session was to end by what the server had said, if that
	// was before the server refused: see Status.RefreshExpiry. Zero otherwise.
	Lapsed time.Time

	// Err is the cause where there is more to say, such as a network error.
	Err error

	ended     bool
	unproven  bool   // Config.ClientAuth has failed, and nothing was sent
	proves    bool   // Config.ClientAuth is set
	foreign   bool   // the session was begun with another client certificate
	promptly  bool   // a first unknown outcome: try once more after RetryAfter
	grantType string // of Config.RequestToken: what was refused is not the session's
	class     class
	salvaged  string // the refresh token of an otherwise unusable answer, until it is stored
	idToken   string // of such an answer, until it is checked
}

// hide keeps secrets out of texts of the server, some of which repeat what they
// were sent.
func (e *RefreshError) hide(secrets ...string) {
	endpoint.HideTexts(&e.Code, &e.Description, secrets...)
	e.Err = endpoint.Hide(e.Err, secrets...)
}

// isEnded reports whether err says that this session has ended. What a Refresher
// has failed with may be about another one, and is the cause of a RefreshError
// that is about this one.
func isEnded(err error) bool {
	if e := new(RefreshError); errors.As(err, &e) {
		return e.ended
	}
	return errors.Is(err, ErrSessionEnded)
}

func (e *RefreshError) Error() string {
	var b strings.Builder
	what, advice := e.words()
	b.WriteString("freshtoken: " + what)
	if e.Status != 0 {
		fmt.Fprintf(&b, " (token endpoint: %s", strings.TrimSpace(fmt.Sprint(e.Status, " ", e.Code)))
		if e.Description != "" {
			fmt.Fprintf(&b, ", %q", e.Description)
		}
		b.WriteString(")")
	}
	if advice != "" {
		b.WriteString(": " + advice)
	}
	if e.Err != nil {
		b.WriteString(": " + words.Text(e.Err))
	}
	if !e.Interrupted.IsZero() {
		fmt.Fprintf(&b, "; an earlier refresh was interrupted at %s, which may have spent the refresh token", e.Interrupted.Format(time.RFC3339))
	}
	if !e.Lapsed.IsZero() {
		fmt.Fprintf(&b, "; by what the server said, it was to expire at %s", e.Lapsed.Format(time.RFC3339))
	}
	switch {
	case e.class == classConfiguration:
	case e.Uncertain && e.RetryAfter > 0:
		fmt.Fprintf(&b, "; or try again in %s: the tokens were kept", words.Duration(e.RetryAfter))
	case e.RetryAfter > 0:
		fmt.Fprintf(&b, "; try again in %s", words.Duration(e.RetryAfter))
	}
	return b.String()
}

// words says what has happened, and, where that is not all, what to do.
func (e *RefreshError) words() (what, advice string) {
	switch {
	case e.foreign:
		return "the server does not go on with the session", "it was begun with another client certificate than the one that is in use: go back to that one, or log in again"
	case e.class == classTarget && errors.Is(e.Err, ErrNotGranted):
		return ErrNotGranted.Error(), ""
	case e.class == classTarget:
		return "the server does not give the session an access token for the Target", "check the Target"
	case e.class == classMistaken:
		return "the answer to a refresh is not for this session, and nothing of it was used", "log in again"
	case e.Uncertain:
		return "the server does not go on with the session, and does not clearly say why", "log in again"
	case e.ended && e.Status != 0:
		return "the session has ended at the server: it was revoked, or has expired", "log in again"
	case e.ended:
		return ErrSessionEnded.Error(), ""
	case e.grantType != "" && (e.Code == "unauthorized_client" || e.Code == "unsupported_grant_type"):
		return "the server gives this client no token by this grant", "allow it the grant type " + e.grantType + " at the server"
	case e.Code == "unauthorized_client", e.Code == "unsupported_grant_type":
		return "the server does not let this client refresh a session", "allow it the grant type refresh_token at the server"
	case e.unproven:
		return endpoint.Unproven, ""
	case e.grantType != "" && (e.class != classConfiguration || errors.Is(e.Err, ErrBadToken)):
		return "no new token could be had", ""
	case e.class == classConfiguration && e.proves:
		return endpoint.NotAccepted(true), endpoint.CheckClientAuth
	case e.class == classConfiguration:
		return endpoint.NotAccepted(false), endpoint.CheckClient
	case e.OutcomeUnknown:
		return "the session may or may not have been refreshed", ""
	}
	return "the session could not be refreshed", ""
}

// MarshalJSON implements json.Marshaler: the fields, and the text as "error".
func (e *RefreshError) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"error": e.Error(), "code": e.Code, "description": e.Description, "status": e.Status,
		"temporary": e.Temporary, "outcome_unknown": e.OutcomeUnknown, "uncertain": e.Uncertain, "retry_after": e.RetryAfter.String()})
}

// Unwrap makes errors.Is and errors.As see ErrSessionEnded, an
// *oauth2.RetrieveError and the cause, as far as they apply.
func (e *RefreshError) Unwrap() []error {
	var errs []error
	if e.ended {
		errs = append(errs, ErrSessionEnded)
	}
	if e.Status != 0 {
		errs = append(errs, &oauth2.RetrieveError{
			Response:         &http.Response{Status: fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status)), StatusCode: e.Status},
			ErrorCode:        e.Code,
			ErrorDescription: e.Description,
		})
	}
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	return errs
}
