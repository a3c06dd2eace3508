package measure

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/freshtoken/freshtoken/bench/peers"
)

// Redirects are an API that sends a client elsewhere, and a token endpoint that
// does: "LEAK" says that the access token came to a place it is not meant for,
// or the refresh token; "safe", that the request came there without; "safe: not
// followed", that none came. Requests are sent by an http.Client over the
// library's transport.
//
// Where it is not the library that sends the refresh, there is nothing to say
// about it.
var Redirects = Measure{
	Name: "redirects",
	Doc:  "what another origin gets to see after a redirect",
	Run:  redirects,
}

// elsewhere are the redirects of the API.
var elsewhere = []struct {
	name, location string
	status         int
}{
	{"302 to another host", "https://elsewhere.example/things", http.StatusFound},
	{"307 to another host", "https://elsewhere.example/things", http.StatusTemporaryRedirect},
	{"307 to another port", apiOrigin + ":8443/things", http.StatusTemporaryRedirect},
}

const (
	tokenRedirect  = "307 from the token endpoint"
	tokenElsewhere = "https://elsewhere.example/token"
)

// leaveRefresh are the modules that leave the refresh to the program, or to
// another library.
var leaveRefresh = map[string]bool{
	"github.com/Azure/azure-sdk-for-go/sdk/azcore": true,
	"github.com/aws/aws-sdk-go-v2/credentials":     true,
	"github.com/aws/smithy-go":                     true,
	"k8s.io/client-go":                             true,
}

func redirects(ctx context.Context, o Options) ([]Result, error) {
	results, err := atOnce(ctx, "redirects", o, 30*time.Second, func(ctx context.Context, _ int, p peers.Peer) (Result, error) {
		r := Result{Words: map[string]string{}}
		for _, e := range elsewhere {
			s := sentinel{location: e.location, status: e.status}
			w := newWorld(time.Hour)
			rt, end, err := w.openOver(p, 0, roundTrip(w.token), s.before(apiURL, roundTrip(w.api)))
			if err != nil {
				return Result{}, err
			}
			ask(ctx, rt, 5*time.Second)
			end()
			r.Words[e.name] = s.verdict()
		}
		word, err := redirectedRefresh(ctx, p)
		r.Words[tokenRedirect] = word
		return r, err
	})
	bare := Result{Measure: "redirects", Peer: "floor: the caller sets the header", Words: map[string]string{}}
	for _, e := range elsewhere {
		s := sentinel{location: e.location, status: e.status}
		req := get(ctx, apiURL)
		req.Header.Set("Authorization", "Bearer access-token")
		client := &http.Client{Transport: s.before(apiURL, roundTrip(newWorld(time.Hour).api))}
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
		}
		bare.Words[e.name] = s.verdict()
	}
	return append(results, bare), err
}

// redirectedRefresh has the token endpoint redirect the refresh of a token that
// has expired.
func redirectedRefresh(ctx context.Context, p peers.Peer) (string, error) {
	if leaveRefresh[p.Module] {
		return "not sent by the library", nil
	}
	s := sentinel{location: tokenElsewhere, status: http.StatusTemporaryRedirect}
	w := newWorld(time.Second)
	rt, end, err := w.openOver(p, 0, s.before(tokenURL, roundTrip(w.token)), roundTrip(w.api))
	if err != nil {
		return "", err
	}
	defer end()
	if err := pause(ctx, 1100*time.Millisecond); err != nil {
		return "", err
	}
	ask(ctx, rt, 5*time.Second)
	return s.verdict(), nil
}

// A sentinel redirects one address, and sees what comes to the place where it
// leads.
type sentinel struct {
	location string
	status   int

	mu                 sync.Mutex // guards what follows
	turned, came, leak bool
}

// before returns a RoundTripper that redirects one address, watches where that
// leads, and has another carry all other requests.
func (s *sentinel) before(url string, base http.RoundTripper) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		to := req.URL.String()
		if to != url && to != s.location {
			return base.RoundTrip(req)
		}
		secret := req.Header.Get("Authorization") != ""
		if req.Body != nil {
			form, err := readForm(req)
			if err != nil {
				return nil, err
			}
			secret = secret || strings.HasPrefix(form.Get("refresh_token"), "refresh-token")
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if to == url {
			s.turned = true
			resp := respond(req, s.status)
			resp.Header.Set("Location", s.location)
			return resp, nil
		}
		s.came = true
		s.leak = s.leak || secret
		return respond(req, http.StatusOK), nil
	})
}

func (s *sentinel) verdict() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.leak:
		return "LEAK"
	case s.came:
		return "safe"
	case s.turned:
		return "safe: not followed"
	}
	return "nothing was sent"
}
