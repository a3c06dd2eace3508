package freshtoken_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

const assertion = "hush.client.assertion"

// proving has a ClientAuth that returns these parameters.
func proving(params url.Values, err error) func(*freshtoken.Config) {
	return func(c *freshtoken.Config) {
		c.ClientAuth = freshtoken.ClientAuthenticatorFunc(func(context.Context, freshtoken.ClientRequest) (url.Values, error) { return params, err })
	}
}

type failure struct {
	error
	passes bool
}

func (f failure) Temporary() bool { return f.passes }

// A ClientAuthenticator that fails, or returns what it must not, costs no request
// and no session.
func TestClientAuthFails(t *testing.T) {
	broken := errors.New("the key is gone")
	for name, test := range map[string]struct {
		params    url.Values
		err       error
		says      string
		temporary bool
	}{
		"an error":                     {nil, broken, "this program cannot prove to the server which client it is: the key is gone", false},
		"an error that passes":         {nil, failure{broken, true}, "the key is gone", true},
		"an error that says otherwise": {nil, failure{broken, false}, "the key is gone", false},
		"an error of time":             {nil, fmt.Errorf("asking: %w", context.DeadlineExceeded), "asking", true},
		"a parameter that is there":    {url.Values{"grant_type": {"x"}}, nil, `"grant_type"`, false},
		"the refresh token":            {url.Values{"refresh_token": {"x"}}, nil, `"refresh_token"`, false},
		"the client ID":                {url.Values{"client_id": {"x"}}, nil, `"client_id"`, false},
		"a secret":                     {url.Values{"client_secret": {"x"}}, nil, `"client_secret"`, false},
		"an empty parameter":           {url.Values{"client_assertion": {""}}, nil, `"client_assertion"`, false},
		"one without a value":          {url.Values{"client_assertion": {}}, nil, `"client_assertion"`, false},
		"one twice":                    {url.Values{"client_assertion": {"a", "b"}}, nil, `"client_assertion"`, false},
	} {
		inBubble(t, name, func(t *testing.T) {
			w, src := expired(t, oauthtest.Options{}, proving(test.params, test.err))
			_, err := src.Token(t.Context())
			e := refreshError(t, err)
			if !strings.Contains(err.Error(), test.says) || e.Temporary != test.temporary || e.OutcomeUnknown || errors.Is(err, freshtoken.ErrSessionEnded) {
				t.Errorf("got %v, %+v", err, *e)
			}
			if test.err != nil && !errors.Is(err, test.err) && !errors.Is(err, broken) {
				t.Errorf("the cause is lost: %v", err)
			}
			w.wantPosts(0)
			calls := 0
			for range 100 {
				if _, err := src.Token(t.Context()); err != nil {
					calls++
				}
				time.Sleep(time.Second)
			}
			w.wantPosts(0)
			if strings.Contains(w.stored(), `"mark"`) || !strings.Contains(w.stored(), `"refresh_token"`) || strings.Contains(w.stored(), `"pause"`) {
				t.Errorf("the record is %s", w.stored())
			}
			healthy := w.source()
			if _, err := healthy.Token(t.Context()); err != nil {
				t.Errorf("another program cannot go on: %v", err)
			}
		})
	}
}

func TestClientAuthIsTold(t *testing.T) {
	inBubble(t, "R7523-3: anew for each request, and of what it goes to", func(t *testing.T) {
		var told []freshtoken.ClientRequest
		auth := freshtoken.ClientAuthenticatorFunc(func(ctx context.Context, to freshtoken.ClientRequest) (url.Values, error) {
			if ctx.Err() != nil {
				t.Error("the context is over")
			}
			told = append(told, to)
			return nil, nil
		})
		w, src := expired(t, oauthtest.Options{}, func(c *freshtoken.Config) {
			c.ClientAuth, c.Issuer, c.RevocationURL = auth, "https://issuer.test", "https://oauth.test/revoke"
		})
		if _, err := src.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lifetime)
		if _, err := src.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := src.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		at := func(endpoint string) freshtoken.ClientRequest {
			return freshtoken.ClientRequest{ClientID: "client", Issuer: "https://issuer.test", TokenURL: w.as.TokenURL(), Endpoint: endpoint}
		}
		want := []freshtoken.ClientRequest{at(w.as.TokenURL()), at(w.as.TokenURL()), at(w.as.RevocationURL())}
		if fmt.Sprint(told) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", told, want)
		}
	})
}

func TestClientAuthConfig(t *testing.T) {
	w := newWorld(t, oauthtest.Options{})
	for name, test := range map[string]struct {
		edit func(*freshtoken.Config)
		says string
	}{
		"R6749-2.3: two ways":     {func(c *freshtoken.Config) { c.OAuth2.ClientSecret = "hush" }, "one way"},
		"a client without a name": {func(c *freshtoken.Config) { c.OAuth2.ClientID = ""; c.Refresher = freshtoken.RefresherFunc(nil) }, "ClientID"},
		"an assertion that is not new": {func(c *freshtoken.Config) {
			c.ClientAuth, c.RefreshParams = nil, url.Values{"client_assertion": {"x"}}
		}, `"client_assertion"`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := w.config()
			proving(nil, nil)(&cfg)
			test.edit(&cfg)
			_, err := freshtoken.New(cfg)
			if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "hush") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A client that is refused while the server's clock says otherwise learns of it.
func TestClientAuthClock(t *testing.T) {
	for name, test := range map[string]struct {
		skew time.Duration
		says string // "": nothing of clocks
		none bool   // no ClientAuth
	}{
		"R7523-3: a clock that is behind":             {5 * time.Minute, "5 minutes behind the server's", false},
		"R7523-3: a clock that is ahead":              {-2 * time.Hour, "120 minutes ahead of the server's", false},
		"R7523-3: clocks that agree well enough":      {20 * time.Second, "", false},
		"R7523-3: a client without assertions":        {time.Hour, "", true},
		"R7523-3: a year of difference does not harm": {-365 * 24 * time.Hour, "ahead", false},
	} {
		inBubble(t, name, func(t *testing.T) {
			w, src := expired(t, oauthtest.Options{}, func(c *freshtoken.Config) {
				if !test.none {
					proving(url.Values{"client_assertion": {assertion}}, nil)(c)
				}
			})
			refusal := oauthtest.Error(401, "invalid_client")
			refusal.Header.Set("Date", time.Now().Add(test.skew).UTC().Format(http.TimeFormat))
			w.as.Token.Next(refusal)
			_, err := src.Token(t.Context())
			if errors.Is(err, freshtoken.ErrClock) != (test.says != "") || !strings.Contains(err.Error(), test.says) || isEnded(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func isEnded(err error) bool { return errors.Is(err, freshtoken.ErrSessionEnded) }

// ST-redact: a server, or a transport, that repeats the assertion is not quoted.
func TestAssertionIsNotShown(t *testing.T) {
	for name, fault := range map[string]oauthtest.Fault{
		"in the description": oauthtest.JSON(401, `{"error":"invalid_client","error_description":"bad assertion `+assertion+`"}`),
		"in the code":        oauthtest.JSON(401, `{"error":"`+assertion+`"}`),
		"in part":            oauthtest.JSON(400, `{"error":"invalid_request","error_description":"bad ...`+assertion[4:18]+`..."}`),
	} {
		inBubble(t, "ST-redact "+name, func(t *testing.T) {
			w, src := expired(t, oauthtest.Options{}, proving(url.Values{"client_assertion": {assertion}}, nil), func(c *freshtoken.Config) { c.RevocationURL = "https://oauth.test/revoke" })
			w.as.Token.Next(fault)
			w.as.Revocation.Next(fault)
			_, err := src.Token(t.Context())
			shown := spill(err, src, src.Status(), src.Logout(t.Context()))
			if strings.Contains(shown, "assertion") && strings.Contains(shown, assertion[4:18]) || strings.Contains(w.stored(), assertion[4:18]) {
				t.Errorf("it is shown: %v", err)
			}
		})
	}
	inBubble(t, "ST-redact by the transport", func(t *testing.T) {
		_, src := expired(t, oauthtest.Options{}, proving(url.Values{"client_assertion": {assertion}}, nil), func(c *freshtoken.Config) {
			c.HTTPClient = &http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
				return nil, errors.New("cannot send client_assertion=" + assertion)
			})}
		})
		_, err := src.Token(t.Context())
		if err == nil || strings.Contains(err.Error(), assertion) {
			t.Errorf("it is shown: %v", err)
		}
	})
}
