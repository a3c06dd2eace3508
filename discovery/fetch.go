package discovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken/internal/endpoint"
)

// Bounds on what a server can do to the one who asks it.
const (
	timeLimit    = 10 * time.Second
	maxDocument  = 1 << 20 // bytes, after decompression
	maxRedirects = 3
)

// Fetch asks an issuer for its metadata, at up to three addresses (RFC 8414
// section 3.1, OpenID Connect Discovery section 4), until one of them has a
// JSON object. It takes ten seconds at most, or less if ctx ends earlier.
//
// client sends the requests; nil means one over http.DefaultTransport. Its
// Timeout holds, too; its CheckRedirect does not: redirects are followed within
// the issuer's origin, three at most. The issuer must be https, unless it is on this
// machine; [Configure] is less strict where Config.InsecureHTTP is set.
//
// The error matches ErrIssuer, ErrNotFound, ErrInvalid or ErrUnavailable, or
// context.Canceled if the caller gave up. Fetch is safe for concurrent use.
func Fetch(ctx context.Context, client *http.Client, issuer string) (*Metadata, error) {
	return fetch(ctx, client, issuer, false)
}

func fetch(ctx context.Context, client *http.Client, issuer string, insecureHTTP bool) (*Metadata, error) {
	u, err := parseIssuer(issuer, insecureHTTP)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	c := new(http.Client)
	if client != nil {
		*c = *client
	}
	endpoint.FollowNone(c)

	var missing []string
	for _, address := range wellKnown(u) {
		data, err := get(ctx, c, address)
		var m *Metadata
		if err == nil {
			m, err = parse(data, issuer, insecureHTTP)
		}
		if reason := absent(""); errors.As(err, &reason) {
			missing = append(missing, fmt.Sprintf("%s: %s", address, reason))
			continue
		}
		// That goes for a document of another issuer, too. It would be wrong
		// to look for a better one at the next address: whoever answers here
		// answers for somebody else, by mistake or to have the client send its
		// codes and secrets to the wrong server (RFC 8414 section 6.2), and
		// what the same host says next is worth no more.
		switch {
		case errors.Is(err, ErrIssuer), errors.Is(err, ErrInvalid):
			return nil, fmt.Errorf("discovery: %s: %w", address, err)
		case err != nil && ctx.Err() == context.Canceled: // by the caller
			return nil, fmt.Errorf("discovery: %s: %w", address, context.Canceled)
		case err != nil:
			return nil, unavailable(address, err)
		}
		return m, nil
	}
	return nil, fail(ErrNotFound, "%s: check the issuer, or %s", strings.Join(missing, "; "), instead)
}

// get returns the body of what address has, if that claims to be JSON. The
// error is an absent, ErrInvalid, or about the network.
func get(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	at, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	home := origin(at)
	for range maxRedirects + 1 {
		data, location, err := getOnce(ctx, client, at)
		if err != nil || location == "" {
			return data, err
		}
		next, err := at.Parse(location)
		switch {
		case err != nil || next.User != nil:
			return nil, fmt.Errorf("%w: a redirect to something that cannot be followed: check the issuer, or %s", ErrInvalid, instead)
		case origin(next) != home:
			return nil, fmt.Errorf("%w: a redirect to %q, which is another origin and not followed: if the server has moved, use its new issuer, or %s",
				ErrInvalid, endpoint.Sanitize(origin(next), 200), instead)
		}
		at = next
	}
	return nil, fmt.Errorf("%w: more than %d redirects: check the issuer, or %s", ErrInvalid, maxRedirects, instead)
}

// getOnce does so for a single request. A location that is not empty is where
// the server redirects to.
func getOnce(ctx context.Context, client *http.Client, at *url.URL) (data []byte, location string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	switch code := resp.StatusCode; {
	case code >= 300 && code < 400 && len(resp.Header[endpoint.Location]) > 0:
		return nil, resp.Header[endpoint.Location][0], nil
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code >= 500:
		return nil, "", fmt.Errorf("it answered %d", code)
	case code != http.StatusOK:
		return nil, "", absent(fmt.Sprintf("status %d", code))
	case kind != "application/json" && !strings.HasSuffix(kind, "+json"):
		// A page of a web application, say, that has one for every address.
		return nil, "", absent(fmt.Sprintf("of type %q, not application/json", endpoint.Sanitize(kind, 60)))
	}
	// What counts is what comes out of net/http, which may have unpacked it.
	data, err = io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if len(data) > maxDocument {
		return nil, "", fmt.Errorf("%w: more than %d bytes: check the issuer, or %s", ErrInvalid, maxDocument, instead)
	}
	return data, "", err
}
