package grant_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/clientauth"
	"github.com/freshtoken/freshtoken/grant"
	"github.com/freshtoken/freshtoken/internal/mark"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// A strict server takes each assertion once, and has all it asks for.
func TestJWTBearer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := trusting()
		src := open(t, configOf(srv, &grant.JWTBearer{Key: key, Issuer: "robot", Subject: "alice", Audience: srv.BaseURL(), Scopes: []string{"read"}}))
		resp, err := apiClient(srv, src).Get(srv.APIURL("x?scope=read"))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || !strings.Contains(string(body), "alice") {
			t.Errorf("%s: %s", resp.Status, mark.Hide(body))
		}
		for range 9 {
			if _, err := src.Refresh(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		if got := srv.Stats(); got.JWTBearers != 10 || got.ReplayedAssertions != 0 || got.InvalidGrants != 0 {
			t.Errorf("%d assertions, %d refused, %d of them used before", got.JWTBearers, got.InvalidGrants, got.ReplayedAssertions)
		}
	})
}

// Each attempt has an assertion of its own, also after one that got no answer.
func TestAssertionPerAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := trusting()
		src := open(t, configOf(srv, &grant.JWTBearer{Key: key, Issuer: "robot"}))
		token(t, src)
		for _, f := range []oauthtest.Fault{oauthtest.LoseAnswer(), oauthtest.Unavailable("1"), oauthtest.Status(500)} {
			srv.Token.Next(f)
			src.Refresh(t.Context(), nil)
			time.Sleep(time.Hour)
			token(t, src)
		}
		if got := srv.Stats(); got.ReplayedAssertions != 0 || got.InvalidGrants != 0 || got.JWTBearers != 5 {
			t.Errorf("%d assertions, %d refused, %d of them used before", got.JWTBearers, got.InvalidGrants, got.ReplayedAssertions)
		}
	})
}

// claimsOf returns the header and the claims of the assertion that a JWTBearer
// makes, and the form that it is sent in.
func claimsOf(t *testing.T, j *grant.JWTBearer, edit func(*freshtoken.Config)) (header, claims map[string]any, form url.Values) {
	t.Helper()
	e := new(endpoint)
	cfg := e.config(j)
	if edit != nil {
		edit(&cfg)
	}
	token(t, open(t, cfg))
	form = e.seen()[0]
	return part(t, form.Get("assertion"), 0), part(t, form.Get("assertion"), 1), form
}

func TestAssertions(t *testing.T) {
	rsaKey := must(clientauth.NewKey(must(rsa.GenerateKey(rand.Reader, 2048))))
	t.Run("a service account of Google", func(t *testing.T) {
		header, claims, form := claimsOf(t, &grant.JWTBearer{Key: rsaKey, KeyID: "k", Issuer: "x@y.iam.gserviceaccount.com", OmitSubject: true,
			Claims: map[string]any{"scope": "https://www.googleapis.com/auth/drive"}}, nil)
		if header["alg"] != "RS256" || header["typ"] != "JWT" || header["kid"] != "k" {
			t.Errorf("the header is %v", header)
		}
		if claims["iss"] != "x@y.iam.gserviceaccount.com" || claims["aud"] != "https://sts.test/token" || claims["scope"] != "https://www.googleapis.com/auth/drive" ||
			claims["sub"] != nil || claims["exp"].(float64)-claims["iat"].(float64) != 60 {
			t.Errorf("the claims are %v", claims)
		}
		if len(form) != 2 || form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
			t.Errorf("the form is %v", form)
		}
	})
	t.Run("an app of Salesforce", func(t *testing.T) {
		header, claims, form := claimsOf(t, &grant.JWTBearer{Key: rsaKey, Subject: "me@example.com", Audience: "https://login.salesforce.com", Lifetime: 3 * time.Minute},
			func(c *freshtoken.Config) { c.OAuth2.ClientID = "consumer" })
		if header["alg"] != "RS256" || claims["iss"] != "consumer" || claims["sub"] != "me@example.com" || claims["aud"] != "https://login.salesforce.com" ||
			claims["exp"].(float64)-claims["iat"].(float64) != 180 || claims["jti"] == "" {
			t.Errorf("%v, %v", header, claims)
		}
		if form.Get("client_id") != "consumer" {
			t.Errorf("client_id is %q", form.Get("client_id"))
		}
	})
	t.Run("R7523-3: what is left out", func(t *testing.T) {
		_, claims, _ := claimsOf(t, &grant.JWTBearer{Key: key, Issuer: "robot"}, func(c *freshtoken.Config) { c.Issuer = "https://sts.test" })
		if claims["iss"] != "robot" || claims["sub"] != "robot" || claims["aud"] != "https://sts.test" || len(claims) != 6 {
			t.Errorf("the claims are %v", claims)
		}
	})
	t.Run("one of somebody else", func(t *testing.T) {
		_, _, form := func() (any, any, url.Values) {
			e := new(endpoint)
			token(t, open(t, e.config(&grant.JWTBearer{Assertion: fixed("a.b.c", ""), Scopes: []string{"x", "y"}})))
			return nil, nil, e.seen()[0]
		}()
		if form.Get("assertion") != "a.b.c" || form.Get("scope") != "x y" || len(form) != 3 {
			t.Errorf("the form is %v", form)
		}
	})
}

func TestBadJWTBearer(t *testing.T) {
	for name, test := range map[string]struct {
		j    *grant.JWTBearer
		want error
	}{
		"nil":                 {nil, grant.ErrNoSubject},
		"neither":             {&grant.JWTBearer{Issuer: "robot"}, grant.ErrNoSubject},
		"both":                {&grant.JWTBearer{Issuer: "robot", Key: key, Assertion: fixed("a", "")}, grant.ErrNoSubject},
		"an empty key":        {&grant.JWTBearer{Issuer: "robot", Key: new(clientauth.Key)}, clientauth.ErrNoKey},
		"no issuer":           {&grant.JWTBearer{Key: key}, grant.ErrClaims},
		"a claim twice":       {&grant.JWTBearer{Key: key, Issuer: "robot", Claims: map[string]any{"exp": 1}}, grant.ErrClaims},
		"no JSON":             {&grant.JWTBearer{Key: key, Issuer: "robot", Claims: map[string]any{"f": func() {}}}, grant.ErrClaims},
		"a subject, and none": {&grant.JWTBearer{Key: key, Issuer: "robot", Subject: "x", OmitSubject: true}, grant.ErrClaims},
		"two hours":           {&grant.JWTBearer{Key: key, Issuer: "robot", Lifetime: 2 * time.Hour}, grant.ErrLifetime},
		"less than nothing":   {&grant.JWTBearer{Key: key, Issuer: "robot", Lifetime: -1}, grant.ErrLifetime},
		"another algorithm":   {&grant.JWTBearer{Key: key, Issuer: "robot", Algorithm: "RS256"}, clientauth.ErrAlgorithm},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := freshtoken.New(new(endpoint).config(test.j)); !errors.Is(err, test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// An assertion that is refused may be so because of a clock, and says so.
func TestRefusedAssertion(t *testing.T) {
	e := &endpoint{date: time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), answer: func(_ int, form url.Values) (int, string) {
		return 400, fmt.Sprintf(`{"error":"invalid_grant","error_description":"bad: %s"}`, form.Get("assertion"))
	}}
	secret := mark.New(mark.Value)
	j := &grant.JWTBearer{Key: key, Issuer: "robot", Claims: map[string]any{"secret": secret}}
	_, err := open(t, e.config(j)).Token(t.Context())
	if !errors.Is(err, grant.ErrRefused) || !errors.Is(err, freshtoken.ErrClock) {
		t.Errorf("got %v", err)
	}
	clean(t, err)
	e.date = ""
	_, err = open(t, e.config(j)).Token(t.Context())
	if !errors.Is(err, grant.ErrRefused) || errors.Is(err, freshtoken.ErrClock) || !strings.Contains(err.Error(), "check Issuer") {
		t.Errorf("got %v", err)
	}
	clean(t, err)
}

// kms is a signer that fails.
type kms struct {
	crypto.Signer
	err error
}

func (k kms) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, k.err }

func TestSignerFails(t *testing.T) {
	broken := errors.New("the KMS is away")
	e := new(endpoint)
	_, err := open(t, e.config(&grant.JWTBearer{Key: must(clientauth.NewKey(kms{ecKey, broken})), Issuer: "robot"})).Token(t.Context())
	failed := new(freshtoken.RefreshError)
	if !errors.Is(err, broken) || !errors.Is(err, clientauth.ErrSigner) || !errors.As(err, &failed) || !failed.Temporary || len(e.seen()) != 0 {
		t.Errorf("got %v", err)
	}
}

// Which client asks is proved as for any other request.
func TestClientOfAGrant(t *testing.T) {
	auth := must(clientauth.PrivateKeyJWT(key, clientauth.Options{}))
	srv := oauthtest.New(oauthtest.Options{ClientID: "service", ClientAuth: oauthtest.ClientAuth{
		Method: "private_key_jwt", Keys: map[string]crypto.PublicKey{"": ecKey.Public()}},
		Grants: oauthtest.Grants{Issuers: map[string]crypto.PublicKey{"robot": ecKey.Public()}}})
	for name, r := range map[string]freshtoken.Refresher{
		"client credentials": &grant.ClientCredentials{Scopes: []string{"jobs"}},
		"JWT bearer":         &grant.JWTBearer{Key: key, Issuer: "robot"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := configOf(srv, r)
			cfg.ClientAuth, cfg.Issuer = auth, srv.BaseURL()
			src := open(t, cfg)
			token(t, src)
			if _, err := src.Refresh(t.Context(), nil); err != nil {
				t.Error(err)
			}
			// A client that the server does not accept is not the assertion's fault.
			srv.Token.Next(oauthtest.Error(401, "invalid_client"))
			_, err := src.Refresh(t.Context(), nil)
			failed := new(freshtoken.RefreshError)
			if !errors.As(err, &failed) || failed.Temporary || errors.Is(err, grant.ErrRefused) || !strings.Contains(err.Error(), "Config.ClientAuth") {
				t.Errorf("got %v", err)
			}
		})
	}
	if got := srv.Stats(); got.ClientCredentials != 2 || got.JWTBearers != 2 || got.ReplayedAssertions != 0 || got.BadClients != 0 {
		t.Errorf("%+v", got)
	}
}

func TestGrantThatIsNotAllowed(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{ClientID: "service", ClientSecret: mark.New(mark.ClientSecret)})
	_, err := open(t, configOf(srv, &grant.JWTBearer{Key: key, Issuer: "robot"})).Token(t.Context())
	if err == nil || !strings.Contains(err.Error(), "allow it the grant type urn:ietf:params:oauth:grant-type:jwt-bearer at the server") {
		t.Errorf("got %v", err)
	}
	t.Run("a client without anything to authenticate with", func(t *testing.T) {
		_, err := freshtoken.New(freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "x", Endpoint: oauth2.Endpoint{TokenURL: "https://sts.test/token"}},
			Refresher: &grant.ClientCredentials{}})
		if !errors.Is(err, grant.ErrConfig) {
			t.Errorf("got %v", err)
		}
	})
}

// The request is asked for with the context of whoever waits, and given up with
// it.
func TestHangingSubject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := new(endpoint)
		src := open(t, e.config(&grant.TokenExchange{Subject: func(ctx context.Context) (string, string, error) {
			<-ctx.Done()
			return "", "", ctx.Err()
		}}))
		if err := src.SetToken(t.Context(), &oauth2.Token{AccessToken: "old", Expiry: time.Now().Add(time.Second)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		start := time.Now()
		_, err := src.Token(t.Context())
		failed := new(freshtoken.RefreshError)
		if !errors.As(err, &failed) || !failed.Temporary || failed.OutcomeUnknown || time.Since(start) > time.Minute || len(e.seen()) != 0 {
			t.Errorf("after %v: %+v", time.Since(start), err)
		}
	})
}
