package login_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// inBubble runs a subtest in a bubble of its own.
func inBubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// A viewer is a person who is shown a code, and enters it after a while.
type viewer struct {
	as    *oauthtest.Server
	after time.Duration // zero: never
	shown []login.Code
}

func (v *viewer) device() login.Device {
	return login.Device{Prompt: login.Prompt{Show: func(_ context.Context, c login.Code) error {
		v.shown = append(v.shown, c)
		if v.after > 0 {
			time.AfterFunc(v.after, func() { v.as.ApproveDevice(c.Code, "alice") })
		}
		return nil
	}}}
}

// polls are the times that passed before each poll, the first counted from the
// device authorization request.
func polls(as *oauthtest.Server) (gaps []time.Duration) {
	var last time.Time
	for _, e := range as.Log() {
		if e.Endpoint == oauthtest.TokenEndpoint {
			gaps = append(gaps, e.Arrived.Sub(last))
		}
		last = e.Arrived
	}
	return gaps
}

func wantGaps(t *testing.T, as *oauthtest.Server, want ...time.Duration) {
	t.Helper()
	got := polls(as)
	same := len(got) == len(want)
	for i := range min(len(got), len(want)) {
		same = same && got[i] == want[i]
	}
	if !same {
		t.Errorf("polls after %v, want %v", got, want)
	}
}

func TestDevice(t *testing.T) {
	inBubble(t, "R8628-3.3 the person is shown the address and the code", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		v := &viewer{as: as, after: 12 * time.Second}
		src := source(t, config(as))
		tok, err := login.Ensure(t.Context(), src, v.device())
		if err != nil || !as.AccessAlive(tok.AccessToken) {
			t.Fatalf("got error %v", err)
		}
		c := v.shown[0]
		if len(v.shown) != 1 || c.Code == "" || c.Address == "" || !strings.Contains(c.Complete, c.Code) || !c.Expiry.After(time.Now()) {
			t.Errorf("shown: %+v", v.shown)
		}
		for _, e := range as.Log() {
			if e.Presented != "" && (oauthtest.Fingerprint(c.Code) == e.Presented || oauthtest.Fingerprint(c.Address) == e.Presented) {
				t.Error("the device code was shown")
			}
		}
		wantGaps(t, as, 5*time.Second, 5*time.Second, 5*time.Second)
		if _, err := src.Refresh(t.Context(), nil); err != nil {
			t.Errorf("the session cannot be refreshed: %v", err)
		}
	})
	for _, c := range []struct{ id, secret string }{{"client", ""}, {"odd id/+%:", `s3cr+t %41/&=:~"?`}} {
		inBubble(t, "R8628-3.1 both requests authenticate the client "+c.id, func(t *testing.T) {
			as := oauthtest.New(oauthtest.Options{ClientID: c.id, ClientSecret: c.secret})
			v := &viewer{as: as, after: time.Second}
			if _, err := login.Ensure(t.Context(), source(t, config(as)), v.device()); err != nil {
				t.Error(err)
			}
		})
	}
	inBubble(t, "R8628-3.5-slow slow_down is for good", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		as.Token.Next(oauthtest.Error(400, "slow_down"), oauthtest.Error(400, "slow_down"), oauthtest.Error(400, "authorization_pending"), oauthtest.Error(400, "slow_down"))
		v := &viewer{as: as, after: time.Second}
		if _, err := login.Ensure(t.Context(), source(t, config(as)), v.device()); err != nil {
			t.Error(err)
		}
		wantGaps(t, as, 5*time.Second, 10*time.Second, 15*time.Second, 15*time.Second, 20*time.Second)
	})
	inBubble(t, "R8628-3.5-net a poll whose refusal breaks off is not the end", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		for at := range 20 {
			pending := oauthtest.Error(400, "authorization_pending")
			pending.Truncate = at - 1 // -1: before the first byte
			as.Token.Next(pending)
		}
		v := &viewer{as: as, after: time.Second}
		tok, err := login.Ensure(t.Context(), source(t, config(as)), v.device())
		if errors.Is(err, login.ErrExpired) { // slower and slower
			err = nil
		} else if err == nil && !as.AccessAlive(tok.AccessToken) {
			t.Error("the token is not alive")
		}
		if n := len(polls(as)); err != nil || n < 5 {
			t.Errorf("%d polls, error %v", n, err)
		}
	})
	inBubble(t, "R8628-3.5-net dropped connections slow it down, and it goes on", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		as.Token.Next(oauthtest.Refuse(), oauthtest.Drop(), oauthtest.Unavailable(""), oauthtest.Error(400, "authorization_pending"))
		v := &viewer{as: as, after: time.Second}
		if _, err := login.Ensure(t.Context(), source(t, config(as)), v.device()); err != nil {
			t.Error(err)
		}
		wantGaps(t, as, 5*time.Second, 10*time.Second, 20*time.Second, 40*time.Second, 5*time.Second)
	})
	inBubble(t, "R8628-3.5-net a server that says that it is busy slows it down, and it goes on", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		as.Token.Next(oauthtest.Error(503, "temporarily_unavailable"), oauthtest.Error(500, "server_error"))
		v := &viewer{as: as, after: time.Second}
		if _, err := login.Ensure(t.Context(), source(t, config(as)), v.device()); err != nil {
			t.Error(err)
		}
		wantGaps(t, as, 5*time.Second, 10*time.Second, 20*time.Second)
	})
	inBubble(t, "R8628-3.5-net so does a client that cannot prove itself for the moment", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		cfg := config(as)
		asked := 0
		cfg.ClientAuth = freshtoken.ClientAuthenticatorFunc(func(context.Context, freshtoken.ClientRequest) (url.Values, error) {
			if asked++; asked == 2 { // the first poll
				return nil, context.DeadlineExceeded
			}
			return nil, nil
		})
		v := &viewer{as: as, after: time.Second}
		if _, err := login.Ensure(t.Context(), source(t, cfg), v.device()); err != nil {
			t.Error(err)
		}
		if asked < 3 {
			t.Errorf("it was asked %d times", asked)
		}
	})
	for _, f := range oauthtest.OddDeviceAnswers() {
		inBubble(t, "R8628-3.2 "+f.Name, func(t *testing.T) {
			as := oauthtest.New(oauthtest.Options{})
			as.Device.Next(f)
			v := &viewer{as: as, after: time.Second}
			if _, err := login.Ensure(t.Context(), source(t, config(as)), v.device()); err != nil {
				t.Fatal(err)
			}
			if gaps := polls(as); gaps[0] < 5*time.Second {
				t.Errorf("the first poll comes after %v", gaps[0])
			}
		})
	}
	inBubble(t, "R8628-3.2 an interval of years is not waited for", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		as.Device.Next(oauthtest.SetMember("interval", "1e18"))
		v := &viewer{as: as, after: time.Second}
		if _, err := login.Ensure(t.Context(), source(t, config(as)), v.device()); err != nil {
			t.Error(err)
		}
	})
	inBubble(t, "parameters and scope", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{OfflineAccess: oauthtest.OfflineByParam})
		v := &viewer{as: as, after: time.Second}
		d := v.device()
		d.AccessTypeOffline, d.Params = true, url.Values{"acr_values": {"2"}, "resource": {"https://a.test", "https://b.test"}}
		if _, err := login.Ensure(t.Context(), source(t, config(as)), d); err != nil {
			t.Error(err)
		}
		for _, name := range []string{"client_id", "client_secret", "scope"} {
			d.Params = url.Values{name: {"x"}}
			if _, err := login.Ensure(t.Context(), source(t, config(as)), d); err == nil || len(v.shown) > 1 {
				t.Errorf("%s: error %v", name, err)
			}
		}
	})
}

func TestDeviceEnds(t *testing.T) {
	sentinels := map[string]error{"access_denied": login.ErrDenied, "expired_token": login.ErrExpired}
	for _, f := range oauthtest.EndedPolls() {
		inBubble(t, "R8628-3.5-stop "+f.Name, func(t *testing.T) {
			as := oauthtest.New(oauthtest.Options{})
			as.Token.Always(f)
			v := &viewer{as: as}
			_, err := login.Ensure(t.Context(), source(t, config(as)), v.device())
			refused := new(login.ServerError)
			if !errors.As(err, &refused) {
				t.Fatalf("got error %v, want a *ServerError", err)
			}
			if want := sentinels[refused.Code]; want != nil {
				wantErr(t, err, want)
			}
			time.Sleep(time.Hour)
			if n := len(polls(as)); n != 1 {
				t.Errorf("%d polls, want 1", n)
			}
		})
	}
	inBubble(t, "R8628-3.2-exp at the expiry, and without another code", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		as.Token.Always(oauthtest.Error(400, "authorization_pending"))
		v := &viewer{as: as}
		_, err := login.Ensure(t.Context(), source(t, config(as)), v.device())
		wantErr(t, err, login.ErrExpired)
		if late := time.Since(v.shown[0].Expiry); late < 0 || late > time.Second {
			t.Errorf("it ended %v after the expiry", late)
		}
		if len(v.shown) != 1 {
			t.Errorf("%d codes", len(v.shown))
		}
	})
	inBubble(t, "R8628-3.2-exp at the expiry, though the server does not answer", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		as.Token.Always(oauthtest.Refuse())
		v := &viewer{as: as}
		_, err := login.Ensure(t.Context(), source(t, config(as)), v.device())
		wantErr(t, err, login.ErrExpired)
		if !strings.Contains(err.Error(), "cannot reach") {
			t.Errorf("it does not tell why: %v", err)
		}
	})
	for _, f := range oauthtest.BadDeviceAnswers() {
		inBubble(t, "R8628-3.3 "+f.Name, func(t *testing.T) {
			as := oauthtest.New(oauthtest.Options{})
			as.Device.Next(f)
			v := &viewer{as: as}
			_, err := login.Ensure(t.Context(), source(t, config(as)), v.device())
			if err == nil || len(v.shown) > 0 || len(polls(as)) > 0 || strings.ContainsAny(err.Error(), "\x1b\r\n") {
				t.Errorf("got error %q, shown %v, %d polls", err, v.shown, len(polls(as)))
			}
			if strings.HasPrefix(f.Name, "expires-in") {
				wantErr(t, err, login.ErrExpired)
			}
		})
	}
	inBubble(t, "with the context", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		v := &viewer{as: as}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		src := source(t, config(as))
		_, err := login.Ensure(ctx, src, v.device())
		wantErr(t, err, context.DeadlineExceeded)
		src.Close()
		n := len(polls(as))
		time.Sleep(time.Hour)
		if len(polls(as)) != n {
			t.Error("it went on")
		}
	})
	inBubble(t, "without an endpoint", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{})
		for _, raw := range []string{"", "http://example.com/device", "https://example.com/#"} {
			cfg := config(as)
			cfg.OAuth2.Endpoint.DeviceAuthURL = raw
			v := &viewer{as: as}
			if _, err := login.Ensure(t.Context(), source(t, cfg), v.device()); err == nil || len(as.Log()) > 0 {
				t.Errorf("%q: error %v", raw, err)
			}
		}
	})
	inBubble(t, "without a refresh token", func(t *testing.T) {
		as := oauthtest.New(oauthtest.Options{OfflineAccess: oauthtest.OfflineByScope})
		v := &viewer{as: as, after: time.Second}
		src := source(t, config(as))
		_, err := login.Ensure(t.Context(), src, v.device())
		wantErr(t, err, login.ErrNoRefreshToken)
		wantErr(t, err, freshtoken.ErrNoSession)
		d := v.device()
		d.AccessTokenOnly = true
		if _, err := login.Ensure(t.Context(), src, d); err != nil {
			t.Error(err)
		}
	})
}

// A server's text is shown as long as a person can deal with it.
func TestDeviceTexts(t *testing.T) {
	long := strings.Repeat("x", 3000)
	for name, answer := range map[string]string{
		"R8628-3.3 a code that nobody would enter":      `{"device_code": "d", "user_code": "` + long + `", "verification_uri": "https://as.test/device"}`,
		"R8628-3.3 an address that nobody would enter":  `{"device_code": "d", "user_code": "ABCD", "verification_uri": "https://as.test/` + long + `"}`,
		"R8628-3.3 a code that moves the cursor":        `{"device_code": "d", "user_code": "A\u001b[2JB", "verification_uri": "https://as.test/device"}`,
		"R8628-3.3 a code that is not ASCII":            `{"device_code": "d", "user_code": "A\u009b2JB", "verification_uri": "https://as.test/device"}`,
		"R8628-3.3 an address that is no place to be":   `{"device_code": "d", "user_code": "ABCD", "verification_uri": "http://as.test/device"}`,
		"R8628-3.3 an address that starts some program": `{"device_code": "d", "user_code": "ABCD", "verification_uri": "file:///usr/bin/id"}`,
	} {
		t.Run(name, func(t *testing.T) {
			as := oauthtest.New(oauthtest.Options{})
			cfg := config(as)
			cfg.HTTPClient.Transport = roundTripper(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(answer))}, nil
			})
			shown := false
			d := login.Device{Prompt: login.Prompt{Show: func(context.Context, login.Code) error { shown = true; return errors.New("shown") }}}
			if _, err := d.Authenticate(t.Context(), cfg); err == nil || shown || len(err.Error()) > 500 || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("shown: %v, error %v", shown, err)
			}
		})
	}
}
