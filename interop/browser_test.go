package interop_test

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
)

// A browser is a user with a browser: one who signs in and agrees to whatever a
// page asks. Only what the servers' pages need is understood of HTML.
type browser struct {
	client *http.Client
	fill   map[string]string // what the user writes into fields, by their names
	pages  []string          // the headings of those that were shown
	asked  bool              // whether one wanted the password
}

// alice is the user whom all servers know.
func alice() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err) // it never fails
	}
	return &browser{client: &http.Client{Jar: jar}, fill: map[string]string{
		"username": "alice", "password": "wonderland",
		"login": "alice", "approval": "approve", // at Dex
	}}
}

// approve opens the URL of an authorization request, and signs in and consents
// until the server sends the browser back to the program. It returns when the
// program has answered.
func (b *browser) approve(ctx context.Context, authURL string) error {
	last, err := b.walk(ctx, authURL)
	if err != nil {
		return err
	}
	if from, err := url.Parse(authURL); err != nil || from.Host == last.Host {
		return errors.Join(err, fmt.Errorf("the server has kept the browser, at %s", last.Path))
	}
	return nil
}

// approveDevice opens the page of the device flow (RFC 8628 section 3.3), enters
// the code and agrees.
func (b *browser) approveDevice(ctx context.Context, verificationURI, userCode string) error {
	b.fill["user_code"] = userCode
	_, err := b.walk(ctx, verificationURI)
	return err
}

// leave opens the page of a server's logout, which keeps the browser.
func (b *browser) leave(ctx context.Context, address string) error {
	_, err := b.walk(ctx, address)
	return err
}

// walk opens a page and submits its form, then that of the next page, until
// there is one without. It returns the address of that.
func (b *browser) walk(ctx context.Context, at string) (*url.URL, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", at, nil)
	if err != nil {
		return nil, err
	}
	for range 10 {
		resp, err := b.client.Do(req)
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
		here := resp.Request.URL
		if found := heading.FindStringSubmatch(string(text)); found != nil {
			b.pages = append(b.pages, found[1])
		}
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s answered %s", here.Path, resp.Status)
		}
		if req, err = b.submit(ctx, here, string(text)); err != nil || req == nil {
			return here, err
		}
	}
	return nil, errors.New("the pages have no end: the server does not know the user, perhaps")
}

var (
	formTag  = regexp.MustCompile(`(?s)<form[^>]*>`)
	inputTag = regexp.MustCompile(`(?s)<(?:input|button)[^>]*>`)
	heading  = regexp.MustCompile(`<h1>([^<]*)</h1>`)
	attr     = regexp.MustCompile(`([a-z]+)="([^"]*)"`)
)

// attributes are those of a tag, by their names.
func attributes(tag string) map[string]string {
	all := make(map[string]string)
	for _, m := range attr.FindAllStringSubmatch(tag, -1) {
		all[m[1]] = html.UnescapeString(m[2])
	}
	return all
}

// submit is the request of who fills in the form of a page and presses its first
// button; nil if there is no form.
func (b *browser) submit(ctx context.Context, here *url.URL, page string) (*http.Request, error) {
	form := formTag.FindString(page)
	if form == "" {
		return nil, nil
	}
	values, pressed := make(url.Values), false
	for _, tag := range inputTag.FindAllString(page, -1) {
		a := attributes(tag)
		if strings.HasPrefix(tag, "<button") {
			if pressed {
				continue
			}
			pressed = true
		}
		if a["name"] == "" {
			continue
		}
		b.asked = b.asked || a["name"] == "password"
		value, known := b.fill[a["name"]]
		if !known {
			value = a["value"]
		}
		values.Set(a["name"], value)
	}
	to, err := here.Parse(attributes(form)["action"])
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", to.String(), strings.NewReader(values.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return req, nil
}
