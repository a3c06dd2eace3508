package openid

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"hash"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/endpoint"
	"github.com/freshtoken/freshtoken/internal/words"
	"github.com/go-jose/go-jose/v4"
)

// A Verifier checks ID tokens; it is for Config.IDTokens:
//
//	cfg.IDTokens = &openid.Verifier{KeysURL: metadata.JWKSURI, Algorithms: metadata.IDTokenSigningAlgValuesSupported}
//
// Its fields are set before use and not changed thereafter. It is safe for
// concurrent use, and may serve any number of Sources of one server, whose keys it
// keeps in memory.
type Verifier struct {
	// KeysURL is where the server has its public keys (jwks_uri), as a JWKS (RFC
	// 7517 section 5). Required. It is asked with Config.HTTPClient, for ten
	// seconds at most, at a login if the key of an ID token is not known yet, or if
	// the one of its name has not made the signature.
	KeysURL string

	// Algorithms are those that ID tokens may be signed by, such as "ES256".
	// What is not the signature of a public key, such as "none" or "HS256", is
	// never accepted. Nil means "RS256" (OpenID Connect Core section 3.1.3.7).
	Algorithms []string

	keys keyRing
}

var _ freshtoken.IDTokenVerifier = (*Verifier)(nil)

const (
	// skew is how far the clocks of this machine and of the server may differ.
	skew = 5 * time.Minute

	// delay is what rounding, and the way of a request, may add to how long ago a
	// person has authenticated.
	delay = 10 * time.Second

	// maxAge is how long ago the ID token of a login may have been issued.
	maxAge = time.Hour
)

// accepted are the algorithms that a Verifier accepts if they are asked for.
var accepted = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA}

// VerifyIDToken implements freshtoken.IDTokenVerifier. The error matches one of
// this package's.
//
// First comes what tells whose it is, then the signature, then the time. So an
// error that is Temporary (of a clock, or about keys that cannot be had) means
// that all else is right.
func (v *Verifier) VerifyIDToken(ctx context.Context, cfg freshtoken.Config, t freshtoken.IDToken) error {
	if t.Raw == "" {
		return fail(ErrMissing, "the server has sent none, though the scope openid was asked for: leave the scope out, or Config.IDTokens, if it does not do OpenID Connect")
	}
	if cfg.Issuer == "" || cfg.OAuth2 == nil || cfg.OAuth2.ClientID == "" {
		return endpoint.Passing(fail(ErrKeys, "Config.Issuer or ClientID is empty: set them"))
	}
	alg, err := v.algorithm(t.Raw)
	if err != nil {
		return err
	}
	c, err := readClaims(t.Raw)
	if err != nil {
		return err
	}
	if err := c.check(&cfg, t, alg); err != nil {
		return err
	}
	if err := v.signature(ctx, &cfg, t); err != nil {
		return err
	}
	if err := c.checkTime(t, time.Now()); err != nil {
		return endpoint.Passing(err)
	}
	return nil
}

// algorithm returns that by which an ID token is signed, if it is one of those
// that may be. Nothing else of its header counts: a key that it brings along, or
// points to, is not looked at. With crit there is something that has to count, and
// that nobody here understands (RFC 7515 section 4.1.11).
func (v *Verifier) algorithm(raw string) (string, error) {
	sig, err := jose.ParseSignedCompact(raw, v.algorithms())
	switch {
	case strings.Count(raw, ".") == 2 && header(raw)["crit"] != nil:
		return "", fail(ErrAlgorithm, "its header has crit, of which nothing is understood here: have the server leave it out")
	case err == nil && len(sig.Signatures) == 1:
		return sig.Signatures[0].Header.Algorithm, nil
	case strings.Count(raw, ".") != 2:
		_, err = readClaims(raw)
		return "", err
	}
	if alg := unchecked(raw); alg != "" && !slices.Contains(v.algorithms(), jose.SignatureAlgorithm(alg)) {
		return "", fail(ErrAlgorithm, "by %q, and only %v will do: check Verifier.Algorithms against what the client is registered for at the server", show(alg), v.algorithms())
	}
	return "", fail(ErrMalformed, "it is no signed JWT: ask the server's operator")
}

func (v *Verifier) algorithms() (all []jose.SignatureAlgorithm) {
	for _, alg := range v.Algorithms {
		if slices.Contains(accepted, alg) {
			all = append(all, jose.SignatureAlgorithm(alg))
		}
	}
	if v.Algorithms == nil {
		all = append(all, jose.RS256)
	}
	return all
}

// signature has go-oidc check the ID token, with the keys of the server. It
// checks issuer and audience once more; clocks are judged elsewhere.
func (v *Verifier) signature(ctx context.Context, cfg *freshtoken.Config, t freshtoken.IDToken) error {
	keys := &keysFor{ring: &v.keys, url: v.KeysURL, cfg: cfg}
	// What comes with a refresh, straight from the token endpoint, the certificate
	// of that vouches for (rule 6). So no refresh waits for keys that are not known
	// yet, and none ends a session for the lack of them; a key that is at hand counts,
	// and where it says no, newer ones are asked for.
	keys.vouched = t.Refreshed && cfg.Refresher == nil && strings.HasPrefix(strings.ToLower(cfg.OAuth2.Endpoint.TokenURL), "https:")
	conf := &oidc.Config{ClientID: cfg.OAuth2.ClientID, SkipExpiryCheck: true}
	for _, alg := range v.algorithms() {
		conf.SupportedSigningAlgs = append(conf.SupportedSigningAlgs, string(alg))
	}
	_, err := oidc.NewVerifier(cfg.Issuer, keys, conf).Verify(ctx, t.Raw)
	switch {
	case keys.err != nil: // go-oidc does not wrap it
		return keys.err
	case err != nil: // no rule of ours
		return fail(ErrMalformed, "ask the server's operator")
	}
	return nil
}

// check compares the claims with what they have to be, but for those that depend
// on a clock.
func (c *Claims) check(cfg *freshtoken.Config, t freshtoken.IDToken, alg string) error {
	client := cfg.OAuth2.ClientID
	switch {
	case c.Issuer != cfg.Issuer && !isGoogle(cfg.Issuer, c.Issuer):
		return fail(ErrIssuer, "from %q, and Config.Issuer is %q: if it is the same server, use the former, to the last character", show(c.Issuer), show(cfg.Issuer))
	case !slices.Contains(c.audience, client):
		return fail(ErrAudience, "it is not for %q: check ClientID, and that nothing else answers in the server's place", show(client))
	case c.azp != "" && c.azp != client:
		return fail(ErrAudience, "it was issued to %q (azp): check ClientID, and that nothing else answers in the server's place", show(c.azp))
	case len(c.audience) > 1 && c.azp == "":
		return fail(ErrAudience, "it is for others, too, and does not say to whom it was issued (azp): ask the server's operator")
	case c.hash != "" && t.AccessToken != "" && !hashes(c.hash, t.AccessToken, alg):
		return fail(ErrAccessToken, "its at_hash is not that of the access token: log in again")
	}
	if t.Refreshed {
		return c.compare(t.Login)
	}
	switch {
	case t.Nonce != "" && c.nonce == "":
		return fail(ErrNonce, "it has no nonce, though one was sent: ask the server's operator")
	case c.nonce != t.Nonce:
		return fail(ErrNonce, "its nonce is not the one of this login: log in again, and beware of links that you were sent")
	case t.AuthenticatedSince.IsZero():
		return nil
	case c.AuthTime.IsZero():
		return fail(ErrAuthTime, "it does not say when (auth_time), though the login asked for that by max_age: ask the server's operator")
	case c.IssuedAt.Sub(c.AuthTime) > time.Since(t.AuthenticatedSince)+delay: // by the server's own clock
		return fail(ErrAuthTime, "that was longer ago than the login's max_age allows: log in again")
	}
	return nil
}

// isGoogle allows for the other form of Google's issuer, as go-oidc does.
func isGoogle(issuer, got string) bool {
	return issuer == "https://accounts.google.com" && got == "accounts.google.com"
}

// compare compares the claims of a refresh with those of the login (section
// 12.2). login may be empty: then there is nothing to compare with.
func (c *Claims) compare(login string) error {
	if login == "" {
		return nil
	}
	was, err := readClaims(login)
	if err != nil {
		return fail(ErrMalformed, "that is, the one of the login, with which those of refreshes are compared: log in again")
	}
	same := func(a, b []string) bool {
		a, b = slices.Clone(a), slices.Clone(b)
		slices.Sort(a)
		slices.Sort(b)
		return slices.Equal(slices.Compact(a), slices.Compact(b))
	}
	switch {
	case c.Issuer != was.Issuer && !isGoogle(c.Issuer, was.Issuer) && !isGoogle(was.Issuer, c.Issuer):
		return fail(ErrIssuer, "that of the login was from %q: log in again", show(was.Issuer))
	case c.Subject != was.Subject:
		return fail(ErrSubject, "the server has answered the refresh with the tokens of somebody else: tell its operator")
	case !same(c.audience, was.audience), c.azp != was.azp:
		return fail(ErrAudience, "it is for others than that of the login: log in again")
	case c.nonce != "" && c.nonce != was.nonce:
		return fail(ErrNonce, "its nonce is not the one of the login: log in again")
	case !c.AuthTime.IsZero() && !was.AuthTime.IsZero() && !c.AuthTime.Equal(was.AuthTime):
		return fail(ErrAuthTime, "its auth_time is not that of the login: log in again")
	}
	return nil
}

// checkTime judges what depends on a clock.
func (c *Claims) checkTime(t freshtoken.IDToken, now time.Time) error {
	const clock = "check the clock of this machine, and the server's"
	switch {
	case !now.Before(c.Expiry.Add(skew)):
		return fail(ErrExpired, "it expired %s ago: %s", words.Duration(now.Sub(c.Expiry)), clock)
	case now.Add(skew).Before(c.notBefore):
		return fail(ErrExpired, "it is valid in %s only: %s", words.Duration(c.notBefore.Sub(now)), clock)
	case now.Add(skew).Before(c.IssuedAt):
		return fail(ErrIssuedAt, "in %s from now: %s", words.Duration(c.IssuedAt.Sub(now)), clock)
	case !t.Refreshed && now.Sub(c.IssuedAt) > maxAge:
		return fail(ErrIssuedAt, "%s ago, and not in this login: %s", words.Duration(now.Sub(c.IssuedAt)), clock)
	}
	if was, err := readClaims(t.Login); t.Refreshed && err == nil && c.IssuedAt.Before(was.IssuedAt.Add(-skew)) {
		return fail(ErrIssuedAt, "before that of the login, by the server's own clock: tell its operator")
	}
	return nil
}

// hashes reports whether want is the at_hash of an access token: the left half of
// its hash (section 3.1.3.6).
func hashes(want, accessToken, alg string) bool {
	var h hash.Hash
	switch {
	case strings.HasSuffix(alg, "256"):
		h = sha256.New()
	case strings.HasSuffix(alg, "384"):
		h = sha512.New384()
	default: // 512, and EdDSA of Ed25519
		h = sha512.New()
	}
	h.Write([]byte(accessToken))
	sum := h.Sum(nil)
	got := base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
	return subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
}
