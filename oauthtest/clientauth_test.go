package oauthtest_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/go-jose/go-jose/v4"
)

// claims are those of a good assertion; a nil value leaves one out.
func sign(t *testing.T, key crypto.Signer, typ, keyID string, edit map[string]any) string {
	t.Helper()
	all := map[string]any{"iss": "client", "sub": "client", "aud": "https://oauth.test", "jti": rand.Text(),
		"iat": time.Now().Unix(), "exp": time.Now().Unix() + 60}
	for name, value := range edit {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	payload, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	o := (&jose.SignerOptions{}).WithType(jose.ContentType(typ))
	if keyID != "" {
		o = o.WithHeader("kid", keyID)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, o)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	s, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newECKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// An assertion counts once, if all of it is right.
func TestAssertions(t *testing.T) {
	const typ, jwtBearer = "client-authentication+jwt", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	key, other := newECKey(t), newECKey(t)
	with := func(name string, value any) func(*testing.T) string {
		return func(t *testing.T) string { return sign(t, key, typ, "a", map[string]any{name: value}) }
	}
	in := func(seconds int64) int64 { return time.Now().Unix() + seconds }
	for name, test := range map[string]struct {
		make   func(t *testing.T) string
		form   url.Values
		header string
		says   string // of the refusal; "": none
	}{
		"good":                     {make: with("x", 1)},
		"good, without client_id":  {make: with("x", 1), form: url.Values{"client_id": nil}},
		"another iss":              {make: with("iss", "x"), says: "iss and sub"},
		"another sub":              {make: with("sub", "x"), says: "iss and sub"},
		"no iss":                   {make: with("iss", nil), says: "iss and sub"},
		"another aud":              {make: with("aud", "https://oauth.test/token"), says: "not for this server"},
		"a list of aud":            {make: with("aud", []string{"https://oauth.test"}), says: "not for this server"},
		"no aud":                   {make: with("aud", nil), says: "not for this server"},
		"expired":                  {make: func(t *testing.T) string { return with("exp", in(0))(t) }, says: "has expired"},
		"no exp":                   {make: with("exp", nil), says: "has expired"},
		"for too long":             {make: func(t *testing.T) string { return with("exp", in(3600))(t) }, says: "too long"},
		"from the future":          {make: func(t *testing.T) string { return with("iat", in(30))(t) }, says: "future"},
		"not yet":                  {make: func(t *testing.T) string { return with("nbf", in(30))(t) }, says: "future"},
		"no jti":                   {make: with("jti", nil), says: "no jti"},
		"claims that are no text":  {make: with("iss", 7), says: "malformed"},
		"another key":              {make: func(t *testing.T) string { return sign(t, other, typ, "a", nil) }, says: "signature"},
		"an unknown key":           {make: func(t *testing.T) string { return sign(t, key, typ, "b", nil) }, says: "not signed by a key"},
		"the only key, unnamed":    {make: func(t *testing.T) string { return sign(t, key, typ, "", nil) }},
		"another typ":              {make: func(t *testing.T) string { return sign(t, key, "JWT", "a", nil) }, says: "typ"},
		"no JWT":                   {make: func(*testing.T) string { return "x" }, says: "no JWT"},
		"unsigned":                 {make: func(*testing.T) string { return "eyJhbGciOiJub25lIn0.e30." }, says: "no JWT"},
		"none":                     {make: func(*testing.T) string { return "" }, form: url.Values{"client_assertion": nil}, says: "missing"},
		"another type":             {make: with("x", 1), form: url.Values{"client_assertion_type": {"x"}}, says: "type"},
		"and a secret":             {make: with("x", 1), form: url.Values{"client_secret": {"s"}}, says: "must not send its secret"},
		"and a header":             {make: with("x", 1), header: "Basic Y2xpZW50Og==", says: "must not send its secret"},
		"another client's request": {make: with("x", 1), form: url.Values{"client_id": {"public"}}, says: ""},
	} {
		bubble(t, "R7523-3: an assertion: "+name, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{OtherClients: map[string]string{"public": ""},
				ClientAuth: oauthtest.ClientAuth{Method: "private_key_jwt", Keys: map[string]crypto.PublicKey{"a": key.Public()}}})
			post := func(assertion string) reply {
				form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {srv.Login("alice").RefreshToken}, "client_id": {"client"},
					"client_assertion_type": {jwtBearer}, "client_assertion": {assertion}}
				for name, value := range test.form {
					if form[name] = value; value == nil {
						delete(form, name)
					}
				}
				req, err := http.NewRequest("POST", srv.TokenURL(), strings.NewReader(form.Encode()))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				if test.header != "" {
					req.Header.Set("Authorization", test.header)
				}
				r, err := do(srv.Client(), req)
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			assertion := test.make(t)
			r := post(assertion)
			if name == "another client's request" {
				if r.status != 400 || r.member(t, "error") != "invalid_grant" {
					t.Errorf("got %d %s", r.status, r.body)
				}
				return
			}
			if test.says != "" {
				if r.status != 401 || r.member(t, "error") != "invalid_client" || !strings.Contains(r.body, test.says) {
					t.Errorf("got %d %s, want %q", r.status, r.body, test.says)
				}
				return
			}
			if r.status != 200 {
				t.Fatalf("got %d %s", r.status, r.body)
			}
			if r = post(assertion); r.status != 401 || srv.Stats().ReplayedAssertions != 1 {
				t.Errorf("shown twice: got %d %s", r.status, r.body)
			}
		})
	}
}

// Over a listener, the certificate is that of the connection.
func TestStartTLS(t *testing.T) {
	key := newECKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "c"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	srv := oauthtest.New(oauthtest.Options{ClientAuth: oauthtest.ClientAuth{Method: "self_signed_tls_client_auth", Certificate: leaf}})
	stop, roots := srv.StartTLS()
	defer stop()
	for name, test := range map[string]struct {
		certs []tls.Certificate
		want  int
	}{
		"R8705-2: with the certificate":  {[]tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, http.StatusOK},
		"R8705-2: without a certificate": {nil, http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			rt := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: test.certs}}
			defer rt.CloseIdleConnections()
			form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {srv.Login("alice").RefreshToken}, "client_id": {"client"}}
			resp, err := (&http.Client{Transport: rt}).PostForm(srv.TokenURL(), form)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != test.want {
				t.Errorf("got %s", resp.Status)
			}
		})
	}
	t.Run("a dropped connection", func(t *testing.T) {
		srv.Token.Next(oauthtest.Fault{DropBefore: true})
		rt := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
		defer rt.CloseIdleConnections()
		if _, err := (&http.Client{Transport: rt}).PostForm(srv.TokenURL(), nil); err == nil {
			t.Error("there is an answer")
		}
	})
}
