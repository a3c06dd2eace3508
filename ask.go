package freshtoken

import (
	"context"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken/internal/endpoint"
	"golang.org/x/oauth2"
)

// Tokens that are asked for by another grant than a refresh token: nothing is
// spent, and what the server says is not about the session.

// A ConfigRefresher is a Refresher that works for whatever Config it stands in:
// it asks that one's server, as that one's client. Package grant has some.
type ConfigRefresher interface {
	Refresher

	// ForConfig returns what refreshes the session of cfg. New calls it once,
	// with the checked Config, calls the result's Refresh in place of its own,
	// and fails if it does.
	//
	// If the ConfigRefresher is an Authenticator as well, and
	// Config.Reauthenticate is nil, it takes that place, too: the first token is
	// had in the same way, and so is one after a Logout, if anybody asks for it.
	// Then no person logs in (Source.Authenticate, Source.StepUp), and that the
	// first token cannot be had is a *RefreshError, an event and an Attempt, as
	// with the others.
	ForConfig(cfg Config) (Refresher, error)
}

// RequestToken asks the token endpoint of c for a token by a grant that the form
// has, grant_type included, as the client of c: for Refreshers and Authenticators
// that know a grant of their own. Package grant has the common ones. The request
// is sent once, and takes 30 seconds at most. A token that is not of type Bearer
// is ErrBadToken.
//
// An error is a *RefreshError that ends no session: what was refused is this
// request, and the next may do better. So it is Temporary, unless the client or
// what it asks for has to be corrected. No value of the form is in it, but for
// scope, resource, audience and the types.
func (c Config) RequestToken(ctx context.Context, form url.Values) (*oauth2.Token, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.OAuth2.Endpoint.TokenURL == "" {
		return nil, errors.New("freshtoken: Config.OAuth2.Endpoint.TokenURL is empty: set it to the server's token endpoint, or have discovery.Configure do so")
	}
	ctx, cancel := context.WithTimeout(ctx, grantTime)
	defer cancel()
	own := make(url.Values) // the client's parameters are added
	maps.Copy(own, form)
	tok, err := newTokenEndpoint(&c).request(ctx, own)
	if err == nil {
		if _, bad := takeApart(tok, time.Now()); bad != nil {
			err = &RefreshError{Err: bad}
		}
	}
	e := new(RefreshError)
	if !errors.As(err, &e) {
		return tok, err
	}
	e.blameRequest(form.Get("grant_type"))
	e.hide(append(secretsOf(form), c.OAuth2.ClientSecret)...)
	return nil, e
}

// blameRequest makes of what the server says something that is not about the
// session, but about a request that spent nothing.
func (e *RefreshError) blameRequest(grantType string) {
	e.grantType = endpoint.Sanitize(grantType, 100)
	e.salvaged, e.idToken = "", ""
	if errors.Is(e.Err, ErrBadToken) {
		e.class, e.Temporary, e.OutcomeUnknown = classConfiguration, false, false
	}
	if e.class != classConfiguration {
		e.class, e.Temporary, e.OutcomeUnknown, e.ended = classTransient, true, false, false
	}
}

// secretsOf are the values of a form that nobody is to see.
func secretsOf(form url.Values) (secrets []string) {
	for name, values := range form {
		if !slices.Contains([]string{"grant_type", "scope", "resource", "audience", "client_id"}, name) && !strings.HasSuffix(name, "_type") {
			secrets = append(secrets, values...)
		}
	}
	return secrets
}

// beginBy begins the session with a token from a, which is Config.Refresher: that it
// cannot be had is told as of any other.
func (s *Source) beginBy(ctx context.Context, l *login, a Authenticator) error {
	start := time.Now()
	tok, err := a.Authenticate(ctx, s.cfg)
	took := time.Since(start)
	if err == nil {
		err = s.SetToken(context.WithoutCancel(ctx), tok)
	}
	switch {
	case err == nil, errors.Is(err, ErrNotPersisted): // Status, events and Close tell
		s.tellBeginning(start, took, nil)
		return nil
	case errors.Is(err, ErrClosed), ctx.Err() != nil:
		return err
	}
	e := refreshErrorOf(err, false)
	e.hide(s.cfg.OAuth2.ClientSecret)
	l.pause, err = s.leaveAlone(e)
	s.tellBeginning(start, took, err)
	return err
}

// tellBeginning tells of an attempt at the first token, as of the other attempts. err
// is why it has failed; nil: it has not.
func (s *Source) tellBeginning(start time.Time, took time.Duration, err error) {
	a := Attempt{Session: s.cfg.Session, Reason: string(reasonNeed), Outcome: OutcomeRefreshed, Start: start, Duration: took,
		Steps: []Step{{Kind: StepRequest, Start: start, Duration: took, Failed: err != nil}}}
	if err != nil {
		a.Outcome, a.Err = OutcomeFailed, public(err)
		s.note(err)
		s.emit(EventRefreshFailed, err)
	}
	a.Generation = s.Status().Generation
	if s.cfg.OnAttempt != nil {
		s.events.add(func() { s.cfg.OnAttempt(a) })
	}
}
