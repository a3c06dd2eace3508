package grant

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"maps"
	"net/url"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/clientauth"
	"golang.org/x/oauth2"
)

const (
	defaultLifetime = time.Minute
	maxLifetime     = time.Hour
)

// A JWTBearer has each token for an assertion (RFC 7523 section 2.1): a
// Config.Refresher, and the session's beginning. It signs the assertions with
// Key, or is handed them by Assertion. Its fields are set before use and not
// changed thereafter; it is then safe for concurrent use.
//
// Many servers want no other authentication of the client: Config.OAuth2 then has
// a TokenURL and nothing else.
//
// A service account of Google has its email address as Issuer, the scopes as the
// claim "scope", the token URL as Audience, and OmitSubject, or as Subject the
// user that it acts for. An app of Salesforce has its consumer key as Issuer, the
// user's name as Subject, and as Audience https://login.salesforce.com, or
// https://test.salesforce.com for a sandbox.
type JWTBearer struct {
	// Key signs the assertions. Each is new, with a jti of its own. Nil:
	// Assertion has them.
	Key *clientauth.Key

	// Assertion, if Key is nil, returns the assertion, which somebody else has
	// signed: File, for instance. The type that it returns plays no part. The
	// fields below, but for Scopes, are for Key.
	Assertion TokenFunc

	// Algorithm and KeyID are as in clientauth.Options: how to sign, and by
	// which name the server finds the key. Type is the typ in the header; empty
	// means "JWT".
	Algorithm, KeyID, Type string

	// Issuer is who signs, by the name that the server has for that. Empty:
	// Config.OAuth2.ClientID.
	Issuer string

	// Subject is for whom the token is. Empty: the Issuer, for RFC 7523 section
	// 3 demands a subject.
	Subject string

	// OmitSubject leaves sub out, for servers that take it for another person to
	// act for.
	OmitSubject bool

	// Audience is the server's name for itself. Empty: Config.Issuer, or the
	// token URL if that is empty, too.
	Audience string

	// Claims are further claims, to be written as JSON. iss, sub, aud, exp, iat
	// and jti are not for them.
	Claims map[string]any

	// Lifetime is how long an assertion is good for. Zero means one minute; one
	// hour is the most. What clocks may differ by has to fit in.
	Lifetime time.Duration

	// Scopes are sent as the parameter scope. Nil: none is.
	Scopes []string
}

var (
	_ freshtoken.ConfigRefresher = (*JWTBearer)(nil)
	_ freshtoken.Authenticator   = (*JWTBearer)(nil)
)

// ForConfig implements freshtoken.ConfigRefresher. The errors are ErrNoSubject,
// ErrClaims, ErrLifetime, ErrParameter, ErrConfig and clientauth.ErrAlgorithm.
func (j *JWTBearer) ForConfig(cfg freshtoken.Config) (freshtoken.Refresher, error) {
	if j == nil || (j.Key == nil) == (j.Assertion == nil) {
		return nil, fail(ErrNoSubject, "set one of Key and Assertion of the JWTBearer")
	}
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}}
	if err := addScope(form, j.Scopes); err != nil {
		return nil, err
	}
	r, err := newRequest(cfg, form, "assertion")
	if err != nil {
		return nil, err
	}
	r.own, r.advice = j.given, adviceGiven
	if j.Key != nil {
		s, err := j.signing(cfg)
		if err != nil {
			return nil, err
		}
		r.own, r.advice = s.signed, adviceSigned
	}
	return r, nil
}

var (
	adviceGiven  = adviceBearer("check that the assertion is valid, and meant for this server")
	adviceSigned = adviceBearer("check Issuer, Subject, Audience, Claims and Key of the JWTBearer against what the server has on record")
)

func adviceBearer(assertion string) map[string]string {
	return map[string]string{"invalid_grant": assertion, "invalid_request": assertion, "access_denied": assertion,
		"invalid_scope": "check the scopes against what the server knows, and lets the assertion's subject have"}
}

// given returns an assertion that somebody else has signed.
func (j *JWTBearer) given(ctx context.Context) (url.Values, error) {
	token, _, err := j.Assertion.get(ctx, "the assertion")
	if err != nil {
		return nil, err
	}
	return url.Values{"assertion": {token}}, nil
}

// signing is a JWTBearer with a key, for a Config.
type signing struct {
	key      *clientauth.Key
	options  clientauth.Options
	claims   map[string]any // without those that are new each time
	lifetime time.Duration
}

// signing checks what assertions are made of.
func (j *JWTBearer) signing(cfg freshtoken.Config) (*signing, error) {
	issuer := cmp.Or(j.Issuer, cfg.OAuth2.ClientID)
	s := &signing{key: j.Key, options: clientauth.Options{Algorithm: j.Algorithm, KeyID: j.KeyID, Type: j.Type},
		claims:   map[string]any{"iss": issuer, "sub": cmp.Or(j.Subject, issuer), "aud": cmp.Or(j.Audience, cfg.Issuer, cfg.OAuth2.Endpoint.TokenURL)},
		lifetime: cmp.Or(j.Lifetime, defaultLifetime)}
	for _, name := range []string{"iss", "sub", "aud", "exp", "iat", "jti"} {
		if _, has := j.Claims[name]; has {
			return nil, fail(ErrClaims, "JWTBearer.Claims has %q, which has a field of its own, or is set for each assertion", name)
		}
	}
	maps.Copy(s.claims, j.Claims)
	if _, err := json.Marshal(s.claims); err != nil {
		return nil, fail(ErrClaims, "JWTBearer.Claims cannot be written as JSON: give strings, numbers, maps and slices")
	}
	switch {
	case issuer == "":
		return nil, fail(ErrClaims, "nobody is named who signs: set JWTBearer.Issuer, or Config.OAuth2.ClientID")
	case j.OmitSubject && j.Subject != "":
		return nil, fail(ErrClaims, "JWTBearer has a Subject, and is to leave it out: choose one")
	case s.lifetime < time.Second || s.lifetime > maxLifetime:
		return nil, fail(ErrLifetime, "%v is not between one second and %v; zero means %v", j.Lifetime, maxLifetime, defaultLifetime)
	}
	if j.OmitSubject {
		delete(s.claims, "sub")
	}
	if err := j.Key.Supports(j.Algorithm); err != nil {
		return nil, err
	}
	return s, nil
}

// signed returns a new assertion.
func (s *signing) signed(ctx context.Context) (url.Values, error) {
	now := time.Now()
	end := now.Add(s.lifetime)
	all := maps.Clone(s.claims)
	all["jti"], all["iat"], all["exp"] = rand.Text(), now.Unix(), end.Unix()
	claims, err := json.Marshal(all)
	if err != nil {
		return nil, notYet("", fail(ErrClaims, "JWTBearer.Claims can no longer be written as JSON: do not change them"))
	}
	token, err := s.key.Sign(ctx, claims, s.options)
	switch {
	case err != nil:
		return nil, notYet("the assertion could not be signed: ", err)
	case !time.Now().Before(end):
		return nil, notYet("", fail(ErrLifetime, "the assertion has expired while it was signed: set JWTBearer.Lifetime to what the signer takes, and what clocks differ by"))
	}
	return url.Values{"assertion": {token}}, nil
}

// Authenticate implements freshtoken.Authenticator: the first token is had as the
// others are.
func (j *JWTBearer) Authenticate(ctx context.Context, cfg freshtoken.Config) (*oauth2.Token, error) {
	return begin(ctx, j, cfg)
}

// Refresh is there for Config.Refresher, whose Source calls what ForConfig
// returns. By itself it is ErrConfig.
func (j *JWTBearer) Refresh(context.Context, *oauth2.Token) (*oauth2.Token, error) {
	return nil, unbound()
}
