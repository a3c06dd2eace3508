package endpoint

import (
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
)

// Repeats reports whether a server's text holds a piece of a secret, plain or
// encoded: some servers repeat what they were sent, and shorten it, at either
// end.
func Repeats(text string, secrets ...string) bool {
	for _, secret := range secrets {
		if len(secret) < 4 {
			continue
		}
		forms := []string{secret, url.QueryEscape(secret)}
		for skip := range min(3, len(secret)-3) { // as HTTP Basic may have it
			whole := (len(secret) - skip) / 3 * 3
			forms = append(forms, base64.StdEncoding.EncodeToString([]byte(secret[skip:skip+whole])))
		}
		for _, form := range forms {
			if sharesPiece(text, form) {
				return true
			}
		}
	}
	return false
}

// Hidden is what stands in the place of a text that repeats a secret.
const Hidden = "hidden, because it repeats a secret"

// Hide returns err, which may be nil, or Hidden if that repeats a secret.
func Hide(err error, secrets ...string) error {
	if err != nil && Repeats(err.Error(), secrets...) {
		return errors.New(Hidden)
	}
	return err
}

// HideTexts does so for what a server says in a refusal.
func HideTexts(code, description *string, secrets ...string) {
	if Repeats(*code, secrets...) {
		*code = ""
	}
	if Repeats(*description, secrets...) {
		*description = Hidden
	}
}

// piece is how many bytes of a secret nobody is to see. Fewer may be chance.
const piece = 12

// sharesPiece reports whether a piece of secret, or all of it if it is shorter,
// stands in text.
func sharesPiece(text, secret string) bool {
	if len(secret) <= piece {
		return strings.Contains(text, secret)
	}
	for i := 0; i+piece <= len(text); i++ {
		if strings.Contains(secret, text[i:i+piece]) {
			return true
		}
	}
	return false
}
