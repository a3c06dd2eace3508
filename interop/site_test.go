package interop_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/freshtoken/freshtoken"
	"golang.org/x/oauth2"
)

// A site is what a program knows of a server and the APIs that take its tokens.
// It can be told to another process.
type site struct {
	Issuer     string // "" if the server has no such name
	Client     client
	Token      string // the endpoints; "" if there is none
	Auth       string
	Device     string
	Revocation string
	Scopes     []string
	APIs       []api // the first is the one to call
}

// An api is one way to call an API.
type api struct {
	Name     string // for humans; "" if there is only one way
	URL      string
	Accept   string // a header field, unless it is empty
	Login    string // where requests are redirected that carry no good token; "" if they are not
	Forbids  bool   // whether such requests get 403 instead of 401
	ReadOnly bool   // whether it takes no POST
	Subject  string // what alice is called there, unless it is alice
}

func (x site) oauth2() *oauth2.Config {
	return &oauth2.Config{ClientID: x.Client.ID, ClientSecret: x.Client.Secret, Scopes: x.Scopes,
		Endpoint: oauth2.Endpoint{AuthURL: x.Auth, DeviceAuthURL: x.Device, TokenURL: x.Token, AuthStyle: x.Client.style()}}
}

// config is how a program is set up for this server.
func (x site) config(store freshtoken.Store) freshtoken.Config {
	return freshtoken.Config{OAuth2: x.oauth2(), Store: store, Issuer: x.Issuer, RevocationURL: x.Revocation}
}

// client is how a program calls the first API.
func (x site) client(src *freshtoken.Source) *http.Client { return x.APIs[0].client(src) }

func (a api) client(src *freshtoken.Source) *http.Client {
	u, err := url.Parse(a.URL)
	if err != nil {
		panic(err)
	}
	t := &freshtoken.Transport{Source: src, Origins: []string{u.Scheme + "://" + u.Host}}
	switch {
	case a.Login != "":
		t.Rejected = freshtoken.RejectedByLogin(a.Login)
	case a.Forbids:
		t.Rejected = func(resp *http.Response) bool { return resp.StatusCode == http.StatusForbidden }
	}
	return &http.Client{Transport: t}
}

// refresh sends a refresh_token grant as any program would, past the library.
func (x site) refresh(refreshToken string) (*oauth2.Token, error) {
	return x.oauth2().TokenSource(context.Background(), &oauth2.Token{RefreshToken: refreshToken}).Token()
}

// send sends a request to the API.
func (a api) send(ctx context.Context, client *http.Client, header http.Header) (*http.Response, []byte, error) {
	method, body := "POST", "hello"
	if a.ReadOnly {
		method, body = "GET", ""
	}
	req, err := http.NewRequestWithContext(ctx, method, a.URL, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	if header != nil {
		req.Header = header
	}
	if a.Accept != "" {
		req.Header.Set("Accept", a.Accept)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp, data, err
}

// call sends a request to the API, and says what was wrong with the answer.
func call(ctx context.Context, client *http.Client, a api) error {
	resp, data, err := a.send(ctx, client, nil)
	if err != nil {
		return err
	}
	var answer struct{ Subject, Sub, Received string }
	if resp.StatusCode == http.StatusOK && json.Unmarshal(data, &answer) == nil &&
		answer.Subject+answer.Sub == cmp.Or(a.Subject, "alice") && (a.ReadOnly || answer.Received == "hello") {
		return nil
	}
	return fmt.Errorf("the API answered %s: %s", resp.Status, data)
}

// probe says what the API answers to an access token, sent past the library:
// "200", or the status and what comes with it.
func (a api) probe(accessToken string) (string, error) {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, _, err := a.send(context.Background(), client, http.Header{"Authorization": {"Bearer " + accessToken}})
	if err != nil {
		return "", err
	}
	if to := resp.Header.Get("Location"); to != "" {
		to, _, _ = strings.Cut(to, "?")
		if a.Login != "" && to == a.Login {
			return fmt.Sprintf("%d to the login page", resp.StatusCode), nil
		}
		return fmt.Sprintf("%d to another page", resp.StatusCode), nil
	}
	if resp.StatusCode < 400 {
		return fmt.Sprint(resp.StatusCode), nil
	}
	challenge := resp.Header.Get("WWW-Authenticate")
	if challenge == "" {
		return fmt.Sprintf("%d without a challenge", resp.StatusCode), nil
	}
	scheme, _, _ := strings.Cut(challenge, " ")
	code := "no error code"
	if found := regexp.MustCompile(`error="([^"]*)"`).FindStringSubmatch(challenge); found != nil {
		code = found[1]
	}
	return fmt.Sprintf("%d, %s %s", resp.StatusCode, scheme, code), nil
}
