package freshtoken

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken/internal/endpoint"
	"golang.org/x/oauth2"
)

// Plaintext files in which programs keep tokens. They are read with care: what
// is at the path may have been put there by anybody, and an error that shows a
// piece of it may show a token.

// maxTokenFile bounds what is read.
const maxTokenFile = 1 << 20

// A tokenFile is what was in a file.
type tokenFile struct {
	path string
	info os.FileInfo
	data []byte

	token              *oauth2.Token
	clientID, tokenURI string // as far as the file names them
}

// lookAtTokenFile checks, without opening it, that there is a file.
func lookAtTokenFile(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return withoutPath(err)
	}
	return checkTokenFile(info)
}

func checkTokenFile(info os.FileInfo) error {
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return wrap(ErrBadToken, "it is a symbolic link: give the path of the file itself")
	case !info.Mode().IsRegular():
		return wrap(ErrBadToken, "it is not a regular file")
	case info.Size() > maxTokenFile:
		return wrap(ErrBadToken, "it is larger than a mebibyte, which no file with a token is")
	}
	return nil
}

// readTokenFile reads the file at path and what is in it.
func readTokenFile(path string) (*tokenFile, error) {
	data, info, err := readPlaintext(path)
	if err != nil {
		return nil, err
	}
	written := info.ModTime()
	if now := time.Now(); written.After(now) {
		written = now
	}
	f, err := parseTokenFile(data, written)
	if err != nil {
		return nil, err
	}
	f.path, f.info, f.data = path, info, data
	return f, nil
}

// readPlaintext returns the content of a regular file. It waits for no pipe and
// follows no link, even if one is put there at this moment.
func readPlaintext(path string) ([]byte, os.FileInfo, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, nil, withoutPath(err)
	}
	if err := checkTokenFile(info); err != nil {
		return nil, nil, err
	}
	f, err := openTokenFile(path)
	if err != nil {
		return nil, nil, withoutPath(err)
	}
	defer f.Close()
	opened, err := f.Stat()
	if err != nil {
		return nil, nil, withoutPath(err)
	}
	if !os.SameFile(info, opened) {
		return nil, nil, wrap(ErrBadToken, "it was replaced while it was read: try again")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	if err != nil {
		return nil, nil, withoutPath(err)
	}
	if len(data) > maxTokenFile || int64(len(data)) != opened.Size() {
		return nil, nil, wrap(ErrBadToken, "it was changed while it was read: try again")
	}
	return data, opened, nil
}

// withoutPath strips the path from an error of package os: Import names it.
func withoutPath(err error) error {
	if e := new(fs.PathError); errors.As(err, &e) {
		return e.Err
	}
	return err
}

// remove removes the file, if it is still the one that was read.
func (f *tokenFile) remove() error {
	data, info, err := readPlaintext(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // somebody has
	case err != nil:
		return wrap(ErrNotRemoved, "remove it by hand: %w", err)
	case !os.SameFile(info, f.info), !info.ModTime().Equal(f.info.ModTime()), !bytes.Equal(data, f.data):
		return wrap(ErrNotRemoved, "another program has changed it meanwhile: stop that program, and remove the file by hand")
	}
	if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return wrap(ErrNotRemoved, "remove it by hand: %w", withoutPath(err))
	}
	return nil
}

// parseTokenFile reads the content of a file. Lifetimes count from when it was
// written. Errors hold nothing of it.
func parseTokenFile(data []byte, written time.Time) (*tokenFile, error) {
	all := make(map[string]json.RawMessage)
	repeated, err := endpoint.Object(data, all)
	if err != nil {
		return nil, wrap(ErrBadToken, "the file is not a JSON object")
	}
	if len(repeated) > 0 {
		return nil, wrap(ErrBadToken, "the file has a member twice")
	}
	m := fileMembers{all: all}
	if m.text("type") == "service_account" {
		return nil, wrap(ErrBadToken, "the file is the key of a service account, which is no session: leave it where it is, and use it as it is meant")
	}
	tok := &oauth2.Token{AccessToken: m.text("access_token"), RefreshToken: m.text("refresh_token")}
	if tok.AccessToken == "" {
		tok.AccessToken = m.text("token") // Python
	}
	if kind := m.text("token_type"); kind != "" && !strings.EqualFold(kind, "Bearer") {
		m.fail("the token's type is not Bearer")
	}
	if tok.AccessToken != "" {
		tok.Expiry = m.expiry(written)
	}
	f := &tokenFile{clientID: m.text("client_id"), tokenURI: m.text("token_uri")}
	f.token = tok.WithExtra(m.extra())
	if m.err == nil && tok.AccessToken == "" && tok.RefreshToken == "" {
		m.fail("the file has neither an access token nor a refresh token")
	}
	return f, m.err
}

// fileMembers are the members of a file, with the first thing that is wrong
// with those that were read.
type fileMembers struct {
	all map[string]json.RawMessage
	err error
}

func (m *fileMembers) fail(what string) {
	if m.err == nil {
		m.err = wrap(ErrBadToken, "%s", what)
	}
}

// text is the value of a member that is a string, if it is there.
func (m *fileMembers) text(name string) string {
	raw, ok := m.all[name]
	if !ok || string(raw) == "null" {
		return ""
	}
	s, ok := endpoint.Text(raw)
	if !ok {
		m.fail("the file's member " + name + " is not a string")
	}
	return s
}

// expiry is when the access token expires; zero: unknown.
func (m *fileMembers) expiry(written time.Time) time.Time {
	if s := m.text("expiry"); s != "" {
		at, err := time.Parse(time.RFC3339, s)
		if err != nil { // Python leaves out that it means UTC
			at, err = time.Parse("2006-01-02T15:04:05", s)
		}
		if err != nil {
			m.fail("the file's member expiry is not a time")
		}
		if at.Year() < 1970 {
			return time.Time{} // Go writes the zero time for none
		}
		return at
	}
	if raw, ok := m.all["expires_in"]; ok && string(raw) != "null" {
		n, ok := endpoint.Number(raw)
		if !ok {
			m.fail("the file's member expires_in is not a number")
		}
		return written.Add(time.Duration(min(max(n, 0), maxLifetime.Seconds()) * float64(time.Second)))
	}
	return time.Time{}
}

// extra is what is worth keeping besides.
func (m *fileMembers) extra() map[string]any {
	extra := make(map[string]any)
	for _, name := range []string{"scope", "id_token"} {
		if s, ok := endpoint.Text(m.all[name]); ok && s != "" {
			extra[name] = s
		}
	}
	var scopes []string
	if json.Unmarshal(m.all["scopes"], &scopes) == nil && len(scopes) > 0 { // Python
		extra["scope"] = strings.Join(scopes, " ")
	}
	return extra
}
