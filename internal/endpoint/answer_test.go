package endpoint

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/oauth2"
)

// A piece of a secret is found wherever it was cut off, and however it is
// encoded; what merely looks like one is not.
func TestRepeats(t *testing.T) {
	const token, secret, short = "rt-1-1-QWERTYUIOPASDFGHJKLZXCVBNM", "s3cr+t %41/&=:~", "hush"
	for text, want := range map[string]bool{
		"no token " + token:                                                                 true,
		"no token rt-1-1-QWERT...":                                                          true,
		"no token ..." + token[len(token)-12:]:                                              true,
		"no token ..." + token[10:22] + "...":                                               true,
		"no token ..." + token[len(token)-11:]:                                              false,
		"no token rt-1-1-, which is the beginning of many":                                  false,
		"the form has " + url.QueryEscape(secret):                                           true,
		"Basic " + base64.StdEncoding.EncodeToString([]byte("client:"+secret)):              true,
		"Basic " + base64.StdEncoding.EncodeToString([]byte("clients:"+token)):              true,
		"Basic " + base64.StdEncoding.EncodeToString([]byte("id:"+url.QueryEscape(secret))): true,
		"be hush, please":                true,
		"":                               false,
		"The refresh token has expired.": false,
	} {
		if got := Repeats(text, token, secret, short, "", "The"); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

// Who was asked, and what has failed, is told of an error whose cause is hidden.
func TestHideKeepsTheKind(t *testing.T) {
	const secret = "rt-1-1-QWERTYUIOPASDFGHJKLZXCVBNM"
	told := fmt.Errorf("it was to send %s", secret)
	lost, unproven := new(SendError), new(AuthError)
	err := Hide(&SendError{Host: "as.test", Err: told, Unsent: true}, secret)
	if !errors.As(err, &lost) || !lost.Unsent || !strings.Contains(err.Error(), "cannot reach as.test ("+Hidden+")") {
		t.Errorf("got %v", err)
	}
	if err := Hide(&AuthError{told}, secret); !errors.As(err, &unproven) || err.Error() != Unproven+": "+Hidden {
		t.Errorf("got %v", err)
	}
	if err := Hide(&SendError{Host: "as.test", Err: io.EOF}, secret); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
	if err := Hide(nil, secret); err != nil {
		t.Errorf("got %v", err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// A proof of the client is hidden in the error of an answer that breaks off.
func TestProofIsHidden(t *testing.T) {
	const proof = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJjbGllbnQifQ.c2lnbmF0dXJl"
	prove := func(context.Context, string) (url.Values, error) { return url.Values{"client_assertion": {proof}}, nil }
	client := &http.Client{Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
		body, _ := io.ReadAll(req.Body)
		return &http.Response{StatusCode: 400, Header: make(http.Header), Body: io.NopCloser(iotest.ErrReader(fmt.Errorf("sent %s", body)))}, nil
	})}
	answer, err := New(client, new(oauth2.Config), false, prove).Post(t.Context(), "https://as.test/token", make(url.Values))
	if err != nil {
		t.Fatal(err)
	}
	if no := answer.Refusal(); no.Broken == nil || !strings.HasSuffix(no.Broken.Error(), Hidden) {
		t.Errorf("got %v", no.Broken)
	}
}
