package openid_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/openid"
	"github.com/go-jose/go-jose/v4"
)

// inBubble runs a subtest on fake time.
func inBubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func loginWith(raw string) freshtoken.IDToken {
	return freshtoken.IDToken{Raw: raw, AccessToken: access, Nonce: nonce}
}

// One ID token for each rule that breaks it, and no other.
func TestLogin(t *testing.T) {
	at := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for name, test := range map[string]struct {
		changes func() claims
		want    error // nil: it is good
	}{
		"nothing wrong":                           {func() claims { return nil }, nil},
		"another issuer":                          {func() claims { return claims{"iss": "https://other.test"} }, openid.ErrIssuer},
		"the issuer with a slash more":            {func() claims { return claims{"iss": "https://oauth.test/"} }, openid.ErrIssuer},
		"no issuer":                               {func() claims { return claims{"iss": nil} }, openid.ErrMalformed},
		"another audience":                        {func() claims { return claims{"aud": "other"} }, openid.ErrAudience},
		"a list of other audiences":               {func() claims { return claims{"aud": []string{"other", "third"}, "azp": "client"} }, openid.ErrAudience},
		"no audience":                             {func() claims { return claims{"aud": nil} }, openid.ErrMalformed},
		"an empty list of audiences":              {func() claims { return claims{"aud": []string{}} }, openid.ErrAudience},
		"an audience that is a number":            {func() claims { return claims{"aud": 7} }, openid.ErrMalformed},
		"a list of one audience":                  {func() claims { return claims{"aud": []string{"client"}} }, nil},
		"more audiences, and no azp":              {func() claims { return claims{"aud": []string{"client", "other"}} }, openid.ErrAudience},
		"more audiences, and azp":                 {func() claims { return claims{"aud": []string{"client", "other"}, "azp": "client"} }, nil},
		"azp is another client":                   {func() claims { return claims{"azp": "other"} }, openid.ErrAudience},
		"no subject":                              {func() claims { return claims{"sub": nil} }, openid.ErrMalformed},
		"an empty subject":                        {func() claims { return claims{"sub": ""} }, openid.ErrMalformed},
		"a subject that is a number":              {func() claims { return claims{"sub": 4711} }, openid.ErrMalformed},
		"the nonce of another login":              {func() claims { return claims{"nonce": "another"} }, openid.ErrNonce},
		"no nonce":                                {func() claims { return claims{"nonce": nil} }, openid.ErrNonce},
		"expired":                                 {func() claims { return claims{"exp": at(-5 * time.Minute)} }, openid.ErrExpired},
		"expired just now, by a clock that is on": {func() claims { return claims{"exp": at(-5*time.Minute + time.Second)} }, nil},
		"no expiry":                               {func() claims { return claims{"exp": nil} }, openid.ErrMalformed},
		"an expiry that is text":                  {func() claims { return claims{"exp": "tomorrow"} }, openid.ErrMalformed},
		"an expiry with a fraction":               {func() claims { return claims{"exp": float64(at(time.Minute)) + 0.5} }, nil},
		"not valid yet":                           {func() claims { return claims{"nbf": at(5*time.Minute + time.Second)} }, openid.ErrExpired},
		"issued in the future":                    {func() claims { return claims{"iat": at(5*time.Minute + time.Second), "exp": at(time.Hour)} }, openid.ErrIssuedAt},
		"issued in the near future":               {func() claims { return claims{"iat": at(5 * time.Minute), "exp": at(time.Hour)} }, nil},
		"issued long ago":                         {func() claims { return claims{"iat": at(-time.Hour - time.Second)} }, openid.ErrIssuedAt},
		"no iat":                                  {func() claims { return claims{"iat": nil} }, openid.ErrMalformed},
		"another access token":                    {func() claims { return claims{"at_hash": "R2a7yCsxS8BpCgk-2VRP3A"} }, openid.ErrAccessToken},
		"no at_hash":                              {func() claims { return claims{"at_hash": nil} }, nil},
		"an at_hash that is empty":                {func() claims { return claims{"at_hash": ""} }, openid.ErrMalformed},
		"null for what may be missing":            {func() claims { return claims{"at_hash": []byte(nil), "azp": []byte(nil)} }, nil},
	} {
		inBubble(t, "OIDC-3.1.3.7: "+name, func(t *testing.T) {
			srv := newServer(oauthtest.Options{})
			c := with(good(srv), test.changes())
			err := verifier(srv).VerifyIDToken(t.Context(), config(srv), loginWith(sign(c)))
			wantErr(t, err, test.want)
		})
	}
	inBubble(t, "OIDC-3.1.3.7: a nonce where none was sent", func(t *testing.T) {
		srv := newServer(oauthtest.Options{})
		id := loginWith(sign(good(srv)))
		id.Nonce = ""
		wantErr(t, verifier(srv).VerifyIDToken(t.Context(), config(srv), id), openid.ErrNonce)
	})
	inBubble(t, "OIDC-3.1.3.7: max_age", func(t *testing.T) {
		srv := newServer(oauthtest.Options{})
		check := func(changes claims, since time.Duration) error {
			id := loginWith(sign(with(good(srv), changes)))
			id.AuthenticatedSince = time.Now().Add(since)
			return verifier(srv).VerifyIDToken(t.Context(), config(srv), id)
		}
		wantErr(t, check(claims{"auth_time": at(-time.Hour)}, -time.Hour), nil)
		wantErr(t, check(claims{"auth_time": at(-time.Hour - 11*time.Second)}, -time.Hour), openid.ErrAuthTime)
		wantErr(t, check(claims{"auth_time": at(-30 * time.Second)}, 0), openid.ErrAuthTime)
		early := at(-4 * time.Minute) // the server's clock is behind
		wantErr(t, check(claims{"iat": early, "auth_time": early}, 0), nil)
		wantErr(t, check(claims{"auth_time": nil}, -time.Hour), openid.ErrAuthTime)
	})
	t.Run("OIDC-3.1.3.7: none was sent", func(t *testing.T) {
		srv := newServer(oauthtest.Options{})
		wantErr(t, verifier(srv).VerifyIDToken(t.Context(), config(srv), loginWith("")), openid.ErrMissing)
	})
	t.Run("OIDC-3.1.3.7: Google's other issuer is Google's alone", func(t *testing.T) {
		srv := newServer(oauthtest.Options{})
		cfg := config(srv)
		cfg.Issuer = "https://accounts.google.com"
		id := loginWith(sign(with(good(srv), claims{"iss": "accounts.google.com"})))
		wantErr(t, verifier(srv).VerifyIDToken(t.Context(), cfg, id), nil)
		wantErr(t, verifier(srv).VerifyIDToken(t.Context(), config(srv), id), openid.ErrIssuer)
	})
}

func TestSignature(t *testing.T) {
	srv := newServer(oauthtest.Options{})
	c := good(srv)
	kid := map[jose.HeaderKey]any{"kid": alg}
	parts := strings.Split(sign(c), ".")
	part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	own := jose.JSONWebKey{Key: otherKey().Public(), KeyID: "mine"}
	for name, test := range map[string]struct {
		raw  string
		want error
	}{
		"by another key of the same name":        {signBy(t, jose.ES256, otherKey(), kid, c), openid.ErrSignature},
		"by a key that nobody knows":             {signBy(t, jose.ES256, otherKey(), map[jose.HeaderKey]any{"kid": "new"}, c), openid.ErrSignature},
		"by a key without a name":                {signBy(t, jose.ES256, otherKey(), nil, c), openid.ErrSignature},
		"by a key that it brings along":          {signBy(t, jose.ES256, otherKey(), map[jose.HeaderKey]any{"jwk": own, "kid": alg}, c), openid.ErrSignature},
		"by a key that it points to":             {signBy(t, jose.ES256, otherKey(), map[jose.HeaderKey]any{"jku": "https://evil.test/keys", "kid": "evil"}, c), openid.ErrSignature},
		"of other claims":                        {parts[0] + "." + strings.Split(sign(with(c, claims{"sub": "bob"})), ".")[1] + "." + parts[2], openid.ErrSignature},
		"none":                                   {part(`{"alg":"none"}`) + "." + parts[1] + ".", openid.ErrAlgorithm},
		"None":                                   {part(`{"alg":"None"}`) + "." + parts[1] + ".", openid.ErrAlgorithm},
		"by the public key as a secret":          {signBy(t, jose.HS256, make([]byte, 32), kid, c), openid.ErrAlgorithm},
		"by an algorithm that is not listed":     {oauthtest.SignIDToken("EdDSA", c), openid.ErrAlgorithm},
		"a signature that is cut off":            {parts[0] + "." + parts[1] + "." + parts[2][:20], openid.ErrSignature},
		"a signature that is missing":            {parts[0] + "." + parts[1] + ".", openid.ErrSignature},
		"two parts":                              {parts[0] + "." + parts[1], openid.ErrMalformed},
		"encrypted":                              {strings.Repeat("e30.", 4) + "e30", openid.ErrMalformed},
		"no JWT":                                 {"gibberish", openid.ErrMalformed},
		"as JSON with several signatures":        {`{"payload":"` + parts[1] + `","signatures":[]}`, openid.ErrMalformed},
		"a claim that stands there twice":        {part(`{"alg":"ES256"}`) + "." + part(`{"iss":"https://oauth.test","sub":"a","sub":"b","aud":"client","exp":9999999999,"iat":1}`) + ".AAAA", openid.ErrMalformed},
		"claims that are no object":              {part(`{"alg":"ES256"}`) + "." + part(`[]`) + ".AAAA", openid.ErrMalformed},
		"claims in capitals are none of its own": {sign(with(c, claims{"ISS": "https://other.test"})), nil},
	} {
		t.Run("OIDC-3.1.3.7: "+name, func(t *testing.T) {
			wantErr(t, verifier(srv).VerifyIDToken(t.Context(), config(srv), loginWith(test.raw)), test.want)
		})
	}
	for name, crit := range map[string]string{"an extension": `["exp-x"],"exp-x":1`, "b64": `["b64"],"b64":false`, "nothing": `[]`, "null": `null`} {
		t.Run("OIDC-3.1.3.7: a header with crit is refused, which a certificate vouches for: "+name, func(t *testing.T) {
			id := refresh(srv, nil, nil)
			id.Raw = part(`{"alg":"ES256","crit":`+crit+`}`) + strings.TrimPrefix(id.Raw, strings.Split(id.Raw, ".")[0])
			wantErr(t, verifier(srv).VerifyIDToken(t.Context(), config(srv), id), openid.ErrAlgorithm)
		})
	}
	t.Run("OIDC-3.1.3.7: nothing said means RS256", func(t *testing.T) {
		rsa := oauthtest.New(oauthtest.Options{IDTokens: "RS256"})
		v := &openid.Verifier{KeysURL: rsa.KeysURL()}
		wantErr(t, v.VerifyIDToken(t.Context(), config(rsa), loginWith(oauthtest.SignIDToken("RS256", good(rsa)))), nil)
		wantErr(t, v.VerifyIDToken(t.Context(), config(rsa), loginWith(sign(good(rsa)))), openid.ErrAlgorithm)
	})
	t.Run("OIDC-3.1.3.7: a list of nothing that will do accepts nothing", func(t *testing.T) {
		v := &openid.Verifier{KeysURL: srv.KeysURL(), Algorithms: []string{"none", "HS256"}}
		wantErr(t, v.VerifyIDToken(t.Context(), config(srv), loginWith(sign(c))), openid.ErrAlgorithm)
	})
}

// refresh is an ID token of a refresh, and the login that it is compared with.
func refresh(srv *oauthtest.Server, changes claims, was claims) freshtoken.IDToken {
	c := with(good(srv), claims{"nonce": nil})
	return freshtoken.IDToken{Raw: sign(with(c, changes)), AccessToken: access, Refreshed: true, Login: sign(with(good(srv), was))}
}

func TestRefresh(t *testing.T) {
	for name, test := range map[string]struct {
		changes, was claims
		want         error
	}{
		"nothing wrong":                        {nil, nil, nil},
		"the nonce of the login":               {claims{"nonce": nonce}, nil, nil},
		"another nonce":                        {claims{"nonce": "another"}, nil, openid.ErrNonce},
		"a nonce, and the login had none":      {claims{"nonce": nonce}, claims{"nonce": nil}, openid.ErrNonce},
		"another person":                       {claims{"sub": "mallory"}, nil, openid.ErrSubject},
		"another person, but for case":         {claims{"sub": "Alice-4711"}, nil, openid.ErrSubject},
		"another issuer":                       {claims{"iss": "https://other.test"}, claims{"iss": "https://other.test"}, openid.ErrIssuer},
		"another issuer than the login's":      {nil, claims{"iss": "https://other.test"}, openid.ErrIssuer},
		"another audience":                     {claims{"aud": "other"}, nil, openid.ErrAudience},
		"one more audience":                    {claims{"aud": []string{"client", "other"}, "azp": "client"}, claims{"azp": "client"}, openid.ErrAudience},
		"one audience less":                    {claims{"azp": "client"}, claims{"aud": []string{"client", "other"}, "azp": "client"}, openid.ErrAudience},
		"the same audiences in another order":  {claims{"aud": []string{"other", "client"}, "azp": "client"}, claims{"aud": []string{"client", "other"}, "azp": "client"}, nil},
		"azp, and the login had none":          {claims{"azp": "client"}, nil, openid.ErrAudience},
		"no azp, and the login had one":        {nil, claims{"azp": "client"}, openid.ErrAudience},
		"another auth_time":                    {claims{"auth_time": 946684000}, nil, openid.ErrAuthTime},
		"no auth_time":                         {claims{"auth_time": nil}, nil, nil},
		"auth_time, and the login had none":    {nil, claims{"auth_time": nil}, nil},
		"no subject":                           {claims{"sub": nil}, nil, openid.ErrMalformed},
		"another access token":                 {claims{"at_hash": "AAAA"}, nil, openid.ErrAccessToken},
		"a login that was longer than an hour": {nil, claims{"iat": 946681200}, nil},
		"expired":                              {claims{"exp": 946684800 - 301}, nil, openid.ErrExpired},
		"issued before the login":              {claims{"iat": 946684800 - 400}, nil, openid.ErrIssuedAt},
		"issued in the future":                 {claims{"iat": 946684800 + 400, "exp": 946684800 + 999}, nil, openid.ErrIssuedAt},
	} {
		inBubble(t, "OIDC-12.2: "+name, func(t *testing.T) {
			srv := newServer(oauthtest.Options{})
			err := verifier(srv).VerifyIDToken(t.Context(), config(srv), refresh(srv, test.changes, test.was))
			wantErr(t, err, test.want)
			if clock := test.want == openid.ErrExpired || test.want == openid.ErrIssuedAt; temporary(err) != clock {
				t.Errorf("temporary: %v", temporary(err))
			}
		})
	}
	inBubble(t, "OIDC-12.2: a login that brought none has nothing to compare with", func(t *testing.T) {
		srv := newServer(oauthtest.Options{})
		id := refresh(srv, claims{"sub": "mallory"}, nil)
		id.Login = ""
		wantErr(t, verifier(srv).VerifyIDToken(t.Context(), config(srv), id), nil)
	})
	inBubble(t, "OIDC-12.2: what is kept of the login cannot be read", func(t *testing.T) {
		srv := newServer(oauthtest.Options{})
		id := refresh(srv, nil, nil)
		id.Login = "gibberish"
		wantErr(t, verifier(srv).VerifyIDToken(t.Context(), config(srv), id), openid.ErrMalformed)
	})
}

func TestKeys(t *testing.T) {
	unknown := func(srv *oauthtest.Server) freshtoken.IDToken { return refresh(srv, nil, nil) }
	inBubble(t, "OIDC-3.1.3.7: no login without keys, and one later", func(t *testing.T) {
		srv := newServer(oauthtest.Options{})
		v, cfg := verifier(srv), config(srv)
		srv.Handle("evil.test", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.URL.Path = "/jwks"
			srv.ServeHTTP(w, r)
		}))
		for _, f := range []oauthtest.Fault{oauthtest.Refuse(), oauthtest.Status(500), oauthtest.Status(404), oauthtest.HTML(200), oauthtest.JSON(200, "{}"),
			oauthtest.BigBody(2 << 20), oauthtest.Redirect(302, "https://evil.test/keys"), oauthtest.Stall(), oauthtest.Drop()} {
			srv.Keys.Next(f)
			start := time.Now()
			err := v.VerifyIDToken(t.Context(), cfg, loginWith(sign(good(srv))))
			if wantErr(t, err, openid.ErrKeys); !temporary(err) || time.Since(start) > 10*time.Second {
				t.Errorf("%s: after %v: %v", f.Name, time.Since(start), err)
			}
		}
		for range 3 {
			wantErr(t, v.VerifyIDToken(t.Context(), cfg, loginWith(sign(good(srv)))), nil)
		}
		if n := srv.Stats().KeysRequests; n != 2 { // the big one counts
			t.Errorf("the keys were asked for %d times", n)
		}
		id := unknown(srv)
		id.Raw = signBy(t, jose.ES256, otherKey(), map[jose.HeaderKey]any{"kid": "next"}, with(good(srv), claims{"nonce": nil}))
		wantErr(t, v.VerifyIDToken(t.Context(), cfg, id), nil) // by a key that the server may have by now
		if n := srv.Stats().KeysRequests; n != 2 {
			t.Errorf("a refresh asked for the keys")
		}
	})
	inBubble(t, "OIDC-12.2: no refresh waits for keys where a certificate vouches", func(t *testing.T) {
		srv := newServer(oauthtest.Options{})
		v, cfg := verifier(srv), config(srv)
		wantErr(t, v.VerifyIDToken(t.Context(), cfg, unknown(srv)), nil)
		if n := len(srv.LogOf(oauthtest.KeysEndpoint)); n != 0 {
			t.Errorf("the keys were asked for %d times", n)
		}
		id := unknown(srv)
		id.Raw = signBy(t, jose.HS256, make([]byte, 32), nil, good(srv))
		wantErr(t, v.VerifyIDToken(t.Context(), cfg, id), openid.ErrAlgorithm)
	})
	inBubble(t, "OIDC-12.2: a key that is at hand counts", func(t *testing.T) {
		srv := newServer(oauthtest.Options{})
		v, cfg := verifier(srv), config(srv)
		wantErr(t, v.VerifyIDToken(t.Context(), cfg, loginWith(sign(good(srv)))), nil)
		id := unknown(srv)
		id.Raw = signBy(t, jose.ES256, otherKey(), map[jose.HeaderKey]any{"kid": alg}, with(good(srv), claims{"nonce": nil}))
		wantErr(t, v.VerifyIDToken(t.Context(), cfg, id), openid.ErrSignature)
		srv.Keys.Next(oauthtest.Refuse())
		err := v.VerifyIDToken(t.Context(), cfg, id)
		if wantErr(t, err, openid.ErrKeys); !temporary(err) { // a server may use the name again
			t.Error("it is not temporary")
		}
		cfg.OAuth2.Endpoint.TokenURL, cfg.InsecureHTTP = "http://oauth.test/token", true // nothing vouches
		srv.Keys.Next(oauthtest.Refuse())
		err = v.VerifyIDToken(t.Context(), cfg, id)
		if wantErr(t, err, openid.ErrSignature); temporary(err) {
			t.Error("it is temporary")
		}
	})
	for name, edit := range map[string]func(*freshtoken.Config){
		"plain http": func(c *freshtoken.Config) { c.OAuth2.Endpoint.TokenURL = "http://oauth.test/token" },
		"a Refresher": func(c *freshtoken.Config) {
			c.Refresher = freshtoken.RefresherFunc(nil)
		},
	} {
		inBubble(t, "OIDC-12.2: nothing vouches for what comes by "+name, func(t *testing.T) {
			srv := newServer(oauthtest.Options{})
			cfg := config(srv)
			edit(&cfg)
			srv.Keys.Next(oauthtest.Refuse())
			err := verifier(srv).VerifyIDToken(t.Context(), cfg, unknown(srv))
			if wantErr(t, err, openid.ErrKeys); !temporary(err) {
				t.Error("it is not temporary")
			}
			wantErr(t, verifier(srv).VerifyIDToken(t.Context(), cfg, unknown(srv)), nil)
			bad := refresh(srv, claims{"sub": "mallory"}, nil)
			srv.Keys.Next(oauthtest.Refuse())
			wantErr(t, verifier(srv).VerifyIDToken(t.Context(), cfg, bad), openid.ErrSubject)
		})
	}
	inBubble(t, "OIDC-3.1.3.7: keys change, and others stand beside them", func(t *testing.T) {
		srv := newServer(oauthtest.Options{})
		cfg := config(srv)
		keys := `{"kty":"OKP","crv":"Ed448","x":"AA","kid":"ES256"},{"kty":"oct","k":"AAAA","kid":"ES256"},{"kty":"new"},`
		srv.Handle("keys.test", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			public, err := (&jose.JSONWebKey{Key: otherKey().Public(), KeyID: "next"}).MarshalJSON()
			if err != nil {
				t.Error(err)
			}
			w.Write([]byte(`{"keys":[` + keys + string(public) + `]}`))
		}))
		v := verifier(srv)
		v.KeysURL = "https://keys.test/"
		next := signBy(t, jose.ES256, otherKey(), map[jose.HeaderKey]any{"kid": "next"}, good(srv))
		nameless := signBy(t, jose.ES256, otherKey(), nil, good(srv))
		for _, raw := range []string{next, nameless} {
			wantErr(t, v.VerifyIDToken(t.Context(), cfg, loginWith(raw)), nil)
		}
		wantErr(t, v.VerifyIDToken(t.Context(), cfg, loginWith(sign(good(srv)))), openid.ErrSignature)
	})
	for ops, want := range map[string]error{`["verify"]`: nil, `["sign","verify"]`: nil, `["deriveKey"]`: openid.ErrSignature, `[]`: openid.ErrSignature, `"verify"`: openid.ErrSignature} {
		t.Run("OIDC-3.1.3.7: a key verifies that may: key_ops "+ops, func(t *testing.T) {
			srv := newServer(oauthtest.Options{})
			public, err := (&jose.JSONWebKey{Key: otherKey().Public(), KeyID: "k"}).MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			srv.Keys.Always(oauthtest.JSON(200, `{"keys":[{"key_ops":`+ops+`,`+string(public[1:])+`]}`))
			raw := signBy(t, jose.ES256, otherKey(), map[jose.HeaderKey]any{"kid": "k"}, good(srv))
			wantErr(t, verifier(srv).VerifyIDToken(t.Context(), config(srv), loginWith(raw)), want)
		})
	}
	for name, url := range map[string]string{"nothing": "", "plain http": "http://oauth.test/jwks", "no URL": "jwks"} {
		t.Run("OIDC-3.1.3.7: KeysURL is "+name, func(t *testing.T) {
			srv := newServer(oauthtest.Options{})
			v := &openid.Verifier{KeysURL: url, Algorithms: []string{alg}}
			err := v.VerifyIDToken(t.Context(), config(srv), loginWith(sign(good(srv))))
			if wantErr(t, err, openid.ErrKeys); err == nil || !strings.Contains(err.Error(), "Verifier.KeysURL") {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("a Config that lacks what it takes", func(t *testing.T) {
		srv := newServer(oauthtest.Options{})
		cfg := config(srv)
		cfg.Issuer = ""
		wantErr(t, verifier(srv).VerifyIDToken(t.Context(), cfg, loginWith(sign(good(srv)))), openid.ErrKeys)
		if _, err := freshtoken.New(cfg); err == nil || errors.Is(err, openid.ErrKeys) || !strings.Contains(err.Error(), "Config.Issuer") {
			t.Errorf("New: %v", err)
		}
	})
}
