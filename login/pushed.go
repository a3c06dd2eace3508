package login

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/endpoint"
)

// pushedEndpoint is what a ServerError calls it.
const pushedEndpoint = "pushed authorization request endpoint"

// maxPushes is how often one login pushes its request, if what it gets has
// expired on the way.
const maxPushes = 3

// The parameters of a pushed request that are not the program's, beside those of
// every authorization request: what would name another request, and what proves
// which client asks.
var pushedParams = []string{"request", "request_uri", "client_secret", "client_assertion", "client_assertion_type"}

// refer pushes the authorization request for a browser that comes back to r (RFC
// 9126), and returns where to send that. Each address serves once.
func (a *authorization) refer(ctx context.Context, cfg *freshtoken.Config, r *receiver) (errand, error) {
	for range maxPushes {
		start := time.Now()
		uri, life, err := a.push(ctx, cfg, r)
		if err != nil {
			return errand{}, err
		}
		if life == 0 || life > time.Since(start) {
			to := url.Values{"client_id": {cfg.OAuth2.ClientID}, "request_uri": {uri}}
			return errand{to: "log in", address: a.at(to), back: r.uri, life: life}, nil
		}
	}
	return errand{}, wrap(ErrPushed, "whatever it gave had expired when it arrived: log in again; if it stays so, have the server keep requests for longer")
}

// push leaves the authorization request at the server, and returns what names it
// there and for how long; zero: the server does not say.
func (a *authorization) push(ctx context.Context, cfg *freshtoken.Config, r *receiver) (uri string, life time.Duration, err error) {
	form := maps.Clone(a.form) // to which the proof of each request is added
	form.Set("redirect_uri", r.uri)
	limited, cancel := context.WithTimeout(ctx, grantTime)
	defer cancel()
	answer, err := client(cfg).Post(limited, cfg.PushedAuthorizationURL, form)
	switch {
	case err != nil && ctx.Err() != nil:
		return "", 0, gaveUp(ctx)
	case err != nil:
		return "", 0, hide(cfg, err, a.state, a.idToken.nonce)
	}
	no := answer.Refusal()
	if no.Broken != nil {
		return "", 0, wrap(ErrPushed, "%w: log in again", hide(cfg, no.Broken, a.state, a.idToken.nonce))
	}
	if !answer.OK() || no.Code != "" {
		e := refusal(cfg, pushedEndpoint, no, a.state, a.idToken.nonce)
		e.register = r.register
		return "", 0, e
	}
	// RFC 9126 section 2.2 has 201 for a request that was taken, and nothing else.
	if answer.Status != http.StatusCreated {
		return "", 0, wrap(ErrPushed, "the %s answered %d, and not 201: check Config.PushedAuthorizationURL", pushedEndpoint, answer.Status)
	}
	if uri, life, err = readPushed(answer); err != nil {
		return "", 0, wrap(ErrPushed, "the %s: %w: check Config.PushedAuthorizationURL", pushedEndpoint, err)
	}
	return uri, life, nil
}

// readPushed reads the answer to a request that was taken (RFC 9126 section 2.2).
// A life that is over already is negative, as is one of less than a second: the RFC
// counts whole ones, and no clock need tell anything shorter from no time at all.
func readPushed(answer *endpoint.Answer) (uri string, life time.Duration, err error) {
	all, repeated, err := answer.Members()
	switch {
	case err != nil:
		return "", 0, err
	case len(repeated) > 0:
		return "", 0, errors.New("the answer has a member twice")
	}
	uri, ok := endpoint.Text(all["request_uri"])
	if !ok || uri == "" {
		return "", 0, errors.New("the answer has no request_uri")
	}
	if !endpoint.Printable(uri) || strings.Contains(uri, " ") || len(uri) > 4*maxShown {
		return "", 0, errors.New("the answer has a request_uri that is none")
	}
	if n, ok := endpoint.Number(all["expires_in"]); ok {
		if life = seconds(n, maxExpiry); life < time.Second {
			life = -1
		}
	}
	return uri, life, nil
}
