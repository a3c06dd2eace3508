package freshtoken

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken/internal/endpoint"
)

// The error codes of a Challenge.
const (
	// InsufficientScope: the API wants more scope than the token has (RFC 6750
	// section 3.1).
	InsufficientScope = "insufficient_scope"

	// InsufficientUserAuthentication: the API wants the person to log in anew,
	// or in a stronger way (RFC 9470 section 3).
	InsufficientUserAuthentication = "insufficient_user_authentication"
)

// A Challenge is what an API demands that no refresh brings, only a login: see
// Source.StepUp. It is an error, for functions that hand it on to whoever can ask
// a person. It is made of what the API sent: bounded, and free of anything but
// printable ASCII, but no more to be trusted than the API.
type Challenge struct {
	// Code is InsufficientScope or InsufficientUserAuthentication.
	Code string

	// Description is for people (error_description), and so is Realm.
	Description, Realm string

	// Scopes are those that the request takes; nil if the API does not say.
	Scopes []string

	// ACRValues are the ways of logging in that would do, the preferred one
	// first; nil if the API does not say.
	ACRValues []string

	// MaxAge is how long ago the login may be, if HasMaxAge. Zero demands one
	// now.
	MaxAge    time.Duration
	HasMaxAge bool

	// ResourceMetadata is where the API describes itself (RFC 9728 section 5.1):
	// an https URL, or an http one of this machine; empty if there is none. The
	// API named it: nothing here goes there.
	ResourceMetadata string

	seen time.Time // zero: made by hand
}

// Bounds on what is taken over from an API.
const (
	maxDemanded      = 64  // scopes, or ways of logging in
	maxDemandedBytes = 256 // in each
	maxURLBytes      = 2000
)

// ChallengeFrom returns what an API demands in an answer with status 401 or 403,
// in all its Bearer challenges with one of the two error codes. ok is false if
// there is none: an ordinary answer, or a rejection that a refresh may cure. The
// body is left alone.
func ChallengeFrom(resp *http.Response) (c *Challenge, ok bool) {
	if resp == nil || resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
		return nil, false
	}
	for _, one := range challenges(resp.Header) {
		code := one.params["error"]
		if one.scheme != "bearer" || code != InsufficientScope && code != InsufficientUserAuthentication {
			continue
		}
		if c == nil {
			c = &Challenge{Code: code, seen: time.Now()}
		}
		if code == InsufficientUserAuthentication {
			c.Code = code // it takes a person, whatever else there is
		}
		c.add(one.params)
	}
	return c, c != nil
}

// add takes over what another challenge of the same answer demands.
func (c *Challenge) add(params map[string]string) {
	text := func(to *string, name string) {
		if *to == "" {
			*to = endpoint.Sanitize(params[name], 200)
		}
	}
	text(&c.Description, "error_description")
	text(&c.Realm, "realm")
	c.Scopes = union(c.Scopes, wordsOf(params["scope"]))
	c.ACRValues = union(c.ACRValues, wordsOf(params["acr_values"]))
	if n, err := strconv.ParseUint(params["max_age"], 10, 64); err == nil {
		age := maxLifetime
		if n < uint64(maxLifetime/time.Second) {
			age = time.Duration(n) * time.Second
		}
		if !c.HasMaxAge || age < c.MaxAge {
			c.MaxAge, c.HasMaxAge = age, true
		}
	}
	if raw := params["resource_metadata"]; c.ResourceMetadata == "" && len(raw) <= maxURLBytes && headerSafe(raw) && endpoint.CheckURL(raw, false) == nil {
		c.ResourceMetadata = raw
	}
}

// wordsOf splits a list of words (RFC 6749 section 3.3), and drops those that have
// characters which none may have, or are too long.
func wordsOf(list string) (all []string) {
	for word := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ' ' }) {
		if len(word) <= maxDemandedBytes && headerSafe(word) && !strings.ContainsAny(word, `"\`) {
			all = append(all, word)
		}
	}
	return all
}

// union returns what is in any of some lists, once each, in order.
func union(lists ...[]string) (all []string) {
	for _, word := range slices.Concat(lists...) {
		if !slices.Contains(all, word) && len(all) < maxDemanded {
			all = append(all, word)
		}
	}
	return all
}

// Error implements error: what the API demands.
func (c *Challenge) Error() string {
	var b strings.Builder
	b.WriteString("freshtoken: ")
	b.WriteString(c.demand())
	b.WriteString(": log in again for it, for instance with login.StepUp")
	return b.String()
}

func (c *Challenge) demand() string {
	var wants []string
	if len(c.Scopes) > 0 {
		wants = append(wants, "the scope "+strconv.Quote(strings.Join(c.Scopes, " ")))
	}
	if len(c.ACRValues) > 0 {
		wants = append(wants, "a login by one of "+strconv.Quote(strings.Join(c.ACRValues, " ")))
	}
	if c.HasMaxAge {
		wants = append(wants, fmt.Sprintf("a login within %v", c.MaxAge))
	}
	switch {
	case len(wants) > 0:
		return "the API demands " + strings.Join(wants, ", and ")
	case c.Code == InsufficientScope:
		return "the API demands more scope, and does not say which"
	default:
		return "the API demands another login, and does not say which"
	}
}
