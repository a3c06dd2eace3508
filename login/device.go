package login

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/endpoint"
	"github.com/freshtoken/freshtoken/internal/words"
	"golang.org/x/oauth2"
)

// Device logs in on another device, where the person enters a code that this
// program shows (RFC 8628). It takes Config.OAuth2.Endpoint.DeviceAuthURL. The
// zero Device is ready for use.
type Device struct {
	// Prompt is how to reach the person: its Show.
	Prompt Prompt

	// Params are further parameters of the device authorization request, such
	// as resource, which goes into the token requests, too. client_id,
	// client_secret and scope, which is Config.OAuth2.Scopes, are not for the
	// program to set.
	Params url.Values

	// AccessTypeOffline asks for a refresh token by access_type=offline, for
	// servers that do not know the scope offline_access.
	AccessTypeOffline bool

	// AccessTokenOnly accepts a login without a refresh token, which is
	// ErrNoRefreshToken otherwise. The session ends with the access token.
	AccessTokenOnly bool
}

var _ freshtoken.Authenticator = Device{}

const (
	// How often to ask whether the person has finished, if the server does not
	// say (RFC 8628 section 3.2), and how much less often after a slow_down
	// (section 3.5). No pause is longer than maxInterval.
	defaultInterval = 5 * time.Second
	slowDown        = 5 * time.Second
	maxInterval     = 5 * time.Minute

	// A code lives no longer than this, whatever the server says, and
	// defaultExpiry if it does not, though it has to.
	maxExpiry     = time.Hour
	defaultExpiry = 10 * time.Minute

	// maxShown bounds, in bytes, what a person is to type.
	maxShown = 500
)

// Elsewhere implements what a Source looks for in an Authenticator, and is not
// for programs to call: see Prompt.Elsewhere.
func (d Device) Elsewhere(ctx context.Context) { d.Prompt.elsewhere(ctx) }

// Authenticate implements freshtoken.Authenticator.
func (d Device) Authenticate(ctx context.Context, cfg freshtoken.Config) (*oauth2.Token, error) {
	tok, err := d.authenticate(ctx, &cfg)
	if err != nil {
		return nil, named(err)
	}
	return tok, nil
}

func (d Device) authenticate(ctx context.Context, cfg *freshtoken.Config) (*oauth2.Token, error) {
	if err := reachable(d.Prompt.Show != nil, "Show"); err != nil {
		return nil, err
	}
	p, err := d.begin(ctx, cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	asked := ask(func() error { return d.Prompt.show(ctx, p.shown) })
	tok, err := p.poll(ctx, cfg, asked)
	if err == nil { // there is no nonce in this flow
		err = expectation{}.check(ctx, cfg, tok)
	}
	cancel()
	asked.leave()
	if err == nil {
		err = checkRefreshToken(tok, d.AccessTokenOnly)
	}
	return tok, err
}

// A pending is a login on another device that has begun.
type pending struct {
	shown    Code
	code     string // the secret one
	resource []string
	interval time.Duration
	life     time.Duration
}

// begin asks the server for the codes (RFC 8628 section 3.1).
func (d Device) begin(ctx context.Context, cfg *freshtoken.Config) (*pending, error) {
	target := cfg.OAuth2.Endpoint.DeviceAuthURL
	if target == "" {
		return nil, errors.New("Config.OAuth2.Endpoint.DeviceAuthURL is empty: set it to the server's device authorization endpoint, if it has one, or have discovery.Configure do so")
	}
	if cfg.OAuth2.Endpoint.TokenURL == "" {
		return nil, errors.New("Config.OAuth2.Endpoint.TokenURL is empty: set it to the server's token endpoint, or have discovery.Configure do so")
	}
	if err := endpoint.CheckURL(target, cfg.InsecureHTTP); err != nil {
		return nil, fmt.Errorf("Config.OAuth2.Endpoint.DeviceAuthURL %w", err)
	}
	form, err := request(cfg, d.Params, d.AccessTypeOffline, "client_id", "client_secret", "client_assertion", "client_assertion_type", "scope")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, grantTime)
	defer cancel()
	start := time.Now()
	answer, err := client(cfg).Post(ctx, target, form)
	if err != nil {
		return nil, hide(cfg, err)
	}
	if r := answer.Refusal(); !answer.OK() || r.Code != "" {
		return nil, refusal(cfg, "device authorization endpoint", r)
	}
	p := &pending{resource: form["resource"]}
	if err := p.read(answer, start); err != nil {
		return nil, fmt.Errorf("device authorization endpoint: %w", err)
	}
	return p, nil
}

// read reads the answer (RFC 8628 section 3.2) to a request that began at start.
func (p *pending) read(answer *endpoint.Answer, start time.Time) error {
	all, repeated, err := answer.Members()
	if err != nil {
		return err
	}
	if len(repeated) > 0 {
		return errors.New("the answer has a member twice")
	}
	text := func(names ...string) string {
		for _, name := range names {
			if s, ok := endpoint.Text(all[name]); ok && s != "" {
				return s
			}
		}
		return ""
	}
	p.code = text("device_code")
	p.shown = Code{Address: text("verification_uri", "verification_url"), Code: text("user_code"),
		Complete: text("verification_uri_complete", "verification_url_complete")}
	if p.code == "" || p.shown.Code == "" || p.shown.Address == "" {
		return errors.New("the answer lacks device_code, user_code or verification_uri: check that Endpoint.DeviceAuthURL is the device authorization endpoint")
	}
	if !endpoint.Printable(p.code) || !endpoint.Printable(p.shown.Code) || len(p.shown.Code) > maxShown || len(p.shown.Address) > maxShown {
		return errors.New("the answer has a code, or an address, that cannot be shown or sent")
	}
	if err := checkAddress(p.shown.Address); err != nil {
		return err
	}
	if len(p.shown.Complete) > 4*maxShown || checkAddress(p.shown.Complete) != nil {
		p.shown.Complete = "" // a convenience
	}
	p.life, p.interval = defaultExpiry, defaultInterval
	if n, ok := endpoint.Number(all["expires_in"]); ok {
		if p.life = seconds(n, maxExpiry); p.life <= 0 {
			return wrap(ErrExpired, "it had when it arrived: log in again")
		}
	}
	if n, ok := endpoint.Number(all["interval"]); ok && n > 0 {
		p.interval = max(seconds(n, maxInterval), time.Second)
	}
	p.shown.Expiry = start.Add(p.life)
	return nil
}

func seconds(n float64, limit time.Duration) time.Duration {
	return time.Duration(min(n, limit.Seconds()) * float64(time.Second))
}

// poll asks the token endpoint until the person has finished (RFC 8628 section
// 3.5). After the answer with the token it does not ask again: some servers end
// the session when it does.
func (p *pending) poll(ctx context.Context, cfg *freshtoken.Config, asked *asking) (*oauth2.Token, error) {
	expired := time.NewTimer(time.Until(p.shown.Expiry))
	defer expired.Stop()
	pause := p.interval
	var trouble error // of the last request
	for {
		next := time.NewTimer(pause)
		select {
		case <-next.C:
		case err := <-asked.failed:
			next.Stop()
			return nil, fmt.Errorf("asking to log in: %w", err)
		case <-expired.C:
			next.Stop()
			if trouble != nil {
				return nil, fmt.Errorf("%w: %w", ErrExpired, trouble)
			}
			return nil, tell(ErrExpired, "the code was not entered within %s: log in again", words.Duration(p.life))
		case <-ctx.Done():
			next.Stop()
			return nil, gaveUp(ctx)
		}
		form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {p.code}}
		if len(p.resource) > 0 {
			form["resource"] = p.resource // RFC 8707 section 2.2
		}
		tok, err := exchange(ctx, cfg, form, p.code)
		trouble = nil
		refused := new(ServerError)
		lost, unproven := new(endpoint.SendError), new(endpoint.AuthError)
		switch {
		case err == nil:
			return tok, nil
		case ctx.Err() != nil:
			return nil, gaveUp(ctx)
		case errors.As(err, &refused) && refused.Code == "authorization_pending":
			pause = p.interval
		case errors.As(err, &refused) && refused.Code == "slow_down": // for good
			p.interval = min(p.interval+slowDown, maxInterval)
			pause = p.interval
		case errors.As(err, &lost), errors.Is(err, errBroken), errors.As(err, &refused) && refused.passes(), errors.As(err, &unproven) && endpoint.Passes(unproven):
			trouble = err
			pause = min(2*pause, maxInterval) // the connection, or the server, has difficulties: less often
		default:
			return nil, err
		}
	}
}

// passes reports whether the server is not up to it for the moment, and does not
// say anything about this login.
func (e *ServerError) passes() bool {
	switch e.Code {
	case "server_error", "temporarily_unavailable":
		return true
	case "":
		return e.Status >= 500 || e.Status == http.StatusTooManyRequests || e.Status == http.StatusRequestTimeout
	}
	return false
}
