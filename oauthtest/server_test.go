package oauthtest_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/freshtoken/freshtoken/oauthtest"
)

// refresh spends a refresh token by way of x/oauth2.
func refresh(ctx context.Context, srv *oauthtest.Server, rt string) (*oauth2.Token, error) {
	if ctx.Value(oauth2.HTTPClient) == nil {
		ctx = context.WithValue(ctx, oauth2.HTTPClient, srv.Client())
	}
	return srv.OAuth2().TokenSource(ctx, &oauth2.Token{RefreshToken: rt}).Token()
}

func get(t *testing.T, c *http.Client, url, token string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

func TestRotationAndReuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		first := srv.Login("alice", "read", "write")
		if status, _, body := get(t, srv.Client(), srv.APIURL("x"), first.AccessToken); status != 200 {
			t.Fatalf("API: %d %s", status, body)
		}
		second, err := refresh(t.Context(), srv, first.RefreshToken)
		if err != nil {
			t.Fatal(err)
		}
		if second.RefreshToken == first.RefreshToken || second.AccessToken == first.AccessToken {
			t.Fatal("nothing was rotated")
		}
		if srv.Alive(first.RefreshToken) || !srv.Alive(second.RefreshToken) {
			t.Fatal("the wrong refresh token is alive")
		}
		time.Sleep(time.Minute)
		if _, err := refresh(t.Context(), srv, first.RefreshToken); err == nil {
			t.Fatal("a spent refresh token was accepted")
		}
		if srv.Alive(second.RefreshToken) || srv.AccessAlive(second.AccessToken) {
			t.Fatal("the family outlived a reuse")
		}
		if status, _, _ := get(t, srv.Client(), srv.APIURL("x"), second.AccessToken); status != 401 {
			t.Fatalf("API after the reuse: %d", status)
		}
		st := srv.Stats()
		if st.Refreshes != 1 || st.Reuses != 1 || st.FamilyKills != 1 || st.InvalidGrants != 1 {
			t.Fatalf("stats: %+v", st)
		}
	})
}
