// Package compose shows how a freshtoken.Transport is put together with what else
// wraps HTTP clients: otelhttp, hashicorp's retryablehttp, and resty. Each comes in
// both orders; README.md has the counts of requests that the tests have found, and
// says which order is right.
//
// "Outside" is what the program calls, and what sees one request where the
// Transport may send two. "Inside" is the Transport's Base, which sees what goes
// over the network.
package compose

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/freshtoken/freshtoken"
	"github.com/go-resty/resty/v2"
	"github.com/hashicorp/go-retryablehttp"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
)

// TraceOutside makes one span of each request of the program; a replay is inside
// of it.
func TraceOutside(t *freshtoken.Transport, o ...otelhttp.Option) *http.Client {
	return &http.Client{Transport: otelhttp.NewTransport(t, o...)}
}

// TraceInside makes a span of each request that is sent: a rejection and its
// replay are two. t.Base is changed.
func TraceInside(t *freshtoken.Transport, o ...otelhttp.Option) *http.Client {
	t.Base = otelhttp.NewTransport(t.Base, o...)
	return &http.Client{Transport: t}
}

// RetryOutside asks the Source again before each retry, so that one that comes
// after the token has expired is sent with the next. The right order.
func RetryOutside(t *freshtoken.Transport) *retryablehttp.Client {
	c := newRetry(t)
	c.CheckRetry = func(ctx context.Context, resp *http.Response, err error) (bool, error) {
		if err != nil && !worthwhile(err) {
			return false, nil
		}
		return retryablehttp.DefaultRetryPolicy(ctx, resp, err)
	}
	return c
}

// RetryInside repeats a request with the token that it was signed with: one that is
// repeated after that has expired is rejected, and then replayed. t.Base is changed.
func RetryInside(t *freshtoken.Transport) *http.Client {
	c := newRetry(t.Base)
	// It is an http.Client, and would follow redirects by itself: with the token,
	// to wherever they lead. They are for the client outside to follow, whose
	// requests the Transport judges one by one.
	c.HTTPClient.CheckRedirect = asItIs
	t.Base = &retryablehttp.RoundTripper{Client: c}
	return &http.Client{Transport: t}
}

func newRetry(base http.RoundTripper) *retryablehttp.Client {
	c := retryablehttp.NewClient()
	c.HTTPClient = &http.Client{Transport: base}
	c.Logger = nil
	c.ErrorHandler = retryablehttp.PassthroughErrorHandler // the last answer, in place of an error without one
	return c
}

// RestyOutside is resty over the Transport. It retries what retryablehttp would.
// The right order.
func RestyOutside(t *freshtoken.Transport) *resty.Client {
	c := newResty(t)
	c.AddRetryCondition(func(resp *resty.Response, err error) bool {
		return err != nil && worthwhile(err) || err == nil && resp.StatusCode() >= 500
	})
	return c
}

// RestyInside has resty send what the Transport has signed. There is no reason to
// do so but a base that somebody has built on resty. t.Base is changed.
func RestyInside(t *freshtoken.Transport) *http.Client {
	c := newResty(t.Base)
	c.GetClient().CheckRedirect = asItIs // as in RetryInside
	c.AddRetryCondition(func(resp *resty.Response, err error) bool {
		return err != nil || resp.StatusCode() >= 500
	})
	t.Base = restyBase{c}
	return &http.Client{Transport: t}
}

func newResty(base http.RoundTripper) *resty.Client {
	// SetAuthToken and SetBasicAuth stay unused: what the caller has set, the
	// Transport leaves alone.
	return resty.NewWithClient(&http.Client{Transport: base}).SetRetryCount(4).SetLogger(silent{})
}

// restyBase is a RoundTripper that sends by way of resty.
type restyBase struct{ client *resty.Client }

func (b restyBase) RoundTrip(req *http.Request) (*http.Response, error) {
	r := b.client.R().SetContext(req.Context()).SetDoNotParseResponse(true)
	r.Header = req.Header.Clone()
	if req.Body != nil {
		body, err := io.ReadAll(req.Body) // resty sends it again from memory
		req.Body.Close()
		if err != nil {
			return nil, err
		}
		r.SetBody(bytes.Clone(body))
	}
	resp, err := r.Execute(req.Method, req.URL.String())
	if err != nil {
		return nil, err
	}
	return resp.RawResponse, nil
}

// worthwhile reports whether it makes sense to try again. Most of the Source's
// errors stay what they are until somebody does something.
func worthwhile(err error) bool {
	for _, final := range []error{freshtoken.ErrNoSession, freshtoken.ErrSessionEnded, freshtoken.ErrOrigin, freshtoken.ErrClosed} {
		if errors.Is(err, final) {
			return false
		}
	}
	failed := new(freshtoken.RefreshError)
	return !errors.As(err, &failed) || failed.Temporary
}

func asItIs(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

type silent struct{}

func (silent) Errorf(string, ...any) {}
func (silent) Warnf(string, ...any)  {}
func (silent) Debugf(string, ...any) {}
