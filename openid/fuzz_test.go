package openid_test

import (
	"encoding/base64"
	"errors"
	"testing"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/openid"
)

// Whatever a server sends, it is read or refused, and nothing that nobody has
// signed begins a session.
func FuzzVerify(f *testing.F) {
	for _, payload := range []string{`{"iss":"https://oauth.test","sub":"a","aud":"client","exp":9999999999,"iat":1e9}`, `{"aud":[1]}`, `{"sub":null}`,
		`{"exp":-1e400}`, `{"exp":1e18,"iat":0.5,"sub":"a","sub":"b"}`, `[]`, `{"aud":[null],"iss":"x","sub":"y","exp":1,"iat":1}`} {
		f.Add(`{"alg":"ES256"}`, payload, "AAAA")
	}
	f.Add(`{"alg":"none"}`, `{}`, "")
	f.Add(`{"alg":"ES256","crit":["b64"],"b64":false}`, `{}`, "....")
	f.Add(``, ``, ``)
	srv := newServer(oauthtest.Options{})
	v, cfg := verifier(srv), config(srv)
	f.Fuzz(func(t *testing.T, header, payload, rest string) {
		part := base64.RawURLEncoding.EncodeToString
		raw := part([]byte(header)) + "." + part([]byte(payload)) + "." + rest
		if c, err := openid.ClaimsOf(token(raw)); err == nil && (c.Subject == "" || c.Issuer == "" || c.Expiry.IsZero()) || err != nil && !errors.Is(err, openid.ErrMalformed) {
			t.Errorf("read as %v, error %v", c, err)
		}
		err := v.VerifyIDToken(t.Context(), cfg, freshtoken.IDToken{Raw: raw})
		var known bool
		for _, s := range sentinels {
			known = known || errors.Is(err, s)
		}
		if !known {
			t.Errorf("got error %v", err)
		}
	})
}
