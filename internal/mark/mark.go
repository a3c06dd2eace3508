// Package mark makes secrets for tests that can be recognised wherever they turn
// up, in whole or in part, plain or encoded, by a search that knows none of them.
package mark

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

// Sign is what marks a secret. It needs no escape in JSON, a URL or a header,
// and rand.Text, hexadecimal and base64 cannot bring it forth by chance.
const Sign = "LEAK~"

// A Kind says what a secret is. It is the letter behind each Sign.
type Kind byte

// The kinds of secrets.
const (
	AccessToken  Kind = 'a'
	RefreshToken Kind = 'r'
	Code         Kind = 'c'
	DeviceCode   Kind = 'd'
	ClientSecret Kind = 's'
	Passphrase   Kind = 'p'
	Key          Kind = 'y' // of a store
	Value        Kind = 'v' // what a store is to keep
	Random       Kind = 'k' // 32 random bytes: a key, a verifier, or a salt, which is no secret
)

var names = map[Kind]string{
	AccessToken: "an access token", RefreshToken: "a refresh token", Code: "a code", DeviceCode: "a device code",
	ClientSecret: "a client's secret", Passphrase: "a passphrase", Key: "a key", Value: "a stored value", Random: "a key or verifier",
}

func (k Kind) String() string {
	if name, ok := names[k]; ok {
		return name
	}
	return "a secret"
}

// New makes a secret of 80 random bits.
func New(kind Kind) string { return Weave(kind, rand.Text()[:16]) }

// Weave marks a text. Of each two characters one mark is in front, so that any
// twelve bytes of the secret have a whole one: no less is taken for a piece of a
// secret by those who keep secrets out of errors.
func Weave(kind Kind, text string) string {
	var b strings.Builder
	for i, c := range []byte(text) {
		if i%2 == 0 {
			b.WriteString(Sign)
			b.WriteByte(byte(kind))
		}
		b.WriteByte(c)
	}
	return b.String()
}

// A form is the Sign as it is found, and what that is called.
type form struct {
	text []byte
	how  string
}

// encoded are all forms but the Sign as it is.
var encoded = func() []form {
	all := []form{
		{bytes.ToLower([]byte(Sign)), "a secret in small letters"},
		{bytes.Replace([]byte(Sign), []byte("~"), []byte("%7E"), 1), "a secret percent-encoded"},
		{bytes.Replace([]byte(Sign), []byte("~"), []byte("%7e"), 1), "a secret percent-encoded"},
		{fmt.Appendf(nil, "%x", Sign), "a secret in hex"},
		{fmt.Appendf(nil, "%X", Sign), "a secret in hex"},
		{bytes.Trim(fmt.Append(nil, []byte(Sign)), "[]"), "a secret in numbers"},
		{[]byte(strings.Join(strings.Split(Sign, ""), "\x00")), "a secret in UTF-16"},
	}
	for skip := range 3 { // base64 has three ways to begin
		first, last := (8*skip+5)/6, 8*(skip+len(Sign))/6 // of the digits that depend on the Sign alone
		for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			text := enc.EncodeToString([]byte("???"[:skip] + Sign + "?????"))[first:last]
			all = append(all, form{[]byte(text), "a secret in base64"})
		}
	}
	return all
}()

// In returns which secrets are in a text: their kinds, in words.
func In(text []byte) (found []string) {
	for rest := text; ; {
		_, after, ok := bytes.Cut(rest, []byte(Sign))
		if !ok {
			break
		}
		kind := Kind(0)
		if len(after) > 0 {
			kind = Kind(after[0])
		}
		if what := kind.String(); !slices.Contains(found, what) {
			found = append(found, what)
		}
		rest = after
	}
	for _, f := range encoded {
		if bytes.Contains(text, f.text) && !slices.Contains(found, f.how) {
			found = append(found, f.how)
		}
	}
	slices.Sort(found)
	return found
}

// Hide puts a word for each secret into a text, and for what is around it.
func Hide(text []byte) []byte {
	for _, f := range append([]form{{[]byte(Sign), ""}}, encoded...) {
		var b []byte
		for {
			i := bytes.Index(text, f.text)
			if i < 0 {
				break
			}
			end := i + len(f.text)
			for i > 0 && inSecret(text[i-1]) {
				i--
			}
			for end < len(text) && inSecret(text[end]) {
				end++
			}
			b = append(append(b, text[:i]...), "[a secret]"...)
			text = text[end:]
		}
		text = append(b, text...)
	}
	return text
}

// inSecret reports whether a byte can be of a secret, or of its encoding.
func inSecret(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~+/=%", c) >= 0
}
