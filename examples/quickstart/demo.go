package main

import (
	"context"
	"fmt"
	"time"

	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

// demoLifetime is how long an access token of the demonstration lives.
const demoLifetime = 2 * time.Second

// A demo is the demonstration's own server, which knows what really happened.
type demo struct {
	srv  *oauthtest.Server
	stop func()
}

// startDemo starts the server, and points o to it.
func startDemo(o *options) *demo {
	srv := oauthtest.New(oauthtest.Options{AccessLifetime: demoLifetime})
	d := &demo{srv: srv, stop: srv.Start()}
	o.tokenURL, o.clientID, o.api = srv.TokenURL(), srv.OAuth2().ClientID, srv.APIURL("hello")
	return d
}

// login stands for the browser.
func (d *demo) login() *oauth2.Token { return d.srv.Login("you") }

// newest is the newest generation of the refresh token that the server has
// issued. The login's own is the first.
func (d *demo) newest() int {
	newest := 1
	for _, e := range d.srv.LogOf(oauthtest.TokenEndpoint) {
		newest = max(newest, e.NewGeneration)
	}
	return newest
}

// complaints are what the server has to object to, after programs have made
// this many good requests.
func (d *demo) complaints(requests int) (list []string) {
	s := d.srv.Stats()
	for _, c := range []struct {
		n    int
		what string
	}{
		{s.Reuses, "spent refresh tokens were shown"},
		{s.FamilyKills, "sessions were ended by the server"},
		{s.InvalidGrants, "refresh tokens were refused"},
		{s.DamagedBodies, "bodies reached the API damaged"},
		{s.BadRequests + s.BadClients, "requests broke the server's rules"},
		{max(requests-s.APIServed, 0), "requests were counted as answered that the API has not served"},
	} {
		if c.n > 0 {
			list = append(list, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	return list
}

// prove opens the stored session once more, as a program would that starts
// tomorrow, and returns its generation. At the demonstration's own server it
// goes the whole way: one more refresh, with the stored refresh token.
func (r *show) prove(ctx context.Context) (generation uint64, err error) {
	src, err := r.aside()
	if err != nil {
		return 0, err
	}
	tok, err := src.Token(ctx)
	if err == nil && r.demo != nil {
		_, err = src.Refresh(ctx, tok)
	}
	st := src.Status()
	if closing := src.Close(); err == nil {
		err = closing
	}
	return st.Generation, err
}
