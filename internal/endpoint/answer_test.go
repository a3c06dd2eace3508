package endpoint

import (
	"encoding/base64"
	"net/url"
	"testing"
)

// A piece of a secret is found wherever it was cut off, and however it is
// encoded; what merely looks like one is not.
func TestRepeats(t *testing.T) {
	const token, secret, short = "rt-1-1-QWERTYUIOPASDFGHJKLZXCVBNM", "s3cr+t %41/&=:~", "hush"
	for text, want := range map[string]bool{
		"no token " + token:                                                    true,
		"no token rt-1-1-QWERT...":                                             true,
		"no token ..." + token[len(token)-12:]:                                 true,
		"no token ..." + token[10:22] + "...":                                  true,
		"no token ..." + token[len(token)-11:]:                                 false,
		"no token rt-1-1-, which is the beginning of many":                     false,
		"the form has " + url.QueryEscape(secret):                              true,
		"Basic " + base64.StdEncoding.EncodeToString([]byte("client:"+secret)): true,
		"Basic " + base64.StdEncoding.EncodeToString([]byte("clients:"+token)): true,
		"be hush, please":                                                      true,
		"":                                                                     false,
		"The refresh token has expired.":                                       false,
	} {
		if got := Repeats(text, token, secret, short, "", "The"); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}
