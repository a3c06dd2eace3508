package grant

import (
	"context"
	"net/url"

	"github.com/freshtoken/freshtoken"
	"golang.org/x/oauth2"
)

// ClientCredentials has each token for the client itself (RFC 6749 section 4.4),
// which has to authenticate: a Config.Refresher, and the session's beginning. The
// zero value is ready for use. Its fields are set before use and not changed
// thereafter; it is then safe for concurrent use.
type ClientCredentials struct {
	// Scopes are those that the token is to have. Nil: the server chooses.
	Scopes []string
}

var (
	_ freshtoken.ConfigRefresher = (*ClientCredentials)(nil)
	_ freshtoken.Authenticator   = (*ClientCredentials)(nil)
)

// ForConfig implements freshtoken.ConfigRefresher. The errors are ErrConfig, if
// the client has nothing to authenticate with, and ErrParameter.
func (c *ClientCredentials) ForConfig(cfg freshtoken.Config) (freshtoken.Refresher, error) {
	if cfg.OAuth2 == nil || cfg.OAuth2.ClientID == "" || cfg.OAuth2.ClientSecret == "" && cfg.ClientAuth == nil {
		return nil, fail(ErrConfig, "the client needs Config.OAuth2.ClientID, and a ClientSecret or Config.ClientAuth to authenticate with")
	}
	form := url.Values{"grant_type": {"client_credentials"}}
	if c != nil {
		if err := addScope(form, c.Scopes); err != nil {
			return nil, err
		}
	}
	r, err := newRequest(cfg, form)
	if err != nil {
		return nil, err
	}
	const check = "check what the server lets this client ask for, and Scopes of the ClientCredentials"
	r.advice = map[string]string{"invalid_grant": check, "invalid_scope": check, "access_denied": check,
		"invalid_request": "check Config.RefreshParams against what the server wants", "invalid_target": "check Config.RefreshParams against what the server wants"}
	return r, nil
}

// Authenticate implements freshtoken.Authenticator: the first token is had as the
// others are.
func (c *ClientCredentials) Authenticate(ctx context.Context, cfg freshtoken.Config) (*oauth2.Token, error) {
	return begin(ctx, c, cfg)
}

// Refresh is there for Config.Refresher, whose Source calls what ForConfig
// returns. By itself it is ErrConfig.
func (c *ClientCredentials) Refresh(context.Context, *oauth2.Token) (*oauth2.Token, error) {
	return nil, unbound()
}
