package oauthtest

import (
	"crypto"
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Grants says which grants the server has beside the common ones. The zero value
// has none.
type Grants struct {
	// Issuers are those whose JWTs the server trusts, by their iss, each with its
	// public key: as assertions (RFC 7523, section 2.1), and, with Exchange, as
	// subject and actor tokens. An assertion needs iss, sub, aud, exp and jti, is
	// for the server's issuer identifier or its token endpoint, lives an hour at
	// most, and counts once.
	Issuers map[string]crypto.PublicKey

	// Exchange allows token exchange (RFC 8693) of access tokens that the server
	// has issued, and of JWTs of the Issuers. The new token belongs to the
	// subject of the old one, and has the scopes that were asked for.
	Exchange bool
}

const (
	bearerGrant   = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"

	typeAccessToken = "urn:ietf:params:oauth:token-type:access_token"
	typeJWT         = "urn:ietf:params:oauth:token-type:jwt"
)

// grantTypes are those that the metadata lists beside the common ones.
func (g *Grants) grantTypes() (all []string) {
	if len(g.Issuers) > 0 {
		all = append(all, bearerGrant)
	}
	if g.Exchange {
		all = append(all, exchangeGrant)
	}
	return all
}

func (o *Options) completeGrants() {
	o.Grants.Issuers = maps.Clone(o.Grants.Issuers)
	for _, key := range o.Grants.Issuers {
		if algorithms(key) == nil {
			panic("oauthtest: Options.Grants.Issuers must be public keys: RSA, EC of P-256, or Ed25519")
		}
	}
}

// extraGrant answers a request by one of the Grants, if it is allowed. s.mu is
// held.
func (c *call) extraGrant(form url.Values) (Answer, bool) {
	if !slices.Contains(c.s.opt.Grants.grantTypes(), form.Get("grant_type")) {
		return Answer{}, false
	}
	if _, detail := c.s.opt.resources(form); detail != "" {
		return c.badTarget(detail), true
	}
	if form.Get("grant_type") == bearerGrant {
		return c.grantBearer(form), true
	}
	return c.grantExchange(form), true
}

func (c *call) grantBearer(form url.Values) Answer {
	if form.Get("assertion") == "" {
		return c.badRequest("assertion is missing")
	}
	claims, err := c.trusted(form.Get("assertion"))
	now := time.Now()
	switch {
	case err != nil:
		return c.invalidGrant(UnknownToken, err.Error())
	case claims.Jti == "":
		return c.invalidGrant(BadRequest, "The assertion has no jti.")
	case claims.Exp > float64(now.Unix())+time.Hour.Seconds():
		return c.invalidGrant(BadRequest, "The assertion lives too long.")
	}
	maps.DeleteFunc(c.s.assertions, func(_ string, end float64) bool { return end <= float64(now.Unix()) })
	if _, used := c.s.assertions[claims.Jti]; used {
		c.s.stats.ReplayedAssertions++
		return c.invalidGrant(Reuse, "The assertion was used before.")
	}
	c.s.assertions[claims.Jti] = claims.Exp
	c.s.stats.JWTBearers++
	return c.issueFor(claims.Sub, "", form)
}

func (c *call) grantExchange(form url.Values) Answer {
	for _, name := range []string{"subject_token", "subject_token_type"} {
		if form.Get(name) == "" {
			return c.badRequest(name + " is missing")
		}
	}
	if form.Has("actor_token") != form.Has("actor_token_type") {
		return c.badRequest("actor_token and actor_token_type go together")
	}
	if t := form.Get("requested_token_type"); t != "" && t != typeAccessToken {
		return c.badRequest("the requested_token_type is not known")
	}
	subject, err := c.holder(form.Get("subject_token"), form.Get("subject_token_type"))
	if err == nil && form.Has("actor_token") {
		_, err = c.holder(form.Get("actor_token"), form.Get("actor_token_type"))
	}
	if err != nil { // RFC 8693, section 2.2.2
		return c.badRequest(err.Error())
	}
	c.s.stats.Exchanges++
	return c.issueFor(subject, typeAccessToken, form)
}

// holder returns to whom a subject token or an actor token belongs.
func (c *call) holder(token, tokenType string) (subject string, err error) {
	switch tokenType {
	case typeAccessToken:
		at := c.s.access[token]
		if at == nil || !at.live(time.Now()) {
			return "", errors.New("the token to exchange is not live")
		}
		return at.fam.subject, nil
	case typeJWT:
		claims, err := c.trusted(token)
		return claims.Sub, err
	}
	return "", errors.New("the type of the token to exchange is not known")
}

// issueFor issues an access token without a refresh token. issued is its type,
// if the answer is to have one.
func (c *call) issueFor(subject, issued string, form url.Values) Answer {
	resources, _ := c.s.opt.resources(form)
	fam := c.s.newFamily(c.client, approval{subject: subject, scopes: strings.Fields(form.Get("scope"))})
	at := c.s.mintAccess(fam, 0, fam.scopes, resources, time.Now(), c.bound())
	c.shown(fam, 0)
	c.decide(Granted)
	a := c.issue(at, nil)
	if issued != "" {
		a.Members.Set("issued_token_type", issued)
	}
	return a
}

type grantClaims struct {
	Iss, Sub, Jti string
	Aud           json.RawMessage
	Exp, Iat, Nbf float64
}

// trusted checks a JWT of the Issuers (RFC 7523, section 3).
func (c *call) trusted(raw string) (claims grantClaims, err error) {
	jws, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256, jose.EdDSA})
	if err != nil {
		return claims, errors.New("the assertion is no JWT that is signed by a known algorithm")
	}
	if json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &claims) != nil {
		return claims, errors.New("the claims of the assertion are malformed")
	}
	key := c.s.opt.Grants.Issuers[claims.Iss]
	if !slices.Contains(algorithms(key), jose.SignatureAlgorithm(jws.Signatures[0].Header.Algorithm)) {
		return claims, errors.New("the assertion is not by a known issuer")
	}
	if _, err := jws.Verify(key); err != nil {
		return claims, errors.New("the signature of the assertion is wrong")
	}
	at := float64(time.Now().Unix())
	var aud string
	switch json.Unmarshal(claims.Aud, &aud); {
	case aud != c.s.base && aud != c.s.base+"/token":
		return claims, errors.New("the assertion is not for this server alone")
	case claims.Sub == "":
		return claims, errors.New("the assertion has no subject")
	case claims.Exp <= at:
		return claims, errors.New("the assertion has expired")
	case claims.Iat > at+1 || claims.Nbf > at+1:
		return claims, errors.New("the assertion is from the future")
	}
	return claims, nil
}
