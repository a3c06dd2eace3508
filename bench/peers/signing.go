package peers

import (
	"context"
	"net/http"
)

// RoundTripper returns the session's transport. Where the library has none it
// returns what its users write in its place: a copy of the request with the
// token in its header, sent over base.
func (s *Session) RoundTripper(base http.RoundTripper) http.RoundTripper {
	if s.Transport != nil {
		return s.Transport
	}
	return &signing{token: s.Token, base: base}
}

type signing struct {
	token func(context.Context) (string, error)
	base  http.RoundTripper
}

func (t *signing) RoundTrip(req *http.Request) (*http.Response, error) {
	tok, err := t.token(req.Context())
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	r := req.Clone(req.Context())
	r.Header.Set("Authorization", "Bearer "+tok)
	return t.base.RoundTrip(r)
}
