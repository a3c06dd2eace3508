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
		forms := []string{secret}
		if escaped := url.QueryEscape(secret); escaped != secret {
			forms = append(forms, escaped)
		}
		for _, form := range forms { // as HTTP Basic may have it, of either
			for skip := range min(3, len(form)-3) {
				whole := (len(form) - skip) / 3 * 3
				forms = append(forms, base64.StdEncoding.EncodeToString([]byte(form[skip:skip+whole])))
			}
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

// Hide returns err, which may be nil, or Hidden if that repeats a secret: some
// transports tell what they were to send. Of an error of Post only the cause is
// hidden, and errors.As still finds which it is.
func Hide(err error, secrets ...string) error {
	switch e := err.(type) {
	case *SendError:
		return &SendError{Host: e.Host, Err: Hide(e.Err, secrets...), Unsent: e.Unsent}
	case *AuthError:
		return &AuthError{Hide(e.Err, secrets...)}
	}
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
