package discovery_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/discovery"
	"golang.org/x/oauth2"
)

// everything is what a server may say that Configure looks at.
var everything = []string{
	`"authorization_endpoint": "https://as.test/authorize?tenant=1"`,
	`"token_endpoint": "https://as.test/token"`,
	`"device_authorization_endpoint": "https://as.test/device"`,
	`"revocation_endpoint": "https://elsewhere.test/revoke"`,
	`"authorization_response_iss_parameter_supported": true`,
}

// untouchable is a store that is out of order, and whose sessions must not be
// touched.
type untouchable struct{ t *testing.T }

var _ freshtoken.Store = untouchable{}

func (u untouchable) Load(_ context.Context, key string) ([]byte, error) {
	if !strings.HasPrefix(key, "freshtoken/1/metadata/") {
		u.t.Errorf("%s was read", key)
	}
	return nil, errors.New("no")
}

func (u untouchable) Save(_ context.Context, key string, _ []byte) error {
	if !strings.HasPrefix(key, "freshtoken/1/metadata/") {
		u.t.Errorf("%s was written", key)
	}
	return errors.New("no")
}

func (u untouchable) Delete(context.Context, string) error {
	u.t.Error("the store was emptied")
	return errors.New("no")
}

func (u untouchable) Lock(context.Context, string) (func() error, error) {
	u.t.Error("the store was locked")
	return nil, errors.New("no")
}

// configure runs Configure with a server at https://as.test that has these
// members, and checks that what is shared is left alone, and everything if it
// fails.
func configure(t *testing.T, cfg *freshtoken.Config, members ...string) (*discovery.Metadata, error) {
	t.Helper()
	web := newWeb(t)
	web.host("as.test", map[string]http.Handler{oauthForm: page{body: doc(as, members...)}})
	cfg.HTTPClient, cfg.Issuer, cfg.Store = web.client(), as, untouchable{t}
	before, shared := *cfg, cfg.OAuth2
	backing := shared.Scopes[:cap(shared.Scopes)]
	scopes := append([]string{}, backing...)
	content := *shared

	m, err := discovery.Configure(t.Context(), cfg)
	if !reflect.DeepEqual(*shared, content) || !reflect.DeepEqual(append([]string{}, backing...), scopes) {
		t.Errorf("the caller's oauth2.Config was changed: %v, %q", *shared, backing)
	}
	if err != nil && (!same(cfg, &before) || cfg.OAuth2 != shared || m != nil) {
		t.Errorf("changed in spite of %v", err)
	}
	return m, err
}

// same compares what can be compared.
func same(a, b *freshtoken.Config) bool {
	x, y := *a, *b
	return reflect.DeepEqual(&x, &y)
}

func TestConfigureFillsIn(t *testing.T) {
	t.Run("what is empty", func(t *testing.T) {
		cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app", RedirectURL: "http://127.0.0.1/", Scopes: []string{"a"}}}
		m, err := configure(t, &cfg, everything...)
		if err != nil {
			t.Fatal(err)
		}
		want := &oauth2.Config{ClientID: "app", RedirectURL: "http://127.0.0.1/", Scopes: []string{"a"}, Endpoint: oauth2.Endpoint{
			AuthURL: "https://as.test/authorize?tenant=1", TokenURL: "https://as.test/token", DeviceAuthURL: "https://as.test/device",
		}}
		if !reflect.DeepEqual(cfg.OAuth2, want) {
			t.Errorf("got %+v\nwant %+v", cfg.OAuth2, want)
		}
		if cfg.RevocationURL != "https://elsewhere.test/revoke" || !cfg.RequireIss || cfg.Issuer != as {
			t.Errorf("got %q, %v, %q", cfg.RevocationURL, cfg.RequireIss, cfg.Issuer)
		}
		if m.TokenEndpoint != want.Endpoint.TokenURL {
			t.Errorf("the metadata has %q", m.TokenEndpoint)
		}
	})
	t.Run("nothing that is set", func(t *testing.T) {
		own := oauth2.Config{ClientID: "app", ClientSecret: "s", Endpoint: oauth2.Endpoint{
			AuthURL: "https://own.test/a", TokenURL: "https://own.test/t", DeviceAuthURL: "https://own.test/d", AuthStyle: oauth2.AuthStyleInParams,
		}}
		cfg := freshtoken.Config{OAuth2: &own, RevocationURL: "https://own.test/r", RequireIss: true}
		_, err := configure(t, &cfg, `"token_endpoint": "https://as.test/token"`, `"authorization_endpoint": "https://as.test/a"`,
			`"device_authorization_endpoint": "https://as.test/d"`, `"revocation_endpoint": "https://as.test/r"`,
			`"token_endpoint_auth_methods_supported": ["client_secret_basic"]`, `"authorization_response_iss_parameter_supported": false`)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(cfg.OAuth2, &own) || cfg.RevocationURL != "https://own.test/r" || !cfg.RequireIss {
			t.Errorf("got %+v, %q, %v", cfg.OAuth2, cfg.RevocationURL, cfg.RequireIss)
		}
	})
	t.Run("R8414-2: no token endpoint", func(t *testing.T) {
		_, err := configure(t, &freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app"}}, everything[0])
		wantError(t, err, discovery.ErrInvalid, "token_endpoint is missing", "TokenURL")
	})
	t.Run("R8414-2: no token endpoint, and none needed", func(t *testing.T) {
		refresher := freshtoken.RefresherFunc(func(context.Context, *oauth2.Token) (*oauth2.Token, error) { return nil, errors.New("no") })
		for _, cfg := range []freshtoken.Config{
			{OAuth2: &oauth2.Config{ClientID: "app", Endpoint: oauth2.Endpoint{TokenURL: "https://own.test/t"}}},
			{OAuth2: &oauth2.Config{ClientID: "app"}, Refresher: refresher},
		} {
			web := newWeb(t)
			web.host("as.test", map[string]http.Handler{oauthForm: page{body: doc(as)}})
			cfg.HTTPClient, cfg.Issuer = web.client(), as
			if _, err := discovery.Configure(t.Context(), &cfg); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestOfflineAccess(t *testing.T) {
	spare := make([]string, 1, 4)
	spare[0] = "a"
	for name, test := range map[string]struct{ has, listed, want []string }{
		"added":                         {[]string{"a"}, []string{"a", "offline_access"}, []string{"a", "offline_access"}},
		"added, beside the spare room":  {spare, []string{"offline_access"}, []string{"a", "offline_access"}},
		"not added to none":             {nil, []string{"offline_access"}, nil},
		"there already":                 {[]string{"offline_access", "a"}, []string{"offline_access"}, []string{"offline_access", "a"}},
		"not listed":                    {[]string{"a"}, []string{"a", "OFFLINE_ACCESS", "offline_access.x"}, []string{"a"}},
		"not listed, and asked for":     {[]string{"offline_access"}, nil, []string{"offline_access"}},
		"not listed, and nothing asked": {nil, nil, nil},
	} {
		t.Run("offline_access is "+name, func(t *testing.T) {
			listed, _ := json.Marshal(test.listed)
			cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app", Scopes: test.has}}
			if _, err := configure(t, &cfg, append(everything, `"scopes_supported": `+string(listed))...); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(cfg.OAuth2.Scopes, test.want) {
				t.Errorf("got %q, want %q", cfg.OAuth2.Scopes, test.want)
			}
			if len(test.has) > 0 && &cfg.OAuth2.Scopes[0] == &test.has[0] {
				t.Error("the list is the caller's")
			}
		})
	}
}

func TestClientAuthentication(t *testing.T) {
	const none, basic, post = oauth2.AuthStyleAutoDetect, oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams
	for _, test := range []struct {
		methods string // JSON; "": the member is missing
		secret  string
		style   oauth2.AuthStyle
		want    oauth2.AuthStyle
		fails   bool
	}{
		{methods: "", want: none},
		{methods: `["none"]`, want: none},
		{methods: `["client_secret_basic"]`, want: none},
		{methods: `["private_key_jwt"]`, want: none},
		{methods: "", secret: canary, want: basic},
		{methods: "null", secret: canary, want: basic},
		{methods: "[]", secret: canary, want: basic},
		{methods: `["client_secret_basic"]`, secret: canary, want: basic},
		{methods: `["client_secret_post", "client_secret_basic"]`, secret: canary, want: basic},
		{methods: `["client_secret_post"]`, secret: canary, want: post},
		{methods: `["private_key_jwt", "client_secret_post", "none"]`, secret: canary, want: post},
		{methods: `["private_key_jwt", "none"]`, secret: canary, fails: true},
		{methods: `["none"]`, secret: canary, fails: true},
		{methods: `["CLIENT_SECRET_BASIC"]`, secret: canary, fails: true},
		{methods: `["private_key_jwt\u001b[2J\u202e"]`, secret: canary, fails: true},
		{methods: `["private_key_jwt"]`, secret: canary, style: post, want: post},
		{methods: `["client_secret_post"]`, secret: canary, style: basic, want: basic},
	} {
		t.Run(fmt.Sprintf("R8414-2-auth: methods %s, secret %v, style %d", test.methods, test.secret != "", test.style), func(t *testing.T) {
			members := everything
			if test.methods != "" {
				members = append([]string{`"token_endpoint_auth_methods_supported": ` + test.methods}, members...)
			}
			cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app", ClientSecret: test.secret, Endpoint: oauth2.Endpoint{AuthStyle: test.style}}}
			_, err := configure(t, &cfg, members...)
			if test.fails {
				wantError(t, err, discovery.ErrClientAuth, strings.Trim(strings.Split(test.methods, `\`)[0], `["`)[:4], "Endpoint.AuthStyle", "ClientSecret")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := cfg.OAuth2.Endpoint.AuthStyle; got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

func TestConfigureRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		cfg  *freshtoken.Config
		says string
	}{
		"nothing":     {nil, "Config.OAuth2 is nil: set it"},
		"no OAuth2":   {&freshtoken.Config{Issuer: as}, "Config.OAuth2 is nil: set it"},
		"no ClientID": {&freshtoken.Config{Issuer: as, OAuth2: new(oauth2.Config)}, "ClientID is empty: set it"},
		"no Issuer":   {&freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app"}}, "Issuer is empty: set it"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := discovery.Configure(t.Context(), test.cfg)
			if err == nil || !strings.HasPrefix(err.Error(), "discovery: ") || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v", err)
			}
		})
	}
	for name, test := range map[string]struct {
		member string
		want   error
	}{
		"R8414-3.3: a second issuer":        {`"issuer": "https://evil.test"`, discovery.ErrInvalid},
		"R8414-2: an endpoint in the clear": {`"userinfo_endpoint": "http://as.test/me"`, discovery.ErrInvalid},
		"R8414-2: a wrong type":             {`"scopes_supported": "offline_access"`, discovery.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app", ClientSecret: canary}}
			_, err := configure(t, &cfg, append(everything, test.member)...)
			wantError(t, err, test.want)
		})
	}
	t.Run("R8414-3.3: another issuer", func(t *testing.T) {
		web := newWeb(t)
		web.host("as.test", map[string]http.Handler{oauthForm: page{body: doc("https://evil.test", everything...)}})
		cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app"}, Issuer: as, HTTPClient: web.client(), Store: untouchable{t}}
		before := cfg
		_, err := discovery.Configure(t.Context(), &cfg)
		wantError(t, err, discovery.ErrIssuer, as, "https://evil.test")
		if !same(&cfg, &before) {
			t.Error("the Config was changed")
		}
	})
}

// A network that is trusted takes the same exception as in the root package.
func TestInsecureHTTP(t *testing.T) {
	const plain = "http://as.test"
	for _, insecure := range []bool{false, true} {
		t.Run(fmt.Sprintf("R8414-2: plain http with InsecureHTTP %v", insecure), func(t *testing.T) {
			web := newWeb(t)
			web.host("as.test", map[string]http.Handler{oauthForm: page{body: doc(plain, `"token_endpoint": "http://as.test/token"`)}})
			cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app"}, Issuer: plain, HTTPClient: web.client(), InsecureHTTP: insecure}
			_, err := discovery.Configure(t.Context(), &cfg)
			if !insecure {
				wantError(t, err, discovery.ErrIssuer, "Config.InsecureHTTP")
				return
			}
			if err != nil || cfg.OAuth2.Endpoint.TokenURL != "http://as.test/token" {
				t.Fatal(err)
			}
			accepted(t, cfg)
		})
	}
}

// accepted checks that freshtoken.New takes what Configure has made.
func accepted(t *testing.T, cfg freshtoken.Config) {
	t.Helper()
	src, err := freshtoken.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
}

func TestNewAcceptsWhatConfigureMakes(t *testing.T) {
	var issuer string
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != openidForm {
			http.NotFound(w, r)
			return
		}
		page{body: doc(issuer, fmt.Sprintf(`"token_endpoint": %q`, issuer+"/token"), fmt.Sprintf(`"revocation_endpoint": %q`, issuer+"/revoke"))}.ServeHTTP(w, r)
	})
	for name, srv := range map[string]*httptest.Server{"over TLS": tlsServer(t, handler), "on this machine": httptest.NewServer(handler)} {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(srv.Close)
			issuer = srv.URL
			cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "app", ClientSecret: "s"}, Issuer: issuer, HTTPClient: srv.Client()}
			if _, err := discovery.Configure(t.Context(), &cfg); err != nil {
				t.Fatal(err)
			}
			if cfg.OAuth2.Endpoint.TokenURL != issuer+"/token" || cfg.RevocationURL != issuer+"/revoke" {
				t.Errorf("got %q, %q", cfg.OAuth2.Endpoint.TokenURL, cfg.RevocationURL)
			}
			accepted(t, cfg)
		})
	}
}
