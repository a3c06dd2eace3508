package mark_test

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken/internal/mark"
)

// Whatever is done with a secret, and whatever is left of it, it is found, named,
// and hidden.
func TestIn(t *testing.T) {
	secret := mark.New(mark.RefreshToken)
	odd := mark.Weave(mark.Passphrase, "a b&c=d%1")
	for name, test := range map[string]struct{ text, want string }{
		"whole":           {"x " + secret + " y", "a refresh token"},
		"in JSON":         {`{"t":"` + secret + `"}`, "a refresh token"},
		"with spaces":     {fmt.Sprintf("%q", odd), "a passphrase"},
		"in a form":       {url.Values{"p": {odd}}.Encode(), "a passphrase"},
		"%7E":             {strings.ReplaceAll(secret, "~", "%7E"), "a secret percent-encoded"},
		"hex":             {fmt.Sprintf("%x", secret), "a secret in hex"},
		"HEX":             {fmt.Sprintf("%X", "abc"+secret), "a secret in hex"},
		"bytes":           {fmt.Sprint([]byte(secret)), "a secret in numbers"},
		"base64":          {base64.StdEncoding.EncodeToString([]byte(secret)), "a secret in base64"},
		"base64, shifted": {base64.StdEncoding.EncodeToString([]byte("a:" + secret)), "a secret in base64"},
		"base64, more":    {base64.RawURLEncoding.EncodeToString([]byte("ab:c" + secret + "x")), "a secret in base64"},
		"small letters":   {strings.ToLower(secret), "a secret in small letters"},
	} {
		if got := mark.In([]byte(test.text)); !slices.Contains(got, test.want) {
			t.Errorf("%s: found %q, want %q", name, got, test.want)
		}
		if hidden := mark.Hide([]byte(test.text)); len(mark.In(hidden)) > 0 || !strings.Contains(string(hidden), "[a secret]") {
			t.Errorf("%s: hidden, it is %q", name, hidden)
		}
	}
	for i := range len(secret) - 11 {
		for skip := range 3 {
			piece := []byte("???"[:skip] + secret[i:i+12])
			for _, text := range []string{string(piece), base64.StdEncoding.EncodeToString(piece), base64.RawURLEncoding.EncodeToString(piece)} {
				if len(mark.In([]byte(text))) == 0 {
					t.Errorf("the twelve bytes from %d on are not found in %q", i, text)
				}
			}
		}
	}
}

// What is no secret is not found, and stays as it is.
func TestNotIn(t *testing.T) {
	for _, text := range []string{"", "rt-1-1-", "LEAK", "leak", "a LEAK in ~/x", strings.Repeat("TEVBS0", 3)} {
		if got := mark.In([]byte(text)); got != nil {
			t.Errorf("%q: found %q", text, got)
		}
		if got := string(mark.Hide([]byte(text))); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}
